//! What can be wrong with a configuration.

use std::path::PathBuf;

/// A configuration that can't be used. Every message says where the value came from.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line; clap's own text, which names the nearest flag. Help and version come this way too.
    #[error("{0}")]
    CommandLine(#[from] clap::Error),
    /// A configuration file that can't be read.
    #[error("cannot read configuration file {path}: {source}", path = path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// A configuration file that is no YAML mapping.
    #[error("configuration file {path} is not valid YAML: {detail}", path = path.display())]
    Malformed { path: PathBuf, detail: String },
    /// A key that is no flag.
    #[error("unknown key {key:?} in {path}{nearest}", path = path.display())]
    UnknownKey { key: String, path: PathBuf, nearest: String },
    /// A value that a flag can't have.
    #[error("{origin}: invalid value {value:?}: {detail}")]
    BadValue { origin: String, value: String, detail: String },
    /// Neither `HOME` nor a data directory.
    #[error("HOME is not set; give --data-dir and --write-kubeconfig")]
    NoHome,
}
