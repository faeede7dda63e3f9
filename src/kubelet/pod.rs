//! One pod: from what the API wants to what the runtime does, and back to its status.

pub(crate) mod actor;
pub(crate) mod admission;
pub(crate) mod backoff;
pub(crate) mod container_config;
pub(crate) mod dns;
pub(crate) mod env;
mod expansion;
pub(crate) mod field_path;
mod hooks;
mod hosts;
mod image;
mod memory;
pub(crate) mod observed;
mod patch;
mod phase;
mod plan;
mod qos;
pub(crate) mod resources;
mod sandbox;
mod security;
mod service_env;
mod setup;
pub(crate) mod spec;
mod start;
mod status;
mod stop;
mod termination_message;
