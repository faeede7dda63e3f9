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
    let mut out = format!("static MESSAGES: [Message; {}] = [\n", messages.len());
    for message in &messages {
        let known = properties(definitions, message.name)
            .or_else(|| around.get(message.name).map(|properties| (message.name, *properties)));
        let _ = write!(out, "Message{{name:{:?},fields:&[", known.map_or(message.name, |(name, _)| name));
        for (field, number, kind) in &message.fields {
            let (shape, element) = match (kind.strip_prefix("[]"), kind.strip_prefix("{}")) {
                (Some(element), _) => ("List", element),
                (_, Some(element)) => ("Map", element),
                _ => ("One", *kind),
            };
            let json = known.and_then(|(_, all)| all.keys().find(|key| plain(key) == plain(field)));
            let name = json.map_or(*field, String::as_str);
            let of_message = |name: &str| match name.rsplit('.').next().unwrap_or_default() {
                "Time" => "Time".to_owned(),
                "MicroTime" => "MicroTime".to_owned(),
                "Quantity" => "Quantity".to_owned(),
                "IntOrString" => "IntOrString".to_owned(),
                "RawExtension" | "FieldsV1" | "Json" => "Raw".to_owned(),
                "JsonSchemaPropsOrArray" | "JsonSchemaPropsOrBool" | "JsonSchemaPropsOrStringArray" => {
                    format!("Either({})", index(name))
                }
                "ExtraValue" => "Strings".to_owned(),
                _ if json.is_none() && known.is_some() => format!("Inline({})", index(name)),
                _ => format!("Message({})", index(name)),
            };
            let element = match element {
                "string" => "String".to_owned(),
                "bytes" => "Bytes".to_owned(),
                "bool" => "Bool".to_owned(),
                "int32" | "int64" => "Integer".to_owned(),
                "double" => "Double".to_owned(),
                name => of_message(name),
            };
            let _ =
                write!(out, "Field{{number:{number},name:{name:?},shape:Shape::{shape},element:Element::{element}}},");
        }
        out.push_str("]},\n");
    }
    out.push_str("];\n");
    out
}
