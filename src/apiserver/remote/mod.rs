//! Servers that administrators name in flags and files, and that this one asks: JSON over HTTPS.
//!
//! [`Client`] speaks to any of them. [`Webhook`] is one that a kubeconfig names, as those that judge tokens, decide who
//! may do what, and take audit events.

mod client;
mod connect;
mod kubeconfig;
mod reread;

pub use client::{Client, Error};
pub use connect::Connect;
pub use kubeconfig::{Error as KubeconfigError, Webhook};
