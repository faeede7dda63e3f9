//! How much room superseded rows take: what compaction could free, and how far it must go for that.

use std::collections::VecDeque;

use crate::{Event, KeyValue, Revision};

/// Bytes between two marks.
const APART: u64 = 1 << 20;
/// What a row takes besides key and value, in the table and its index.
const ROW: usize = 128;

/// Bytes of superseded rows since the datastore was opened.
pub(super) struct History {
    /// All there ever were, and how many of them are compacted.
    total: u64,
    compacted: u64,
    /// At these revisions the total was so much. In order, [`APART`] from each other.
    marks: VecDeque<(Revision, u64)>,
}

impl History {
    pub(super) fn new() -> Self {
        Self { total: 0, compacted: 0, marks: VecDeque::new() }
    }

    /// What was written supersedes what was there before.
    pub(super) fn add(&mut self, events: &[Event]) {
        for event in events {
            let previous = match event {
                Event::Put { previous: Some(previous), .. } | Event::Delete { previous, .. } => previous,
                Event::Put { .. } => continue,
            };
            self.total += size(previous);
            if self.marks.back().map_or(self.compacted, |(_, total)| *total) + APART <= self.total {
                self.marks.push_back((event.revision(), self.total));
            }
        }
    }

    /// The history up to `revision` is gone.
    pub(super) fn forget(&mut self, revision: Revision) {
        while let Some((at, total)) = self.marks.front()
            && *at <= revision
        {
            self.compacted = *total;
            self.marks.pop_front();
        }
    }

    /// Bytes that are not compacted.
    pub(super) fn bytes(&self) -> u64 {
        self.total - self.compacted
    }

    /// The revision that must be compacted so that about `bytes` are left.
    pub(super) fn revision_leaving(&self, bytes: u64) -> Option<Revision> {
        let upto = self.total.saturating_sub(bytes);
        self.marks.iter().take_while(|(_, total)| *total <= upto).last().map(|(revision, _)| *revision)
    }
}

fn size(kv: &KeyValue) -> u64 {
    u64::try_from(kv.key.len() + kv.value.len() + ROW).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_how_far_to_go() {
        let mut history = History::new();
        let previous = KeyValue {
            key: "k".into(),
            value: vec![0; (APART as usize) / 4].into(),
            create_revision: 1,
            mod_revision: 1,
            version: 1,
            lease: 0,
        };
        for revision in 1..=40 {
            history.add(&[Event::Delete { revision, previous: previous.clone() }]);
        }
        assert!((10 << 20..11 << 20).contains(&history.bytes()));
        let revision = history.revision_leaving(5 << 20).unwrap();
        assert!((17..=20).contains(&revision), "{revision}");
        history.forget(revision);
        assert!((5 << 20..7 << 20).contains(&history.bytes()), "{}", history.bytes());
        assert_eq!(history.revision_leaving(20 << 20), None);
    }
}
