//! The files of a volume made from API objects.

use std::collections::BTreeMap;
use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::KeyToPath;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use super::{Error, Request};

/// A file of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub data: Vec<u8>,
    pub mode: u32,
    /// Owner, where it is not the kubelet.
    pub uid: Option<u32>,
}

/// Files by path relative to the volume.
pub(super) type Payload = BTreeMap<String, File>;

const DEFAULT_MODE: u32 = 0o644;

/// A mode as the API has it.
pub(super) fn mode(mode: Option<i32>) -> u32 {
    mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(DEFAULT_MODE)
}

/// Which object keys come from.
pub(super) struct Origin<'a> {
    pub kind: &'static str,
    pub name: &'a str,
    pub optional: bool,
}

/// The object's keys, which `data` takes out of it, as files. None, if there is no such object and it is optional.
pub(super) async fn of_object<K>(
    request: &Request<'_>,
    origin: &Origin<'_>,
    items: Option<&[KeyToPath]>,
    default_mode: u32,
    data: impl FnOnce(K) -> BTreeMap<String, Vec<u8>>,
) -> Result<Payload, Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let (kind, name) = (origin.kind, origin.name);
    let found = Api::<K>::namespaced(request.ctx.client.clone(), request.namespace)
        .get_opt(name)
        .await
        .map_err(|source| Error::Api { what: format!("{kind} {name}"), source: Box::new(source) })?;
    match found {
        Some(object) => project(&data(object), items, default_mode, origin),
        None if origin.optional => Ok(Payload::new()),
        None => Err(Error::NotFound { kind, name: name.to_owned() }),
    }
}

/// The keys of an object as files: all of them, or those that `items` names.
pub(super) fn project(
    data: &BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    default_mode: u32,
    origin: &Origin<'_>,
) -> Result<Payload, Error> {
    let file = |data: &Vec<u8>, mode| File { data: data.clone(), mode, uid: None };
    let mut payload = Payload::new();
    match items.filter(|items| !items.is_empty()) {
        None => payload.extend(data.iter().map(|(key, data)| (key.clone(), file(data, default_mode)))),
        Some(items) => {
            for item in items {
                let Some(data) = data.get(&item.key) else {
                    if origin.optional {
                        continue;
                    }
                    let (kind, name, key) = (origin.kind, origin.name.to_owned(), item.key.clone());
                    return Err(Error::NoKey { kind, name, key });
                };
                let mode = item.mode.map_or(default_mode, |item_mode| mode(Some(item_mode)));
                payload.insert(relative(&item.path)?, file(data, mode));
            }
        }
    }
    Ok(payload)
}

/// Checks that a path stays inside the volume.
pub(super) fn relative(path: &str) -> Result<String, Error> {
    let invalid = |detail| Error::InvalidPath { path: path.to_owned(), detail };
    if path.is_empty() {
        return Err(invalid("it is empty"));
    }
    if path.starts_with('/') {
        return Err(invalid("it is absolute"));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(invalid("it contains '..'"));
    }
    if path.starts_with("..") {
        return Err(invalid("it starts with '..'"));
    }
    Ok(path.split('/').filter(|part| !matches!(*part, "" | ".")).collect::<Vec<_>>().join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_choose_keys_paths_and_modes() {
        let data = BTreeMap::from([("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())]);
        let items = [KeyToPath { key: "b".into(), path: "dir/b".into(), mode: Some(0o400) }];
        let origin = Origin { kind: "configmap", name: "c", optional: false };
        let payload = project(&data, Some(&items), 0o644, &origin).unwrap();
        assert_eq!(payload.len(), 1);
        assert_eq!(payload["dir/b"].mode, 0o400);
        assert_eq!(project(&data, None, 0o644, &origin).unwrap().len(), 2);

        let missing = [KeyToPath { key: "c".into(), path: "c".into(), mode: None }];
        assert!(project(&data, Some(&missing), 0o644, &origin).is_err());
        let optional = Origin { optional: true, ..origin };
        assert!(project(&data, Some(&missing), 0o644, &optional).unwrap().is_empty());
    }

    #[test]
    fn paths_stay_inside() {
        assert_eq!(relative("a//b/./c").unwrap(), "a/b/c");
        for path in ["", "/a", "../a", "a/../b", "..data"] {
            assert!(relative(path).is_err(), "{path:?}");
        }
    }
}
