//! Keys, values and events between etcd's messages and the datastore's types.

use bytes::Bytes;
use etcd_client::proto::{PbEvent, PbKeyValue};

use crate::{Event, KeyValue, UNBOUNDED};

impl From<KeyValue> for PbKeyValue {
    fn from(kv: KeyValue) -> Self {
        PbKeyValue {
            key: kv.key.into(),
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            value: kv.value.into(),
            lease: kv.lease,
        }
    }
}

/// The kinds of events of `mvccpb.Event`.
const PUT: i32 = 0;
const DELETE: i32 = 1;

/// The message of an event, with what was before if it is wanted.
pub(super) fn event(event: Event, with_previous: bool) -> PbEvent {
    match event {
        Event::Put { kv, previous } => PbEvent {
            r#type: PUT,
            kv: Some(kv.into()),
            prev_kv: previous.filter(|_| with_previous).map(PbKeyValue::from),
        },
        Event::Delete { revision, previous } => PbEvent {
            r#type: DELETE,
            kv: Some(PbKeyValue { key: previous.key.to_vec(), mod_revision: revision, ..PbKeyValue::default() }),
            prev_kv: Some(previous).filter(|_| with_previous).map(PbKeyValue::from),
        },
    }
}

/// The range that a key and an end mean: one key without an end, all from the key on with an end of one zero byte.
pub(super) fn bounds(key: Vec<u8>, range_end: Vec<u8>) -> (Bytes, Bytes) {
    if range_end.is_empty() {
        let mut end = key.clone();
        end.push(0);
        return (key.into(), end.into());
    }
    let end = if range_end == [0] { UNBOUNDED } else { range_end.into() };
    (key.into(), end)
}
