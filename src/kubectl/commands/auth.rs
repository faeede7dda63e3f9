//! `kubectl auth`

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::error::Error;
use crate::flags::Context;
use crate::output::Format;
use crate::output::columns::Columns;
use crate::{output, say};

/// Inspect authorization
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct Auth {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check whether an action is allowed
    CanI(CanI),
    /// Check self subject attributes
    Whoami(Whoami),
}

#[derive(Debug, Args)]
struct CanI {
    /// VERB [TYPE | TYPE/NAME | NONRESOURCEURL] [NAME]
    words: Vec<String>,
    /// If true, check the specified action in all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// If true, prints all allowed actions
    #[arg(long)]
    list: bool,
    /// SubResource such as pod/log or deployment/scale
    #[arg(long)]
    subresource: Option<String>,
    /// If true, suppress output and just return the exit code
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Args)]
struct Whoami {
    #[arg(short, long)]
    output: Option<String>,
}

pub async fn run(args: Auth, context: &Context) -> Result<(), Error> {
    let cluster = context.cluster().await?;
    match args.command {
        Command::CanI(args) if args.list => list(&cluster).await,
        Command::CanI(args) => can_i(&args, &cluster).await,
        Command::Whoami(args) => whoami(&args, &cluster).await,
    }
}

async fn can_i(args: &CanI, cluster: &Cluster) -> Result<(), Error> {
    let (verb, what, name) = match args.words.as_slice() {
        [verb, what] => (verb, what, None),
        [verb, what, name] => (verb, what, Some(name.as_str())),
        _ => {
            return Err(Error::usage(
                "you must specify two arguments: verb resource or verb resource/resourceName.\nSee 'kubectl auth can-i -h' \
                 for help and examples",
            ));
        }
    };
    let mut spec = json!({});
    if what.starts_with('/') {
        spec["nonResourceAttributes"] = json!({"verb": verb, "path": what});
    } else {
        let (what, name) = what.split_once('/').map_or((what.as_str(), name), |(what, name)| (what, Some(name)));
        let mut attributes = json!({"verb": verb, "resource": what});
        match cluster.discovery().await?.find(what) {
            Ok(resource) => {
                attributes["resource"] = json!(resource.plural);
                attributes["group"] = json!(resource.group);
                if resource.namespaced && !args.all_namespaces {
                    attributes["namespace"] = json!(cluster.namespace);
                } else if !resource.namespaced {
                    eprintln!("Warning: resource '{}' is not namespace scoped\n", resource.plural);
                }
            }
            Err(_) if what == "*" => {
                attributes["group"] = json!("*");
                if !args.all_namespaces {
                    attributes["namespace"] = json!(cluster.namespace);
                }
            }
            // A rule may be about a resource that is not served.
            Err(_) => eprintln!("Warning: the server doesn't have a resource type '{what}'\n"),
        }
        if let Some(name) = name {
            attributes["name"] = json!(name);
        }
        if let Some(subresource) = &args.subresource {
            attributes["subresource"] = json!(subresource);
        }
        spec["resourceAttributes"] = attributes;
    }
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec});
    let answer = cluster.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review).await?;
    let status = &answer["status"];
    let allowed = status["allowed"] == true;
    if !args.quiet {
        let mut line = if allowed { "yes".to_owned() } else { "no".to_owned() };
        for (prefix, field) in [(" - ", "reason"), (" - ", "evaluationError")] {
            if let Some(text) = status[field].as_str().filter(|text| !text.is_empty() && !allowed) {
                line = format!("{line}{prefix}{text}");
            }
        }
        say!("{line}");
    }
    if allowed { Ok(()) } else { Err(Error::Silent(1)) }
}

async fn list(cluster: &Cluster) -> Result<(), Error> {
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": cluster.namespace}});
    let answer = cluster.create("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", &review).await?;
    let words = |value: &Value| {
        let words: Vec<&str> = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        format!("[{}]", words.join(" "))
    };
    let mut rows: Vec<Vec<String>> =
        vec![["Resources", "Non-Resource URLs", "Resource Names", "Verbs"].map(str::to_owned).to_vec()];
    for rule in answer["status"]["resourceRules"].as_array().into_iter().flatten() {
        let group = rule["apiGroups"][0].as_str().unwrap_or_default();
        for resource in rule["resources"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let resource = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
            rows.push(vec![resource, "[]".to_owned(), words(&rule["resourceNames"]), words(&rule["verbs"])]);
        }
    }
    for rule in answer["status"]["nonResourceRules"].as_array().into_iter().flatten() {
        rows.push(vec![String::new(), words(&rule["nonResourceURLs"]), "[]".to_owned(), words(&rule["verbs"])]);
    }
    output::write(Columns::new().render(&rows))
}

async fn whoami(args: &Whoami, cluster: &Cluster) -> Result<(), Error> {
    let format = Format::parse(args.output.as_deref(), None)?;
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let answer = cluster.create("/apis/authentication.k8s.io/v1/selfsubjectreviews", &review).await?;
    if !format.is_default() {
        return output::write(format.render(&answer, true)?);
    }
    let user = &answer["status"]["userInfo"];
    let mut rows: Vec<Vec<String>> = vec![vec!["ATTRIBUTE".to_owned(), "VALUE".to_owned()]];
    for (title, field) in [("Username", "username"), ("UID", "uid")] {
        if let Some(text) = user[field].as_str().filter(|text| !text.is_empty()) {
            rows.push(vec![title.to_owned(), text.to_owned()]);
        }
    }
    let list = |value: &Value| {
        let words: Vec<&str> = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        format!("[{}]", words.join(" "))
    };
    if user["groups"].is_array() {
        rows.push(vec!["Groups".to_owned(), list(&user["groups"])]);
    }
    for (key, values) in user["extra"].as_object().into_iter().flatten() {
        rows.push(vec![format!("Extra: {key}"), list(values)]);
    }
    output::write(Columns::new().render(&rows))
}
