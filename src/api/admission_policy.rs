//! ValidatingAdmissionPolicies, compiled: the expressions of one, and what is wrong with them.
//!
//! See <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/>.

use serde_json::Value as Json;

use crate::cel::{Environment, Program, Type};
use crate::validation::{FieldError, Path};

/// The expressions of a policy.
#[derive(Debug, Default)]
pub struct Compiled {
    /// Their names, for error messages; all must hold for the policy to apply.
    pub match_conditions: Vec<(String, Program)>,
    /// In their order: one may use those before it.
    pub variables: Vec<(String, Program)>,
    pub validations: Vec<Validation>,
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
    let environment = ["object", "oldObject", "request", "namespaceObject"]
        .into_iter()
        .fold(Environment::new(), |environment, name| environment.with(name, Type::Dyn))
        .with("authorizer", Type::Opaque("kubernetes.authorization.Authorizer"))
        .with(REQUEST_RESOURCE, Type::Opaque("kubernetes.authorization.ResourceCheck"));
    if with_params { environment.with("params", Type::Dyn) } else { environment }
}

impl Compiled {
    /// Compiles the expressions of a policy's `spec`; what cannot be compiled is added to the errors.
    pub fn of(spec: &Json, errors: &mut Vec<FieldError>) -> Self {
        let mut compiled = Self::default();
        let root = Path::new("spec");
        let mut environment = environment(spec.get("paramKind").is_some_and(|kind| !kind.is_null()));
        let mut variables: Vec<(String, Type)> = Vec::new();
        let at = root.child("variables");
        for (index, variable) in items(spec, "variables").iter().enumerate() {
            let name = text(variable, "name").to_owned();
            if let Some(program) = compile(&environment, variable, &at.index(index), "expression", None, errors) {
                variables.push((name.clone(), program.output().clone()));
                compiled.variables.push((name, program));
            }
            // Those before it can be used by the next.
            environment = environment.with("variables", Type::object("kubernetes.variables", variables.clone()));
        }
        let at = root.child("matchConditions");
        for (index, condition) in items(spec, "matchConditions").iter().enumerate() {
            let wanted = Some(&Type::Bool);
            if let Some(program) = compile(&environment, condition, &at.index(index), "expression", wanted, errors) {
                compiled.match_conditions.push((text(condition, "name").to_owned(), program));
            }
        }
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
        compiled
    }
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
