//! The tables of docs/configuration.md, made of the table of flags.

use std::fmt::Write;

use crate::argument;
use crate::flag::{self, Flag, Subcommand, Support, Type};

/// The line before which the page is written by hand.
pub const BEGIN: &str =
    "<!-- From here to the end mark the text is made of the table of flags; see CONTRIBUTING.md. -->";
/// The line after which it is again.
pub const END: &str = "<!-- End of what is made of the table of flags. -->";

/// Every flag, by group, in Markdown.
pub fn reference() -> String {
    let mut groups: Vec<&str> = Vec::new();
    for flag in flag::all().filter(|flag| !flag.hidden) {
        if !groups.contains(&flag.group) {
            groups.push(flag.group);
        }
    }
    let mut text = String::new();
    for group in groups {
        section(&mut text, &format!("### {group}"), flag::all().filter(|flag| flag.group == group && !flag.hidden));
    }
    section(&mut text, "### Not shown in the help", flag::all().filter(|flag| flag.hidden));
    text.push_str("\n### Flags of components\n\n");
    text.push_str("| passed on by | flag | meaning |\n|---|---|---|\n");
    for argument in argument::ALL {
        let meaning = match argument.support {
            Support::Whole => argument.help.to_owned(),
            Support::Moot(why) | Support::Ignored(why) => format!("no effect: {why}"),
            Support::Refused(why) => format!("refused: {why}"),
        };
        let holds = argument.holds.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(" and ");
        let meaning = if holds.is_empty() { meaning } else { format!("{holds}: so it is. Else {meaning}") };
        row(&mut text, &[&format!("`--{}`", argument.through), &format!("`{}`", argument.name), &meaning]);
    }
    text
}

fn section(text: &mut String, heading: &str, flags: impl Iterator<Item = &'static Flag>) {
    let _ = write!(text, "\n{heading}\n\n| flag | variable | default | meaning |\n|---|---|---|---|\n");
    for flag in flags {
        let dashes = if flag.name.len() == 1 { "-" } else { "--" };
        let mut names = format!("`{dashes}{}`", flag.name);
        if let Some(letter) = flag.short.filter(|letter| flag.name != letter.to_string()) {
            let _ = write!(names, ", `-{letter}`");
        }
        if let Some(alias) = flag.alias {
            let _ = write!(names, ", `--{alias}`");
        }
        let code = |value: &str| if value.is_empty() { String::new() } else { format!("`{value}`") };
        row(text, &[&names, &code(flag.variable.unwrap_or("")), &code(default(flag)), &meaning(flag)]);
    }
}

fn default(flag: &Flag) -> &'static str {
    if flag.kind == Type::Switch && flag.default.is_empty() { "false" } else { flag.default }
}

fn meaning(flag: &Flag) -> String {
    let mut text = flag.help.to_owned();
    if flag.repeatable {
        text.push_str(". Several times");
    }
    match flag.only {
        Some(Subcommand::Server) | None => {}
        Some(Subcommand::Agent) => text.push_str(". `k3s agent` only"),
    }
    match flag.support {
        Support::Whole => {}
        Support::Moot(why) => text.push_str(&format!(". **Nothing to do**: {why}")),
        Support::Ignored(why) => text.push_str(&format!(". **No effect yet**, with a warning: {why}")),
        Support::Refused(why) => text.push_str(&format!(". **Refused**: {why}")),
    }
    text
}

fn row(text: &mut String, cells: &[&str]) {
    for cell in cells {
        let _ = write!(text, "| {} ", cell.replace('|', "\\|"));
    }
    text.push_str("|\n");
}
