//! `"%s is %d".format([a, b])`.

use super::super::eval::Error;
use super::super::value::{Key, List, Value};
use super::{convert, time};

/// The text with its clauses filled in.
pub fn format(template: &str, args: &List<'_>) -> Result<String, Error> {
    let mut out = String::new();
    let mut chars = template.chars().peekable();
    let mut next = 0;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut precision = None;
        if chars.next_if_eq(&'.').is_some() {
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            // More digits than a double has say nothing.
            precision = digits.parse::<usize>().ok().map(|digits| digits.min(100));
        }
        let Some(verb) = chars.next() else { return Err(Error::message("unexpected end of string")) };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let value = args.get(next).ok_or_else(|| Error::message(format!("index {next} out of range")))?;
        next += 1;
        out.push_str(&clause(verb, precision, &value)?);
    }
    Ok(out)
}

fn clause(verb: char, precision: Option<usize>, value: &Value<'_>) -> Result<String, Error> {
    let wrong = |takes: &str| {
        let of = convert::type_name(value);
        Error::message(format!("error during formatting: {takes} clause can only be used on {of}"))
    };
    Ok(match (verb, value) {
        ('s', value) => show(value),
        ('d', Value::Int(value)) => value.to_string(),
        ('d', Value::Uint(value)) => value.to_string(),
        ('d', Value::Double(value)) if value.is_finite() => format!("{value:.0}"),
        ('f', value) => format!("{:.*}", precision.unwrap_or(6), number(value).ok_or_else(|| wrong("fixed-point"))?),
        ('e', value) => {
            let value = number(value).ok_or_else(|| wrong("scientific notation"))?;
            let text = format!("{value:.*e}", precision.unwrap_or(6));
            // Go writes the exponent with a sign and two digits.
            match text.split_once('e') {
                Some((mantissa, exponent)) => {
                    let exponent: i32 = exponent.parse().unwrap_or_default();
                    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
                }
                None => text,
            }
        }
        ('b', Value::Int(value)) => signed(*value, |value| format!("{value:b}")),
        ('b', Value::Uint(value)) => format!("{value:b}"),
        ('b', Value::Bool(value)) => u8::from(*value).to_string(),
        ('o', Value::Int(value)) => signed(*value, |value| format!("{value:o}")),
        ('o', Value::Uint(value)) => format!("{value:o}"),
        ('x', Value::Int(value)) => signed(*value, |value| format!("{value:x}")),
        ('x', Value::Uint(value)) => format!("{value:x}"),
        ('x', Value::String(text)) => hex(text.as_bytes(), false),
        ('x', Value::Bytes(bytes)) => hex(bytes, false),
        ('X', Value::Int(value)) => signed(*value, |value| format!("{value:X}")),
        ('X', Value::Uint(value)) => format!("{value:X}"),
        ('X', Value::String(text)) => hex(text.as_bytes(), true),
        ('X', Value::Bytes(bytes)) => hex(bytes, true),
        ('d' | 'b' | 'o' | 'x' | 'X', _) => return Err(wrong("integer")),
        _ => {
            return Err(Error::message(format!(
                "could not parse formatting clause: unrecognized formatting clause \"{verb}\""
            )));
        }
    })
}

fn signed(value: i64, show: impl Fn(u64) -> String) -> String {
    format!("{}{}", if value < 0 { "-" } else { "" }, show(value.unsigned_abs()))
}

fn hex(bytes: &[u8], upper: bool) -> String {
    bytes.iter().map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") }).collect()
}

fn number(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Int(value) => Some(*value as f64),
        Value::Uint(value) => Some(*value as f64),
        Value::Double(value) => Some(*value),
        _ => None,
    }
}

/// A value as `%s` writes it.
fn show(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::List(list) => format!("[{}]", list.iter().map(|item| show(&item)).collect::<Vec<_>>().join(", ")),
        Value::Map(map) => {
            let entry = |key: &Key<'_>| {
                format!("{}: {}", show(&key.value()), map.get(key).map_or_else(String::new, |v| show(&v)))
            };
            format!("{{{}}}", map.keys().iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        Value::Duration(of) => time::format_duration(*of),
        Value::Type(of) => of.to_string(),
        other => convert::text(other).unwrap_or_else(|| convert::type_name(other)),
    }
}
