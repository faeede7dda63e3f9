//! `kubectl patch`

use std::fs;
use std::path::PathBuf;

use clap::Args;

use super::apply::dry_run_suffix;
use crate::cluster::{JSON_PATCH, MERGE_PATCH, Query, STRATEGIC_PATCH};
use crate::error::Error;
use crate::flags::Context;
use crate::manifest::{self, FileFlags};
use crate::output::Format;
use crate::selector::SelectorFlags;
use crate::target::{self, Found};

/// Update fields of a resource
#[derive(Debug, Args)]
pub struct Patch {
    /// TYPE NAME, TYPE/NAME
    words: Vec<String>,
    #[command(flatten)]
    files: FileFlags,
    /// The patch to be applied to the resource JSON file
    #[arg(short, long)]
    patch: Option<String>,
    /// A file containing a patch to be applied to the resource
    #[arg(long)]
    patch_file: Option<PathBuf>,
    /// The type of patch being provided; one of [json merge strategic]
    #[arg(long = "type", default_value = "strategic")]
    kind: String,
    /// If specified, patch will operate on the subresource of the requested object
    #[arg(long)]
    subresource: Option<String>,
    /// none, server, or client
    #[arg(long, default_value = "none", num_args = 0..=1, require_equals = true, default_missing_value = "client")]
    dry_run: String,
    #[arg(short, long)]
    output: Option<String>,
}

pub async fn run(args: Patch, context: &Context) -> Result<(), Error> {
    let format = Format::parse(args.output.as_deref(), None)?;
    let suffix = dry_run_suffix(&args.dry_run)?;
    let kind = match args.kind.as_str() {
        "json" => JSON_PATCH,
        "merge" => MERGE_PATCH,
        "strategic" => STRATEGIC_PATCH,
        other => {
            return Err(Error::usage(format!("--type must be one of [json merge strategic], not \"{other}\"")));
        }
    };
    let text = match (&args.patch, &args.patch_file) {
        (Some(text), None) => text.clone(),
        (None, Some(path)) => fs::read_to_string(path).map_err(|cause| Error::File {
            action: "unable to read patch file",
            path: path.clone(),
            cause,
        })?,
        _ => return Err(Error::usage("must specify --patch or --patch-file containing the contents of the patch")),
    };
    let body = manifest::parse_yaml(&text, "the patch")?
        .into_iter()
        .next()
        .filter(|patch| patch.is_object() || patch.is_array())
        .ok_or_else(|| Error::usage(format!("unable to parse \"{text}\": it is no object and no list")))?;
    if args.dry_run == "client" {
        return Err(Error::usage("--dry-run=client is not supported for patch; use --dry-run=server"));
    }
    let cluster = context.cluster().await?;
    let query = Query::new().with("fieldManager", "kubectl-patch");
    let query = query.with_some("dryRun", (args.dry_run == "server").then_some("All"));
    let mut errors = Vec::new();
    for found in target::objects(&cluster, &args.words, &args.files, &SelectorFlags::default(), false).await? {
        let subresource = args.subresource.as_ref().map(|name| format!("/{name}")).unwrap_or_default();
        let path = format!("{}{subresource}{query}", found.path());
        match cluster.patch(&path, kind, body.to_string().into_bytes()).await {
            Ok(object) => {
                let unchanged =
                    k3s_api::object::resource_version(&object) == k3s_api::object::resource_version(&found.object);
                let done = if unchanged { "patched (no change)" } else { "patched" };
                format.print_done(&Found { object, ..found }, &format!("{done}{suffix}"))?;
            }
            Err(error) => errors.push(error),
        }
    }
    Error::collect(errors)
}
