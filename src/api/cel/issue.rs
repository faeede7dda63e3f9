//! What is wrong with an expression, in the form that cel-go prints.

use std::fmt;

use cel::ParseErrors;

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Issue {
    /// Counted from 1.
    line: usize,
    /// In characters, counted from 0.
    column: usize,
    message: String,
    /// The line of the expression.
    snippet: String,
}

/// All that is wrong with an expression. Prints as cel-go's `Issues.String()`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Issues(Vec<Issue>);

impl Issues {
    /// One that is about the whole expression.
    pub fn whole(source: &str, message: impl Into<String>) -> Self {
        let mut issues = Self::default();
        issues.add(source, 0, message);
        issues
    }

    /// What the parser found.
    pub(super) fn of_parser(source: &str, errors: ParseErrors) -> Self {
        let issue = |error: cel::ParseError| {
            let line = usize::try_from(error.pos.0).unwrap_or(1).max(1);
            let column = usize::try_from(error.pos.1 - 1).unwrap_or(0);
            Issue { line, column, message: error.msg, snippet: snippet(source, line) }
        };
        Self(errors.errors.into_iter().map(issue).collect())
    }

    /// Adds what is wrong at an offset in characters.
    pub(super) fn add(&mut self, source: &str, offset: usize, message: impl Into<String>) {
        let (mut line, mut column) = (1, 0);
        for c in source.chars().take(offset) {
            (line, column) = if c == '\n' { (line + 1, 0) } else { (line, column + 1) };
        }
        let issue = Issue { line, column, message: message.into(), snippet: snippet(source, line) };
        if !self.0.contains(&issue) {
            self.0.push(issue);
        }
    }

    /// In the order of the expression.
    pub(super) fn sort(&mut self) {
        self.0.sort_by_key(|issue| (issue.line, issue.column));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn snippet(source: &str, line: usize) -> String {
    source.lines().nth(line - 1).unwrap_or_default().replace('\t', " ")
}

impl fmt::Display for Issues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, issue) in self.0.iter().enumerate() {
            let (line, column) = (issue.line, issue.column);
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}ERROR: <input>:{line}:{}: {}", column + 1, issue.message)?;
            write!(f, "\n | {}\n | {}^", issue.snippet, ".".repeat(column))?;
        }
        Ok(())
    }
}

impl std::error::Error for Issues {}
