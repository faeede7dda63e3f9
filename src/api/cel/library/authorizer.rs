//! What a user may do, asked from an expression.
//!
//! Evaluation is a plain function, and the authorizer has to read roles. So a question whose answer isn't known ends the
//! evaluation; the caller answers the questions that are open and evaluates again (see
//! [`Activation::questions`](super::super::Activation::questions)).

use std::sync::Arc;

use super::super::eval::{Activation, Error};
use super::super::value::Value;
use super::Returned;
use super::opaque::Opaque;

pub const DECLARATIONS: &str = "
kubernetes.authorization.Authorizer.path(string) -> kubernetes.authorization.PathCheck
kubernetes.authorization.Authorizer.group(string) -> kubernetes.authorization.GroupCheck
kubernetes.authorization.Authorizer.serviceAccount(string, string) -> kubernetes.authorization.Authorizer
kubernetes.authorization.PathCheck.check(string) -> kubernetes.authorization.Decision
kubernetes.authorization.GroupCheck.resource(string) -> kubernetes.authorization.ResourceCheck
kubernetes.authorization.ResourceCheck.subresource(string) -> kubernetes.authorization.ResourceCheck
kubernetes.authorization.ResourceCheck.namespace(string) -> kubernetes.authorization.ResourceCheck
kubernetes.authorization.ResourceCheck.name(string) -> kubernetes.authorization.ResourceCheck
kubernetes.authorization.ResourceCheck.fieldSelector(string) -> kubernetes.authorization.ResourceCheck
kubernetes.authorization.ResourceCheck.labelSelector(string) -> kubernetes.authorization.ResourceCheck
kubernetes.authorization.ResourceCheck.check(string) -> kubernetes.authorization.Decision
kubernetes.authorization.Decision.errored() -> bool
kubernetes.authorization.Decision.error() -> string
kubernetes.authorization.Decision.allowed() -> bool
kubernetes.authorization.Decision.reason() -> string
";

/// May the user do that?
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    /// Namespace and name of the service account that is asked about; who makes the request otherwise.
    pub service_account: Option<(String, String)>,
    pub verb: String,
    /// Of a request for no resource.
    pub path: Option<String>,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
}

/// Yes or no.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    pub allowed: bool,
    pub reason: String,
    /// Why it could not be decided.
    pub error: Option<String>,
}

/// The authorizer, for whoever makes the request.
pub fn authorizer<'a>() -> Value<'a> {
    Value::Opaque(Arc::new(Opaque::Authorizer(Question::default())))
}

/// The check of the resource that a request is for (`authorizer.requestResource`).
pub fn resource_check<'a>(question: Question) -> Value<'a> {
    Value::Opaque(Arc::new(Opaque::ResourceCheck(question)))
}

pub fn call<'a>(name: &str, args: &[Value<'a>], activation: &Activation<'a>) -> Returned<'a> {
    let [Value::Opaque(own), rest @ ..] = args else { return None };
    let wrap = |opaque| Some(Ok(Value::Opaque(Arc::new(opaque))));
    match (&**own, rest) {
        (Opaque::Authorizer(question), [Value::String(text)]) if name == "path" => {
            wrap(Opaque::PathCheck(Question { path: Some(text.to_string()), ..question.clone() }))
        }
        (Opaque::Authorizer(question), [Value::String(text)]) if name == "group" => {
            wrap(Opaque::GroupCheck(Question { group: text.to_string(), ..question.clone() }))
        }
        (Opaque::Authorizer(question), [Value::String(namespace), Value::String(account)])
            if name == "serviceAccount" =>
        {
            let service_account = Some((namespace.to_string(), account.to_string()));
            wrap(Opaque::Authorizer(Question { service_account, ..question.clone() }))
        }
        (Opaque::GroupCheck(question), [Value::String(text)]) if name == "resource" => {
            wrap(Opaque::ResourceCheck(Question { resource: text.to_string(), ..question.clone() }))
        }
        (Opaque::PathCheck(question) | Opaque::ResourceCheck(question), [Value::String(verb)]) if name == "check" => {
            let question = Question { verb: verb.to_string(), ..question.clone() };
            Some(activation.ask(&question).map(|answer| Value::Opaque(Arc::new(Opaque::Decision(answer)))))
        }
        (Opaque::ResourceCheck(question), [Value::String(text)]) => {
            let (mut question, text) = (question.clone(), text.to_string());
            match name {
                "subresource" => question.subresource = text,
                "namespace" => question.namespace = text,
                "name" => question.name = text,
                // Roles know no selectors: who may list all may list some.
                "fieldSelector" | "labelSelector" => {}
                _ => return None,
            }
            wrap(Opaque::ResourceCheck(question))
        }
        (Opaque::Decision(answer), []) => Some(Ok(match name {
            "allowed" => Value::Bool(answer.allowed),
            "reason" => Value::text(answer.reason.clone()),
            "errored" => Value::Bool(answer.error.is_some()),
            "error" => Value::text(answer.error.clone().unwrap_or_default()),
            _ => return None,
        })),
        _ => None,
    }
    .map(|result: Result<Value<'a>, Error>| result)
}
