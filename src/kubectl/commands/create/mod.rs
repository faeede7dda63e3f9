//! `kubectl create`

mod config;
mod rbac;
mod service;
mod token;
mod workload;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::apply::{dry_run_suffix, field_validation, print_objects};
use crate::cluster::Query;
use crate::error::Error;
use crate::flags::Context;
use crate::manifest::{Document, FileFlags};
use crate::output::Format;
use crate::target::{self, Found};

/// Create a resource from a file or from stdin
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Create {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    files: FileFlags,
    #[command(flatten)]
    flags: CreateFlags,
}

/// How objects are created.
#[derive(Debug, Clone, Default, Args)]
pub struct CreateFlags {
    /// none, server, or client
    #[arg(long, default_value = "none", num_args = 0..=1, require_equals = true, default_missing_value = "client")]
    pub dry_run: String,
    /// strict, warn, ignore (or true, false)
    #[arg(long, default_value = "strict", num_args = 0..=1, require_equals = true, default_missing_value = "strict")]
    pub validate: String,
    /// Output format
    #[arg(short, long)]
    pub output: Option<String>,
    /// Save the configuration of the object in its annotation, for 'kubectl apply'
    #[arg(long)]
    pub save_config: bool,
    /// Name of the manager used to track field ownership
    #[arg(long, default_value = "kubectl-create")]
    pub field_manager: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a namespace with the specified name
    #[command(visible_alias = "ns")]
    Namespace(Named),
    /// Create a service account with the specified name
    #[command(name = "serviceaccount", visible_alias = "sa")]
    ServiceAccount(Named),
    /// Create a config map from a local file, directory or literal value
    #[command(name = "configmap", visible_alias = "cm")]
    ConfigMap(config::ConfigMap),
    /// Create a secret using a specified subcommand
    Secret(config::Secret),
    /// Create a deployment with the specified name
    #[command(visible_alias = "deploy")]
    Deployment(workload::Deployment),
    /// Create a job with the specified name
    Job(workload::Job),
    /// Create a service using a specified subcommand
    #[command(visible_alias = "svc")]
    Service(service::Service),
    /// Create a role with single rule
    Role(rbac::Role),
    /// Create a cluster role
    #[command(name = "clusterrole")]
    ClusterRole(rbac::Role),
    /// Create a role binding for a particular role or cluster role
    #[command(name = "rolebinding")]
    RoleBinding(rbac::Binding),
    /// Create a cluster role binding for a particular cluster role
    #[command(name = "clusterrolebinding")]
    ClusterRoleBinding(rbac::Binding),
    /// Request a service account token
    Token(token::Token),
}

#[derive(Debug, Args)]
struct Named {
    /// NAME
    names: Vec<String>,
    #[command(flatten)]
    flags: CreateFlags,
}

/// The only name of the words.
pub fn one_name<'n>(names: &'n [String], command: &str) -> Result<&'n str, Error> {
    match names {
        [name] => Ok(name),
        names => Err(Error::usage(format!(
            "exactly one NAME is required, got {}\nSee 'kubectl {command} -h' for help and examples",
            names.len()
        ))),
    }
}

pub async fn run(args: Create, context: &Context) -> Result<(), Error> {
    let (object, flags) = match args.command {
        None => {
            if args.files.is_empty() {
                return Err(Error::usage("must specify one of -f and -k"));
            }
            let documents = args.files.read()?;
            if documents.is_empty() {
                return Err(Error::usage("no objects passed to create"));
            }
            return create(context, documents, &args.flags, "created").await;
        }
        Some(Command::Namespace(args)) => {
            let name = one_name(&args.names, "create namespace")?;
            (simple("v1", "Namespace", name, serde_json::json!({"spec": {}, "status": {}})), args.flags)
        }
        Some(Command::ServiceAccount(args)) => {
            let name = one_name(&args.names, "create serviceaccount")?;
            (simple("v1", "ServiceAccount", name, serde_json::json!({})), args.flags)
        }
        Some(Command::ConfigMap(args)) => (args.object()?, args.flags),
        Some(Command::Secret(args)) => args.object()?,
        Some(Command::Deployment(args)) => (args.object()?, args.flags),
        Some(Command::Job(args)) => (args.object(context).await?, args.flags),
        Some(Command::Service(args)) => args.object()?,
        Some(Command::Role(args)) => (args.object(context, "Role").await?, args.flags),
        Some(Command::ClusterRole(args)) => (args.object(context, "ClusterRole").await?, args.flags),
        Some(Command::RoleBinding(args)) => (args.object(context, "RoleBinding").await?, args.flags),
        Some(Command::ClusterRoleBinding(args)) => (args.object(context, "ClusterRoleBinding").await?, args.flags),
        Some(Command::Token(args)) => return token::run(args, context).await,
    };
    create(context, vec![Document { object, source: String::new() }], &flags, "created").await
}

/// An object of a kind, with what else it has.
pub fn simple(api_version: &str, kind: &str, name: &str, rest: Value) -> Value {
    let mut object = rest;
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.into();
    object["metadata"]["name"] = name.into();
    object
}

/// Creates the objects, or only shows them (`--dry-run=client`: then generated ones need no server). `done` is what its
/// lines say.
pub async fn create(context: &Context, documents: Vec<Document>, flags: &CreateFlags, done: &str) -> Result<(), Error> {
    let format = Format::parse(flags.output.as_deref(), None)?;
    let suffix = dry_run_suffix(&flags.dry_run)?;
    let query = Query::new()
        .with("fieldManager", &flags.field_manager)
        .with("fieldValidation", field_validation(&flags.validate)?)
        .with_some("dryRun", (flags.dry_run == "server").then_some("All"));
    let mut errors = Vec::new();
    let mut created = Vec::new();
    let cluster = context.cluster().await;
    for mut document in documents {
        let source = document.source.clone();
        let kind = k3s_api::object::kind(&document.object).to_owned();
        if flags.save_config {
            document.object = super::apply::with_last_applied(&document.object);
        }
        let attempt = async {
            if flags.dry_run == "client" && source.is_empty() {
                return Ok(offline(document.object, context));
            }
            let cluster = cluster.as_ref().map_err(|error| Error::Plain(error.to_string()))?;
            let target = target::of_document(cluster, document).await?;
            let Some(document) = target.document else { return Err(Error::usage("no objects passed to create")) };
            let object = if flags.dry_run == "client" {
                document.object
            } else {
                let collection = target.resource.collection(Some(&target.namespace));
                cluster.create(&format!("{collection}{query}"), &document.object).await?
            };
            Ok(Found { resource: target.resource, object })
        };
        match attempt.await {
            Ok(found) if format.is_default() || matches!(format, Format::Name) => {
                format.print_done(&found, &format!("{done}{suffix}"))?;
            }
            Ok(found) => created.push(found.object),
            Err(error) if source.is_empty() => errors.push(failed_to_create(error, &kind)),
            Err(error) => errors.push(error.when("creating", &source)),
        }
    }
    print_objects(&format, created)?;
    Error::collect(errors)
}

/// The generators of these kinds say so when the server refuses; those of others let the server speak for itself.
fn failed_to_create(error: Error, kind: &str) -> Error {
    match (error, kind) {
        (
            Error::Api(error),
            "ConfigMap" | "Secret" | "Deployment" | "Job" | "ServiceAccount" | "RoleBinding" | "ClusterRoleBinding",
        ) if error.reason != "Invalid" => {
            Error::usage(format!("failed to create {}: {}", kind.to_lowercase(), error.message))
        }
        (error, _) => error,
    }
}

/// An object made by a generator, with the row of its kind, without asking a server.
fn offline(mut object: Value, context: &Context) -> Found {
    let (group, version) = k3s_api::object::group_version(k3s_api::object::api_version(&object));
    let (group, version) = (group.to_owned(), version.to_owned());
    let kind = k3s_api::object::kind(&object).to_owned();
    let namespaced = k3s_api::resource::find_kind(&group, &version, &kind).is_some_and(|row| row.namespaced);
    if let Some(namespace) = context.flags.namespace.as_ref().filter(|_| namespaced) {
        k3s_api::object::set_metadata(&mut object, "namespace", namespace);
    }
    Found { resource: crate::discovery::Resource { group, version, kind, namespaced, ..Default::default() }, object }
}
