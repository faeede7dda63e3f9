//! `kubectl rollout history`, and the revisions of a resource.

use clap::Args;
use serde_json::Value;

use crate::cluster::{Cluster, Query};
use crate::describe;
use crate::error::Error;
use crate::flags::Context;
use crate::output::Format;
use crate::output::columns::Columns;
use crate::pods;
use crate::target::{self, Found};
use crate::{output, say};

#[derive(Debug, Args)]
pub struct HistoryArgs {
    #[command(flatten)]
    target: super::TargetArgs,
    /// See the details, including podTemplate of the revision specified
    #[arg(long, default_value_t = 0)]
    revision: u64,
}

/// A template a resource had.
pub struct Revision {
    pub number: u64,
    pub change_cause: Option<String>,
    /// The pod template.
    pub template: Value,
}

pub async fn run(args: HistoryArgs, context: &Context) -> Result<(), Error> {
    let format = Format::parse(args.target.output.as_deref(), None)?;
    let cluster = context.cluster().await?;
    for found in args.target.objects(&cluster).await? {
        let revisions = revisions(&cluster, &found).await?;
        let title = format!("{} ", found.named());
        if args.revision > 0 {
            let revision = revisions.iter().find(|revision| revision.number == args.revision);
            let revision = revision
                .ok_or_else(|| Error::usage(format!("unable to find the specified revision {}", args.revision)))?;
            if format.is_default() {
                let text = describe::pod_template(&revision.template);
                output::write(format_args!("{title}with revision #{}\nPod Template:\n{text}\n", revision.number))?;
            } else {
                output::write(format.render(&revision.template, true)?)?;
            }
            continue;
        }
        if revisions.is_empty() {
            say!("{title}\nNo rollout history found.");
            continue;
        }
        let mut rows = vec![vec!["REVISION".to_owned(), "CHANGE-CAUSE".to_owned()]];
        rows.extend(revisions.iter().map(|revision| {
            vec![revision.number.to_string(), revision.change_cause.clone().unwrap_or_else(|| "<none>".to_owned())]
        }));
        let table = Columns::describe().render(&rows);
        say!("{title}\n{table}");
    }
    Ok(())
}

/// The revisions of a deployment (its replica sets), a daemon set or a stateful set (controller revisions), oldest first.
pub async fn revisions(cluster: &Cluster, found: &Found) -> Result<Vec<Revision>, Error> {
    let (kind, number): (&str, fn(&Value) -> Option<u64>) = match found.resource.kind.as_str() {
        "Deployment" => ("replicasets.apps", |object| {
            k3s_api::object::annotation(object, "deployment.kubernetes.io/revision")?.parse().ok()
        }),
        "DaemonSet" | "StatefulSet" => ("controllerrevisions.apps", |object| object["revision"].as_u64()),
        other => return Err(Error::usage(format!("no history viewer has been implemented for {other}"))),
    };
    let resource = cluster.discovery().await?.find(kind)?.clone();
    let query = Query::new().with("labelSelector", &pods::selector_of(found)?);
    let owned = target::list(cluster, &resource, Some(found.namespace()), &query).await?;
    let uid = k3s_api::object::uid(&found.object);
    let mut revisions: Vec<Revision> = owned
        .into_iter()
        .filter(|child| k3s_api::object::controller_of(&child.object).is_some_and(|owner| owner.uid == uid))
        .filter_map(|child| {
            let template = match child.resource.kind.as_str() {
                "ReplicaSet" => &child.object["spec"]["template"],
                _ => &child.object["data"]["spec"]["template"],
            };
            let cause = k3s_api::object::annotation(&child.object, "kubernetes.io/change-cause");
            Some(Revision {
                number: number(&child.object)?,
                change_cause: cause.map(str::to_owned),
                template: template.clone(),
            })
        })
        .collect();
    revisions.sort_by_key(|revision| revision.number);
    Ok(revisions)
}
