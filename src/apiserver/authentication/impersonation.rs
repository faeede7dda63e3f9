//! Acting as somebody else: the `Impersonate-*` headers, each of which takes its own permission, for some actions alone
//! ([`constrained`]) or for all
//! (<https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation>).

mod constrained;

use http::HeaderMap;
use http::request::Parts;
use k3s_api::authentication::UserInfo;
use k3s_api::status::Status;
use percent_encoding::percent_decode_str;

use super::{ANONYMOUS, AUTHENTICATED};
use crate::authorization::{Attributes, Authorizer};
use crate::registry::Registry;
use crate::request::{Query, RequestInfo};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// Whom a request is made as, if its headers ask for somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Impersonated {
    pub user: UserInfo,
    /// The verb of constrained impersonation by which it is allowed; `None`: by `impersonate`, for everything.
    pub constraint: Option<&'static str>,
}

/// The user that a request of `user` is made as; `None`: as himself. The headers that ask for it are taken away.
///
/// # Errors
/// 403 if `user` may not act as that user, group, uid or extra; 500 if the headers name no user.
pub async fn apply(
    authorizer: &Authorizer,
    registry: &Registry,
    user: &UserInfo,
    request: &mut Parts,
) -> Result<Option<Impersonated>, Status> {
    let Some(mut wanted) = wanted(&request.headers)? else { return Ok(None) };
    let query = Query::parse(request.uri.query().unwrap_or_default());
    let info = RequestInfo::new(&request.method, request.uri.path(), &query);
    let constraint = constrained::verb(authorizer, registry, user, &wanted, &info).await?;
    if constraint.is_none() {
        unconstrained(authorizer, registry, user, &wanted).await?;
    }
    let headers = &mut request.headers;
    for name in headers.keys().filter(|name| name.as_str().starts_with("impersonate-")).cloned().collect::<Vec<_>>() {
        headers.remove(name);
    }
    if let Some((namespace, _)) = service_account(&wanted.name)
        && wanted.groups.is_empty()
    {
        wanted.groups = vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
    }
    if constraint.is_some() && wanted.name.starts_with("system:node:") {
        wanted.groups = vec!["system:nodes".to_owned()];
    }
    let everyone = if wanted.name == ANONYMOUS { "system:unauthenticated" } else { AUTHENTICATED };
    if !wanted.groups.iter().any(|group| group == AUTHENTICATED || group == "system:unauthenticated") {
        wanted.groups.push(everyone.to_owned());
    }
    tracing::debug!(user = user.name, acting_as = wanted.name, "impersonating");
    Ok((wanted != *user).then_some(Impersonated { user: wanted, constraint }))
}

/// Namespace and name of a service account's user.
fn service_account(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix("system:serviceaccount:")?.split_once(':')
}

/// May he act as that user in everything?
async fn unconstrained(
    authorizer: &Authorizer,
    registry: &Registry,
    user: &UserInfo,
    wanted: &UserInfo,
) -> Result<(), Status> {
    let asked = Attributes { verb: "impersonate", is_resource: true, version: "v1", ..Attributes::default() };
    let of_user = match service_account(&wanted.name) {
        Some((namespace, name)) => Attributes { resource: "serviceaccounts", namespace, name, ..asked },
        None => Attributes { resource: "users", name: &wanted.name, ..asked },
    };
    authorizer.require(registry, user, of_user).await?;
    for group in &wanted.groups {
        authorizer.require(registry, user, Attributes { resource: "groups", name: group, ..asked }).await?;
    }
    let asked = Attributes { group: AUTHENTICATION, ..asked };
    if !wanted.uid.is_empty() {
        authorizer.require(registry, user, Attributes { resource: "uids", name: &wanted.uid, ..asked }).await?;
    }
    for (key, values) in &wanted.extra {
        for name in values {
            let of_extra = Attributes { resource: "userextras", subresource: key, name, ..asked };
            authorizer.require(registry, user, of_extra).await?;
        }
    }
    Ok(())
}

/// Whom the headers ask to be; `None` if there are none.
fn wanted(headers: &HeaderMap) -> Result<Option<UserInfo>, Status> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let all = |name: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut wanted = UserInfo { name: text(USER), uid: text(UID), groups: all(GROUP), ..UserInfo::default() };
    for (name, value) in headers {
        if let (Some(key), Ok(value)) = (name.as_str().strip_prefix(EXTRA), value.to_str()) {
            let key = percent_decode_str(key).decode_utf8_lossy().into_owned();
            wanted.extra.entry(key).or_default().push(value.to_owned());
        }
    }
    if wanted.name.is_empty() {
        if wanted == UserInfo::default() {
            return Ok(None);
        }
        return Err(Status::internal(format!(
            "requested {:?} without impersonating a user",
            wanted.groups.iter().chain(wanted.extra.keys()).collect::<Vec<_>>()
        )));
    }
    Ok(Some(wanted))
}
