//! What the API server serves now, custom resources included.

use kube::Client;
use kube::core::ApiResource;

use crate::Error;

/// A resource, not a subresource, in its group's preferred version.
pub struct Served {
    pub resource: ApiResource,
    pub namespaced: bool,
    verbs: Vec<String>,
}

impl Served {
    /// Whether the resource has all these verbs.
    pub fn can(&self, verbs: &[&str]) -> bool {
        verbs.iter().all(|verb| self.verbs.iter().any(|one| one == verb))
    }
}

/// All resources. A group that can't be asked (an aggregated API that is down) is left out and logged.
///
/// # Errors
/// The API server's, if it can't tell the groups.
pub async fn served(client: &Client) -> Result<Vec<Served>, Error> {
    let mut versions = vec![(String::new(), "v1".to_owned())];
    for group in client.list_api_groups().await?.groups {
        if let Some(version) = group.preferred_version.or_else(|| group.versions.into_iter().next()) {
            versions.push((group.name, version.version));
        }
    }
    let mut found = Vec::new();
    for (group, version) in versions {
        let api_version = if group.is_empty() { version.clone() } else { format!("{group}/{version}") };
        let list = match group.as_str() {
            "" => client.list_core_api_resources(&version).await,
            _ => client.list_api_group_resources(&api_version).await,
        };
        let list = match list {
            Ok(list) => list.resources,
            Err(error) => {
                tracing::warn!(group, %error, "cannot discover a group");
                continue;
            }
        };
        found.extend(list.into_iter().filter(|resource| !resource.name.contains('/')).map(|resource| Served {
            resource: ApiResource {
                group: group.clone(),
                version: version.clone(),
                api_version: api_version.clone(),
                kind: resource.kind,
                plural: resource.name,
            },
            namespaced: resource.namespaced,
            verbs: resource.verbs,
        }));
    }
    Ok(found)
}
