//! Keys as the `name` column of kine's table holds them, where that is bytes.
//!
//! Two kinds of names are kine's own bookkeeping: the row `compact_rev_key`, and rows `gap-…`. Some tables can't hold
//! others as they are. Keys of these forms are stored under another name, which is chosen so that the order of names is
//! the order of keys: ranges and bounds work on names as they do on keys. Kubernetes' keys begin with `/registry` and are
//! stored as they are.

use std::borrow::Cow;

use bytes::Bytes;

use crate::table::{COMPACT_REV_KEY, GAP};

/// Beginnings of keys that can't be stored as they are, and before them a string that comes before them in the order of
/// bytes and after everything else that does. Such a key is stored as that string, `MARK`, 1 and the key. What would come
/// between is stored with a 0 after the mark.
pub(crate) type Reserved = (&'static [u8], &'static [&'static [u8]]);

/// What is bookkeeping in every table.
pub(crate) const BOOKKEEPING: Reserved = (b"gap,", &[GAP.as_bytes()]);

const MARK: u8 = 0xff;

/// The name of a key, or of a bound of a range.
pub(crate) fn name<'a>(reserved: &[Reserved], key: &'a [u8]) -> Cow<'a, [u8]> {
    for &(before, beginnings) in reserved {
        if beginnings.iter().any(|beginning| key.starts_with(beginning)) {
            return Cow::Owned([before, &[MARK, 1], key].concat());
        }
        if let Some([MARK, rest @ ..]) = key.strip_prefix(before) {
            return Cow::Owned([before, &[MARK, 0], rest].concat());
        }
    }
    match key.strip_prefix(COMPACT_REV_KEY.as_bytes()) {
        // The key itself gets a zero byte, and so does what has one already.
        Some([]) => Cow::Owned([key, b"\0"].concat()),
        Some([0, rest @ ..]) => Cow::Owned([COMPACT_REV_KEY.as_bytes(), b"\0\0", rest].concat()),
        _ => Cow::Borrowed(key),
    }
}

/// The key that is stored as `name`; none if the row is bookkeeping.
pub(crate) fn key(reserved: &[Reserved], name: &[u8]) -> Option<Bytes> {
    let copied = Bytes::copy_from_slice;
    match name.strip_prefix(COMPACT_REV_KEY.as_bytes()) {
        Some([]) => return None,
        Some([0]) => return Some(Bytes::from_static(COMPACT_REV_KEY.as_bytes())),
        Some([0, 0, rest @ ..]) => return Some([COMPACT_REV_KEY.as_bytes(), b"\0", rest].concat().into()),
        _ => {}
    }
    for &(before, _) in reserved {
        match name.strip_prefix(before) {
            Some([MARK, 1, key @ ..]) => return Some(copied(key)),
            Some([MARK, 0, rest @ ..]) => return Some([before, &[MARK], rest].concat().into()),
            _ => {}
        }
    }
    (!name.starts_with(GAP.as_bytes())).then(|| copied(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bookkeeping_is_no_key_and_keys_that_look_like_it_keep_their_order() {
        let keys: [&[u8]; 14] = [
            b"",
            b"a",
            b"compact_rev_ke",
            b"compact_rev_key",
            b"compact_rev_key\0",
            b"compact_rev_key\0\0",
            b"compact_rev_keys",
            b"gap,",
            b"gap,\xff",
            b"gap,\xff\x01",
            b"gap-",
            b"gap-7",
            b"gap.",
            b"\xff",
        ];
        let names = keys.map(|key| name(&[BOOKKEEPING], key));
        assert!(names.is_sorted(), "{names:?}");
        for (name, own) in names.iter().zip(keys) {
            assert_eq!(key(&[BOOKKEEPING], name).as_deref(), Some(own), "{name:?}");
        }
        for name in [&b"compact_rev_key"[..], b"gap-7"] {
            assert_eq!(key(&[BOOKKEEPING], name), None);
        }
    }
}
