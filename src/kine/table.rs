//! What all tables in kine's layout have in common, whichever database they are in.

/// The key of the row that remembers the compaction: its `prev_revision` is how far the history is compacted.
pub(crate) const COMPACT_REV_KEY: &str = "compact_rev_key";

/// What the names of rows begin with that stand for a revision which was skipped.
pub(crate) const GAP: &str = "gap-";

/// Whether the row is bookkeeping: no key of its own, and nothing that watches and ranges show.
pub(crate) fn internal(name: &[u8]) -> bool {
    name == COMPACT_REV_KEY.as_bytes() || name.starts_with(GAP.as_bytes())
}
