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
    #[error("{0}; {remedy}", remedy = .0.remedy())]
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
    #[error(
        "K3S_ROOTLESS_NET_DRIVER has changed to or from none, and pods still run in the old network; end them with k3s-killall.sh, or set it back"
    )]
    NetDriverChanged,
    /// What the caller wanted done before.
    #[error("{0}")]
    Before(Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error("the rootless launcher cannot {doing}: {source}")]
    Launcher { doing: &'static str, source: io::Error },
}
