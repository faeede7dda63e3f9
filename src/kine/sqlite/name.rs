//! Keys as the `name` column holds them.
//!
//! Kine declares that column INTEGER (by mistake, but files exist), so SQLite turns text that looks like a number into
//! one, in stored values and in what they are compared with. Keys that could look like a number are therefore refused,
//! which costs nothing (Kubernetes' begin with `/`), and bounds of ranges are made not to: `0` is the end of the range
//! of everything under `/`.

use std::borrow::Cow;

use rusqlite::{
    ToSql,
    types::{ToSqlOutput, ValueRef},
};

use super::schema::COMPACT_REV_KEY;
use crate::Error;

/// A key or bound as a TEXT parameter. SQLite compares bytes, so it need not be UTF-8.
pub(super) struct Name<'a>(pub(super) &'a [u8]);

impl ToSql for Name<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.0)))
    }
}

/// Refuses a key that can't be written.
pub(super) fn check(key: &[u8]) -> Result<(), Error> {
    if key.is_empty() || like_a_number(key) || internal(key) {
        let detail = format!(
            "{:?} is no key: a key begins neither with a digit, sign, dot or space, nor with gap-, and is not \
             {COMPACT_REV_KEY}",
            String::from_utf8_lossy(key)
        );
        return Err(Error::Backend { doing: "write a key", detail });
    }
    Ok(())
}

/// Whether the row is bookkeeping: no key of its own, and nothing that watches and ranges show.
pub(super) fn internal(name: &[u8]) -> bool {
    name == COMPACT_REV_KEY.as_bytes() || name.starts_with(b"gap-")
}

/// A bound of a range that is compared as text. No key begins as such a bound does, so anything may be appended: it has
/// the same keys on either side. (Not a NUL, at which SQLite ends a number.)
pub(super) fn bound(bound: &[u8]) -> Cow<'_, [u8]> {
    if like_a_number(bound) { Cow::Owned([bound, b"~"].concat()) } else { Cow::Borrowed(bound) }
}

fn like_a_number(name: &[u8]) -> bool {
    name.first()
        .is_some_and(|first| first.is_ascii_digit() || first.is_ascii_whitespace() || b"+-.\x0b".contains(first))
}
