//! Keys as the `name` column of PostgreSQL's table holds them. That is text: UTF-8 without zero bytes, in the order of its
//! bytes. Keys are any bytes.
//!
//! What is such text is stored as it is, and so is what every other key begins with. There follows, for the rest of the
//! key, the character that comes before it, [`MARK`], and the rest in hexadecimal digits. So the order of names is the
//! order of keys: ranges and bounds work on names as they do on keys. The characters that this needs, 1 and [`MARK`], are
//! stored like bytes that are no text, and so are keys that look like kine's bookkeeping.

use std::borrow::Cow;

use bytes::Bytes;

use crate::table::{self, COMPACT_REV_KEY, GAP};

/// The last character there is.
const MARK: char = '\u{10ffff}';
/// Marks a rest that comes before all other characters.
const FIRST: char = '\u{1}';

/// The name of a key, or of a bound of a range.
pub(super) fn name(key: &[u8]) -> Cow<'_, [u8]> {
    let text = plain(key);
    let rest = &key[text.len()..];
    if rest.is_empty() {
        return Cow::Borrowed(key);
    }
    let mut name = String::with_capacity(text.len() + 8 + 2 * rest.len());
    name.push_str(text);
    match char_before(rest) {
        Some(before) => name.extend([before, MARK]),
        None => name.push(FIRST),
    }
    for byte in rest {
        name.extend([byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16).unwrap_or('0')));
    }
    Cow::Owned(name.into_bytes())
}

/// The key that is stored as `name`; none if the row is bookkeeping.
pub(super) fn key(name: &[u8]) -> Option<Bytes> {
    if table::internal(name) {
        return None;
    }
    // Kine may have written a name with such characters, too.
    let rejoined = std::str::from_utf8(name).ok().and_then(rejoined).filter(|key| *self::name(key) == *name);
    Some(rejoined.unwrap_or_else(|| Bytes::copy_from_slice(name)))
}

fn rejoined(name: &str) -> Option<Bytes> {
    let at = name.find([FIRST, MARK])?;
    let (text, rest) = name.split_at(at);
    let mut rest = rest.chars();
    let mut text = text.chars();
    if rest.next() == Some(MARK) {
        text.next_back()?;
    }
    let mut key = text.as_str().as_bytes().to_vec();
    let mut digits = rest.map(|digit| digit.to_digit(16));
    while let Some(high) = digits.next() {
        key.push(u8::try_from(high? << 4 | digits.next()??).ok()?);
    }
    Some(key.into())
}

/// What is stored as it is.
fn plain(key: &[u8]) -> &str {
    let valid = match std::str::from_utf8(key) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&key[..error.valid_up_to()]).unwrap_or_default(),
    };
    let text = valid.find(['\0', FIRST, MARK]).map_or(valid, |at| &valid[..at]);
    // All but the last character, so that the name is another.
    match () {
        () if key == COMPACT_REV_KEY.as_bytes() => &text[..COMPACT_REV_KEY.len() - 1],
        () if key.starts_with(GAP.as_bytes()) => &text[..GAP.len() - 1],
        () => text,
    }
}

/// The last character that comes before `rest`, without being its beginning; none if there is none but [`FIRST`].
fn char_before(rest: &[u8]) -> Option<char> {
    let before = |char: char| {
        let mut buffer = [0; 4];
        let encoded = char.encode_utf8(&mut buffer).as_bytes();
        encoded < rest && !rest.starts_with(encoded)
    };
    // UTF-8 keeps the order of characters, so those that come before are the first ones.
    let (mut low, mut high) = (0, CHARS);
    while low < high {
        let middle = low.midpoint(high);
        if nth(middle).is_some_and(before) { low = middle + 1 } else { high = middle }
    }
    low.checked_sub(1).and_then(nth)
}

/// The number of characters between [`FIRST`] and [`MARK`].
const CHARS: u32 = MARK as u32 - FIRST as u32 - 1 - SURROGATES;
const FIRST_SURROGATE: u32 = 0xd800;
const SURROGATES: u32 = 0x800;

fn nth(n: u32) -> Option<char> {
    let code = FIRST as u32 + 1 + n;
    char::from_u32(if code < FIRST_SURROGATE { code } else { code + SURROGATES })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beginnings and ends of keys, with which all kinds of breaks in text come about.
    const PARTS: &[&[u8]] = &[
        b"",
        b"\0",
        b"\x01",
        b"\x02",
        b"\x7f",
        b"\x80",
        b"\xbf\xff",
        b"\xc0",
        b"\xc1\x80",
        b"\xc2",
        b"\xc2\x80",
        b"\xc3",
        b"\xdf\xbf",
        b"\xe0\x9f\xbf",
        b"\xe0\xa0\x80",
        b"\xed\x9f\xbf",
        b"\xed\xa0\x80",
        b"\xee\x80\x80",
        b"\xef\xbf\xbf",
        b"\xf0\x90\x80",
        b"\xf0\x90\x80\x80",
        b"\xf4\x8f\xbf\xbe",
        b"\xf4\x8f\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xf5",
        b"\xff",
        b"/",
        b"/a",
        b"a",
        b"compact_rev_ke",
        b"compact_rev_key",
        b"compact_rev_kex",
        b"gap",
        b"gap,",
        b"gap-",
        b"gap-7",
        b"gap.",
        b"00",
        b"f",
        b"y",
    ];

    #[test]
    fn names_are_text_in_the_order_of_keys_and_lead_back_to_them() {
        let two = PARTS.iter().flat_map(|a| PARTS.iter().map(move |b| [*a, *b].concat()));
        let mut keys: Vec<_> =
            two.flat_map(|key| [b"".as_slice(), b"\xff", b"z"].map(|end| [&key, end].concat())).collect();
        keys.sort();
        keys.dedup();
        let names: Vec<_> = keys.iter().map(|key| name(key)).collect();
        for (pair, keys) in names.windows(2).zip(keys.windows(2)) {
            assert!(pair[0] < pair[1], "{:?} and {:?} became {pair:?}", keys[0], keys[1]);
        }
        for (name, own) in names.iter().zip(&keys) {
            let text = std::str::from_utf8(name).unwrap_or_else(|error| panic!("{own:?}: {error}"));
            assert!(!text.contains('\0'), "{own:?}");
            assert_eq!(key(name).as_deref(), Some(&own[..]), "{name:?}");
        }
    }

    #[test]
    fn ordinary_keys_are_stored_as_they_are_and_bookkeeping_is_no_key() {
        for own in ["/registry/pods/default/web", "ü", "\u{10fffe}"] {
            assert_eq!(name(own.as_bytes()), own.as_bytes());
        }
        for bookkeeping in ["compact_rev_key", "gap-7"] {
            assert_eq!(key(bookkeeping.as_bytes()), None);
            assert_ne!(name(bookkeeping.as_bytes()), bookkeeping.as_bytes());
        }
        for of_kine in ["/\u{1}no digits", "/\u{1}61", "/\u{10ffff}"] {
            assert_eq!(key(of_kine.as_bytes()).unwrap(), of_kine.as_bytes());
        }
    }
}
