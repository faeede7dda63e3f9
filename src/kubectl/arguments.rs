//! What Go's flags allow and clap's don't: `--flag=true`, and kubectl's words about wrong ones.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Command};

use crate::error::Error;

/// Rewrites `--flag=true` to `--flag`, and leaves `--flag=false` out, for the flags that are switches of the command at
/// hand.
pub fn normalize(root: &Command, args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut command = root;
    let mut globals: Vec<&str> = switches(root).collect();
    let mut normal = vec![OsString::from("kubectl")];
    let mut rest = false;
    for arg in args {
        let Some(text) = arg.to_str().filter(|_| !rest) else {
            normal.push(arg);
            continue;
        };
        if text == "--" {
            rest = true;
        } else if let Some((flag, value)) = text.strip_prefix("--").and_then(|flag| flag.split_once('=')) {
            if globals.contains(&flag) {
                match value {
                    "true" | "1" | "t" | "T" | "TRUE" | "True" => normal.push(OsString::from(format!("--{flag}"))),
                    "false" | "0" | "f" | "F" | "FALSE" | "False" => {}
                    _ => normal.push(arg),
                }
                continue;
            }
        } else if !text.starts_with('-')
            && let Some(sub) = command.find_subcommand(text)
        {
            command = sub;
            globals.extend(switches(sub));
        }
        normal.push(arg);
    }
    normal
}

fn switches(command: &Command) -> impl Iterator<Item = &str> {
    command
        .get_arguments()
        .filter(|arg| matches!(arg.get_action(), ArgAction::SetTrue))
        .filter_map(|arg| arg.get_long())
}

/// kubectl's words for what clap found wrong. Help is no error: it is printed, and the answer is `None`.
pub fn complaint(error: &clap::Error, words: &[OsString], root: &Command) -> Option<Error> {
    let path = command_path(words, root);
    let see = format!("See '{path} --help' for usage.");
    let text = |kind: ContextKind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(", "),
        _ => String::new(),
    };
    let message = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => return None,
        ErrorKind::InvalidSubcommand => {
            let word = text(ContextKind::InvalidSubcommand);
            let mut message = format!("unknown command \"{word}\" for \"{path}\"");
            let suggestions = text(ContextKind::SuggestedSubcommand);
            if !suggestions.is_empty() {
                let lines: Vec<String> = suggestions.split(", ").map(|one| format!("\t{one}")).collect();
                message = format!("{message}\n\nDid you mean this?\n{}", lines.join("\n"));
            }
            message
        }
        ErrorKind::UnknownArgument => {
            let arg = text(ContextKind::InvalidArg);
            let unknown = match arg.strip_prefix("--") {
                Some(_) => format!("unknown flag: {arg}"),
                None if arg.starts_with('-') => {
                    format!("unknown shorthand flag: '{}' in {arg}", arg.chars().nth(1).unwrap_or('-'))
                }
                None => format!("unexpected argument \"{arg}\""),
            };
            format!("{unknown}\n{see}")
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let (arg, value) = (text(ContextKind::InvalidArg), text(ContextKind::InvalidValue));
            let flag = arg.split_whitespace().next().unwrap_or_default().to_owned();
            if value.is_empty() {
                format!("flag needs an argument: {flag}\n{see}")
            } else {
                let cause = std::error::Error::source(error)
                    .map_or_else(|| "not a valid value".to_owned(), ToString::to_string);
                format!("invalid argument \"{value}\" for \"{flag}\" flag: {cause}\n{see}")
            }
        }
        _ => {
            let rendered = error.render().to_string();
            let first =
                rendered.trim_start_matches("error: ").split("\n\n").next().unwrap_or_default().trim().to_owned();
            format!("{first}\n{see}")
        }
    };
    Some(Error::Usage(message))
}

/// `kubectl rollout status`: the command the words name.
fn command_path(words: &[OsString], root: &Command) -> String {
    let mut path = "kubectl".to_owned();
    let mut command = root;
    for word in words.iter().skip(1).filter_map(|word| word.to_str()) {
        if let Some(sub) = command.find_subcommand(word) {
            path = format!("{path} {}", sub.get_name());
            command = sub;
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Arg;

    fn root() -> Command {
        let wide = Arg::new("wide").long("wide").action(ArgAction::SetTrue);
        Command::new("kubectl").subcommand(Command::new("get").arg(wide).arg(Arg::new("output").long("output")))
    }

    fn normal(words: &[&str]) -> Vec<String> {
        let words = normalize(&root(), words.iter().map(OsString::from));
        words.into_iter().skip(1).map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn switches_take_values_as_in_go() {
        assert_eq!(normal(&["get", "--wide=true"]), ["get", "--wide"]);
        assert_eq!(normal(&["get", "--wide=false", "x"]), ["get", "x"]);
        assert_eq!(normal(&["get", "--output=true"]), ["get", "--output=true"]);
        assert_eq!(normal(&["get", "--", "--wide=true"]), ["get", "--", "--wide=true"]);
    }

    #[test]
    fn wrong_words_are_named_as_by_kubectl() {
        let complain = |words: &[&str]| {
            let words = normalize(&root(), words.iter().map(OsString::from));
            let error = root().try_get_matches_from(&words).unwrap_err();
            complaint(&error, &words, &root()).unwrap().to_string()
        };
        assert!(complain(&["foo"]).starts_with("error: unknown command \"foo\" for \"kubectl\""));
        assert_eq!(complain(&["get", "--foo"]), "error: unknown flag: --foo\nSee 'kubectl get --help' for usage.");
        assert_eq!(
            complain(&["get", "-z"]),
            "error: unknown shorthand flag: 'z' in -z\nSee 'kubectl get --help' for usage."
        );
    }
}
