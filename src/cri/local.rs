//! What tools on this machine ask of our runtime beyond CRI.

/// File name of a socket beside that of CRI, for its owner alone. It speaks HTTP/1.1:
///
/// | request | answer |
/// |---|---|
/// | a path of a URL of CRI's `Exec`, `Attach` or `PortForward` | as at the URL, whose port can't be reached from outside the launcher's network namespace |
/// | `POST /images/import` with an image archive | the images' names, a JSON list |
/// | `GET /images/export?name=IMAGE&name=…` | an image archive |
/// | `POST /images/tag?image=IMAGE&name=NEW` | nothing |
/// | `DELETE /images?name=IMAGE` | nothing; the name is gone, and the image with its last one |
pub const LOCAL_SOCKET: &str = "runtime.sock";
