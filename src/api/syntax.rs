//! JSON read with the words of Go's `encoding/json` for what is wrong with it.

use serde_json::Value;

/// The value in `text`, or what Go says when it cannot read it.
pub fn parse(text: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(text).map_err(|error| match complaint(text) {
        Some(complaint) => complaint,
        // Go reads what serde_json doesn't (numbers out of range, lone surrogates): there are no words to borrow.
        None => error.to_string(),
    })
}

/// What Go calls the type of a JSON value in its errors.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// What is wrong with the syntax of `text` in Go's words (`encoding/json`'s scanner); `None` if it is sound.
pub fn complaint(text: &[u8]) -> Option<String> {
    let mut scanner = Scanner { text, at: 0 };
    let found = scanner.value("looking for beginning of value").and_then(|()| {
        scanner.space();
        if scanner.at < text.len() { scanner.unexpected("after top-level value") } else { Ok(()) }
    });
    found.err()
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

/// How deep Go lets values nest.
const MAX_DEPTH: usize = 10_000;

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn unexpected<T>(&self, context: &str) -> Result<T, String> {
        match self.peek() {
            None => Err("unexpected end of JSON input".to_owned()),
            Some(byte) => Err(format!("invalid character {} {context}", quoted(byte))),
        }
    }

    /// A value, without recursion: `open` holds the closing brackets that are due.
    fn value(&mut self, context: &str) -> Result<(), String> {
        let mut open: Vec<u8> = Vec::new();
        let mut context = context;
        loop {
            self.space();
            let nested = match self.peek() {
                Some(b'{') => {
                    self.at += 1;
                    self.space();
                    if self.peek() == Some(b'}') {
                        self.at += 1;
                        false
                    } else {
                        self.key("looking for beginning of object key string")?;
                        open.push(b'}');
                        true
                    }
                }
                Some(b'[') => {
                    self.at += 1;
                    self.space();
                    if self.peek() == Some(b']') {
                        self.at += 1;
                        false
                    } else {
                        open.push(b']');
                        true
                    }
                }
                _ => {
                    self.scalar(context)?;
                    false
                }
            };
            context = "looking for beginning of value";
            if open.len() > MAX_DEPTH {
                return Err("exceeded max depth".to_owned());
            }
            if !nested && !self.close(&mut open)? {
                return Ok(());
            }
        }
    }

    /// Behind a value: closes what ends here. `false` when nothing is open any more.
    fn close(&mut self, open: &mut Vec<u8>) -> Result<bool, String> {
        while let Some(bracket) = open.last().copied() {
            self.space();
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    if bracket == b'}' {
                        self.space();
                        self.key("looking for beginning of object key string")?;
                    }
                    return Ok(true);
                }
                Some(byte) if byte == bracket => {
                    self.at += 1;
                    open.pop();
                }
                _ if bracket == b'}' => return self.unexpected("after object key:value pair"),
                _ => return self.unexpected("after array element"),
            }
        }
        Ok(false)
    }

    fn key(&mut self, context: &str) -> Result<(), String> {
        if self.peek() != Some(b'"') {
            return self.unexpected(context);
        }
        self.string()?;
        self.space();
        if self.peek() != Some(b':') {
            return self.unexpected("after object key");
        }
        self.at += 1;
        Ok(())
    }

    fn scalar(&mut self, context: &str) -> Result<(), String> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.unexpected(context),
        }
    }

    fn literal(&mut self, word: &str) -> Result<(), String> {
        for expected in word.bytes() {
            if self.peek() != Some(expected) {
                return self.unexpected(&format!("in literal {word} (expecting {})", quoted(expected)));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), String> {
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
                            for _ in 0..4 {
                                self.at += 1;
                                if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                                    return self.unexpected("in \\u hexadecimal character escape");
                                }
                            }
                        }
                        Some(b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"') => {}
                        _ => return self.unexpected("in string escape code"),
                    }
                    self.at += 1;
                }
                Some(0x20..) => self.at += 1,
                _ => return self.unexpected("in string literal"),
            }
        }
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }

    fn number(&mut self) -> Result<(), String> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return self.unexpected("in numeric literal"),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
                return self.unexpected("after decimal point in numeric literal");
            }
            self.digits();
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
                return self.unexpected("in exponent of numeric literal");
            }
            self.digits();
        }
        Ok(())
    }
}

/// A byte as Go's scanner quotes it.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => "'\\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        byte => {
            let text = crate::quote::quote(&char::from(byte).to_string());
            format!("'{}'", &text[1..text.len() - 1])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complains_as_go_does() {
        for (text, complaint) in [
            ("not json", "invalid character 'o' in literal null (expecting 'u')"),
            ("", "unexpected end of JSON input"),
            ("{", "unexpected end of JSON input"),
            ("{]", "invalid character ']' looking for beginning of object key string"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 2}", "invalid character '2' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
            ("1 x", "invalid character 'x' after top-level value"),
            ("\"a\nb\"", "invalid character '\\n' in string literal"),
            ("x", "invalid character 'x' looking for beginning of value"),
            ("'a'", "invalid character '\\'' looking for beginning of value"),
            ("1.x", "invalid character 'x' after decimal point in numeric literal"),
            ("\"\\q\"", "invalid character 'q' in string escape code"),
        ] {
            assert_eq!(super::complaint(text.as_bytes()), Some(complaint.to_owned()), "{text}");
        }
        assert_eq!(complaint(br#" {"a": [1, -2.5e3, {"b": null}], "c": {}, "d": []} "#), None);
        assert_eq!(parse(b"{\"a\": 1}"), Ok(serde_json::json!({"a": 1})));
    }
}
