//! `kubectl replace`

use clap::Args;
use serde_json::json;

use super::apply::{dry_run_suffix, field_validation, print_objects, with_last_applied};
use crate::cluster::Query;
use crate::error::Error;
use crate::flags::Context;
use crate::manifest::FileFlags;
use crate::output::Format;
use crate::target::{self, Found};
use crate::watch;

/// Replace a resource by file name or stdin
#[derive(Debug, Args)]
pub struct Replace {
    #[command(flatten)]
    files: FileFlags,
    /// Delete the resource and create it again
    #[arg(long)]
    force: bool,
    /// Period of time in seconds given to the resource to terminate gracefully, with --force
    #[arg(long, default_value_t = 0)]
    grace_period: u32,
    /// Save the configuration of the object in its annotation, for 'kubectl apply'
    #[arg(long)]
    save_config: bool,
    /// If specified, replace will operate on the subresource of the requested object
    #[arg(long)]
    subresource: Option<String>,
    /// none, server, or client
    #[arg(long, default_value = "none", num_args = 0..=1, require_equals = true, default_missing_value = "client")]
    dry_run: String,
    /// strict, warn, ignore (or true, false)
    #[arg(long, default_value = "strict", num_args = 0..=1, require_equals = true, default_missing_value = "strict")]
    validate: String,
    #[arg(short, long)]
    output: Option<String>,
}

pub async fn run(args: Replace, context: &Context) -> Result<(), Error> {
    let format = Format::parse(args.output.as_deref(), None)?;
    let suffix = dry_run_suffix(&args.dry_run)?;
    if args.files.is_empty() {
        return Err(Error::usage("must specify one of -f and -k"));
    }
    if args.force && args.dry_run != "none" {
        return Err(Error::usage("--dry-run can not be used when --force is set"));
    }
    let query = Query::new()
        .with("fieldManager", "kubectl-replace")
        .with("fieldValidation", field_validation(&args.validate)?)
        .with_some("dryRun", (args.dry_run == "server").then_some("All"));
    let documents = args.files.read()?;
    if documents.is_empty() {
        return Err(Error::usage("no objects passed to replace"));
    }
    let cluster = context.cluster().await?;
    let mut errors = Vec::new();
    let mut replaced = Vec::new();
    for mut document in documents {
        let source = document.source.clone();
        if args.save_config
            || k3s_api::object::annotation(&document.object, "kubectl.kubernetes.io/last-applied-configuration")
                .is_some()
        {
            document.object = with_last_applied(&document.object);
        }
        let attempt = async {
            let target = target::of_document(&cluster, document).await?;
            let (Some(name), Some(document)) = (target.name, target.document) else {
                return Err(Error::usage("resource name may not be empty"));
            };
            let resource = target.resource;
            let path = resource.path(&target.namespace, &name);
            let object = if args.force {
                let collection = resource.collection(Some(&target.namespace));
                match cluster.delete(&path, &json!({"gracePeriodSeconds": args.grace_period})).await {
                    Ok(_) => watch::until(&cluster, &collection, &name, |object| Ok(object.is_none())).await?,
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(error),
                }
                cluster.create(&format!("{collection}{query}"), &document.object).await?
            } else if args.dry_run == "client" {
                document.object
            } else {
                let subresource = args.subresource.as_ref().map(|name| format!("/{name}")).unwrap_or_default();
                cluster.replace(&format!("{path}{subresource}{query}"), &document.object).await?
            };
            Ok(Found { resource, object })
        };
        match attempt.await {
            Ok(found) if format.is_default() || matches!(format, Format::Name) => {
                format.print_done(&found, &format!("replaced{suffix}"))?;
            }
            Ok(found) => replaced.push(found.object),
            Err(error) => errors.push(error.when("replacing", &source)),
        }
    }
    print_objects(&format, replaced)?;
    Error::collect(errors)
}
