use k8s_openapi::api::core::v1::{Pod, Taint, Toleration};

use crate::framework::{Filter, MAX_SCORE, Score};
use crate::node::{NodeInfo, View};

/// Keeps pods off nodes whose taints they do not tolerate, and prefers nodes with fewer PreferNoSchedule taints.
pub struct TaintToleration;

/// Whether a pod tolerates a taint.
pub fn tolerates(pod: &Pod, taint: &Taint) -> bool {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    tolerations.iter().any(|toleration| covers(toleration, taint))
}

fn covers(toleration: &Toleration, taint: &Taint) -> bool {
    let key = toleration.key.as_deref().unwrap_or_default();
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let value = |text: &Option<String>| text.clone().unwrap_or_default();
    let number = |text: &Option<String>| text.as_ref().and_then(|text| text.parse::<i64>().ok());
    let matching = match toleration.operator.as_deref().unwrap_or("Equal") {
        "Exists" => true,
        "Equal" | "" => value(&toleration.value) == value(&taint.value),
        "Gt" => number(&taint.value).zip(number(&toleration.value)).is_some_and(|(taint, limit)| taint > limit),
        "Lt" => number(&taint.value).zip(number(&toleration.value)).is_some_and(|(taint, limit)| taint < limit),
        _ => false,
    };
    matching && (key.is_empty() || key == taint.key) && (effect.is_empty() || effect == taint.effect)
}

fn taints(node: &NodeInfo) -> &[Taint] {
    node.node.as_ref().and_then(|node| node.spec.as_ref()?.taints.as_deref()).unwrap_or_default()
}

impl Filter for TaintToleration {
    fn filter(&self, pod: &Pod, node: &NodeInfo, _: &View) -> Result<(), String> {
        let hard = |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
        match taints(node).iter().filter(hard).find(|taint| !tolerates(pod, taint)) {
            None => Ok(()),
            Some(taint) => {
                let value = taint.value.as_deref().unwrap_or_default();
                Err(format!("node(s) had untolerated taint {{{}: {value}}}", taint.key))
            }
        }
    }
}

impl Score for TaintToleration {
    fn score(&self, pod: &Pod, node: &NodeInfo) -> i64 {
        let soft =
            taints(node).iter().filter(|taint| taint.effect == "PreferNoSchedule" && !tolerates(pod, taint)).count();
        MAX_SCORE / (1 + i64::try_from(soft).unwrap_or(i64::MAX - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerations_cover_by_key_value_and_effect() {
        let taint = |key: &str, value: &str, effect: &str| Taint {
            key: key.into(),
            value: Some(value.into()),
            effect: effect.into(),
            ..Taint::default()
        };
        let toleration = |key: &str, operator: &str, value: &str, effect: &str| Toleration {
            key: Some(key.into()),
            operator: Some(operator.into()),
            value: Some(value.into()),
            effect: Some(effect.into()),
            ..Toleration::default()
        };
        let gpu = taint("gpu", "yes", "NoSchedule");
        assert!(covers(&toleration("gpu", "Equal", "yes", "NoSchedule"), &gpu));
        assert!(covers(&toleration("gpu", "Exists", "", ""), &gpu));
        assert!(covers(&toleration("", "Exists", "", ""), &gpu));
        assert!(!covers(&toleration("gpu", "Equal", "no", "NoSchedule"), &gpu));
        assert!(!covers(&toleration("gpu", "Exists", "", "NoExecute"), &gpu));
        assert!(!covers(&toleration("other", "Exists", "", ""), &gpu));
    }
}
