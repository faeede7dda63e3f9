//! `k3s check-config`.

use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::{Arg, Command};
use k3s_env::host::{Host, Outcome, examine};

const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[1;33m";
const GREEN: &str = "\x1b[32m";
const RESET: &str = "\x1b[0m";

/// Prints what this host has and lacks, a line each, with what mends it. Fails if something is lacking without which
/// k3s does not run.
pub fn run(args: Vec<OsString>) -> ExitCode {
    let parser = Command::new("check-config")
        .bin_name("k3s check-config")
        .about("Say whether this host has what k3s needs, and how to mend what it lacks")
        .no_binary_name(true)
        .arg(Arg::new("kernel-config").help("The kernel's configuration, if it is not where it usually is"));
    let matches = match parser.try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => error.exit(),
    };
    let mut host = Host::this();
    host.kernel_config = matches.get_one::<String>("kernel-config").map(Into::into);
    let colored = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let paint = |color: &str, text: &str| if colored { format!("{color}{text}{RESET}") } else { text.to_owned() };

    let mut text = String::new();
    let mut failed = 0;
    for section in examine(&host) {
        text.push_str(&format!("\n{}:\n", section.title));
        for finding in section.findings {
            let (outcome, mend) = match finding.outcome {
                Outcome::Pass(what) => (paint(GREEN, &what), None),
                Outcome::Warn { what, mend } => (paint(YELLOW, &format!("{what} (warn)")), Some(mend)),
                Outcome::Fail { what, mend } => {
                    failed += 1;
                    (paint(RED, &format!("{what} (fail)")), Some(mend))
                }
            };
            text.push_str(&format!("- {}: {outcome}\n", finding.name));
            if let Some(mend) = mend.filter(|mend| !mend.is_empty()) {
                text.push_str(&format!("    mend it with: {mend}\n"));
            }
        }
    }
    let status = if failed == 0 { paint(GREEN, "pass") } else { paint(RED, &format!("{failed} (fail)")) };
    text.push_str(&format!("\nSTATUS: {status}\n"));
    // Whoever closed the pipe has read enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
