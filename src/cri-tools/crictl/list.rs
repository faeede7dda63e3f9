//! What the commands that list pods or containers share.

use std::collections::HashMap;

use clap::Args;
use regex::Regex;

use crate::error::Error;
use crate::output::Format;

/// Flags of lists.
#[derive(Debug, Args)]
pub struct ListFlags {
    /// Only the one whose id begins so
    #[arg(long, default_value = "")]
    pub id: String,
    /// Only those with this label; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// The newest so many, in whatever state
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub last: Option<usize>,
    /// The newest one, in whatever state
    #[arg(short, long)]
    pub latest: bool,
    /// Only those whose name this regular expression fits
    #[arg(long, value_parser = Regex::new)]
    pub name: Option<Regex>,
    /// Only those whose namespace this regular expression fits
    #[arg(long, value_parser = Regex::new)]
    pub namespace: Option<Regex>,
    /// Do not cut ids
    #[arg(long)]
    pub no_trunc: bool,
    #[arg(short, long, default_value = "table")]
    pub output: Format,
    /// Ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// Only those in this state
    #[arg(short, long)]
    pub state: Option<String>,
    /// Everything about each, instead of a table
    #[arg(short, long)]
    pub verbose: bool,
}

impl ListFlags {
    pub fn labels(&self) -> Result<HashMap<String, String>, Error> {
        labels(&self.label)
    }

    /// With `--last` and `--latest` the state does not matter.
    pub fn any_state(&self) -> bool {
        self.latest || self.last.is_some()
    }

    /// Cuts a list, newest first, to the length that was asked for.
    pub fn cut<T>(&self, mut items: Vec<T>, created_at: impl Fn(&T) -> i64) -> Vec<T> {
        items.sort_by_key(|item| std::cmp::Reverse(created_at(item)));
        let most = self.last.or(self.latest.then_some(1));
        items.truncate(most.unwrap_or(usize::MAX));
        items
    }
}

/// `KEY=VALUE` pairs.
pub fn labels(pairs: &[String]) -> Result<HashMap<String, String>, Error> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=')?;
        Some((key.to_owned(), value.to_owned()))
    };
    let wrong = |text: &String| Error::Usage(format!("incorrectly specified label: {text:?}; write KEY=VALUE"));
    pairs.iter().map(|text| pair(text).ok_or_else(|| wrong(text))).collect()
}

/// Does a pattern, if there is one, fit?
pub fn fits(pattern: Option<&Regex>, text: &str) -> bool {
    pattern.is_none_or(|pattern| pattern.is_match(text))
}

/// `Labels:` and the like, with a line for each entry in order.
pub fn entries(title: &str, map: &HashMap<String, String>) -> String {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort();
    let lines = entries.iter().map(|(key, value)| format!("\t{key} -> {value}\n"));
    if map.is_empty() { String::new() } else { format!("{title}:\n") + &lines.collect::<String>() }
}
