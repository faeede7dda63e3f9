//! The environment of a container.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, Secret};
use kube::Api;

use super::expansion::expand;
use super::field_path::{self, Addresses};
use super::service_env;
use crate::context::Context;
use crate::events::Severity;

/// Why a container's environment can't be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("configmap \"{name}\" not found")]
    NoConfigMap { name: String },
    #[error("secret \"{name}\" not found")]
    NoSecret { name: String },
    #[error("couldn't find key {key} in ConfigMap {namespace}/{name}")]
    NoConfigMapKey { namespace: String, name: String, key: String },
    #[error("couldn't find key {key} in Secret {namespace}/{name}")]
    NoSecretKey { namespace: String, name: String, key: String },
    #[error("environment variable {name} from secret {secret} is not UTF-8")]
    NotText { name: String, secret: String },
    #[error("environment variable {name}: {source}")]
    Field { name: String, source: field_path::Error },
    #[error("environment variable {name}: {what} is not supported by this kubelet")]
    Unsupported { name: String, what: &'static str },
    #[error("cannot read {what}: {source}")]
    Api { what: String, source: Box<kube::Error> },
}

/// Objects that the environment of one container refers to, each read once.
struct Sources<'a> {
    ctx: &'a Context,
    namespace: &'a str,
    config_maps: BTreeMap<String, Option<ConfigMap>>,
    secrets: BTreeMap<String, Option<Secret>>,
}

impl Sources<'_> {
    async fn config_map(&mut self, name: &str) -> Result<Option<&ConfigMap>, Error> {
        if !self.config_maps.contains_key(name) {
            let found = Api::<ConfigMap>::namespaced(self.ctx.client.clone(), self.namespace)
                .get_opt(name)
                .await
                .map_err(|source| Error::Api { what: format!("configmap {name}"), source: Box::new(source) })?;
            self.config_maps.insert(name.to_owned(), found);
        }
        Ok(self.config_maps.get(name).and_then(Option::as_ref))
    }

    async fn secret(&mut self, name: &str) -> Result<Option<&Secret>, Error> {
        if !self.secrets.contains_key(name) {
            let found = Api::<Secret>::namespaced(self.ctx.client.clone(), self.namespace)
                .get_opt(name)
                .await
                .map_err(|source| Error::Api { what: format!("secret {name}"), source: Box::new(source) })?;
            self.secrets.insert(name.to_owned(), found);
        }
        Ok(self.secrets.get(name).and_then(Option::as_ref))
    }
}

/// Variables in the order they were first named; a later value replaces an earlier one.
#[derive(Default)]
struct Environment(Vec<(String, String)>);

impl Environment {
    fn set(&mut self, name: String, value: String) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some(entry) => entry.1 = value,
            None => self.0.push((name, value)),
        }
    }

    fn get(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }
}

/// The whole environment of a container: services, `envFrom`, `env`; what is written in the pod wins.
pub(crate) async fn of_container(
    ctx: &Context,
    pod: &Pod,
    container: &Container,
    addresses: &Addresses,
) -> Result<Vec<(String, String)>, Error> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let links = pod.spec.as_ref().and_then(|spec| spec.enable_service_links).unwrap_or(true);
    let services = ctx.services.list();
    let service_variables = service_env::variables(services.iter().map(|service| service.as_ref()), namespace, links);

    let mut sources = Sources { ctx, namespace, config_maps: BTreeMap::new(), secrets: BTreeMap::new() };
    let mut own = Environment::default();
    env_from(&mut sources, pod, container, &mut own).await?;
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) if !value.is_empty() => Some(expand(value, |name| {
                own.get(name).or_else(|| {
                    service_variables.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone())
                })
            })),
            (_, Some(source)) => value_from(&mut sources, pod, container, addresses, &variable.name, source).await?,
            _ => Some(String::new()),
        };
        if let Some(value) = value {
            own.set(variable.name.clone(), value);
        }
    }

    let mut all = Environment::default();
    for (name, value) in service_variables.into_iter().chain(own.0) {
        all.set(name, value);
    }
    Ok(all.0)
}

async fn env_from(
    sources: &mut Sources<'_>,
    pod: &Pod,
    container: &Container,
    own: &mut Environment,
) -> Result<(), Error> {
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let mut pairs: Vec<(String, String)> = Vec::new();
        if let Some(reference) = &source.config_map_ref {
            match sources.config_map(&reference.name).await? {
                Some(object) => {
                    pairs.extend(object.data.iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
                }
                None if reference.optional == Some(true) => {}
                None => return Err(Error::NoConfigMap { name: reference.name.clone() }),
            }
        }
        if let Some(reference) = &source.secret_ref {
            match sources.secret(&reference.name).await? {
                Some(object) => {
                    for (key, value) in object.data.iter().flatten() {
                        let value = String::from_utf8(value.0.clone())
                            .map_err(|_| Error::NotText { name: key.clone(), secret: reference.name.clone() })?;
                        pairs.push((key.clone(), value));
                    }
                }
                None if reference.optional == Some(true) => {}
                None => return Err(Error::NoSecret { name: reference.name.clone() }),
            }
        }
        let mut invalid = Vec::new();
        for (key, value) in pairs {
            let name = format!("{prefix}{key}");
            if name.is_empty() || name.contains('=') || name.contains('\0') {
                invalid.push(name);
            } else {
                own.set(name, value);
            }
        }
        if !invalid.is_empty() {
            let message = format!(
                "Keys [{}] from the EnvFrom source were skipped since they are considered invalid environment variable names.",
                invalid.join(", ")
            );
            sources.ctx.recorder.pod(pod, None, Severity::Warning, "InvalidEnvironmentVariableNames", message);
        }
    }
    Ok(())
}

/// The value of a `valueFrom`; `None` where an optional source does not exist.
async fn value_from(
    sources: &mut Sources<'_>,
    pod: &Pod,
    container: &Container,
    addresses: &Addresses,
    name: &str,
    source: &EnvVarSource,
) -> Result<Option<String>, Error> {
    let namespace = sources.namespace.to_owned();
    let field_error = |source| Error::Field { name: name.to_owned(), source };
    if let Some(selector) = &source.field_ref {
        return field_path::field(pod, addresses, selector).map(Some).map_err(field_error);
    }
    if let Some(selector) = &source.resource_field_ref {
        let facts = &sources.ctx.facts;
        return field_path::resource(pod, Some(container), selector, facts).map(Some).map_err(field_error);
    }
    if let Some(selector) = &source.config_map_key_ref {
        let optional = selector.optional == Some(true);
        let Some(object) = sources.config_map(&selector.name).await? else {
            return if optional { Ok(None) } else { Err(Error::NoConfigMap { name: selector.name.clone() }) };
        };
        return match object.data.as_ref().and_then(|data| data.get(&selector.key)) {
            Some(value) => Ok(Some(value.clone())),
            None if optional => Ok(None),
            None => Err(Error::NoConfigMapKey { namespace, name: selector.name.clone(), key: selector.key.clone() }),
        };
    }
    if let Some(selector) = &source.secret_key_ref {
        let optional = selector.optional == Some(true);
        let Some(object) = sources.secret(&selector.name).await? else {
            return if optional { Ok(None) } else { Err(Error::NoSecret { name: selector.name.clone() }) };
        };
        return match object.data.as_ref().and_then(|data| data.get(&selector.key)) {
            Some(value) => String::from_utf8(value.0.clone())
                .map(Some)
                .map_err(|_| Error::NotText { name: name.to_owned(), secret: selector.name.clone() }),
            None if optional => Ok(None),
            None => Err(Error::NoSecretKey { namespace, name: selector.name.clone(), key: selector.key.clone() }),
        };
    }
    if source.file_key_ref.is_some() {
        return Err(Error::Unsupported { name: name.to_owned(), what: "fileKeyRef" });
    }
    Ok(Some(String::new()))
}
