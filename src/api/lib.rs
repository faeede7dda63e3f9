//! What a Kubernetes object is, with no I/O.

pub mod authentication;
pub mod object;
pub mod quote;
pub mod status;
pub mod time;
pub mod quantity;
pub mod selector;
pub mod presence;
pub mod resource;
pub mod schema;
pub mod strategy;
pub mod validation;
