//! Images: the store on disk (an OCI image layout), pulls, import and export of archives, and images made of the running
//! binary.

mod archive;
mod builtin;
mod compression;
mod export;
mod import;
mod layer;
mod lease;
mod platform;
mod preload;
mod pull;
mod reference;
mod service;
mod store;
mod transfer;
pub(crate) mod watch;

pub(crate) use self::builtin::BINARY;
pub use self::builtin::BuiltinImage;
pub use self::import::ImportReport;
pub(crate) use self::pull::Pulls;
pub use self::reference::Reference;
pub(crate) use self::service::blocking;
pub(crate) use self::store::{ImageStore, StoredImage};
use crate::registry::RegistryError;

/// What can be wrong with an image archive or the store.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// An operation on the store or the archive failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The archive's compression is not known here.
    #[error("compressed with {0}, which can't be read; use gzip, zstd or no compression")]
    Compression(&'static str),
    /// Neither a docker-archive nor an OCI layout.
    #[error("not an image archive: it has neither index.json nor manifest.json")]
    NotAnArchive,
    /// Something that the archive names is not in it.
    #[error("{what} is missing")]
    Missing {
        /// Its name or digest.
        what: String,
    },
    /// Content and digest differ.
    #[error("{what} has the digest {found}")]
    Digest {
        /// The digest it is named by.
        what: String,
        /// The digest of its content.
        found: String,
    },
    /// A document that can't be read.
    #[error("{what}: {detail}")]
    Document {
        /// Which.
        what: String,
        /// What is wrong with it.
        detail: String,
    },
    /// No image for this machine.
    #[error("no match for platform in manifest: no image for {os}/{architecture}")]
    Platform {
        /// `linux`.
        os: &'static str,
        /// As in the OCI specification.
        architecture: &'static str,
    },
    /// A layer that can't be unpacked.
    #[error("layer {layer}: {detail}")]
    Layer {
        /// Its diff id.
        layer: String,
        /// Why.
        detail: String,
    },
    /// No registry has it.
    #[error("{reference}: not found")]
    NotFound {
        /// The image.
        reference: String,
    },
    /// A registry did not give it.
    #[error("{doing}: {detail}")]
    Registry {
        /// What was being done.
        doing: String,
        /// Why it failed.
        detail: String,
    },
    /// A line of a list of images.
    #[error("{0}")]
    List(String),
}

impl ImageError {
    fn layer(layer: &str, error: impl std::fmt::Display) -> Self {
        Self::Layer { layer: layer.to_owned(), detail: error.to_string() }
    }

    fn registry(doing: impl Into<String>, error: &RegistryError) -> Self {
        Self::Registry { doing: doing.into(), detail: error.to_string() }
    }

    fn is_no_space(&self) -> bool {
        self.to_string().contains("No space left on device")
    }

    fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    fn document(what: impl Into<String>, error: impl std::fmt::Display) -> Self {
        Self::Document { what: what.into(), detail: error.to_string() }
    }
}

/// This machine's architecture as the OCI specification calls it.
pub(crate) const ARCHITECTURE: &str = match std::env::consts::ARCH.as_bytes() {
    b"x86_64" => "amd64",
    b"aarch64" => "arm64",
    _ => std::env::consts::ARCH,
};
