//! MutatingAdmissionPolicies, compiled, and what their mutations do to an object.

use serde_json::Value as Json;

use super::{Common, environment, has_params, items, text};
use crate::apply;
use crate::cel::{Environment, Program, Type, Value};
use crate::schema::Schema;
use crate::validation::{FieldError, Path};

/// The expressions of a MutatingAdmissionPolicy.
#[derive(Debug, Default)]
pub struct Mutations {
    pub common: Common,
    pub mutations: Vec<Mutation>,
}

/// One change of an object.
#[derive(Debug)]
pub struct Mutation {
    pub program: Program,
    pub patch: PatchKind,
    /// How error messages name it.
    pub source: String,
}

/// What a mutation's expression gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchKind {
    /// `Object{...}`: the fields that it sets, merged as server-side apply merges.
    ApplyConfiguration,
    /// `[JSONPatch{...}]`: operations of RFC 6902.
    JsonPatch,
}

/// Why a mutation could not be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("error applying patch: invalid ApplyConfiguration: {0}")]
    Configuration(String),
    #[error("error applying patch: failed to convert patch object to typed object: {0}")]
    Merge(String),
    #[error("error applying patch: type mismatch: {0}")]
    Misnamed(String),
    #[error("JSONPath: {0}")]
    JsonPatch(String),
}

fn mutation_environment(spec: &Json) -> Environment {
    let operation = ["op", "path", "from"].map(|name| (name.to_owned(), Type::String));
    let value = [("value".to_owned(), Type::Dyn)];
    environment(has_params(spec))
        .with_objects()
        .with_struct("JSONPatch", Type::object("JSONPatch", operation.into_iter().chain(value)))
}

impl Mutations {
    /// Compiles the expressions of a policy's `spec`; what cannot be compiled is added to the errors.
    pub fn of(spec: &Json, errors: &mut Vec<FieldError>) -> Self {
        let (common, environment) = Common::of(spec, mutation_environment(spec), errors);
        let mut compiled = Self { common, mutations: Vec::new() };
        let root = Path::new("spec");
        let at = root.child("mutations");
        for (index, mutation) in items(spec, "mutations").iter().enumerate() {
            let at = at.index(index);
            let (patch, field, wanted) = match text(mutation, "patchType") {
                "ApplyConfiguration" => {
                    (PatchKind::ApplyConfiguration, "applyConfiguration", Type::any_object("Object"))
                }
                "JSONPatch" => {
                    let operation = Type::object("JSONPatch", []);
                    (PatchKind::JsonPatch, "jsonPatch", Type::list(operation))
                }
                "" => {
                    errors.push(FieldError::required(&at.child("patchType"), ""));
                    continue;
                }
                other => {
                    let supported = ["ApplyConfiguration", "JSONPatch"];
                    errors.push(FieldError::not_supported(&at.child("patchType"), other, &supported));
                    continue;
                }
            };
            let Some(owner) = mutation.get(field).filter(|owner| owner.is_object()) else {
                let why = format!("must be specified when patchType is {}", text(mutation, "patchType"));
                errors.push(FieldError::required(&at.child(field), why));
                continue;
            };
            let at = at.child(field);
            if let Some(program) = super::compile(&environment, owner, &at, "expression", Some(&wanted), errors) {
                compiled.mutations.push(Mutation { program, patch, source: text(owner, "expression").to_owned() });
            }
        }
        compiled
    }
}

/// What may not be in a MutatingAdmissionPolicy: expressions that are none, and no mutation at all.
pub fn validate(policy: &Json, errors: &mut Vec<FieldError>) {
    if let Some(spec) = policy.get("spec") {
        Mutations::of(spec, errors);
    }
}

impl Mutation {
    /// The object with what the expression gave done to it. It is still to be decoded and defaulted.
    ///
    /// # Errors
    /// What cannot be done, in Kubernetes' words.
    pub fn apply(&self, object: &Json, value: &Value<'_>, schema: Schema<'_>) -> Result<Json, Error> {
        match self.program.misnamed() {
            Some(why) => Err(Error::Misnamed(why.to_owned())),
            None => self.patch.apply(object, value, schema),
        }
    }
}

impl PatchKind {
    /// The object with what an expression gave done to it. It is still to be decoded and defaulted.
    ///
    /// # Errors
    /// What cannot be done, in Kubernetes' words.
    pub fn apply(self, object: &Json, value: &Value<'_>, schema: Schema<'_>) -> Result<Json, Error> {
        match self {
            Self::ApplyConfiguration => configure(object, value, schema),
            Self::JsonPatch => patch(object, value),
        }
    }
}

fn configure(object: &Json, value: &Value<'_>, schema: Schema<'_>) -> Result<Json, Error> {
    let Some(Json::Object(mut configuration)) = value.to_json() else {
        return Err(Error::Configuration("the expression gives no object".to_owned()));
    };
    for field in ["apiVersion", "kind"] {
        if let Some(given) = configuration.insert(field.to_owned(), object[field].clone())
            && given != object[field]
        {
            return Err(Error::Configuration(format!("{field} must not be changed")));
        }
    }
    let configuration = Json::Object(configuration);
    let atomic = apply::atomics(&configuration, schema);
    if !atomic.is_empty() {
        let why = format!("may not mutate atomic arrays, maps or structs: {}", atomic.join(", "));
        return Err(Error::Configuration(why));
    }
    apply::merge(object, &configuration, schema).map_err(Error::Merge)
}

fn patch(object: &Json, value: &Value<'_>) -> Result<Json, Error> {
    let wrong = |why: String| Error::JsonPatch(why);
    let Some(Json::Array(operations)) = value.to_json() else {
        return Err(wrong("the expression gives no list of operations".to_owned()));
    };
    let patch: json_patch::Patch =
        serde_json::from_value(Json::Array(operations)).map_err(|error| wrong(error.to_string()))?;
    let mut patched = object.clone();
    match json_patch::patch(&mut patched, &patch) {
        Ok(()) => Ok(patched),
        // A test that fails is no error: the patch was not for this object.
        Err(error) if matches!(patch.get(error.operation), Some(json_patch::PatchOperation::Test(_))) => {
            Ok(object.clone())
        }
        Err(error) => Err(wrong(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cel::{Activation, PER_CALL_LIMIT};
    use crate::resource;

    fn mutated(kind: &str, expression: &str, object: &Json) -> Result<Json, String> {
        let field = if kind == "JSONPatch" { "jsonPatch" } else { "applyConfiguration" };
        let spec = json!({"mutations": [{"patchType": kind, field: {"expression": expression}}]});
        let mut errors = Vec::new();
        let compiled = Mutations::of(&spec, &mut errors);
        if let Some(error) = errors.first() {
            return Err(error.to_string());
        }
        let activation = Activation::new(PER_CALL_LIMIT).with("object", Value::of_json(object, None));
        let value = compiled.mutations[0].program.evaluate(&activation).map_err(|error| error.to_string())?;
        let schema = resource::find("", "v1", "pods").expect("pods").schema();
        compiled.mutations[0].patch.apply(object, &value, schema).map_err(|error| error.to_string())
    }

    fn pod() -> Json {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "1"}},
            "spec": {"containers": [{"name": "one", "image": "i", "args": ["x"]}, {"name": "two", "image": "j"}]}})
    }

    #[test]
    fn a_configuration_is_merged_as_by_server_side_apply() {
        let expression = r#"Object{metadata: Object.metadata{labels: {"b": object.metadata.name}},
            spec: Object.spec{containers: [Object.spec.containers{name: "two", image: "new"}]}}"#;
        let pod = mutated("ApplyConfiguration", expression, &pod()).expect("a pod");
        assert_eq!(pod["metadata"]["labels"], json!({"a": "1", "b": "p"}));
        assert_eq!(pod["spec"]["containers"][0]["image"], "i");
        assert_eq!(pod["spec"]["containers"][1], json!({"name": "two", "image": "new"}));
    }

    #[test]
    fn atomic_fields_can_only_be_patched() {
        let expression = r#"Object{spec: Object.spec{containers: [Object.spec.containers{name: "one", args: ["y"]}]}}"#;
        let error = mutated("ApplyConfiguration", expression, &pod()).expect_err("atomic");
        assert_eq!(
            error,
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.containers[0].args"
        );
        let expression = r#"[JSONPatch{op: "replace", path: "/spec/containers/0/args", value: ["y"]},
            JSONPatch{op: "add", path: "/metadata/labels/" + jsonpatch.escapeKey("x/y"), value: "z"}]"#;
        let pod = mutated("JSONPatch", expression, &pod()).expect("a pod");
        assert_eq!(pod["spec"]["containers"][0]["args"], json!(["y"]));
        assert_eq!(pod["metadata"]["labels"]["x/y"], "z");
    }

    #[test]
    fn what_gives_no_patch_is_refused_when_it_is_written() {
        for (kind, expression) in [("ApplyConfiguration", "'text'"), ("JSONPatch", "1"), ("JSONPatch", "Object{}")] {
            assert!(mutated(kind, expression, &pod()).is_err(), "{expression}");
        }
        let error = mutated("JSONPatch", r#"[JSONPatch{op: "remove", path: "/spec/none"}]"#, &pod());
        assert!(error.expect_err("nothing there").starts_with("JSONPath: "));
        let expression = r#"[JSONPatch{op: "test", path: "/spec/hostNetwork", value: true},
            JSONPatch{op: "remove", path: "/spec"}]"#;
        assert_eq!(mutated("JSONPatch", expression, &pod()), Ok(pod()));
        let error = mutated("JSONPatch", r#"[JSONPatch{verb: "remove"}]"#, &pod()).expect_err("no such field");
        assert!(error.contains("undefined field 'verb'"), "{error}");
    }
}
