//! `kubectl config`

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::error::Error;
use crate::flags::Context;
use crate::kubeconfig::Places;
use crate::manifest;
use crate::output::columns::Columns;
use crate::output::{self, Format, yaml};
use crate::say;

/// Modify kubeconfig files
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct Config {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Display merged kubeconfig settings or a specified kubeconfig file
    View(View),
    /// Display the current-context
    CurrentContext,
    /// Describe one or many contexts
    GetContexts(GetContexts),
    /// Set the current-context in a kubeconfig file
    #[command(alias = "use")]
    UseContext { name: String },
    /// Set a context entry in kubeconfig (cluster, user and namespace by the flags of these names)
    SetContext(SetContext),
}

#[derive(Debug, Args)]
struct View {
    /// Remove all information not used by current-context from the output
    #[arg(long)]
    minify: bool,
    /// Display raw byte data and sensitive data
    #[arg(long)]
    raw: bool,
    #[arg(short, long, default_value = "yaml")]
    output: String,
}

#[derive(Debug, Args)]
struct GetContexts {
    /// NAME
    name: Option<String>,
    /// When using the default output format, don't print headers
    #[arg(long)]
    no_headers: bool,
    /// name
    #[arg(short, long)]
    output: Option<String>,
}

#[derive(Debug, Args)]
struct SetContext {
    /// NAME
    name: Option<String>,
    /// Modify the current context
    #[arg(long)]
    current: bool,
}

pub async fn run(args: Config, context: &Context) -> Result<(), Error> {
    let places = Places::of_process(&context.flags);
    let mut config = read(&places)?;
    if let Some(name) = &context.flags.context {
        config["current-context"] = json!(name);
    }
    let current = config["current-context"].as_str().unwrap_or_default().to_owned();
    match args.command {
        Command::View(args) => view(&args, config, &current),
        Command::CurrentContext if current.is_empty() => Err(Error::usage("current-context is not set")),
        Command::CurrentContext => {
            say!("{current}");
            Ok(())
        }
        Command::GetContexts(args) => get_contexts(&args, &config, &current),
        Command::UseContext { name } => {
            if find(&config, "contexts", &name).is_none() {
                return Err(Error::usage(format!("no context exists with the name: \"{name}\"")));
            }
            change(&places, |file| file["current-context"] = json!(name))?;
            say!("Switched to context \"{name}\".");
            Ok(())
        }
        Command::SetContext(args) => set_context(&args, context, &places, &config, &current),
    }
}

/// The files merged, as plain values: the first to say something wins.
fn read(places: &Places) -> Result<Value, Error> {
    // Errors about files are those of every other command.
    crate::kubeconfig::load(places)?;
    let mut merged = json!({"apiVersion": "v1", "kind": "Config", "clusters": [], "contexts": [], "current-context": "", "users": []});
    for path in places.files().iter().filter(|path| path.exists()) {
        let file = read_file(path)?;
        for list in ["clusters", "contexts", "users"] {
            for entry in file[list].as_array().into_iter().flatten() {
                let name = entry["name"].as_str().unwrap_or_default();
                if find(&merged, list, name).is_none()
                    && let Some(entries) = merged[list].as_array_mut()
                {
                    entries.push(entry.clone());
                }
            }
        }
        if merged["current-context"] == "" && file["current-context"].is_string() {
            merged["current-context"] = file["current-context"].clone();
        }
    }
    Ok(merged)
}

fn read_file(path: &Path) -> Result<Value, Error> {
    let text = fs::read_to_string(path).map_err(|cause| Error::File {
        action: "cannot read",
        path: path.to_owned(),
        cause,
    })?;
    Ok(manifest::parse_yaml(&text, &path.display().to_string())?.into_iter().next().unwrap_or(json!({})))
}

fn find<'c>(config: &'c Value, list: &str, name: &str) -> Option<&'c Value> {
    config[list].as_array().into_iter().flatten().find(|entry| entry["name"] == name)
}

/// Changes the file that is written to. A crash leaves the old one or the new one.
fn change(places: &Places, edit: impl FnOnce(&mut Value)) -> Result<(), Error> {
    let path = places.writable().ok_or_else(|| Error::usage("there is no kubeconfig to write to: HOME is not set"))?;
    let mut file = if path.exists() { read_file(&path)? } else { json!({"apiVersion": "v1", "kind": "Config"}) };
    edit(&mut file);
    let failed = |cause| Error::File { action: "cannot write", path: path.clone(), cause };
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(failed)?;
    let mode = fs::metadata(&path).map_or(0o600, |metadata| metadata.permissions().mode());
    let new = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    fs::write(new.path(), yaml::to_string(&file)).map_err(failed)?;
    fs::set_permissions(new.path(), Permissions::from_mode(mode & 0o777)).map_err(failed)?;
    new.persist(&path).map_err(|error| failed(error.error))?;
    Ok(())
}

fn view(args: &View, mut config: Value, current: &str) -> Result<(), Error> {
    let format = Format::parse(Some(&args.output), None)?;
    if args.minify {
        let context = find(&config, "contexts", current)
            .cloned()
            .ok_or_else(|| Error::usage("current-context must exist in order to minify"))?;
        for (list, field) in [("clusters", "cluster"), ("users", "user")] {
            let wanted = context["context"][field].clone();
            if let Some(entries) = config[list].as_array_mut() {
                entries.retain(|entry| entry["name"] == wanted);
            }
        }
        config["contexts"] = json!([context]);
    }
    if !args.raw {
        hide(&mut config);
    }
    output::write(format.render(&config, true)?)
}

/// Takes secrets and certificates out.
fn hide(config: &mut Value) {
    for (list, kind, fields) in [
        ("clusters", "cluster", &[("certificate-authority-data", "DATA+OMITTED")][..]),
        (
            "users",
            "user",
            &[
                ("client-certificate-data", "DATA+OMITTED"),
                ("client-key-data", "DATA+OMITTED"),
                ("token", "REDACTED"),
                ("password", "REDACTED"),
            ],
        ),
    ] {
        for entry in config[list].as_array_mut().into_iter().flatten() {
            for (field, hidden) in fields {
                if entry[kind].get(*field).is_some() {
                    entry[kind][*field] = json!(hidden);
                }
            }
        }
    }
}

fn get_contexts(args: &GetContexts, config: &Value, current: &str) -> Result<(), Error> {
    if !matches!(args.output.as_deref(), None | Some("" | "name")) {
        return Err(Error::usage("output must be one of '' or 'name'"));
    }
    let mut contexts: Vec<&Value> = config["contexts"].as_array().into_iter().flatten().collect();
    if let Some(name) = &args.name {
        contexts.retain(|entry| entry["name"] == name.as_str());
        if contexts.is_empty() {
            return Err(Error::usage(format!("context {name} not found")));
        }
    }
    contexts.sort_by_key(|entry| entry["name"].as_str().unwrap_or_default().to_owned());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut rows: Vec<Vec<String>> = Vec::new();
    if !args.no_headers {
        rows.push(["CURRENT", "NAME", "CLUSTER", "AUTHINFO", "NAMESPACE"].map(str::to_owned).to_vec());
    }
    for entry in contexts {
        let name = text(&entry["name"]);
        if args.output.as_deref() == Some("name") {
            say!("{name}");
            continue;
        }
        let context = &entry["context"];
        let mark = if name == current { "*" } else { "" }.to_owned();
        rows.push(vec![mark, name, text(&context["cluster"]), text(&context["user"]), text(&context["namespace"])]);
    }
    if args.output.as_deref() == Some("name") { Ok(()) } else { output::write(Columns::new().render(&rows)) }
}

fn set_context(
    args: &SetContext,
    context: &Context,
    places: &Places,
    config: &Value,
    current: &str,
) -> Result<(), Error> {
    let name = match (&args.name, args.current) {
        (Some(name), false) => name.clone(),
        (None, true) if !current.is_empty() => current.to_owned(),
        (None, true) => return Err(Error::usage("no current context is set")),
        _ => return Err(Error::usage("you must specify a non-empty context name or --current")),
    };
    let existed = find(config, "contexts", &name).is_some();
    let flags = &context.flags;
    change(places, |file| {
        if !file["contexts"].is_array() {
            file["contexts"] = json!([]);
        }
        let Some(contexts) = file["contexts"].as_array_mut() else { return };
        let index = contexts.iter().position(|entry| entry["name"] == name.as_str()).unwrap_or_else(|| {
            contexts.push(json!({"name": name, "context": {}}));
            contexts.len() - 1
        });
        let entry = &mut contexts[index]["context"];
        for (field, value) in [("cluster", &flags.cluster), ("user", &flags.user), ("namespace", &flags.namespace)] {
            if let Some(value) = value {
                entry[field] = json!(value);
            }
        }
    })?;
    say!("Context \"{name}\" {}.", if existed { "modified" } else { "created" });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let mut config = json!({"users": [{"name": "u", "user": {"token": "t", "client-key-data": "k"}}],
            "clusters": [{"name": "c", "cluster": {"server": "s", "certificate-authority-data": "x"}}]});
        hide(&mut config);
        assert_eq!(config["users"][0]["user"], json!({"token": "REDACTED", "client-key-data": "DATA+OMITTED"}));
        assert_eq!(config["clusters"][0]["cluster"]["server"], "s");
    }

    #[test]
    fn a_change_keeps_the_files_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        fs::write(&path, "apiVersion: v1\nkind: Config\ncontexts: []\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let places = Places { flag: Some(path.clone()), variable: None, home: None, global: "/nonexistent".into() };
        change(&places, |file| file["current-context"] = json!("x")).unwrap();
        assert_eq!(read(&places).unwrap()["current-context"], "x");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }
}
