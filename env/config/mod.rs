//! The typed configuration: what the flags, variables and files come to.

mod agent;
mod api_server;
mod datastore;
mod kubeconfig;
mod kubelet;
mod listener;
mod logging;
mod network;
mod node;
mod server;

use std::path::{Path, PathBuf};

pub use agent::Agent;
pub use api_server::{
    ApiServerArguments, AuditArguments, AuditWebhookArguments, AuthorizationArguments, AuthorizationMode,
    AuthorizationWebhookArguments, OidcArguments, TokenWebhookArguments, TruncateArguments,
};
pub use datastore::Datastore;
pub use kubeconfig::Kubeconfig;
pub use kubelet::KubeletArguments;
pub use listener::Listener;
pub use logging::{LogFormat, Logging};
pub use network::ClusterNetwork;
pub use node::Node;
pub use server::Server;

use crate::{DataDir, Error, Values};

/// Where variables come from: the environment, or a test's own.
type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

fn home(variables: Variables<'_>) -> Option<PathBuf> {
    variables("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}

fn data_dir(values: &Values, rootless: bool, home: Option<&Path>) -> Result<DataDir, Error> {
    DataDir::new(values.string("data-dir").map(PathBuf::from).as_deref(), rootless, home)
}

/// The token, or what the file with it holds.
fn token(values: &Values) -> Result<Option<String>, Error> {
    if let Some(token) = values.string("token") {
        return Ok(Some(token));
    }
    let Some(path) = values.string("token-file") else { return Ok(None) };
    let text = std::fs::read_to_string(&path).map_err(|error| values.bad("token-file", error.to_string()))?;
    match text.trim() {
        "" => Err(values.bad("token-file", "the file is empty")),
        token => Ok(Some(token.to_owned())),
    }
}
