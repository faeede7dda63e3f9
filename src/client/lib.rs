//! How components reach the Kubernetes API: one [`kube::Client`] whose transport they do not know, and one shared,
//! typed cache per kind.
//!
//! In the server process the transport is a function call ([`in_process`]): the API server is a
//! [`tower::Service`] over HTTP requests, and the caller's identity travels as a request extension
//! ([`k3s_api::authentication::UserInfo`]), which no request from outside can carry. Elsewhere
//! it is TLS with a certificate or a token ([`remote`]).
//!
//! ```no_run
//! # async fn example(client: kube::Client) {
//! use k8s_openapi::api::core::v1::Pod;
//! let informers = k3s_client::Informers::new(client.clone());
//! let pods = informers.of::<Pod>();
//! pods.synced().await;
//! let mut changes = pods.subscribe();
//! for pod in pods.list() { /* Arc<Pod> */ }
//! while let Some(change) = changes.next().await { /* Change::Applied(pod) | Change::Deleted(pod) | Change::Relisted */ }
//! # }
//! ```

mod informer;
mod remote;
mod transport;

pub use informer::{Change, Changes, Informer, Informers, Resource};
pub use remote::{Credentials, Error, remote};
pub use transport::in_process;
