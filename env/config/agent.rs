//! What `k3s agent` can be told.

use std::ffi::OsString;
use std::path::Path;

use super::{Logging, Node, data_dir, home, token};
use crate::flag::{Subcommand, types};
use crate::{DataDir, Error, Values};

/// Everything `k3s agent` can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// What was given and has no effect, a sentence each.
    pub warnings: Vec<String>,
    pub logging: Logging,
    pub rootless: bool,
    pub data_dir: DataDir,
    /// The server to join.
    pub server: Option<String>,
    pub token: Option<String>,
    pub node: Node,
}

impl Agent {
    /// Resolves the arguments after `k3s agent`, the environment and the configuration files.
    ///
    /// # Errors
    /// What is unknown, impossible or refused, and where it was said.
    pub fn resolve(
        args: impl IntoIterator<Item = OsString>,
        variables: impl Fn(&str) -> Option<String>,
        default_config: &Path,
    ) -> Result<Self, Error> {
        let values = Values::resolve(Subcommand::Agent, args, &variables, default_config)?;
        let rootless = values.switch("rootless")?;
        Ok(Self {
            warnings: values.warnings().to_vec(),
            logging: Logging::from_values(&values, &variables)?,
            rootless,
            data_dir: data_dir(&values, rootless, home(&variables).as_deref())?,
            server: values.parse("server", types::url)?,
            token: token(&values)?,
            node: Node::from_values(&values)?,
        })
    }
}
