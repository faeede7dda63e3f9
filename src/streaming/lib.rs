//! Kubernetes' streaming protocols: exec, attach and port-forward over an upgraded HTTP connection.
//!
//! Two servers speak them, the kubelet on its port 10250 and the runtime at the URLs that CRI's `Exec`, `Attach` and
//! `PortForward` return; [`client`] is the other side, for `crictl` and for a runtime that is not ours.
//!
//! | | WebSocket | SPDY/3.1 |
//! |---|---|---|
//! | exec, attach ([`remote_command`]) | `v5.channel.k8s.io`, `v4.channel.k8s.io` | `v4.channel.k8s.io` |
//! | port-forward ([`port_forward`]) | `v4.channel.k8s.io`, `SPDY/3.1+portforward.k8s.io` | `portforward.k8s.io` |
//!
//! A server checks who asks and finds what is meant, and then calls [`remote_command`] or [`port_forward`] with the
//! request: it gets the answer to send at once, and the streams are carried in a task of its [`Connections`] until the
//! command, the client or the server ends.
//!
//! Sources: <https://github.com/kubernetes/cri-api/blob/master/pkg/apis/runtime/v1/api.proto> (`Exec`, `Attach`,
//! `PortForward`),
//! <https://github.com/kubernetes/kubernetes/blob/master/staging/src/k8s.io/apimachinery/pkg/util/remotecommand/constants.go>.

#![forbid(unsafe_code)]

pub mod client;
mod duplex;
mod port_forward;
mod remote_command;
mod response;
mod spdy;
mod upgrade;
mod websocket;

pub use duplex::Wanted;
pub use port_forward::port_forward;
pub use remote_command::remote_command;
pub use response::{Body, Refusal, text};
pub use upgrade::Connections;
