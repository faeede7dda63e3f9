//! Names in resource.k8s.io.

use super::super::node::{Errors, Node};
use super::super::{FieldError, names};

const DRIVER_LIMIT: usize = 63;
const POOL_LIMIT: usize = 253;
const ID_LIMIT: usize = 32;

pub(super) fn driver_name(node: &Node, errors: &mut Errors) {
    node.require(errors);
    driver(node, node.text(), errors);
}

fn driver(node: &Node, name: &str, errors: &mut Errors) {
    if name.len() > DRIVER_LIMIT {
        errors.push(FieldError::too_long(&node.path, DRIVER_LIMIT));
    }
    for message in names::dns1123_subdomain(&name.to_lowercase()) {
        errors.push(FieldError::invalid(&node.path, name, message));
    }
}

pub(super) fn device_name(node: &Node, errors: &mut Errors) {
    node.invalid_text(errors, names::dns1123_label(node.text()));
}

/// Domains joined by slashes.
pub(super) fn pool_name(node: &Node, errors: &mut Errors) {
    if !node.require(errors) {
        return;
    }
    if node.text().len() > POOL_LIMIT {
        errors.push(FieldError::too_long(&node.path, POOL_LIMIT));
    }
    for part in node.text().split('/') {
        for message in names::dns1123_subdomain(part) {
            errors.push(FieldError::invalid(&node.path, part, message));
        }
    }
}

/// The name of an attribute or capacity: an identifier, which may stand behind a domain and a slash. Errors are about
/// `node`.
pub(super) fn qualified_name(node: &Node, name: &str, errors: &mut Errors) {
    let parts: Vec<&str> = name.split('/').collect();
    match parts[..] {
        [id] => identifier(node, id, errors),
        [domain, id] => {
            match domain {
                "" => errors.push(FieldError::invalid(&node.path, "", "the domain must not be empty")),
                domain => driver(node, domain, errors),
            }
            match id {
                "" => errors.push(FieldError::invalid(&node.path, "", "the name must not be empty")),
                id => identifier(node, id, errors),
            }
        }
        _ => {}
    }
}

pub(super) fn fully_qualified_name(node: &Node, errors: &mut Errors) {
    qualified_name(node, node.text(), errors);
    if !node.text().contains('/') {
        node.invalid(errors, "a fully qualified name must be a domain and a name separated by a slash");
    }
}

fn identifier(node: &Node, id: &str, errors: &mut Errors) {
    if id.len() > ID_LIMIT {
        errors.push(FieldError::too_long(&node.path, ID_LIMIT));
    }
    for message in names::c_identifier(id) {
        errors.push(FieldError::invalid(&node.path, id, message));
    }
}

pub(super) fn label_name(node: &Node, errors: &mut Errors) {
    node.invalid_text(errors, names::qualified_name(node.text()));
}

pub(super) fn label_value(node: &Node, errors: &mut Errors) {
    node.invalid_text(errors, names::label_value(node.text()));
}

/// A resource of a node that Kubernetes itself knows nothing of.
pub(super) fn is_extended_resource(name: &str) -> bool {
    let is_native = !name.contains('/') || name.contains("kubernetes.io/");
    !is_native && !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}
