//! What is wrong is named, with where it stands; what has no effect is warned about once.

use std::ffi::OsString;
use std::path::Path;

use k3s_env::{Agent, Server};

fn resolve(args: &[&str], variables: &[(&str, &str)], file: &str) -> Result<Server, String> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("config.yaml");
    std::fs::write(&path, file).expect("a file");
    let variable = |name: &str| {
        let own = variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        own.or_else(|| (name == "HOME").then(|| "/home/edge".to_owned()))
    };
    let error = |error: k3s_env::Error| error.to_string().replace(&*dir.path().to_string_lossy(), "DIR");
    Server::resolve(args.iter().map(OsString::from), variable, &path)
        .map(|mut server| {
            let place = dir.path().to_string_lossy().into_owned();
            server.warnings.iter_mut().for_each(|it| *it = it.replace(&place, "DIR"));
            server
        })
        .map_err(error)
}

/// What is said, and how the message begins and what it has in it.
type Wrong = (&'static [&'static str], (&'static str, &'static str), &'static str, &'static str, &'static str);

const WRONG: &[Wrong] = &[
    (&["--rootles"], ("", ""), "", "error: unexpected argument '--rootles'", "'--rootless'"),
    (&["nodes"], ("", ""), "", "error: unexpected argument 'nodes'", "Usage"),
    (&[], ("", ""), "debug: true\nrootles: true\n", "DIR/config.yaml:2: unknown key \"rootles\"", "\"rootless\"?"),
    (&["--https-listen-port=0"], ("", ""), "", "--https-listen-port: invalid value \"0\"", "1 to 65535"),
    (&[], ("", ""), "\nhttps-listen-port: 70000\n", "DIR/config.yaml:2: https-listen-port: invalid", "70000"),
    (&[], ("K3S_KUBECONFIG_MODE", "rw"), "", "K3S_KUBECONFIG_MODE: invalid value \"rw\"", "octal"),
    (&["--cluster-cidr=10.42.0.1/16"], ("", ""), "", "--cluster-cidr: invalid", "did you mean 10.42.0.0/16?"),
    (&["--cluster-cidr=10.43.8.0/24"], ("", ""), "", "--cluster-cidr: invalid", "overlaps"),
    (&["--service-cidr=10.42.8.0/24"], ("", ""), "", "--service-cidr: invalid", "overlaps"),
    (&["--service-cidr=fd00::/108"], ("", ""), "", "--service-cidr: not available", "IPv4"),
    (&["--cluster-cidr=10.42.0.0/16,fd00::/56"], ("", ""), "", "--cluster-cidr: not available", "IPv6"),
    (&["--cluster-dns=10.44.0.10"], ("", ""), "", "--cluster-dns: invalid", "not in service-cidr"),
    (&["--etcd-s3-timeout=soon"], ("", ""), "", "--etcd-s3-timeout: invalid value \"soon\"", "5m0s"),
    (&["--egress-selector-mode=x"], ("", ""), "", "--egress-selector-mode: invalid", "agent, cluster, pod"),
    (&["--disable=traefic"], ("", ""), "", "--disable: invalid value \"traefic\"", "did you mean \"traefik\"?"),
    (&["--node-name=Bad_Name"], ("", ""), "", "--node-name: invalid", "lower case"),
    (&["--node-label=a"], ("", ""), "", "--node-label: invalid", "key=value"),
    (&["--node-taint=a=b:Never"], ("", ""), "", "--node-taint: invalid", "NoSchedule"),
    (&["--kubelet-arg=max-pods"], ("", ""), "", "--kubelet-arg: invalid", "key=value"),
    (&["--kubelet-arg=max-pods=many"], ("", ""), "", "--kubelet-arg: invalid", "max-pods: expected a number"),
    (&["--kube-apiserver-arg=audit-log-path=/a"], ("", ""), "", "--kube-apiserver-arg: invalid", "audit-policy-file"),
    (
        &["--kube-apiserver-arg=authorization-mode=Node,Webhook"],
        ("", ""),
        "",
        "--kube-apiserver-arg: invalid",
        "takes authorization-webhook-config-file",
    ),
    (
        &["--kube-apiserver-arg=authorization-webhook-config-file=/a"],
        ("", ""),
        "",
        "--kube-apiserver-arg: invalid",
        "takes Webhook in authorization-mode",
    ),
    (
        &["--kube-apiserver-arg=authorization-mode=RBAC,RBAC"],
        ("", ""),
        "",
        "--kube-apiserver-arg: invalid",
        "RBAC twice",
    ),
    (
        &["--kube-apiserver-arg=authorization-config=/a", "--kube-apiserver-arg=authorization-mode=RBAC"],
        ("", ""),
        "",
        "--kube-apiserver-arg: invalid",
        "authorization-config says all of it",
    ),
    (&["--kube-apiserver-arg=authorization-mode=ABAC"], ("", ""), "", "--kube-apiserver-arg: not available", "ABAC"),
    (&["--kube-apiserver-arg=audit-log-mode=never"], ("", ""), "", "--kube-apiserver-arg: invalid", "blocking-strict"),
    (
        &["--kube-apiserver-arg=oidc-issuer-url=https://a"],
        ("", ""),
        "",
        "--kube-apiserver-arg: invalid",
        "oidc-client-id",
    ),
    (&["--kube-apiserver-arg=request-timeout=soon"], ("", ""), "", "--kube-apiserver-arg: invalid", "request-timeout"),
    (&["--kube-apiserver-arg=anonymous-auth=true"], ("", ""), "", "--kube-apiserver-arg: anonymous-auth: not", ""),
    (&["--debug=maybe"], ("", ""), "", "--debug: invalid", "true or false"),
    (&[], ("", ""), "debug: maybe\n", "DIR/config.yaml:1: debug: invalid", "true or false"),
    (&[], ("", ""), "a: [\n", "configuration file DIR/config.yaml is not valid", "line"),
    (&[], ("K3S_LOG_FORMAT", "xml"), "", "K3S_LOG_FORMAT: invalid value \"xml\"", "json"),
    (&["--datastore-certfile=/a"], ("", ""), "", "--datastore-certfile: invalid", "--datastore-keyfile"),
    (&["--token-file=/nonexistent"], ("", ""), "", "--token-file: invalid value \"/nonexistent\"", "No such file"),
    // What must not be ignored.
    (&["--secrets-encryption-provider=kms"], ("", ""), "", "--secrets-encryption-provider: invalid", "secretbox"),
    (&[], ("K3S_URL", "https://a:6443"), "", "K3S_URL: not available", "joining"),
    (&["--cluster-init"], ("", ""), "", "--cluster-init: not available", "etcd"),
    (&["--flannel-backend=none"], ("", ""), "", "--flannel-backend: not available", "pod network"),
    (&["--selinux"], ("", ""), "", "--selinux: not available", "confined"),
    (&["--snapshotter=stargz"], ("", ""), "", "--snapshotter: ", "fuse-overlayfs or native"),
    (&["--docker"], ("", ""), "", "--docker: not available", "runtime"),
    (&["--no-deploy=traefik"], ("", ""), "", "--no-deploy: not available", "--disable"),
];

#[test]
fn what_is_unknown_impossible_or_dangerous_is_named_with_its_place() {
    for (args, variable, file, begins, has) in WRONG {
        let message = resolve(args, &[*variable], file).expect_err(begins);
        assert!(message.starts_with(begins), "{begins:?} does not begin: {message}");
        assert!(message.contains(has), "{has:?} is not in: {message}");
    }
}

#[test]
fn what_has_no_effect_is_warned_about_once_by_name() {
    let args = ["--default-runtime=crun", "--node-internal-dns=a,b", "--etcd-arg=x=1", "--kubelet-arg=v=2"];
    let server = resolve(&args, &[], "\npause-image: mine\n").unwrap();
    let [runtime, pause, etcd, dns, kubelet] = [
        "--default-runtime",
        "DIR/config.yaml:2: pause-image",
        "--etcd-arg: x",
        "--node-internal-dns",
        "--kubelet-arg: v",
    ]
    .map(|begins| server.warnings.iter().filter(|it| it.starts_with(begins)).count());
    assert_eq!([runtime, pause, etcd, dns, kubelet], [1; 5], "{:?}", server.warnings);
    assert_eq!(server.warnings.len(), 5, "{:?}", server.warnings);
}

#[test]
fn what_asks_for_nothing_new_is_not_worth_a_word() {
    let args = [
        "--secrets-encryption=false",
        "--flannel-backend=vxlan",
        "--snapshotter=overlayfs",
        "--disable=traefik,servicelb",
        "--disable-network-policy",
        "--kube-apiserver-arg=authorization-mode=Node,RBAC",
        "--tls-san-security",
    ];
    // Variables of other programs are not meant for k3s alone.
    let server = resolve(&args, &[("AWS_ACCESS_KEY_ID", "x"), ("K3S_URL", "")], "docker: false\n").unwrap();
    assert_eq!(server.warnings, Vec::<String>::new());
}

#[test]
fn one_file_serves_servers_and_agents() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("config.yaml");
    std::fs::write(&path, "node-name: edge-1\ncluster-cidr: 10.1.0.0/16\nserver: https://a:6443\n").expect("a file");
    let agent = Agent::resolve([], |_| None, &path).unwrap();
    assert_eq!((agent.node.name.as_deref(), agent.server.as_deref()), (Some("edge-1"), Some("https://a:6443")));
    assert_eq!(agent.warnings.len(), 1);
    assert!(agent.warnings[0].contains(":2: cluster-cidr is not for k3s agent"), "{:?}", agent.warnings);
    let server = Server::resolve([], |_| None, &path).expect_err("joining").to_string();
    assert!(server.contains(":3: server: not available"), "{server}");
    std::fs::write(&path, "clustr-cidr: x\n").expect("a file");
    assert!(Agent::resolve([], |_| None, Path::new(&path)).is_err());
}
