//! Constrained impersonation: acting as somebody else for some actions alone. It takes one permission for the identity
//! (`impersonate:MODE`) and one for the action (`impersonate-on:MODE:VERB`)
//! (<https://kubernetes.io/docs/reference/access-authn-authz/user-impersonation/#constrained-impersonation>).

use k3s_api::authentication::UserInfo;

use super::service_account;
use crate::authentication::ANONYMOUS;
use crate::authorization::{Attributes, Authorizer};
use crate::registry::{self, Registry};
use crate::request::RequestInfo;

const GROUP: &str = "authentication.k8s.io";
/// The `extra` of a service account's token that says on which node its pod is.
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const NODE: &str = "system:node:";

/// In which way somebody may act as somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    UserInfo,
}

impl Mode {
    /// The verb on the identity, and what the verbs on actions begin with.
    fn verbs(self) -> (&'static str, &'static str) {
        match self {
            Self::AssociatedNode => ("impersonate:associated-node", "impersonate-on:associated-node:"),
            Self::ArbitraryNode => ("impersonate:arbitrary-node", "impersonate-on:arbitrary-node:"),
            Self::ServiceAccount => ("impersonate:serviceaccount", "impersonate-on:serviceaccount:"),
            Self::UserInfo => ("impersonate:user-info", "impersonate-on:user-info:"),
        }
    }

    /// Those that fit, the narrowest first. Nodes and service accounts are whole as their names say: with groups or
    /// anything else of one's own choice they are nobody's.
    fn of(user: &UserInfo, wanted: &UserInfo) -> &'static [Self] {
        let only_name = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
        if let Some(node) = wanted.name.strip_prefix(NODE) {
            let own = user.extra.get(NODE_NAME).is_some_and(|names| names.as_slice() == [node]);
            return match (only_name, own && service_account(&user.name).is_some()) {
                (true, true) => &[Self::AssociatedNode, Self::ArbitraryNode],
                (true, false) => &[Self::ArbitraryNode],
                (false, _) => &[],
            };
        }
        match service_account(&wanted.name) {
            Some(_) if only_name => &[Self::ServiceAccount],
            Some(_) => &[],
            None if wanted.name.starts_with("system:serviceaccount:") || wanted.name == ANONYMOUS => &[],
            None => &[Self::UserInfo],
        }
    }
}

/// The verb by which `user` may make this request as `wanted`; `None`: by none of these.
///
/// # Errors
/// If the roles cannot be read.
pub(super) async fn verb(
    authorizer: &Authorizer,
    registry: &Registry,
    user: &UserInfo,
    wanted: &UserInfo,
    request: &RequestInfo,
) -> Result<Option<&'static str>, registry::Error> {
    for mode in Mode::of(user, wanted) {
        let (identity, action) = mode.verbs();
        let action = format!("{action}{}", request.verb);
        let on = Attributes { verb: &action, ..Attributes::from(request) };
        let mut all = vec![on];
        all.extend(identities(*mode, identity, wanted));
        let mut allowed = true;
        for asked in all {
            allowed = allowed && authorizer.authorize(registry, user, asked).await?.is_allowed();
        }
        if allowed {
            return Ok(Some(identity));
        }
    }
    Ok(None)
}

/// What is asked about the identity.
fn identities<'a>(mode: Mode, verb: &'a str, wanted: &'a UserInfo) -> Vec<Attributes<'a>> {
    let asked = Attributes { verb, is_resource: true, group: GROUP, version: "v1", ..Attributes::default() };
    match mode {
        // Which one it is is certain already.
        Mode::AssociatedNode => vec![Attributes { resource: "nodes", name: "*", ..asked }],
        Mode::ArbitraryNode => {
            let name = wanted.name.strip_prefix(NODE).unwrap_or_default();
            vec![Attributes { resource: "nodes", name, ..asked }]
        }
        Mode::ServiceAccount => {
            let (namespace, name) = service_account(&wanted.name).unwrap_or_default();
            vec![Attributes { resource: "serviceaccounts", namespace, name, ..asked }]
        }
        Mode::UserInfo => {
            let mut all = vec![Attributes { resource: "users", name: &wanted.name, ..asked }];
            if !wanted.uid.is_empty() {
                all.push(Attributes { resource: "uids", name: &wanted.uid, ..asked });
            }
            all.extend(wanted.groups.iter().map(|name| Attributes { resource: "groups", name, ..asked }));
            for (key, values) in &wanted.extra {
                let of_key = |name| Attributes { resource: "userextras", subresource: key.as_str(), name, ..asked };
                all.extend(values.iter().map(|value| of_key(value.as_str())));
            }
            all
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_depends_on_who_is_wanted() {
        let mut agent = UserInfo::new("system:serviceaccount:kube-system:agent", &[]);
        agent.extra.insert(NODE_NAME.to_owned(), vec!["n1".to_owned()]);
        let jane = UserInfo::new("jane", &[]);
        let named = |name: &str| UserInfo { name: name.to_owned(), ..UserInfo::default() };
        let with_group = |name: &str| UserInfo { groups: vec!["g".to_owned()], ..named(name) };
        for (user, wanted, modes) in [
            (&agent, named("system:node:n1"), &[Mode::AssociatedNode, Mode::ArbitraryNode][..]),
            (&agent, named("system:node:n2"), &[Mode::ArbitraryNode]),
            (&jane, named("system:node:n1"), &[Mode::ArbitraryNode]),
            (&agent, with_group("system:node:n1"), &[]),
            (&jane, named("system:serviceaccount:a:b"), &[Mode::ServiceAccount]),
            (&jane, with_group("system:serviceaccount:a:b"), &[]),
            (&jane, named("joe"), &[Mode::UserInfo]),
            (&jane, with_group("joe"), &[Mode::UserInfo]),
        ] {
            assert_eq!(Mode::of(user, &wanted), modes, "{wanted:?}");
        }
    }

    #[test]
    fn each_part_of_an_identity_takes_its_own_permission() {
        let mut joe = UserInfo { name: "joe".to_owned(), uid: "7".to_owned(), ..UserInfo::default() };
        joe.groups = vec!["a".to_owned(), "b".to_owned()];
        joe.extra.insert("scopes".to_owned(), vec!["view".to_owned()]);
        let asked = identities(Mode::UserInfo, "impersonate:user-info", &joe);
        let asked: Vec<_> = asked.iter().map(|asked| (asked.resource, asked.subresource, asked.name)).collect();
        let wanted = [
            ("users", "", "joe"),
            ("uids", "", "7"),
            ("groups", "", "a"),
            ("groups", "", "b"),
            ("userextras", "scopes", "view"),
        ];
        assert_eq!(asked, wanted);
    }
}
