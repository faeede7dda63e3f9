//! `kubectl api-resources`, `api-versions` and `cluster-info`

use clap::Args;

use crate::cluster::Query;
use crate::error::Error;
use crate::flags::Context;
use crate::output::columns::Columns;
use crate::{output, say};

/// Print the supported API resources on the server
#[derive(Debug, Args)]
pub struct ApiResources {
    /// Limit to resources in the specified API group
    #[arg(long)]
    api_group: Option<String>,
    /// If false, non-namespaced resources will be returned, otherwise returning namespaced resources
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    namespaced: Option<bool>,
    /// Limit to resources that support the specified verbs
    #[arg(long, value_delimiter = ',')]
    verbs: Vec<String>,
    /// Limit to resources that belong to the specified categories
    #[arg(long, value_delimiter = ',')]
    categories: Vec<String>,
    /// When using the default or wide output format, don't print headers
    #[arg(long)]
    no_headers: bool,
    /// If non-empty, sort list of resources using specified field: name or kind
    #[arg(long)]
    sort_by: Option<String>,
    /// One of 'wide' or 'name'
    #[arg(short, long)]
    output: Option<String>,
}

pub async fn resources(args: ApiResources, context: &Context) -> Result<(), Error> {
    let output = args.output.as_deref().unwrap_or_default();
    if !matches!(output, "" | "wide" | "name") {
        return Err(Error::usage(format!("--output {output} is not available")));
    }
    let cluster = context.cluster().await?;
    let mut resources: Vec<_> = cluster
        .discovery()
        .await?
        .resources
        .iter()
        .filter(|own| own.preferred && !own.verbs.is_empty())
        .filter(|own| args.api_group.as_ref().is_none_or(|group| own.group == *group))
        .filter(|own| args.namespaced.is_none_or(|namespaced| own.namespaced == namespaced))
        .filter(|own| args.verbs.iter().all(|verb| own.has_verb(verb)))
        .filter(|own| args.categories.iter().all(|category| own.categories.contains(category)))
        .collect();
    match args.sort_by.as_deref() {
        Some("kind") => resources.sort_by_key(|own| own.kind.clone()),
        Some("name") => resources.sort_by_key(|own| own.plural.clone()),
        Some(other) => return Err(Error::usage(format!("--sort-by accepts only name or kind, not {other}"))),
        None => resources.sort_by_key(|own| (own.group.clone(), own.plural.clone())),
    }
    if output == "name" {
        for own in resources {
            say!("{}", own.qualified());
        }
        return Ok(());
    }
    let mut rows = Vec::new();
    if !args.no_headers {
        let mut header = vec!["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"];
        if output == "wide" {
            header.extend(["VERBS", "CATEGORIES"]);
        }
        rows.push(header.into_iter().map(str::to_owned).collect());
    }
    for own in resources {
        let mut row = vec![
            own.plural.clone(),
            own.short_names.join(","),
            own.api_version(),
            own.namespaced.to_string(),
            own.kind.clone(),
        ];
        if output == "wide" {
            row.extend([own.verbs.join(","), own.categories.join(",")]);
        }
        rows.push(row);
    }
    output::write(Columns::new().render(&rows))
}

/// Print the supported API versions on the server, in the form of "group/version"
#[derive(Debug, Args)]
pub struct ApiVersions {}

pub async fn versions(_: ApiVersions, context: &Context) -> Result<(), Error> {
    let cluster = context.cluster().await?;
    let mut versions: Vec<String> = cluster.discovery().await?.resources.iter().map(|own| own.api_version()).collect();
    versions.sort();
    versions.dedup();
    for version in versions {
        say!("{version}");
    }
    Ok(())
}

/// Display cluster information
#[derive(Debug, Args)]
pub struct ClusterInfo {}

pub async fn cluster_info(_: ClusterInfo, context: &Context) -> Result<(), Error> {
    let cluster = context.cluster().await?;
    let query = Query::new().with("labelSelector", "kubernetes.io/cluster-service=true");
    let services = cluster.list("/api/v1/namespaces/kube-system/services", &query, 0).await?;
    say!("Kubernetes control plane is running at {}", cluster.server);
    for service in services["items"].as_array().into_iter().flatten() {
        let labels = &service["metadata"]["labels"];
        let name = k3s_api::object::name(service);
        let title = labels["kubernetes.io/name"].as_str().unwrap_or(name);
        let port = service["spec"]["ports"][0]["name"].as_str().map(|port| format!(":{port}")).unwrap_or_default();
        let path = format!("/api/v1/namespaces/kube-system/services/{name}{port}/proxy");
        say!("{title} is running at {}{path}", cluster.server);
    }
    say!("\nTo further debug and diagnose cluster problems, use 'kubectl get pods -A' and 'kubectl get events -A'.");

    Ok(())
}
