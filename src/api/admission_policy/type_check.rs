//! What an author of a policy may have got wrong: its expressions, checked against the kinds that it is about. That is no
//! reason to refuse it, so it is told in the policy's status (`status.typeChecking`).
//!
//! See <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/#type-checking>.

use serde_json::Value as Json;

use super::{environment, has_params, items, text};
use crate::cel::{Environment, Type};
use crate::validation::Path;

/// A kind that a policy is about.
#[derive(Debug, Clone)]
pub struct Kind {
    /// As warnings name it: `apps/v1, Kind=Deployment`.
    pub name: String,
    pub object: Type,
}

/// What is wrong with an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// `spec.validations[0].expression`
    pub field: String,
    pub text: String,
}

/// Checks the validations of a policy's `spec` against each of the kinds; `params` is the type of its parameters, where
/// it is known.
pub fn warnings(spec: &Json, kinds: &[Kind], params: Option<&Type>) -> Vec<Warning> {
    let environments: Vec<(&str, Environment)> =
        kinds.iter().map(|kind| (kind.name.as_str(), of_kind(spec, kind, params))).collect();
    let mut warnings = Vec::new();
    let root = Path::new("spec");
    let at = root.child("validations");
    for (index, validation) in items(spec, "validations").iter().enumerate() {
        for (field, wanted) in [("expression", Type::Bool), ("messageExpression", Type::String)] {
            let source = text(validation, field).trim();
            if source.is_empty() {
                continue;
            }
            let wrong: Vec<String> = environments
                .iter()
                .filter_map(|(kind, environment)| Some(format!("{kind}: {}\n", wrong(environment, source, &wanted)?)))
                .collect();
            if !wrong.is_empty() {
                let field = at.index(index).child(field).to_string();
                warnings.push(Warning { field, text: wrong.join("\n") });
            }
        }
    }
    warnings
}

fn of_kind(spec: &Json, kind: &Kind, params: Option<&Type>) -> Environment {
    let mut environment =
        environment(has_params(spec)).with("object", kind.object.clone()).with("oldObject", kind.object.clone());
    if let Some(params) = params.filter(|_| has_params(spec)) {
        environment = environment.with("params", params.clone());
    }
    let mut variables: Vec<(String, Type)> = Vec::new();
    for variable in items(spec, "variables") {
        // What can't be typed may be of any type: the warning comes where it stands.
        let of = environment.compile(text(variable, "expression")).map_or(Type::Dyn, |it| it.output().clone());
        variables.push((text(variable, "name").to_owned(), of));
        environment = environment.with("variables", Type::object("kubernetes.variables", variables.clone()));
    }
    environment
}

fn wrong(environment: &Environment, source: &str, wanted: &Type) -> Option<String> {
    match environment.compile(source) {
        Err(issues) => Some(format!("compilation failed: {issues}")),
        Ok(program) if !program.output().is_dyn() && !program.output().is(wanted) => {
            Some(format!("must evaluate to {wanted}"))
        }
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resource;

    fn kind(group: &str, version: &str, kind: &str) -> Kind {
        let row = resource::find_kind(group, version, kind).unwrap();
        Kind { name: format!("{}, Kind={kind}", row.api_version()), object: Type::builtin(row.schema()) }
    }

    fn check(spec: &Json, params: Option<&Type>) -> Vec<(String, String)> {
        let kinds = [kind("apps", "v1", "Deployment"), kind("apps", "v1", "DaemonSet")];
        warnings(spec, &kinds, params).into_iter().map(|warning| (warning.field, warning.text)).collect()
    }

    #[test]
    fn a_field_that_a_kind_has_not_is_told_with_the_kind() {
        let spec = json!({"validations": [
            {"expression": "object.metadata.name != '' && (oldObject == null || has(object.spec.template))"},
            {"expression": "object.spec.replicas > 1", "messageExpression": "'only ' + object.spec.paused"},
        ]});
        let warnings = check(&spec, None);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        let (field, text) = &warnings[0];
        assert_eq!(field, "spec.validations[1].expression");
        assert_eq!(
            text,
            "apps/v1, Kind=DaemonSet: compilation failed: ERROR: <input>:1:12: undefined field 'replicas'\n \
             | object.spec.replicas > 1\n | ...........^\n"
        );
        let (field, text) = &warnings[1];
        assert_eq!(field, "spec.validations[1].messageExpression");
        assert!(text.contains("apps/v1, Kind=Deployment: ") && text.contains("no matching overload"), "{text}");
        assert!(text.contains("apps/v1, Kind=DaemonSet: ") && text.contains("undefined field 'paused'"), "{text}");
    }

    #[test]
    fn variables_and_parameters_have_types_too() {
        let spec = json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "variables": [{"name": "labels", "expression": "object.metadata.labels"},
                {"name": "wrong", "expression": "object.nowhere"}],
            "validations": [{"expression": "variables.labels['a'] == params.data['a']"},
                {"expression": "variables.labels > 5 && variables.wrong"}, {"expression": "params.dota.size() > 0"},
                {"expression": "object.spec.template.spec.containers[0].image"}]});
        let config_map = kind("", "v1", "ConfigMap").object;
        let fields: Vec<String> = check(&spec, Some(&config_map)).into_iter().map(|(field, _)| field).collect();
        let at = |index: usize| format!("spec.validations[{index}].expression");
        assert_eq!(fields, [at(1), at(2), at(3)]);
        // Of parameters whose type nobody knows nothing can be said.
        let fields: Vec<String> = check(&spec, None).into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, [at(1), at(3)]);
    }
}
