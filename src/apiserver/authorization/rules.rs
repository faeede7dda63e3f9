//! Rules of RBAC (`rbac.authorization.k8s.io/v1` `PolicyRule`): what they allow, and whether some cover others.

use std::collections::BTreeMap;

use k3s_api::quote::quote;
use serde::{Deserialize, Serialize};

use super::Attributes;

/// One rule of a role: any of the verbs on any of the resources in any of the groups, or on any of the URLs.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    #[serde(deserialize_with = "list")]
    pub verbs: Vec<String>,
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    #[serde(rename = "nonResourceURLs", deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

/// A list that may be `null`.
fn list<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn any(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

impl Rule {
    /// Whether it allows what is asked.
    pub fn allows(&self, asked: &Attributes<'_>) -> bool {
        if !any(&self.verbs, asked.verb) {
            return false;
        }
        if !asked.is_resource {
            return self.non_resource_urls.iter().any(|url| url_matches(url, asked.path));
        }
        any(&self.api_groups, asked.group)
            && self.resources.iter().any(|resource| resource_matches(resource, asked.resource, asked.subresource))
            && (self.resource_names.is_empty() || self.resource_names.iter().any(|name| name == asked.name))
    }

    /// The rule in pieces, each with one verb on one resource of one group (and one name), or one URL.
    fn pieces(&self) -> Vec<Rule> {
        let mut pieces = Vec::new();
        for verb in &self.verbs {
            let verbs = || vec![verb.clone()];
            for group in &self.api_groups {
                for resource in &self.resources {
                    let piece = |names: &[String]| Rule {
                        verbs: verbs(),
                        api_groups: vec![group.clone()],
                        resources: vec![resource.clone()],
                        resource_names: names.to_vec(),
                        non_resource_urls: Vec::new(),
                    };
                    if self.resource_names.is_empty() {
                        pieces.push(piece(&[]));
                    }
                    pieces.extend(self.resource_names.iter().map(|name| piece(std::slice::from_ref(name))));
                }
            }
            for url in &self.non_resource_urls {
                pieces.push(Rule { verbs: verbs(), non_resource_urls: vec![url.clone()], ..Rule::default() });
            }
        }
        pieces
    }

    /// Whether it allows all that one of [`Rule::pieces`] allows.
    fn covers(&self, piece: &Rule) -> bool {
        let all = |owned: &[String], wanted: &[String]| wanted.iter().all(|one| any(owned, one));
        let resource = |wanted: &String| {
            let (resource, subresource) = wanted.split_once('/').unwrap_or((wanted, ""));
            self.resources.iter().any(|owned| resource_matches(owned, resource, subresource))
        };
        let url = |wanted: &String| self.non_resource_urls.iter().any(|owned| url_covers(owned, wanted));
        let names = match piece.resource_names.as_slice() {
            [] => self.resource_names.is_empty(),
            names => self.resource_names.is_empty() || names.iter().all(|name| self.resource_names.contains(name)),
        };
        all(&self.verbs, &piece.verbs)
            && all(&self.api_groups, &piece.api_groups)
            && piece.resources.iter().all(resource)
            && piece.non_resource_urls.iter().all(url)
            && names
    }

    /// As Kubernetes writes it in messages: `{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}`.
    fn describe(&self) -> String {
        let part = |name: &str, list: &[String]| {
            let quoted: Vec<_> = list.iter().map(|item| quote(item).to_string()).collect();
            (!list.is_empty()).then(|| format!("{name}:[{}]", quoted.join(" ")))
        };
        let parts = [
            part("APIGroups", &self.api_groups),
            part("Resources", &self.resources),
            part("NonResourceURLs", &self.non_resource_urls),
            part("ResourceNames", &self.resource_names),
            part("Verbs", &self.verbs),
        ];
        format!("{{{}}}", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

/// `pods`, `pods/log`, `*/scale` or `*` against a resource and a subresource (empty: none).
fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == "*" {
        return true;
    }
    if subresource.is_empty() {
        return rule == resource;
    }
    rule.split_once('/').is_some_and(|(of, sub)| sub == subresource && (of == "*" || of == resource))
}

/// `*`, the URL itself, or a beginning of it followed by `*`.
fn url_matches(rule: &str, url: &str) -> bool {
    rule == "*"
        || rule == url
        || rule.strip_suffix('*').is_some_and(|start| url.starts_with(start.trim_end_matches('*')))
}

fn url_covers(owned: &str, wanted: &str) -> bool {
    owned == "*" || owned == wanted || (owned.ends_with('*') && wanted.starts_with(owned.trim_end_matches('*')))
}

/// What `wanted` allows and `owned` does not, described and sorted as Kubernetes lists it; empty if there is nothing.
pub fn not_covered(owned: &[Rule], wanted: &[Rule]) -> Vec<String> {
    let missing: Vec<Rule> =
        wanted.iter().flat_map(Rule::pieces).filter(|piece| !owned.iter().any(|rule| rule.covers(piece))).collect();
    let mut descriptions: Vec<String> = compact(missing).iter().map(Rule::describe).collect();
    descriptions.sort();
    descriptions.dedup();
    descriptions
}

/// Puts the verbs of pieces that are otherwise the same together again.
fn compact(pieces: Vec<Rule>) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    let mut known: BTreeMap<Rule, usize> = BTreeMap::new();
    for mut piece in pieces {
        if !piece.non_resource_urls.is_empty() {
            rules.push(piece);
            continue;
        }
        let verbs = std::mem::take(&mut piece.verbs);
        match known.get(&piece) {
            Some(&at) => {
                for verb in verbs {
                    if !rules[at].verbs.contains(&verb) {
                        rules[at].verbs.push(verb);
                    }
                }
            }
            None => {
                known.insert(piece.clone(), rules.len());
                rules.push(Rule { verbs, ..piece });
            }
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rule(value: Value) -> Rule {
        serde_json::from_value(value).unwrap()
    }

    fn asked<'a>(verb: &'a str, group: &'a str, resource: &'a str, name: &'a str) -> Attributes<'a> {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Attributes { verb, is_resource: true, group, resource, subresource, name, ..Attributes::default() }
    }

    #[test]
    fn a_rule_allows_what_it_names_and_nothing_else() {
        let pods = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]});
        let named = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]});
        let sub = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["pods/log"]});
        let scale = json!({"verbs": ["update"], "apiGroups": ["apps"], "resources": ["*/scale"]});
        let everything = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]});
        let cases = [
            (&pods, asked("get", "", "pods", "a"), true),
            (&pods, asked("list", "", "pods", ""), false),
            (&pods, asked("get", "apps", "pods", "a"), false),
            (&pods, asked("get", "", "pods/log", "a"), false),
            (&named, asked("get", "", "pods", "a"), true),
            (&named, asked("get", "", "pods", "b"), false),
            (&named, asked("get", "", "pods", ""), false),
            (&sub, asked("get", "", "pods/log", "a"), true),
            (&sub, asked("get", "", "pods", "a"), false),
            (&scale, asked("update", "apps", "deployments/scale", "a"), true),
            (&scale, asked("update", "apps", "deployments", "a"), false),
            (&scale, asked("update", "apps", "deployments/status", "a"), false),
            (&everything, asked("anything", "any.group", "things/sub", "a"), true),
        ];
        for (value, asked, expected) in cases {
            assert_eq!(rule(value.clone()).allows(&asked), expected, "{value} {asked:?}");
        }
    }

    #[test]
    fn urls_match_whole_or_by_their_beginning() {
        for (url, path, expected) in [
            ("/metrics", "/metrics", true),
            ("/metrics", "/metrics/x", false),
            ("/api/*", "/api/v1", true),
            ("/api/*", "/api", false),
            ("*", "/anything", true),
        ] {
            let rule = rule(json!({"verbs": ["get"], "nonResourceURLs": [url]}));
            let asked = Attributes { verb: "get", path, ..Attributes::default() };
            assert_eq!(rule.allows(&asked), expected, "{url} {path}");
        }
        // A rule for everything says nothing about URLs.
        let all = rule(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
        assert!(!all.allows(&Attributes { verb: "get", path: "/metrics", ..Attributes::default() }));
    }

    #[test]
    fn what_is_not_covered_is_described_with_its_verbs_together() {
        let owned = [rule(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "pods/log"]}))];
        let wanted = [rule(json!({"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["pods"]}))];
        assert_eq!(not_covered(&owned, &wanted), [r#"{APIGroups:[""], Resources:["pods"], Verbs:["list" "watch"]}"#]);
        assert!(not_covered(&owned, &owned).is_empty());
        let named = [rule(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}))];
        assert!(not_covered(&owned, &named).is_empty());
        assert_eq!(not_covered(&named, &owned).len(), 2);
    }
}
