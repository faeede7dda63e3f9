//! Flags, `K3S_*` variables and `config.yaml`, resolved into one typed configuration; and every path of a data
//! directory.
//!
//! The flags are data ([`flag::SERVER`]): one row makes the command line, the variable, the configuration key and the
//! help. A value comes from the first of: command line, environment, `config.yaml`, default. Lists of `config.yaml` and
//! the command line are not added up: the first source that names a flag has it all, as in k3s.

mod config;
mod error;
mod file;
pub mod flag;
mod paths;
mod values;

pub use config::Server;
pub use error::Error;
pub use paths::{DataDir, kubeconfig_path};
pub use values::Values;
