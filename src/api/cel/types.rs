//! What an expression may be of: cel-go's types and names.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::schema::{Kind, Schema};

/// The type of a value or an expression.
#[derive(Debug, Clone)]
pub enum Type {
    /// Known only when it is evaluated.
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    List(Arc<Type>),
    Map(Arc<Type>, Arc<Type>),
    Optional(Arc<Type>),
    /// A type as a value.
    Type(Arc<Type>),
    /// An object with named fields.
    Object(Arc<ObjectType>),
    /// A type with functions and nothing else: `kubernetes.Quantity`, `net.IP`…
    Opaque(&'static str),
    /// A parameter of a declaration, such as the `A` of `list(A)`.
    Parameter(&'static str),
    /// A parameter in one call: the number of its substitution.
    Variable(usize),
    /// What could not be typed: the error has been told.
    Error,
}

/// The fields of an object.
#[derive(Debug)]
pub struct ObjectType {
    pub name: String,
    pub fields: Fields,
}

/// Where the fields of an object stand.
#[derive(Debug)]
pub enum Fields {
    /// By their names in expressions (escaped).
    Named(BTreeMap<String, Type>),
    /// In the schema of a built-in kind.
    Builtin(Schema<'static>),
    /// Nowhere: any name will do.
    Any,
}

impl Type {
    /// A list of that.
    pub fn list(element: Type) -> Type {
        Type::List(Arc::new(element))
    }

    /// A map from keys to values.
    pub fn map(key: Type, value: Type) -> Type {
        Type::Map(Arc::new(key), Arc::new(value))
    }

    /// An object with these fields.
    pub fn object(name: impl Into<String>, fields: impl IntoIterator<Item = (String, Type)>) -> Type {
        Type::Object(Arc::new(ObjectType { name: name.into(), fields: Fields::Named(fields.into_iter().collect()) }))
    }

    /// An object with whatever fields.
    pub fn any_object(name: impl Into<String>) -> Type {
        Type::Object(Arc::new(ObjectType { name: name.into(), fields: Fields::Any }))
    }

    /// The type of a built-in kind's field or object.
    pub fn builtin(schema: Schema<'static>) -> Type {
        let any = || Type::Dyn;
        match schema.kind() {
            Kind::Object if schema.preserves_unknown() => Type::map(Type::String, Type::Dyn),
            Kind::Object => {
                let name = schema.type_name().unwrap_or("object").to_owned();
                Type::Object(Arc::new(ObjectType { name, fields: Fields::Builtin(schema) }))
            }
            Kind::Map => Type::map(Type::String, schema.values().map_or_else(any, Type::builtin)),
            Kind::Array => Type::list(schema.items().map_or_else(any, Type::builtin)),
            Kind::String => match schema.format() {
                Some("byte") => Type::Bytes,
                Some("date-time") => Type::Timestamp,
                _ => Type::String,
            },
            Kind::Integer => Type::Int,
            Kind::Number => Type::Double,
            Kind::Boolean => Type::Bool,
            Kind::IntOrString | Kind::Any => Type::Dyn,
        }
    }

    /// Whether it is that very type, dynamic types aside.
    pub fn is(&self, other: &Type) -> bool {
        match (self, other) {
            (Type::List(a), Type::List(b))
            | (Type::Optional(a), Type::Optional(b))
            | (Type::Type(a), Type::Type(b)) => a.is(b),
            (Type::Map(a, c), Type::Map(b, d)) => a.is(b) && c.is(d),
            (Type::Object(a), Type::Object(b)) => a.name == b.name,
            (Type::Opaque(a), Type::Opaque(b)) | (Type::Parameter(a), Type::Parameter(b)) => a == b,
            (Type::Variable(a), Type::Variable(b)) => a == b,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    /// Whether a value of it may be of any type.
    pub fn is_dyn(&self) -> bool {
        matches!(self, Type::Dyn | Type::Error)
    }
}

impl ObjectType {
    /// The type of a field, by its name in expressions.
    pub fn field(&self, name: &str) -> Option<Type> {
        match &self.fields {
            Fields::Named(fields) => fields.get(name).cloned(),
            Fields::Builtin(schema) => schema.field(&unescape(name)?).map(Type::builtin),
            Fields::Any => Some(Type::Dyn),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Dyn => f.write_str("dyn"),
            Type::Null => f.write_str("null"),
            Type::Bool => f.write_str("bool"),
            Type::Int => f.write_str("int"),
            Type::Uint => f.write_str("uint"),
            Type::Double => f.write_str("double"),
            Type::String => f.write_str("string"),
            Type::Bytes => f.write_str("bytes"),
            Type::Duration => f.write_str("google.protobuf.Duration"),
            Type::Timestamp => f.write_str("google.protobuf.Timestamp"),
            Type::List(element) => write!(f, "list({element})"),
            Type::Map(key, value) => write!(f, "map({key}, {value})"),
            Type::Optional(value) => write!(f, "optional_type({value})"),
            Type::Type(of) => write!(f, "type({of})"),
            Type::Object(object) => f.write_str(&object.name),
            Type::Opaque(name) | Type::Parameter(name) => f.write_str(name),
            Type::Variable(number) => write!(f, "_var{number}"),
            Type::Error => f.write_str("!error!"),
        }
    }
}

/// Words that no field can be selected by.
const RESERVED: [&str; 20] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
];

/// The name in expressions of a property: `x-y` is `x__dash__y`. None if it has none.
pub fn escape(property: &str) -> Option<String> {
    if RESERVED.contains(&property) || property == "while" {
        return Some(format!("__{property}__"));
    }
    let mut out = String::with_capacity(property.len());
    let mut chars = property.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '_' if chars.peek() == Some(&'_') => {
                chars.next();
                out.push_str("__underscores__");
            }
            '.' => out.push_str("__dot__"),
            '-' => out.push_str("__dash__"),
            '/' => out.push_str("__slash__"),
            c if c == '_' || c.is_ascii_alphabetic() || (c.is_ascii_digit() && !out.is_empty()) => out.push(c),
            _ => return None,
        }
    }
    (!out.is_empty()).then_some(out)
}

/// The property of a name in expressions. None if it is the name of none.
pub fn unescape(name: &str) -> Option<String> {
    if let Some(word) = name.strip_prefix("__").and_then(|name| name.strip_suffix("__"))
        && (RESERVED.contains(&word) || word == "while")
    {
        return Some(word.to_owned());
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find("__") {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let escapes = [("__underscores__", "__"), ("__dot__", "."), ("__dash__", "-"), ("__slash__", "/")];
        let (escaped, plain) = escapes.into_iter().find(|(escaped, _)| rest.starts_with(escaped))?;
        out.push_str(plain);
        rest = &rest[escaped.len()..];
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_identifiers_are_escaped_both_ways() {
        for (property, name) in [
            ("size", "size"),
            ("x-kubernetes/a.b", "x__dash__kubernetes__slash__a__dot__b"),
            ("namespace", "__namespace__"),
            ("a__b", "a__underscores__b"),
            ("a_b", "a_b"),
        ] {
            assert_eq!(escape(property).as_deref(), Some(name));
            assert_eq!(unescape(name).as_deref(), Some(property));
        }
        assert_eq!(escape("a b"), None);
        assert_eq!(escape("1a"), None);
        assert_eq!(unescape("a__b"), None);
    }
}
