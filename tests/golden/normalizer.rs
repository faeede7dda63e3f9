//! What may differ between two servers that answer the same.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::{Captures, Regex};

use crate::json::Json;

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a regular expression")
}

static UID: LazyLock<Regex> = LazyLock::new(|| regex("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"));
static TIME: LazyLock<Regex> = LazyLock::new(|| {
    regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})")
});
/// Revisions in messages.
static REVISION: LazyLock<Regex> = LazyLock::new(|| regex(r"(current: |in record \(|version: [0-9]+ \()[0-9]+"));
/// Names that the server completes.
static RANDOM: LazyLock<Regex> = LazyLock::new(|| regex(r"(?-u:\b)(kube-api-access-|dry-)[a-z0-9]{5}(?-u:\b)"));
/// The ports of a service in a table.
static NODE_PORT: LazyLock<Regex> = LazyLock::new(|| regex(r"(?-u:\b)([0-9]+:)3[0-9]{4}/"));
static AGE: LazyLock<Regex> = LazyLock::new(|| regex("^([0-9]+[smhdy])+$|^<unknown>$"));
static CLUSTER_IP: LazyLock<Regex> = LazyLock::new(|| regex(r"^10\.43\.[0-9]+\.[0-9]+$"));
static HASH: LazyLock<Regex> = LazyLock::new(|| regex("hash=[0-9A-F]+"));

/// Replaces what a server chooses freely by placeholders. Uids are numbered as they come, so that two places with the
/// same uid stay the same; one normalizer sees all answers of a suite.
#[derive(Default)]
pub struct Normalizer {
    uids: HashMap<String, usize>,
    /// Where the server listens, which its own service leads to.
    own_port: Option<u16>,
}

/// Where the recorded server listened.
const RECORDED_PORT: u16 = 16443;

impl Normalizer {
    /// For the answers of a server that listens on that port.
    pub fn of_server(port: u16) -> Self {
        Self { own_port: Some(port), ..Self::default() }
    }

    pub fn text(&mut self, text: &str) -> String {
        let text = UID.replace_all(text, |found: &Captures<'_>| {
            let next = self.uids.len();
            format!("<uid{}>", self.uids.entry(found[0].to_owned()).or_insert(next))
        });
        let text = TIME.replace_all(&text, "<time>");
        let text = REVISION.replace_all(&text, "$1<rv>");
        RANDOM.replace_all(&text, "$1<rand>").into_owned()
    }

    pub fn value(&mut self, value: Json) -> Json {
        self.value_of("", value)
    }

    /// `key` is that of the member which the value belongs to, directly or as an item.
    fn value_of(&mut self, key: &str, value: Json) -> Json {
        match value {
            Json::Object(mut members) => {
                // A version: builds of the same release differ in the rest.
                if members.iter().any(|(key, _)| key == "gitVersion") {
                    members.retain(|(key, _)| key == "major" || key == "minor");
                }
                let rules_review = members.iter().any(|(key, _)| key == "incomplete");
                let members = members.into_iter().map(|(key, value)| {
                    let value = self.member(&key, value, rules_review);
                    (key, value)
                });
                Json::Object(members.collect())
            }
            Json::Array(items) if key == "cells" => {
                Json::Array(items.into_iter().map(|item| self.cell(item)).collect())
            }
            Json::Array(items) => Json::Array(items.into_iter().map(|item| self.value_of(key, item)).collect()),
            Json::String(text) => Json::String(self.text(&text)),
            other => other,
        }
    }

    fn member(&mut self, key: &str, value: Json, rules_review: bool) -> Json {
        match (key, value) {
            ("resourceVersion", Json::String(text)) if !text.is_empty() => {
                let chosen = text != "0" && text.bytes().all(|byte| byte.is_ascii_digit());
                Json::String(if chosen { "<rv>".to_owned() } else { text })
            }
            ("continue", Json::String(text)) if !text.is_empty() => Json::string("<continue>"),
            ("clusterIP", Json::String(text)) if CLUSTER_IP.is_match(&text) => Json::string("<clusterIP>"),
            ("clusterIPs", Json::Array(items)) => Json::Array(items.into_iter().map(cluster_ip).collect()),
            ("nodePort" | "healthCheckNodePort", Json::Number(port)) if !port.is_f64() && port.as_u64() != Some(0) => {
                Json::string("<nodePort>")
            }
            ("targetPort", Json::Number(port)) if port.as_u64() == self.own_port.map(u64::from) => {
                Json::Number(RECORDED_PORT.into())
            }
            ("managedFields", Json::Array(items)) => {
                let mut items: Vec<_> = items.into_iter().map(|item| self.value_of(key, item)).collect();
                items.sort_by_cached_key(|item| item.sorted().to_string());
                Json::Array(items)
            }
            ("serverAddress", _) => Json::string("<address>"),
            ("serverRelativeURL", Json::String(text)) => Json::string(HASH.replace_all(&text, "hash=<hash>")),
            ("nonResourceRules" | "resourceRules", Json::Array(items)) if rules_review => {
                let mut items: Vec<_> = items.into_iter().map(|item| self.value_of(key, item)).collect();
                items.sort_by_cached_key(ToString::to_string);
                Json::Array(items)
            }
            (key, value) => self.value_of(key, value),
        }
    }

    /// A cell of a table.
    fn cell(&mut self, cell: Json) -> Json {
        match cell {
            Json::String(text) if AGE.is_match(&text) => Json::string("<age>"),
            Json::String(text) if CLUSTER_IP.is_match(&text) => Json::string("<clusterIP>"),
            Json::String(text) => Json::string(NODE_PORT.replace_all(&self.text(&text), "$1<nodePort>/")),
            other => other,
        }
    }
}

fn cluster_ip(item: Json) -> Json {
    match item {
        Json::String(text) if CLUSTER_IP.is_match(&text) => Json::string("<clusterIP>"),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalized(text: &str) -> String {
        Normalizer::default().value(serde_json::from_str(text).unwrap()).to_string()
    }

    #[test]
    fn uids_are_numbered_in_the_order_of_the_document() {
        let [a, b] = ["11111111-2222-3333-4444-555555555555", "00000000-2222-3333-4444-555555555555"];
        let text = format!(r#"{{"z":"{a}","a":"{b}, not {a}"}}"#);
        assert_eq!(normalized(&text), r#"{"z":"<uid0>","a":"<uid1>, not <uid0>"}"#);
    }

    #[test]
    fn what_a_server_chooses_is_replaced_and_nothing_else() {
        for (given, expected) in [
            (r#"{"resourceVersion":"12"}"#, r#"{"resourceVersion":"<rv>"}"#),
            (r#"{"resourceVersion":"0"}"#, r#"{"resourceVersion":"0"}"#),
            (r#"{"resourceVersion":""}"#, r#"{"resourceVersion":""}"#),
            (r#"{"at":"2026-01-02T03:04:05.678901Z"}"#, r#"{"at":"<time>"}"#),
            (r#"{"clusterIPs":["10.43.0.9","None"]}"#, r#"{"clusterIPs":["<clusterIP>","None"]}"#),
            (r#"{"nodePort":30100,"port":30100}"#, r#"{"nodePort":"<nodePort>","port":30100}"#),
            (r#"{"nodePort":0}"#, r#"{"nodePort":0}"#),
            (r#"{"name":"kube-api-access-x1y2z"}"#, r#"{"name":"kube-api-access-<rand>"}"#),
            (r#"{"name":"kube-api-access-x1y2zz"}"#, r#"{"name":"kube-api-access-x1y2zz"}"#),
            (r#"{"cells":["3d4h","80:31234/TCP",3]}"#, r#"{"cells":["<age>","80:<nodePort>/TCP",3]}"#),
            (r#"{"gitVersion":"v1","minor":"36","platform":"x"}"#, r#"{"minor":"36"}"#),
            (r#"{"message":"requested: 1, current: 27"}"#, r#"{"message":"requested: 1, current: <rv>"}"#),
        ] {
            assert_eq!(normalized(given), expected);
        }
    }

    #[test]
    fn managed_fields_are_sorted_by_their_content() {
        let given = r#"{"managedFields":[{"operation":"Update","manager":"b"},{"operation":"Apply","manager":"c"},{"manager":"a"}]}"#;
        let expected = r#"{"managedFields":[{"manager":"a"},{"operation":"Update","manager":"b"},{"operation":"Apply","manager":"c"}]}"#;
        assert_eq!(normalized(given), expected);
    }
}
