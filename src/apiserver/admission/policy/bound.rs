//! Policies with the bindings that put them into force.

use std::sync::Arc;

use k3s_api::admission_policy::Compiled;
use k3s_api::admission_policy::mutating::Mutations;
use k3s_api::object::{self, at, text};
use k3s_api::validation::FieldError;
use serde_json::Value;

use crate::admission::rules::Matching;
use crate::registry::{Entry, Error};

/// What the expressions of a kind of policy are compiled to.
pub trait Expressions: Sized {
    fn compile(spec: &Value, errors: &mut Vec<FieldError>) -> Self;
}

impl Expressions for Compiled {
    fn compile(spec: &Value, errors: &mut Vec<FieldError>) -> Self {
        Self::of(spec, errors)
    }
}

impl Expressions for Mutations {
    fn compile(spec: &Value, errors: &mut Vec<FieldError>) -> Self {
        Self::of(spec, errors)
    }
}

/// All policies of one kind that are in force, in the order of their names.
pub struct Policies<E>(pub Vec<Policy<E>>);

/// A policy that is in force.
pub struct Policy<E> {
    pub name: String,
    uid: String,
    version: String,
    pub matching: Matching,
    /// Whether a request is refused when the policy cannot be evaluated (`failurePolicy`).
    pub must_work: bool,
    /// Whether it wants to be evaluated again when others have changed the object (`reinvocationPolicy`).
    pub reinvoked: bool,
    pub param_kind: Option<Value>,
    /// The expressions, or why they cannot be evaluated.
    pub expressions: Arc<Result<E, String>>,
    /// In the order of their names.
    pub bindings: Vec<Binding>,
}

/// What puts a policy into force.
pub struct Binding {
    pub name: String,
    pub matching: Matching,
    pub param_ref: Option<Value>,
    pub actions: Actions,
}

/// What happens when a validation fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Actions {
    pub deny: bool,
    pub warn: bool,
    pub audit: bool,
}

impl<E: Expressions> Policies<E> {
    /// Of the stored bindings and policies. Expressions of policies that have not changed are taken from what was
    /// before; those of policies that are gone, or that nothing binds, go with it.
    pub fn read([bindings, policies]: &[Vec<Arc<Entry>>; 2], before: Option<&Self>) -> Result<Self, Error> {
        let mut values = Vec::with_capacity(bindings.len());
        for binding in bindings {
            values.push(binding.value()?);
        }
        let mut all = Vec::new();
        for entry in policies {
            let own: Vec<&Value> = values
                .iter()
                .map(|binding| &**binding)
                .filter(|binding| text(binding, &["spec", "policyName"]) == Some(entry.name()))
                .collect();
            if own.is_empty() {
                continue;
            }
            let policy = entry.value()?;
            let (uid, version) = (object::uid(&policy), object::resource_version(&policy));
            let mut known = before.into_iter().flat_map(|before| &before.0);
            let known = known.find(|known| known.uid == uid && known.version == version);
            let expressions = match known {
                Some(known) => Arc::clone(&known.expressions),
                None => Arc::new(compile(policy.get("spec").unwrap_or(&Value::Null))),
            };
            all.push(Policy {
                name: entry.name().to_owned(),
                uid: uid.to_owned(),
                version: version.to_owned(),
                matching: Matching::of_constraints(at(&policy, &["spec", "matchConstraints"])),
                must_work: text(&policy, &["spec", "failurePolicy"]) != Some("Ignore"),
                reinvoked: text(&policy, &["spec", "reinvocationPolicy"]) == Some("IfNeeded"),
                param_kind: at(&policy, &["spec", "paramKind"]).filter(|kind| kind.is_object()).cloned(),
                expressions,
                bindings: own.into_iter().map(Binding::read).collect(),
            });
        }
        Ok(Self(all))
    }
}

fn compile<E: Expressions>(spec: &Value) -> Result<E, String> {
    let mut errors = Vec::new();
    let compiled = E::compile(spec, &mut errors);
    errors.first().map_or(Ok(compiled), |error| Err(error.to_string()))
}

impl Binding {
    fn read(binding: &Value) -> Self {
        let actions = at(binding, &["spec", "validationActions"]).and_then(Value::as_array);
        let has = |wanted: &str| actions.is_some_and(|actions| actions.iter().any(|action| action == wanted));
        Self {
            name: object::name(binding).to_owned(),
            matching: Matching::of_constraints(at(binding, &["spec", "matchResources"])),
            param_ref: at(binding, &["spec", "paramRef"]).filter(|reference| reference.is_object()).cloned(),
            actions: Actions { deny: has("Deny"), warn: has("Warn"), audit: has("Audit") },
        }
    }
}
