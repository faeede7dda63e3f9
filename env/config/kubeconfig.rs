//! Where the administrator's kubeconfig goes.

use std::path::{Path, PathBuf};

use crate::flag::types;
use crate::{Error, Values, kubeconfig_path};

/// The administrator's kubeconfig.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubeconfig {
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// Name or number; nothing: the server's own.
    pub group: Option<String>,
}

impl Kubeconfig {
    pub(super) fn from_values(values: &Values, rootless: bool, home: Option<&Path>) -> Result<Self, Error> {
        Ok(Self {
            path: match values.string("write-kubeconfig") {
                Some(path) => path.into(),
                None => kubeconfig_path(rootless, home)?,
            },
            mode: values.parse("write-kubeconfig-mode", types::mode)?.unwrap_or(0o600),
            group: values.string("write-kubeconfig-group"),
        })
    }
}
