//! Why a launch failed.

use std::io;

use crate::checks::CheckError;
use crate::namespaces::NamespaceError;
use crate::network::NetworkError;
use crate::state::StateError;
use crate::subid::IdMapError;

/// Why a launch failed. Each source says by itself what was being done and what mends it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("--rootless is for ordinary users; run it as one, or leave it out to run as root")]
    Root,
    /// The host lacks something.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    #[error("cannot map ids into the user namespace: {0}")]
    IdMap(#[from] IdMapError),
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    #[error("cannot set up the namespaces: {error}")]
    SetUp { error: String },
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error("the rootless launcher cannot {doing}: {source}")]
    Launcher { doing: &'static str, source: io::Error },
}
