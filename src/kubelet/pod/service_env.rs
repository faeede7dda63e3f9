//! Environment variables that tell containers of services.

use k8s_openapi::api::core::v1::Service;

/// The variables of the services a pod of `namespace` sees: those of its own namespace if `links`, and always the
/// API server's.
pub(crate) fn variables<'a>(
    services: impl Iterator<Item = &'a Service>,
    namespace: &str,
    links: bool,
) -> Vec<(String, String)> {
    let mut seen: Vec<&Service> = services
        .filter(|service| {
            let own = service.metadata.namespace.as_deref();
            let name = service.metadata.name.as_deref();
            let master = own == Some("default") && name == Some("kubernetes");
            // A service of the same name in the pod's own namespace hides the API server's.
            master || (links && own == Some(namespace))
        })
        .filter(|service| cluster_ip(service).is_some())
        .collect();
    seen.sort_by_key(|service| (service.metadata.namespace.as_deref() == Some(namespace), &service.metadata.name));
    let mut variables = Vec::new();
    for service in seen {
        describe(service, &mut variables);
    }
    variables
}

fn cluster_ip(service: &Service) -> Option<&str> {
    service.spec.as_ref()?.cluster_ip.as_deref().filter(|ip| !matches!(*ip, "" | "None"))
}

fn describe(service: &Service, variables: &mut Vec<(String, String)>) {
    let (Some(ip), Some(spec)) = (cluster_ip(service), &service.spec) else { return };
    let name = variable_name(service.metadata.name.as_deref().unwrap_or_default());
    let ports = spec.ports.as_deref().unwrap_or_default();
    let Some(first) = ports.first() else { return };
    variables.push((format!("{name}_SERVICE_HOST"), ip.into()));
    variables.push((format!("{name}_SERVICE_PORT"), first.port.to_string()));
    for port in ports {
        if let Some(port_name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            variables.push((format!("{name}_SERVICE_PORT_{}", variable_name(port_name)), port.port.to_string()));
        }
    }
    // Docker's link variables.
    for (index, port) in ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let scheme = protocol.to_ascii_lowercase();
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        let url = format!("{scheme}://{host}:{}", port.port);
        if index == 0 {
            variables.push((format!("{name}_PORT"), url.clone()));
        }
        let prefix = format!("{name}_PORT_{}_{}", port.port, protocol.to_ascii_uppercase());
        variables.push((prefix.clone(), url));
        variables.push((format!("{prefix}_PROTO"), scheme));
        variables.push((format!("{prefix}_PORT"), port.port.to_string()));
        variables.push((format!("{prefix}_ADDR"), ip.into()));
    }
}

fn variable_name(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(namespace: &str, name: &str, ip: &str) -> Service {
        serde_json::from_value(serde_json::json!({
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"clusterIP": ip, "ports": [{"name": "web-ui", "port": 80, "protocol": "TCP"}]}
        }))
        .unwrap()
    }

    #[test]
    fn a_service_is_described_in_both_styles() {
        let services = [service("n", "my-svc", "10.43.0.5")];
        let variables = variables(services.iter(), "n", true);
        for (name, value) in [
            ("MY_SVC_SERVICE_HOST", "10.43.0.5"),
            ("MY_SVC_SERVICE_PORT", "80"),
            ("MY_SVC_SERVICE_PORT_WEB_UI", "80"),
            ("MY_SVC_PORT", "tcp://10.43.0.5:80"),
            ("MY_SVC_PORT_80_TCP_ADDR", "10.43.0.5"),
        ] {
            assert!(variables.contains(&(name.into(), value.into())), "{name} in {variables:?}");
        }
    }

    #[test]
    fn without_links_only_the_api_server_is_told_and_headless_services_never() {
        let services =
            [service("n", "a", "10.43.0.5"), service("default", "kubernetes", "10.43.0.1"), service("n", "b", "None")];
        let names: Vec<String> = variables(services.iter(), "n", false).into_iter().map(|(name, _)| name).collect();
        assert!(names.contains(&"KUBERNETES_SERVICE_HOST".to_owned()));
        assert!(!names.iter().any(|name| name.starts_with("A_")));
        let linked = variables(services.iter(), "n", true);
        assert!(!linked.iter().any(|(name, _)| name.starts_with("B_")));
    }
}
