//! The IP families of services: what a service wants, within what the cluster has.

use ipnet::IpNet;
use k3s_api::object::{at, section_mut, text};
use k3s_api::status::Status;
use k3s_api::validation::{FieldError, Path};
use serde_json::{Value, json};

use super::{needs_cluster_ip, refuse, texts};

/// `IPv4` or `IPv6`.
pub(super) fn name(range: &IpNet) -> &'static str {
    if range.addr().is_ipv4() { "IPv4" } else { "IPv6" }
}

/// The families of a service.
pub(super) fn of(service: &Value) -> Vec<String> {
    texts(at(service, &["spec", "ipFamilies"]))
}

/// Fills in families and policy.
///
/// # Errors
/// 422 if the cluster doesn't have what the service wants.
pub(super) fn settle(service: &mut Value, old: Option<&Value>, ranges: &[IpNet]) -> Result<(), Status> {
    if !needs_cluster_ip(service) {
        return Ok(());
    }
    if let Some(old) = old.filter(|old| needs_cluster_ip(old)) {
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            let spec = section_mut(service, "spec");
            if let (None, Some(value)) = (spec.get(field), at(old, &["spec", field])) {
                spec.insert(field.to_owned(), value.clone());
            }
        }
    }
    let configured: Vec<&str> = ranges.iter().map(name).collect();
    let spec = Path::new("spec");
    let mut families = of(service);
    let list = spec.child("ipFamilies");
    for (index, family) in families.iter().enumerate() {
        if !configured.contains(&family.as_str()) && !is_selectorless_headless(service) {
            let error = FieldError::invalid(&list.index(index), family, "not configured on this cluster");
            return Err(refuse(service, error));
        }
    }
    let policy = text(service, &["spec", "ipFamilyPolicy"]).map(str::to_owned);
    if policy.as_deref() == Some("RequireDualStack") && configured.len() < 2 && !is_selectorless_headless(service) {
        let why = "this cluster is not configured for dual-stack services";
        return Err(refuse(service, FieldError::invalid(&spec.child("ipFamilyPolicy"), "RequireDualStack", why)));
    }
    // Without a selector, whoever writes the endpoints decides; so every family is possible.
    let selectorless = is_selectorless_headless(service);
    let policy = policy.unwrap_or_else(|| {
        let dual = (selectorless && families.is_empty()) || families.len() > 1;
        if dual { "RequireDualStack" } else { "SingleStack" }.to_owned()
    });
    let given = texts(at(service, &["spec", "clusterIPs"]));
    if families.is_empty() {
        let of_given = given.iter().filter_map(|ip| ip.parse::<std::net::IpAddr>().ok());
        families.extend(of_given.map(|ip| if ip.is_ipv4() { "IPv4" } else { "IPv6" }.to_owned()));
    }
    if families.is_empty() {
        families.extend(configured.first().map(|family| (*family).to_owned()));
    }
    let other = if families.first().is_some_and(|family| family == "IPv4") { "IPv6" } else { "IPv4" };
    let wants_both = policy == "RequireDualStack" || (policy == "PreferDualStack" && configured.len() > 1);
    if wants_both && families.len() == 1 {
        families.push(other.to_owned());
    }
    if policy == "SingleStack" {
        families.truncate(1);
    }
    let spec = section_mut(service, "spec");
    spec.insert("ipFamilyPolicy".to_owned(), policy.into());
    spec.insert("ipFamilies".to_owned(), json!(families));
    Ok(())
}

fn is_selectorless_headless(service: &Value) -> bool {
    let selector = at(service, &["spec", "selector"]).and_then(Value::as_object);
    text(service, &["spec", "clusterIP"]) == Some("None") && selector.is_none_or(|selector| selector.is_empty())
}
