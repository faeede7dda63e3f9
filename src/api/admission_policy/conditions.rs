//! Match conditions: what must hold for a webhook to be called or a policy to apply.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::{Condition, REQUEST_RESOURCE, declared, items, text};
use crate::cel::{Environment, Type};
use crate::validation::{FieldError, Path, names};

/// More conditions than these are refused.
const MAX: usize = 64;

/// What the conditions of webhooks may mention.
pub fn webhook_environment() -> Environment {
    Environment::new()
        .with("object", Type::Dyn)
        .with("oldObject", Type::Dyn)
        .with("request", declared::request())
        .with("authorizer", Type::Opaque("kubernetes.authorization.Authorizer"))
        .with(REQUEST_RESOURCE, Type::Opaque("kubernetes.authorization.ResourceCheck"))
}

/// Compiles `matchConditions` of a webhook or of a policy's `spec`; what cannot be compiled is added to the errors.
pub fn compile(owner: &Json, at: &Path, environment: &Environment, errors: &mut Vec<FieldError>) -> Vec<Condition> {
    let at = at.child("matchConditions");
    let conditions = items(owner, "matchConditions");
    if conditions.len() > MAX {
        errors.push(FieldError::too_many(&at, conditions.len(), MAX));
    }
    let mut seen = BTreeSet::new();
    let mut compiled = Vec::with_capacity(conditions.len());
    for (index, condition) in conditions.iter().enumerate() {
        let at = at.index(index);
        let wanted = Some(&Type::Bool);
        if let Some(program) = super::compile(environment, condition, &at, "expression", wanted, errors) {
            compiled.push(Condition { program, source: text(condition, "expression").trim().to_owned() });
        }
        let (name, at) = (text(condition, "name"), at.child("name"));
        if name.is_empty() {
            errors.push(FieldError::required(&at, ""));
        } else {
            errors.extend(names::qualified_name(name).into_iter().map(|why| FieldError::invalid(&at, name, why)));
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(&at, name));
            }
        }
    }
    compiled
}
