//! Says of every flow schema whether its priority level is there: condition `Dangling`.

use k3s_api::object::{at, name, text};
use serde_json::Value;

use crate::follow::Again;
use crate::registry::{self, known};
use crate::{ApiServer, bootstrap};

const MANAGER: &str = "api-priority-and-fairness-config-consumer-v1";

/// Brings the condition of all of them up to date.
pub(super) async fn reconcile(server: &ApiServer) -> Result<Again, registry::Error> {
    let registry = server.registry();
    let levels = registry.list(known::priority_level_configurations(), "").await?.entries;
    for entry in registry.list(known::flow_schemas(), "").await?.entries {
        let schema = entry.value()?;
        let level = text(&schema, &["spec", "priorityLevelConfiguration", "name"]).unwrap_or_default();
        let found = levels.iter().any(|entry| entry.name() == level);
        let reference = "This FlowSchema references the PriorityLevelConfiguration object named";
        let (status, reason, message) = match found {
            true => ("False", "Found", format!("{reference} \"{level}\" and it exists")),
            false => ("True", "NotFound", format!("{reference} \"{level}\" but there is no such object")),
        };
        let conditions = at(&schema, &["status", "conditions"]).and_then(Value::as_array);
        let is_said = conditions.into_iter().flatten().any(|condition| {
            condition["type"] == "Dangling" && condition["status"] == status && condition["message"] == message
        });
        if is_said {
            continue;
        }
        let condition = bootstrap::condition(&schema, "Dangling", status, reason, &message);
        if let Err(error) = bootstrap::apply(server, &condition, "status", MANAGER).await {
            tracing::debug!(%error, schema = name(&schema), "cannot say whether a flow schema dangles");
        }
    }
    Ok(Again::No)
}
