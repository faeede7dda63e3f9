//! What a Kubernetes object is, with no I/O.

pub mod admission_policy;
pub mod apply;
pub mod authentication;
pub mod cel;
pub mod conversion;
pub mod decode;
pub mod defaults;
pub mod go_regex;
pub mod go_value;
pub mod number;
pub mod object;
pub mod patch;
pub mod presence;
pub mod protobuf;
pub mod quantity;
pub mod quote;
pub mod resource;
pub mod schema;
pub mod selector;
pub mod status;
pub mod strategy;
pub mod structural;
pub mod table;
pub mod time;
pub mod unified_diff;
pub mod validation;
