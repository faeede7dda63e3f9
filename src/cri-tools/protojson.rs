//! CRI's messages as JSON in protobuf's form: names in camel case, enums by name, 64-bit numbers as strings, defaults
//! included.
//!
//! <https://protobuf.dev/programming-guides/json/>. The generated messages implement `Serialize` with Rust's names and
//! enums as numbers; this serializer writes what they say in the other form.

use std::fmt::Display;

use k8s_cri::v1;
use serde::Serialize;
use serde::ser::{self, Impossible};
use serde_json::{Map, Value};

/// A message as JSON.
pub fn to_value<T: Serialize>(message: &T) -> Value {
    // Messages are made of what is written below; anything else would be a mistake in this file.
    message.serialize(Writer).unwrap_or_else(|error| panic!("a message can't be written as JSON: {error}"))
}

/// The name of an enum's value, where a field is an enum.
fn enum_name(message: &str, field: &str, number: i32) -> Option<&'static str> {
    macro_rules! name {
        ($kind:ty) => {
            <$kind>::try_from(number).ok().map(|value| value.as_str_name())
        };
    }
    match (message, field) {
        ("PodSandbox" | "PodSandboxStatus" | "PodSandboxStateValue", "state") => name!(v1::PodSandboxState),
        ("Container" | "ContainerStatus" | "ContainerStateValue", "state") => name!(v1::ContainerState),
        ("NamespaceOption", "network" | "pid" | "ipc") | ("UserNamespace", "mode") => name!(v1::NamespaceMode),
        ("Mount", "propagation") => name!(v1::MountPropagation),
        ("SecurityProfile", "profile_type") => name!(v1::security_profile::ProfileType),
        ("PortMapping", "protocol") => name!(v1::Protocol),
        ("ContainerEventResponse", "container_event_type") => name!(v1::ContainerEventType),
        ("LinuxRuntimeConfiguration", "cgroup_driver") => name!(v1::CgroupDriver),
        ("Metric", "metric_type") => name!(v1::MetricType),
        (_, "supplemental_groups_policy") => name!(v1::SupplementalGroupsPolicy),
        _ => None,
    }
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |text, word| {
        let mut letters = word.chars();
        let head = letters.next().map(|letter| letter.to_ascii_uppercase());
        text + &head.into_iter().chain(letters).collect::<String>()
    })
}

/// What can't be written.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

impl ser::Error for Error {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

struct Writer;

macro_rules! unknown {
    ($($method:ident($($argument:ident: $kind:ty),*) -> $answer:ty;)*) => {$(
        fn $method(self, $($argument: $kind),*) -> Result<$answer, Error> {
            $(let _ = $argument;)*
            Err(Error(concat!("no message has what ", stringify!($method), " writes").to_owned()))
        }
    )*};
}

macro_rules! plain {
    ($($method:ident($kind:ty);)*) => {$(
        fn $method(self, value: $kind) -> Result<Value, Error> {
            Ok(Value::from(value))
        }
    )*};
}

impl ser::Serializer for Writer {
    type Ok = Value;
    type Error = Error;
    type SerializeSeq = List;
    type SerializeTuple = Impossible<Value, Error>;
    type SerializeTupleStruct = Impossible<Value, Error>;
    type SerializeTupleVariant = Impossible<Value, Error>;
    type SerializeMap = Entries;
    type SerializeStruct = Message;
    type SerializeStructVariant = Impossible<Value, Error>;

    plain! {
        serialize_bool(bool); serialize_i8(i8); serialize_i16(i16); serialize_i32(i32); serialize_u8(u8);
        serialize_u16(u16); serialize_u32(u32); serialize_f32(f32); serialize_f64(f64); serialize_str(&str);
    }

    fn serialize_i64(self, value: i64) -> Result<Value, Error> {
        Ok(Value::from(value.to_string()))
    }

    fn serialize_u64(self, value: u64) -> Result<Value, Error> {
        Ok(Value::from(value.to_string()))
    }

    fn serialize_none(self) -> Result<Value, Error> {
        Ok(Value::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Value, Error> {
        Ok(Value::Null)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<Value, Error> {
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<List, Error> {
        Ok(List(Vec::new()))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Entries, Error> {
        Ok(Entries(Map::new(), String::new()))
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Message, Error> {
        Ok(Message { name, fields: Map::new() })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Value, Error> {
        Err(Error("no message has a variant".to_owned()))
    }

    unknown! {
        serialize_char(value: char) -> Value;
        serialize_bytes(value: &[u8]) -> Value;
        serialize_unit_struct(name: &'static str) -> Value;
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str) -> Value;
        serialize_tuple(length: usize) -> Impossible<Value, Error>;
        serialize_tuple_struct(name: &'static str, length: usize) -> Impossible<Value, Error>;
        serialize_tuple_variant(name: &'static str, index: u32, variant: &'static str, length: usize)
            -> Impossible<Value, Error>;
        serialize_struct_variant(name: &'static str, index: u32, variant: &'static str, length: usize)
            -> Impossible<Value, Error>;
    }
}

struct List(Vec<Value>);

impl ser::SerializeSeq for List {
    type Ok = Value;
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.0.push(value.serialize(Writer)?);
        Ok(())
    }

    fn end(self) -> Result<Value, Error> {
        Ok(Value::Array(self.0))
    }
}

/// A map, and the key whose value comes next. Keys are data and stay as they are.
struct Entries(Map<String, Value>, String);

impl ser::SerializeMap for Entries {
    type Ok = Value;
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.1 = match key.serialize(Writer)? {
            Value::String(key) => key,
            key => key.to_string(),
        };
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.0.insert(std::mem::take(&mut self.1), value.serialize(Writer)?);
        Ok(())
    }

    fn end(self) -> Result<Value, Error> {
        Ok(Value::Object(self.0))
    }
}

struct Message {
    name: &'static str,
    fields: Map<String, Value>,
}

impl ser::SerializeStruct for Message {
    type Ok = Value;
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
        let value = value.serialize(Writer)?;
        let number = value.as_i64().and_then(|number| i32::try_from(number).ok());
        let named = number.and_then(|number| enum_name(self.name, key, number)).map(Value::from);
        self.fields.insert(camel_case(key), named.unwrap_or(value));
        Ok(())
    }

    fn end(self) -> Result<Value, Error> {
        Ok(Value::Object(self.fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn messages_have_protobufs_form() {
        let container = v1::Container {
            id: "abc".into(),
            pod_sandbox_id: "def".into(),
            state: v1::ContainerState::ContainerRunning.into(),
            created_at: 1_700_000_000_000_000_000,
            labels: [("io.kubernetes.pod_name".to_owned(), "web".to_owned())].into(),
            ..Default::default()
        };
        let value = to_value(&container);
        assert_eq!(value["podSandboxId"], "def");
        assert_eq!(value["state"], "CONTAINER_RUNNING");
        assert_eq!(value["createdAt"], "1700000000000000000");
        assert_eq!(value["labels"], json!({"io.kubernetes.pod_name": "web"}));
        assert_eq!((&value["metadata"], &value["imageRef"]), (&Value::Null, &json!("")));
    }

    #[test]
    fn numbers_that_are_no_enums_stay_numbers() {
        let status = v1::ContainerStatus { exit_code: 1, ..Default::default() };
        assert_eq!(to_value(&status)["exitCode"], 1);
        let usage = v1::FilesystemUsage { used_bytes: Some(v1::UInt64Value { value: 7 }), ..Default::default() };
        assert_eq!(to_value(&usage)["usedBytes"], json!({"value": "7"}));
    }
}
