//! The request as expressions see it (`request`), and what they ask the authorizer.

use k3s_api::authentication::UserInfo;
use k3s_api::cel::Activation;
use k3s_api::cel::library::authorizer::{Answer, Question};
use serde_json::{Value, json};

use crate::admission::{Attributes, Operation};
use crate::authorization;

/// An `AdmissionRequest` without its objects.
pub fn describe(at: &Attributes<'_>) -> Value {
    let (group, version) = (&at.resource.group, &at.resource.version);
    let kind = json!({"group": group, "version": version, "kind": at.resource.kind});
    let resource = json!({"group": group, "version": version, "resource": at.resource.plural});
    let operation = match at.operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
    };
    json!({
        "kind": kind, "requestKind": kind, "resource": resource, "requestResource": resource,
        "subResource": at.subresource, "requestSubResource": at.subresource, "name": at.name,
        "namespace": at.namespace, "operation": operation, "dryRun": at.dry_run,
        "userInfo": {"username": at.user.name, "uid": at.user.uid, "groups": at.user.groups, "extra": at.user.extra},
    })
}

/// The question of whether the user may do something with the request's own resource.
pub fn own_resource(at: &Attributes<'_>) -> Question {
    Question {
        group: at.resource.group.to_string(),
        resource: at.resource.plural.to_string(),
        subresource: at.subresource.to_owned(),
        namespace: at.namespace.to_owned(),
        name: at.name.to_owned(),
        ..Question::default()
    }
}

/// Answers what an evaluation wants to know. Returns whether there was anything.
pub async fn answer(at: &Attributes<'_>, activation: &Activation<'_>) -> bool {
    let questions = activation.questions();
    for question in &questions {
        let account;
        let user = match &question.service_account {
            None => at.user,
            Some((namespace, name)) => {
                let groups = ["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}")];
                account = UserInfo::new(format!("system:serviceaccount:{namespace}:{name}"), &groups);
                &account
            }
        };
        let asked = authorization::Attributes {
            verb: &question.verb,
            is_resource: question.path.is_none(),
            group: &question.group,
            version: "*",
            resource: &question.resource,
            subresource: &question.subresource,
            namespace: &question.namespace,
            name: &question.name,
            path: question.path.as_deref().unwrap_or_default(),
        };
        let answer = match at.authorizer.authorize(at.registry, user, asked).await {
            Ok(authorization::Decision::Allowed { reason }) => Answer { allowed: true, reason, error: None },
            Ok(authorization::Decision::NoOpinion { reason }) => Answer { allowed: false, reason, error: None },
            Err(error) => Answer { allowed: false, reason: String::new(), error: Some(error.to_string()) },
        };
        activation.answer(question.clone(), answer);
    }
    !questions.is_empty()
}
