//! FlowSchemas and PriorityLevelConfigurations.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::node::{Errors, Node, go_struct};
use super::{FieldError, go_json, names};

const PRECEDENCE_LIMIT: i64 = 10_000;
const QUEUES_LIMIT: i64 = 10_000_000;
/// What a hash has to deal hands of queues by.
const HASH_BITS: u32 = 60;
const VERBS: [&str; 9] = ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

pub fn flow_schema(schema: &Value, errors: &mut Errors) {
    let root = Node::root(schema);
    let spec = root.field("spec");
    let precedence = spec.field("matchingPrecedence");
    let at = precedence.int().unwrap_or(0);
    if at <= 0 {
        precedence.invalid(errors, "must be a positive value");
    }
    if at > PRECEDENCE_LIMIT {
        precedence.invalid(errors, format!("must not be greater than {PRECEDENCE_LIMIT}"));
    }
    if at == 1 && crate::object::name(schema) != "exempt" {
        precedence.invalid(errors, "only the schema named 'exempt' may have matchingPrecedence 1");
    }
    let method = spec.field("distinguisherMethod");
    if method.is_set() && !["ByNamespace", "ByUser"].contains(&method.field("type").text()) {
        let shown = go_struct(method.value, &[("Type", "type")]);
        errors.push(FieldError::not_supported(&method.path.child("type"), shown, &["ByNamespace", "ByUser"]));
    }
    let level = spec.field("priorityLevelConfiguration");
    let name = level.field("name");
    match name.is_empty() {
        true => name.required(errors, "must reference a priority level"),
        false => name.invalid_text(errors, names::dns1123_subdomain(name.text())),
    }
    spec.field("rules").items().for_each(|rule| rule_with_subjects(&rule, errors));
    let name = crate::object::name(schema);
    if mandatory_schema(name).is_some_and(|fixed| fixed != *spec.value) {
        let shown = go_json::shown("FlowSchemaSpec", spec.value);
        spec.invalid_as(shown, errors, format!("spec of '{name}' must equal the fixed value"));
    }
    conditions(&root, errors);
}

/// What the schemas say that every server has: they cannot be changed.
fn mandatory_schema(name: &str) -> Option<Value> {
    let spec = |precedence: i64, method: Option<&str>, groups: &[&str]| {
        let subjects: Vec<Value> =
            groups.iter().map(|group| json!({"kind": "Group", "group": {"name": group}})).collect();
        let mut spec = json!({"matchingPrecedence": precedence, "priorityLevelConfiguration": {"name": name},
            "rules": [{"subjects": subjects,
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true,
                    "namespaces": ["*"]}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}]});
        if let Some(method) = method {
            spec["distinguisherMethod"] = json!({"type": method});
        }
        spec
    };
    match name {
        "exempt" => Some(spec(1, None, &["system:masters"])),
        "catch-all" => Some(spec(10_000, Some("ByUser"), &["system:unauthenticated", "system:authenticated"])),
        _ => None,
    }
}

/// The same of the levels; how much the exempt one takes of the others is for the administrator to say.
fn mandatory_level(spec: &Node, name: &str, errors: &mut Errors) {
    let mut given = spec.value.clone();
    let (fixed, except) = match name {
        "exempt" => {
            given.as_object_mut().map(|fields| fields.remove("exempt"));
            (json!({"type": "Exempt"}), " except the 'spec.exempt' field")
        }
        "catch-all" => {
            let limited =
                json!({"nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"}});
            (json!({"type": "Limited", "limited": limited}), "")
        }
        _ => return,
    };
    if given != fixed {
        let shown = go_json::shown("PriorityLevelConfigurationSpec", spec.value);
        spec.invalid_as(shown, errors, format!("spec of '{name}'{except} must equal the fixed value"));
    }
}

fn rule_with_subjects(rule: &Node, errors: &mut Errors) {
    let subjects = rule.field("subjects");
    if subjects.is_empty() {
        subjects.required(errors, "subjects must contain at least one value");
    }
    subjects.items().for_each(|one| subject(&one, errors));
    let (resources, others) = (rule.field("resourceRules"), rule.field("nonResourceRules"));
    if resources.is_empty() && others.is_empty() {
        rule.required(errors, "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    resources.items().for_each(|rule| resource_rule(&rule, errors));
    others.items().for_each(|rule| non_resource_rule(&rule, errors));
}

fn subject(subject: &Node, errors: &mut Errors) {
    let fields = [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];
    let kind = subject.field("kind");
    let Some((_, own)) = fields.iter().find(|(name, _)| *name == kind.text()) else {
        return kind.not_supported(errors, &["Group", "ServiceAccount", "User"]);
    };
    let body = subject.field(own);
    match body.is_set() {
        false => body.required(errors, format!("{own} is required when subject kind is '{}'", kind.text())),
        true => {
            let name = body.field("name");
            if name.require(errors) && *own == "serviceAccount" && name.text() != "*" {
                name.invalid_text(errors, names::dns1123_subdomain(name.text()));
            }
            let namespace = body.field("namespace");
            match (*own, namespace.is_empty()) {
                ("serviceAccount", true) => {
                    namespace.required(errors, "must specify namespace for service account");
                }
                ("serviceAccount", false) => {
                    namespace.invalid_text(errors, names::dns1123_label(namespace.text()));
                }
                _ => {}
            }
        }
    }
    // Told in this order, whichever of the three is the right one.
    let order: [&str; 2] = match *own {
        "serviceAccount" => ["user", "group"],
        "user" => ["serviceAccount", "group"],
        _ => ["serviceAccount", "user"],
    };
    for (name, field) in order.iter().filter_map(|field| fields.iter().find(|(_, known)| known == field)) {
        let other = subject.field(field);
        if other.is_set() {
            other.forbidden(errors, format!("{field} is forbidden when subject kind is not '{name}'"));
        }
    }
}

fn has_wildcard(list: &Node) -> bool {
    list.items().any(|one| one.text() == "*")
}

fn verbs(rule: &Node, errors: &mut Errors) {
    let verbs = rule.field("verbs");
    if verbs.is_empty() {
        verbs.required(errors, "verbs must contain at least one value");
    } else if has_wildcard(&verbs) {
        if verbs.len() > 1 {
            verbs.invalid(errors, "if '*' is present, must not specify other verbs");
        }
    } else if verbs.items().any(|verb| !VERBS.contains(&verb.text())) {
        verbs.not_supported(errors, &VERBS);
    }
}

fn resource_rule(rule: &Node, errors: &mut Errors) {
    verbs(rule, errors);
    for (field, none, what) in [
        ("apiGroups", "resource rules must supply at least one api group", "api groups"),
        ("resources", "resource rules must supply at least one resource", "resources"),
    ] {
        let list = rule.field(field);
        if list.is_empty() {
            list.required(errors, none);
        } else if list.len() > 1 && has_wildcard(&list) {
            list.invalid(errors, format!("if '*' is present, must not specify other {what}"));
        }
    }
    let namespaces = rule.field("namespaces");
    if namespaces.is_empty() && !rule.field("clusterScope").bool() {
        namespaces.required(errors, "resource rules that are not cluster scoped must supply at least one namespace");
    } else if has_wildcard(&namespaces) {
        if namespaces.len() > 1 {
            namespaces.invalid(errors, "if '*' is present, must not specify other namespaces");
        }
    } else {
        for namespace in namespaces.items() {
            for message in names::dns1123_label(namespace.text()) {
                let why = format!("each member of this list must be '*' or a DNS-1123 label; {message}");
                namespace.invalid(errors, why);
            }
        }
    }
}

fn non_resource_rule(rule: &Node, errors: &mut Errors) {
    verbs(rule, errors);
    let urls = rule.field("nonResourceURLs");
    if urls.is_empty() {
        urls.required(errors, "nonResourceURLs must contain at least one value");
    } else if has_wildcard(&urls) {
        if urls.len() > 1 {
            urls.invalid(errors, "if '*' is present, must not specify other non-resource URLs");
        }
    } else {
        for url in urls.items() {
            wrong_path(url.text()).into_iter().for_each(|message| url.invalid_text(errors, [message]));
        }
    }
}

fn wrong_path(path: &str) -> Option<&'static str> {
    Some(match path {
        "" => "must not be empty",
        "/" => return None,
        path if !path.starts_with('/') => "must start with slash",
        path if path.contains(' ') => "must not contain white-space",
        path if path.contains("//") => "must not contain double slash",
        path => match path.matches('*').count() {
            0 => return None,
            1 if path.ends_with("/*") => return None,
            _ => "wildcard can only do suffix matching",
        },
    })
}

fn conditions(root: &Node, errors: &mut Errors) {
    let status = root.field("status");
    let mut seen = BTreeSet::new();
    for condition in status.field("conditions").items() {
        let kind = condition.field("type");
        if !seen.insert(kind.text().to_owned()) {
            errors.push(FieldError::duplicate(&kind.path, kind.text()));
        }
        if kind.is_empty() {
            kind.required(errors, "must not be empty");
        }
    }
}

pub fn status(new: &Value, _old: &Value, errors: &mut Errors) {
    conditions(&Node::root(new), errors);
}

pub fn priority_level(level: &Value, errors: &mut Errors) {
    let root = Node::root(level);
    let spec = root.field("spec");
    let (kind, limited, exempt) = (spec.field("type"), spec.field("limited"), spec.field("exempt"));
    if (crate::object::name(level) == "exempt") != (kind.text() == "Exempt") {
        kind.invalid_text(errors, ["type must be 'Exempt' if and only if name is 'exempt'"]);
    }
    match kind.text() {
        "Exempt" => {
            if limited.is_set() {
                limited.forbidden(errors, "must be nil if the type is not Limited");
            }
            shares(&exempt, errors);
            percentage(&exempt.field("lendablePercent"), errors);
        }
        "Limited" => {
            if exempt.is_set() {
                exempt.forbidden(errors, "must be nil if the type is Limited");
            }
            match limited.is_set() {
                true => self::limited(&limited, errors),
                false => limited.required(errors, "must not be empty when type is Limited"),
            }
        }
        _ => kind.not_supported(errors, &["Exempt", "Limited"]),
    }
    mandatory_level(&spec, crate::object::name(level), errors);
    conditions(&root, errors);
}

fn shares(body: &Node, errors: &mut Errors) {
    let shares = body.field("nominalConcurrencyShares");
    if shares.int().is_some_and(|shares| shares < 0) {
        shares.invalid(errors, "must be a non-negative integer");
    }
}

fn percentage(percent: &Node, errors: &mut Errors) {
    percent.in_range(0, 100, errors);
}

fn limited(limited: &Node, errors: &mut Errors) {
    shares(limited, errors);
    let response = limited.field("limitResponse");
    let (kind, queuing) = (response.field("type"), response.field("queuing"));
    match kind.text() {
        "Reject" if queuing.is_set() => {
            queuing.forbidden(errors, "must be nil if limited.limitResponse.type is not Limited");
        }
        "Reject" => {}
        "Queue" if queuing.is_set() => self::queuing(&queuing, errors),
        "Queue" => queuing.required(errors, "must not be empty if limited.limitResponse.type is Limited"),
        _ => kind.not_supported(errors, &["Queue", "Reject"]),
    }
    percentage(&limited.field("lendablePercent"), errors);
    let borrowing = limited.field("borrowingLimitPercent");
    if borrowing.int().is_some_and(|percent| percent < 0) {
        borrowing.invalid(errors, "if specified, must be a non-negative integer");
    }
}

fn queuing(queuing: &Node, errors: &mut Errors) {
    let (length, queues, hand) =
        (queuing.field("queueLengthLimit"), queuing.field("queues"), queuing.field("handSize"));
    let number = |node: &Node| node.int().unwrap_or(0);
    if number(&length) <= 0 {
        length.invalid(errors, "must be positive");
    }
    if number(&queues) <= 0 {
        queues.invalid(errors, "must be positive");
    } else if number(&queues) > QUEUES_LIMIT {
        queues.invalid(errors, format!("must not be greater than {QUEUES_LIMIT}"));
    }
    let (deck, size) = (number(&queues), number(&hand));
    if size <= 0 {
        hand.invalid(errors, "must be positive");
    } else if size > deck {
        hand.invalid(errors, format!("should not be greater than queues ({deck})"));
    } else if entropy(deck, size) > HASH_BITS {
        hand.invalid(
            errors,
            format!(
                "required entropy bits of deckSize {deck} and handSize {size} should not be greater than {HASH_BITS}"
            ),
        );
    }
}

/// The bits that deal a hand of so many out of a deck.
fn entropy(deck: i64, hand: i64) -> u32 {
    #[expect(clippy::cast_precision_loss, reason = "a deck has at most 10⁷ queues")]
    let bits: f64 = (0..hand).map(|dealt| ((deck - dealt) as f64).log2()).sum();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and saturating")]
    let bits = bits.ceil() as u32;
    bits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::wrong;

    #[test]
    fn a_schema_says_whom_it_is_for() {
        let rule = json!({"subjects": [{"kind": "User", "user": {"name": "*"}, "group": {"name": "g"}}],
            "resourceRules": [{"verbs": ["*", "get"], "apiGroups": ["*"], "resources": ["*"]}]});
        let schema = json!({"metadata": {"name": "s"}, "spec": {"matchingPrecedence": 1, "rules": [rule],
            "priorityLevelConfiguration": {"name": "l"}, "distinguisherMethod": {"type": "X"}}});
        assert_eq!(
            wrong(flow_schema, schema),
            [
                "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
                r#"spec.distinguisherMethod.type: Unsupported value: {"Type":"X"}: supported values: "ByNamespace", "ByUser""#,
                "spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
                r#"spec.rules[0].resourceRules[0].verbs: Invalid value: ["*","get"]: if '*' is present, must not specify other verbs"#,
                "spec.rules[0].resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped must supply at least one namespace",
            ]
        );
    }

    #[test]
    fn what_every_server_has_cannot_be_changed() {
        let schema = |name: &str, spec: Value| wrong(flow_schema, json!({"metadata": {"name": name}, "spec": spec}));
        for name in ["exempt", "catch-all"] {
            let mut spec = mandatory_schema(name).expect("a mandatory one");
            assert!(schema(name, spec.clone()).is_empty());
            spec["rules"][0]["nonResourceRules"] = json!([]);
            let told = schema(name, spec);
            assert!(told[0].starts_with(r#"spec: Invalid value: {"PriorityLevelConfiguration":{"Name":"#), "{told:?}");
            assert!(told[0].ends_with(&format!(": spec of '{name}' must equal the fixed value")), "{told:?}");
        }
        let level = |name: &str, spec: Value| wrong(priority_level, json!({"metadata": {"name": name}, "spec": spec}));
        let exempt = json!({"nominalConcurrencyShares": 7, "lendablePercent": 50});
        assert!(level("exempt", json!({"type": "Exempt", "exempt": exempt})).is_empty());
        let limited = |shares: i64| {
            json!({"type": "Limited", "limited": {"nominalConcurrencyShares": shares, "lendablePercent": 0,
                "limitResponse": {"type": "Reject"}}})
        };
        assert!(level("catch-all", limited(5)).is_empty());
        assert_eq!(
            level("catch-all", limited(6)),
            [
                r#"spec: Invalid value: {"Type":"Limited","Limited":{"NominalConcurrencyShares":6,"LimitResponse":{"Type":"Reject","Queuing":null},"LendablePercent":0,"BorrowingLimitPercent":null},"Exempt":null}: spec of 'catch-all' must equal the fixed value"#
            ]
        );
    }

    #[test]
    fn hands_are_dealt_out_of_enough_queues() {
        let level = |hand: i64, queues: i64| {
            json!({"metadata": {"name": "l"}, "spec": {"type": "Limited", "limited": {"limitResponse": {
                "type": "Queue", "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": 5}}}}})
        };
        assert!(wrong(priority_level, level(8, 64)).is_empty());
        let at = "spec.limited.limitResponse.queuing.handSize: Invalid value:";
        assert_eq!(wrong(priority_level, level(9, 8)), [format!("{at} 9: should not be greater than queues (8)")]);
        assert_eq!(
            wrong(priority_level, level(9, 512)),
            [format!("{at} 9: required entropy bits of deckSize 512 and handSize 9 should not be greater than 60")]
        );
    }

    #[test]
    fn wildcards_stand_at_the_end_of_a_path() {
        for path in ["/", "/healthz", "/healthz/*"] {
            assert_eq!(wrong_path(path), None, "{path}");
        }
        for path in ["", "a", "/a b", "//", "/a*", "/*/a", "/a/*/*"] {
            assert!(wrong_path(path).is_some(), "{path}");
        }
    }
}
