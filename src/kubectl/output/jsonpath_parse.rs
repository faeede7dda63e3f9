//! The syntax of JSONPath templates.

use serde_json::Value;

use super::jsonpath::{Filter, Node, Operator, Step};

/// The nodes of a template.
pub(super) fn parse(template: &str) -> Result<Vec<Node>, String> {
    let mut stack: Vec<(Vec<Step>, Vec<Node>)> = vec![(Vec::new(), Vec::new())];
    let mut rest = template;
    loop {
        let top = |stack: &mut Vec<(Vec<Step>, Vec<Node>)>, node| {
            if let Some((_, nodes)) = stack.last_mut() {
                nodes.push(node);
            }
        };
        let Some(open) = rest.find('{') else {
            if !rest.is_empty() {
                top(&mut stack, Node::Text(rest.to_owned()));
            }
            break;
        };
        if open > 0 {
            top(&mut stack, Node::Text(rest[..open].to_owned()));
        }
        let close = closing(&rest[open + 1..]).ok_or("unclosed action")?;
        let action = rest[open + 1..open + 1 + close].trim();
        rest = &rest[open + close + 2..];
        if action == "end" {
            if stack.len() < 2 {
                return Err("not in range, nothing to end".to_owned());
            }
            if let Some((steps, body)) = stack.pop() {
                top(&mut stack, Node::Range(steps, body));
            }
        } else if let Some(path) = action.strip_prefix("range ") {
            let mut parser = Parser { rest: path.trim() };
            stack.push((parser.path()?, Vec::new()));
        } else {
            let mut parser = Parser { rest: action };
            while !parser.rest.is_empty() {
                let node = match parser.literal()? {
                    Some(Value::String(text)) => Node::Text(text),
                    Some(other) => Node::Text(other.to_string()),
                    None => Node::Path(parser.path()?),
                };
                top(&mut stack, node);
                parser.blank();
            }
        }
    }
    if stack.len() > 1 {
        return Err("unclosed range, missing {end}".to_owned());
    }
    Ok(stack.pop().map(|(_, nodes)| nodes).unwrap_or_default())
}

/// Where the action's brace closes; braces in quotes don't count.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (index, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (_, '\\') => escaped = true,
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '}') => return Some(index),
            (None, _) => {}
        }
    }
    None
}

struct Parser<'t> {
    rest: &'t str,
}

impl Parser<'_> {
    fn blank(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// A string, a number or a boolean, if one stands here.
    fn literal(&mut self) -> Result<Option<Value>, String> {
        self.blank();
        let first = self.rest.chars().next();
        if let Some(quote @ ('"' | '\'')) = first {
            return self.quoted(quote).map(|text| Some(Value::String(text)));
        }
        if first.is_some_and(|c| c.is_ascii_digit() || c == '-' || c == '+') {
            let end = self.rest[1..].find(|c: char| !c.is_ascii_digit() && c != '.').map_or(self.rest.len(), |i| i + 1);
            let number: Value = serde_json::from_str(self.rest[..end].trim_start_matches('+'))
                .map_err(|_| format!("cannot parse number {}", &self.rest[..end]))?;
            self.rest = &self.rest[end..];
            return Ok(Some(number));
        }
        for (word, value) in [("true", true), ("false", false)] {
            if let Some(rest) = self.rest.strip_prefix(word)
                && !rest.starts_with(|c: char| c.is_alphanumeric())
            {
                self.rest = rest;
                return Ok(Some(Value::Bool(value)));
            }
        }
        Ok(None)
    }

    fn quoted(&mut self, quote: char) -> Result<String, String> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((index, c)) = chars.next() {
            if c == quote {
                self.rest = &self.rest[index + 1..];
                return Ok(text);
            }
            if c != '\\' {
                text.push(c);
                continue;
            }
            match chars.next().map(|(_, c)| c) {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some('r') => text.push('\r'),
                Some(other) => text.push(other),
                None => break,
            }
        }
        Err("unterminated quoted string".to_owned())
    }

    /// A path, up to a blank, an operator or a bracket that is not its own.
    fn path(&mut self) -> Result<Vec<Step>, String> {
        let mut steps = Vec::new();
        self.blank();
        if self.eat("$") {
            steps.push(Step::Root);
        } else {
            self.eat("@");
        }
        let start = self.rest.len();
        loop {
            if self.eat("..") {
                steps.push(Step::Recursive);
                if !self.rest.starts_with(['[', '*']) {
                    steps.push(Step::Field(self.name()?));
                }
            } else if self.eat(".") {
                if self.eat("*") {
                    steps.push(Step::Wildcard);
                } else if !self.rest.starts_with('[') && !self.rest.is_empty() && !self.rest.starts_with(' ') {
                    steps.push(Step::Field(self.name()?));
                }
            } else if self.eat("*") {
                steps.push(Step::Wildcard);
            } else if self.eat("[") {
                steps.push(self.bracket()?);
            } else if self.rest.len() == start && self.rest.starts_with(|c: char| c.is_alphabetic()) {
                return Err(format!("unrecognized identifier {}", self.rest));
            } else if self.rest.is_empty()
                || self.rest.starts_with([' ', ')', ']', ',', '=', '!', '<', '>', '"', '\'', '@'])
            {
                return Ok(steps);
            } else {
                return Err(format!("unrecognized character in action: {:?}", self.rest.chars().next().unwrap_or(' ')));
            }
        }
    }

    fn name(&mut self) -> Result<String, String> {
        let mut name = String::new();
        let mut end = self.rest.len();
        let mut chars = self.rest.char_indices();
        while let Some((index, c)) = chars.next() {
            match c {
                '\\' => name.extend(chars.next().map(|(_, c)| c)),
                '.' | '[' | ']' | ' ' | ')' | ',' | '=' | '!' | '<' | '>' | '"' | '\'' | '{' | '}' | '@' | '*' => {
                    end = index;
                    break;
                }
                _ => name.push(c),
            }
        }
        self.rest = &self.rest[end..];
        if name.is_empty() { Err("empty field name".to_owned()) } else { Ok(name) }
    }

    /// What stands in brackets, the opening one eaten.
    fn bracket(&mut self) -> Result<Step, String> {
        self.blank();
        if self.eat("?(") {
            let filter = self.filter()?;
            self.blank();
            return if self.eat(")") && {
                self.blank();
                self.eat("]")
            } {
                Ok(Step::Filter(Box::new(filter)))
            } else {
                Err("unclosed filter".to_owned())
            };
        }
        let mut parts = Vec::new();
        loop {
            self.blank();
            if self.rest.starts_with(['"', '\'']) {
                let quote = self.rest.chars().next().unwrap_or('"');
                let text = self.quoted_key(quote)?;
                parts.push(text);
            } else {
                let end = self.rest.find([',', ']']).ok_or("unterminated array")?;
                let text = self.rest[..end].trim().to_owned();
                self.rest = &self.rest[end..];
                parts.push(vec![array(&text)?]);
            }
            self.blank();
            if self.eat("]") {
                break;
            }
            if !self.eat(",") {
                return Err("unterminated array".to_owned());
            }
        }
        if parts.len() == 1
            && let Some(mut only) = parts.pop()
        {
            return Ok(if only.len() == 1 { only.remove(0) } else { Step::Union(vec![only]) });
        }
        Ok(Step::Union(parts))
    }

    /// `'a.b'` is the field b of a, `'a\.b'` the field a.b.
    fn quoted_key(&mut self, quote: char) -> Result<Vec<Step>, String> {
        let end = self.rest[1..].find(quote).ok_or("unterminated quoted string")? + 1;
        let mut key = Parser { rest: &self.rest[1..end] };
        let mut steps = Vec::new();
        while !key.rest.is_empty() {
            key.eat(".");
            steps.push(Step::Field(key.name()?));
        }
        self.rest = &self.rest[end + 1..];
        Ok(steps)
    }

    fn filter(&mut self) -> Result<Filter, String> {
        let left = self.side()?;
        self.blank();
        let operators = [
            ("==", Operator::Equal),
            ("!=", Operator::NotEqual),
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ];
        for (token, operator) in operators {
            if self.eat(token) {
                let right = self.side()?;
                if right.is_empty() {
                    return Err("filter without a right side".to_owned());
                }
                return Ok(Filter { left, right: Some((operator, right)) });
            }
        }
        Ok(Filter { left, right: None })
    }

    fn side(&mut self) -> Result<Vec<Step>, String> {
        match self.literal()? {
            Some(value) => Ok(vec![Step::Literal(value)]),
            None => self.path(),
        }
    }
}

/// `*`, an index, or a slice.
fn array(text: &str) -> Result<Step, String> {
    if text == "*" {
        return Ok(Step::Wildcard);
    }
    let number = |text: &str| match text.trim() {
        "" => Ok(None),
        text => text.parse::<i64>().map(Some).map_err(|_| format!("invalid array index {text}")),
    };
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [index] => number(index)?.map(Step::Index).ok_or_else(|| format!("invalid array index {text}")),
        [start, end] => Ok(Step::Slice { start: number(start)?, end: number(end)?, step: 1 }),
        [start, end, step] => {
            Ok(Step::Slice { start: number(start)?, end: number(end)?, step: number(step)?.unwrap_or(1) })
        }
        _ => Err(format!("invalid array index {text}")),
    }
}
