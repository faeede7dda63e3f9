//! Regular expressions as Go's `regexp` understands them.
//!
//! The crate `regex` has the same syntax and the same promise (linear time). Where the two differ, an expression is
//! rewritten: `\d`, `\w`, `\s` and `\b` are of ASCII only in Go, and a class in Go knows no nesting and no set operators.

use regex::{Error, Regex, RegexBuilder};

/// As large may a compiled expression be.
const SIZE_LIMIT: usize = 1 << 20;

/// Compiles an expression of Go.
///
/// # Errors
/// If it is none, or too large.
pub fn compile(pattern: &str) -> Result<Regex, Error> {
    RegexBuilder::new(&translate(pattern)).size_limit(SIZE_LIMIT).nest_limit(100).build()
}

/// What a class escape stands for, inside brackets.
fn ascii_class(escape: char) -> Option<&'static str> {
    Some(match escape {
        'd' => "0-9",
        'w' => "0-9A-Za-z_",
        's' => r"\t\n\f\r ",
        _ => return None,
    })
}

fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                let Some(escape) = chars.next() else {
                    out.push('\\');
                    break;
                };
                let class = ascii_class(escape.to_ascii_lowercase());
                match class {
                    Some(class) if escape.is_ascii_lowercase() && in_class => out.push_str(class),
                    Some(class) if escape.is_ascii_lowercase() => out.push_str(&format!("[{class}]")),
                    Some(class) => out.push_str(&format!("[^{class}]")),
                    None if escape == 'b' && !in_class => out.push_str(r"(?-u:\b)"),
                    None if escape == 'B' && !in_class => out.push_str(r"\B"),
                    None if escape == 'Q' => quoted(&mut chars, &mut out),
                    None => {
                        out.push('\\');
                        out.push(escape);
                    }
                }
            }
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                // A bracket that comes first is itself.
                if chars.next_if_eq(&']').is_some() {
                    out.push_str(r"\]");
                }
            }
            '[' if chars.peek() == Some(&':') => posix_class(&mut chars, &mut out),
            '[' => out.push_str(r"\["),
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '&' | '~' if in_class => {
                out.push('\\');
                out.push(c);
            }
            '-' if in_class && chars.peek() == Some(&'-') => out.push_str(r"\-"),
            c => out.push(c),
        }
    }
    out
}

/// `[:alpha:]`, which both know.
fn posix_class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    out.push('[');
    for c in chars.by_ref() {
        out.push(c);
        if c == ']' {
            return;
        }
    }
}

/// What stands between `\Q` and `\E` means itself.
fn quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    let mut text = String::new();
    for c in chars.by_ref() {
        text.push(c);
        if text.ends_with("\\E") {
            text.truncate(text.len() - 2);
            break;
        }
    }
    out.push_str(&regex::escape(&text));
}

#[cfg(test)]
mod tests {
    use super::compile;

    #[test]
    fn expressions_mean_what_they_mean_in_go() {
        for (pattern, text, matches) in [
            (r"^\d+$", "12", true),
            (r"^\d+$", "١٢", false),
            (r"^[\w-]+$", "a-b_1", true),
            (r"^[[]$", "[", true),
            (r"^[a&&b]+$", "a&", true),
            (r"^[]a]+$", "]a", true),
            (r"^\Qa.b\E$", "a.b", true),
            (r"^\Qa.b\E$", "axb", false),
            (r"\bfoo\b", "a foo b", true),
            (r"^[[:alpha:]]+$", "ab", true),
            (r"^\S+$", "a b", false),
        ] {
            assert_eq!(compile(pattern).unwrap().is_match(text), matches, "{pattern} {text}");
        }
        assert!(compile("(").is_err());
        assert!(compile("(((a{1000}){1000}){1000})").is_err());
    }
}
