//! The kubelet: the pods of this node, from the API to the container runtime and back.
//!
//! [`Kubelet::run`] registers the node, keeps its status and lease fresh, and runs the pods bound to it. Each pod is an
//! actor (`pod/actor.rs`): it compares what the API wants (`pod/spec.rs`) with what the runtime has
//! (`pod/observed.rs`), decides what is missing (`pod/plan.rs`, no I/O), carries it out in tasks of its own, and writes
//! the status (`pod/status.rs`). Nothing is kept on disk but volumes and logs: a kubelet that starts finds its pods by
//! the labels of their sandboxes and takes them up as they are.
//!
//! [`server`] is port 10250: logs, exec, attach, port-forward.
//!
//! ```no_run
//! # async fn example(
//! #     client: kube::Client,
//! #     runtime: std::sync::Arc<dyn k3s_cri::RuntimeService>,
//! #     images: std::sync::Arc<dyn k3s_cri::ImageService>,
//! # ) -> Result<(), k3s_kubelet::Error> {
//! let config = k3s_kubelet::Config::new("node-1");
//! let kubelet = k3s_kubelet::Kubelet::new(config, client, runtime, images)?;
//! let cancel = tokio_util::sync::CancellationToken::new();
//! kubelet.run(cancel).await;
//! # Ok(())
//! # }
//! ```
//!
//! Not here yet: static pods, eviction, device plug-ins, CSI.

#![forbid(unsafe_code)]

mod config;
mod context;
mod events;
mod image_gc;
mod kubelet;
mod labels;
pub mod logs;
mod node;
mod pod;
mod pods;
mod probe;
mod quantity;
pub mod server;
mod volume;

pub use config::Config;
pub use image_gc::ImageGcThresholds;
pub use kubelet::{Error, Kubelet};
