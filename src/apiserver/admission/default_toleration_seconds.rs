//! Pods stay for five minutes on a node that is not ready or unreachable, unless they say otherwise.

use async_trait::async_trait;
use k3s_api::object::section_mut;
use k3s_api::status::Status;
use serde_json::{Value, json};

use super::{Attributes, Operation, Plugin};

pub struct DefaultTolerationSeconds;

const KEYS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
const SECONDS: u64 = 300;

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    async fn admit(&self, at: &Attributes<'_>, pod: &mut Value, _: Option<&Value>) -> Result<(), Status> {
        if at.is("", "pods") && matches!(at.operation, Operation::Create | Operation::Update) {
            add_tolerations(pod);
        }
        Ok(())
    }
}

fn add_tolerations(pod: &mut Value) {
    let tolerations = section_mut(pod, "spec").entry("tolerations").or_insert(Value::Null);
    if !tolerations.is_array() {
        *tolerations = Value::Array(Vec::new());
    }
    let Some(tolerations) = tolerations.as_array_mut() else { return };
    for key in KEYS {
        let field = |toleration: &Value, name: &str| {
            toleration.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let tolerated = tolerations.iter().any(|toleration| {
            let (tolerated, effect) = (field(toleration, "key"), field(toleration, "effect"));
            (tolerated.is_empty() || tolerated == key) && (effect.is_empty() || effect == "NoExecute")
        });
        if !tolerated {
            tolerations
                .push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tolerated_already_is_left_alone() {
        let mut pod = json!({"spec": {"tolerations": [{"key": KEYS[0], "operator": "Exists"}]}});
        add_tolerations(&mut pod);
        let keys: Vec<_> = pod["spec"]["tolerations"].as_array().expect("a list").iter().map(|t| &t["key"]).collect();
        assert_eq!(keys, KEYS);
        add_tolerations(&mut pod);
        assert_eq!(pod["spec"]["tolerations"].as_array().map(Vec::len), Some(2));
    }
}
