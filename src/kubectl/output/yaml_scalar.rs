//! How a scalar is written in YAML: plain, quoted or as a block, by go-yaml's choice.

use serde_json::Value;

/// Lines of plain and quoted text are broken at the first blank behind this column.
const WIDTH: usize = 80;

/// Writes a scalar, or an empty list or object. `indent` is that of its further lines, `column` where it starts.
pub(super) fn write(value: &Value, indent: usize, column: usize, text: &mut String) {
    match value {
        Value::Null => text.push_str("null"),
        Value::String(string) => write_string(string, indent, column, text),
        Value::Array(_) => text.push_str("[]"),
        Value::Object(_) => text.push_str("{}"),
        scalar => text.push_str(&scalar.to_string()),
    }
}

/// Writes a key: never broken, never a block.
pub(super) fn write_key(key: &str, text: &mut String) {
    match style(key) {
        Style::Plain => text.push_str(key),
        Style::Single => single(key, usize::MAX, 0, text),
        Style::Double | Style::Literal => double(key, usize::MAX, 0, text),
    }
}

fn write_string(string: &str, indent: usize, column: usize, text: &mut String) {
    match style(string) {
        Style::Plain => folded(string, WIDTH, indent, column, text),
        Style::Single => single_at(string, indent, column, text),
        Style::Double => double(string, WIDTH, indent.max(1), text),
        Style::Literal => literal(string, indent, text),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

fn style(string: &str) -> Style {
    let special = string.chars().any(|c| c != '\n' && !is_printable(c));
    // A blank before a line break, or at the end of a block's line, cannot be kept by a block or a plain scalar.
    let space_break = string.contains(" \n");
    if string.contains('\n') {
        return if special || space_break || string.ends_with(' ') { Style::Double } else { Style::Literal };
    }
    if special || resolves_to_another_type(string) {
        return Style::Double;
    }
    if is_plain(string) { Style::Plain } else { Style::Single }
}

fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}' | '\u{10000}'..)
        && !matches!(c, '\u{2028}' | '\u{2029}')
}

/// Whether it can stand without quotes.
fn is_plain(string: &str) -> bool {
    let Some(first) = string.chars().next() else { return false };
    if string.starts_with(' ') || string.ends_with(' ') || string.starts_with("---") || string.starts_with("...") {
        return false;
    }
    if "#,[]{}&*!|>'\"%@`".contains(first) {
        return false;
    }
    let second_is_blank = string.chars().nth(1).is_none_or(|c| c == ' ');
    if "-?:".contains(first) && second_is_blank {
        return false;
    }
    !string.contains(": ") && !string.ends_with(':') && !string.contains(" #")
}

/// Whether YAML 1.1 would read it as something that is no string.
fn resolves_to_another_type(string: &str) -> bool {
    const WORDS: &[&str] = &[
        "", "~", "null", "Null", "NULL", "<<", "y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "n", "N", "no", "No",
        "NO", "off", "Off", "OFF", "true", "True", "TRUE", "false", "False", "FALSE", ".nan", ".NaN", ".NAN", ".inf",
        ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF", "=",
    ];
    if WORDS.contains(&string) {
        return string != "=";
    }
    let first = string.as_bytes().first().copied().unwrap_or_default();
    if !first.is_ascii_digit() && !matches!(first, b'+' | b'-' | b'.') {
        return false;
    }
    is_number(string) || is_base_60(string) || is_timestamp(string)
}

fn is_number(string: &str) -> bool {
    let plain = string.replace('_', "");
    let unsigned = plain.strip_prefix(['+', '-']).unwrap_or(&plain);
    for (prefix, radix) in [("0x", 16), ("0X", 16), ("0b", 2), ("0o", 8)] {
        if let Some(digits) = unsigned.strip_prefix(prefix) {
            return u64::from_str_radix(digits, radix).is_ok();
        }
    }
    let looks = unsigned.bytes().all(|c| c.is_ascii_digit() || matches!(c, b'.' | b'e' | b'E' | b'+' | b'-'));
    looks && unsigned.bytes().any(|c| c.is_ascii_digit()) && unsigned.parse::<f64>().is_ok()
}

/// `190:20:30`, which YAML 1.1 reads as a number.
fn is_base_60(string: &str) -> bool {
    let unsigned = string.strip_prefix(['+', '-']).unwrap_or(string);
    let mut parts = unsigned.split(':');
    let first = parts.next().unwrap_or_default();
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit() || c == b'_');
    let mut count = 0;
    let rest = parts.all(|part| {
        count += 1;
        let whole = part.split('.').next().unwrap_or_default();
        is_digits(whole) && whole.len() <= 2 && whole.as_bytes()[0] <= if whole.len() == 2 { b'5' } else { b'9' }
    });
    is_digits(first) && rest && count > 0
}

/// A date, or a date and a time.
fn is_timestamp(string: &str) -> bool {
    let bytes = string.as_bytes();
    let digits = bytes.iter().take_while(|c| c.is_ascii_digit()).count();
    if digits != 4 || bytes.get(4) != Some(&b'-') {
        return false;
    }
    string.parse::<jiff::Timestamp>().is_ok()
        || string.parse::<jiff::civil::DateTime>().is_ok()
        || string.parse::<jiff::civil::Date>().is_ok()
}

/// Writes `string`, with a line break instead of a blank where the line has become too long.
fn folded(string: &str, width: usize, indent: usize, column: usize, text: &mut String) {
    let mut column = column;
    let chars: Vec<char> = string.chars().collect();
    for (index, c) in chars.iter().enumerate() {
        let next_is_blank = chars.get(index + 1).is_none_or(|next| *next == ' ');
        let after_blank = index > 0 && chars[index - 1] == ' ';
        if *c == ' ' && column > width && !next_is_blank && !after_blank && index > 0 {
            text.push('\n');
            text.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        } else {
            text.push(*c);
            column += 1;
        }
    }
}

fn single_at(string: &str, indent: usize, column: usize, text: &mut String) {
    text.push('\'');
    folded(&string.replace('\'', "''"), WIDTH, indent, column + 1, text);
    text.push('\'');
}

fn single(string: &str, _width: usize, _indent: usize, text: &mut String) {
    text.push('\'');
    text.push_str(&string.replace('\'', "''"));
    text.push('\'');
}

/// Double quotes with escapes; broken like other text, with a backslash where the next line starts with a blank.
fn double(string: &str, width: usize, indent: usize, text: &mut String) {
    text.push('"');
    let mut column = text.len() - text.rfind('\n').map_or(0, |line| line + 1);
    let chars: Vec<char> = string.chars().collect();
    for (index, c) in chars.iter().enumerate() {
        let before = text.len();
        match c {
            ' ' if column > width && index > 0 && index + 1 < chars.len() => {
                text.push('\n');
                text.extend(std::iter::repeat_n(' ', indent));
                if chars[index + 1] == ' ' {
                    text.push('\\');
                }
                column = indent;
                continue;
            }
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '\r' => text.push_str("\\r"),
            '\0' => text.push_str("\\0"),
            '\u{7}' => text.push_str("\\a"),
            '\u{8}' => text.push_str("\\b"),
            '\u{b}' => text.push_str("\\v"),
            '\u{c}' => text.push_str("\\f"),
            '\u{1b}' => text.push_str("\\e"),
            '\u{85}' => text.push_str("\\N"),
            '\u{2028}' => text.push_str("\\L"),
            '\u{2029}' => text.push_str("\\P"),
            c if is_printable(*c) => text.push(*c),
            c if u32::from(*c) <= 0xff => text.push_str(&format!("\\x{:02X}", u32::from(*c))),
            c if u32::from(*c) <= 0xffff => text.push_str(&format!("\\u{:04X}", u32::from(*c))),
            c => text.push_str(&format!("\\U{:08X}", u32::from(*c))),
        }
        column += text[before..].chars().count();
    }
    text.push('"');
}

fn literal(string: &str, indent: usize, text: &mut String) {
    let indent = indent.max(2);
    text.push('|');
    if string.starts_with([' ', '\n']) {
        text.push('2');
    }
    let body = match string.strip_suffix('\n') {
        None => {
            text.push('-');
            string
        }
        Some(body) if body.is_empty() || body.ends_with('\n') => {
            text.push('+');
            body
        }
        Some(body) => body,
    };
    for line in body.split('\n') {
        text.push('\n');
        if !line.is_empty() {
            text.extend(std::iter::repeat_n(' ', indent));
            text.push_str(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn styles_are_go_yamls() {
        for (string, written) in [
            ("nginx", "nginx"),
            ("", "\"\""),
            ("true", "\"true\""),
            ("1", "\"1\""),
            ("1.5", "\"1.5\""),
            ("100m", "100m"),
            ("1e3", "\"1e3\""),
            ("2026-01-02T03:04:05Z", "\"2026-01-02T03:04:05Z\""),
            ("10.0.0.1", "10.0.0.1"),
            ("a: b", "'a: b'"),
            ("*", "'*'"),
            ("it's", "it's"),
            ("'x'", "'''x'''"),
            ("{\"a\":1}", "'{\"a\":1}'"),
            ("a\tb", "\"a\\tb\""),
            ("a\nb\n", "|\n  a\n  b"),
            ("a\nb", "|-\n  a\n  b"),
            ("a\n\n", "|+\n  a\n"),
            ("12:30", "\"12:30\""),
            ("--flag", "--flag"),
            ("-", "'-'"),
        ] {
            let mut text = String::new();
            write(&Value::String(string.to_owned()), 2, 0, &mut text);
            assert_eq!(text, written, "{string:?}");
        }
    }

    #[test]
    fn long_text_is_broken_at_a_blank() {
        let mut text = String::new();
        write(&Value::String(format!("{} tail end", "a".repeat(81))), 4, 0, &mut text);
        assert_eq!(text, format!("{}\n    tail end", "a".repeat(81)));
    }
}
