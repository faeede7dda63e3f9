//! `kubectl apply`

mod client_side;
pub use client_side::with_last_applied;
mod server_side;
mod three_way;

use clap::Args;

use crate::error::Error;
use crate::flags::Context;
use crate::manifest::FileFlags;
use crate::output;
use crate::output::Format;
use crate::target::{self, Found, Target};

/// Apply a configuration to a resource by file name or stdin
#[derive(Debug, Args)]
pub struct Apply {
    #[command(flatten)]
    files: FileFlags,
    /// If true, apply runs in the server instead of the client
    #[arg(long)]
    server_side: bool,
    /// If true, server-side apply will force the changes against conflicts
    #[arg(long)]
    force_conflicts: bool,
    /// Name of the manager used to track field ownership
    #[arg(long)]
    field_manager: Option<String>,
    /// none, server, or client
    #[arg(long, default_value = "none", num_args = 0..=1, require_equals = true, default_missing_value = "client")]
    dry_run: String,
    /// strict, warn, ignore (or true, false)
    #[arg(long, default_value = "strict", num_args = 0..=1, require_equals = true, default_missing_value = "strict")]
    validate: String,
    /// Output format
    #[arg(short, long)]
    output: Option<String>,
    /// Pruning is not supported: this is refused
    #[arg(long, hide = true)]
    prune: bool,
    /// Immediately remove and recreate resources: not supported, this is refused
    #[arg(long, hide = true)]
    force: bool,
    /// Automatically resolve conflicts between the modified and live configuration
    #[arg(long, hide = true)]
    overwrite: bool,
}

pub async fn run(args: Apply, context: &Context) -> Result<(), Error> {
    let format = Format::parse(args.output.as_deref(), None)?;
    if args.files.is_empty() {
        return Err(Error::usage("must specify one of -f and -k"));
    }
    if args.prune {
        return Err(Error::usage("--prune is not supported; delete what is no longer wanted by name or with -l"));
    }
    if args.force {
        return Err(Error::usage("--force is not supported; use 'kubectl replace --force' or delete the object first"));
    }
    if args.force_conflicts && !args.server_side {
        return Err(Error::usage("--force-conflicts only works with --server-side"));
    }
    if args.server_side && args.dry_run == "client" {
        return Err(Error::usage(
            "--dry-run=client doesn't work with --server-side (did you mean --dry-run=server instead?)",
        ));
    }
    let suffix = dry_run_suffix(&args.dry_run)?;
    let validation = field_validation(&args.validate)?;
    let cluster = context.cluster().await?;
    let documents = args.files.read()?;
    if documents.is_empty() {
        return Err(Error::usage("no objects passed to apply"));
    }
    let mut errors = Vec::new();
    let mut applied = Vec::new();
    for document in documents {
        let source = document.source.clone();
        let target = match target::of_document(&cluster, document).await {
            Ok(target) => target,
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        let outcome = if args.server_side {
            server_side::apply(&cluster, &args, &target, validation).await
        } else {
            client_side::apply(&cluster, &args, &target, validation).await
        };
        match outcome {
            Ok((object, done)) => {
                let found = Found { resource: target.resource, object };
                if format.is_default() || matches!(format, Format::Name) {
                    format.print_done(&found, &format!("{done}{suffix}"))?;
                } else {
                    applied.push(found.object);
                }
            }
            Err(error) => errors.push(error.when("applying", &source)),
        }
    }
    print_objects(&format, applied)?;
    Error::collect(errors)
}

/// One object by itself, several as a list.
pub fn print_objects(format: &Format, mut objects: Vec<serde_json::Value>) -> Result<(), Error> {
    let mut whole = match objects.len() {
        0 => return Ok(()),
        1 => objects.remove(0),
        _ => output::list_of(objects),
    };
    output::hide_managed_fields(&mut whole);
    output::write(format.render(&whole, true)?)
}

/// What a line of a dry run ends with.
pub fn dry_run_suffix(dry_run: &str) -> Result<&'static str, Error> {
    match dry_run {
        "none" => Ok(""),
        "client" => Ok(" (dry run)"),
        "server" => Ok(" (server dry run)"),
        other => {
            Err(Error::usage(format!("Invalid dry-run value ({other}). Must be \"none\", \"server\", or \"client\".")))
        }
    }
}

/// The `fieldValidation` parameter of `--validate`.
pub fn field_validation(validate: &str) -> Result<&'static str, Error> {
    match validate {
        "strict" | "true" => Ok("Strict"),
        "warn" => Ok("Warn"),
        "ignore" | "false" => Ok("Ignore"),
        other => Err(Error::usage(format!(
            "invalid - validate option \"{other}\"; must be one of: strict (or true), warn, ignore (or false)"
        ))),
    }
}

fn name_of(target: &Target) -> Result<&str, Error> {
    match (&target.name, &target.document) {
        (Some(name), _) => Ok(name),
        (None, Some(document)) if !k3s_api::object::generate_name(&document.object).is_empty() => {
            let generate = k3s_api::object::generate_name(&document.object);
            Err(Error::usage(format!("from {generate}: cannot use generate name with apply")))
        }
        _ => Err(Error::usage("resource name may not be empty")),
    }
}
