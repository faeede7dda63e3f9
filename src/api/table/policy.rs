//! What may be done: roles and bindings, disruption budgets, admission, certificates.

use jiff::Timestamp;
use serde_json::Value;

use super::fields::Fields;
use super::{Cells, Printer, columns, object_age};
use crate::time::human_duration;

pub(super) fn printer(group: &str, plural: &str) -> Option<Printer> {
    const ADMISSION: &str = "admissionregistration.k8s.io";
    Some(match (group, plural) {
        ("rbac.authorization.k8s.io", "rolebindings") => (columns::ROLEBINDINGS, role_binding),
        ("rbac.authorization.k8s.io", "clusterrolebindings") => (columns::CLUSTERROLEBINDINGS, role_binding),
        ("policy", "poddisruptionbudgets") => (columns::PODDISRUPTIONBUDGETS, disruption_budget),
        ("certificates.k8s.io", "certificatesigningrequests") => (columns::CERTIFICATESIGNINGREQUESTS, signing_request),
        (ADMISSION, "mutatingwebhookconfigurations") => (columns::MUTATINGWEBHOOKCONFIGURATIONS, webhooks),
        (ADMISSION, "validatingwebhookconfigurations") => (columns::VALIDATINGWEBHOOKCONFIGURATIONS, webhooks),
        (ADMISSION, "validatingadmissionpolicies") => {
            (columns::VALIDATINGADMISSIONPOLICIES, |object, now| admission_policy(object, "spec.validations", now))
        }
        (ADMISSION, "mutatingadmissionpolicies") => {
            (columns::MUTATINGADMISSIONPOLICIES, |object, now| admission_policy(object, "spec.mutations", now))
        }
        (ADMISSION, "validatingadmissionpolicybindings") => {
            (columns::VALIDATINGADMISSIONPOLICYBINDINGS, admission_policy_binding)
        }
        (ADMISSION, "mutatingadmissionpolicybindings") => {
            (columns::MUTATINGADMISSIONPOLICYBINDINGS, admission_policy_binding)
        }
        _ => return None,
    })
}

fn role_binding(object: Fields<'_>, now: Timestamp) -> Cells {
    let subjects = |kind: &str| {
        let named = object.list("subjects").filter(|subject| subject.text("kind") == kind);
        let named = named.map(|subject| match kind {
            "ServiceAccount" => format!("{}/{}", subject.text("namespace"), subject.text("name")),
            _ => subject.text("name").to_owned(),
        });
        Value::from(named.collect::<Vec<_>>().join(", "))
    };
    vec![
        object.name(),
        format!("{}/{}", object.text("roleRef.kind"), object.text("roleRef.name")).into(),
        object_age(object, now),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

fn disruption_budget(object: Fields<'_>, now: Timestamp) -> Cells {
    let bound = |path: &str| if object.has(path) { object.show(path) } else { "N/A".to_owned() };
    vec![
        object.name(),
        bound("spec.minAvailable").into(),
        bound("spec.maxUnavailable").into(),
        object.int("status.disruptionsAllowed").into(),
        object_age(object, now),
    ]
}

fn signing_request(object: Fields<'_>, now: Timestamp) -> Cells {
    let has = |kind: &str| object.condition(kind).is_some();
    let mut status = match () {
        () if has("Denied") => "Denied",
        () if has("Approved") => "Approved",
        () => "Pending",
    }
    .to_owned();
    if has("Failed") {
        status.push_str(",Failed");
    }
    if !object.text("status.certificate").is_empty() {
        status.push_str(",Issued");
    }
    let duration = object.get("spec.expirationSeconds").and_then(Value::as_i64).map(human_duration);
    vec![
        object.name(),
        object_age(object, now),
        object.text_or("spec.signerName", "<none>").into(),
        object.text("spec.username").into(),
        duration.unwrap_or_else(|| "<none>".to_owned()).into(),
        status.into(),
    ]
}

fn webhooks(object: Fields<'_>, now: Timestamp) -> Cells {
    vec![object.name(), object.count("webhooks").into(), object_age(object, now)]
}

fn admission_policy(object: Fields<'_>, rules: &str, now: Timestamp) -> Cells {
    let parameters = object
        .at("spec.paramKind")
        .map_or_else(|| "<unset>".to_owned(), |kind| format!("{}/{}", kind.text("apiVersion"), kind.text("kind")));
    vec![object.name(), object.count(rules).into(), parameters.into(), object_age(object, now)]
}

fn admission_policy_binding(object: Fields<'_>, now: Timestamp) -> Cells {
    let parameter = object.at("spec.paramRef").map(|reference| {
        let selector = reference.at("selector");
        match (reference.text("namespace"), reference.text("name"), selector) {
            // Whether the parameter is in a namespace at all can't be told from here.
            ("", name, _) if !name.is_empty() => format!("*/{name}"),
            (namespace, name, _) if !name.is_empty() => format!("{namespace}/{name}"),
            (_, _, Some(selector)) => go_label_selector(selector),
            (_, _, None) => "<unset>".to_owned(),
        }
    });
    let parameter = parameter.unwrap_or_else(|| "<unset>".to_owned());
    vec![object.name(), object.text("spec.policyName").into(), parameter.into(), object_age(object, now)]
}

/// A label selector as Go's protobuf code writes it.
fn go_label_selector(selector: Fields<'_>) -> String {
    let labels = selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten();
    let labels: Vec<String> =
        labels.map(|(key, value)| format!("{key}: {},", value.as_str().unwrap_or_default())).collect();
    let expressions: Vec<String> = selector
        .list("matchExpressions")
        .map(|one| {
            let values = one.texts("values").join(" ");
            let (key, operator) = (one.text("key"), one.text("operator"));
            format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{values}],}},")
        })
        .collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{}}},MatchExpressions:[]LabelSelectorRequirement{{{}}},}}",
        labels.join(" "),
        expressions.concat()
    )
}
