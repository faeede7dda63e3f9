//! The command line, made of the table of flags.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command};

use crate::flag::{self, Flag, Subcommand, Support, Type};

/// The command with all its flags, grouped in the help as k3s groups them.
pub fn command(subcommand: Subcommand) -> Command {
    let name = format!("k3s {}", subcommand.name());
    let command = Command::new(subcommand.name())
        .bin_name(name)
        .about(subcommand.about())
        .disable_version_flag(true)
        .max_term_width(120);
    flag::of(subcommand).fold(command, |command, flag| command.arg(arg(flag)))
}

fn arg(flag: &'static Flag) -> Arg {
    let arg = Arg::new(flag.name).help(help(flag)).help_heading(flag.group).hide(flag.hidden);
    // A one-letter name takes one dash and two, as in Go.
    let arg = if flag.name.len() == 1 { arg.alias(flag.name) } else { arg.long(flag.name) };
    let arg = if let Some(letter) = flag.short { arg.short(letter) } else { arg };
    let arg = if let Some(alias) = flag.alias { arg.alias(alias) } else { arg };
    match flag.kind {
        Type::Switch => arg
            .action(ArgAction::Append)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("bool"),
        kind => {
            let name = if kind == Type::Path { "path" } else { "value" };
            arg.action(ArgAction::Append).value_name(name).allow_hyphen_values(kind == Type::Argument)
        }
    }
}

fn help(flag: &Flag) -> String {
    let mut help = flag.help.to_owned();
    if !flag.default.is_empty() {
        help.push_str(&format!(" (default: {})", flag.default));
    }
    if let Some(variable) = flag.variable {
        help.push_str(&format!(" [${variable}]"));
    }
    match flag.support {
        Support::Whole | Support::Moot(_) => {}
        Support::Ignored(_) => help.push_str(" (no effect yet)"),
        Support::Refused(_) => help.push_str(" (not available yet)"),
    }
    help
}

/// Go's flags may have one dash before a long name: `-node-name=x`. Gives them the two that clap wants.
pub fn with_two_dashes(
    subcommand: Subcommand,
    args: impl IntoIterator<Item = OsString>,
) -> impl Iterator<Item = OsString> {
    args.into_iter().map(move |arg| {
        let Some(rest) = arg.to_str().and_then(|text| text.strip_prefix('-')) else { return arg };
        let name = rest.split_once('=').map_or(rest, |(name, _)| name);
        let long = name.len() > 1 && flag::of(subcommand).any(|flag| flag.name == name || flag.alias == Some(name));
        if long { format!("--{rest}").into() } else { arg }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_sound() {
        command(Subcommand::Server).debug_assert();
        command(Subcommand::Agent).debug_assert();
    }

    #[test]
    fn the_help_has_k3ss_groups_with_variables_and_defaults() {
        let help = command(Subcommand::Server).render_long_help().to_string();
        for words in ["listener:", "agent/node:", "db:", "--node-name", "[$K3S_TOKEN]", "(default: 6443)", "-v <value>"]
        {
            assert!(help.contains(words), "{words:?} is not in {help}");
        }
        assert!(!help.contains("--disable-etcd"), "{help}");
        let help = command(Subcommand::Agent).render_long_help().to_string();
        assert!(help.contains("--server") && !help.contains("--cluster-cidr"), "{help}");
    }
}
