//! Values of Kubernetes' internal types as messages show them when a whole struct is wrong: JSON with Go's names, all
//! fields of the struct and in its order.

use serde_json::Value;

use super::Verbatim;

/// A field: its name in Go, its name in JSON, and its type. A type is `text`, `number`, `truth`, `json` (as it is, or
/// null), the name of a struct, or one of these behind `*` (null if absent) or `[]`.
type Field = (&'static str, &'static str, &'static str);

const STRUCTS: &[(&str, &[Field])] = &[
    (
        "FlowSchemaSpec",
        &[
            ("PriorityLevelConfiguration", "priorityLevelConfiguration", "LevelReference"),
            ("MatchingPrecedence", "matchingPrecedence", "number"),
            ("DistinguisherMethod", "distinguisherMethod", "*DistinguisherMethod"),
            ("Rules", "rules", "[]PolicyRules"),
        ],
    ),
    ("LevelReference", &[("Name", "name", "text")]),
    ("DistinguisherMethod", &[("Type", "type", "text")]),
    (
        "PolicyRules",
        &[
            ("Subjects", "subjects", "[]Subject"),
            ("ResourceRules", "resourceRules", "[]ResourceRule"),
            ("NonResourceRules", "nonResourceRules", "[]NonResourceRule"),
        ],
    ),
    (
        "Subject",
        &[
            ("Kind", "kind", "text"),
            ("User", "user", "*LevelReference"),
            ("Group", "group", "*LevelReference"),
            ("ServiceAccount", "serviceAccount", "*ServiceAccount"),
        ],
    ),
    ("ServiceAccount", &[("Namespace", "namespace", "text"), ("Name", "name", "text")]),
    (
        "ResourceRule",
        &[
            ("Verbs", "verbs", "json"),
            ("APIGroups", "apiGroups", "json"),
            ("Resources", "resources", "json"),
            ("ClusterScope", "clusterScope", "truth"),
            ("Namespaces", "namespaces", "json"),
        ],
    ),
    ("NonResourceRule", &[("Verbs", "verbs", "json"), ("NonResourceURLs", "nonResourceURLs", "json")]),
    (
        "PriorityLevelConfigurationSpec",
        &[("Type", "type", "text"), ("Limited", "limited", "*Limited"), ("Exempt", "exempt", "*Exempt")],
    ),
    (
        "Limited",
        &[
            ("NominalConcurrencyShares", "nominalConcurrencyShares", "number"),
            ("LimitResponse", "limitResponse", "LimitResponse"),
            ("LendablePercent", "lendablePercent", "json"),
            ("BorrowingLimitPercent", "borrowingLimitPercent", "json"),
        ],
    ),
    ("LimitResponse", &[("Type", "type", "text"), ("Queuing", "queuing", "*Queuing")]),
    (
        "Queuing",
        &[
            ("Queues", "queues", "number"),
            ("HandSize", "handSize", "number"),
            ("QueueLengthLimit", "queueLengthLimit", "number"),
        ],
    ),
    (
        "Exempt",
        &[
            ("NominalConcurrencyShares", "nominalConcurrencyShares", "json"),
            ("LendablePercent", "lendablePercent", "json"),
        ],
    ),
    ("ResourceClaimSpec", &[("Devices", "devices", "DeviceClaim")]),
    (
        "DeviceClaim",
        &[
            ("Requests", "requests", "[]DeviceRequest"),
            ("Constraints", "constraints", "[]DeviceConstraint"),
            ("Config", "config", "[]DeviceClaimConfiguration"),
        ],
    ),
    (
        "DeviceRequest",
        &[
            ("Name", "name", "text"),
            ("Exactly", "exactly", "*ExactDeviceRequest"),
            ("FirstAvailable", "firstAvailable", "[]DeviceSubRequest"),
        ],
    ),
    (
        "ExactDeviceRequest",
        &[
            ("DeviceClassName", "deviceClassName", "text"),
            ("Selectors", "selectors", "[]DeviceSelector"),
            ("AllocationMode", "allocationMode", "text"),
            ("Count", "count", "number"),
            ("AdminAccess", "adminAccess", "json"),
            ("Tolerations", "tolerations", "[]DeviceToleration"),
            ("Capacity", "capacity", "*CapacityRequirements"),
        ],
    ),
    (
        "DeviceSubRequest",
        &[
            ("Name", "name", "text"),
            ("DeviceClassName", "deviceClassName", "text"),
            ("Selectors", "selectors", "[]DeviceSelector"),
            ("AllocationMode", "allocationMode", "text"),
            ("Count", "count", "number"),
            ("Tolerations", "tolerations", "[]DeviceToleration"),
            ("Capacity", "capacity", "*CapacityRequirements"),
        ],
    ),
    ("CapacityRequirements", &[("Requests", "requests", "json")]),
    ("DeviceSelector", &[("CEL", "cel", "*CELDeviceSelector")]),
    ("CELDeviceSelector", &[("Expression", "expression", "text")]),
    (
        "DeviceToleration",
        &[
            ("Key", "key", "text"),
            ("Operator", "operator", "text"),
            ("Value", "value", "text"),
            ("Effect", "effect", "text"),
            ("TolerationSeconds", "tolerationSeconds", "json"),
        ],
    ),
    (
        "DeviceConstraint",
        &[
            ("Requests", "requests", "json"),
            ("MatchAttribute", "matchAttribute", "json"),
            ("DistinctAttribute", "distinctAttribute", "json"),
        ],
    ),
    ("DeviceClaimConfiguration", &[("Requests", "requests", "json"), ("Opaque", "opaque", "*OpaqueConfiguration")]),
    ("OpaqueConfiguration", &[("Driver", "driver", "text"), ("Parameters", "parameters", "json")]),
];

/// The value as one of a type.
pub fn shown(of: &str, value: &Value) -> Verbatim {
    Verbatim(render(of, value))
}

fn render(of: &str, value: &Value) -> String {
    if let Some(of) = of.strip_prefix("[]") {
        let Some(items) = value.as_array() else { return "null".to_owned() };
        let items: Vec<String> = items.iter().map(|item| render(of, item)).collect();
        return format!("[{}]", items.join(","));
    }
    if let Some(of) = of.strip_prefix('*') {
        return if value.is_null() { "null".to_owned() } else { render(of, value) };
    }
    let Some((_, fields)) = STRUCTS.iter().find(|(name, _)| *name == of) else {
        return match (of, value) {
            ("text", Value::Null) => "\"\"".to_owned(),
            ("number", Value::Null) => "0".to_owned(),
            ("truth", Value::Null) => "false".to_owned(),
            (_, value) => value.to_string(),
        };
    };
    let fields = fields
        .iter()
        .map(|(go_name, name, of)| format!("\"{go_name}\":{}", render(of, value.get(name).unwrap_or(&Value::Null))));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_fields_stand_in_the_order_of_the_struct() {
        let spec = json!({"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c", "count": 1}}]}});
        assert_eq!(
            shown("ResourceClaimSpec", &spec).0,
            r#"{"Devices":{"Requests":[{"Name":"r","Exactly":{"DeviceClassName":"c","Selectors":null,"AllocationMode":"","Count":1,"AdminAccess":null,"Tolerations":null,"Capacity":null},"FirstAvailable":null}],"Constraints":null,"Config":null}}"#
        );
    }
}
