//! Structural schemas: what may stand in the `openAPIV3Schema` of a custom resource's version.
//!
//! A schema is structural if the type of every value is known from it alone, whatever `allOf`, `anyOf`, `oneOf` and
//! `not` say: these only restrict values of fields that are specified outside of them.
//!
//! See <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>.

use serde_json::{Map, Value, json};

use super::{FieldError, Path};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// Where a schema stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// All that is wrong with a version's schema.
pub fn validate(schema: &Value, at: &Path, errors: &mut Vec<FieldError>) {
    supported(schema, at, errors);
    let mut found = Vec::new();
    structure(schema, at, Level::Root, &mut found);
    complete(schema, at, &mut found);
    // In the order of their words, as Kubernetes sorts them.
    found.sort_by_key(ToString::to_string);
    if found.is_empty() {
        defaults(schema, at, &mut found);
    }
    errors.append(&mut found);
}

fn flag(schema: &Value, name: &str) -> bool {
    schema.get(name) == Some(&Value::Bool(true))
}

fn text<'a>(schema: &'a Value, name: &str) -> &'a str {
    schema.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn fields<'a>(schema: &'a Value, name: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    schema.get(name).and_then(Value::as_object).into_iter().flat_map(Map::iter)
}

fn list<'a>(schema: &'a Value, name: &str) -> &'a [Value] {
    schema.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// What JSON schema has and definitions don't, and values that keywords cannot have.
fn supported(schema: &Value, at: &Path, errors: &mut Vec<FieldError>) {
    for name in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        let absent = match schema.get(name) {
            None | Some(Value::Null) => true,
            Some(Value::String(text)) => text.is_empty(),
            Some(Value::Object(entries)) => entries.is_empty(),
            Some(_) => false,
        };
        if !absent {
            errors.push(FieldError::forbidden(&at.child(name), format!("{name} is not supported")));
        }
    }
    if text(schema, "type") == "null" {
        let why = "type cannot be set to null, use nullable as an alternative";
        errors.push(FieldError::forbidden(&at.child("type"), why));
    }
    if schema.get("items").is_some_and(Value::is_array) {
        errors.push(FieldError::forbidden(&at.child("items"), "items must be a schema object and not an array"));
    }
    if flag(schema, "uniqueItems") {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(FieldError::forbidden(&at.child("uniqueItems"), why));
    }
    if let Some(additional) = schema.get("additionalProperties") {
        let at = at.child("additionalProperties");
        if *additional == Value::Bool(false) {
            errors.push(FieldError::forbidden(&at, "additionalProperties cannot be set to false"));
        }
        if fields(schema, "properties").next().is_some() && *additional != Value::Bool(true) {
            let why = "additionalProperties and properties are mutual exclusive";
            errors.push(FieldError::forbidden(&at, why));
        }
    }
    let preserve = "x-kubernetes-preserve-unknown-fields";
    if schema.get(preserve) == Some(&Value::Bool(false)) {
        errors.push(FieldError::invalid(&at.child(preserve), false, "must be true or undefined"));
    }
    list_keywords(schema, at, errors);
    for (name, property) in fields(schema, "properties") {
        supported(property, &at.child("properties").key(name), errors);
    }
    for name in ["items", "additionalProperties", "not"] {
        if let Some(inner) = schema.get(name).filter(|inner| inner.is_object()) {
            supported(inner, &at.child(name), errors);
        }
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        for (index, inner) in list(schema, name).iter().enumerate() {
            supported(inner, &at.child(name).index(index), errors);
        }
    }
}

/// `x-kubernetes-list-type` and what belongs to it.
fn list_keywords(schema: &Value, at: &Path, errors: &mut Vec<FieldError>) {
    let kind = text(schema, "x-kubernetes-list-type");
    let keys: Vec<&str> = list(schema, "x-kubernetes-list-map-keys").iter().filter_map(Value::as_str).collect();
    let at_kind = at.child("x-kubernetes-list-type");
    if !kind.is_empty() {
        if text(schema, "type") != "array" {
            let why = "must be array if x-kubernetes-list-type is specified";
            match text(schema, "type") {
                "" => errors.push(FieldError::required(&at.child("type"), why)),
                other => errors.push(FieldError::invalid(&at.child("type"), other, why)),
            }
        }
        if !matches!(kind, "atomic" | "map" | "set") {
            errors.push(FieldError::not_supported(&at_kind, kind, &["atomic", "map", "set"]));
        }
    }
    let map_type = text(schema, "x-kubernetes-map-type");
    if !matches!(map_type, "" | "atomic" | "granular") {
        let at = at.child("x-kubernetes-map-type");
        errors.push(FieldError::not_supported(&at, map_type, &["atomic", "granular"]));
    }
    let at_keys = at.child("x-kubernetes-list-map-keys");
    if kind != "map" {
        if !keys.is_empty() {
            let why = "must be map if x-kubernetes-list-map-keys is non-empty";
            match kind {
                "" => errors.push(FieldError::required(&at_kind, why)),
                kind => errors.push(FieldError::invalid(&at_kind, kind, why)),
            }
        }
        return;
    }
    if keys.is_empty() {
        errors.push(FieldError::required(&at_keys, "must not be empty if x-kubernetes-list-type is map"));
        return;
    }
    let items = schema.get("items").unwrap_or(&Value::Null);
    if text(items, "type") != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(FieldError::invalid(&at.child("items").child("type"), text(items, "type"), why));
        return;
    }
    for (index, key) in keys.iter().enumerate() {
        let Some(property) = items.get("properties").and_then(|properties| properties.get(*key)) else {
            let why = "entries must all be names of item properties";
            errors.push(FieldError::invalid(&at_keys.index(index), *key, why));
            continue;
        };
        if matches!(text(property, "type"), "array" | "object") {
            let at_items = at.child("items");
            let at_properties = at_items.child("properties");
            let at_property = at_properties.key(key);
            let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            errors.push(FieldError::invalid(&at_property.child("type"), text(property, "type"), why));
        }
        let required = list(items, "required").iter().any(|name| name == key);
        if !required && property.get("default").is_none() {
            let at_items = at.child("items");
            let at_properties = at_items.child("properties");
            let at_property = at_properties.key(key);
            let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required \
                       property";
            errors.push(FieldError::required(&at_property.child("default"), why));
        }
    }
    if (0..keys.len()).any(|index| keys[..index].contains(&keys[index])) {
        let shown = json!(keys);
        errors.push(FieldError::invalid(&at_keys, &shown, "must not contain duplicate entries"));
    }
}

/// What makes a schema structural, but for [`complete`].
fn structure(schema: &Value, at: &Path, level: Level, errors: &mut Vec<FieldError>) {
    let kind = text(schema, "type");
    let (embedded, preserves, int_or_string) = (
        flag(schema, "x-kubernetes-embedded-resource"),
        flag(schema, "x-kubernetes-preserve-unknown-fields"),
        flag(schema, "x-kubernetes-int-or-string"),
    );
    if kind == "array" && schema.get("items").is_none() {
        errors.push(FieldError::required(&at.child("items"), "must be specified"));
    }
    let at_type = at.child("type");
    match (kind, level) {
        (kind, _) if embedded && kind != "object" => {
            let why = "must be object if x-kubernetes-embedded-resource is true";
            match kind {
                "" => errors.push(FieldError::required(&at_type, why)),
                kind => errors.push(FieldError::invalid(&at_type, kind, why)),
            }
        }
        ("", _) if int_or_string || preserves => {}
        ("", Level::Root) => errors.push(FieldError::required(&at_type, "must not be empty at the root")),
        ("", Level::Item) => errors.push(FieldError::required(&at_type, "must not be empty for specified array items")),
        ("", Level::Field) => {
            errors.push(FieldError::required(&at_type, "must not be empty for specified object fields"))
        }
        ("null", _) => {}
        (kind, _) if !TYPES.contains(&kind) => errors.push(FieldError::not_supported(&at_type, kind, &TYPES)),
        (kind, Level::Root) if kind != "object" => {
            errors.push(FieldError::invalid(&at_type, kind, "must be object at the root"));
        }
        _ => {}
    }
    let additional = schema.get("additionalProperties").filter(|additional| **additional != Value::Bool(false));
    if additional.is_some() {
        let at = at.child("additionalProperties");
        match level {
            Level::Root => errors.push(FieldError::forbidden(&at, "must not be used at the root")),
            _ if embedded => {
                let why = "must not be used if x-kubernetes-embedded-resource is set";
                errors.push(FieldError::forbidden(&at, why));
            }
            _ => {}
        }
    }
    if int_or_string {
        for (name, set) in
            [("x-kubernetes-preserve-unknown-fields", preserves), ("x-kubernetes-embedded-resource", embedded)]
        {
            if set {
                let why = "must be false if x-kubernetes-int-or-string is true";
                errors.push(FieldError::invalid(&at.child(name), true, why));
            }
        }
    }
    if embedded && !preserves && fields(schema, "properties").next().is_none() {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without \
                   x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(&at.child("properties"), why));
    }
    if level == Level::Root || embedded {
        type_meta(schema, at, level, errors);
    }
    restrictions(schema, at, is_int_or_string(schema), errors);
    for (name, property) in fields(schema, "properties") {
        structure(property, &at.child("properties").key(name), Level::Field, errors);
    }
    if let Some(items) = schema.get("items").filter(|items| items.is_object()) {
        structure(items, &at.child("items"), Level::Item, errors);
    }
    if let Some(additional) = additional.filter(|additional| additional.is_object()) {
        structure(additional, &at.child("additionalProperties"), Level::Field, errors);
    }
}

/// What every object has, its definition says for it.
fn type_meta(schema: &Value, at: &Path, level: Level, errors: &mut Vec<FieldError>) {
    let at = at.child("properties");
    for (name, property) in fields(schema, "properties") {
        let at = at.key(name);
        let kind = text(property, "type");
        match name.as_str() {
            "apiVersion" | "kind" if kind != "string" => {
                errors.push(FieldError::invalid(&at.child("type"), kind, "must be string"));
            }
            "metadata" => {
                if kind != "object" {
                    errors.push(FieldError::invalid(&at.child("type"), kind, "must be object"));
                }
                let known = |(name, _): (&String, &Value)| matches!(name.as_str(), "name" | "generateName");
                // Names may be restricted; nothing else, and nothing may be said of the whole.
                let only_names = fields(property, "properties").all(known);
                let plain = |(name, _): (&String, &Value)| matches!(name.as_str(), "type" | "properties");
                if level == Level::Root && !(only_names && property.as_object().is_none_or(|p| p.iter().all(plain))) {
                    let why = "must not specify anything other than name and generateName, but metadata is implicitly \
                               specified";
                    errors.push(FieldError::forbidden(&at, why));
                }
            }
            _ => {}
        }
    }
}

/// Whether `anyOf` only says that it may be an integer or a string: allowed, since old schemas say so.
fn is_int_or_string(schema: &Value) -> bool {
    let both = json!([{"type": "integer"}, {"type": "string"}]);
    schema.get("anyOf") == Some(&both)
}

/// What `allOf` and its like may not say, and patterns that are none.
fn restrictions(schema: &Value, at: &Path, skip_any_of: bool, errors: &mut Vec<FieldError>) {
    for name in ["allOf", "anyOf", "oneOf"] {
        if name == "anyOf" && skip_any_of {
            continue;
        }
        for (index, inner) in list(schema, name).iter().enumerate() {
            let skip = name == "allOf" && index == 0 && is_int_or_string(inner);
            restriction(inner, &at.child(name).index(index), skip, errors);
        }
    }
    if let Some(inner) = schema.get("not").filter(|inner| inner.is_object()) {
        restriction(inner, &at.child("not"), false, errors);
    }
    let pattern = text(schema, "pattern");
    if !pattern.is_empty()
        && let Err(error) = crate::go_regex::compile(pattern)
    {
        let why = format!("must be a valid regular expression, but isn't: {error}");
        errors.push(FieldError::invalid(&at.child("pattern"), pattern, why));
    }
}

fn restriction(schema: &Value, at: &Path, skip_any_of: bool, errors: &mut Vec<FieldError>) {
    restrictions(schema, at, skip_any_of, errors);
    const EMPTY: &str = "must be empty to be structural";
    const UNDEFINED: &str = "must be undefined to be structural";
    const FALSE: &str = "must be false to be structural";
    for (name, why) in [
        ("type", EMPTY),
        ("additionalProperties", UNDEFINED),
        ("default", UNDEFINED),
        ("title", EMPTY),
        ("description", EMPTY),
        ("nullable", FALSE),
        ("externalDocs", UNDEFINED),
        ("x-kubernetes-preserve-unknown-fields", FALSE),
        ("x-kubernetes-embedded-resource", FALSE),
        ("x-kubernetes-int-or-string", FALSE),
        ("x-kubernetes-list-map-keys", EMPTY),
        ("x-kubernetes-list-type", UNDEFINED),
        ("x-kubernetes-map-type", UNDEFINED),
        ("x-kubernetes-validations", EMPTY),
    ] {
        let said = match schema.get(name) {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Array(items)) => !items.is_empty(),
            Some(_) => true,
        };
        if said {
            errors.push(FieldError::forbidden(&at.child(name), why));
        }
    }
    for (name, property) in fields(schema, "properties") {
        let at = at.child("properties");
        let at = at.key(name);
        if name == "metadata" {
            errors.push(FieldError::forbidden(&at, "must not be specified in a nested context"));
        }
        restriction(property, &at, false, errors);
    }
    if let Some(items) = schema.get("items").filter(|items| items.is_object()) {
        restriction(items, &at.child("items"), false, errors);
    }
}

/// The schemas in `allOf` and its like, with where they stand.
fn nested(schema: &Value) -> Vec<(String, &Value)> {
    let lists = ["allOf", "anyOf", "oneOf"].into_iter().flat_map(|name| {
        list(schema, name).iter().enumerate().map(move |(index, inner)| (format!("{name}[{index}]"), inner))
    });
    let not = schema.get("not").filter(|inner| inner.is_object()).map(|inner| ("not".to_owned(), inner));
    lists.chain(not).collect()
}

/// Every field that a restriction speaks of must be specified outside of it.
fn complete(schema: &Value, at: &Path, errors: &mut Vec<FieldError>) {
    for (place, restriction) in nested(schema) {
        covers(schema, restriction, at, &format!("{at}.{place}"), errors);
    }
    for (name, property) in fields(schema, "properties") {
        complete(property, &at.child("properties").key(name), errors);
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(name).filter(|inner| inner.is_object()) {
            complete(inner, &at.child(name), errors);
        }
    }
}

/// Whether a schema specifies what a restriction of its values, which stands at `place`, speaks of.
fn covers(schema: &Value, restriction: &Value, at: &Path, place: &str, errors: &mut Vec<FieldError>) {
    for (below, inner) in nested(restriction) {
        covers(schema, inner, at, &format!("{place}.{below}"), errors);
    }
    let why = |place: &str| format!("because it is defined in {place}");
    for (name, property) in fields(restriction, "properties") {
        let (at, place) = (at.child("properties"), format!("{place}.properties[{name}]"));
        match schema.get("properties").and_then(|properties| properties.get(name)) {
            Some(specified) => covers(specified, property, &at.key(name), &place, errors),
            None => errors.push(FieldError::required(&at.key(name), why(&place))),
        }
    }
    if let Some(items) = restriction.get("items").filter(|items| items.is_object()) {
        let (at, place) = (at.child("items"), format!("{place}.items"));
        match schema.get("items") {
            Some(specified) => covers(specified, items, &at, &place, errors),
            None => errors.push(FieldError::required(&at, why(&place))),
        }
    }
}

/// Defaults must be of the type that they are the default of.
fn defaults(schema: &Value, at: &Path, errors: &mut Vec<FieldError>) {
    let kind = text(schema, "type");
    if let Some(default) = schema.get("default")
        && let Some(given) = mismatch(kind, default)
    {
        let why = format!(" in body must be of type {kind}: \"{given}\"");
        errors.push(FieldError::type_invalid(&at.child("default"), given, why));
    }
    for (name, property) in fields(schema, "properties") {
        defaults(property, &at.child("properties").key(name), errors);
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(name).filter(|inner| inner.is_object()) {
            defaults(inner, &at.child(name), errors);
        }
    }
}

/// The type of a value that is not of the type it should be.
fn mismatch(kind: &str, value: &Value) -> Option<&'static str> {
    let given = match value {
        Value::Null => return None,
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = kind.is_empty() || kind == given || kind == "number" && given == "integer";
    (!fits && TYPES.contains(&kind)).then_some(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(schema: Value) -> Vec<String> {
        let mut errors = Vec::new();
        validate(&schema, &Path::new("s"), &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    /// An object with a field `a` of that schema.
    fn with(field: Value) -> Value {
        json!({"type": "object", "properties": {"a": field}})
    }

    #[test]
    fn what_is_not_structural_is_told_as_by_kubernetes() {
        let cases = [
            (json!({}), "s.type: Required value: must not be empty at the root"),
            (
                json!({"type": "object", "additionalProperties": {"type": "string"}}),
                "s.additionalProperties: Forbidden: must not be used at the root",
            ),
            (with(json!({})), "s.properties[a].type: Required value: must not be empty for specified object fields"),
            (
                with(json!({"type": "array", "items": {}})),
                "s.properties[a].items.type: Required value: must not be empty for specified array items",
            ),
            (with(json!({"type": "array"})), "s.properties[a].items: Required value: must be specified"),
            (
                with(
                    json!({"type": "string", "x-kubernetes-embedded-resource": true, "properties": {"b": {"type": "string"}}}),
                ),
                "s.properties[a].type: Invalid value: \"string\": must be object if x-kubernetes-embedded-resource is true",
            ),
            (
                with(json!({"type": "object", "x-kubernetes-embedded-resource": true})),
                "s.properties[a].properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
            ),
            (
                with(json!({"type": "string", "anyOf": [{"type": "string"}]})),
                "s.properties[a].anyOf[0].type: Forbidden: must be empty to be structural",
            ),
            (
                with(json!({"type": "string", "not": {"description": "no"}})),
                "s.properties[a].not.description: Forbidden: must be empty to be structural",
            ),
            (
                with(json!({"type": "object", "oneOf": [{"properties": {"b": {"minimum": 1}}}]})),
                "s.properties[a].properties[b]: Required value: because it is defined in s.properties[a].oneOf[0].properties[b]",
            ),
            (
                with(json!({"type": "string", "pattern": "("})),
                "s.properties[a].pattern: Invalid value: \"(\": must be a valid regular expression, but isn't: ",
            ),
            (
                json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
                "s.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
            ),
            (
                json!({"type": "object", "properties": {"kind": {"type": "integer"}}}),
                "s.properties[kind].type: Invalid value: \"integer\": must be string",
            ),
            (
                with(json!({"type": "array", "items": {"type": "string"}, "uniqueItems": true})),
                "s.properties[a].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            ),
            (
                with(json!({"type": "object", "additionalProperties": false})),
                "s.properties[a].additionalProperties: Forbidden: additionalProperties cannot be set to false",
            ),
            (
                with(
                    json!({"type": "object", "properties": {"b": {"type": "string"}}, "additionalProperties": {"type": "string"}}),
                ),
                "s.properties[a].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
            ),
            (with(json!({"type": "string", "$ref": "#/x"})), "s.properties[a].$ref: Forbidden: $ref is not supported"),
            (
                with(json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "bag"})),
                "s.properties[a].x-kubernetes-list-type: Unsupported value: \"bag\": supported values: \"atomic\", \"map\", \"set\"",
            ),
            (
                with(json!({"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "map"})),
                "s.properties[a].x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
            ),
            (
                with(json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "properties": {"k": {"type": "string"}}}})),
                "s.properties[a].items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            ),
            (
                with(json!({"type": "string", "default": 5})),
                "s.properties[a].default: Invalid value: \"integer\":  in body must be of type string: \"integer\"",
            ),
        ];
        for (schema, expected) in cases {
            let errors = wrong(schema.clone());
            assert!(errors.len() == 1 && errors[0].starts_with(expected), "{schema}\n{errors:#?}\nis not\n{expected}");
        }
    }

    #[test]
    fn structural_schemas_pass() {
        for schema in [
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 5}}}}}),
            with(json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]})),
            with(
                json!({"x-kubernetes-int-or-string": true, "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"pattern": "^a"}]}),
            ),
            with(
                json!({"type": "object", "properties": {"b": {"type": "string"}}, "oneOf": [{"required": ["b"], "properties": {"b": {"minLength": 1}}}]}),
            ),
            with(json!({"type": "object", "additionalProperties": {"type": "string"}})),
            with(json!({"type": "number", "default": 5})),
        ] {
            assert_eq!(wrong(schema.clone()), Vec::<String>::new(), "{schema}");
        }
    }
}
