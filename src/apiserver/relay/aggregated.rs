//! Requests for aggregated APIs: passed on to the server that an `APIService` names, with the user in headers that this
//! server's front-proxy certificate vouches for
//! (<https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/>).

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response};
use k3s_api::authentication::UserInfo;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::Value;

use super::forward::Outgoing;
use super::outside::Server;
use crate::{ApiServer, Body, BoxError};

const USER: HeaderName = HeaderName::from_static("x-remote-user");
const UID: HeaderName = HeaderName::from_static("x-remote-uid");
const GROUP: HeaderName = HeaderName::from_static("x-remote-group");
const EXTRA: &str = "x-remote-extra-";

/// What may not stand in the name of a header, and the sign that says so.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'%')
    .add(b'(')
    .add(b')')
    .add(b',')
    .add(b'/')
    .add(b':')
    .add(b';')
    .add(b'<')
    .add(b'=')
    .add(b'>')
    .add(b'?')
    .add(b'@')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'{')
    .add(b'}');

/// Passes a request of `user` on to the server in the `spec` of an `APIService`, and its answer back.
///
/// # Errors
/// In words, if the server cannot be reached.
pub(crate) async fn forward<B>(
    server: &ApiServer,
    spec: &Value,
    mut request: Request<B>,
    user: &UserInfo,
) -> Result<Response<Body>, String>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let relay = server.relay();
    let backend = Server::find(relay, server.registry(), spec).await?;
    let path = request.uri().path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    name_user(request.headers_mut(), user);
    let stream = Box::new(backend.connect(relay).await?);
    relay.forward_on(stream, backend.authority()?, Outgoing::new(request, path)).await
}

/// Says who the user is, and lets nobody else say so.
fn name_user(headers: &mut HeaderMap, user: &UserInfo) {
    let claimed: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("x-remote-")).cloned().collect();
    for name in claimed {
        headers.remove(name);
    }
    let mut add = |name: HeaderName, value: &str| match HeaderValue::from_str(value) {
        Ok(value) => drop(headers.append(name, value)),
        Err(error) => tracing::warn!(%error, %name, "an aggregated API server is not told all of a user"),
    };
    add(USER, &user.name);
    if !user.uid.is_empty() {
        add(UID, &user.uid);
    }
    for group in &user.groups {
        add(GROUP, group);
    }
    for (key, values) in &user.extra {
        let name = format!("{EXTRA}{}", utf8_percent_encode(&key.to_lowercase(), ESCAPED));
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { continue };
        for value in values {
            add(name.clone(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_user_is_who_this_server_says() {
        let mut headers = HeaderMap::new();
        headers.insert("x-remote-user", HeaderValue::from_static("boss"));
        headers.insert("x-remote-extra-scope", HeaderValue::from_static("all"));
        let user = UserInfo {
            extra: BTreeMap::from([("example.com/key".to_owned(), vec!["a".to_owned(), "b".to_owned()])]),
            ..UserInfo::new("jane", &["devs"])
        };
        name_user(&mut headers, &user);
        let all = |name: &str| headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(all("x-remote-user"), ["jane"]);
        assert_eq!(all("x-remote-group"), ["devs", "system:authenticated"]);
        assert_eq!(all("x-remote-extra-example.com%2fkey"), ["a", "b"]);
        assert!(all("x-remote-extra-scope").is_empty() && all("x-remote-uid").is_empty());
    }
}
