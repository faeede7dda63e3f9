//! Bounds of ranges as text. PostgreSQL's text is UTF-8 without zero bytes, and so are the keys in it; bounds are any
//! bytes. A bound becomes the first text that is not before it, which has the same keys on either side.

use bytes::Bytes;

use super::super::driver::Names;
use crate::UNBOUNDED;

/// The names of the keys in `[start, end)`.
pub(super) fn interval(start: &[u8], end: &[u8]) -> Names {
    match (first_text(start), (end != UNBOUNDED).then(|| first_text(end)).flatten()) {
        (Some(start), end) => Names { start, end },
        // After all text there are no keys.
        (None, _) => Names { start: Bytes::new(), end: Some(Bytes::new()) },
    }
}

/// The first text that is not before `bound`; none if all text is.
fn first_text(bound: &[u8]) -> Option<Bytes> {
    let valid = match std::str::from_utf8(bound) {
        Ok(text) => text.len(),
        Err(error) => error.valid_up_to(),
    };
    let valid = bound[..valid].iter().position(|byte| *byte == 0).unwrap_or(valid);
    if valid == bound.len() {
        return Some(Bytes::copy_from_slice(bound));
    }
    let text = std::str::from_utf8(&bound[..valid]).ok()?;
    // UTF-8 keeps the order of characters.
    let next = first_char(|encoded| encoded >= &bound[valid..]);
    if let Some(next) = next {
        return Some(format!("{text}{next}").into());
    }
    // No character is as great as what follows: on to what comes after everything that begins with `text`.
    let mut chars: Vec<char> = text.chars().collect();
    while let Some(last) = chars.pop() {
        if let Some(next) = char_after(last) {
            chars.push(next);
            return Some(chars.into_iter().collect::<String>().into());
        }
    }
    None
}

fn char_after(char: char) -> Option<char> {
    (u32::from(char) + 1..=u32::from(char::MAX)).find_map(char::from_u32)
}

/// The first character but zero whose encoding meets a condition that all later ones meet, too.
fn first_char(meets: impl Fn(&[u8]) -> bool) -> Option<char> {
    let meets = |char: char| meets(char.encode_utf8(&mut [0; 4]).as_bytes());
    let (mut low, mut high) = (1, u32::from(char::MAX) + 1);
    while low < high {
        let middle = low.midpoint(high);
        // Among the surrogates, which are no characters, what comes after them decides.
        let met = match char::from_u32(middle) {
            Some(char) => meets(char),
            None => meets('\u{e000}'),
        };
        if met { high = middle } else { low = middle + 1 }
    }
    if (0xd800..0xe000).contains(&low) { Some('\u{e000}') } else { char::from_u32(low) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_has_the_same_keys_on_either_side() {
        let keys = [
            "\u{1}",
            "/",
            "/a",
            "/a\u{1}",
            "/a\u{1}b",
            "/a/",
            "/b",
            "/\u{7f}",
            "/\u{7f}x",
            "/\u{80}",
            "/\u{7ff}",
            "/\u{800}",
            "/\u{d7ff}",
            "/\u{e000}",
            "/\u{ffff}",
            "/\u{10000}",
            "/\u{10ffff}",
            "/\u{10ffff}z",
            "0",
            "z",
            "\u{10ffff}",
        ];
        let mut bounds: Vec<Vec<u8>> = keys.iter().map(|key| key.as_bytes().to_vec()).collect();
        for key in keys {
            for end in [
                &b"\0"[..],
                b"\0x",
                b"\x80",
                b"\xbf\xff",
                b"\xc0",
                b"\xc1\x80",
                b"\xc3",
                b"\xed\xa0\x80",
                b"\xf4\x90",
                b"\xff",
            ] {
                bounds.push([key.as_bytes(), end].concat());
            }
            bounds.push(key.as_bytes()[..key.len() - 1].to_vec());
        }
        for bound in bounds {
            let text = first_text(&bound);
            assert!(text.as_ref().is_none_or(|text| std::str::from_utf8(text).is_ok_and(|text| !text.contains('\0'))));
            for key in keys {
                let after = text.as_ref().is_some_and(|text| key.as_bytes() >= &text[..]);
                assert_eq!(key.as_bytes() >= &bound[..], after, "{key:?} and {bound:?}, which became {text:?}");
            }
        }
    }
}
