//! Probes, and the handlers that they share with lifecycle hooks.

use crate::validation::names;
use crate::validation::node::{Errors, Node};

/// A probe; one that starts a container anew needs a single success.
pub fn probe(probe: &Node, once: bool, errors: &mut Errors) {
    handler(probe, errors);
    for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        probe.field(field).non_negative(errors);
    }
    let grace = probe.field("terminationGracePeriodSeconds");
    match once {
        true => {
            if grace.int().is_some_and(|seconds| seconds <= 0) {
                grace.invalid(errors, "must be greater than 0");
            }
            let successes = probe.field("successThreshold");
            if successes.int().is_some_and(|count| count != 1) {
                successes.invalid(errors, "must be 1");
            }
        }
        false if grace.is_set() => grace.invalid(errors, "must not be set for readinessProbes"),
        false => {}
    }
}

/// What is done: one thing.
pub fn handler(handler: &Node, errors: &mut Errors) {
    let mut count = 0;
    for kind in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        let action = handler.field(kind);
        if !action.is_set() {
            continue;
        }
        if count > 0 {
            action.forbidden(errors, "may not specify more than 1 handler type");
            continue;
        }
        count += 1;
        match kind {
            "exec" => {
                action.field("command").require(errors);
            }
            "httpGet" => http_get(&action, errors),
            "tcpSocket" => port(&action.field("port"), errors),
            "grpc" => port(&action.field("port"), errors),
            _ => action.field("seconds").non_negative(errors),
        }
    }
    if count == 0 {
        handler.required(errors, "must specify a handler type");
    }
}

fn http_get(get: &Node, errors: &mut Errors) {
    get.field("path").require(errors);
    port(&get.field("port"), errors);
    get.field("scheme").one_of(errors, &["HTTP", "HTTPS"]);
    for header in get.field("httpHeaders").items() {
        let headers = get.field("httpHeaders");
        let name = header.field("name");
        for message in names::http_header_name(name.text()) {
            headers.invalid_as(name.text(), errors, message);
        }
    }
}

/// A port by number or by name.
pub fn port(port: &Node, errors: &mut Errors) {
    match port.int() {
        Some(number) => names::port_number(number).into_iter().for_each(|message| port.invalid(errors, message)),
        None => port.invalid_text(errors, names::port_name(port.text())),
    }
}
