//! Values of flags with where each came from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::command::{command, with_two_dashes};
use crate::file::Keys;
use crate::flag::{self, Flag, Subcommand, Support, Type};
use crate::nearest::nearest;
use crate::{Error, argument, file};

/// One value and its source, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Given {
    value: String,
    origin: String,
    /// From a variable that is not k3s's own, such as AWS's: it may be set for other programs.
    foreign: bool,
}

/// What the command line, the environment and the configuration files say, by flag name.
#[derive(Debug)]
pub struct Values {
    given: BTreeMap<&'static str, Vec<Given>>,
    warnings: Vec<String>,
}

impl Values {
    /// Resolves `args` (without program and subcommand names), `variables` and the configuration files: the first of
    /// these that names a flag has it all. A configuration file that is not named is read if it is there.
    ///
    /// # Errors
    /// An unknown flag or key, a value of the wrong form, a flag that is refused, a file that can't be read.
    pub fn resolve(
        subcommand: Subcommand,
        args: impl IntoIterator<Item = OsString>,
        variables: impl Fn(&str) -> Option<String>,
        default_config: &Path,
    ) -> Result<Values, Error> {
        let args = with_two_dashes(subcommand, args);
        let matches = command(subcommand).no_binary_name(true).try_get_matches_from(args)?;
        let mut values = Values { given: BTreeMap::new(), warnings: Vec::new() };
        for flag in flag::of(subcommand) {
            if let Some(given) = matches.get_many::<String>(flag.name) {
                let dashes = if flag.name.len() == 1 { "-" } else { "--" };
                values.insert(flag, given.cloned(), |_| (format!("{dashes}{}", flag.name), false));
            } else if let Some(variable) = flag.variable
                && let Some(value) = variables(variable).filter(|value| !value.is_empty())
            {
                values.insert(flag, [value], |_| (variable.to_owned(), !variable.starts_with("K3S_")));
            }
        }
        values.add_files(subcommand, default_config)?;
        values.check(subcommand)?;
        Ok(values)
    }

    fn add_files(&mut self, subcommand: Subcommand, default_config: &Path) -> Result<(), Error> {
        let named = self.given.get("config").and_then(|given| given.last());
        if let Some(url) = named.filter(|it| it.value.starts_with("http://") || it.value.starts_with("https://")) {
            return Err(Error::Remote { url: url.value.clone(), origin: url.origin.clone() });
        }
        let (path, required) = match named {
            Some(given) => (PathBuf::from(&given.value), true),
            None => (default_config.to_owned(), false),
        };
        let keys = match file::read(&path, required) {
            // Root's k3s of this host has its configuration there; an ordinary user's is none of its business.
            Err(Error::Unreadable { path, source }) if !required && source.kind() == ErrorKind::PermissionDenied => {
                let path = path.display();
                self.warnings.push(format!("{path}: ignored: this user may not read it; name another with --config"));
                Keys::new()
            }
            keys => keys?,
        };
        for (key, found) in keys {
            let Some(flag) = flag::of(subcommand).find(|flag| flag.is_called(&key)) else {
                // One file may serve servers and agents, as in k3s.
                if flag::all().any(|flag| flag.is_called(&key)) {
                    let place = format!("{}:{}", found.path.display(), found.line);
                    self.warnings.push(format!("{place}: {key} is not for k3s {}; ignored", subcommand.name()));
                    continue;
                }
                let names = flag::of(subcommand).map(|flag| flag.name);
                let nearest = nearest(&key, names);
                return Err(Error::UnknownKey { key, path: found.path, line: found.line, nearest });
            };
            if self.given.contains_key(flag.name) {
                continue;
            }
            for entry in found.entries {
                let origin = format!("{}:{}: {}", entry.path.display(), entry.line, flag.name);
                self.insert(flag, [entry.value], |_| (origin.clone(), false));
            }
        }
        Ok(())
    }

    fn insert(
        &mut self,
        flag: &'static Flag,
        values: impl IntoIterator<Item = String>,
        origin: impl Fn(&str) -> (String, bool),
    ) {
        let given = values.into_iter().flat_map(|value| split(flag, value)).map(|value| {
            let (origin, foreign) = origin(&value);
            Given { value, origin, foreign }
        });
        self.given.entry(flag.name).or_default().extend(given);
    }

    /// Forms of values, then what is done with them.
    fn check(&mut self, subcommand: Subcommand) -> Result<(), Error> {
        for flag in flag::of(subcommand) {
            let Some(given) = self.given.get(flag.name) else { continue };
            // What counts: each value of a list, the last one of anything else.
            let counts = if flag.repeatable { &given[..] } else { &given[given.len().saturating_sub(1)..] };
            // An empty value says that nothing is given, but a switch has no such value.
            for given in counts.iter().filter(|given| !given.value.is_empty() || flag.kind == Type::Switch) {
                flag.kind.check(&given.value).map_err(|detail| given.bad(detail))?;
            }
            let Some(asked) =
                counts.iter().find(|it| !it.foreign && !it.value.is_empty() && !flag.is_default(&it.value))
            else {
                continue;
            };
            let origin = asked.origin.clone();
            match flag.support {
                Support::Whole | Support::Moot(_) => {}
                Support::Ignored(why) => self.warnings.push(format!("{origin}: ignored: {why}")),
                Support::Refused(why) => return Err(Error::Refused { origin, why: why.to_owned() }),
            }
            if flag.kind == Type::Argument {
                self.check_arguments(flag.name)?;
            }
        }
        Ok(())
    }

    fn check_arguments(&mut self, through: &'static str) -> Result<(), Error> {
        for given in self.given.get(through).into_iter().flatten() {
            let (name, value) = flag::types::argument(&given.value).map_err(|detail| given.bad(detail))?;
            let origin = format!("{}: {name}", given.origin);
            let known = argument::find(through, &name);
            if known.is_some_and(|known| known.holds.contains(&value.as_str())) {
                continue;
            }
            match known.map(|known| known.support) {
                Some(Support::Whole | Support::Moot(_)) => {}
                Some(Support::Refused(why)) => return Err(Error::Refused { origin, why: why.to_owned() }),
                Some(Support::Ignored(why)) => self.warnings.push(format!("{origin}: ignored: {why}")),
                None => self.warnings.push(format!("{origin}: ignored: this version does not have that flag")),
            }
        }
        Ok(())
    }

    /// What was given and has no effect, a sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// A switch; absent is false.
    ///
    /// # Errors
    /// A value that is no boolean.
    pub fn switch(&self, name: &str) -> Result<bool, Error> {
        Ok(self.parse(name, flag::types::boolean)?.unwrap_or(false))
    }

    /// The last value of a flag. An empty one counts as none.
    pub fn string(&self, name: &str) -> Option<String> {
        self.last(name).map(|given| given.value.clone())
    }

    /// All values of a flag.
    pub fn list(&self, name: &str) -> Vec<String> {
        self.given.get(name).into_iter().flatten().map(|given| given.value.clone()).collect()
    }

    /// The last value of a flag, through `parse`, whose error is the reason.
    ///
    /// # Errors
    /// [`Error::BadValue`] saying where it came from.
    pub fn parse<T>(&self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, Error> {
        self.last(name).map(|given| parse(&given.value).map_err(|detail| given.bad(detail))).transpose()
    }

    /// All values of a flag, each through `parse`.
    ///
    /// # Errors
    /// [`Error::BadValue`] saying where the bad one came from.
    pub fn parse_all<T>(&self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, Error> {
        let given = self.given.get(name).into_iter().flatten();
        given.map(|given| parse(&given.value).map_err(|detail| given.bad(detail))).collect()
    }

    /// What is passed on to a component under this name, in the order given.
    pub fn arguments(&self, through: &str, name: &str) -> Vec<String> {
        let given = self.given.get(through).into_iter().flatten();
        let pairs = given.filter_map(|given| flag::types::argument(&given.value).ok());
        pairs.filter(|(key, _)| key == name).map(|(_, value)| value).collect()
    }

    /// The last of [`Values::arguments`], through `parse`.
    ///
    /// # Errors
    /// [`Error::BadValue`] saying where it came from.
    pub fn argument<T>(
        &self,
        through: &str,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.arguments(through, name).pop() else { return Ok(None) };
        parse(&value).map(Some).map_err(|detail| self.bad(through, format!("{name}: {detail}")))
    }

    fn last(&self, name: &str) -> Option<&Given> {
        self.given.get(name).and_then(|given| given.last()).filter(|given| !given.value.is_empty())
    }

    /// An error about a value that only shows together with others.
    pub fn bad(&self, name: &str, detail: impl Into<String>) -> Error {
        match self.last(name) {
            Some(given) => given.bad(detail.into()),
            None => Error::BadValue { origin: format!("--{name}"), value: String::new(), detail: detail.into() },
        }
    }

    /// An error about a value that is not available.
    pub fn refused(&self, name: &str, why: impl Into<String>) -> Error {
        let origin = self.last(name).map_or_else(|| format!("--{name}"), |given| given.origin.clone());
        Error::Refused { origin, why: why.into() }
    }
}

impl Given {
    fn bad(&self, detail: String) -> Error {
        Error::BadValue { origin: self.origin.clone(), value: self.value.clone(), detail }
    }
}

/// Lists take commas as separators, but for flags of components, whose values may contain them.
fn split(flag: &Flag, value: String) -> Vec<String> {
    if !flag.repeatable || flag.kind == Type::Argument {
        return vec![value];
    }
    value.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}
