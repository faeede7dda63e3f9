//! MutatingAdmissionPolicy: changes that policies make, without anybody to call.

use async_trait::async_trait;
use k3s_api::admission_policy::mutating::Mutations;
use k3s_api::object;
use k3s_api::status::Status;
use serde_json::Value;

use super::bound::{Binding, Policies, Policy};
use super::is_exempt;
use super::parameters::parameters;
use super::refusal::failed;
use crate::admission::evaluation::Evaluation;
use crate::admission::followed::Followed;
use crate::admission::rules::{Match, Namespace, Subject};
use crate::admission::versions::Versions;
use crate::admission::{Attributes, Operation, Plugin, request};
use crate::registry::known;

/// Changes what the policies change.
pub struct MutatingAdmissionPolicy {
    policies: Followed<Policies<Mutations>, 2>,
}

impl Default for MutatingAdmissionPolicy {
    fn default() -> Self {
        let bindings = known::mutating_admission_policy_bindings;
        Self { policies: Followed::new([bindings, known::mutating_admission_policies]) }
    }
}

#[async_trait]
impl Plugin for MutatingAdmissionPolicy {
    async fn admit(&self, at: &Attributes<'_>, object: &mut Value, old: Option<&Value>) -> Result<(), Status> {
        let Some(policies) = self.policies.get(at.registry, Policies::read).await? else { return Ok(()) };
        // Without an object there is nothing to change.
        if is_exempt(at) || object.is_null() || at.operation == Operation::Delete {
            return Ok(());
        }
        let is_second = {
            let mut rounds = at.reinvocation.lock();
            let is_second = rounds.is_second();
            rounds.policies.begin(is_second, object);
            is_second
        };
        let namespace = Namespace::new();
        let mut round = Round { at, old, is_second, namespace: &namespace, errors: Vec::new() };
        // Which policies are meant is decided before any has changed the object.
        let mut wanted: Vec<(&Policy<Mutations>, &Binding, Match)> = Vec::new();
        {
            let subject = Subject::new(at, object, old, &namespace);
            for policy in &policies.0 {
                let Some(found) = policy.matching.find(&subject).await? else { continue };
                for binding in &policy.bindings {
                    if binding.matching.find(&subject).await?.is_some() {
                        wanted.push((policy, binding, found.clone()));
                    }
                }
            }
        }
        for (policy, binding, found) in &wanted {
            round.run(policy, binding, found, object).await?;
        }
        if let Some(first) = round.errors.first() {
            let messages: Vec<String> = round.errors.iter().map(|error| error.message.clone()).collect();
            return Err(failed(at, object, &messages, first.is_expression));
        }
        at.reinvocation.lock().policies.end(object);
        Ok(())
    }
}

/// Why a policy could not do its work.
struct PolicyError {
    message: String,
    /// Whether an expression failed, rather than the configuration.
    is_expression: bool,
}

/// One round of all policies over one request.
struct Round<'a> {
    at: &'a Attributes<'a>,
    old: Option<&'a Value>,
    is_second: bool,
    namespace: &'a Namespace,
    errors: Vec<PolicyError>,
}

impl Round<'_> {
    fn fail(&mut self, policy: &Policy<Mutations>, binding: &Binding, why: String, is_expression: bool) {
        let (name, by) = (&policy.name, &binding.name);
        match policy.must_work {
            true => {
                let message = format!("policy '{name}' with binding '{by}' denied request: {why}");
                self.errors.push(PolicyError { message, is_expression });
            }
            false => tracing::warn!(policy = name, binding = by, why, "a mutating admission policy failed, ignored"),
        }
    }

    fn note(&self, policy: &Policy<Mutations>, id: &str, changed: bool) {
        let mut rounds = self.at.reinvocation.lock();
        if changed {
            rounds.policies.changed();
            rounds.want();
        }
        if policy.reinvoked {
            rounds.policies.note(id);
        }
    }

    /// Lets a policy change the object, once per set of parameters.
    async fn run(
        &mut self,
        policy: &Policy<Mutations>,
        binding: &Binding,
        found: &Match,
        object: &mut Value,
    ) -> Result<(), Status> {
        let compiled = match &*policy.expressions {
            Ok(compiled) => compiled,
            Err(error) => {
                self.fail(policy, binding, format!("failed to configure policy: {error}"), false);
                return Ok(());
            }
        };
        let all = match parameters(self.at, policy, binding).await? {
            Ok(all) => all,
            Err(error) => {
                self.fail(policy, binding, format!("failed to configure binding: {error}"), false);
                return Ok(());
            }
        };
        let versions = Versions::new(self.at, found);
        for params in &all {
            let of = params.as_deref().map(|params| (object::namespace(params), object::name(params)));
            let id = format!("{}/{}/{of:?}", policy.name, binding.name);
            let due = !self.is_second || self.at.reinvocation.lock().policies.is_due(&id);
            let before = versions.shown(object).await?.into_owned();
            let shown = match self.old {
                Some(old) => Some(versions.shown(old).await?),
                None => None,
            };
            let context =
                Context { round: self, versions: &versions, old: shown.as_deref(), params: params.as_deref() };
            let after = match due {
                true => context.mutated(compiled, &before).await?,
                false => None,
            };
            let Some((after, errors)) = after else { continue };
            errors.into_iter().for_each(|why| self.fail(policy, binding, why, true));
            let changed = after != before;
            self.note(policy, &id, changed);
            if changed {
                *object = versions.taken(after).await?;
            }
        }
        Ok(())
    }
}

/// What the expressions of a policy may mention, beside the object.
struct Context<'c> {
    round: &'c Round<'c>,
    versions: &'c Versions<'c>,
    old: Option<&'c Value>,
    params: Option<&'c Value>,
}

impl Context<'_> {
    /// The object with all mutations done that could be, and why others could not. None if the match conditions do not
    /// hold.
    async fn mutated(&self, compiled: &Mutations, object: &Value) -> Result<Option<(Value, Vec<String>)>, Status> {
        let at = self.round.at;
        let subject = Subject::new(at, object, self.old, self.round.namespace);
        let namespace = subject.namespace().await?.cloned();
        let mut current = object.clone();
        let mut errors = Vec::new();
        for index in 0..=compiled.mutations.len() {
            let changed = {
                let description = request::describe(at, self.versions.row(), &current, self.old);
                let mut evaluation = Evaluation::new(at, &description, &current, self.old);
                evaluation.set("namespaceObject", namespace.as_deref());
                evaluation.set("params", self.params);
                evaluation.variables(&compiled.common.variables).await;
                // The conditions are about the object as it came.
                if index == 0 {
                    match evaluation.holds(&compiled.common.match_conditions).await {
                        Ok(true) => continue,
                        Ok(false) => return Ok(None),
                        Err(error) => return Ok(Some((current.clone(), vec![error]))),
                    }
                }
                let mutation = &compiled.mutations[index - 1];
                let Some(schema) = self.versions.schema() else { continue };
                match evaluation.value(&mutation.program).await {
                    Err(error) => Err(evaluation.told(&mutation.source, &error)),
                    Ok(value) => mutation.apply(&current, &value, schema).map_err(|error| error.to_string()),
                }
            };
            match changed {
                Ok(changed) => current = self.versions.decoded(changed).map_err(Status::internal)?,
                Err(error) => errors.push(error),
            }
        }
        Ok(Some((current, errors)))
    }
}
