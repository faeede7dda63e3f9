//! `kubectl wait`

use std::cell::RefCell;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use crate::error::Error;
use crate::flags::{Context, duration};
use crate::output::Format;
use crate::output::jsonpath::{self, Template};
use crate::target::{self, ObjectFlags};
use crate::watch;

/// Wait for a specific condition on one or many resources
#[derive(Debug, Args)]
pub struct Wait {
    #[command(flatten)]
    objects: ObjectFlags,
    /// [create|delete|condition=condition-name[=condition-value]|jsonpath='{JSONPath expression}'=[JSONPath value]]
    #[arg(long = "for")]
    wanted: Option<String>,
    /// The length of time to wait before giving up; zero means check once
    #[arg(long, default_value = "30s", value_parser = duration, allow_hyphen_values = true)]
    timeout: Duration,
    #[arg(short, long)]
    output: Option<String>,
}

/// What is waited for.
enum Goal {
    Create,
    Delete,
    Condition {
        kind: String,
        status: String,
    },
    /// Without a value: that there is one.
    JsonPath(Template, Option<String>),
}

impl Goal {
    fn parse(text: &str) -> Result<Self, Error> {
        if let Some(rest) = text.strip_prefix("condition=") {
            let (kind, status) = rest.split_once('=').unwrap_or((rest, "true"));
            return Ok(Self::Condition { kind: kind.to_owned(), status: status.to_owned() });
        }
        if let Some(rest) = text.strip_prefix("jsonpath=") {
            let rest = rest.trim_matches('\'');
            let (path, value) = match rest.rfind('}') {
                Some(end) => (&rest[..=end], rest[end + 1..].trim_start_matches('\'').strip_prefix('=')),
                None => rest.split_once('=').map_or((rest, None), |(path, value)| (path, Some(value))),
            };
            let value = value.map(|value| value.trim_matches(['\'', '"']).to_owned());
            if value.as_deref() == Some("") {
                return Err(Error::usage("jsonpath wait has to have a value after equal sign"));
            }
            return Ok(Self::JsonPath(Template::parse(&jsonpath::relaxed(path))?, value));
        }
        match text.to_lowercase().as_str() {
            "delete" => Ok(Self::Delete),
            "create" => Ok(Self::Create),
            _ => Err(Error::usage(format!("unrecognized condition: \"{text}\""))),
        }
    }

    fn is_met(&self, object: Option<&Value>) -> Result<bool, Error> {
        Ok(match (self, object) {
            (Self::Create, object) => object.is_some(),
            (Self::Delete, object) => object.is_none(),
            (_, None) => false,
            (Self::Condition { kind, status }, Some(object)) => {
                let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
                let mut matching =
                    conditions.filter(|own| own["type"].as_str().is_some_and(|own| own.eq_ignore_ascii_case(kind)));
                // What the controller said of an older generation says nothing of this one.
                let generation = object["metadata"]["generation"].as_i64();
                let observed = object["status"]["observedGeneration"].as_i64();
                let stale = observed.is_some_and(|observed| Some(observed) < generation);
                !stale && matching.any(|own| own["status"].as_str().is_some_and(|own| own.eq_ignore_ascii_case(status)))
            }
            (Self::JsonPath(template, value), Some(object)) => {
                let found = template.values(object)?;
                match value {
                    None => !found.is_empty(),
                    Some(value) => found.first().is_some_and(|found| jsonpath::go_text(found) == *value),
                }
            }
        })
    }
}

pub async fn run(args: Wait, context: &Context) -> Result<(), Error> {
    let format = Format::parse(args.output.as_deref(), None)?;
    let Some(wanted) = &args.wanted else { return Err(Error::usage("--for is required")) };
    let goal = Goal::parse(wanted)?;
    let cluster = context.cluster().await?;
    // Whoever waits in vain is told for what.
    let label = RefCell::new(args.objects.words.join(" "));
    let waiting = async {
        // What is to be created, or to go, need not be there now.
        if matches!(goal, Goal::Create | Goal::Delete) && !args.objects.select.is_selective() && !args.objects.all {
            for target in target::targets(&cluster, &args.objects.words, &args.objects.files).await? {
                let Some(name) = &target.name else {
                    return Err(Error::usage("resource(s) were provided, but no name was specified"));
                };
                let collection = target.resource.collection(Some(&target.namespace));
                label.replace(format!("{}/{name}", target.resource.plural));
                let mut last = serde_json::json!({"metadata": {"name": name, "namespace": target.namespace}});
                watch::until(&cluster, &collection, name, |object| {
                    last = object.cloned().unwrap_or_else(|| last.clone());
                    goal.is_met(object)
                })
                .await?;
                let found = target::Found { resource: target.resource, object: last };
                format.print_done(&found, "condition met")?;
            }
            return Ok(());
        }
        let found = args.objects.objects(&cluster).await?;
        if found.is_empty() {
            return Err(Error::usage("no matching resources found"));
        }
        for mut found in found {
            let collection = found.resource.collection(Some(found.namespace()));
            let name = found.name().to_owned();
            label.replace(format!("{}/{name}", found.resource.plural));
            let deleting = matches!(goal, Goal::Delete);
            watch::until(&cluster, &collection, &name, |object| {
                match object {
                    Some(object) => found.object = object.clone(),
                    None if !deleting => {
                        return Err(Error::usage(format!("{} \"{name}\" was deleted", found.resource.qualified())));
                    }
                    None => {}
                }
                goal.is_met(object)
            })
            .await?;
            format.print_done(&found, "condition met")?;
        }
        Ok(())
    };
    // Zero: what is so is so at once; a watch would never say it is not.
    let limit = if args.timeout.is_zero() { Duration::from_secs(1) } else { args.timeout };
    tokio::time::timeout(limit, waiting)
        .await
        .unwrap_or_else(|_| Err(Error::usage(format!("timed out waiting for the condition on {}", label.borrow()))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn goals_are_met() {
        let pod = json!({"metadata": {"generation": 2}, "status": {"phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}]}});
        for (goal, met) in [
            ("condition=Ready", true),
            ("condition=ready=True", true),
            ("condition=Ready=false", false),
            ("jsonpath={.status.phase}=Running", true),
            ("jsonpath='{.status.phase}'=Pending", false),
            ("jsonpath={.status.podIP}", false),
            ("create", true),
            ("delete", false),
        ] {
            assert_eq!(Goal::parse(goal).unwrap().is_met(Some(&pod)).unwrap(), met, "{goal}");
        }
        assert!(Goal::parse("delete").unwrap().is_met(None).unwrap());
        assert!(Goal::parse("nothing").is_err());
        let mut stale = pod.clone();
        stale["status"]["observedGeneration"] = json!(1);
        assert!(!Goal::parse("condition=Ready").unwrap().is_met(Some(&stale)).unwrap());
    }
}
