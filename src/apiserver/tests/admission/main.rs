//! Admission as a client sees it: a whole API server, called in process, and real webhook servers with TLS on loopback.

mod cluster;
mod conversion;
mod custom_resources;
mod definitions;
mod limits;
mod manifests;
mod mutating_policies;
mod pods;
mod server;
mod validating_policies;
mod webhooks;
