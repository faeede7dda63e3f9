//! API priority and fairness: which requests wait for which
//! (<https://kubernetes.io/docs/concepts/cluster-administration/flow-control/>).
//!
//! A request is classified by the flow schemas ([`schema`]): its schema names a priority level and tells flows apart.
//! A level ([`level`]) lets so many requests run at a time as it has seats; more wait in its queues, where each flow has
//! its hand of queues ([`shuffle`]) and queues take turns ([`queues`]), or are refused with 429. Levels lend each other
//! seats they don't need ([`borrowing`]).
//!
//! What runs long (exec, logs, proxies) has no seat. A watch has one until it has begun.

mod borrowing;
mod configuration;
mod dangling;
mod level;
pub(crate) mod metrics;
mod queues;
mod schema;
mod shuffle;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Response};
use k3s_api::authentication::UserInfo;
use k3s_api::status::Status;
use parking_lot::{Mutex, RwLock};
use tokio::time::timeout;

pub(crate) use configuration::{reconcile, run};
use level::{Entry, Level, Permit};
use metrics::Reason;
use schema::Schema;

use crate::registry::Registry;
use crate::request::{Query, RequestInfo};
use crate::{Body, response};

const SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// A list of that many objects takes one seat more.
const OBJECTS_PER_SEAT: usize = 100;
/// No request takes more seats.
const MAX_SEATS: u32 = 10;

/// Lets requests pass, wait, or go away.
pub(crate) struct FlowControl {
    /// Seats of all levels together: `--max-requests-inflight` and `--max-mutating-requests-inflight`.
    seats: u32,
    /// How long a request may wait in a queue.
    patience: Duration,
    schemas: RwLock<Arc<[Arc<Schema>]>>,
    levels: Mutex<BTreeMap<String, Arc<Level>>>,
    flows: RandomState,
}

/// A request that may run. Its seats are free again when this is dropped.
pub(crate) struct Ticket {
    schema: Option<Arc<Schema>>,
    _permit: Option<Permit>,
}

impl Ticket {
    /// Says in the answer which schema and level the request belonged to.
    pub fn label(&self, response: &mut Response<Body>) {
        if let Some(schema) = &self.schema {
            label(schema, response.headers_mut());
        }
    }
}

fn label(schema: &Schema, headers: &mut HeaderMap) {
    let level = schema.level.uid();
    for (name, uid) in [(SCHEMA_UID, schema.uid.as_str()), (LEVEL_UID, &level)] {
        if let Ok(value) = HeaderValue::from_str(uid)
            && !value.is_empty()
        {
            headers.insert(name, value);
        }
    }
}

impl FlowControl {
    /// With so many seats, of which a request waits for at most `patience`. Until [`run`] has read the schemas and levels
    /// there are only the two mandatory ones.
    pub fn new(seats: u32, patience: Duration) -> Self {
        let flow_control = Self {
            seats: seats.max(1),
            patience,
            schemas: RwLock::new(Arc::new([])),
            levels: Mutex::default(),
            flows: RandomState::new(),
        };
        flow_control.configure(&[], &[]);
        flow_control
    }

    /// Waits until the request may run.
    ///
    /// # Errors
    /// The answer that refuses it: 429.
    pub async fn admit(
        &self,
        registry: &Registry,
        user: &UserInfo,
        info: &RequestInfo,
        query: &Query,
    ) -> Result<Ticket, Response<Body>> {
        if info.is_long_running() && info.verb != "watch" {
            return Ok(Ticket { schema: None, _permit: None });
        }
        let schemas = Arc::clone(&self.schemas.read());
        // The last one takes everything; see `configure`.
        let Some(schema) = schemas.iter().find(|schema| schema.matches(user, info)).or_else(|| schemas.last()) else {
            return Ok(Ticket { schema: None, _permit: None });
        };
        let schema = Arc::clone(schema);
        drop(schemas);
        let flow = self.flows.hash_one((&*schema.name, schema.distinguisher(user, info)));
        let permit = match schema.level.enter(flow, seats(registry, info, query), &schema.counts) {
            Entry::Run(permit) => permit,
            Entry::Full(reason) => return Err(refuse(&schema, reason)),
            Entry::Wait(mut waiting) => {
                let since = Instant::now();
                match timeout(self.patience, waiting.granted()).await {
                    Ok(Some(permit)) => {
                        schema.counts.waited(since.elapsed());
                        permit
                    }
                    Ok(None) | Err(_) => return Err(refuse(&schema, Reason::TimeOut)),
                }
            }
        };
        Ok(Ticket { schema: Some(schema), _permit: Some(permit) })
    }
}

/// 429, as Kubernetes words it.
fn refuse(schema: &Schema, reason: Reason) -> Response<Body> {
    schema.counts.refused(reason);
    let mut response = response::status(&Status::too_many_requests("Too many requests, please try again later.", 1));
    label(schema, response.headers_mut());
    response
}

/// How many seats a request takes: lists, by the number of objects that are walked over; everything else takes one.
fn seats(registry: &Registry, info: &RequestInfo, query: &Query) -> u32 {
    if info.verb != "list" || !info.is_resource {
        return 1;
    }
    let Some(row) = registry.find(&info.group, &info.version, &info.resource) else { return 1 };
    let mut objects = registry.known_objects(&row);
    let selected = ["labelSelector", "fieldSelector"].iter().any(|name| query.get(name).is_some());
    if let Some(limit) = query.get("limit").and_then(|limit| limit.parse().ok()).filter(|limit| *limit > 0)
        && !selected
    {
        objects = objects.min(limit);
    }
    u32::try_from(objects.div_ceil(OBJECTS_PER_SEAT)).unwrap_or(MAX_SEATS).clamp(1, MAX_SEATS)
}

#[cfg(test)]
mod tests;
