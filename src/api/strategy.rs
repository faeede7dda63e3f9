//! What is special about a kind: pure functions that the generic pipeline calls on the way of a write.
//!
//! On create: `default`, `prepare_create`, admission, `default`, `validate`. On update: `default`, `prepare_update`,
//! admission, `validate` and `validate_update`. What every kind has in common (metadata, the status kept apart, the
//! generation) is done by the functions in [`generic`].

pub mod certificates;
pub mod core;
pub mod generic;
pub mod policy;
pub mod service;
pub mod workload;

use serde_json::Value;

use crate::validation::FieldError;

/// The hooks of a kind. [`GENERIC`] has none, and is where the others start.
#[derive(Debug, Clone, Copy)]
pub struct Strategy {
    /// Fills in what the user left out, beyond the static defaults of the schema.
    pub default: fn(&mut Value),
    /// What only the server may set, on create.
    pub prepare_create: fn(&mut Value),
    /// What only the server may set, on update of the object itself.
    pub prepare_update: fn(new: &mut Value, old: &Value),
    /// The same on update of the `status` subresource.
    pub prepare_status: fn(new: &mut Value, old: &Value),
    /// What may never be, of the whole object but for its metadata.
    pub validate: fn(&Value, &mut Vec<FieldError>),
    /// What may not be in an object that is new.
    pub validate_create: fn(&Value, &mut Vec<FieldError>),
    /// What an update may not change.
    pub validate_update: fn(new: &Value, old: &Value, &mut Vec<FieldError>),
    /// The same for the `status` subresource.
    pub validate_status: fn(new: &Value, old: &Value, &mut Vec<FieldError>),
    /// What is odd about a new object and still taken, for Warning headers.
    pub warnings: fn(&Value) -> Vec<String>,
    /// The same of an object as an update leaves it.
    pub update_warnings: fn(new: &Value, old: &Value) -> Vec<String>,
    /// That the resource should not be used any more, for a Warning header on every answer; empty if it should.
    pub deprecated: &'static str,
    /// An object of a version that is not stored, in the one that is (see [`crate::conversion`]).
    pub to_stored: fn(&mut Value),
    /// The other way round.
    pub from_stored: fn(&mut Value),
    /// An annotation that is a field in Kubernetes' internal form, of which tables and metadata alone are made: they
    /// don't show it. Empty: there is none.
    pub internal_annotation: &'static str,
    /// What a name may be.
    pub name: Name,
    /// Whether `metadata.generation` counts the changes of what the user wants.
    pub generation: bool,
    /// Whether an update that changes nothing but metadata counts as well.
    pub counts_metadata: fn(new: &Value, old: &Value) -> bool,
    /// Whether who creates an object may say what its status is: kubelets register their nodes so.
    pub status_on_create: bool,
    /// Whether deletion gives the object time (`metadata.deletionGracePeriodSeconds`): pods.
    pub graceful: bool,
    /// Whether a PUT of a name that isn't there creates it.
    pub allow_create_on_update: bool,
    /// Whether an update may leave out `metadata.resourceVersion`.
    pub allow_unconditional_update: bool,
}

/// What names a kind takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// RFC 1123: up to 253 characters of labels joined by dots.
    Subdomain,
    /// RFC 1123: up to 63 characters.
    Label,
    /// RFC 1035: a label that starts with a letter.
    Rfc1035Label,
    /// Anything that can stand in a path.
    PathSegment,
    /// An IP address, as it is usually written.
    Address,
}

/// A kind with nothing special about it.
pub const GENERIC: Strategy = Strategy {
    default: |_| {},
    prepare_create: |_| {},
    prepare_update: |_, _| {},
    prepare_status: |_, _| {},
    validate: |_, _| {},
    validate_create: |_, _| {},
    validate_update: |_, _, _| {},
    validate_status: |_, _, _| {},
    warnings: |_| Vec::new(),
    update_warnings: |_, _| Vec::new(),
    deprecated: "",
    to_stored: |_| {},
    from_stored: |_| {},
    internal_annotation: "",
    name: Name::Subdomain,
    generation: false,
    counts_metadata: |_, _| false,
    status_on_create: false,
    graceful: false,
    allow_create_on_update: false,
    allow_unconditional_update: true,
};
