//! Values of flags with where each came from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Arg, ArgAction, Command};

use crate::flag::{Flag, Kind};
use crate::{Error, file};

/// The values of one flag and their source, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Given {
    values: Vec<String>,
    origin: String,
}

/// What the command line, the environment and the configuration files say, by flag name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Values(BTreeMap<&'static str, Given>);

/// The command of a table of flags.
pub fn command(name: &'static str, about: &'static str, flags: &'static [Flag]) -> Command {
    flags.iter().fold(Command::new(name).about(about).disable_version_flag(true), |command, flag| {
        let arg = Arg::new(flag.name).long(flag.name).help(flag.help).help_heading(flag.group);
        let arg = match flag.kind {
            Kind::Switch => {
                arg.action(ArgAction::Set).num_args(0..=1).require_equals(true).default_missing_value("true")
            }
            Kind::Value => arg.action(ArgAction::Set).value_name("value"),
            Kind::List => arg.action(ArgAction::Append).value_name("value"),
        };
        let arg = if let Some(letter) = flag.short { arg.short(letter) } else { arg };
        // A one-letter long name would stand beside the same short one in the help.
        command.arg(if flag.name.len() == 1 { arg.hide_long_help(true) } else { arg })
    })
}

impl Values {
    /// Resolves `args` (without program and subcommand names), `variables` and the configuration file.
    ///
    /// # Errors
    /// An unknown flag or key, a file that can't be read.
    pub fn resolve(
        command: Command,
        flags: &'static [Flag],
        args: impl IntoIterator<Item = OsString>,
        variables: impl Fn(&str) -> Option<String>,
        default_config: &Path,
    ) -> Result<Values, Error> {
        let matches = command.no_binary_name(true).try_get_matches_from(args)?;
        let mut values = BTreeMap::new();
        for flag in flags {
            if let Some(given) = matches.get_many::<String>(flag.name) {
                let origin = format!("--{}", flag.name);
                values.insert(flag.name, Given { values: split(flag, given.cloned()), origin });
            } else if let Some((variable, value)) =
                flag.variable.and_then(|name| Some((name, variables(name).filter(|value| !value.is_empty())?)))
            {
                values.insert(flag.name, Given { values: split(flag, [value]), origin: variable.to_owned() });
            }
        }
        let named = values.get("config").and_then(|given: &Given| given.values.first());
        let (path, required) = match named {
            Some(path) => (PathBuf::from(path), true),
            None => (default_config.to_owned(), false),
        };
        for (key, (from, given)) in file::read(&path, required)? {
            let Some(flag) =
                flags.iter().find(|flag| flag.name == key || flag.short.is_some_and(|s| key == s.to_string()))
            else {
                let names = flags.iter().map(|flag| flag.name);
                return Err(Error::UnknownKey { nearest: file::nearest(&key, names), key, path: from });
            };
            values.entry(flag.name).or_insert_with(|| Given {
                values: split(flag, given),
                origin: format!("{} in {}", flag.name, from.display()),
            });
        }
        Ok(Values(values))
    }

    /// A switch; absent is false.
    ///
    /// # Errors
    /// A value that is no boolean.
    pub fn switch(&self, name: &str) -> Result<bool, Error> {
        Ok(self.parse::<bool>(name, "true or false")?.unwrap_or(false))
    }

    /// The last value of a flag.
    pub fn string(&self, name: &str) -> Option<String> {
        self.0.get(name).and_then(|given| given.values.last().cloned())
    }

    /// All values of a flag.
    pub fn list(&self, name: &str) -> Vec<String> {
        self.0.get(name).map(|given| given.values.clone()).unwrap_or_default()
    }

    /// The last value of a flag, parsed.
    ///
    /// # Errors
    /// [`Error::BadValue`] saying where it came from and what is `expected`.
    pub fn parse<T: FromStr>(&self, name: &str, expected: &str) -> Result<Option<T>, Error>
    where
        T::Err: std::fmt::Display,
    {
        self.parse_with(name, |value| value.parse().map_err(|error| format!("expected {expected} ({error})")))
    }

    /// The last value of a flag, through `parse`, whose error is the reason.
    ///
    /// # Errors
    /// [`Error::BadValue`] saying where it came from.
    pub fn parse_with<T>(&self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, Error> {
        let Some(given) = self.0.get(name) else { return Ok(None) };
        let Some(value) = given.values.last() else { return Ok(None) };
        parse(value).map(Some).map_err(|detail| Error::BadValue {
            origin: given.origin.clone(),
            value: value.clone(),
            detail,
        })
    }

    /// Each value of a list as `key=value`.
    ///
    /// # Errors
    /// [`Error::BadValue`] for one without `=`.
    pub fn pairs(&self, name: &str) -> Result<Vec<(String, String)>, Error> {
        let Some(given) = self.0.get(name) else { return Ok(Vec::new()) };
        let pair = |value: &String| {
            value.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())).ok_or_else(|| {
                Error::BadValue {
                    origin: given.origin.clone(),
                    value: value.clone(),
                    detail: "expected key=value".to_owned(),
                }
            })
        };
        given.values.iter().map(pair).collect()
    }

    /// An error about the value of a flag that only shows together with others.
    pub fn bad(&self, name: &str, detail: impl Into<String>) -> Error {
        let (origin, value) = match self.0.get(name) {
            Some(given) => (given.origin.clone(), given.values.join(",")),
            None => (format!("--{name}"), String::new()),
        };
        Error::BadValue { origin, value, detail: detail.into() }
    }
}

/// Lists take commas as separators, but for pass-through arguments, whose values may contain them.
fn split(flag: &Flag, values: impl IntoIterator<Item = String>) -> Vec<String> {
    if flag.kind != Kind::List || flag.name.ends_with("-arg") {
        return values.into_iter().collect();
    }
    values.into_iter().flat_map(|value| value.split(',').map(str::to_owned).collect::<Vec<_>>()).collect()
}
