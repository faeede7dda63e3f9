//! `-o`: how objects are shown.

pub mod columns;
pub mod custom_columns;
pub mod json;
pub mod jsonpath;
mod jsonpath_parse;
pub mod table;
pub mod tabwriter;
pub mod yaml;
mod yaml_scalar;

use std::fmt::Display;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::error::Error;
use crate::target::Found;
use custom_columns::CustomColumns;
use jsonpath::Template;

/// Prints a line.
#[macro_export]
macro_rules! say {
    ($($arguments:tt)*) => { $crate::output::write(format_args!("{}\n", format_args!($($arguments)*)))? };
}

/// Writes to standard output at once.
pub fn write(text: impl Display) -> Result<(), Error> {
    let mut stdout = std::io::stdout().lock();
    write!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(Error::Output)
}

/// Writes to standard output at once.
pub fn write_bytes(bytes: &[u8]) -> Result<(), Error> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(Error::Output)
}

/// A format of `-o`.
#[derive(Debug)]
pub enum Format {
    /// The command's own: a table, or a line.
    Default,
    Wide,
    Json,
    Yaml,
    Name,
    JsonPath(Template),
    /// The found values as a JSON list.
    JsonPathAsJson(Template),
    CustomColumns(CustomColumns),
}

const ALLOWED: &str = "custom-columns,custom-columns-file,json,jsonpath,jsonpath-as-json,jsonpath-file,name,wide,yaml";

impl Format {
    /// Reads the value of `-o`; `template` is that of `--template`.
    pub fn parse(output: Option<&str>, template: Option<&str>) -> Result<Self, Error> {
        let output = output.unwrap_or_default();
        let (format, argument) = match output.split_once('=') {
            Some((format, argument)) => (format, Some(argument)),
            None => (output, template),
        };
        let argument = || {
            argument.filter(|argument| !argument.is_empty()).ok_or_else(|| {
                Error::usage(format!("template format specified but no template given: -o {format}=..."))
            })
        };
        let file = |path: &str| {
            fs::read_to_string(path).map_err(|cause| Error::File {
                action: "error reading template",
                path: PathBuf::from(path),
                cause,
            })
        };
        Ok(match format {
            "" if template.is_none() => Self::Default,
            "wide" => Self::Wide,
            "json" => Self::Json,
            "yaml" => Self::Yaml,
            "name" => Self::Name,
            "jsonpath" => Self::JsonPath(Template::parse(argument()?)?),
            "jsonpath-as-json" => Self::JsonPathAsJson(Template::parse(argument()?)?),
            "jsonpath-file" => Self::JsonPath(Template::parse(&file(argument()?)?)?),
            "custom-columns" => Self::CustomColumns(CustomColumns::parse(argument()?)?),
            "custom-columns-file" => Self::CustomColumns(CustomColumns::parse_file(&file(argument()?)?)?),
            "" | "go-template" | "go-template-file" | "template" | "templatefile" => {
                return Err(Error::usage(
                    "Go templates are not supported by this kubectl; use -o jsonpath=..., -o custom-columns=... or -o json",
                ));
            }
            other => {
                return Err(Error::usage(format!(
                    "unable to match a printer suitable for the output format \"{other}\", allowed formats are: {ALLOWED}"
                )));
            }
        })
    }

    /// Whether the command's own lines are wanted (`pod/x created`).
    pub fn is_default(&self) -> bool {
        matches!(self, Self::Default | Self::Wide)
    }

    /// Shows what a command did to an object: the object in this format, or the line `deployment.apps/x <done>`.
    pub fn print_done(&self, found: &Found, done: &str) -> Result<(), Error> {
        match self {
            Self::Default | Self::Wide => write(format_args!("{} {done}\n", found.named())),
            Self::Name => write(format_args!("{}\n", found.named())),
            _ => write(self.render(&found.object, false)?),
        }
    }

    /// An object in one of the formats that need no table. `headers`: whether custom columns have them.
    pub fn render(&self, object: &Value, headers: bool) -> Result<String, Error> {
        Ok(match self {
            Self::Json => json::to_string(object),
            Self::Yaml => yaml::to_string(object),
            Self::JsonPath(template) => template.render(object)?,
            Self::JsonPathAsJson(template) => json::to_string(&Value::Array(template.values(object)?)),
            Self::CustomColumns(columns) => columns.render(object, headers)?,
            Self::Default | Self::Wide | Self::Name => String::new(),
        })
    }
}

/// Objects as one `List`.
pub fn list_of(items: Vec<Value>) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items})
}

/// Takes `metadata.managedFields` out, of the object or of the items of a list.
pub fn hide_managed_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    for item in object.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        hide_managed_fields(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_named_as_in_kubectl() {
        assert!(matches!(Format::parse(None, None), Ok(Format::Default)));
        assert!(matches!(Format::parse(Some("wide"), None), Ok(Format::Wide)));
        assert!(matches!(Format::parse(Some("jsonpath={.a}"), None), Ok(Format::JsonPath(_))));
        assert!(matches!(Format::parse(Some("jsonpath"), Some("{.a}")), Ok(Format::JsonPath(_))));
        let error = Format::parse(Some("foo"), None).unwrap_err().to_string();
        assert!(error.starts_with("error: unable to match a printer suitable for the output format \"foo\""));
        assert!(Format::parse(Some("go-template={{.x}}"), None).unwrap_err().to_string().contains("Go templates"));
        assert!(Format::parse(Some("jsonpath="), None).is_err());
    }
}
