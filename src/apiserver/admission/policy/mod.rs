//! Admission policies: rules in CEL that administrators write as objects.

mod matching;
mod request;
pub mod validating;
