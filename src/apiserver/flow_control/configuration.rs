//! Flow schemas and priority levels as they are stored, made into those that work.

use std::sync::{Arc, Weak};
use std::time::Instant;

use futures::FutureExt;
use k3s_api::object;
use serde_json::{Value, json};

use super::borrowing::{self, Bounds};
use super::level::{self, Kind, Level};
use super::metrics::Counts;
use super::schema::{self, Schema};
use super::{FlowControl, dangling};
use crate::follow::{Again, follow};
use crate::registry::{self, known};
use crate::{ApiServer, Inner};

/// Shares of levels that don't say how many.
const SHARES: u32 = 30;

/// Keeps to what is stored, and shares seats out, as long as the server lives.
pub(crate) async fn run(server: Weak<Inner>) {
    let stop = server.upgrade().map(|inner| inner.stop.clone());
    let shares = async {
        loop {
            tokio::time::sleep(borrowing::PERIOD).await;
            let Some(inner) = server.upgrade() else { return };
            inner.flow_control.share_out(Instant::now());
        }
    };
    let shares = async {
        match stop {
            Some(stop) => stop.run_until_cancelled(shares).await,
            None => None,
        }
    };
    let resources = [known::flow_schemas(), known::priority_level_configurations()];
    let follow = follow(server.clone(), &resources, |server| reconcile(server).boxed());
    tokio::join!(shares, follow);
}

/// Takes what is stored.
pub(crate) async fn reconcile(server: &ApiServer) -> Result<Again, registry::Error> {
    let registry = server.registry();
    let mut stored = [known::flow_schemas(), known::priority_level_configurations()].map(|row| (row, Vec::new()));
    for (row, objects) in &mut stored {
        for entry in registry.list(row, "").await?.entries {
            objects.push((*entry.value()?).clone());
        }
    }
    let [(_, schemas), (_, levels)] = &stored;
    server.flow_control().configure(schemas, levels);
    dangling::reconcile(server).await
}

/// What is there whatever is stored.
fn mandatory() -> [(Value, Value); 2] {
    let everyone = ["system:unauthenticated", "system:authenticated"];
    let rules = |groups: &[&str]| {
        let subjects: Vec<Value> =
            groups.iter().map(|name| json!({"kind": "Group", "group": {"name": name}})).collect();
        json!([{"subjects": subjects, "nonResourceRules": [{"nonResourceURLs": ["*"], "verbs": ["*"]}],
            "resourceRules": [{"apiGroups": ["*"], "clusterScope": true, "namespaces": ["*"], "resources": ["*"],
                "verbs": ["*"]}]}])
    };
    let named = |name: &str, spec: Value| json!({"metadata": {"name": name, "uid": ""}, "spec": spec});
    let schema = |name: &str, precedence: u32, groups: &[&str]| {
        let level = json!({"name": name});
        let spec =
            json!({"matchingPrecedence": precedence, "priorityLevelConfiguration": level, "rules": rules(groups)});
        named(name, spec)
    };
    let exempt = json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}});
    let limited = json!({"nominalConcurrencyShares": 5, "limitResponse": {"type": "Reject"}});
    let catch_all = json!({"type": "Limited", "limited": limited});
    [
        (schema("exempt", 1, &["system:masters"]), named("exempt", exempt)),
        (schema("catch-all", 10000, &everyone), named("catch-all", catch_all)),
    ]
}

fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

impl FlowControl {
    /// Takes these schemas and levels, besides the mandatory ones.
    pub(super) fn configure(&self, schemas: &[Value], levels: &[Value]) {
        let has = |objects: &[Value], name: &str| objects.iter().any(|object| object::name(object) == name);
        let (mut schemas, mut levels) = (schemas.to_vec(), levels.to_vec());
        for (schema, level) in mandatory() {
            if !has(&schemas, object::name(&schema)) {
                schemas.push(schema);
            }
            if !has(&levels, object::name(&level)) {
                levels.push(level);
            }
        }
        self.configure_levels(&levels);
        self.configure_schemas(&schemas);
    }

    fn configure_levels(&self, objects: &[Value]) {
        let mut specs = Vec::new();
        for object in objects {
            match serde_json::from_value::<level::Spec>(object["spec"].clone()) {
                Ok(spec) => specs.push((object, spec)),
                Err(error) => tracing::warn!(%error, level = object::name(object), "priority level is not usable"),
            }
        }
        let default = |kind| if kind == Kind::Exempt { 0 } else { SHARES };
        let shares = |spec: &level::Spec| spec.shares().nominal_concurrency_shares.unwrap_or(default(spec.kind));
        let all = specs.iter().map(|(_, spec)| shares(spec)).sum();
        let mut levels = self.levels.lock();
        levels.retain(|name, _| specs.iter().any(|(object, _)| object::name(object) == name));
        for (object, spec) in &specs {
            let name = object::name(object);
            let level = levels.entry(name.to_owned()).or_insert_with(|| Arc::new(Level::new(name)));
            let bounds = Bounds::new(&spec.shares(), default(spec.kind), all, self.seats);
            level.configure(uid(object), spec, bounds);
        }
    }

    fn configure_schemas(&self, objects: &[Value]) {
        let levels = self.levels.lock();
        let known = Arc::clone(&self.schemas.read());
        let mut schemas: Vec<Arc<Schema>> = Vec::new();
        for object in objects {
            let name = object::name(object).to_owned();
            let spec: schema::Spec = match serde_json::from_value(object["spec"].clone()) {
                Ok(spec) => spec,
                Err(error) => {
                    tracing::warn!(%error, schema = name, "flow schema is not usable");
                    continue;
                }
            };
            // Its condition `Dangling` says so.
            let Some(level) = levels.get(&spec.priority_level_configuration.name) else { continue };
            let counts = known.iter().find(|old| old.name == name && old.level.name == level.name);
            let counts =
                counts.map_or_else(|| Arc::new(Counts::new(&name, &level.name)), |old| Arc::clone(&old.counts));
            schemas.push(Arc::new(Schema {
                name,
                uid: uid(object).to_owned(),
                level: Arc::clone(level),
                counts,
                spec,
            }));
        }
        drop(levels);
        schemas.sort_by(|a, b| (a.spec.matching_precedence, &a.name).cmp(&(b.spec.matching_precedence, &b.name)));
        *self.schemas.write() = schemas.into();
    }

    /// Lends the seats that are not needed to the levels that need them.
    pub(super) fn share_out(&self, now: Instant) {
        let levels: Vec<Arc<Level>> =
            self.levels.lock().values().filter(|level| !level.figures().exempt).cloned().collect();
        let demands: Vec<borrowing::Level> = levels.iter().map(|level| level.demand(now)).collect();
        for (level, seats) in levels.iter().zip(borrowing::share_out(&demands, self.seats)) {
            level.set_limit(seats);
        }
    }
}
