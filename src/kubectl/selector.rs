//! `-l`, `--field-selector`, `-A`: which objects of a resource.

use clap::Args;

use crate::cluster::Query;

/// Which objects.
#[derive(Debug, Clone, Default, Args)]
pub struct SelectorFlags {
    /// Selector (label query) to filter on, supports '=', '==', '!=', 'in', 'notin'
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    pub selector: String,
    /// Selector (field query) to filter on, supports '=', '==', and '!='
    #[arg(long, default_value = "", hide_default_value = true)]
    pub field_selector: String,
    /// If present, list the requested object(s) across all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
}

impl SelectorFlags {
    /// The parameters of a list.
    pub fn query(&self) -> Query {
        Query::new()
            .with_some("labelSelector", Some(&self.selector))
            .with_some("fieldSelector", Some(&self.field_selector))
    }

    /// Whether it selects by anything.
    pub fn is_selective(&self) -> bool {
        !self.selector.is_empty() || !self.field_selector.is_empty()
    }
}

/// A label selector as its query text.
pub fn of_labels(labels: &serde_json::Value) -> String {
    let labels = labels.as_object().into_iter().flatten();
    let terms: Vec<String> =
        labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    terms.join(",")
}

/// A `LabelSelector` as its query text (`a=b,c in (d,e),!f`).
pub fn of_label_selector(selector: &serde_json::Value) -> String {
    let mut terms = Vec::new();
    let labels = of_labels(&selector["matchLabels"]);
    if !labels.is_empty() {
        terms.push(labels);
    }
    for requirement in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = requirement["key"].as_str().unwrap_or_default();
        let values: Vec<&str> =
            requirement["values"].as_array().into_iter().flatten().filter_map(|value| value.as_str()).collect();
        let values = values.join(",");
        terms.push(match requirement["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    terms.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_label_selector_has_a_text() {
        let selector = json!({"matchLabels": {"a": "b"}, "matchExpressions": [
            {"key": "c", "operator": "In", "values": ["d", "e"]}, {"key": "f", "operator": "DoesNotExist"}]});
        assert_eq!(of_label_selector(&selector), "a=b,c in (d,e),!f");
    }
}
