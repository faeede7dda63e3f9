//! Rules in CEL (`x-kubernetes-validations`), compiled once per definition.

use std::sync::Arc;

use serde_json::Value as Json;

use super::cost::{self, Cardinality, Total};
use super::{Kind, Structural, correlated, fields, list};
use crate::cel::{self, Activation, Environment, Error, Program, Sizes, Type, Value, types};
use crate::validation::{FieldError, Path, Verbatim};

/// The rules of a schema and of those below it.
#[derive(Debug, Default)]
pub struct Rules {
    own: Vec<Rule>,
    items: Option<Box<Rules>>,
    additional: Option<Box<Rules>>,
    properties: Vec<(String, Rules)>,
}

/// One rule.
#[derive(Debug)]
struct Rule {
    program: Program,
    /// What is told when it does not hold; that of `message_expression`, if it can be had.
    message: String,
    /// How errors of the rule itself name it.
    shown: String,
    message_expression: Option<Program>,
    reason: String,
    /// The field that the error is about, from where the rule stands: `.a.b`.
    field_path: String,
    uses_old: bool,
    optional_old: bool,
}

impl Rules {
    /// Those of a schema; what cannot be compiled is added to the errors.
    pub fn compile(schema: &Json, at: &Path, errors: &mut Vec<FieldError>) -> Self {
        Self::of(schema, at, true, Cardinality::Bounded(1), &mut Total::default(), errors)
    }

    /// Adds which rules of a schema might cost too much, as far as they can be compiled.
    pub fn check_costs(schema: &Json, at: &Path, errors: &mut Vec<FieldError>) {
        let mut total = Total::default();
        // What cannot be compiled is told by `compile`.
        Self::of(schema, at, true, Cardinality::Bounded(1), &mut total, &mut Vec::new());
        total.finish(at, errors);
    }

    fn of(
        schema: &Json,
        at: &Path,
        root: bool,
        many: Cardinality,
        total: &mut Total,
        errors: &mut Vec<FieldError>,
    ) -> Self {
        let validations = list(schema, "x-kubernetes-validations");
        let mut own = Vec::new();
        if !validations.is_empty() {
            let of = type_of(schema, root);
            let list = at.child("x-kubernetes-validations");
            let (sizes, smallest) = cost::sizes(schema);
            for (index, rule) in validations.iter().enumerate() {
                let at = list.index(index);
                let Some(rule) = Rule::compile(rule, &of, &at, errors) else { continue };
                total.add(&at.child("rule"), rule.most_it_may_cost(&sizes), many, smallest);
                own.push(rule);
            }
        }
        let properties = at.child("properties");
        let (items_at, additional_at) = (at.child("items"), at.child("additionalProperties"));
        let mut below = |name: &str, limit: &str, at: &Path| {
            let elements = schema.get(name).filter(|schema| schema.is_object())?;
            let rules = Self::of(elements, at, false, many.of_elements(schema, limit), total, errors);
            (!rules.is_empty()).then(|| Box::new(rules))
        };
        let items = below("items", "maxItems", &items_at);
        let additional = below("additionalProperties", "maxProperties", &additional_at);
        let properties = fields(schema, "properties")
            .map(|(name, schema)| (name.clone(), Self::of(schema, &properties.key(name), false, many, total, errors)))
            .filter(|(_, rules)| !rules.is_empty())
            .collect();
        Self { own, items, additional, properties }
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.items.is_none() && self.additional.is_none() && self.properties.is_empty()
    }

    /// Adds what the rules find wrong.
    pub fn validate(&self, schema: &Structural, new: &Json, old: Option<&Json>, errors: &mut Vec<FieldError>) {
        let mut budget = cel::RUNTIME_BUDGET;
        // Whoever runs out of the budget has told so.
        let _ = self.walk(schema, new, old, "", &mut budget, errors);
    }

    fn walk(
        &self,
        schema: &Structural,
        new: &Json,
        old: Option<&Json>,
        path: &str,
        budget: &mut u64,
        errors: &mut Vec<FieldError>,
    ) -> Result<(), OutOfBudget> {
        for rule in &self.own {
            rule.check(schema, new, old, path, budget, errors)?;
        }
        match new {
            Json::Object(fields) => {
                for (name, value) in fields {
                    let Some(child) = schema.child(name) else { continue };
                    let old = old.and_then(|old| old.get(name));
                    let named = self.properties.binary_search_by(|(other, _)| other.as_str().cmp(name)).ok();
                    let (rules, at) = match named {
                        Some(index) if path.is_empty() => (&self.properties[index].1, name.clone()),
                        Some(index) => (&self.properties[index].1, format!("{path}.{name}")),
                        None => match &self.additional {
                            Some(rules) if !schema.properties.contains_key(name) => {
                                (&**rules, format!("{path}[{name}]"))
                            }
                            _ => continue,
                        },
                    };
                    rules.walk(child, value, old, &at, budget, errors)?;
                }
            }
            Json::Array(items) => {
                let (Some(rules), Some(child)) = (&self.items, schema.items()) else { return Ok(()) };
                for (index, item) in items.iter().enumerate() {
                    let old = correlated(schema, old, item);
                    rules.walk(child, item, old, &format!("{path}[{index}]"), budget, errors)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// No further rule is run.
struct OutOfBudget;

impl Rule {
    fn compile(rule: &Json, of: &Type, at: &Path, errors: &mut Vec<FieldError>) -> Option<Self> {
        let text = |name: &str| rule.get(name).and_then(Json::as_str).unwrap_or_default();
        let optional_old = rule.get("optionalOldSelf") == Some(&Json::Bool(true));
        let source = text("rule");
        if source.trim().is_empty() {
            errors.push(FieldError::required(&at.child("rule"), "rule is not specified"));
            return None;
        }
        let old = if optional_old { Type::Optional(Arc::new(of.clone())) } else { of.clone() };
        let environment = Environment::new().with("self", of.clone()).with("oldSelf", old);
        let mut compile = |field: &str, source: &str, wanted: &Type, otherwise: &str| {
            let mut refuse = |why: String| {
                let shown =
                    if field == "rule" { Verbatim(go_struct(rule)) } else { Verbatim(crate::quote::quote(source)) };
                errors.push(FieldError::invalid(&at.child(field), shown, why));
            };
            match environment.compile(source) {
                Ok(program) if program.output().is_dyn() || program.output().is(wanted) => Some(program),
                Ok(_) => {
                    refuse(otherwise.to_owned());
                    None
                }
                Err(issues) => {
                    let what =
                        if field == "rule" { "compilation failed" } else { "messageExpression compilation failed" };
                    refuse(format!("{what}: {issues}"));
                    None
                }
            }
        };
        let program = compile("rule", source, &Type::Bool, "cel expression must evaluate to a bool")?;
        let expression = text("messageExpression");
        let message_expression = match expression.trim() {
            "" => None,
            _ => Some(compile(
                "messageExpression",
                expression,
                &Type::String,
                "messageExpression must evaluate to a string",
            )?),
        };
        let given = text("message").trim();
        Some(Self {
            uses_old: program.uses("oldSelf"),
            program,
            message: if given.is_empty() { format!("failed rule: {}", source.trim()) } else { given.to_owned() },
            shown: if given.is_empty() { source.trim().to_owned() } else { given.to_owned() },
            message_expression,
            reason: text("reason").to_owned(),
            field_path: text("fieldPath").to_owned(),
            optional_old,
        })
    }

    /// The most that checking one value may cost.
    fn most_it_may_cost(&self, sizes: &Sizes) -> u64 {
        self.program.most_it_may_cost(&[("self", sizes), ("oldSelf", sizes)])
    }

    fn check(
        &self,
        schema: &Structural,
        new: &Json,
        old: Option<&Json>,
        path: &str,
        budget: &mut u64,
        errors: &mut Vec<FieldError>,
    ) -> Result<(), OutOfBudget> {
        if self.uses_old && old.is_none() && !self.optional_old {
            return Ok(());
        }
        // Ratcheting: what an update leaves as it was may stay wrong.
        if !self.uses_old && old == Some(new) {
            return Ok(());
        }
        let mut activation =
            Activation::new(cel::PER_CALL_LIMIT.min(*budget)).with("self", Value::of_json(new, Some(schema)));
        let before = old.map(|old| Value::of_json(old, Some(schema)));
        match (self.optional_old, before) {
            (true, before) => activation.set("oldSelf", Value::Optional(before.map(Arc::new))),
            (false, Some(before)) => activation.set("oldSelf", before),
            (false, None) => {}
        }
        let at = if path.is_empty() { "<nil>" } else { path };
        let of = schema.kind().map_or("", Kind::name);
        let result = self.program.evaluate(&activation);
        *budget = budget.saturating_sub(activation.cost());
        match result {
            Ok(Value::Bool(true)) => return Ok(()),
            Err(Error::Cost) => {
                let why = match *budget {
                    0 => "validation failed due to running out of cost budget, no further validation rules will be run"
                        .to_owned(),
                    _ => format!(
                        "'{}': no further validation rules will be run due to call cost exceeds limit for rule: {}",
                        Error::Cost,
                        self.shown
                    ),
                };
                errors.push(FieldError::at_text(at, of, why));
                return Err(OutOfBudget);
            }
            Err(error) => {
                let error = error.to_string();
                let why = match error.starts_with("no such overload") {
                    true => format!(
                        "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {}",
                        self.shown
                    ),
                    false => format!("{error} evaluating rule: {}", self.shown),
                };
                errors.push(FieldError::at_text(at, of, why));
                return Ok(());
            }
            Ok(_) => {}
        }
        let message = self.message_expression.as_ref().and_then(|program| {
            let message = program.evaluate(&activation);
            match message {
                Ok(Value::String(text)) if !text.trim().is_empty() && !text.contains('\n') => Some(text.into_owned()),
                _ => None,
            }
        });
        let field = match (path, self.field_path.as_str()) {
            ("", "") => "<nil>".to_owned(),
            ("", below) => below.trim_start_matches('.').to_owned(),
            (path, below) => format!("{path}{below}"),
        };
        errors.push(FieldError::of_rule(&field, &self.reason, message.unwrap_or_else(|| self.message.clone())));
        Ok(())
    }
}

/// A rule as Go prints its struct.
fn go_struct(rule: &Json) -> String {
    let text = |name: &str| rule.get(name).cloned().unwrap_or_else(|| "".into()).to_string();
    let pointer = |name: &str| rule.get(name).cloned().unwrap_or(Json::Null).to_string();
    format!(
        "{{\"Rule\":{},\"Message\":{},\"MessageExpression\":{},\"Reason\":{},\"FieldPath\":{},\"OptionalOldSelf\":{}}}",
        text("rule"),
        text("message"),
        text("messageExpression"),
        pointer("reason"),
        text("fieldPath"),
        pointer("optionalOldSelf")
    )
}

/// The type of a custom resource's objects in expressions, by its `openAPIV3Schema`.
pub fn object_type(schema: &Json) -> Type {
    type_of(schema, true)
}

/// The type of a schema's values in expressions. Of the whole object, of an embedded one too, expressions see kind, name
/// and no other metadata.
fn type_of(schema: &Json, root: bool) -> Type {
    let flag = |name: &str| schema.get(name) == Some(&Json::Bool(true));
    if flag("x-kubernetes-int-or-string") {
        return Type::Dyn;
    }
    let format = schema.get("format").and_then(Json::as_str).unwrap_or_default();
    match schema.get("type").and_then(Json::as_str).and_then(Kind::parse) {
        None => Type::Dyn,
        Some(Kind::Boolean) => Type::Bool,
        Some(Kind::Integer) => Type::Int,
        Some(Kind::Number) => Type::Double,
        Some(Kind::String) => match format {
            "byte" => Type::Bytes,
            "duration" => Type::Duration,
            "date" | "date-time" => Type::Timestamp,
            _ => Type::String,
        },
        Some(Kind::Array) => Type::list(schema.get("items").map_or(Type::Dyn, |items| type_of(items, false))),
        Some(Kind::Object) => {
            if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
                return Type::map(Type::String, type_of(values, false));
            }
            let own = fields(schema, "properties")
                .filter_map(|(name, schema)| Some((types::escape(name)?, type_of(schema, false))));
            let mut named: Vec<(String, Type)> = own.collect();
            let whole = root || flag("x-kubernetes-embedded-resource");
            if flag("x-kubernetes-preserve-unknown-fields") && named.is_empty() && !whole {
                return Type::map(Type::String, Type::Dyn);
            }
            if whole {
                named.retain(|(name, _)| !matches!(name.as_str(), "apiVersion" | "kind" | "metadata"));
                let texts = ["name", "generateName"].map(|name| (name.to_owned(), Type::String));
                named.push(("metadata".to_owned(), Type::object("object.metadata", texts)));
                named.extend(["apiVersion", "kind"].map(|name| (name.to_owned(), Type::String)));
            }
            Type::object("object", named)
        }
    }
}
