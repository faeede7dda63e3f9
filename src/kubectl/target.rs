//! What a command is about: `pods a b`, `pod/a deploy/b`, `pods,svc -l app=x`, `-f FILE`.

use clap::Args;
use serde_json::Value;

use crate::cluster::{Cluster, Query};
use crate::discovery::{Discovery, Resource};
use crate::error::Error;
use crate::manifest::{Document, FileFlags};
use crate::selector::SelectorFlags;

/// How many objects a list asks for at once.
pub const CHUNK: u32 = 500;

/// The arguments of commands that act on objects that are there.
#[derive(Debug, Args)]
pub struct ObjectFlags {
    /// TYPE NAME..., TYPE/NAME..., TYPE with -l or --all; then what the command is to do, if it takes that as words
    pub words: Vec<String>,
    #[command(flatten)]
    pub files: FileFlags,
    #[command(flatten)]
    pub select: SelectorFlags,
    /// Select all resources, in the namespace of the specified resource types
    #[arg(long)]
    pub all: bool,
}

impl ObjectFlags {
    /// The live objects that they name.
    pub async fn objects(&self, cluster: &Cluster) -> Result<Vec<Found>, Error> {
        objects(cluster, &self.words, &self.files, &self.select, self.all).await
    }
}

/// A resource, and an object of it if one is named.
#[derive(Debug, Clone)]
pub struct Target {
    pub resource: Resource,
    /// Of the object, or in which to list; meaningless for cluster-scoped resources.
    pub namespace: String,
    pub name: Option<String>,
    /// The object in a file that named it.
    pub document: Option<Document>,
}

/// A live object.
#[derive(Debug, Clone)]
pub struct Found {
    pub resource: Resource,
    pub object: Value,
}

impl Found {
    pub fn name(&self) -> &str {
        k3s_api::object::name(&self.object)
    }

    pub fn namespace(&self) -> &str {
        k3s_api::object::namespace(&self.object)
    }

    pub fn path(&self) -> String {
        self.resource.path(self.namespace(), self.name())
    }

    /// `deployment.apps/x`
    pub fn named(&self) -> String {
        self.resource.named(self.name())
    }
}

/// The resources and names that words name.
pub fn parse_words<'d>(
    discovery: &'d Discovery,
    words: &[String],
) -> Result<Vec<(&'d Resource, Option<String>)>, Error> {
    let mut targets = Vec::new();
    if words.iter().any(|word| word.contains('/')) {
        for word in words {
            let Some((kind, name)) = word.split_once('/') else {
                return Err(Error::usage(
                    "there is no need to specify a resource type as a separate argument when passing arguments in \
                     resource/name form (e.g. 'kubectl get resource/<resource_name>' instead of 'kubectl get resource \
                     resource/<resource_name>'",
                ));
            };
            if kind.is_empty() || name.is_empty() || name.contains('/') {
                return Err(Error::usage("arguments in resource/name form must have a single resource and name"));
            }
            targets.push((discovery.find(kind)?, Some(name.to_owned())));
        }
        return Ok(targets);
    }
    let Some((kinds, names)) = words.split_first() else { return Ok(targets) };
    for kind in kinds.split(',').filter(|kind| !kind.is_empty()) {
        for resource in discovery.find_all(kind)? {
            if names.is_empty() {
                targets.push((resource, None));
            }
            targets.extend(names.iter().map(|name| (resource, Some(name.clone()))));
        }
    }
    Ok(targets)
}

/// What words and files name, without asking for the objects.
pub async fn targets(cluster: &Cluster, words: &[String], files: &FileFlags) -> Result<Vec<Target>, Error> {
    if !files.is_empty() {
        if !words.is_empty() {
            return Err(Error::usage(
                "when paths, URLs, or stdin is provided as input, you may not specify resource arguments as well",
            ));
        }
        let documents = files.read()?;
        let mut targets = Vec::with_capacity(documents.len());
        for document in documents {
            targets.push(of_document(cluster, document).await?);
        }
        return Ok(targets);
    }
    let discovery = cluster.discovery().await?;
    let parsed = parse_words(discovery, words)?;
    Ok(parsed
        .into_iter()
        .map(|(resource, name)| Target {
            resource: resource.clone(),
            namespace: cluster.namespace.clone(),
            name,
            document: None,
        })
        .collect())
}

/// The resource of an object in a file; its namespace is made to be the one to work in if it names none.
pub async fn of_document(cluster: &Cluster, mut document: Document) -> Result<Target, Error> {
    let object = &mut document.object;
    let (api_version, kind) =
        (k3s_api::object::api_version(object).to_owned(), k3s_api::object::kind(object).to_owned());
    let name = k3s_api::object::name(object).to_owned();
    let discovery = cluster.discovery().await?;
    let resource = discovery.find_kind(&api_version, &kind).cloned().ok_or_else(|| Error::NoKind {
        name: name.clone(),
        namespace: k3s_api::object::namespace(object).to_owned(),
        source_name: document.source.clone(),
        kind: kind.clone(),
        version: api_version.clone(),
    })?;
    let own = k3s_api::object::namespace(object).to_owned();
    let mut namespace = String::new();
    if resource.namespaced {
        if own.is_empty() {
            k3s_api::object::set_metadata(object, "namespace", &cluster.namespace);
            namespace.clone_from(&cluster.namespace);
        } else if cluster.namespace_enforced && own != cluster.namespace {
            return Err(Error::usage(format!(
                "the namespace from the provided object \"{own}\" does not match the namespace \"{}\". You must pass \
                 '--namespace={own}' to perform this operation.",
                cluster.namespace
            )));
        } else {
            namespace = own;
        }
    }
    Ok(Target { resource, namespace, name: Some(name).filter(|name| !name.is_empty()), document: Some(document) })
}

/// The live objects that words, files and selectors name. `all` allows a resource without a name or a selector.
pub async fn objects(
    cluster: &Cluster,
    words: &[String],
    files: &FileFlags,
    selector: &SelectorFlags,
    all: bool,
) -> Result<Vec<Found>, Error> {
    if words.is_empty() && files.is_empty() {
        return Err(Error::usage(
            "you must provide one or more resources by argument or filename.\nExample resource specifications include:\n   \
             '-f rsrc.yaml'\n   '--filename=rsrc.json'\n   '<resource> <name>'\n   '<resource>'",
        ));
    }
    let mut found = Vec::new();
    for target in targets(cluster, words, files).await? {
        let resource = &target.resource;
        match &target.name {
            Some(_) if selector.is_selective() => {
                return Err(Error::usage("name cannot be provided when a selector is specified"));
            }
            Some(name) => {
                if selector.all_namespaces && resource.namespaced {
                    return Err(Error::usage("a resource cannot be retrieved by name across all namespaces"));
                }
                let object = cluster.get(&resource.path(&target.namespace, name)).await?;
                found.push(Found { resource: resource.clone(), object });
            }
            None if all || selector.is_selective() => {
                let namespace = (!selector.all_namespaces).then_some(target.namespace.as_str());
                found.extend(list(cluster, resource, namespace, &selector.query()).await?);
            }
            None => return Err(Error::usage("resource(s) were provided, but no name was specified")),
        }
    }
    Ok(found)
}

/// The objects of a resource, of a namespace or of all.
pub async fn list(
    cluster: &Cluster,
    resource: &Resource,
    namespace: Option<&str>,
    query: &Query,
) -> Result<Vec<Found>, Error> {
    let mut list = cluster.list(&resource.collection(namespace), query, CHUNK).await?;
    let items = list["items"].take();
    let Value::Array(items) = items else { return Ok(Vec::new()) };
    let (api_version, kind) = (resource.api_version(), resource.kind.clone());
    Ok(items
        .into_iter()
        .map(|mut object| {
            // Items of a list don't say their kind.
            if let Some(fields) = object.as_object_mut() {
                fields.insert("apiVersion".to_owned(), api_version.clone().into());
                fields.insert("kind".to_owned(), kind.clone().into());
            }
            Found { resource: resource.clone(), object }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::tests::sample;

    fn parse(words: &[&str]) -> Result<Vec<String>, String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let discovery = sample();
        let parsed = parse_words(&discovery, &words).map_err(|error| error.to_string())?;
        Ok(parsed.iter().map(|(r, name)| format!("{}:{}", r.plural, name.as_deref().unwrap_or("*"))).collect())
    }

    #[test]
    fn words_name_resources_and_objects() {
        assert_eq!(parse(&["po"]).unwrap(), ["pods:*"]);
        assert_eq!(parse(&["po", "a", "b"]).unwrap(), ["pods:a", "pods:b"]);
        assert_eq!(parse(&["po,svc"]).unwrap(), ["pods:*", "services:*"]);
        assert_eq!(parse(&["po/a", "deploy/b"]).unwrap(), ["pods:a", "deployments:b"]);
        assert_eq!(parse(&["all"]).unwrap().len(), 5);
        assert!(parse(&["pods", "po/a"]).unwrap_err().contains("there is no need to specify a resource type"));
        assert!(parse(&["po/"]).unwrap_err().contains("must have a single resource and name"));
        assert!(parse(&["nope"]).unwrap_err().contains("doesn't have a resource type \"nope\""));
    }
}
