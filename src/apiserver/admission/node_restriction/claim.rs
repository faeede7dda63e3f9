//! A kubelet says how far it has grown a claim's file system, and nothing else of a claim.

use k3s_api::status::Status;
use serde_json::Value;

use super::Request;
use crate::admission::Operation;

/// What of a claim's status is the kubelet's.
const OWN: [&str; 4] = ["capacity", "conditions", "allocatedResources", "allocatedResourceStatuses"];

pub(super) fn admit(request: &Request<'_>) -> Result<(), Status> {
    if request.at.subresource != "status" {
        return request.refuse("may only update PVC status");
    }
    if request.at.operation != Operation::Update {
        return request.refuse(format!("unexpected operation {:?}", request.at.operation.name()));
    }
    let others = |claim: &Value| {
        let mut claim = claim.clone();
        for (section, fields) in [("status", &OWN[..]), ("metadata", &["resourceVersion", "managedFields"])] {
            if let Some(section) = claim.get_mut(section).and_then(Value::as_object_mut) {
                section.retain(|field, _| !fields.contains(&field.as_str()));
            }
        }
        claim
    };
    if request.old.map(others) != Some(others(request.object)) {
        return request.refuse(format!(
            "node {:?} is not allowed to update fields other than status.capacity and status.conditions",
            request.node
        ));
    }
    Ok(())
}
