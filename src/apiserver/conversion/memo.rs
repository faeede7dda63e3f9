//! What a webhook has converted of late: many watchers want the same change in the same version.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use k3s_kine::Revision;
use parking_lot::Mutex;

use crate::registry::Entry;

/// The entries together are not larger than this.
const BYTES: usize = 4 << 20;

type Key = (Arc<str>, Revision, Box<str>);

/// Converted entries, the oldest of which go when there is no room.
#[derive(Debug, Default)]
pub(crate) struct Memo(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    entries: HashMap<Key, Arc<Entry>>,
    order: VecDeque<Key>,
    bytes: usize,
}

impl Memo {
    /// That entry in that version.
    pub fn get(&self, entry: &Entry, version: &str) -> Option<Arc<Entry>> {
        let key = (Arc::clone(entry.key()), entry.revision(), version.into());
        self.0.lock().entries.get(&key).cloned()
    }

    /// Keeps an entry that was converted to that version.
    pub fn keep(&self, version: &str, entry: &Arc<Entry>) {
        let mut kept = self.0.lock();
        let key: Key = (Arc::clone(entry.key()), entry.revision(), version.into());
        if kept.entries.insert(key.clone(), Arc::clone(entry)).is_some() {
            return;
        }
        kept.bytes += entry.bytes().len();
        kept.order.push_back(key);
        while kept.bytes > BYTES
            && let Some(oldest) = kept.order.pop_front()
        {
            if let Some(gone) = kept.entries.remove(&oldest) {
                kept.bytes -= gone.bytes().len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_kept_is_bounded() {
        let memo = Memo::default();
        let value = json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "x"}, "pad": "x".repeat(1 << 20)});
        let entries: Vec<_> = (1..=6)
            .map(|revision| Arc::new(Entry::of_value("a/x".into(), revision, &value).expect("an entry")))
            .collect();
        entries.iter().for_each(|entry| memo.keep("g/v2", entry));
        assert!(memo.get(&entries[0], "g/v2").is_none() && memo.get(&entries[5], "g/v2").is_some());
        assert!(memo.get(&entries[5], "g/v1").is_none());
    }
}
