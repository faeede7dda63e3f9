//! Match conditions of a webhook: CEL over `request`, a `SubjectAccessReviewSpec`.

use k3s_api::admission_policy::Condition;
use k3s_api::authentication::UserInfo;
use k3s_api::cel::{Activation, Environment, PER_CALL_LIMIT, RUNTIME_BUDGET, Type, Value as Cel};
use k3s_api::resource;
use k3s_api::status::aggregate;
use serde_json::{Value, json};

use super::review::{self, Version};
use crate::authorization::Attributes;

/// More conditions than these are refused.
const MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Conditions(Vec<Condition>);

impl Conditions {
    /// Compiles them.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn compile(expressions: &[String]) -> Result<Self, String> {
        if expressions.len() > MAX {
            return Err(format!("there are {} of them, and there may be {MAX}", expressions.len()));
        }
        let environment = Environment::new().with("request", request_type());
        let condition = |source: &String| {
            let program = environment.compile(source).map_err(|issues| format!("{source:?}: {issues}"))?;
            match program.output() {
                Type::Bool | Type::Dyn => Ok(Condition { program, source: source.clone() }),
                other => Err(format!("{source:?}: must evaluate to bool but got {other}")),
            }
        };
        expressions.iter().map(condition).collect::<Result<_, _>>().map(Self)
    }

    /// Whether all hold. One that does not hold decides, whatever is wrong with others.
    ///
    /// # Errors
    /// In words, if some could not be evaluated and the others hold.
    pub fn hold(&self, user: &UserInfo, asked: &Attributes<'_>) -> Result<bool, String> {
        if self.0.is_empty() {
            return Ok(true);
        }
        let request = whole(review::question(Version::V1, user, asked)["spec"].take());
        let mut activation = Activation::new(PER_CALL_LIMIT).with("request", Cel::of_json(&request, None));
        let (mut budget, mut errors) = (RUNTIME_BUDGET, Vec::new());
        for Condition { program, source } in &self.0 {
            activation.restart(PER_CALL_LIMIT.min(budget));
            let result = program.evaluate(&activation);
            budget = budget.saturating_sub(activation.cost());
            match result {
                Ok(Cel::Bool(true)) => {}
                Ok(_) => return Ok(false),
                Err(error) => {
                    errors.push(format!("cel evaluation error: expression '{source}' resulted in error: {error}"))
                }
            }
        }
        if errors.is_empty() { Ok(true) } else { Err(aggregate(&errors)) }
    }
}

/// The type of `spec`, which expressions are checked against.
fn request_type() -> Type {
    let review = resource::find_kind("authorization.k8s.io", "v1", "SubjectAccessReview");
    review.and_then(|row| row.schema().field("spec")).map_or(Type::Dyn, Type::builtin)
}

/// With the texts and lists that expressions may count on being there.
fn whole(mut spec: Value) -> Value {
    let mut put = |at: &str, fields: &[&str]| {
        let Some(map) = spec.pointer_mut(at).and_then(Value::as_object_mut) else { return };
        for field in fields {
            map.entry(*field).or_insert_with(|| json!(""));
        }
    };
    put("/resourceAttributes", &["namespace", "verb", "group", "version", "resource", "subresource", "name"]);
    put("/nonResourceAttributes", &["path", "verb"]);
    put("", &["user", "uid"]);
    if let Some(map) = spec.as_object_mut() {
        map.entry("groups").or_insert_with(|| json!([]));
        map.entry("extra").or_insert_with(|| json!({}));
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(expressions: &[&str]) -> Result<Conditions, String> {
        Conditions::compile(&expressions.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn conditions_say_which_questions_are_asked() {
        let jane = UserInfo::new("jane", &["devs"]);
        let pods = Attributes { verb: "get", is_resource: true, resource: "pods", ..Attributes::default() };
        let url = Attributes { verb: "get", path: "/healthz", ..Attributes::default() };
        for (expressions, of_pods, of_url) in [
            (&[][..], true, true),
            (&["has(request.resourceAttributes)"], true, false),
            (&["request.user == 'jane'", "'devs' in request.groups"], true, true),
            (&["has(request.resourceAttributes)", "request.resourceAttributes.namespace == ''"], true, false),
            (&["!has(request.resourceAttributes) || request.resourceAttributes.resource != 'pods'"], false, true),
        ] {
            let conditions = compile(expressions).unwrap();
            assert_eq!(conditions.hold(&jane, &pods), Ok(of_pods), "{expressions:?}");
            assert_eq!(conditions.hold(&jane, &url), Ok(of_url), "{expressions:?}");
        }
        // What can't be evaluated is no answer, unless another condition says no.
        let fails = "request.extra['a'][0] == 'b'";
        assert!(compile(&[fails]).unwrap().hold(&jane, &url).unwrap_err().contains("no such key: a"));
        assert_eq!(compile(&[fails, "request.user == 'joe'"]).unwrap().hold(&jane, &url), Ok(false));
    }

    #[test]
    fn conditions_are_checked_when_they_are_read() {
        for (expression, has) in [
            ("request.", "Syntax error"),
            ("request.color == 'red'", "undefined field 'color'"),
            ("object.spec == 1", "undeclared reference to 'object'"),
            ("request.user", "must evaluate to bool"),
        ] {
            let error = compile(&[expression]).map(|_| ()).expect_err(expression);
            assert!(error.contains(has), "{has:?} is not in: {error}");
        }
        assert!(Conditions::compile(&vec!["true".to_owned(); 65]).is_err());
    }
}
