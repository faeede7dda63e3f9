//! Label selectors and node selector terms.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

type Labels = BTreeMap<String, String>;

/// Whether labels satisfy one requirement. An operator nobody knows matches nothing.
fn satisfies(labels: &Labels, key: &str, operator: &str, values: &[String]) -> bool {
    let value = labels.get(key);
    let number = |text: &String| text.parse::<i64>().ok();
    match operator {
        "In" => value.is_some_and(|value| values.contains(value)),
        "NotIn" => value.is_none_or(|value| !values.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => value.and_then(number).zip(values.first().and_then(number)).is_some_and(|(have, limit)| have > limit),
        "Lt" => value.and_then(number).zip(values.first().and_then(number)).is_some_and(|(have, limit)| have < limit),
        _ => false,
    }
}

/// Whether labels satisfy a label selector; an empty one selects everything, none nothing.
pub fn selects(selector: Option<&LabelSelector>, labels: &Labels) -> bool {
    let Some(selector) = selector else { return false };
    selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
        && selector
            .match_expressions
            .iter()
            .flatten()
            .all(|it| satisfies(labels, &it.key, &it.operator, it.values.as_deref().unwrap_or_default()))
}

/// Whether a node of that name with those labels satisfies a term; an empty term is satisfied by none.
pub fn matches_term(term: &NodeSelectorTerm, name: &str, labels: &Labels) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let all = |requirements: &[NodeSelectorRequirement], labels: &Labels| {
        requirements.iter().all(|it| satisfies(labels, &it.key, &it.operator, it.values.as_deref().unwrap_or_default()))
    };
    let own_fields = Labels::from([("metadata.name".to_owned(), name.to_owned())]);
    all(expressions, labels) && all(fields, &own_fields)
}
