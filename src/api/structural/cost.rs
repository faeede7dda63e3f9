//! How large the values of a schema may be, and what rules may cost by that.
//!
//! A definition whose rules might cost more than there is time for is refused: see
//! <https://kubernetes.io/docs/reference/using-api/cel/#resource-constraints>.

use std::sync::Arc;

use serde_json::Value as Json;

use super::{Kind, fields};
use crate::cel::{Sizes, types};
use crate::validation::{FieldError, Path};

/// The most that one rule may cost, for all values that it may be run on.
pub const RULE_LIMIT: u64 = 10_000_000;
/// The most that all rules of a version may cost together.
const DEFINITION_LIMIT: u64 = 100_000_000;
/// What a request may hold.
const REQUEST_LIMIT: u64 = 3 * 1024 * 1024;
/// As many of the most costly rules are named when all together cost too much.
const NAMED: usize = 4;

/// The sizes of a schema's values, and the bytes that the smallest one takes.
pub fn sizes(schema: &Json) -> (Sizes, u64) {
    let limit = |name: &str| schema.get(name).and_then(Json::as_i64).map(|limit| u64::try_from(limit).unwrap_or(0));
    let whole = REQUEST_LIMIT - 2;
    if schema.get("x-kubernetes-int-or-string") == Some(&Json::Bool(true)) {
        return (Sizes::Any(whole), 1);
    }
    let format = schema.get("format").and_then(Json::as_str).unwrap_or_default();
    match schema.get("type").and_then(Json::as_str).and_then(Kind::parse) {
        None => (Sizes::Any(whole), 1),
        Some(Kind::Boolean) => (Sizes::Scalar, 4),
        Some(Kind::Integer | Kind::Number) => (Sizes::Scalar, 1),
        Some(Kind::String) if format == "duration" => (Sizes::Scalar, 4),
        Some(Kind::String) if format == "date" => (Sizes::Scalar, 12),
        Some(Kind::String) if format == "date-time" => (Sizes::Scalar, 21),
        Some(Kind::String) if format == "byte" => (Sizes::Text(limit("maxLength").unwrap_or(whole)), 2),
        Some(Kind::String) => {
            let longest = schema.get("enum").and_then(Json::as_array).map(|all| {
                let lengths = all.iter().filter_map(Json::as_str).map(str::len);
                lengths.max().unwrap_or_default() as u64
            });
            // A character may take four bytes.
            let size = limit("maxLength").map(|length| length.saturating_mul(4)).or(longest).unwrap_or(whole);
            (Sizes::Text(size), 2)
        }
        Some(Kind::Array) => {
            let (of, smallest) = schema.get("items").map_or((Sizes::Any(whole), 1), sizes);
            (Sizes::List(limit("maxItems").unwrap_or(whole / (smallest + 1)), Arc::new(of)), 2)
        }
        Some(Kind::Object) => {
            if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
                let (of, smallest) = sizes(values);
                return (Sizes::Map(limit("maxProperties").unwrap_or(whole / (smallest + 6)), Arc::new(of)), 2);
            }
            let required = |name: &str| {
                let all = schema.get("required").and_then(Json::as_array);
                all.is_some_and(|all| all.iter().any(|one| one == name))
            };
            // `{}` at least.
            let mut smallest = 2;
            let mut named = std::collections::BTreeMap::new();
            for (name, schema) in fields(schema, "properties") {
                let (of, least) = sizes(schema);
                if required(name) && schema.get("default").is_none() {
                    smallest += least + name.len() as u64 + 4;
                }
                if let Some(name) = types::escape(name) {
                    named.insert(name, of);
                }
            }
            (Sizes::Object(named), smallest)
        }
    }
}

/// How many values of a schema there may be in an object.
#[derive(Debug, Clone, Copy)]
pub enum Cardinality {
    Bounded(u64),
    /// As many as fit into a request.
    Unbounded,
}

impl Cardinality {
    /// Of the elements of lists or maps of which there may be that many.
    pub fn of_elements(self, schema: &Json, limit: &str) -> Self {
        match (self, schema.get(limit).and_then(Json::as_i64)) {
            (Self::Bounded(count), Some(limit)) => {
                Self::Bounded(count.saturating_mul(u64::try_from(limit).unwrap_or(0)))
            }
            _ => Self::Unbounded,
        }
    }

    /// At most so many, if the smallest takes so many bytes.
    fn count(self, smallest: u64) -> u64 {
        match self {
            Self::Bounded(count) => count,
            Self::Unbounded => REQUEST_LIMIT / (smallest + 1),
        }
    }
}

/// What the rules of a schema may cost together, and which of them cost most.
#[derive(Debug, Default)]
pub struct Total {
    sum: u64,
    costly: Vec<(String, u64)>,
    errors: Vec<FieldError>,
}

impl Total {
    /// Adds a rule that may cost so much each time, and refuses it if that is too much.
    pub fn add(&mut self, at: &Path, each: u64, many: Cardinality, smallest: u64) {
        let cost = each.saturating_mul(many.count(smallest));
        if cost > RULE_LIMIT {
            self.errors.push(FieldError::forbidden(at, exceeded("estimated rule cost", cost, RULE_LIMIT)));
        }
        self.sum = self.sum.saturating_add(cost);
        if cost >= DEFINITION_LIMIT / 100 {
            self.costly.push((at.to_string(), cost));
            self.costly.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
            self.costly.truncate(NAMED);
        }
    }

    /// All that is refused; the schema at `at` too, if all of its rules together may cost too much.
    pub fn finish(self, at: &Path, errors: &mut Vec<FieldError>) {
        errors.extend(self.errors);
        if self.sum <= DEFINITION_LIMIT {
            return;
        }
        const CONTRIBUTED: &str =
            "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
        errors.extend(self.costly.iter().map(|(path, _)| FieldError::forbidden_at_text(path, CONTRIBUTED)));
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.push(FieldError::forbidden(at, exceeded(what, self.sum, DEFINITION_LIMIT)));
    }
}

fn exceeded(what: &str, cost: u64, limit: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
    let factor = cost as f64 / limit as f64;
    let factor = match factor {
        factor if factor > 100.0 => "more than 100x".to_owned(),
        factor if factor < 1.5 => format!("{factor:.6}x"),
        factor => format!("{factor:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and \
         maxLength where arrays, maps, and strings are declared)"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::rules::Rules;
    use super::*;

    fn told(schema: Json) -> Vec<String> {
        let mut errors = Vec::new();
        Rules::check_costs(&schema, &Path::new("schema"), &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    fn object(properties: Json) -> Json {
        json!({"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}})
    }

    const HINT: &str = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)";

    #[test]
    fn a_rule_about_all_pairs_of_an_unbounded_list_is_refused() {
        let list = |limit: Option<u64>| {
            let mut list = json!({"type": "array", "items": {"type": "string"},
                "x-kubernetes-validations": [{"rule": "self.all(x, self.exists_one(y, x == y))"}]});
            if let Some(limit) = limit {
                list["maxItems"] = limit.into();
                list["items"]["maxLength"] = 10.into();
            }
            object(json!({"list": list}))
        };
        let at = "schema.properties[spec].properties[list].x-kubernetes-validations[0].rule";
        let told_unbounded = told(list(None));
        assert_eq!(
            told_unbounded[0],
            format!("{at}: Forbidden: estimated rule cost exceeds budget by factor of more than 100x {HINT}")
        );
        // The schema as a whole costs too much then as well, and is told so.
        assert_eq!(told_unbounded.len(), 3, "{told_unbounded:?}");
        assert_eq!(told(list(Some(16))), Vec::<String>::new());
    }

    #[test]
    fn a_rule_costs_as_often_as_it_may_be_run() {
        let schema = |limit: Option<u64>| {
            let mut list = json!({"type": "array", "items": {"type": "object", "required": ["a"],
                "properties": {"a": {"type": "string", "maxLength": 500}},
                "x-kubernetes-validations": [{"rule": "self.a.contains('x') || self.a.matches('^[a-z0-9.-]+$')"}]}});
            if let Some(limit) = limit {
                list["maxItems"] = limit.into();
            }
            object(json!({"list": list}))
        };
        assert_eq!(told(schema(Some(64))), Vec::<String>::new());
        let message = told(schema(None)).remove(0);
        assert!(message.contains("estimated rule cost exceeds budget by factor of "), "{message}");
    }

    #[test]
    fn ordinary_rules_are_taken() {
        let schema = object(json!({
            "replicas": {"type": "integer"}, "min": {"type": "integer"}, "name": {"type": "string"},
            "ports": {"type": "array", "items": {"type": "object", "properties": {"port": {"type": "integer"}}}},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}}}));
        let mut schema = schema;
        schema["properties"]["spec"]["x-kubernetes-validations"] = json!([
            {"rule": "self.min <= self.replicas"}, {"rule": "self.name == oldSelf.name"},
            {"rule": "self.name.startsWith('kube') || self.name.size() > 3"},
            {"rule": "!has(self.ports) || self.ports.all(p, p.port > 0)"},
            {"rule": "self.name != 'x' ? has(self.labels) : 'a' in self.labels"}]);
        assert_eq!(told(schema), Vec::<String>::new());
    }

    #[test]
    fn factors_are_told_in_three_ways() {
        for (cost, factor) in [(12_000_000, "1.200000x"), (25_000_000, "2.5x"), (2_000_000_000, "more than 100x")] {
            let told = exceeded("estimated rule cost", cost, RULE_LIMIT);
            assert_eq!(told, format!("estimated rule cost exceeds budget by factor of {factor} {HINT}"));
        }
    }
}
