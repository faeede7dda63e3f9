//! The table of protobuf messages: `data/protobuf.txt`, with the names that fields have in JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Map, Value};

/// A message as it is written down.
struct Message<'a> {
    name: &'a str,
    fields: Vec<(&'a str, u32, &'a str)>,
}

fn messages(text: &str) -> Vec<Message<'_>> {
    let mut messages: Vec<Message> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words.as_slice(), messages.last_mut()) {
            ([name], _) => messages.push(Message { name, fields: Vec::new() }),
            ([field, number, kind], Some(message)) => {
                let number = number.parse().unwrap_or_else(|_| panic!("data/protobuf.txt: no number: {line}"));
                message.fields.push((field, number, kind));
            }
            _ => panic!("data/protobuf.txt: neither message nor field: {line}"),
        }
    }
    // Go writes fields in the order of their numbers.
    messages.iter_mut().for_each(|message| message.fields.sort_by_key(|(_, number, _)| *number));
    messages
}

/// A name without what the two forms write differently.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

fn properties<'a>(definitions: &'a Map<String, Value>, name: &str) -> Option<(&'a str, &'a Map<String, Value>)> {
    let (name, schema) = definitions.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
    Some((name, schema.get("properties")?.as_object()?))
}

/// Strings that are numbered in the order in which they first come.
#[derive(Default)]
struct Names {
    numbers: BTreeMap<String, usize>,
    text: String,
    ends: Vec<usize>,
}

impl Names {
    fn number(&mut self, name: &str) -> usize {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        self.text.push_str(name);
        self.ends.push(self.text.len());
        self.numbers.insert(name.to_owned(), self.ends.len() - 1);
        self.ends.len() - 1
    }
}

/// What `Element` a field is of, and the name of its message, if it is one.
fn element(kind: &str, is_inline: bool) -> (&'static str, Option<&str>) {
    match (kind, kind.rsplit('.').next().unwrap_or_default()) {
        ("string", _) => ("String", None),
        ("bytes", _) => ("Bytes", None),
        ("bool", _) => ("Bool", None),
        ("int32" | "int64", _) => ("Integer", None),
        ("double", _) => ("Double", None),
        (_, "Time") => ("Time", None),
        (_, "MicroTime") => ("MicroTime", None),
        (_, "Quantity") => ("Quantity", None),
        (_, "IntOrString") => ("IntOrString", None),
        (_, "RawExtension" | "FieldsV1" | "Json") => ("Raw", None),
        (_, "ExtraValue" | "Verbs") => ("Strings", None),
        (name, "JsonSchemaPropsOrArray" | "JsonSchemaPropsOrBool" | "JsonSchemaPropsOrStringArray") => {
            ("Either", Some(name))
        }
        (name, _) if is_inline => ("Inline", Some(name)),
        (name, _) => ("Message", Some(name)),
    }
}

/// The table as Rust source.
pub fn source(definitions: &Map<String, Value>) -> String {
    let text = std::fs::read_to_string("data/protobuf.txt").expect("data/protobuf.txt is there");
    let messages = messages(&text);
    let index = |name: &str| {
        messages.iter().position(|message| message.name == name).unwrap_or_else(|| panic!("data/protobuf.txt: {name}"))
    };
    // Messages that are inline in JSON have no definition of their own: their fields are properties of what they are in.
    let mut around: BTreeMap<&str, &Map<String, Value>> = BTreeMap::new();
    for message in &messages {
        let Some((_, all)) = properties(definitions, message.name) else { continue };
        for (field, _, kind) in &message.fields {
            if !all.keys().any(|key| plain(key) == plain(field)) {
                around.insert(kind, all);
            }
        }
    }
    let (mut names, mut packages) = (Names::default(), Vec::new());
    let (mut of_messages, mut of_fields, mut count) = (String::new(), String::new(), 0);
    for message in &messages {
        let known = properties(definitions, message.name)
            .or_else(|| around.get(message.name).map(|properties| (message.name, *properties)));
        let name = known.map_or(message.name, |(name, _)| name);
        let (package, kind) = name.rsplit_once('.').unwrap_or_else(|| panic!("data/protobuf.txt: no package: {name}"));
        let package = packages.iter().position(|known| *known == package).unwrap_or_else(|| {
            packages.push(package);
            packages.len() - 1
        });
        let (kind, fields) = (names.number(kind), message.fields.len());
        let _ = write!(of_messages, "Message{{package:{package},kind:{kind},first:{count},fields:{fields}}},");
        count += fields;
        for (field, number, kind) in &message.fields {
            let (shape, kind) = match (kind.strip_prefix("[]"), kind.strip_prefix("{}")) {
                (Some(element), _) => ("List", element),
                (_, Some(element)) => ("Map", element),
                _ => ("One", *kind),
            };
            let json = known.and_then(|(_, all)| all.keys().find(|key| plain(key) == plain(field)));
            let name = names.number(json.map_or(*field, String::as_str));
            let (element, inner) = element(kind, json.is_none() && known.is_some());
            let message = inner.map_or(0, index);
            let _ = write!(
                of_fields,
                "Field{{number:{number},shape:Shape::{shape},element:Element::{element},name:{name},message:{message}}},"
            );
        }
    }
    format!(
        "static PACKAGES: [&str; {}] = {packages:?};\nstatic MESSAGES: [Message; {}] = [{of_messages}];\n\
         static FIELDS: [Field; {count}] = [{of_fields}];\nstatic NAMES: &str = {:?};\n\
         static NAME_ENDS: [u16; {}] = {:?};\n",
        packages.len(),
        messages.len(),
        names.text,
        names.ends.len(),
        names.ends
    )
}
