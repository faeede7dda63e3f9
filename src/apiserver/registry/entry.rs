//! One version of one object, encoded.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use k3s_api::object;
use k3s_kine::Revision;
use parking_lot::Mutex;
use serde_json::Value;

use super::Error;

/// A stored object at one revision: the bytes that get, list and watch send, and its parsed form while someone uses it.
pub struct Entry {
    key: Arc<str>,
    revision: Revision,
    bytes: Bytes,
    /// Kept only as long as someone holds it: a parsed object is many times the size of its bytes.
    value: Mutex<Weak<Value>>,
}

impl Entry {
    /// From what the datastore holds. `key` is `namespace/name`, or the name alone for cluster-scoped resources.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the value is no JSON object.
    pub fn decode(key: Arc<str>, revision: Revision, stored: &[u8]) -> Result<Self, Error> {
        let version = u64::try_from(revision).unwrap_or_default();
        let bytes = match object::with_resource_version(stored, version) {
            Some(bytes) => bytes,
            // Not written by this server: bring it into the form that every reader relies on.
            None => {
                let damaged = |detail: String| Error::Damaged { key: key.to_string(), detail };
                let value: Value = serde_json::from_slice(stored).map_err(|error| damaged(error.to_string()))?;
                object::with_resource_version(&object::encode(&value), version)
                    .ok_or_else(|| damaged("it is not an object".to_owned()))?
            }
        };
        Ok(Self { key, revision, bytes: bytes.into(), value: Mutex::new(Weak::new()) })
    }

    /// Of an object as it is shown at that revision.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it is no object.
    pub(crate) fn of_value(key: Arc<str>, revision: Revision, value: &Value) -> Result<Self, Error> {
        Self::decode(key, revision, &object::encode(value))
    }

    /// Whether the object is of that version, told from its first bytes. `group` is not empty.
    pub(crate) fn is_of(&self, group: &str, version: &str) -> bool {
        let rest = self.bytes.strip_prefix(br#"{"apiVersion":""#);
        let rest = rest.and_then(|rest| rest.strip_prefix(group.as_bytes()));
        let rest = rest.and_then(|rest| rest.strip_prefix(b"/")?.strip_prefix(version.as_bytes()));
        rest.is_some_and(|rest| rest.starts_with(b"\""))
    }

    /// `namespace/name`, or the name alone for cluster-scoped resources.
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// The namespace; empty for cluster-scoped resources.
    pub fn namespace(&self) -> &str {
        self.key.rsplit_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// The object's name.
    pub fn name(&self) -> &str {
        self.key.rsplit_once('/').map_or(&*self.key, |(_, name)| name)
    }

    /// The revision of the write that made this version.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The whole object as JSON, with its resource version, beginning with `{"apiVersion":…,"kind":…,"metadata":{`.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The same object at another revision: in a deletion, or a change that ends its selection.
    pub(crate) fn at(&self, revision: Revision) -> Self {
        const VERSION: &[u8] = br#""metadata":{"resourceVersion":""#;
        let start = self.bytes.windows(VERSION.len()).position(|window| window == VERSION);
        let start = start.map_or(0, |at| at + VERSION.len());
        let end = self.bytes[start..].iter().position(|byte| *byte == b'"').map_or(start, |len| start + len);
        let bytes = [&self.bytes[..start], revision.to_string().as_bytes(), &self.bytes[end..]].concat();
        Self { key: Arc::clone(&self.key), revision, bytes: bytes.into(), value: Mutex::new(Weak::new()) }
    }

    /// Where `"metadata":` begins, and with it what an item of a typed list has after its opening brace. `own_type` is
    /// `"apiVersion":"…","kind":"…",` as it stands before it in most objects, so that it need not be looked for.
    pub fn metadata_at(&self, own_type: &str) -> usize {
        const METADATA: &[u8] = br#""metadata":{"#;
        let expected = 1 + own_type.len();
        if self.bytes.get(1..expected) == Some(own_type.as_bytes())
            && self.bytes.get(expected..).is_some_and(|rest| rest.starts_with(METADATA))
        {
            return expected;
        }
        self.bytes.windows(METADATA.len()).position(|window| window == METADATA).unwrap_or_default()
    }

    /// The parsed object, shared with whoever else is using it now.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the bytes in the datastore were no JSON.
    pub fn value(&self) -> Result<Arc<Value>, Error> {
        let mut cached = self.value.lock();
        if let Some(value) = cached.upgrade() {
            return Ok(value);
        }
        let value = serde_json::from_slice(&self.bytes)
            .map(Arc::new)
            .map_err(|error| Error::Damaged { key: self.key.to_string(), detail: error.to_string() })?;
        *cached = Arc::downgrade(&value);
        Ok(value)
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("key", &self.key).field("revision", &self.revision).finish_non_exhaustive()
    }
}
