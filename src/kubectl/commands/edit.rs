//! `kubectl edit`

use std::io::Write;
use std::path::Path;
use std::{env, fs};

use clap::Args;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::error::Error;
use crate::flags::Context;
use crate::manifest::{self, FileFlags};
use crate::output::{self, Format, yaml};
use crate::selector::SelectorFlags;
use crate::target::{self, Found};

const HEADER: &str = "# Please edit the object below. Lines beginning with a '#' will be ignored,
# and an empty file will abort the edit. If an error occurs while saving this file will be
# reopened with the relevant failures.
#
";

/// Edit a resource on the server
#[derive(Debug, Args)]
pub struct Edit {
    /// TYPE NAME, TYPE/NAME
    words: Vec<String>,
    #[command(flatten)]
    files: FileFlags,
}

pub async fn run(args: Edit, context: &Context) -> Result<(), Error> {
    let cluster = context.cluster().await?;
    for mut found in target::objects(&cluster, &args.words, &args.files, &SelectorFlags::default(), true).await? {
        output::hide_managed_fields(&mut found.object);
        edit(&cluster, found).await?;
    }
    Ok(())
}

/// Opens the editor again and again until what comes out is accepted, unchanged or empty.
async fn edit(cluster: &Cluster, found: Found) -> Result<(), Error> {
    let failed = |cause| Error::File { action: "cannot write", path: env::temp_dir(), cause };
    let mut file = tempfile::Builder::new().prefix("kubectl-edit-").suffix(".yaml").tempfile().map_err(failed)?;
    let original = yaml::to_string(&found.object);
    let mut text = format!("{HEADER}{original}");
    loop {
        file.as_file().set_len(0).map_err(failed)?;
        fs::write(file.path(), &text).map_err(failed)?;
        file.flush().map_err(failed)?;
        open_editor(file.path()).await?;
        let edited = fs::read_to_string(file.path()).map_err(failed)?;
        let body: String =
            edited.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
        if edited == text && text != format!("{HEADER}{original}") {
            let (_, path) = file.keep().map_err(|error| failed(error.error))?;
            eprintln!("A copy of your changes has been stored to \"{}\"", path.display());
            return Err(Error::usage("Edit cancelled, no valid changes were saved."));
        }
        if body.trim().is_empty() || body == original {
            return output::write("Edit cancelled, no changes made.\n");
        }
        match save(cluster, &found, &body).await {
            Ok(object) => return Format::Default.print_done(&Found { object, ..found }, "edited"),
            Err(error) => {
                let lines: String = error.to_string().lines().map(|line| format!("# {line}\n")).collect();
                text = format!("{HEADER}{lines}#\n{body}");
            }
        }
    }
}

async fn save(cluster: &Cluster, found: &Found, body: &str) -> Result<Value, Error> {
    let edited = manifest::parse_yaml(body, "the edited object")?.into_iter().next().unwrap_or_default();
    let same = |field: &str| edited["metadata"][field] == found.object["metadata"][field];
    if edited["kind"] != found.object["kind"] || !same("name") || !same("namespace") {
        return Err(Error::usage("the kind, the name and the namespace of an object cannot be edited"));
    }
    let path = format!("{}?fieldManager=kubectl-edit&fieldValidation=Strict", found.path());
    cluster.replace(&path, &edited).await
}

/// `$KUBE_EDITOR`, `$EDITOR`, or vi; it gets the terminal.
async fn open_editor(path: &Path) -> Result<(), Error> {
    let editor =
        ["KUBE_EDITOR", "EDITOR"].iter().find_map(|name| env::var(name).ok().filter(|value| !value.is_empty()));
    let editor = editor.unwrap_or_else(|| "vi".to_owned());
    let command = format!("{editor} \"$1\"");
    let status = tokio::process::Command::new("sh").arg("-c").arg(&command).arg("sh").arg(path).status().await;
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Error::usage(format!("there was a problem with the editor \"{editor}\": {status}"))),
        Err(cause) => Err(Error::usage(format!("unable to launch the editor \"{editor}\": {cause}"))),
    }
}
