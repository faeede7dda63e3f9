//! `kubectl rollout status`

use std::time::Duration;

use clap::{ArgAction, Args};
use serde_json::Value;

use crate::error::Error;
use crate::flags::{Context, duration};
use crate::{output, watch};

#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    target: super::TargetArgs,
    /// Watch the status of the rollout until it's done
    #[arg(short, long, action = ArgAction::Set, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    watch: bool,
    /// The length of time to wait before ending watch; zero means never
    #[arg(long, default_value = "0", value_parser = duration)]
    timeout: Duration,
    /// Pin to a specific revision for showing its status
    #[arg(long, default_value_t = 0)]
    revision: u64,
}

pub async fn run(args: StatusArgs, context: &Context) -> Result<(), Error> {
    let cluster = context.cluster().await?;
    let found = args.target.objects(&cluster).await?;
    if found.is_empty() {
        return Err(Error::usage("no resources found"));
    }
    for found in found {
        let kind = found.resource.kind.clone();
        let (name, revision) = (found.name().to_owned(), args.revision);
        let collection = found.resource.collection(Some(found.namespace()));
        let follow = watch::until(&cluster, &collection, &name, |object| {
            let object = object.ok_or_else(|| Error::usage("object has been deleted"))?;
            let (line, done) = state(&kind, object, revision)?;
            output::write(line)?;
            Ok(done || !args.watch)
        });
        if args.timeout.is_zero() {
            follow.await?;
        } else {
            let timed_out = || Error::usage("timed out waiting for the condition");
            tokio::time::timeout(args.timeout, follow).await.map_err(|_| timed_out())??;
        }
    }
    Ok(())
}

/// What there is to say about a rollout, and whether it is done.
fn state(kind: &str, object: &Value, revision: u64) -> Result<(String, bool), Error> {
    match kind {
        "Deployment" => deployment(object, revision),
        "DaemonSet" => daemon_set(object),
        "StatefulSet" => stateful_set(object),
        other => Err(Error::usage(format!("no status viewer has been implemented for {other}"))),
    }
}

fn is_observed(object: &Value) -> bool {
    object["metadata"]["generation"].as_i64() <= object["status"]["observedGeneration"].as_i64()
}

fn deployment(object: &Value, revision: u64) -> Result<(String, bool), Error> {
    let name = k3s_api::object::name(object);
    let current = k3s_api::object::annotation(object, "deployment.kubernetes.io/revision").unwrap_or_default();
    if revision > 0 && current != revision.to_string() {
        return Err(Error::usage(format!(
            "desired revision ({revision}) is different from the running revision ({current})"
        )));
    }
    if !is_observed(object) {
        return Ok(("Waiting for deployment spec update to be observed...\n".to_owned(), false));
    }
    let conditions = object["status"]["conditions"].as_array();
    let progressing = conditions.into_iter().flatten().find(|condition| condition["type"] == "Progressing");
    if progressing.is_some_and(|condition| condition["reason"] == "ProgressDeadlineExceeded") {
        return Err(Error::usage(format!("deployment \"{name}\" exceeded its progress deadline")));
    }
    let count = |field: &str| object["status"][field].as_i64().unwrap_or(0);
    let wanted = object["spec"]["replicas"].as_i64().unwrap_or(1);
    let (updated, replicas, available) = (count("updatedReplicas"), count("replicas"), count("availableReplicas"));
    let waiting = format!("Waiting for deployment \"{name}\" rollout to finish:");
    Ok(if updated < wanted {
        (format!("{waiting} {updated} out of {wanted} new replicas have been updated...\n"), false)
    } else if replicas > updated {
        (format!("{waiting} {} old replicas are pending termination...\n", replicas - updated), false)
    } else if available < updated {
        (format!("{waiting} {available} of {updated} updated replicas are available...\n"), false)
    } else {
        (format!("deployment \"{name}\" successfully rolled out\n"), true)
    })
}

fn daemon_set(object: &Value) -> Result<(String, bool), Error> {
    let name = k3s_api::object::name(object);
    if object["spec"]["updateStrategy"]["type"].as_str().unwrap_or("RollingUpdate") != "RollingUpdate" {
        return Err(Error::usage("rollout status is only available for RollingUpdate strategy type"));
    }
    if !is_observed(object) {
        return Ok(("Waiting for daemon set spec update to be observed...\n".to_owned(), false));
    }
    let count = |field: &str| object["status"][field].as_i64().unwrap_or(0);
    let (updated, wanted) = (count("updatedNumberScheduled"), count("desiredNumberScheduled"));
    let available = count("numberAvailable");
    let waiting = format!("Waiting for daemon set \"{name}\" rollout to finish:");
    Ok(if updated < wanted {
        (format!("{waiting} {updated} out of {wanted} new pods have been updated...\n"), false)
    } else if available < wanted {
        (format!("{waiting} {available} of {wanted} updated pods are available...\n"), false)
    } else {
        (format!("daemon set \"{name}\" successfully rolled out\n"), true)
    })
}

fn stateful_set(object: &Value) -> Result<(String, bool), Error> {
    let strategy = &object["spec"]["updateStrategy"];
    if strategy["type"].as_str().unwrap_or("RollingUpdate") != "RollingUpdate" {
        return Err(Error::usage("rollout status is only available for RollingUpdate strategy type"));
    }
    if object["status"]["observedGeneration"].as_i64().unwrap_or(0) == 0 || !is_observed(object) {
        return Ok(("Waiting for statefulset spec update to be observed...\n".to_owned(), false));
    }
    let count = |field: &str| object["status"][field].as_i64().unwrap_or(0);
    let wanted = object["spec"]["replicas"].as_i64().unwrap_or(1);
    let (ready, updated) = (count("readyReplicas"), count("updatedReplicas"));
    if ready < wanted {
        return Ok((format!("Waiting for {} pods to be ready...\n", wanted - ready), false));
    }
    if let Some(partition) = strategy["rollingUpdate"]["partition"].as_i64().filter(|partition| *partition > 0) {
        return Ok(if updated < wanted - partition {
            let target = wanted - partition;
            let text = format!(
                "Waiting for partitioned roll out to finish: {updated} out of {target} new pods have been updated...\n"
            );
            (text, false)
        } else {
            (format!("partitioned roll out complete: {updated} new pods have been updated...\n"), true)
        });
    }
    let status = &object["status"];
    if status["updateRevision"] != status["currentRevision"] {
        let revision = status["updateRevision"].as_str().unwrap_or_default();
        let text =
            format!("waiting for statefulset rolling update to complete {updated} pods at revision {revision}...\n");
        return Ok((text, false));
    }
    let (current, revision) = (count("currentReplicas"), status["currentRevision"].as_str().unwrap_or_default());
    Ok((format!("statefulset rolling update complete {current} pods at revision {revision}...\n"), true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_deployment_is_done_when_all_its_replicas_are_new_and_available() {
        let mut object = json!({"metadata": {"name": "web", "generation": 2}, "spec": {"replicas": 2},
            "status": {"observedGeneration": 1}});
        let mut say = |change: &[(&str, i64)]| {
            for (field, value) in change {
                object["status"][*field] = json!(value);
            }
            state("Deployment", &object, 0).unwrap()
        };
        assert_eq!(say(&[]).0, "Waiting for deployment spec update to be observed...\n");
        let waiting = "Waiting for deployment \"web\" rollout to finish:";
        let line = say(&[("observedGeneration", 2), ("updatedReplicas", 1), ("replicas", 3)]).0;
        assert_eq!(line, format!("{waiting} 1 out of 2 new replicas have been updated...\n"));
        assert_eq!(say(&[("updatedReplicas", 2)]).0, format!("{waiting} 1 old replicas are pending termination...\n"));
        let line = say(&[("replicas", 2), ("availableReplicas", 1)]).0;
        assert_eq!(line, format!("{waiting} 1 of 2 updated replicas are available...\n"));
        assert_eq!(say(&[("availableReplicas", 2)]), ("deployment \"web\" successfully rolled out\n".to_owned(), true));
    }
}
