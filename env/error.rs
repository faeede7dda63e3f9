//! What can be wrong with a configuration.

use std::path::PathBuf;

/// A configuration that can't be used. Every message says where the value came from.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line; clap's own text, which names the nearest flag. Help comes this way too.
    #[error("{0}")]
    CommandLine(#[from] clap::Error),
    /// A configuration file that can't be read.
    #[error("cannot read configuration file {path}: {source}", path = path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// A configuration on a web server, which k3s would fetch.
    #[error("{origin}: a configuration can't be read from {url}; download it, and give the file")]
    Remote { url: String, origin: String },
    /// A configuration file that is no YAML mapping of flags to values.
    #[error("configuration file {path} is not valid: {detail}", path = path.display())]
    Malformed { path: PathBuf, detail: String },
    /// A key that is no flag.
    #[error("{path}:{line}: unknown key {key:?}{nearest}", path = path.display())]
    UnknownKey { key: String, path: PathBuf, line: u64, nearest: String },
    /// A value that a flag can't have.
    #[error("{origin}: invalid value {value:?}: {detail}")]
    BadValue { origin: String, value: String, detail: String },
    /// A flag of k3s that must not be ignored.
    #[error("{origin}: not available in this version: {why}")]
    Refused { origin: String, why: String },
    /// Neither `HOME` nor a data directory.
    #[error("HOME is not set; give --data-dir and --write-kubeconfig")]
    NoHome,
}
