//! Values made of random bytes: the bytes say at every turn what comes next, so a shorter input is a simpler value.

use k3s_api::schema::{Kind, Schema};
use serde_json::{Map, Value, json};

/// How deep a made value goes.
const DEPTH: usize = 7;

/// The bytes of one input, taken one by one; zeros follow the last.
#[derive(Debug, Clone)]
pub struct Choices<'a> {
    bytes: &'a [u8],
}

impl<'a> Choices<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Those that are left.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    fn byte(&mut self) -> usize {
        let Some((byte, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        (*byte).into()
    }

    /// Words of a small language in any order, or any text at all.
    pub fn words(&mut self, of: &[&str], most: usize) -> String {
        if self.below(3) == 0 {
            return String::from_utf8_lossy(self.bytes).into_owned();
        }
        (0..self.below(most)).map(|_| self.of(of)).collect()
    }

    /// One of `from`, the first when there are no more bytes.
    pub fn of<T: Clone>(&mut self, from: &[T]) -> T {
        from[(self.byte() << 8 | self.byte()) % from.len()].clone()
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.byte() % limit
    }

    /// Texts that mean something somewhere, and some that do nowhere.
    pub fn text(&mut self) -> String {
        const TEXTS: &[&str] = &[
            "a",
            "",
            "x",
            "a/b",
            "a.b/c",
            "-",
            "é",
            "\u{0}",
            "日本",
            "1",
            "-1",
            "1Gi",
            "1e400",
            "100m",
            "Always",
            "ClusterIP",
            "None",
            "10.0.0.1",
            "::1",
            "10.0.0.0/8",
            "2026-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999999Z",
            "http",
            "65536",
            "50%",
            "101%",
            "* * * * *",
            "@daily",
            "$patch",
            "replace",
            "k8s.io/a",
            "name",
            "\"",
            "\\",
            "\n",
            "%",
            "v1",
            "apps/v1",
            "/",
            "~1",
            "true",
            "null",
            "In",
            "Exists",
            "NoExecute",
            "sha256:0",
            "*",
            "..",
        ];
        match self.byte() {
            0..=240 => self.of(TEXTS).to_owned(),
            length => "long".repeat(length),
        }
    }

    fn number(&mut self) -> Value {
        let numbers = [
            json!(0),
            json!(1),
            json!(-1),
            json!(80),
            json!(65536),
            json!(i32::MAX),
            json!(i64::MAX),
            json!(i64::MIN),
            json!(u64::MAX),
            json!(1.5),
            json!(-0.0),
            json!(1e308),
            json!(9007199254740993_u64),
        ];
        self.of(&numbers)
    }

    /// Any JSON value.
    pub fn any(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 4 } else { 6 }) {
            0 => Value::Null,
            1 => Value::Bool(self.below(2) == 1),
            2 => self.number(),
            3 => Value::String(self.text()),
            4 => (0..self.below(4)).map(|_| self.any(depth - 1)).collect(),
            _ => (0..self.below(4)).map(|_| (self.text(), self.any(depth - 1))).collect::<Map<_, _>>().into(),
        }
    }

    /// A value that the schema nearly has.
    pub fn of_schema(&mut self, schema: Schema<'_>) -> Value {
        self.shaped(schema, DEPTH)
    }

    fn shaped(&mut self, schema: Schema<'_>, depth: usize) -> Value {
        // Now and then something else.
        if depth == 0 || self.below(24) == 23 {
            return self.any(1);
        }
        match schema.kind() {
            Kind::Object => {
                let fields: Vec<_> = schema.fields().collect();
                let mut object = Map::new();
                let mut wanted: Vec<_> =
                    schema.required().filter_map(|name| Some((name, schema.field(name)?))).collect();
                if !fields.is_empty() {
                    wanted.extend((0..self.below(5)).map(|_| self.of(&fields)));
                }
                for (name, field) in wanted {
                    let value = self.shaped(field, depth - 1);
                    object.insert(name.to_owned(), value);
                }
                if self.below(40) == 39 {
                    object.insert(self.text(), self.any(1));
                }
                object.into()
            }
            Kind::Map => {
                let Some(values) = schema.values() else { return self.any(1) };
                (0..self.below(3)).map(|_| (self.text(), self.shaped(values, depth - 1))).collect::<Map<_, _>>().into()
            }
            Kind::Array => {
                let Some(items) = schema.items() else { return self.any(1) };
                (0..self.below(4)).map(|_| self.shaped(items, depth - 1)).collect()
            }
            Kind::String => Value::String(self.text()),
            Kind::Integer => {
                let number = self.number();
                if number.is_f64() || number.is_u64() && number.as_i64().is_none() { json!(2) } else { number }
            }
            Kind::Number => self.number(),
            Kind::Boolean => Value::Bool(self.below(2) == 1),
            Kind::IntOrString => self.any(0),
            Kind::Any => self.any(2),
        }
    }
}
