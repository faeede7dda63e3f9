//! What is asked for on the command line.

use std::{num::NonZeroUsize, time::Duration};

/// What `--help` says, and who asked for something else.
pub const USAGE: &str = "\
Measures the datastore against Debian's etcd on the same disk, and prints a table in Markdown.

Usage: tests/bench/run kine [OPTIONS]
       bench-kine [OPTIONS]
       bench-kine load trait|grpc|etcd CLIENTS SECONDS

Options:
  --quick         measure shorter, and once
  --only PART     measure one part: writes, list, watch, churn, perf or memory
  --rounds N      how often etcd and kine take turns [5; with --quick 1]
  --rest SECONDS  how long to wait, each time, for a moment in which nobody else computes [0]
  --help          print this

Data goes below $TMPDIR. The command load writes and does nothing else, for a profiler.";

/// One part of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Writes,
    List,
    Watch,
    Churn,
    /// `etcdctl check perf`.
    Perf,
    Memory,
}

impl Part {
    const ALL: [(&'static str, Part); 6] = [
        ("writes", Part::Writes),
        ("list", Part::List),
        ("watch", Part::Watch),
        ("churn", Part::Churn),
        ("perf", Part::Perf),
        ("memory", Part::Memory),
    ];

    fn parse(name: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|(known, _)| *known == name);
        known.map(|(_, part)| *part).ok_or_else(|| format!("there is no part named {name}"))
    }
}

/// The options.
#[derive(Debug, Default)]
pub struct Options {
    pub help: bool,
    pub quick: bool,
    only: Option<Part>,
    rounds: Option<NonZeroUsize>,
    pub rest: Duration,
}

impl Options {
    /// # Errors
    /// What is wrong with them.
    pub fn parse(args: &[String]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut args = args.iter();
        while let Some(option) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{option} wants a value"));
            match option.as_str() {
                "--help" | "-h" => options.help = true,
                "--quick" => options.quick = true,
                "--only" => options.only = Some(Part::parse(value()?)?),
                "--rounds" => options.rounds = Some(number(option, value()?)?),
                "--rest" => options.rest = Duration::from_secs(number(option, value()?)?),
                unknown => return Err(format!("there is no option {unknown}")),
            }
        }
        Ok(options)
    }

    /// Whether to measure it. `etcdctl check perf` takes a minute, so a quick run is without it.
    pub fn wants(&self, part: Part) -> bool {
        self.only.map_or(!(self.quick && part == Part::Perf), |only| only == part)
    }

    /// How often etcd and kine take turns.
    pub fn rounds(&self) -> usize {
        self.rounds.map_or(if self.quick { 1 } else { 5 }, NonZeroUsize::get)
    }
}

/// A number as the value of an option, or as an argument of a command.
///
/// # Errors
/// It is none, or not one that fits.
pub fn number<T: std::str::FromStr>(what: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{what} can't be {text}"))
}
