//! Pods and containers as files describe them: CRI's messages as YAML or JSON, with the definition's names of fields.

use std::path::Path;

use k8s_cri::v1;
use serde::de::value::StringDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};
use serde_json::{Map, Value};

use crate::error::Error;

/// Reads a file with a message.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let failed = |detail: String| Error::File { path: path.to_owned(), detail };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let value: Value = serde_saphyr::from_str(&text).map_err(|error| failed(error.to_string()))?;
    T::deserialize(Reader(Some(value))).map_err(|error| failed(error.to_string()))
}

/// A value, or `None` where the file has none: in protobuf that is the kind's zero, which the generated code, made for
/// formats where every field stands, does not know.
struct Reader(Option<Value>);

/// A value of the wrong kind.
fn wrong(value: &Value, wanted: &str) -> serde_json::Error {
    de::Error::custom(format!("{value} is no {wanted}"))
}

/// The number of an enum's value by its name; no two enums share one that matters here.
fn enum_number(name: &str) -> Option<i32> {
    macro_rules! first {
        ($($kind:ty),*) => {
            None$(.or_else(|| <$kind>::from_str_name(name).map(i32::from)))*
        };
    }
    first!(
        v1::NamespaceMode,
        v1::Protocol,
        v1::MountPropagation,
        v1::security_profile::ProfileType,
        v1::SupplementalGroupsPolicy
    )
}

macro_rules! numbers {
    ($($method:ident, $visit:ident, $kind:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            let number = match &self.0 {
                None | Some(Value::Null) => Some(0),
                Some(Value::Number(number)) => number.as_i64().and_then(|number| <$kind>::try_from(number).ok()),
                Some(Value::String(text)) => {
                    let number = text.parse::<i64>().ok().or_else(|| enum_number(text).map(i64::from));
                    number.and_then(|number| <$kind>::try_from(number).ok())
                }
                Some(_) => None,
            };
            let value = self.0.unwrap_or_default();
            visitor.$visit(number.ok_or_else(|| wrong(&value, stringify!($kind)))?)
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.0.unwrap_or_default().deserialize_any(visitor)
    }

    numbers! {
        deserialize_i32, visit_i32, i32;
        deserialize_u32, visit_u32, u32;
        deserialize_i64, visit_i64, i64;
        deserialize_u64, visit_u64, u64;
        deserialize_u8, visit_u8, u8;
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.0.unwrap_or_default() {
            Value::Null => visitor.visit_bool(false),
            Value::Bool(value) => visitor.visit_bool(value),
            other => Err(wrong(&other, "boolean")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.0.unwrap_or_default() {
            Value::Null => visitor.visit_string(String::new()),
            Value::String(text) => visitor.visit_string(text),
            other => Err(wrong(&other, "string")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.deserialize_string(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.0 {
            None | Some(Value::Null) => visitor.visit_none(),
            Some(_) => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.0.unwrap_or_default() {
            Value::Null => visitor.visit_seq(Items(Vec::new().into_iter())),
            Value::Array(items) => visitor.visit_seq(Items(items.into_iter())),
            other => Err(wrong(&other, "list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.0.unwrap_or_default() {
            Value::Null => visitor.visit_map(Fields::default()),
            Value::Object(entries) => {
                let keys = entries.keys().cloned().collect();
                visitor.visit_map(Fields { keys, entries, value: None })
            }
            other => Err(wrong(&other, "object")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        match self.0.unwrap_or_default() {
            Value::Object(entries) => {
                let keys = fields.iter().rev().map(|field| (*field).to_owned()).collect();
                visitor.visit_map(Fields { keys, entries, value: None })
            }
            other => Err(wrong(&other, name)),
        }
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i128 u16 u128 f32 f64 char bytes byte_buf unit unit_struct newtype_struct tuple tuple_struct enum
        identifier ignored_any
    }
}

struct Items(std::vec::IntoIter<Value>);

impl<'de> de::SeqAccess<'de> for Items {
    type Error = serde_json::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Self::Error> {
        self.0.next().map(|item| seed.deserialize(Reader(Some(item)))).transpose()
    }
}

/// Entries in the order of `keys` from the end, those that are absent too.
#[derive(Default)]
struct Fields {
    keys: Vec<String>,
    entries: Map<String, Value>,
    value: Option<Value>,
}

impl<'de> de::MapAccess<'de> for Fields {
    type Error = serde_json::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Self::Error> {
        let Some(key) = self.keys.pop() else { return Ok(None) };
        self.value = self.entries.remove(&key);
        let key: StringDeserializer<Self::Error> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Self::Error> {
        seed.deserialize(Reader(self.value.take()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read(file.path())
    }

    #[test]
    fn a_pod_is_what_stands_and_zero_else() {
        let pod: v1::PodSandboxConfig = parse(
            "metadata: {name: web, namespace: default, attempt: 1}\nlog_directory: /tmp\nlabels: {app: web}\n\
             port_mappings: [{protocol: UDP, container_port: 53}]\n\
             linux: {security_context: {namespace_options: {network: NODE}}}\n",
        )
        .unwrap();
        let metadata = pod.metadata.unwrap();
        assert_eq!((metadata.name.as_str(), metadata.uid.as_str(), metadata.attempt), ("web", "", 1));
        assert_eq!((pod.labels["app"].as_str(), pod.hostname.as_str()), ("web", ""));
        assert_eq!((pod.port_mappings[0].protocol(), pod.port_mappings[0].container_port), (v1::Protocol::Udp, 53));
        let options = pod.linux.unwrap().security_context.unwrap().namespace_options.unwrap();
        assert_eq!((options.network(), options.pid()), (v1::NamespaceMode::Node, v1::NamespaceMode::Pod));
    }

    #[test]
    fn a_container_may_be_json_and_mistakes_are_named() {
        let text = r#"{"metadata": {"name": "main"}, "image": {"image": "busybox"}, "command": ["top"],
            "linux": {"resources": {"memory_limit_in_bytes": 1048576}}, "tty": true}"#;
        let container: v1::ContainerConfig = parse(text).unwrap();
        assert_eq!(container.image.unwrap().image, "busybox");
        assert_eq!(container.linux.unwrap().resources.unwrap().memory_limit_in_bytes, 1 << 20);
        assert!(container.tty && !container.stdin);
        let error = parse::<v1::ContainerConfig>("command: top").unwrap_err().to_string();
        assert!(error.contains("\"top\" is no list"), "{error}");
    }
}
