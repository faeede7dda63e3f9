//! What is wrong with a text that is no JSON, in the words of Go's `encoding/json`, which clients see and tests expect.

/// The first syntax error of a text; `None` if it is one whole JSON value.
pub fn error(text: &[u8]) -> Option<String> {
    let mut scanner = Scanner { text, at: 0 };
    scanner.document().err()
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

type Scan = Result<(), String>;

/// As Go: nesting deeper than this is refused.
const MAX_DEPTH: usize = 10_000;

impl Scanner<'_> {
    fn document(&mut self) -> Scan {
        self.value("looking for beginning of value")?;
        match self.next_token() {
            None => Ok(()),
            Some(_) => self.unexpected("after top-level value"),
        }
    }

    /// Values are scanned with an explicit stack: the text is not trusted, and the thread's stack is small.
    fn value(&mut self, context: &str) -> Scan {
        let mut open: Vec<u8> = Vec::new();
        let mut context = context;
        loop {
            // Here a value begins.
            match self.next_token() {
                None => return self.unexpected(context),
                Some(b'{') => {
                    self.at += 1;
                    if self.next_token() == Some(b'}') {
                        self.at += 1;
                    } else {
                        self.key("looking for beginning of object key string")?;
                        open.push(b'{');
                        context = "looking for beginning of value";
                        self.depth(&open)?;
                        continue;
                    }
                }
                Some(b'[') => {
                    self.at += 1;
                    if self.next_token() == Some(b']') {
                        self.at += 1;
                    } else {
                        open.push(b'[');
                        context = "looking for beginning of value";
                        self.depth(&open)?;
                        continue;
                    }
                }
                Some(b'"') => self.string()?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.literal("true")?,
                Some(b'f') => self.literal("false")?,
                Some(b'n') => self.literal("null")?,
                Some(_) => return self.unexpected(context),
            }
            // Here a value has ended.
            loop {
                let Some(inside) = open.last() else { return Ok(()) };
                match (inside, self.next_token()) {
                    (b'{', Some(b',')) => {
                        self.at += 1;
                        self.key("looking for beginning of object key string")?;
                        break;
                    }
                    (b'[', Some(b',')) => {
                        self.at += 1;
                        break;
                    }
                    (b'{', Some(b'}')) | (b'[', Some(b']')) => {
                        self.at += 1;
                        open.pop();
                    }
                    (b'{', _) => return self.unexpected("after object key:value pair"),
                    _ => return self.unexpected("after array element"),
                }
            }
        }
    }

    fn depth(&self, open: &[u8]) -> Scan {
        if open.len() > MAX_DEPTH { Err("exceeded max depth".to_owned()) } else { Ok(()) }
    }

    fn key(&mut self, context: &str) -> Scan {
        match self.next_token() {
            Some(b'"') => self.string()?,
            _ => return self.unexpected(context),
        }
        match self.next_token() {
            Some(b':') => {
                self.at += 1;
                Ok(())
            }
            _ => self.unexpected("after object key"),
        }
    }

    fn string(&mut self) -> Scan {
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    match self.peek() {
                        Some(b'u') => {
                            self.at += 1;
                            for _ in 0..4 {
                                match self.peek() {
                                    Some(digit) if digit.is_ascii_hexdigit() => self.at += 1,
                                    _ => return self.unexpected("in \\u hexadecimal character escape"),
                                }
                            }
                        }
                        Some(b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"') => self.at += 1,
                        _ => return self.unexpected("in string escape code"),
                    }
                }
                Some(control) if control < 0x20 => return self.unexpected("in string literal"),
                Some(_) => self.at += 1,
                None => return self.unexpected("in string literal"),
            }
        }
    }

    fn digits(&mut self, context: &str) -> Scan {
        if !self.peek().is_some_and(|digit| digit.is_ascii_digit()) {
            return self.unexpected(context);
        }
        while self.peek().is_some_and(|digit| digit.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Scan {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits("in numeric literal")?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        Ok(())
    }

    fn literal(&mut self, word: &str) -> Scan {
        for expected in word.bytes() {
            if self.peek() != Some(expected) {
                let context = format!("in literal {word} (expecting '{}')", expected as char);
                return self.unexpected(&context);
            }
            self.at += 1;
        }
        Ok(())
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next_token(&mut self) -> Option<u8> {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
        self.peek()
    }

    fn unexpected(&self, context: &str) -> Scan {
        Err(match self.peek() {
            None => "unexpected end of JSON input".to_owned(),
            Some(byte) => format!("invalid character {} {context}", quote_byte(byte)),
        })
    }
}

/// A byte as Go's scanner shows it: as the Latin-1 character of that number.
fn quote_byte(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => r#"'"'"#.to_owned(),
        _ => {
            let quoted = crate::quote::quote(&char::from(byte).to_string());
            format!("'{}'", &quoted[1..quoted.len() - 1])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::error;

    #[test]
    fn errors_are_those_of_go() {
        for (text, message) in [
            ("", "unexpected end of JSON input"),
            ("{", "unexpected end of JSON input"),
            ("nope", "invalid character 'o' in literal null (expecting 'u')"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 \"b\"", "invalid character '\"' after object key:value pair"),
            ("{a:1}", "invalid character 'a' looking for beginning of object key string"),
            ("[1 2]", "invalid character '2' after array element"),
            ("{} x", "invalid character 'x' after top-level value"),
            ("\"\n\"", "invalid character '\\n' in string literal"),
            ("<html>", "invalid character '<' looking for beginning of value"),
            ("01", "invalid character '1' after top-level value"),
            ("1.x", "invalid character 'x' after decimal point in numeric literal"),
        ] {
            assert_eq!(error(text.as_bytes()).as_deref(), Some(message), "{text}");
        }
    }

    #[test]
    fn json_has_none() {
        for text in [" {\"a\": [1, -2.5e+3, \"\\u00e9\\n\", true, null, {}, []]} ", "null", "\"x\""] {
            assert_eq!(error(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_without_recursion() {
        assert_eq!(error(&b"[".repeat(1_000_000)).as_deref(), Some("exceeded max depth"));
    }
}
