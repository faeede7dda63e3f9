//! ValidatingAdmissionPolicy: policies, and bindings that put them into force.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use k3s_api::admission_policy::{Compiled, REQUEST_RESOURCE};
use k3s_api::cel::library::authorizer::{authorizer, resource_check};
use k3s_api::cel::{Activation, Error, PER_CALL_LIMIT, Program, RUNTIME_BUDGET, Value as Cel};
use k3s_api::object::{self, at as path, text};
use k3s_api::selector::labels::Selector;
use k3s_api::status::{Cause, Reason, Status};
use parking_lot::Mutex;
use serde_json::Value;

use super::{matching, request};
use crate::admission::{Attributes, Plugin};
use crate::registry::known;

/// Refuses what the policies do not allow. Policies are compiled when they are first needed.
#[derive(Default)]
pub struct ValidatingAdmissionPolicy {
    compiled: Mutex<HashMap<String, Arc<Known>>>,
}

/// A policy as it was compiled, and why it could not be.
struct Known {
    version: String,
    compiled: Compiled,
    error: Option<String>,
}

/// What a policy found.
struct Found {
    message: String,
    reason: String,
}

#[async_trait]
impl Plugin for ValidatingAdmissionPolicy {
    async fn validate(&self, at: &Attributes<'_>, new: &Value, old: Option<&Value>) -> Result<(), Status> {
        // What puts policies into force is not subject to them: nobody could mend a wrong one.
        if at.resource.group == "admissionregistration.k8s.io" {
            return Ok(());
        }
        let bindings = at.registry.list(known::validating_admission_policy_bindings(), "").await?.entries;
        if bindings.is_empty() {
            return Ok(());
        }
        let namespace = namespace(at, new, old).await?;
        for binding in &bindings {
            let binding = binding.value()?;
            let name = text(&binding, &["spec", "policyName"]).unwrap_or_default();
            let Some(policy) = at.registry.get(known::validating_admission_policies(), "", name).await? else {
                continue;
            };
            let policy = policy.value()?;
            let within = |constraints| matching::matches(constraints, at, new, old, namespace.as_deref());
            if !within(path(&policy, &["spec", "matchConstraints"]))
                || !within(path(&binding, &["spec", "matchResources"]))
            {
                continue;
            }
            for found in self.apply(at, &policy, &binding, new, old, namespace.as_deref()).await? {
                act(at, &policy, &binding, new, &found)?;
            }
        }
        Ok(())
    }
}

/// The namespace of the request, or the one it is about.
async fn namespace(at: &Attributes<'_>, new: &Value, old: Option<&Value>) -> Result<Option<Arc<Value>>, Status> {
    if at.is("", "namespaces") {
        return Ok(Some(Arc::new(if new.is_object() { new } else { old.unwrap_or(new) }.clone())));
    }
    if at.namespace.is_empty() {
        return Ok(None);
    }
    let entry = at.registry.get(known::namespaces(), "", at.namespace).await?;
    Ok(entry.map(|entry| entry.value()).transpose()?)
}

/// Refuses or warns, as the binding says.
fn act(at: &Attributes<'_>, policy: &Value, binding: &Value, new: &Value, found: &Found) -> Result<(), Status> {
    let actions = path(binding, &["spec", "validationActions"]).and_then(Value::as_array);
    let has = |wanted: &str| actions.is_some_and(|actions| actions.iter().any(|action| action == wanted));
    let (policy, binding) = (object::name(policy), object::name(binding));
    if has("Warn") {
        let message = &found.message;
        at.warn(format!(
            "Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{binding}': {message}"
        ));
    }
    if has("Audit") {
        tracing::info!(policy, binding, message = found.message, "a validating admission policy failed");
    }
    if !has("Deny") {
        return Ok(());
    }
    let message =
        format!("ValidatingAdmissionPolicy '{policy}' with binding '{binding}' denied request: {}", found.message);
    let mut status = at.forbidden(new, &message);
    let (code, reason) = match found.reason.as_str() {
        "Unauthorized" => (401, Reason::Unauthorized),
        "Forbidden" => (403, Reason::Forbidden),
        "RequestEntityTooLarge" => (413, Reason::RequestEntityTooLarge),
        _ => (422, Reason::Invalid),
    };
    (status.code, status.reason) = (code, Some(reason));
    Err(status.with_details(|details| details.causes = vec![Cause { message, ..Cause::default() }]))
}

impl ValidatingAdmissionPolicy {
    fn compiled(&self, policy: &Value) -> Arc<Known> {
        let (uid, version) = (object::uid(policy), object::resource_version(policy));
        if let Some(known) = self.compiled.lock().get(uid).filter(|known| known.version == version) {
            return Arc::clone(known);
        }
        let mut errors = Vec::new();
        let compiled = Compiled::of(policy.get("spec").unwrap_or(&Value::Null), &mut errors);
        let error = errors.first().map(ToString::to_string);
        let known = Arc::new(Known { version: version.to_owned(), compiled, error });
        self.compiled.lock().insert(uid.to_owned(), Arc::clone(&known));
        known
    }

    /// What the policy finds wrong, once per set of parameters.
    async fn apply(
        &self,
        at: &Attributes<'_>,
        policy: &Value,
        binding: &Value,
        new: &Value,
        old: Option<&Value>,
        namespace: Option<&Value>,
    ) -> Result<Vec<Found>, Status> {
        let ignore = text(policy, &["spec", "failurePolicy"]) == Some("Ignore");
        let failed = |message: String| match ignore {
            true => Vec::new(),
            false => vec![Found { message, reason: String::new() }],
        };
        let known = self.compiled(policy);
        if let Some(error) = &known.error {
            return Ok(failed(format!("failed to configure policy: {error}")));
        }
        let all = match parameters(at, policy, binding).await? {
            Ok(all) => all,
            Err(error) => return Ok(failed(format!("failed to configure binding: {error}"))),
        };
        let description = request::describe(at);
        let mut found = Vec::new();
        for params in &all {
            let of = |value: Option<&'_ Value>| value.is_some_and(Value::is_object);
            let mut activation = Activation::new(PER_CALL_LIMIT)
                .with("request", Cel::of_json(&description, None))
                .with("object", Cel::of_json(new, None))
                .with("oldObject", old.map_or(Cel::Null, |old| Cel::of_json(old, None)))
                .with("authorizer", authorizer())
                .with(REQUEST_RESOURCE, resource_check(request::own_resource(at)));
            activation
                .set("namespaceObject", namespace.filter(|n| of(Some(n))).map_or(Cel::Null, |n| Cel::of_json(n, None)));
            activation.set("params", params.as_deref().map_or(Cel::Null, |params| Cel::of_json(params, None)));
            let mut evaluation = Evaluation { at, activation, budget: RUNTIME_BUDGET };
            found.extend(evaluation.run(&known.compiled, ignore).await);
        }
        Ok(found)
    }
}

/// The parameters of a binding: one evaluation for each. None at all if nothing is to be evaluated.
async fn parameters(
    at: &Attributes<'_>,
    policy: &Value,
    binding: &Value,
) -> Result<Result<Vec<Option<Arc<Value>>>, String>, Status> {
    let Some(kind) = path(policy, &["spec", "paramKind"]).filter(|kind| kind.is_object()) else {
        return Ok(Ok(vec![None]));
    };
    let Some(reference) = path(binding, &["spec", "paramRef"]).filter(|reference| reference.is_object()) else {
        return Ok(Ok(vec![None]));
    };
    let (group, version) = object::group_version(object::api_version(kind));
    let rows = at.registry.resources();
    let Some(row) =
        rows.iter().find(|row| row.group == group && row.version == version && row.kind == object::kind(kind))
    else {
        return Ok(Err(format!(
            "failed to find resource referenced by paramKind: '{}, Kind={}'",
            object::api_version(kind),
            object::kind(kind)
        )));
    };
    let namespace = match text(reference, &["namespace"]) {
        _ if !row.namespaced => "",
        Some(namespace) if !namespace.is_empty() => namespace,
        _ => at.namespace,
    };
    let mut all = Vec::new();
    match text(reference, &["name"]).filter(|name| !name.is_empty()) {
        Some(name) => {
            if let Some(entry) = at.registry.get(row, namespace, name).await? {
                all.push(Some(crate::registry::convert::read(row, &entry)?));
            }
        }
        None => {
            let selector =
                Selector::from_label_selector(reference.get("selector")).unwrap_or_else(|_| Selector::nothing());
            for entry in at.registry.list(row, namespace).await?.entries {
                let value = crate::registry::convert::read(row, &entry)?;
                if selector.matches(object::labels(&value)) {
                    all.push(Some(value));
                }
            }
        }
    }
    if all.is_empty() && text(reference, &["parameterNotFoundAction"]) != Some("Allow") {
        return Ok(Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned()));
    }
    Ok(Ok(all))
}

/// The evaluation of one policy with one set of parameters.
struct Evaluation<'e, 'a> {
    at: &'e Attributes<'e>,
    activation: Activation<'a>,
    /// What is left of what all its expressions may cost together.
    budget: u64,
}

impl<'a> Evaluation<'_, 'a> {
    async fn run(&mut self, compiled: &'a Compiled, ignore: bool) -> Vec<Found> {
        let failed = |message: String| match ignore {
            true => None,
            false => Some(Found { message, reason: String::new() }),
        };
        let mut variables = Vec::with_capacity(compiled.variables.len());
        let mut broken: Option<(&str, Error)> = None;
        for (name, program) in &compiled.variables {
            match self.value(program).await {
                Ok(value) => variables.push((name.as_str(), value)),
                // It counts only if something uses it.
                Err(error) => broken = broken.or(Some((name, error))),
            }
            self.activation.set("variables", Cel::map(variables.iter().cloned()));
        }
        let told = |error: Error| match &broken {
            Some((name, cause)) if error == Error::message(format!("no such key: {name}")) => {
                format!("composited variable \"{name}\" fails to evaluate: {cause}")
            }
            _ => error.to_string(),
        };
        for (name, program) in &compiled.match_conditions {
            match self.value(program).await {
                Ok(Cel::Bool(true)) => {}
                Ok(_) => return Vec::new(),
                Err(error) => {
                    let message = format!("match condition \"{name}\" could not be evaluated: {}", told(error));
                    return failed(message).into_iter().collect();
                }
            }
        }
        let mut found = Vec::new();
        for validation in &compiled.validations {
            match self.value(&validation.program).await {
                Ok(Cel::Bool(true)) => {}
                Err(error) => {
                    let message = format!("expression '{}' resulted in error: {}", validation.source, told(error));
                    found.extend(failed(message));
                }
                Ok(_) => {
                    let message = match &validation.message_expression {
                        Some(program) => self.value(program).await.ok(),
                        None => None,
                    };
                    let message = match message {
                        Some(Cel::String(text)) if !text.trim().is_empty() && !text.contains('\n') => {
                            text.trim().to_owned()
                        }
                        _ => validation.message.clone(),
                    };
                    found.push(Found { message, reason: validation.reason.clone() });
                }
            }
        }
        found
    }

    /// The value of an expression. What it asks the authorizer is answered, and it is begun again.
    async fn value(&mut self, program: &'a Program) -> Result<Cel<'a>, Error> {
        loop {
            self.activation.restart(PER_CALL_LIMIT.min(self.budget));
            let result = program.evaluate(&self.activation);
            self.budget = self.budget.saturating_sub(self.activation.cost());
            if !matches!(result, Err(Error::Undecided)) || !request::answer(self.at, &self.activation).await {
                return result;
            }
        }
    }
}
