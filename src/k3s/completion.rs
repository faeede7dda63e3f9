//! `k3s completion`.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{Arg, Command};
use clap_complete::aot::{Bash, Fish, Zsh, generate};
use k3s_env::flag::Subcommand;

use crate::commands::COMMANDS;

/// Prints the script of a shell that completes commands and flags.
pub fn run(args: Vec<OsString>) -> ExitCode {
    let parser = Command::new("completion")
        .bin_name("k3s completion")
        .about("Print a completion script; for example: k3s completion bash > /etc/bash_completion.d/k3s")
        .no_binary_name(true)
        .arg(Arg::new("shell").required(true).value_parser(["bash", "zsh", "fish"]).help("Whose script"));
    let matches = match parser.try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => error.exit(),
    };
    let mut k3s = tree();
    let mut script = Vec::new();
    match matches.get_one::<String>("shell").map(String::as_str) {
        Some("zsh") => generate(Zsh, &mut k3s, "k3s", &mut script),
        Some("fish") => generate(Fish, &mut k3s, "k3s", &mut script),
        _ => generate(Bash, &mut k3s, "k3s", &mut script),
    }
    match std::io::stdout().write_all(&script) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("k3s completion: {error}");
            ExitCode::FAILURE
        }
    }
}

/// All commands with their flags.
fn tree() -> Command {
    COMMANDS.iter().fold(Command::new("k3s"), |k3s, command| {
        let subcommand = match command.name {
            "server" => k3s_env::command(Subcommand::Server),
            "agent" => k3s_env::command(Subcommand::Agent),
            "completion" => Command::new(command.name).arg(Arg::new("shell").value_parser(["bash", "zsh", "fish"])),
            name => Command::new(name),
        };
        k3s.subcommand(subcommand.about(command.about))
    })
}
