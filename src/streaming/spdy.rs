//! SPDY/3.1, as far as Kubernetes' streams use it: the client opens streams, the server answers.
//!
//! <https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/>. Flow control is left out on purpose: no
//! Kubernetes client does it, and client-go's library does not know the frame it would take.

mod client;
mod connection;
mod frame;
mod headers;

pub(crate) use client::connect;
pub(crate) use connection::{Stream, Writer, serve};
