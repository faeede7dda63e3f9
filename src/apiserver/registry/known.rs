//! The rows of built-in resources that the API server itself reads or writes.

use k3s_api::resource::{self, Resource};

macro_rules! known {
    ($($name:ident = $group:literal / $version:literal / $plural:literal;)*) => {$(
        /// The row of the resource of that name.
        pub fn $name() -> &'static Resource {
            resource::find($group, $version, $plural).expect("a built-in resource")
        }
    )*

        #[cfg(test)]
        #[test]
        fn every_row_is_there() {
            $($name();)*
        }
    };
}

known! {
    namespaces = "" / "v1" / "namespaces";
    service_accounts = "" / "v1" / "serviceaccounts";
    services = "" / "v1" / "services";
    ip_addresses = "networking.k8s.io" / "v1" / "ipaddresses";
    pods = "" / "v1" / "pods";
    nodes = "" / "v1" / "nodes";
    secrets = "" / "v1" / "secrets";
    persistent_volumes = "" / "v1" / "persistentvolumes";
    persistent_volume_claims = "" / "v1" / "persistentvolumeclaims";
    volume_attachments = "storage.k8s.io" / "v1" / "volumeattachments";
    csi_drivers = "storage.k8s.io" / "v1" / "csidrivers";
    resource_slices = "resource.k8s.io" / "v1" / "resourceslices";
    limit_ranges = "" / "v1" / "limitranges";
    resource_quotas = "" / "v1" / "resourcequotas";
    endpoints = "" / "v1" / "endpoints";
    endpoint_slices = "discovery.k8s.io" / "v1" / "endpointslices";
    priority_classes = "scheduling.k8s.io" / "v1" / "priorityclasses";
    storage_classes = "storage.k8s.io" / "v1" / "storageclasses";
    ingress_classes = "networking.k8s.io" / "v1" / "ingressclasses";
    runtime_classes = "node.k8s.io" / "v1" / "runtimeclasses";
    pod_disruption_budgets = "policy" / "v1" / "poddisruptionbudgets";
    validating_admission_policies = "admissionregistration.k8s.io" / "v1" / "validatingadmissionpolicies";
    validating_admission_policy_bindings = "admissionregistration.k8s.io" / "v1" / "validatingadmissionpolicybindings";
    mutating_webhook_configurations = "admissionregistration.k8s.io" / "v1" / "mutatingwebhookconfigurations";
    validating_webhook_configurations = "admissionregistration.k8s.io" / "v1" / "validatingwebhookconfigurations";
    mutating_admission_policies = "admissionregistration.k8s.io" / "v1" / "mutatingadmissionpolicies";
    mutating_admission_policy_bindings = "admissionregistration.k8s.io" / "v1" / "mutatingadmissionpolicybindings";
    custom_resource_definitions = "apiextensions.k8s.io" / "v1" / "customresourcedefinitions";
    flow_schemas = "flowcontrol.apiserver.k8s.io" / "v1" / "flowschemas";
    priority_level_configurations = "flowcontrol.apiserver.k8s.io" / "v1" / "prioritylevelconfigurations";
    api_services = "apiregistration.k8s.io" / "v1" / "apiservices";
}
