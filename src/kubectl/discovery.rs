//! The resources the server serves, and the names people call them by.

use futures::future::try_join;
use serde::Deserialize;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::error::Error;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// A row of discovery.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resource {
    /// Empty for the core group.
    pub group: String,
    pub version: String,
    pub kind: String,
    pub plural: String,
    pub singular: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub namespaced: bool,
    pub verbs: Vec<String>,
    pub subresources: Vec<String>,
    /// Whether this is the version of its group that is taken where none is asked for.
    pub preferred: bool,
}

impl Resource {
    /// `v1`, `apps/v1`
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `pods`, `deployments.apps`: as messages name it.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// `pod`, `deployment.apps`: before a name.
    pub fn kind_name(&self) -> String {
        let kind = self.kind.to_lowercase();
        if self.group.is_empty() { kind } else { format!("{kind}.{}", self.group) }
    }

    /// `pod/x`, `deployment.apps/x`
    pub fn named(&self, name: &str) -> String {
        format!("{}/{name}", self.kind_name())
    }

    /// The path of all objects, of a namespace if it is of one.
    pub fn collection(&self, namespace: Option<&str>) -> String {
        let root = match self.group.as_str() {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        match namespace {
            Some(namespace) if self.namespaced => format!("{root}/namespaces/{namespace}/{}", self.plural),
            _ => format!("{root}/{}", self.plural),
        }
    }

    /// The path of one object.
    pub fn path(&self, namespace: &str, name: &str) -> String {
        format!("{}/{name}", self.collection(Some(namespace)))
    }

    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.iter().any(|own| own == verb)
    }

    /// Whether it is this resource of this group, of any version.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }
}

/// All resources, in the server's order of groups.
#[derive(Debug, Default)]
pub struct Discovery {
    pub resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Groups {
    items: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    metadata: Value,
    #[serde(default)]
    versions: Vec<Version>,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    #[serde(default)]
    resources: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    resource: String,
    #[serde(default)]
    response_kind: Value,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    singular_resource: String,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    short_names: Vec<String>,
    #[serde(default)]
    categories: Vec<String>,
    #[serde(default)]
    subresources: Vec<Value>,
}

impl Discovery {
    /// Asks the server.
    pub async fn fetch(cluster: &Cluster) -> Result<Self, Error> {
        let (core, groups) = try_join(cluster.get_as("/api", AGGREGATED), cluster.get_as("/apis", AGGREGATED)).await?;
        let mut resources = Self::parse("/api", core)?;
        resources.extend(Self::parse("/apis", groups)?);
        Ok(Self { resources })
    }

    fn parse(path: &str, document: Value) -> Result<Vec<Resource>, Error> {
        let groups: Groups = serde_json::from_value(document).map_err(|error| Error::Answer {
            request: path.to_owned(),
            cause: format!("no aggregated discovery: {error}"),
        })?;
        let mut resources = Vec::new();
        for group in groups.items {
            let name = group.metadata["name"].as_str().unwrap_or_default();
            for (index, version) in group.versions.into_iter().enumerate() {
                for row in version.resources {
                    let kind = row.response_kind["kind"].as_str().unwrap_or_default().to_owned();
                    resources.push(Resource {
                        group: name.to_owned(),
                        version: version.version.clone(),
                        singular: if row.singular_resource.is_empty() {
                            kind.to_lowercase()
                        } else {
                            row.singular_resource
                        },
                        kind,
                        plural: row.resource,
                        short_names: row.short_names,
                        categories: row.categories,
                        namespaced: row.scope == "Namespaced",
                        verbs: row.verbs,
                        subresources: row
                            .subresources
                            .iter()
                            .filter_map(|sub| sub["subresource"].as_str().map(str::to_owned))
                            .collect(),
                        preferred: index == 0,
                    });
                }
            }
        }
        Ok(resources)
    }

    /// The resource a word names: `pods`, `pod`, `po`, `Pod`, `deployments.apps`, `deployments.v1.apps`.
    pub fn find(&self, word: &str) -> Result<&Resource, Error> {
        let lower = word.to_lowercase();
        let mut parts = lower.splitn(2, '.');
        let name = parts.next().unwrap_or_default();
        let rest = parts.next();
        let in_group = |resource: &Resource| match rest {
            None => true,
            Some(rest) => {
                let full = if resource.group.is_empty() {
                    resource.version.clone()
                } else {
                    format!("{}.{}", resource.version, resource.group)
                };
                rest == resource.group
                    || rest.trim_end_matches('.') == full
                    || resource.group.starts_with(&format!("{rest}."))
            }
        };
        let called =
            |resource: &&Resource| (resource.plural == name || resource.singular == name) && in_group(resource);
        let short = |resource: &&Resource| resource.short_names.iter().any(|short| short == name) && in_group(resource);
        let all = || self.resources.iter().filter(|resource| !resource.verbs.is_empty());
        all().find(called).or_else(|| all().find(short)).ok_or_else(|| Error::NoResourceType(word.to_owned()))
    }

    /// The listable resources of a category (`all`), each in one version.
    pub fn category(&self, name: &str) -> Vec<&Resource> {
        let of_category = |resource: &&Resource| {
            resource.preferred && resource.has_verb("list") && resource.categories.iter().any(|own| own == name)
        };
        self.resources.iter().filter(of_category).collect()
    }

    /// The resources a word names: one, or those of a category.
    pub fn find_all(&self, word: &str) -> Result<Vec<&Resource>, Error> {
        match self.find(word) {
            Ok(resource) => Ok(vec![resource]),
            Err(error) => match self.category(word) {
                found if found.is_empty() => Err(error),
                found => Ok(found),
            },
        }
    }

    /// The resource of a kind.
    pub fn find_kind(&self, api_version: &str, kind: &str) -> Option<&Resource> {
        let (group, version) = k3s_api::object::group_version(api_version);
        self.resources.iter().find(|own| own.group == group && own.version == version && own.kind == kind)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn sample() -> Discovery {
        let row = |plural: &str, singular: &str, kind: &str, short: &[&str], namespaced: bool| {
            json!({"resource": plural, "singularResource": singular, "responseKind": {"kind": kind},
                "scope": if namespaced { "Namespaced" } else { "Cluster" }, "shortNames": short,
                "categories": if plural == "namespaces" { json!([]) } else { json!(["all"]) },
                "verbs": ["get", "list", "watch", "create", "delete", "patch", "update"]})
        };
        let core = json!({"items": [{"metadata": {}, "versions": [{"version": "v1", "resources": [
            row("pods", "pod", "Pod", &["po"], true), row("services", "service", "Service", &["svc"], true),
            row("events", "event", "Event", &["ev"], true),
            row("namespaces", "namespace", "Namespace", &["ns"], false)]}]}]});
        let groups = json!({"items": [
            {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [
                row("deployments", "deployment", "Deployment", &["deploy"], true)]}]},
            {"metadata": {"name": "events.k8s.io"}, "versions": [{"version": "v1", "resources": [
                row("events", "event", "Event", &["ev"], true)]}]}]});
        let mut resources = Discovery::parse("/api", core).unwrap();
        resources.extend(Discovery::parse("/apis", groups).unwrap());
        Discovery { resources }
    }

    #[test]
    fn a_resource_has_many_names() {
        let discovery = sample();
        for word in ["pods", "pod", "po", "Pod", "pods.v1."] {
            assert_eq!(discovery.find(word).unwrap().kind, "Pod", "{word}");
        }
        for word in ["deploy", "deployments.apps", "deployment.v1.apps"] {
            assert_eq!(discovery.find(word).unwrap().qualified(), "deployments.apps", "{word}");
        }
        assert_eq!(discovery.find("events").unwrap().group, "");
        assert_eq!(discovery.find("events.events.k8s.io").unwrap().group, "events.k8s.io");
        let error = discovery.find("foos").unwrap_err().to_string();
        assert_eq!(error, "error: the server doesn't have a resource type \"foos\"");
    }

    #[test]
    fn paths_are_of_group_version_and_namespace() {
        let discovery = sample();
        assert_eq!(discovery.find("po").unwrap().path("n", "x"), "/api/v1/namespaces/n/pods/x");
        assert_eq!(discovery.find("ns").unwrap().path("n", "x"), "/api/v1/namespaces/x");
        assert_eq!(discovery.find("deploy").unwrap().collection(None), "/apis/apps/v1/deployments");
        assert_eq!(discovery.find("deploy").unwrap().named("x"), "deployment.apps/x");
        assert_eq!(discovery.category("all").len(), 5);
    }
}
