//! Port 10250: what the API server asks of a kubelet.
//!
//! [`serve`] accepts TLS connections and admits only the API server and administrators, by their certificates.
//! [`Kubelet::handle`] answers one request and can be called in process as well; it does not ask who calls.
//!
//! | path | answer |
//! |---|---|
//! | `/healthz` | `ok` |
//! | `/pods`, `/runningpods` | pods of this node |
//! | `/containerLogs/{namespace}/{pod}/{container}` | `follow`, `tailLines`, `sinceSeconds`, `sinceTime`, `timestamps`, `limitBytes`, `previous`, `stream` |
//! | `/exec`, `/attach` `/{namespace}/{pod}[/{uid}]/{container}` | WebSocket (`v5`, `v4.channel.k8s.io`) or SPDY/3.1 |
//! | `/portForward/{namespace}/{pod}[/{uid}]` | SPDY/3.1, SPDY/3.1 in a WebSocket, or WebSocket channels |
//! | `/run/{namespace}/{pod}[/{uid}]/{container}` | output of a command |
//! | `/stats/summary` | usage of node and pods |

mod authentication;
mod containers;
mod logs;
mod port_forward;
mod query;
mod remote_command;
mod request;
mod stats;
mod tls;

pub use authentication::Admitted;
pub use k3s_streaming::Body;
pub use tls::{Error as TlsError, config as tls_config, serve};
