//! Nobody gives away rights he has not got: checks on writing roles and bindings
//! (<https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping>).

use k3s_api::object;
use k3s_api::quote::quote;
use k3s_api::status::Status;
use serde::Deserialize;
use serde_json::Value;

use super::rules::not_covered;
use super::{Attributes, MASTERS, RoleRef, Rule};
use crate::call::Call;

/// The API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// Checks the role or binding that a call is about to write; `old` is what is there now. Other resources pass.
///
/// # Errors
/// 403 if the user would grant what he has not got himself and may not `escalate` or `bind`.
pub(crate) async fn check(call: &Call, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    let (user, resource) = (&call.user, &*call.row.plural);
    if call.row.group != GROUP || user.groups.iter().any(|group| group == MASTERS) {
        return Ok(());
    }
    let (authorizer, registry) = (call.server.authorizer(), call.registry());
    let unchanged = |field: &str| old.is_some_and(|old| old.get(field) == new.get(field));
    let namespace = object::namespace(new);
    let name = object::name(new);
    let (wanted, verb, on_resource, on_name) = match resource {
        "roles" | "clusterroles" => {
            if unchanged("rules") && unchanged("aggregationRule") {
                return Ok(());
            }
            let mut wanted = rules_of(new)?;
            if new.get("aggregationRule").is_some_and(|rule| !rule.is_null()) {
                // Nobody knows what will be aggregated, so it takes every right.
                wanted.push(everything());
            }
            (wanted, "escalate", resource, name.to_owned())
        }
        "rolebindings" | "clusterrolebindings" => {
            if unchanged("subjects") && unchanged("roleRef") {
                return Ok(());
            }
            let role = RoleRef::deserialize(&new["roleRef"]).map_err(|error| Status::bad_request(error.to_string()))?;
            let resource = if role.kind == "Role" { "roles" } else { "clusterroles" };
            let Some(wanted) = authorizer.role(registry, &role, namespace).await? else {
                let asked = bind(resource, namespace, &role.name);
                return match authorizer.authorize(registry, user, asked).await? {
                    decision if decision.is_allowed() => Ok(()),
                    _ => Err(Status::not_found(GROUP, &role.kind.to_ascii_lowercase(), &role.name)),
                };
            };
            (wanted, "bind", resource, role.name)
        }
        _ => return Ok(()),
    };
    let asked = Attributes { verb, ..bind(on_resource, namespace, &on_name) };
    if authorizer.authorize(registry, user, asked).await?.is_allowed() {
        return Ok(());
    }
    let (owned, problems) = authorizer.rules(registry, user, namespace).await?;
    let missing = not_covered(&owned, &wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let groups: Vec<_> = user.groups.iter().map(|group| quote(group)).collect();
    let mut message = format!(
        "user {} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        quote(&user.name),
        groups.join(" "),
        missing.join("\n")
    );
    if !problems.is_empty() {
        message.push_str(&format!("; resolution errors: [{}]", problems.join(", ")));
    }
    Err(Status::forbidden(GROUP, resource, name, message))
}

fn bind<'a>(resource: &'a str, namespace: &'a str, name: &'a str) -> Attributes<'a> {
    // A cluster role is asked for in the namespace of the binding, if that has one.
    Attributes {
        verb: "bind",
        is_resource: true,
        group: GROUP,
        version: "v1",
        resource,
        namespace,
        name,
        ..Attributes::default()
    }
}

fn rules_of(role: &Value) -> Result<Vec<Rule>, Status> {
    Option::<Vec<Rule>>::deserialize(&role["rules"])
        .map(Option::unwrap_or_default)
        .map_err(|error| Status::bad_request(error.to_string()))
}

fn everything() -> Rule {
    let all = || vec!["*".to_owned()];
    Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() }
}
