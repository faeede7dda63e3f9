//! What k3s is told, and what it finds.
//!
//! Flags, `K3S_*` variables and `config.yaml` are resolved into one typed configuration, [`Server`] or [`Agent`]. The
//! flags are data ([`flag::all`]): one row makes the command line, the variable, the configuration key, the help, the
//! shells' completion and the [`reference`](reference::reference) in docs/configuration.md. A row also says whether
//! this version does what the flag asks for; what it doesn't do is warned about or refused.
//!
//! A value comes from the first of: command line, environment, `config.yaml` with the files of `config.yaml.d`, default.
//! The first source that names a flag has it all, as in k3s: lists of different sources are not added up.
//!
//! [`Logging::start`] starts the logs that were asked for. [`DataDir`] knows the paths of a data directory, [`host`] what this machine has and lacks.

#![forbid(unsafe_code)]

pub mod argument;
mod command;
mod config;
mod error;
mod file;
pub mod flag;
pub mod host;
mod log;
mod nearest;
mod paths;
pub mod reference;
mod values;

pub use command::command;
pub use config::{
    Agent, ApiServerArguments, AuditArguments, AuditWebhookArguments, AuthorizationArguments, AuthorizationMode,
    AuthorizationWebhookArguments, ClusterNetwork, Datastore, Kubeconfig, KubeletArguments, Listener, LogFormat,
    Logging, Node, OidcArguments, Server, TokenWebhookArguments, TruncateArguments,
};
pub use error::Error;
pub use flag::types::{NodeTaint, Snapshotter};
pub use log::LogError;
pub use nearest::nearest;
pub use paths::{DataDir, kubeconfig_path};
pub use values::Values;
