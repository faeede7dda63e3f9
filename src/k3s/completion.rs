//! `k3s completion`.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgAction, Command};
use clap_complete::aot::{Bash, Fish, Zsh, generate};
use k3s_env::flag::Subcommand;

use crate::commands::COMMANDS;

const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];
/// Between these lines, which are k3s's, a shell's start file has our part.
const START: &str = "# >> k3s command completion (start)";
const END: &str = "# >> k3s command completion (end)";

/// Prints the script of a shell that completes commands and flags, or has the user's shell load it at each start.
pub fn run(args: Vec<OsString>) -> ExitCode {
    let matches = match options("completion").bin_name("k3s completion").no_binary_name(true).try_get_matches_from(args)
    {
        Ok(matches) => matches,
        Err(error) => error.exit(),
    };
    let shell = matches.get_one::<String>("shell").map_or("", String::as_str);
    let done = if matches.get_flag("install") { install(shell) } else { std::io::stdout().write_all(&script(shell)) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("k3s completion: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options(name: &'static str) -> Command {
    Command::new(name)
        .about("Print a completion script; for example: k3s completion bash > /etc/bash_completion.d/k3s")
        .arg(Arg::new("shell").required(true).value_parser(SHELLS).help("Whose script"))
        .arg(
            Arg::new("install")
                .short('i')
                .action(ArgAction::SetTrue)
                .help("Have the shell load it at each start, by a line in its start file"),
        )
}

fn script(shell: &str) -> Vec<u8> {
    let mut k3s = tree();
    let mut script = Vec::new();
    match shell {
        "zsh" => generate(Zsh, &mut k3s, "k3s", &mut script),
        "fish" => generate(Fish, &mut k3s, "k3s", &mut script),
        _ => generate(Bash, &mut k3s, "k3s", &mut script),
    }
    script
}

/// Writes the file or the lines that the user's shell reads when it starts; a second time changes nothing.
fn install(shell: &str) -> std::io::Result<()> {
    let home = std::env::var_os("HOME")
        .map(PathBuf::from)
        .ok_or_else(|| std::io::Error::other("HOME is not set, so there is no start file of a shell; set it"))?;
    let path = match shell {
        "fish" => {
            let path = home.join(".config/fish/completions/k3s.fish");
            std::fs::create_dir_all(path.parent().unwrap_or(&home))?;
            std::fs::write(&path, script(shell))?;
            path
        }
        "zsh" => source_from(home.join(".zshrc"), shell)?,
        _ => source_from(home.join(".bashrc"), shell)?,
    };
    println!("{shell} completes k3s from its next start on ({})", path.display());
    Ok(())
}

fn source_from(path: PathBuf, shell: &str) -> std::io::Result<PathBuf> {
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(at(&path, error)),
    };
    if !text.contains(START) {
        let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        let lines = format!("{newline}{START}\n. <(k3s completion {shell})\n{END}\n");
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path).map_err(|e| at(&path, e))?;
        file.write_all(lines.as_bytes()).map_err(|error| at(&path, error))?;
    }
    Ok(path)
}

fn at(path: &Path, error: std::io::Error) -> std::io::Error {
    std::io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// All commands with their flags.
fn tree() -> Command {
    COMMANDS.iter().fold(Command::new("k3s"), |k3s, command| {
        let subcommand = match command.name {
            "server" => k3s_env::command(Subcommand::Server),
            "agent" => k3s_env::command(Subcommand::Agent),
            "completion" => options("completion"),
            name => Command::new(name),
        };
        k3s.subcommand(subcommand.about(command.about))
    })
}
