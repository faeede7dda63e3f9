//! Admission policies, compiled: the expressions of one, and what is wrong with them.
//!
//! See <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/> and
//! <https://kubernetes.io/docs/reference/access-authn-authz/mutating-admission-policy/>.

pub mod conditions;
mod declared;
pub mod mutating;
pub mod type_check;

use serde_json::Value as Json;

use crate::cel::{Environment, Program, Type};
use crate::validation::{FieldError, Path};

/// The expressions of a policy that it has beside its validations or mutations.
#[derive(Debug, Default)]
pub struct Common {
    /// Their names, with their texts for error messages; all must hold for the policy to apply.
    pub match_conditions: Vec<Condition>,
    /// In their order: one may use those before it.
    pub variables: Vec<(String, Program)>,
}

/// A match condition.
#[derive(Debug)]
pub struct Condition {
    pub program: Program,
    /// How error messages name it.
    pub source: String,
}

/// The expressions of a ValidatingAdmissionPolicy.
#[derive(Debug, Default)]
pub struct Compiled {
    pub common: Common,
    pub validations: Vec<Validation>,
    pub audit_annotations: Vec<AuditAnnotation>,
}

/// What is noted in the audit log: the text that the expression gives, if it gives one.
#[derive(Debug)]
pub struct AuditAnnotation {
    pub key: String,
    pub program: Program,
}

/// One condition on an object.
#[derive(Debug)]
pub struct Validation {
    pub program: Program,
    /// What is told when it does not hold.
    pub message: String,
    /// Gives the message instead, if it can be evaluated.
    pub message_expression: Option<Program>,
    /// The reason of the refusal; empty: `Invalid`.
    pub reason: String,
    /// How error messages name it.
    pub source: String,
}

/// The variable that stands for the check of the request's own resource.
pub const REQUEST_RESOURCE: &str = "authorizer.requestResource";

fn environment(with_params: bool) -> Environment {
    let environment = Environment::new()
        .with("object", Type::Dyn)
        .with("oldObject", Type::Dyn)
        .with("request", declared::request())
        .with("namespaceObject", declared::namespace())
        .with("authorizer", Type::Opaque("kubernetes.authorization.Authorizer"))
        .with(REQUEST_RESOURCE, Type::Opaque("kubernetes.authorization.ResourceCheck"));
    if with_params { environment.with("params", Type::Dyn) } else { environment }
}

impl Common {
    /// Compiles variables and match conditions. Returns the environment that the other expressions are compiled in.
    fn of(spec: &Json, mut environment: Environment, errors: &mut Vec<FieldError>) -> (Self, Environment) {
        let mut common = Self::default();
        let root = Path::new("spec");
        let mut variables: Vec<(String, Type)> = Vec::new();
        let at = root.child("variables");
        for (index, variable) in items(spec, "variables").iter().enumerate() {
            let name = text(variable, "name").to_owned();
            if let Some(program) = compile(&environment, variable, &at.index(index), "expression", None, errors) {
                variables.push((name.clone(), program.output().clone()));
                common.variables.push((name, program));
            }
            // Those before it can be used by the next.
            environment = environment.with("variables", Type::object("kubernetes.variables", variables.clone()));
        }
        common.match_conditions = conditions::compile(spec, &root, &environment, errors);
        (common, environment)
    }
}

impl Compiled {
    /// Compiles the expressions of a policy's `spec`; what cannot be compiled is added to the errors.
    pub fn of(spec: &Json, errors: &mut Vec<FieldError>) -> Self {
        let root = Path::new("spec");
        let (common, environment) = Common::of(spec, environment(has_params(spec)), errors);
        let mut compiled = Self { common, ..Self::default() };
        let at = root.child("validations");
        for (index, validation) in items(spec, "validations").iter().enumerate() {
            let at = at.index(index);
            let Some(program) = compile(&environment, validation, &at, "expression", Some(&Type::Bool), errors) else {
                continue;
            };
            let message_expression = match text(validation, "messageExpression").trim() {
                "" => None,
                _ => compile(&environment, validation, &at, "messageExpression", Some(&Type::String), errors),
            };
            let source = text(validation, "expression").trim().to_owned();
            let message = match text(validation, "message").trim() {
                "" => format!("failed expression: {source}"),
                message => message.to_owned(),
            };
            let reason = text(validation, "reason").to_owned();
            compiled.validations.push(Validation { program, message, message_expression, reason, source });
        }
        let at = root.child("auditAnnotations");
        for (index, annotation) in items(spec, "auditAnnotations").iter().enumerate() {
            let key = text(annotation, "key").to_owned();
            // A text or null.
            if let Some(program) = compile(&environment, annotation, &at.index(index), "valueExpression", None, errors)
            {
                compiled.audit_annotations.push(AuditAnnotation { key, program });
            }
        }
        compiled
    }
}

fn has_params(spec: &Json) -> bool {
    spec.get("paramKind").is_some_and(|kind| !kind.is_null())
}

/// What may not be in a ValidatingAdmissionPolicy: expressions that are none.
pub fn validate(policy: &Json, errors: &mut Vec<FieldError>) {
    if let Some(spec) = policy.get("spec") {
        Compiled::of(spec, errors);
    }
}

fn items<'a>(object: &'a Json, name: &str) -> &'a [Json] {
    object.get(name).and_then(Json::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(object: &'a Json, name: &str) -> &'a str {
    object.get(name).and_then(Json::as_str).unwrap_or_default()
}

fn compile(
    environment: &Environment,
    owner: &Json,
    at: &Path,
    field: &str,
    wanted: Option<&Type>,
    errors: &mut Vec<FieldError>,
) -> Option<Program> {
    let source = text(owner, field);
    let at = at.child(field);
    if source.trim().is_empty() {
        errors.push(FieldError::required(&at, format!("{field} is not specified")));
        return None;
    }
    match (environment.compile(source), wanted) {
        (Ok(program), Some(wanted)) if !program.output().is_dyn() && !program.output().is(wanted) => {
            errors.push(FieldError::invalid(&at, source, format!("must evaluate to {wanted}")));
            None
        }
        (Ok(program), _) => Some(program),
        (Err(issues), _) => {
            errors.push(FieldError::invalid(&at, source, format!("compilation failed: {issues}")));
            None
        }
    }
}
