//! Keys as the `name` column of SQLite's table holds them: see [`crate::name`].
//!
//! Kine declares that column INTEGER (by mistake, but files exist), so SQLite turns text that looks like a number into
//! one, in stored values and in what they are compared with. Keys that do so are stored under another name.

use std::borrow::Cow;

use bytes::Bytes;
use rusqlite::{
    ToSql,
    types::{ToSqlOutput, ValueRef},
};

use crate::{
    UNBOUNDED,
    name::{self, BOOKKEEPING, Reserved},
};

/// Beginnings of numbers, and of bookkeeping.
const RESERVED: [Reserved; 6] = [
    (b"\x08", &[b"\t", b"\n", b"\x0b", b"\x0c", b"\r"]),
    (b"\x1f", &[b" "]),
    (b"*", &[b"+"]),
    (b",", &[b"-", b"."]),
    (b"/", &[b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9"]),
    BOOKKEEPING,
];

/// The name of a key, or of a bound of a range, as a TEXT parameter. SQLite compares bytes, so it need not be UTF-8.
pub(super) struct Name<'a>(Cow<'a, [u8]>);

impl<'a> Name<'a> {
    pub(super) fn of(key: &'a [u8]) -> Self {
        Name(name::name(&RESERVED, key))
    }

    /// What is a name already, or between two names.
    pub(super) fn stored(name: &'a [u8]) -> Self {
        Name(Cow::Borrowed(name))
    }
}

impl ToSql for Name<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(&self.0)))
    }
}

/// The end of a range as a parameter: a name, or something that comes after all names, since it is no text.
pub(super) struct End<'a>(Option<Name<'a>>);

impl<'a> End<'a> {
    pub(super) fn of(end: &'a [u8]) -> Self {
        End((end != UNBOUNDED).then(|| Name::of(end)))
    }
}

impl ToSql for End<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match &self.0 {
            Some(name) => name.to_sql(),
            None => Ok(ToSqlOutput::Borrowed(ValueRef::Blob(b""))),
        }
    }
}

/// The key that is stored as `name`; none if the row is bookkeeping.
pub(super) fn key(name: &[u8]) -> Option<Bytes> {
    name::key(&RESERVED, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &[&[u8]] = &[
        b"",
        b"\0",
        b"\x08",
        b"\x08a",
        b"\x08\xff",
        b"\x08\xff\xff",
        b"\t",
        b"\t1",
        b"\r",
        b"\x0e",
        b"\x1f",
        b"\x1f\xff",
        b" ",
        b" 1",
        b"!",
        b"*",
        b"*\xff",
        b"+",
        b"+1",
        b",",
        b",\xfe",
        b",\xff",
        b",\xff\x01",
        b"-",
        b"-1",
        b".",
        b".5",
        b"/",
        b"/a",
        b"/\xfe",
        b"/\xff",
        b"/\xff\0",
        b"/\xff\x01",
        b"/\xff\x01a",
        b"0",
        b"00",
        b"1",
        b"10",
        b"9",
        b":",
        b"compact_rev_key",
        b"compact_rev_key\0",
        b"compact_rev_key\0\0",
        b"compact_rev_key\x01",
        b"compact_rev_keys",
        b"gap",
        b"gap,",
        b"gap,\xff",
        b"gap,\xff\x01",
        b"gap-",
        b"gap-7",
        b"gap.",
        b"z",
        b"\xff",
    ];

    #[test]
    fn names_are_in_the_order_of_keys_and_lead_back_to_them() {
        assert!(KEYS.is_sorted(), "the table of this test");
        let names: Vec<_> = KEYS.iter().map(|key| Name::of(key).0).collect();
        for (pair, keys) in names.windows(2).zip(KEYS.windows(2)) {
            assert!(pair[0] < pair[1], "{:?} and {:?} became {pair:?}", keys[0], keys[1]);
        }
        for (name, own) in names.iter().zip(KEYS) {
            assert_eq!(key(name).as_deref(), Some(*own), "{name:?}");
        }
    }

    #[test]
    fn no_name_is_taken_for_a_number_or_for_bookkeeping() {
        let conn = rusqlite::Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE names (name INTEGER)").unwrap();
        for key in KEYS {
            conn.execute("INSERT INTO names VALUES (?1)", [Name::of(key)]).unwrap();
        }
        let count = |condition: &str| -> i64 {
            conn.query_row(&format!("SELECT COUNT(*) FROM names WHERE {condition}"), [], |row| row.get(0)).unwrap()
        };
        assert_eq!(count("typeof(name) != 'text'"), 0);
        assert_eq!(count("name = 'compact_rev_key' OR substr(name, 1, 4) = 'gap-'"), 0);
        let above: i64 = conn
            .query_row(
                "SELECT COUNT(*) FROM names WHERE name >= ?1 AND name < ?2",
                (Name::of(b"9"), End::of(&UNBOUNDED)),
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(above as usize, KEYS.iter().filter(|key| ***key >= b"9"[..]).count());
    }
}
