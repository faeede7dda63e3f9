//! flowcontrol.apiserver.k8s.io

use serde_json::Value;

use super::{at, field};

pub fn flow_schema(schema: &mut Value) {
    if let Some(spec) = field(schema, "spec") {
        fill!(spec, "matchingPrecedence": 1000);
    }
}

pub fn priority_level(level: &mut Value) {
    if let Some(exempt) = at(level, &["spec", "exempt"]) {
        fill!(exempt, "nominalConcurrencyShares": 0, "lendablePercent": 0);
    }
    if let Some(limited) = at(level, &["spec", "limited"]) {
        fill!(limited, "nominalConcurrencyShares": 30, "lendablePercent": 0);
    }
    if let Some(queuing) = at(level, &["spec", "limited", "limitResponse", "queuing"]) {
        fill!(queuing, "queues": 64, "handSize": 8, "queueLengthLimit": 50);
    }
}
