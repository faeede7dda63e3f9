//! A new node takes no pods before it has said that it is ready.

use async_trait::async_trait;
use k3s_api::object::section_mut;
use k3s_api::status::Status;
use serde_json::{Value, json};

use super::{Attributes, Operation, Plugin};

pub struct TaintNodesByCondition;

const NOT_READY: &str = "node.kubernetes.io/not-ready";

#[async_trait]
impl Plugin for TaintNodesByCondition {
    async fn admit(&self, at: &Attributes<'_>, node: &mut Value, _: Option<&Value>) -> Result<(), Status> {
        if !at.is("", "nodes") || at.operation != Operation::Create {
            return Ok(());
        }
        let taints = section_mut(node, "spec").entry("taints").or_insert(Value::Null);
        if !taints.is_array() {
            *taints = Value::Array(Vec::new());
        }
        if let Some(taints) = taints.as_array_mut()
            && !taints.iter().any(|taint| taint["key"] == NOT_READY && taint["effect"] == "NoSchedule")
        {
            taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
        }
        Ok(())
    }
}
