//! Who users are, what they may do, and what is told of it. Whom the server asks or tells is a real server behind TLS,
//! which may hang, talk nonsense, be away, and come back.

#[path = "../authority/mod.rs"]
mod authority;

mod audit_webhook;
mod authorization_webhook;
mod cluster;
mod connect;
mod credentials;
mod impersonation;
mod kubeconfig;
mod metrics;
mod nodes;
mod outside;
