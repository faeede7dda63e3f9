//! Admission: what may change or refuse a write after it has been authorized and decoded, and before it is stored.
//!
//! A chain of plug-ins, one file each, named as in Kubernetes and in Kubernetes' order. Each may change the object
//! ([`Plugin::admit`]); when the object is complete and valid, each may refuse it ([`Plugin::validate`]).

mod certificates;
mod default_ingress_class;
mod default_storage_class;
mod default_toleration_seconds;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
    /// Who may do what, for expressions that ask.
    pub authorizer: &'a Authorizer,
