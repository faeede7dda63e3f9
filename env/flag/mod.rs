//! The table of flags: one row makes the command line, the variable, the configuration key, the help and the reference.

mod agent;
mod datastore;
mod server;
pub(crate) mod types;

pub use types::Type;

/// The commands that have flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subcommand {
    Server,
    Agent,
}

impl Subcommand {
    /// The word after `k3s`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Agent => "agent",
        }
    }

    /// One line for the help.
    pub fn about(self) -> &'static str {
        match self {
            Self::Server => "Run a Kubernetes server with a node of its own",
            Self::Agent => "Run a node that joins a cluster",
        }
    }
}

/// Whether a flag does what it does in k3s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It does.
    Whole,
    /// Nothing has to be done: what it asks for is so anyway, for the reason given. Nothing is said when it is used.
    Moot(&'static str),
    /// It is taken and has no effect. Whoever gives it is warned once, with this reason.
    Ignored(&'static str),
    /// Ignoring it would be dangerous, or pretend a success: it is an error, with this reason.
    Refused(&'static str),
}

/// A flag of `k3s server` or `k3s agent`, with k3s's name, group, variable and default.
#[derive(Debug)]
pub struct Flag {
    /// Long name, and the key in `config.yaml`.
    pub name: &'static str,
    /// One-letter name.
    pub short: Option<char>,
    /// An older name, which is not shown.
    pub alias: Option<&'static str>,
    /// Environment variable.
    pub variable: Option<&'static str>,
    /// What a value looks like.
    pub kind: Type,
    /// Whether it can be given several times; each value counts then.
    pub repeatable: bool,
    /// What holds when nothing is given, as the help shows it; empty: nothing.
    pub default: &'static str,
    /// Heading in the help.
    pub group: &'static str,
    pub help: &'static str,
    /// The only command that has it, or `None` if both have.
    pub only: Option<Subcommand>,
    pub support: Support,
    /// Left out of the help, as k3s does with some.
    pub hidden: bool,
}

impl Flag {
    const fn new(name: &'static str, kind: Type, group: &'static str, help: &'static str) -> Self {
        Self {
            name,
            short: None,
            alias: None,
            variable: None,
            kind,
            repeatable: false,
            default: "",
            group,
            help,
            only: None,
            support: Support::Whole,
            hidden: false,
        }
    }

    const fn short(mut self, letter: char) -> Self {
        self.short = Some(letter);
        self
    }

    const fn alias(mut self, name: &'static str) -> Self {
        self.alias = Some(name);
        self
    }

    const fn variable(mut self, name: &'static str) -> Self {
        self.variable = Some(name);
        self
    }

    const fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    const fn default(mut self, value: &'static str) -> Self {
        self.default = value;
        self
    }

    const fn only(mut self, command: Subcommand) -> Self {
        self.only = Some(command);
        self
    }

    const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    const fn moot(mut self, why: &'static str) -> Self {
        self.support = Support::Moot(why);
        self
    }

    const fn ignored(mut self, why: &'static str) -> Self {
        self.support = Support::Ignored(why);
        self
    }

    const fn refused(mut self, why: &'static str) -> Self {
        self.support = Support::Refused(why);
        self
    }

    /// Whether `key` is one of its names, as a configuration file may have it.
    pub fn is_called(&self, key: &str) -> bool {
        key == self.name || self.alias == Some(key) || self.short.is_some_and(|letter| key == letter.to_string())
    }

    /// Whether a command has it.
    pub fn is_of(&self, command: Subcommand) -> bool {
        self.only.is_none_or(|only| only == command)
    }

    /// Whether a value asks for nothing but what holds anyway.
    pub fn is_default(&self, value: &str) -> bool {
        match self.kind {
            Type::Switch => types::boolean(value) == types::boolean(self.default).or(Ok(false)),
            _ => value == self.default,
        }
    }
}

/// Every flag, in the order of the help.
pub fn all() -> impl Iterator<Item = &'static Flag> {
    [server::BEFORE, datastore::FLAGS, server::AFTER, agent::FLAGS].into_iter().flatten()
}

/// The flags of a command, in the order of the help.
pub fn of(command: Subcommand) -> impl Iterator<Item = &'static Flag> {
    all().filter(move |flag| flag.is_of(command))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_flags_share_a_name_a_letter_or_a_variable() {
        for command in [Subcommand::Server, Subcommand::Agent] {
            let (mut names, mut variables) = (HashSet::new(), HashSet::new());
            for flag in of(command) {
                let letter = flag.short.map(|letter| letter.to_string()).filter(|letter| letter != flag.name);
                let aliases = flag.alias.map(str::to_owned);
                for name in letter.into_iter().chain(aliases).chain([flag.name.to_owned()]) {
                    assert!(names.insert(name.clone()), "{name} is there twice");
                }
                if let Some(variable) = flag.variable {
                    assert!(variables.insert(variable), "{variable} is there twice");
                }
            }
        }
    }

    #[test]
    fn a_default_that_is_checked_is_a_value_that_is_taken() {
        for flag in all().filter(|flag| !flag.default.is_empty()) {
            flag.kind.check(flag.default).unwrap_or_else(|error| panic!("--{}: {error}", flag.name));
        }
    }

    #[test]
    fn every_reason_is_a_sentence_that_goes_on() {
        for flag in all() {
            let (Support::Moot(why) | Support::Ignored(why) | Support::Refused(why)) = flag.support else { continue };
            assert!(!why.is_empty() && !why.ends_with('.'), "--{}: {why:?}", flag.name);
        }
    }
}
