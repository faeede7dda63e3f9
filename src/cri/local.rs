//! What tools on this machine ask of our runtime beyond CRI.

use serde::{Deserialize, Serialize};

/// File name of a socket beside that of CRI, for its owner alone. It speaks HTTP/1.1:
///
/// | request | answer |
/// |---|---|
/// | a path of a URL of CRI's `Exec`, `Attach` or `PortForward` | as at the URL, whose port can't be reached from outside the launcher's network namespace |
/// | `GET /images` | the images by name, a JSON list of [`NamedImage`] |
/// | `POST /images/import` with an image archive | the images' names, a JSON list |
/// | `GET /images/export?name=IMAGE&name=…` | an image archive |
/// | `POST /images/tag?image=IMAGE&name=NEW` | nothing |
/// | `DELETE /images?name=IMAGE` | nothing; the name is gone, and the image with its last one |
pub const LOCAL_SOCKET: &str = "runtime.sock";

/// An image under one of its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedImage {
    /// Fully qualified; `sha256:…` where it has no name.
    pub name: String,
    /// Of the document that the name stands for: a manifest, or an index.
    pub media_type: String,
    /// Of that document.
    pub digest: String,
    /// Bytes of what is here of it.
    pub size: u64,
    /// `os/architecture`, of which it has contents here.
    pub platforms: Vec<String>,
    /// Never garbage collected.
    pub pinned: bool,
}
