//! Deploys the manifests of `server/manifests` (k3s calls them AddOns): each YAML or JSON file is applied when it
//! appears or changes. What a file no longer names is deleted; a file that is removed leaves what it deployed, as in
//! k3s. A file with `NAME.skip` beside it is left alone.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersion};
use kube::{Api, Client, ResourceExt};
use ring::digest::{SHA256, digest};
use tokio_util::sync::CancellationToken;

use crate::file::{private_dir, write_atomically};

/// How often the folder is looked at.
const PERIOD: Duration = Duration::from_secs(3);
/// The file that deployed an object, relative to the folder.
const OWNER: &str = "objectset.rio.cattle.io/owner-name";
const MANAGER: &str = "deploy@k3s";

/// Why a manifest could not be deployed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {path}: {source}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is not a manifest: {detail}", path = path.display())]
    Malformed { path: PathBuf, detail: String },
    #[error("{path}: no resource is called {kind} in {api_version}", path = path.display())]
    UnknownKind { path: PathBuf, api_version: String, kind: String },
    #[error("{path}: cannot deploy {what}: {source}", path = path.display())]
    Api { path: PathBuf, what: String, source: Box<kube::Error> },
}

/// Writes a packaged manifest, if it is not there as it should be.
///
/// # Errors
/// The file system's.
pub fn install(folder: &Path, name: &str, content: &str) -> io::Result<()> {
    private_dir(folder)?;
    let path = folder.join(name);
    if std::fs::read_to_string(&path).is_ok_and(|have| have == content) {
        return Ok(());
    }
    write_atomically(&path, content.as_bytes(), 0o600)
}

/// What identifies an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Reference {
    api_version: String,
    kind: String,
    namespace: String,
    name: String,
}

impl Reference {
    fn of(object: &DynamicObject) -> Self {
        let types = object.types.clone().unwrap_or_default();
        Self {
            api_version: types.api_version,
            kind: types.kind,
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
        }
    }
}

/// Follows a folder of manifests.
pub struct Deployer {
    client: Client,
    folder: PathBuf,
    /// Hash of what was deployed from a file, and the objects.
    deployed: HashMap<PathBuf, (Vec<u8>, Vec<Reference>)>,
    seen: HashMap<PathBuf, (SystemTime, u64)>,
    /// Resources by group and version, as discovery had them.
    resources: BTreeMap<String, Vec<APIResource>>,
}

impl Deployer {
    /// A deployer of `folder`.
    pub fn new(client: Client, folder: PathBuf) -> Self {
        Self { client, folder, deployed: HashMap::new(), seen: HashMap::new(), resources: BTreeMap::new() }
    }

    /// Deletes what a packaged manifest deployed, and the manifest (`--disable`).
    ///
    /// # Errors
    /// An object that can't be deleted; the manifest then stays, so that the next start tries again.
    pub async fn remove(&mut self, name: &str) -> Result<(), Error> {
        let path = self.folder.join(name);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(Error::Read { path, source }),
        };
        for object in parse(&path, &text)?.iter().rev() {
            self.delete(&path, &Reference::of(object)).await?;
        }
        std::fs::remove_file(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
        tracing::info!(file = %path.display(), "packaged component removed");
        Ok(())
    }

    /// Deploys until cancelled. What fails is logged and tried again.
    pub fn run(self, cancel: CancellationToken) -> BoxFuture<'static, ()> {
        // Boxed so that it is compiled with this crate, not with each program that runs it.
        Box::pin(self.follow(cancel))
    }

    async fn follow(mut self, cancel: CancellationToken) {
        let mut wait = PERIOD;
        loop {
            for path in self.files() {
                if let Err(error) = self.look_at(&path).await {
                    tracing::warn!(%error, "manifest not deployed; it is tried again");
                    // Not seen: the next look tries again, and the kinds may be there by then.
                    self.seen.remove(&path);
                    self.resources.clear();
                    wait = Duration::from_millis(500);
                }
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(wait) => wait = PERIOD,
            }
        }
    }

    /// The manifests below the folder, in name order, but for skipped ones.
    fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.folder.clone()];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = std::fs::read_dir(&folder) else { continue };
            for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
                let manifest = path.extension().is_some_and(|it| ["yaml", "yml", "json"].iter().any(|one| it == *one));
                if path.is_dir() {
                    folders.push(path);
                } else if manifest && !skip_file(&path).exists() {
                    found.push(path);
                }
            }
        }
        found.sort();
        found
    }

    async fn look_at(&mut self, path: &Path) -> Result<(), Error> {
        let read = |source| Error::Read { path: path.to_owned(), source };
        let metadata = std::fs::metadata(path).map_err(read)?;
        let stamp = (metadata.modified().map_err(read)?, metadata.len());
        if self.seen.insert(path.to_owned(), stamp) == Some(stamp) {
            return Ok(());
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        let hash = digest(&SHA256, text.as_bytes()).as_ref().to_vec();
        if self.deployed.get(path).is_some_and(|(deployed, _)| *deployed == hash) {
            return Ok(());
        }
        let objects = parse(path, &text)?;
        let mut references = Vec::new();
        for object in objects {
            references.push(self.apply(path, object).await?);
        }
        let before = self.deployed.insert(path.to_owned(), (hash, references.clone()));
        for gone in before.map(|(_, before)| before).unwrap_or_default() {
            if !references.contains(&gone) {
                self.delete(path, &gone).await?;
            }
        }
        tracing::info!(file = %path.display(), objects = references.len(), "manifest deployed");
        Ok(())
    }

    async fn api(&mut self, path: &Path, reference: &Reference) -> Result<Api<DynamicObject>, Error> {
        let api_error = |source| Error::Api {
            path: path.to_owned(),
            what: reference.api_version.clone(),
            source: Box::new(source),
        };
        if !self.resources.contains_key(&reference.api_version) {
            let list = match reference.api_version.as_str() {
                "v1" => self.client.list_core_api_resources("v1").await,
                group_version => self.client.list_api_group_resources(group_version).await,
            };
            self.resources.insert(reference.api_version.clone(), list.map_err(api_error)?.resources);
        }
        let known = self.resources.get(&reference.api_version).map(Vec::as_slice).unwrap_or_default();
        let unknown = || Error::UnknownKind {
            path: path.to_owned(),
            api_version: reference.api_version.clone(),
            kind: reference.kind.clone(),
        };
        let served = known.iter().find(|it| it.kind == reference.kind && !it.name.contains('/')).ok_or_else(unknown)?;
        let GroupVersion { group, version } = reference.api_version.parse().map_err(|_| unknown())?;
        let resource = ApiResource {
            group,
            version,
            api_version: reference.api_version.clone(),
            kind: reference.kind.clone(),
            plural: served.name.clone(),
        };
        if !served.namespaced {
            return Ok(Api::all_with(self.client.clone(), &resource));
        }
        let namespace = if reference.namespace.is_empty() { "default" } else { &reference.namespace };
        Ok(Api::namespaced_with(self.client.clone(), namespace, &resource))
    }

    async fn apply(&mut self, path: &Path, mut object: DynamicObject) -> Result<Reference, Error> {
        let reference = Reference::of(&object);
        let owner = path.strip_prefix(&self.folder).unwrap_or(path).display().to_string();
        object.annotations_mut().insert(OWNER.to_owned(), owner);
        let api = self.api(path, &reference).await?;
        let params = PatchParams::apply(MANAGER).force();
        api.patch(&reference.name, &params, &Patch::Apply(&object)).await.map_err(|source| Error::Api {
            path: path.to_owned(),
            what: format!("{} {}", reference.kind, reference.name),
            source: Box::new(source),
        })?;
        Ok(reference)
    }

    async fn delete(&mut self, path: &Path, reference: &Reference) -> Result<(), Error> {
        let api = self.api(path, reference).await?;
        match api.delete(&reference.name, &DeleteParams::background()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(source) => Err(Error::Api {
                path: path.to_owned(),
                what: format!("{} {}", reference.kind, reference.name),
                source: Box::new(source),
            }),
        }
    }
}

fn skip_file(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".skip");
    name.into()
}

/// The documents of a manifest; lists are taken apart, empty documents left out.
fn parse(path: &Path, text: &str) -> Result<Vec<DynamicObject>, Error> {
    let malformed = |detail: String| Error::Malformed { path: path.to_owned(), detail };
    let documents: Vec<serde_json::Value> =
        serde_saphyr::from_multiple(text).map_err(|error| malformed(error.to_string()))?;
    let mut objects = Vec::new();
    for document in documents {
        let items = match document {
            serde_json::Value::Null => continue,
            serde_json::Value::Object(mut map) if map.get("kind").is_some_and(|kind| kind == "List") => {
                match map.remove("items") {
                    Some(serde_json::Value::Array(items)) => items,
                    _ => Vec::new(),
                }
            }
            other => vec![other],
        };
        for item in items {
            let object: DynamicObject = serde_json::from_value(item).map_err(|error| malformed(error.to_string()))?;
            if object.types.as_ref().is_none_or(|types| types.kind.is_empty() || types.api_version.is_empty()) {
                return Err(malformed("an object has no apiVersion or kind".to_owned()));
            }
            if object.metadata.name.is_none() {
                return Err(malformed("an object has no metadata.name".to_owned()));
            }
            objects.push(object);
        }
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Result<Vec<String>, String> {
        let objects = parse(Path::new("x.yaml"), text).map_err(|error| error.to_string())?;
        Ok(objects.iter().map(|object| object.name_any()).collect())
    }

    #[test]
    fn documents_and_lists_are_taken_apart() {
        let text = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n---\napiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Secret\n  metadata: {name: b}\n";
        assert_eq!(names(text).unwrap(), ["a", "b"]);
    }

    #[test]
    fn what_is_no_manifest_is_named() {
        assert!(names("a: [").unwrap_err().starts_with("x.yaml is not a manifest"));
        assert!(names("a: 1\n").unwrap_err().contains("no apiVersion or kind"));
        assert!(names("apiVersion: v1\nkind: ConfigMap\n").unwrap_err().contains("metadata.name"));
    }

    #[test]
    fn a_packaged_manifest_is_written_once_and_mended() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("manifests");
        install(&folder, "a.yaml", "one").unwrap();
        let stamp = std::fs::metadata(folder.join("a.yaml")).unwrap().modified().unwrap();
        install(&folder, "a.yaml", "one").unwrap();
        assert_eq!(std::fs::metadata(folder.join("a.yaml")).unwrap().modified().unwrap(), stamp);
        install(&folder, "a.yaml", "two").unwrap();
        assert_eq!(std::fs::read_to_string(folder.join("a.yaml")).unwrap(), "two");
    }
}
