//! How many pods each replica set is to have next.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::{DESIRED, MAX_REPLICAS, Sets, replicas};

/// A replica set and the number of pods it is to have.
type Sizes = Vec<(Arc<ReplicaSet>, i32)>;

fn desired(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// A number or a percentage of `total`.
fn resolve(value: Option<&IntOrString>, total: i32, round_up: bool) -> i32 {
    match value {
        None => resolve(Some(&IntOrString::String("25%".to_owned())), total, round_up),
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(text)) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            let product = percent * i64::from(total);
            let rounded = if round_up { (product + 99) / 100 } else { product / 100 };
            i32::try_from(rounded).unwrap_or(i32::MAX)
        }
    }
}

/// How many pods may be there beyond, and how many may be missing from, what is wanted.
fn limits(deployment: &Deployment) -> (i32, i32) {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate") {
        return (0, 0);
    }
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let total = desired(deployment);
    let surge = resolve(rolling.and_then(|rolling| rolling.max_surge.as_ref()), total, true);
    let mut unavailable = resolve(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), total, false);
    if surge == 0 && unavailable == 0 {
        // Validation does not allow both to be zero; rounding may still bring it about.
        unavailable = 1;
    }
    (surge, unavailable.min(total))
}

/// The annotations by which a later change of size is spread in proportion.
pub fn size_annotations(deployment: &Deployment) -> BTreeMap<String, String> {
    let wanted = desired(deployment);
    let most = wanted + limits(deployment).0;
    BTreeMap::from([(DESIRED.to_owned(), wanted.to_string()), (MAX_REPLICAS.to_owned(), most.to_string())])
}

/// The size of a new replica set when it is made.
pub fn first_size(deployment: &Deployment, sets: &Sets) -> i32 {
    let wanted = desired(deployment);
    let there: i32 = sets.old.iter().map(|set| replicas(set)).sum();
    let recreate = deployment.spec.as_ref().and_then(|it| it.strategy.as_ref()?.type_.as_deref()) == Some("Recreate");
    if recreate {
        return if old_pods(sets) == 0 { wanted } else { 0 };
    }
    wanted.min((wanted + limits(deployment).0 - there).max(0))
}

fn old_pods(sets: &Sets) -> i32 {
    sets.old.iter().map(|set| replicas(set).max(set.status.as_ref().map_or(0, |status| status.replicas))).sum()
}

fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

/// The next step of a rollout: what to scale now. Empty when there is nothing to do but wait.
pub fn plan(deployment: &Deployment, sets: &Sets, recreate: bool) -> Sizes {
    let Some(new) = &sets.new else { return Vec::new() };
    let wanted = desired(deployment);
    if recreate {
        let down: Sizes = sets.old.iter().filter(|set| replicas(set) > 0).map(|set| (set.clone(), 0)).collect();
        return match old_pods(sets) {
            0 => vec![(new.clone(), wanted)],
            _ => down,
        };
    }
    let (surge, unavailable) = limits(deployment);
    let old_total: i32 = sets.old.iter().map(|set| replicas(set)).sum();
    let have = replicas(new);
    if old_total == 0 || have > wanted {
        return vec![(new.clone(), wanted)];
    }
    let mut sizes = Vec::new();
    let room = wanted + surge - old_total - have;
    let grown = have + room.clamp(0, (wanted - have).max(0));
    sizes.push((new.clone(), grown));
    // What may go without fewer than `wanted - unavailable` being available. Pods of the new set that are not available
    // yet count as missing.
    let new_missing = (have - available(new)).max(0);
    let mut removable = (old_total + have - (wanted - unavailable) - new_missing).max(0);
    let mut remaining: Vec<(Arc<ReplicaSet>, i32)> = sets.old.iter().map(|set| (set.clone(), replicas(set))).collect();
    // Pods that serve nobody go first.
    for (set, count) in &mut remaining {
        let unhealthy = (*count - available(set)).clamp(0, removable);
        *count -= unhealthy;
        removable -= unhealthy;
    }
    let available_total: i32 = sets.all().map(|set| available(set)).sum();
    let mut spare = (available_total - (wanted - unavailable)).max(0).min(removable);
    for (_, count) in &mut remaining {
        let healthy = (*count).min(spare);
        *count -= healthy;
        spare -= healthy;
    }
    sizes.extend(remaining.into_iter().filter(|(set, count)| replicas(set) != *count));
    sizes
}

/// A change of size while a rollout is paused is spread over the replica sets in proportion to their sizes.
pub fn proportional(deployment: &Deployment, sets: &Sets) -> Sizes {
    let wanted = desired(deployment);
    let active: Vec<_> = sets.all().filter(|set| replicas(set) > 0).cloned().collect();
    match active.as_slice() {
        [] => sets.all().last().map(|set| vec![(set.clone(), wanted)]).unwrap_or_default(),
        [only] => vec![(only.clone(), wanted)],
        several => {
            let changed = several.iter().any(|set| set.annotations().get(DESIRED) != Some(&wanted.to_string()));
            if !changed {
                return Vec::new();
            }
            let have: i32 = several.iter().map(|set| replicas(set)).sum();
            let target = if wanted == 0 { 0 } else { wanted + limits(deployment).0 };
            let mut sizes: Sizes = several
                .iter()
                .map(|set| {
                    let share = i64::from(replicas(set)) * i64::from(target) / i64::from(have.max(1));
                    (set.clone(), i32::try_from(share).unwrap_or(0))
                })
                .collect();
            let given: i32 = sizes.iter().map(|(_, count)| count).sum();
            if let Some((_, largest)) = sizes.iter_mut().max_by_key(|(_, count)| *count) {
                *largest += target - given;
            }
            sizes
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    fn set(name: &str, replicas: i32, available: i32) -> Arc<ReplicaSet> {
        from_value(json!({"metadata": {"name": name}, "spec": {"replicas": replicas, "selector": {}},
            "status": {"replicas": replicas, "availableReplicas": available}}))
        .map(Arc::new)
        .unwrap()
    }

    fn deployment(replicas: i32, strategy: serde_json::Value) -> Deployment {
        from_value(json!({"metadata": {"name": "d"},
            "spec": {"replicas": replicas, "selector": {}, "template": {}, "strategy": strategy}}))
        .unwrap()
    }

    fn sizes(plan: Sizes) -> Vec<(String, i32)> {
        plan.into_iter().map(|(set, count)| (set.name_any(), count)).collect()
    }

    #[test]
    fn a_rollout_never_has_too_many_or_too_few() {
        let wanted = 10;
        let deployment = deployment(wanted, json!({"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}));
        let (mut new, mut old) = ((0, 0), (10, 10));
        for _ in 0..50 {
            let sets = Sets { new: Some(set("new", new.0, new.1)), old: vec![set("old", old.0, old.1)] };
            for (name, count) in sizes(plan(&deployment, &sets, false)) {
                let target = if name == "new" { &mut new } else { &mut old };
                target.0 = count;
                target.1 = target.1.min(count);
            }
            assert!(new.0 + old.0 <= 13, "{new:?} {old:?}");
            assert!(new.1 + old.1 >= 8, "{new:?} {old:?}");
            // One pod at a time becomes available.
            new.1 = (new.1 + 1).min(new.0);
        }
        assert_eq!((new.0, old.0), (10, 0));
    }

    #[test]
    fn recreate_waits_until_the_old_pods_are_gone() {
        let deployment = deployment(3, json!({"type": "Recreate"}));
        let sets = Sets { new: Some(set("new", 0, 0)), old: vec![set("old", 3, 3)] };
        assert_eq!(sizes(plan(&deployment, &sets, true)), [("old".to_owned(), 0)]);
        let sets = Sets { new: Some(set("new", 0, 0)), old: vec![set("old", 0, 0)] };
        assert_eq!(sizes(plan(&deployment, &sets, true)), [("new".to_owned(), 3)]);
    }

    #[test]
    fn unhealthy_old_pods_go_first() {
        let deployment = deployment(2, json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}));
        let sets = Sets { new: Some(set("new", 1, 0)), old: vec![set("broken", 1, 0), set("works", 1, 1)] };
        let plan = sizes(plan(&deployment, &sets, false));
        assert!(!plan.contains(&("works".to_owned(), 0)), "{plan:?}");
    }

    #[test]
    fn percentages_round_up_for_surge_and_down_for_unavailable() {
        assert_eq!(limits(&deployment(3, json!({}))), (1, 0));
        assert_eq!(limits(&deployment(4, json!({}))), (1, 1));
    }
}
