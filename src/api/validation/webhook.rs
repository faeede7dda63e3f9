//! Where webhooks are: `clientConfig` of admission and conversion webhooks.

use super::names;
use super::node::{Errors, Node};

const FORM: &str = "; desired format: https://host[/path]";

/// Exactly one of a URL and a service, of the node that has both.
pub fn client_config(client: &Node, errors: &mut Errors) {
    let (url, service) = (client.field("url"), client.field("service"));
    match (url.is_set(), service.is_set()) {
        (true, false) => https_url(&url, errors),
        (false, true) => service_reference(&service, errors),
        _ => client.required(errors, "exactly one of url or service is required"),
    }
}

fn https_url(url: &Node, errors: &mut Errors) {
    let text = url.text();
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    if scheme != "https" {
        url.invalid_as(scheme, errors, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let host = match authority.rsplit_once('@') {
        Some((user, host)) => {
            url.invalid_as(user, errors, "user information is not permitted in the URL");
            host
        }
        None => authority,
    };
    if host.is_empty() || scheme.is_empty() {
        url.invalid_as("", errors, format!("host must be specified{FORM}"));
    }
    let (path, fragment) = tail.split_once('#').unwrap_or((tail, ""));
    if !fragment.is_empty() {
        url.invalid_as(fragment, errors, "fragments are not permitted in the URL");
    }
    if let Some((_, query)) = path.split_once('?').filter(|(_, query)| !query.is_empty()) {
        url.invalid_as(query, errors, "query parameters are not permitted in the URL");
    }
}

fn service_reference(service: &Node, errors: &mut Errors) {
    for (field, why) in [("name", "service name is required"), ("namespace", "service namespace is required")] {
        if service.field(field).is_empty() {
            service.field(field).required(errors, why);
        }
    }
    let port = service.field("port");
    if let Some(number) = port.int() {
        let wrong = names::port_number(number);
        wrong.into_iter().for_each(|why| port.invalid(errors, format!("port is not valid: {why}")));
    }
    let path = service.field("path");
    let text = path.text();
    if text.is_empty() || text == "/" {
        return;
    }
    let Some(steps) = text.strip_prefix('/') else {
        return path.invalid(errors, "must start with a '/'");
    };
    let mut steps: Vec<&str> = steps.split('/').collect();
    // A slash at the end is no segment.
    if steps.last() == Some(&"") && steps.len() > 1 {
        steps.pop();
    }
    for (index, step) in steps.iter().enumerate() {
        if step.is_empty() {
            path.invalid(errors, format!("segment[{index}] may not be empty"));
            continue;
        }
        for why in names::dns1123_subdomain(step) {
            path.invalid(errors, format!("segment[{index}]: {why}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn wrong(client: Value) -> Vec<String> {
        let mut errors = Vec::new();
        client_config(&Node::root(&client), &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_url_is_a_place_and_nothing_else() {
        assert!(wrong(json!({"url": "https://hook.example:8443/a/b"})).is_empty());
        for (url, why) in [
            ("https://u@hook.example", "user information is not permitted in the URL"),
            ("https://hook.example/#a", "fragments are not permitted in the URL"),
            ("https://hook.example/?a=b", "query parameters are not permitted in the URL"),
            ("https:///a", "host must be specified; desired format: https://host[/path]"),
        ] {
            let errors = wrong(json!({"url": url}));
            assert!(errors.len() == 1 && errors[0].ends_with(why), "{errors:?}");
        }
    }

    #[test]
    fn a_service_has_a_name_and_a_path_of_segments() {
        let service = |path: &str| json!({"service": {"name": "n", "namespace": "s", "port": 443, "path": path}});
        for path in ["", "/", "/a", "/a/b.c/"] {
            assert!(wrong(service(path)).is_empty(), "{path}");
        }
        for path in ["a", "/a//b", "/A_B"] {
            assert_eq!(wrong(service(path)).len(), 1, "{path}");
        }
        assert_eq!(wrong(json!({"service": {}})).len(), 2);
        assert_eq!(wrong(json!({"service": {}, "url": "https://a"})).len(), 1);
    }
}
