//! What a request asks for, read from its method, path and query: the input of authorization, admission and dispatch.
//!
//! Source: `RequestInfo` of Kubernetes' `k8s.io/apiserver/pkg/endpoints/request`.

use http::Method;
use percent_encoding::percent_decode_str;

/// A request's place in the API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// The path names a resource (`/api/v1/…`, `/apis/GROUP/VERSION/…`); otherwise only `path` and `verb` matter.
    pub is_resource: bool,
    /// The decoded path, as authorization of non-resource URLs sees it.
    pub path: String,
    /// get, list, watch, create, update, patch, delete, deletecollection or proxy; for a non-resource request the
    /// method in lower case.
    pub verb: &'static str,
    /// Empty for the core group.
    pub group: String,
    pub version: String,
    /// The plural name; empty for `/api/v1` itself.
    pub resource: String,
    /// Empty for the resource itself.
    pub subresource: String,
    /// Empty for cluster-scoped resources and for requests across all namespaces. For the namespace resource itself it
    /// is the namespace's own name, as Kubernetes' authorizers expect.
    pub namespace: String,
    /// Empty for collections.
    pub name: String,
    /// Of a list, watch or deletecollection, as it is written; empty: none.
    pub label_selector: String,
    pub field_selector: String,
    /// What follows the subresource, for `proxy`: raw, not decoded, without a leading slash.
    pub rest: String,
}

fn decode(part: &str) -> String {
    percent_decode_str(part).decode_utf8_lossy().into_owned()
}

impl RequestInfo {
    /// Reads method, path and query.
    pub fn new(method: &Method, raw_path: &str, query: &Query) -> Self {
        let mut info = Self { path: decode(raw_path), verb: method_verb(method), ..Self::default() };
        let parts: Vec<&str> = raw_path.trim_matches('/').split('/').collect();
        let (group, mut rest) = match parts.as_slice() {
            ["api", rest @ ..] if rest.len() >= 2 => ("", rest),
            ["apis", group, rest @ ..] if rest.len() >= 2 => (*group, rest),
            _ => return info,
        };
        info.is_resource = true;
        info.group = decode(group);
        info.version = decode(rest[0]);
        rest = &rest[1..];
        info.verb = resource_verb(method);
        let mut subresources = true;
        if let ["watch" | "proxy", after @ ..] = rest
            && !after.is_empty()
        {
            subresources = rest[0] != "watch";
            info.verb = if rest[0] == "watch" { "watch" } else { "proxy" };
            rest = after;
        }
        if let ["namespaces", namespace, after @ ..] = rest {
            info.namespace = decode(namespace);
            if !after.is_empty() && !matches!(after[0], "status" | "finalize") {
                rest = after;
            }
        }
        info.resource = rest.first().map(|p| decode(p)).unwrap_or_default();
        info.name = rest.get(1).map(|p| decode(p)).unwrap_or_default();
        if subresources && rest.len() > 2 {
            info.subresource = decode(rest[2]);
            info.rest = rest[3..].join("/");
        }
        if info.name.is_empty() {
            match info.verb {
                "get" if query.flag("watch") => info.verb = "watch",
                "get" => info.verb = "list",
                "delete" => info.verb = "deletecollection",
                _ => {}
            }
        }
        if matches!(info.verb, "list" | "watch" | "deletecollection") {
            let text = |name| query.get(name).unwrap_or_default().to_owned();
            (info.label_selector, info.field_selector) = (text("labelSelector"), text("fieldSelector"));
            if info.name.is_empty() {
                info.name = exact_name(&info.field_selector).unwrap_or_default();
            }
        }
        info
    }

    /// Whether the answer is a stream that lasts as long as its reader wants: no deadline holds for it. As Kubernetes has
    /// it, all logs and proxied requests are taken for such.
    pub fn is_long_running(&self) -> bool {
        self.is_resource
            && (matches!(self.verb, "watch" | "proxy")
                || matches!(self.subresource.as_str(), "attach" | "exec" | "proxy" | "log" | "portforward"))
    }
}

/// The name that a field selector fixes. A user who may only watch one object by name is allowed to do so this way.
fn exact_name(selector: &str) -> Option<String> {
    selector.split(',').find_map(|term| {
        let (field, value) = term.split_once('=')?;
        (field == "metadata.name").then(|| value.trim_start_matches('=').to_owned()).filter(|name| !name.is_empty())
    })
}

fn method_verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "",
    }
}

fn resource_verb(method: &Method) -> &'static str {
    match *method {
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

/// The decoded query parameters, in order.
#[derive(Debug, Clone, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Parses `a=b&c=d`; `+` is a space.
    pub fn parse(query: &str) -> Self {
        let decode = |text: &str| decode(&text.replace('+', " "));
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        Self(pairs.map(|p| p.split_once('=').unwrap_or((p, ""))).map(|(k, v)| (decode(k), decode(v))).collect())
    }

    /// The first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Every value of a parameter, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A boolean parameter as Kubernetes reads it: present and neither `false` nor `0`.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "false" | "0"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(method: Method, url: &str) -> RequestInfo {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        RequestInfo::new(&method, path, &Query::parse(query))
    }

    #[test]
    fn verbs_follow_method_and_shape() {
        let cases = [
            (Method::GET, "/api/v1/pods", "list", "", ""),
            (Method::GET, "/api/v1/pods?watch=1", "watch", "", ""),
            (Method::GET, "/api/v1/watch/namespaces/a/pods", "watch", "a", ""),
            (Method::GET, "/api/v1/namespaces/a/pods/p", "get", "a", "p"),
            (Method::POST, "/api/v1/namespaces/a/pods", "create", "a", ""),
            (Method::DELETE, "/api/v1/namespaces/a/pods", "deletecollection", "a", ""),
            (Method::GET, "/api/v1/pods?fieldSelector=metadata.name%3Dx", "list", "", "x"),
        ];
        for (method, url, verb, namespace, name) in cases {
            let got = info(method, url);
            assert_eq!((got.verb, got.namespace.as_str(), got.name.as_str()), (verb, namespace, name), "{url}");
            assert_eq!(got.resource, "pods", "{url}");
        }
    }

    #[test]
    fn a_namespace_is_its_own_namespace() {
        let got = info(Method::PUT, "/api/v1/namespaces/a/finalize");
        assert_eq!((got.resource.as_str(), got.subresource.as_str()), ("namespaces", "finalize"));
        assert_eq!((got.namespace.as_str(), got.name.as_str()), ("a", "a"));
    }

    #[test]
    fn the_rest_of_a_proxy_path_is_kept_raw() {
        let got = info(Method::GET, "/api/v1/namespaces/a/services/http:web:80/proxy/x%2Fy/z");
        assert_eq!(
            (got.name.as_str(), got.subresource.as_str(), got.rest.as_str()),
            ("http:web:80", "proxy", "x%2Fy/z")
        );
    }

    #[test]
    fn discovery_paths_name_no_resource() {
        for url in ["/api", "/api/v1", "/apis/apps/v1", "/version", "/"] {
            assert!(!info(Method::GET, url).is_resource, "{url}");
        }
    }
}
