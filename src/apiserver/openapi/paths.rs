//! The paths of resources, with an operation per verb.

use std::collections::BTreeMap;

use k3s_api::resource::{Subresource, Verbs, find_kind};
use serde_json::{Map, Value, json};

use super::Dialect;
use super::schema::Definitions;
use crate::registry::Row;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const PATCH_TYPES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// The paths of a document that describes no resource.
pub(super) fn plain(document: &str) -> BTreeMap<String, Value> {
    let path = if document.starts_with("api") { format!("/{document}/") } else { format!("/{document}") };
    let get = json!({"get": {"description": "get available API versions or information",
        "operationId": operation_id("get", document), "responses": {"200": {"description": "OK"},
        "401": {"description": "Unauthorized"}}}});
    BTreeMap::from([(path, get)])
}

/// The paths of resources of one group and version.
pub(super) fn of(dialect: Dialect, rows: &[&Row], definitions: &mut Definitions) -> BTreeMap<String, Value> {
    let mut paths = BTreeMap::new();
    for row in rows {
        let base = match &*row.group {
            "" => format!("/api/{}", row.version),
            group => format!("/apis/{group}/{}", row.version),
        };
        let placed = if row.namespaced { format!("{base}/namespaces/{{namespace}}") } else { base.clone() };
        let collection = format!("{placed}/{}", row.plural);
        let object = definitions.object(row);
        let mut maker = Operations { dialect, row, definitions, object };
        let mut collection_item = maker.parameters(row.namespaced, false);
        for (verb, method) in [(Verbs::LIST, "get"), (Verbs::CREATE, "post"), (Verbs::DELETECOLLECTION, "delete")] {
            if row.verbs.contains(verb) {
                collection_item.insert(method.to_owned(), maker.operation(verb, None));
            }
        }
        add(&mut paths, collection.clone(), collection_item);
        if row.namespaced && row.verbs.contains(Verbs::LIST) {
            let mut item = maker.parameters(false, false);
            item.insert("get".to_owned(), maker.operation(Verbs::LIST, None));
            add(&mut paths, format!("{base}/{}", row.plural), item);
        }
        let each = [(Verbs::GET, "get"), (Verbs::UPDATE, "put"), (Verbs::PATCH, "patch"), (Verbs::DELETE, "delete")];
        let mut item = maker.parameters(row.namespaced, true);
        for (verb, method) in each {
            if row.verbs.contains(verb) {
                item.insert(method.to_owned(), maker.operation(verb, None));
            }
        }
        add(&mut paths, format!("{collection}/{{name}}"), item);
        for subresource in row.subresources.iter() {
            let mut item = maker.parameters(row.namespaced, true);
            for (verb, method) in each.into_iter().chain([(Verbs::CREATE, "post")]) {
                if subresource.verbs.contains(verb) {
                    item.insert(method.to_owned(), maker.operation(verb, Some(subresource)));
                }
            }
            add(&mut paths, format!("{collection}/{{name}}/{}", subresource.name), item);
        }
    }
    paths
}

/// A path without operations is none.
fn add(paths: &mut BTreeMap<String, Value>, path: String, item: Map<String, Value>) {
    if item.keys().any(|key| key != "parameters") {
        paths.insert(path, Value::Object(item));
    }
}

struct Operations<'d, 'r> {
    dialect: Dialect,
    row: &'r Row,
    definitions: &'d mut Definitions,
    object: Value,
}

impl Operations<'_, '_> {
    /// What all operations of a path take.
    fn parameters(&self, namespace: bool, name: bool) -> Map<String, Value> {
        let mut parameters = Vec::new();
        let mut add = |name: &str, place: &str, description: &str| {
            parameters.push(parameter(self.dialect, name, place, description, "string"));
        };
        if name {
            add("name", "path", &format!("name of the {}", self.row.kind));
        }
        if namespace {
            add("namespace", "path", "object name and auth scope, such as for teams and projects");
        }
        add("pretty", "query", "If 'true', then the output is pretty printed.");
        Map::from_iter([("parameters".to_owned(), json!(parameters))])
    }

    fn operation(&mut self, verb: Verbs, subresource: Option<&Subresource>) -> Value {
        let row = self.row;
        let (group, version, kind) = match subresource {
            Some(part) => (&part.group, &part.version, &part.kind),
            None => (&row.group, &row.version, &row.kind),
        };
        let body = match subresource {
            Some(part) if part.kind != row.kind || part.group != row.group => self.body_of(part),
            _ => self.object.clone(),
        };
        let (action, answer, input) = match verb {
            Verbs::LIST => ("list", self.definitions.list(row), None),
            Verbs::CREATE => ("post", body.clone(), Some(body)),
            Verbs::UPDATE => ("put", body.clone(), Some(body)),
            Verbs::PATCH => ("patch", body, Some(self.definitions.reference(&format!("{META}.Patch")))),
            Verbs::DELETE | Verbs::DELETECOLLECTION => {
                let options = self.definitions.reference(&format!("{META}.DeleteOptions"));
                let status = self.definitions.reference(&format!("{META}.Status"));
                let action = if verb == Verbs::DELETE { "delete" } else { "deletecollection" };
                (action, status, Some(options))
            }
            _ => ("get", body, None),
        };
        let path = match subresource {
            Some(part) => format!("{} {} {} {}", row.group, row.version, row.kind, part.name),
            None => format!("{} {} {}", row.group, row.version, row.kind),
        };
        let id = operation_id(action, &path);
        let mut operation = json!({
            "operationId": id,
            "description": format!("{action} {kind}"),
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
            "responses": {"200": self.response(answer), "401": {"description": "Unauthorized"}},
        });
        let mut parameters = self.query(verb);
        if let Some(input) = input {
            self.take(&mut operation, &mut parameters, verb, input);
        }
        if !parameters.is_empty() {
            operation["parameters"] = json!(parameters);
        }
        operation
    }

    /// The body of a subresource whose kind is not the resource's.
    fn body_of(&mut self, part: &Subresource) -> Value {
        if let Some(resource) = find_kind(&part.group, &part.version, &part.kind)
            && let Some(name) = resource.schema().type_name()
        {
            return self.definitions.reference(name);
        }
        let group = part.group.split('.').next().unwrap_or_default();
        let group = if group.is_empty() { "core" } else { group };
        let name = format!("io.k8s.api.{group}.{}.{}", part.version, part.kind);
        match k3s_api::schema::definition(&name) {
            Some(_) => self.definitions.reference(&name),
            // Options in the query, as those of exec; the body is a stream.
            None => json!({"type": "string"}),
        }
    }

    fn query(&self, verb: Verbs) -> Vec<Value> {
        let query =
            |name: &str, description: &str, kind: &str| parameter(self.dialect, name, "query", description, kind);
        match verb {
            Verbs::LIST | Verbs::DELETECOLLECTION => vec![
                query("allowWatchBookmarks", "Whether bookmarks are sent in a watch.", "boolean"),
                query("continue", "Where the next page begins.", "string"),
                query("fieldSelector", "Restricts the list by fields.", "string"),
                query("labelSelector", "Restricts the list by labels.", "string"),
                query("limit", "The most objects in an answer.", "integer"),
                query("resourceVersion", "How new the answer must be.", "string"),
                query("resourceVersionMatch", "How resourceVersion is meant.", "string"),
                query("sendInitialEvents", "Whether a watch begins with all objects.", "boolean"),
                query("timeoutSeconds", "How long a watch lasts.", "integer"),
                query("watch", "Changes, instead of a list.", "boolean"),
            ],
            Verbs::CREATE | Verbs::UPDATE | Verbs::PATCH => {
                let mut parameters = vec![
                    query("dryRun", "`All`: nothing is stored.", "string"),
                    query("fieldManager", "Who owns the fields that are set.", "string"),
                    query("fieldValidation", "`Ignore`, `Warn` or `Strict`: unknown and duplicate fields.", "string"),
                ];
                if verb == Verbs::PATCH {
                    parameters.push(query("force", "Take fields that others own.", "boolean"));
                }
                parameters
            }
            Verbs::DELETE => vec![
                query("dryRun", "`All`: nothing is stored.", "string"),
                query("gracePeriodSeconds", "Seconds until the object is gone.", "integer"),
                query("orphanDependents", "Deprecated: use propagationPolicy.", "boolean"),
                query("propagationPolicy", "`Orphan`, `Background` or `Foreground`.", "string"),
            ],
            _ => Vec::new(),
        }
    }

    fn response(&self, schema: Value) -> Value {
        match self.dialect {
            Dialect::V2 => json!({"description": "OK", "schema": schema}),
            Dialect::V3 => {
                let media = json!({"schema": schema});
                json!({"description": "OK", "content": {"application/json": media, "application/yaml": media}})
            }
        }
    }

    fn take(&self, operation: &mut Value, parameters: &mut Vec<Value>, verb: Verbs, schema: Value) {
        let required = !matches!(verb, Verbs::DELETE | Verbs::DELETECOLLECTION);
        let types = if verb == Verbs::PATCH { &PATCH_TYPES[..] } else { &["application/json", "application/yaml"] };
        match self.dialect {
            Dialect::V2 => {
                operation["consumes"] = json!(types);
                parameters.push(json!({"name": "body", "in": "body", "required": required, "schema": schema}));
            }
            Dialect::V3 => {
                let content: Map<String, Value> =
                    types.iter().map(|media| ((*media).to_owned(), json!({"schema": schema}))).collect();
                operation["requestBody"] = json!({"content": content, "required": required});
            }
        }
    }
}

fn parameter(dialect: Dialect, name: &str, place: &str, description: &str, kind: &str) -> Value {
    let mut parameter = json!({"name": name, "in": place, "description": description, "uniqueItems": true});
    if place == "path" {
        parameter["required"] = json!(true);
    }
    match dialect {
        Dialect::V2 => parameter["type"] = json!(kind),
        Dialect::V3 => {
            if let Some(parameter) = parameter.as_object_mut() {
                parameter.remove("uniqueItems");
            }
            parameter["schema"] = json!({"type": kind, "uniqueItems": true});
        }
    }
    parameter
}

/// `listAppsV1Deployment`: unique within a document, which generators of clients rely on.
fn operation_id(action: &str, path: &str) -> String {
    let words = path.split([' ', '/', '.', '-']).filter(|word| !word.is_empty());
    let camel = words.map(|word| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
    });
    std::iter::once(action.to_owned()).chain(camel).collect()
}
