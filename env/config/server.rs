//! What `k3s server` can be told.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use super::{
    ApiServerArguments, ClusterNetwork, Datastore, Kubeconfig, Listener, Logging, Node, data_dir, home, token,
};
use crate::flag::Subcommand;
use crate::nearest::nearest;
use crate::{DataDir, Error, Values};

/// Packaged components of k3s, which `--disable` knows. Of these, this version has `coredns`.
const PACKAGED: &[&str] = &["coredns", "servicelb", "traefik", "local-storage", "metrics-server", "runtimes"];

/// Everything `k3s server` can be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// What was given and has no effect, a sentence each.
    pub warnings: Vec<String>,
    pub logging: Logging,
    pub rootless: bool,
    pub data_dir: DataDir,
    pub listener: Listener,
    pub network: ClusterNetwork,
    pub datastore: Datastore,
    pub kubeconfig: Kubeconfig,
    /// Nothing: one is made at the first start.
    pub token: Option<String>,
    pub api_server: ApiServerArguments,
    /// With which cipher secrets are stored (`aescbc` or `secretbox`), if encryption is asked for.
    pub secrets_encryption: Option<String>,
    /// Packaged components that are not deployed.
    pub disable: BTreeSet<String>,
    pub disable_scheduler: bool,
    pub disable_controller_manager: bool,
    /// Whether services are left to somebody else's proxy.
    pub disable_kube_proxy: bool,
    /// Whether there is no node in this server.
    pub disable_agent: bool,
    pub node: Node,
}

impl Server {
    /// Resolves the arguments after `k3s server`, the environment and the configuration files.
    ///
    /// # Errors
    /// What is unknown, impossible or refused, and where it was said.
    pub fn resolve(
        args: impl IntoIterator<Item = OsString>,
        variables: impl Fn(&str) -> Option<String>,
        default_config: &Path,
    ) -> Result<Self, Error> {
        let values = Values::resolve(Subcommand::Server, args, &variables, default_config)?;
        let home = home(&variables);
        let rootless = values.switch("rootless")?;
        Ok(Self {
            warnings: values.warnings().to_vec(),
            logging: Logging::from_values(&values, &variables)?,
            rootless,
            data_dir: data_dir(&values, rootless, home.as_deref())?,
            listener: Listener::from_values(&values)?,
            network: ClusterNetwork::from_values(&values)?,
            datastore: Datastore::from_values(&values)?,
            kubeconfig: Kubeconfig::from_values(&values, rootless, home.as_deref())?,
            token: token(&values)?,
            api_server: ApiServerArguments::from_values(&values)?,
            secrets_encryption: match values.switch("secrets-encryption")? {
                true => Some(values.string("secrets-encryption-provider").unwrap_or_else(|| "aescbc".to_owned())),
                false => None,
            },
            disable: disabled(&values)?,
            disable_scheduler: values.switch("disable-scheduler")?,
            disable_controller_manager: values.switch("disable-controller-manager")?,
            disable_kube_proxy: values.switch("disable-kube-proxy")?,
            disable_agent: values.switch("disable-agent")?,
            node: Node::from_values(&values)?,
        })
    }
}

fn disabled(values: &Values) -> Result<BTreeSet<String>, Error> {
    let known = |name: &str| {
        if PACKAGED.contains(&name) {
            return Ok(name.to_owned());
        }
        let nearest = nearest(name, PACKAGED.iter().copied());
        Err(format!("there is no packaged component of that name; there are: {}{nearest}", PACKAGED.join(", ")))
    };
    Ok(values.parse_all("disable", known)?.into_iter().collect())
}
