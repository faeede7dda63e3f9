//! What makes it k3s: certificate authorities and certificates as k3s lays them out, the token, the administrator's
//! kubeconfig, what the servers of a cluster share, and the manifests it deploys.

#![forbid(unsafe_code)]

pub mod bootstrap;
mod certificate;
pub mod encryption;
mod file;
mod kubeconfig;
pub mod manifests;
mod tls;
pub mod token;

pub use certificate::{Authority, Error as CertificateError, Pair, Usage};
pub use file::{private_dir, public_dir, write_atomically};
pub use kubeconfig::kubeconfig;
pub use tls::{Names, Tls};
pub use token::{Error as TokenError, Token};
