//! ValidatingAdmissionPolicy: policies, and bindings that put them into force.

use async_trait::async_trait;
use k3s_api::admission_policy::{Compiled, Validation};
use k3s_api::cel::Value as Cel;
use k3s_api::status::Status;
use serde_json::{Value, json};

use super::bound::{Actions, Binding, Policies, Policy};
use super::is_exempt;
use super::parameters::parameters;
use super::refusal::{Finding, denied};
use crate::admission::evaluation::Evaluation;
use crate::admission::followed::Followed;
use crate::admission::rules::{Namespace, Subject};
use crate::admission::versions::Versions;
use crate::admission::{Attributes, Operation, Plugin, request};
use crate::registry::known;

/// In the audit log: what failed whose binding says `Audit`.
const FAILURES: &str = "validation.policy.admission.k8s.io/validation_failure";

/// Refuses what the policies do not allow.
pub struct ValidatingAdmissionPolicy {
    policies: Followed<Policies<Compiled>, 2>,
}

impl Default for ValidatingAdmissionPolicy {
    fn default() -> Self {
        let bindings = known::validating_admission_policy_bindings;
        Self { policies: Followed::new([bindings, known::validating_admission_policies]) }
    }
}

/// What was found for one request, of all policies.
#[derive(Default)]
struct Findings {
    /// What refuses the request.
    denied: Vec<Finding>,
    /// What is noted in the audit log.
    audited: Vec<Value>,
}

#[async_trait]
impl Plugin for ValidatingAdmissionPolicy {
    fn handles(&self, _: Operation) -> bool {
        true
    }

    async fn validate(&self, at: &Attributes<'_>, new: &Value, old: Option<&Value>) -> Result<(), Status> {
        let Some(policies) = self.policies.get(at.registry, Policies::read).await? else { return Ok(()) };
        if is_exempt(at) {
            return Ok(());
        }
        let namespace = Namespace::new();
        let subject = Subject::new(at, new, old, &namespace);
        let mut findings = Findings::default();
        for policy in &policies.0 {
            let Some(found) = policy.matching.find(&subject).await? else { continue };
            let versions = Versions::new(at, &found);
            let new = versions.shown(new).await?;
            let old = match old {
                Some(old) => Some(versions.shown(old).await?),
                None => None,
            };
            let description = request::describe(at, versions.row(), &new, old.as_deref());
            let invocation =
                Invocation { subject: &subject, description: &description, new: &new, old: old.as_deref() };
            for binding in &policy.bindings {
                if binding.matching.find(&subject).await?.is_some() {
                    invocation.run(policy, binding, &mut findings).await?;
                }
            }
        }
        if !findings.audited.is_empty() {
            at.annotate(FAILURES, Value::Array(findings.audited).to_string());
        }
        match findings.denied.is_empty() {
            true => Ok(()),
            false => Err(denied(at, new, &findings.denied)),
        }
    }
}

/// A request as a policy sees it.
struct Invocation<'a> {
    subject: &'a Subject<'a>,
    description: &'a Value,
    new: &'a Value,
    old: Option<&'a Value>,
}

impl Invocation<'_> {
    /// Evaluates a policy once per set of parameters.
    async fn run(&self, policy: &Policy<Compiled>, binding: &Binding, findings: &mut Findings) -> Result<(), Status> {
        let at = self.subject.at;
        let names = Names { policy: &policy.name, binding: &binding.name };
        let failed = |findings: &mut Findings, why: String| {
            if policy.must_work {
                findings.denied.push(Finding { message: names.denial(&why), reason: String::new() });
            }
        };
        let compiled = match &*policy.expressions {
            Ok(compiled) => compiled,
            Err(error) => {
                failed(findings, format!("failed to configure policy: {error}"));
                return Ok(());
            }
        };
        let all = match parameters(at, policy, binding).await? {
            Ok(all) => all,
            Err(error) => {
                failed(findings, format!("failed to configure binding: {error}"));
                return Ok(());
            }
        };
        let namespace = self.subject.namespace().await?;
        for params in &all {
            let mut evaluation = Evaluation::new(at, self.description, self.new, self.old);
            evaluation.set("namespaceObject", namespace.map(|namespace| &**namespace));
            evaluation.set("params", params.as_deref());
            evaluation.variables(&compiled.common.variables).await;
            match evaluation.holds(&compiled.common.match_conditions).await {
                Ok(true) => {}
                Ok(false) => continue,
                Err(error) => {
                    failed(findings, error);
                    continue;
                }
            }
            for (index, validation) in compiled.validations.iter().enumerate() {
                let message = match evaluation.value(&validation.program).await {
                    Ok(Cel::Bool(true)) => continue,
                    Ok(_) => message(&mut evaluation, validation).await,
                    Err(error) => {
                        failed(findings, evaluation.told(&validation.source, &error));
                        continue;
                    }
                };
                names.act(at, binding.actions, &Failed { index, message, reason: &validation.reason }, findings);
            }
            for annotation in &compiled.audit_annotations {
                match evaluation.value(&annotation.program).await {
                    Ok(Cel::String(text)) if !text.trim().is_empty() => {
                        at.annotate(&format!("{}/{}", policy.name, annotation.key), text.trim());
                    }
                    Ok(_) => {}
                    Err(error) => failed(findings, format!("valueExpression resulted in error: {error}")),
                }
            }
        }
        Ok(())
    }
}

/// What is told of a validation that does not hold.
async fn message<'a>(evaluation: &mut Evaluation<'_, 'a>, validation: &'a Validation) -> String {
    let given = match &validation.message_expression {
        Some(program) => evaluation.value(program).await.ok(),
        None => None,
    };
    match given {
        Some(Cel::String(text)) if !text.trim().is_empty() && !text.contains('\n') => text.trim().to_owned(),
        _ => validation.message.clone(),
    }
}

/// A validation that does not hold.
struct Failed<'a> {
    /// Its place in the policy.
    index: usize,
    message: String,
    reason: &'a str,
}

/// How what was found is told.
struct Names<'a> {
    policy: &'a str,
    binding: &'a str,
}

impl Names<'_> {
    fn denial(&self, what: &str) -> String {
        let Self { policy, binding } = self;
        format!("ValidatingAdmissionPolicy '{policy}' with binding '{binding}' denied request: {what}")
    }

    /// Refuses, warns or notes, as the binding says.
    fn act(&self, at: &Attributes<'_>, actions: Actions, failed: &Failed<'_>, findings: &mut Findings) {
        let (Self { policy, binding }, message) = (self, &failed.message);
        if actions.warn {
            at.warn(format!(
                "Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{binding}': {message}"
            ));
        }
        if actions.audit {
            let all = [("Deny", actions.deny), ("Warn", actions.warn), ("Audit", true)];
            let all: Vec<&str> = all.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect();
            findings.audited.push(json!({
                "message": message, "policy": policy, "binding": binding,
                "expressionIndex": failed.index.to_string(), "validationActions": all,
            }));
        }
        if actions.deny {
            let reason = failed.reason.to_owned();
            findings.denied.push(Finding { message: self.denial(message), reason });
        }
    }
}
