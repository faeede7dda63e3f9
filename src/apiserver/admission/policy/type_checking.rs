//! Tells in the status of every `ValidatingAdmissionPolicy` what its expressions get wrong about the kinds that it is
//! about.

use std::collections::BTreeMap;
use std::sync::Weak;

use futures::FutureExt;
use k3s_api::admission_policy::type_check::{self, Kind};
use k3s_api::cel::Type;
use k3s_api::object::{self, at, section_mut, text};
use k3s_api::structural::rules;
use serde_json::{Value, json};

use crate::follow::{Again, follow, write_status};
use crate::registry::{self, Row, known};
use crate::{ApiServer, Inner};

/// More kinds of one policy are not looked at, as in Kubernetes.
const MAX_KINDS: usize = 10;

/// Keeps the statuses as long as the server lives.
pub(crate) async fn run(server: Weak<Inner>) {
    let resources = [known::validating_admission_policies()];
    follow(server, &resources, |server| check_all(server).boxed()).await;
}

async fn check_all(server: &ApiServer) -> Result<Again, registry::Error> {
    let row = known::validating_admission_policies();
    for entry in server.registry().list(row, "").await?.entries {
        let policy = entry.value()?;
        let generation = at(&policy, &["metadata", "generation"]).and_then(Value::as_i64).unwrap_or_default();
        if at(&policy, &["status", "observedGeneration"]).and_then(Value::as_i64) >= Some(generation) {
            continue;
        }
        let spec = &policy["spec"];
        let kinds = kinds(server, spec).await?;
        let params = match spec.get("paramKind").filter(|kind| kind.is_object()) {
            None => None,
            Some(kind) => {
                let api_version = text(kind, &["apiVersion"]).unwrap_or_default();
                let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
                let kind = text(kind, &["kind"]).unwrap_or_default();
                let rows = server.registry().resources();
                let row = rows.iter().find(|row| row.group == group && row.version == version && row.kind == kind);
                match row {
                    Some(row) => type_of(server, row).await?,
                    None => None,
                }
            }
        };
        let warnings: Vec<Value> = type_check::warnings(spec, &kinds, params.as_ref())
            .into_iter()
            .map(|warning| json!({"fieldRef": warning.field, "warning": warning.text}))
            .collect();
        let mut new = (*policy).clone();
        let checking = if warnings.is_empty() { json!({}) } else { json!({"expressionWarnings": warnings}) };
        let status = section_mut(&mut new, "status");
        status.insert("observedGeneration".to_owned(), generation.into());
        status.insert("typeChecking".to_owned(), checking);
        write_status(server.registry(), row, &entry, new).await?;
    }
    Ok(Again::No)
}

/// The kinds that the rules name, in order. Rules with wildcards name none, and subresources are of other kinds.
async fn kinds(server: &ApiServer, spec: &Value) -> Result<Vec<Kind>, registry::Error> {
    let mut found: BTreeMap<(String, String, String), Row> = BTreeMap::new();
    let rules = at(spec, &["matchConstraints", "resourceRules"]).and_then(Value::as_array);
    for rule in rules.into_iter().flatten() {
        let words = |field: &str| -> Vec<&str> {
            rule[field].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
        };
        let (groups, versions) = (words("apiGroups"), words("apiVersions"));
        if groups.contains(&"*") || versions.contains(&"*") {
            continue;
        }
        for resource in words("resources").into_iter().filter(|resource| !resource.contains(['*', '/'])) {
            for group in &groups {
                for version in &versions {
                    if let Some(row) = server.registry().find(group, version, resource) {
                        let key = (row.group.to_string(), row.version.to_string(), row.kind.to_string());
                        found.insert(key, row);
                    }
                }
            }
        }
    }
    let mut kinds = Vec::new();
    for ((group, version, kind), row) in found.into_iter().take(MAX_KINDS) {
        if let Some(object) = type_of(server, &row).await? {
            kinds.push(Kind { name: format!("{group}/{version}, Kind={kind}"), object });
        }
    }
    Ok(kinds)
}

/// The type of a resource's objects in expressions; of a custom one, as its definition's schema says. None: nobody knows.
async fn type_of(server: &ApiServer, row: &Row) -> Result<Option<Type>, registry::Error> {
    if let Some(builtin) = k3s_api::resource::find(&row.group, &row.version, &row.plural) {
        return Ok(Some(Type::builtin(builtin.schema())));
    }
    let definitions = known::custom_resource_definitions();
    let name = format!("{}.{}", row.plural, row.group);
    let Some(entry) = server.registry().get(definitions, "", &name).await? else { return Ok(None) };
    let definition = entry.value()?;
    let mut versions = definition["spec"]["versions"].as_array().into_iter().flatten();
    let version = versions.find(|version| object::text(version, &["name"]) == Some(&row.version));
    let schema = version.and_then(|version| at(version, &["schema", "openAPIV3Schema"]));
    Ok(schema.map(rules::object_type))
}
