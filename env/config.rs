//! The typed configuration of a server.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use crate::values::command;
use crate::{DataDir, Error, Values, flag, kubeconfig_path};

/// Packaged components that `--disable` knows.
const PACKAGED: &[&str] = &["coredns"];

/// Flags of the API server that `--kube-apiserver-arg` passes on.
const APISERVER_ARGS: &[&str] = &["token-auth-file"];

/// Everything `k3s server` can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub rootless: bool,
    pub debug: bool,
    /// klog's level: 0 is info, 4 and above are debug.
    pub verbosity: u8,
    pub log: Option<PathBuf>,
    pub also_log_to_stderr: bool,
    pub data_dir: DataDir,
    pub bind_address: IpAddr,
    pub https_listen_port: u16,
    pub advertise_address: Option<IpAddr>,
    pub tls_san: Vec<String>,
    pub cluster_cidr: IpNet,
    pub service_cidr: IpNet,
    pub service_node_port_range: RangeInclusive<u16>,
    pub cluster_dns: IpAddr,
    pub cluster_domain: String,
    pub token: Option<String>,
    pub write_kubeconfig: PathBuf,
    pub write_kubeconfig_mode: u32,
    /// CSV of tokens, users, uids and groups (`--kube-apiserver-arg=token-auth-file=`).
    pub token_auth_file: Option<PathBuf>,
    pub disable: BTreeSet<String>,
    pub disable_scheduler: bool,
    pub disable_controller_manager: bool,
    pub disable_agent: bool,
    pub node_name: Option<String>,
    pub node_labels: Vec<(String, String)>,
    /// `key=value:Effect` each.
    pub node_taints: Vec<String>,
    pub node_ip: Option<IpAddr>,
    pub resolv_conf: Option<PathBuf>,
}

impl Server {
    /// Resolves the arguments after `k3s server`, the environment and the configuration files.
    ///
    /// # Errors
    /// What is unknown or has an impossible value, and where it was said.
    pub fn resolve(
        args: impl IntoIterator<Item = OsString>,
        variables: impl Fn(&str) -> Option<String>,
        default_config: &Path,
    ) -> Result<Server, Error> {
        let home = variables("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        let command = command("k3s server", "Run a Kubernetes server with a node of its own", flag::SERVER);
        Self::from_values(&Values::resolve(command, flag::SERVER, args, &variables, default_config)?, home.as_deref())
    }

    fn from_values(values: &Values, home: Option<&Path>) -> Result<Server, Error> {
        let rootless = values.switch("rootless")?;
        let service_cidr = network(values, "service-cidr", "10.43.0.0/16")?;
        let cluster_cidr = network(values, "cluster-cidr", "10.42.0.0/16")?;
        if cluster_cidr.contains(&service_cidr.network()) || service_cidr.contains(&cluster_cidr.network()) {
            return Err(values.bad("service-cidr", format!("it overlaps with cluster-cidr {cluster_cidr}")));
        }
        let cluster_dns = match values.parse("cluster-dns", "an IP address")? {
            Some(address) => address,
            None => service_cidr.hosts().nth(9).ok_or_else(|| values.bad("service-cidr", "it is too small"))?,
        };
        if !service_cidr.contains(&cluster_dns) {
            return Err(values.bad("cluster-dns", format!("{cluster_dns} is not in service-cidr {service_cidr}")));
        }
        let disable: BTreeSet<String> = values.list("disable").into_iter().collect();
        if let Some(unknown) = disable.iter().find(|name| !PACKAGED.contains(&name.as_str())) {
            let known = PACKAGED.join(", ");
            return Err(
                values.bad("disable", format!("there is no packaged component {unknown:?}; there are: {known}"))
            );
        }
        let mut token_auth_file = None;
        for (key, value) in values.pairs("kube-apiserver-arg")? {
            if !APISERVER_ARGS.contains(&key.as_str()) {
                let known = APISERVER_ARGS.join(", ");
                return Err(values.bad("kube-apiserver-arg", format!("unknown flag {key:?}; known are: {known}")));
            }
            token_auth_file = Some(PathBuf::from(value));
        }
        let named_dir = values.string("data-dir").map(PathBuf::from);
        Ok(Server {
            rootless,
            debug: values.switch("debug")?,
            verbosity: values.parse("v", "a number")?.unwrap_or(0),
            log: values.string("log").map(PathBuf::from),
            also_log_to_stderr: values.switch("alsologtostderr")?,
            data_dir: DataDir::new(named_dir.as_deref(), rootless, home)?,
            bind_address: values.parse("bind-address", "an IP address")?.unwrap_or(IpAddr::from([0, 0, 0, 0])),
            https_listen_port: values.parse_with("https-listen-port", port)?.unwrap_or(6443),
            advertise_address: values.parse("advertise-address", "an IP address")?,
            tls_san: values.list("tls-san"),
            cluster_cidr,
            service_cidr,
            service_node_port_range: values.parse_with("service-node-port-range", port_range)?.unwrap_or(30000..=32767),
            cluster_dns,
            cluster_domain: values.string("cluster-domain").unwrap_or_else(|| "cluster.local".to_owned()),
            token: token(values)?,
            write_kubeconfig: match values.string("write-kubeconfig") {
                Some(path) => path.into(),
                None => kubeconfig_path(rootless, home)?,
            },
            write_kubeconfig_mode: values.parse_with("write-kubeconfig-mode", mode)?.unwrap_or(0o600),
            token_auth_file,
            disable,
            disable_scheduler: values.switch("disable-scheduler")?,
            disable_controller_manager: values.switch("disable-controller-manager")?,
            disable_agent: values.switch("disable-agent")?,
            node_name: values.parse_with("node-name", node_name)?,
            node_labels: values.pairs("node-label")?,
            node_taints: values.list("node-taint"),
            node_ip: values.parse("node-ip", "an IP address")?,
            resolv_conf: values.string("resolv-conf").map(PathBuf::from),
        })
    }
}

fn token(values: &Values) -> Result<Option<String>, Error> {
    if let Some(token) = values.string("token") {
        return Ok(Some(token));
    }
    let Some(path) = values.string("token-file").map(PathBuf::from) else { return Ok(None) };
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) => Err(values.bad("token-file", error.to_string())),
    }
}

fn network(values: &Values, name: &str, default: &str) -> Result<IpNet, Error> {
    let parse = |text: &str| {
        let net: IpNet = text.parse().map_err(|_| "expected a network such as 10.42.0.0/16".to_owned())?;
        if net.trunc() != net {
            return Err(format!("it has host bits set; did you mean {}?", net.trunc()));
        }
        Ok(net)
    };
    match values.parse_with(name, parse)? {
        Some(net) => Ok(net),
        None => parse(default).map_err(|detail| values.bad(name, detail)),
    }
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| "expected a port from 1 to 65535".to_owned())
}

fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let range = text.split_once('-').and_then(|(low, high)| Some(port(low).ok()?..=port(high).ok()?));
    range.filter(|range| !range.is_empty()).ok_or_else(|| "expected a range of ports such as 30000-32767".to_owned())
}

fn mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| "expected an octal mode such as 0600".to_owned())
}

/// RFC 1123 subdomain: the name becomes an object's name.
fn node_name(text: &str) -> Result<String, String> {
    let ok = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    if text.len() <= 253 && text.split('.').all(ok) {
        return Ok(text.to_owned());
    }
    Err("expected lower case letters, digits, '-' and '.'".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(args: &[&str], variables: &[(&str, &str)], file: &str) -> Result<Server, Error> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("config.yaml");
        std::fs::write(&path, file).expect("a written file");
        let variable = |name: &str| {
            let own = variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            own.or_else(|| (name == "HOME").then(|| "/home/edge".to_owned()))
        };
        Server::resolve(args.iter().map(OsString::from), variable, &path)
    }

    fn message(args: &[&str], variables: &[(&str, &str)], file: &str) -> String {
        resolve(args, variables, file).expect_err("an error").to_string()
    }

    #[test]
    fn defaults_are_those_of_k3s() {
        let server = resolve(&[], &[], "").unwrap();
        assert_eq!(server.data_dir.root(), Path::new("/var/lib/rancher/k3s"));
        assert_eq!(server.write_kubeconfig, Path::new("/etc/rancher/k3s/k3s.yaml"));
        assert_eq!((server.https_listen_port, server.write_kubeconfig_mode), (6443, 0o600));
        assert_eq!(server.cluster_dns.to_string(), "10.43.0.10");
    }

    #[test]
    fn rootless_lives_in_the_home() {
        let server = resolve(&["--rootless"], &[], "").unwrap();
        assert_eq!(server.data_dir.root(), Path::new("/home/edge/.rancher/k3s"));
        assert_eq!(server.write_kubeconfig, Path::new("/home/edge/.kube/k3s.yaml"));
    }

    #[test]
    fn command_line_beats_environment_beats_file() {
        let file = "node-name: from-file\n";
        let of = |args: &[&str], vars: &[(&str, &str)]| resolve(args, vars, file).unwrap().node_name.unwrap();
        assert_eq!(of(&[], &[]), "from-file");
        assert_eq!(of(&[], &[("K3S_NODE_NAME", "from-env")]), "from-env");
        assert_eq!(of(&["--node-name", "from-line"], &[("K3S_NODE_NAME", "from-env")]), "from-line");
    }

    #[test]
    fn files_of_the_drop_in_folder_replace_or_append() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        std::fs::write(&path, "tls-san: [a]\nnode-label:\n- x=1\ndebug: true\n").unwrap();
        std::fs::create_dir(dir.path().join("config.yaml.d")).unwrap();
        std::fs::write(dir.path().join("config.yaml.d/10.yaml"), "tls-san: b\nnode-label+: y=2\n").unwrap();
        std::fs::write(dir.path().join("config.yaml.d/20.yaml"), "tls-san+:\n- c\n").unwrap();
        let server = Server::resolve([], |_| None, &path).unwrap();
        assert_eq!(server.tls_san, ["b", "c"]);
        assert_eq!(server.node_labels, [("x".into(), "1".into()), ("y".into(), "2".into())]);
        assert!(server.debug);
    }

    #[test]
    fn what_is_unknown_or_impossible_is_named_with_its_origin() {
        assert!(message(&["--rootles"], &[], "").contains("'--rootless'"));
        assert!(message(&[], &[], "rootles: true\n").contains("did you mean \"rootless\"?"));
        assert!(message(&["--https-listen-port=0"], &[], "").starts_with("--https-listen-port: invalid value \"0\""));
        assert!(message(&[], &[("K3S_KUBECONFIG_MODE", "rw")], "").starts_with("K3S_KUBECONFIG_MODE: invalid value"));
        assert!(message(&["--cluster-cidr=10.42.0.1/16"], &[], "").contains("did you mean 10.42.0.0/16?"));
        assert!(message(&["--service-cidr=10.42.8.0/24"], &[], "").contains("overlaps"));
        assert!(message(&["--disable=traefic"], &[], "").contains("no packaged component"));
        assert!(message(&["--kube-apiserver-arg=nosuch=1"], &[], "").contains("unknown flag \"nosuch\""));
        assert!(message(&[], &[], "a: [\n").contains("not valid YAML"));
        assert!(message(&["--config=/nonexistent.yaml"], &[], "").contains("cannot read configuration file"));
        assert!(message(&["--node-name=Bad_Name"], &[], "").contains("lower case"));
    }

    #[test]
    fn switches_take_a_value() {
        assert!(!resolve(&["--rootless=false"], &[("K3S_ROOTLESS", "true")], "").unwrap().rootless);
        assert!(resolve(&[], &[], "rootless: \"true\"\n").unwrap().rootless);
        assert!(message(&["--debug=maybe"], &[], "").contains("true or false"));
    }
}
