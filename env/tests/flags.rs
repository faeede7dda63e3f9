//! Every flag of k3s is known by its names, with its variable, on the command that has it.

use k3s_env::flag::{self, Flag, Subcommand, Type};

const FLAGS: &str = include_str!("data/k3s-flags.txt");

/// A line of the list.
struct Row {
    commands: &'static [Subcommand],
    names: Vec<&'static str>,
    takes: &'static str,
    variable: Option<&'static str>,
    hidden: bool,
}

fn rows() -> Vec<Row> {
    let rows = FLAGS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [commands, names, takes, variable, ref rest @ ..] = words[..] else { panic!("a row is short: {line}") };
        Row {
            commands: match commands {
                "both" => &[Subcommand::Server, Subcommand::Agent],
                "server" => &[Subcommand::Server],
                "agent" => &[Subcommand::Agent],
                other => panic!("no command {other}"),
            },
            names: names.split(',').collect(),
            takes,
            variable: Some(variable).filter(|it| *it != "-"),
            hidden: rest == ["hidden"],
        }
    });
    rows.collect()
}

fn find(command: Subcommand, name: &str) -> &'static Flag {
    flag::of(command).find(|flag| flag.is_called(name)).unwrap_or_else(|| panic!("k3s {} --{name}", command.name()))
}

#[test]
fn every_flag_of_k3s_is_known() {
    for row in rows() {
        for command in row.commands {
            for name in &row.names {
                let flag = find(*command, name);
                // K3S_ROOTLESS is an addition: units set variables, not flags.
                if *name != "rootless" {
                    assert_eq!(flag.variable, row.variable, "--{name}");
                }
                assert_eq!(flag.hidden || flag.alias == Some(name), row.hidden, "--{name}");
                let takes = match flag.kind {
                    Type::Switch => "switch",
                    _ if flag.repeatable => "list",
                    _ => "value",
                };
                assert_eq!(takes, row.takes, "--{name}");
            }
        }
        if let [only] = row.commands {
            let other = if *only == Subcommand::Server { Subcommand::Agent } else { Subcommand::Server };
            assert!(!flag::of(other).any(|flag| flag.is_called(row.names[0])), "--{} is of both", row.names[0]);
        }
    }
}

#[test]
fn there_is_no_flag_that_k3s_does_not_have() {
    let rows = rows();
    for flag in flag::all() {
        assert!(rows.iter().any(|row| row.names.contains(&flag.name)), "k3s has no --{}", flag.name);
    }
}

/// A flag with all its names is one line of help, and each is taken on the command line and as a key.
#[test]
fn each_flag_is_taken_on_the_command_line() {
    for row in rows() {
        for command in row.commands {
            for name in &row.names {
                let dashes = if name.len() == 1 { "-" } else { "--" };
                let args = match row.takes {
                    "switch" => vec![format!("{dashes}{name}")],
                    _ => vec![format!("{dashes}{name}"), "x".to_owned()],
                };
                let parsed = k3s_env::command(*command).no_binary_name(true).try_get_matches_from(&args);
                let matches = parsed.unwrap_or_else(|error| panic!("{args:?}: {error}"));
                assert!(matches.contains_id(find(*command, name).name), "{args:?}");
            }
        }
    }
}
