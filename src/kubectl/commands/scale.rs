//! `kubectl scale`

use clap::Args;
use serde_json::json;

use crate::cluster::MERGE_PATCH;
use crate::error::Error;
use crate::flags::Context;
use crate::output::Format;
use crate::target::ObjectFlags;

/// Set a new size for a deployment, replica set, stateful set, or replication controller
#[derive(Debug, Args)]
pub struct Scale {
    #[command(flatten)]
    objects: ObjectFlags,
    /// The new desired number of replicas. Required
    #[arg(long)]
    replicas: Option<u32>,
    /// Precondition for current size
    #[arg(long)]
    current_replicas: Option<u32>,
    /// Precondition for resource version
    #[arg(long)]
    resource_version: Option<String>,
    #[arg(short, long)]
    output: Option<String>,
}

pub async fn run(args: Scale, context: &Context) -> Result<(), Error> {
    let format = Format::parse(args.output.as_deref(), None)?;
    let Some(replicas) = args.replicas else {
        return Err(Error::usage("required flag(s) \"replicas\" not set"));
    };
    let cluster = context.cluster().await?;
    let found = args.objects.objects(&cluster).await?;
    if found.is_empty() {
        return Err(Error::usage("no objects passed to scale"));
    }
    let mut errors = Vec::new();
    for mut found in found {
        if !found.resource.subresources.iter().any(|sub| sub == "scale") {
            errors.push(Error::usage(format!("cannot scale {}: it has no scale subresource", found.named())));
            continue;
        }
        let path = format!("{}/scale", found.path());
        let attempt = async {
            let mut patch = json!({"spec": {"replicas": replicas}});
            if args.current_replicas.is_some() || args.resource_version.is_some() {
                let scale = cluster.get(&path).await?;
                let (now, revision) =
                    (scale["spec"]["replicas"].as_u64().unwrap_or(0), k3s_api::object::resource_version(&scale));
                if let Some(expected) = args.current_replicas
                    && u64::from(expected) != now
                {
                    return Err(Error::usage(format!("Expected replicas to be {expected}, was {now}")));
                }
                if let Some(expected) = &args.resource_version
                    && expected != revision
                {
                    return Err(Error::usage(format!("Expected resource version to be {expected}, was {revision}")));
                }
                patch["metadata"] = json!({"resourceVersion": revision});
            }
            cluster.patch(&path, MERGE_PATCH, patch.to_string().into_bytes()).await
        };
        match attempt.await {
            Ok(_) => {
                if !format.is_default() {
                    found.object = cluster.get(&found.path()).await?;
                }
                format.print_done(&found, "scaled")?;
            }
            Err(error) => errors.push(error),
        }
    }
    Error::collect(errors)
}
