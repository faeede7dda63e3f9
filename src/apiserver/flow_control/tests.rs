use std::future::Future;
use std::task::{Context, Poll, Waker};

use http::Method;
use serde_json::{Value, json};

use super::*;

fn objects() -> (Vec<Value>, Vec<Value>) {
    let lines = include_str!("../bootstrap/objects.jsonl").lines();
    let all: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| all.iter().filter(|object| object["kind"] == kind).cloned().collect();
    (of("FlowSchema"), of("PriorityLevelConfiguration"))
}

/// With the schemas and levels that every cluster begins with.
fn bootstrapped() -> FlowControl {
    let flow_control = FlowControl::new(600, Duration::from_secs(15));
    let (schemas, levels) = objects();
    flow_control.configure(&schemas, &levels);
    flow_control
}

fn info(method: Method, url: &str) -> RequestInfo {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    RequestInfo::new(&method, path, &Query::parse(query))
}

impl FlowControl {
    fn schema_of(&self, user: &UserInfo, method: Method, url: &str) -> String {
        let info = info(method, url);
        let schemas = Arc::clone(&self.schemas.read());
        schemas.iter().find(|schema| schema.matches(user, &info)).unwrap().name.clone()
    }

    fn level(&self, name: &str) -> Arc<Level> {
        Arc::clone(&self.levels.lock()[name])
    }
}

#[test]
fn everybody_has_the_schema_that_kubernetes_gives_them() {
    let flow_control = bootstrapped();
    let account = |name: &str| {
        let namespace = name.split(':').nth(2).unwrap();
        UserInfo::new(name, &["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}")])
    };
    let node = UserInfo::new("system:node:n", &["system:nodes"]);
    let manager = UserInfo::new("system:kube-controller-manager", &[]);
    let jane = UserInfo::new("jane", &[]);
    let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/l";
    let pods = "/api/v1/namespaces/default/pods";
    for (user, method, url, schema) in [
        (&UserInfo::new("admin", &["system:masters"]), Method::GET, pods, "exempt"),
        (&jane, Method::GET, "/healthz", "probes"),
        (&jane, Method::GET, "/metrics", "global-default"),
        (&jane, Method::GET, pods, "global-default"),
        (&manager, Method::PUT, lease, "system-leader-election"),
        (&manager, Method::GET, pods, "kube-controller-manager"),
        (&node, Method::PATCH, "/api/v1/nodes/n/status", "system-node-high"),
        (&node, Method::PUT, lease, "system-node-high"),
        (&node, Method::GET, pods, "system-nodes"),
        (&account("system:serviceaccount:kube-system:x"), Method::GET, pods, "kube-system-service-accounts"),
        (&account("system:serviceaccount:default:x"), Method::GET, pods, "service-accounts"),
        (&UserInfo { name: "nobody".to_owned(), ..UserInfo::default() }, Method::GET, pods, "catch-all"),
    ] {
        let schemas = Arc::clone(&flow_control.schemas.read());
        let found = schemas.iter().find(|schema| schema.matches(user, &info(method.clone(), url)));
        // Who is in no group at all matches nothing, and gets what is left.
        let found = found.map_or("catch-all", |schema| &schema.name);
        assert_eq!(found, schema, "{} {method} {url}", user.name);
    }
    assert_eq!(flow_control.schema_of(&jane, Method::GET, "/livez"), "probes");
}

#[test]
fn seats_are_shared_as_in_kubernetes() {
    let flow_control = bootstrapped();
    let seats = |level: &str| {
        let bounds = flow_control.level(level).figures().bounds;
        (bounds.nominal, bounds.min)
    };
    // 600 seats, 245 shares.
    for (level, expected) in [
        ("catch-all", (13, 13)),
        ("exempt", (0, 0)),
        ("global-default", (49, 24)),
        ("leader-election", (25, 25)),
        ("node-high", (98, 73)),
        ("system", (74, 50)),
        ("workload-high", (98, 49)),
        ("workload-low", (245, 24)),
    ] {
        assert_eq!(seats(level), expected, "{level}");
    }
}

fn level(spec: Value, seats: u32) -> Arc<Level> {
    let level = Arc::new(Level::new("l"));
    let spec = serde_json::from_value(spec).unwrap();
    level.configure("u", &spec, borrowing::Bounds { nominal: seats, min: seats, max: seats });
    level
}

fn queuing(queues: u32, hand: u32, length: u32) -> Value {
    json!({"type": "Limited", "limited": {"limitResponse": {"type": "Queue",
        "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": length}}}})
}

fn counts() -> Arc<metrics::Counts> {
    Arc::new(metrics::Counts::new("s", "l"))
}

fn poll(waiting: &mut level::Waiting) -> Option<Permit> {
    let granted = std::pin::pin!(waiting.granted());
    match granted.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(permit) => permit,
        Poll::Pending => None,
    }
}

fn run(entry: Entry) -> Permit {
    match entry {
        Entry::Run(permit) => permit,
        Entry::Wait(_) => panic!("it waits"),
        Entry::Full(reason) => panic!("it is refused: {reason:?}"),
    }
}

fn wait(entry: Entry) -> level::Waiting {
    match entry {
        Entry::Wait(waiting) => waiting,
        Entry::Run(_) => panic!("it runs"),
        Entry::Full(reason) => panic!("it is refused: {reason:?}"),
    }
}

#[test]
fn a_level_without_queues_refuses_what_has_no_seat() {
    let reject = json!({"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}});
    let (level, counts) = (level(reject, 2), counts());
    let _first = run(level.enter(1, 1, &counts));
    let second = run(level.enter(1, 1, &counts));
    assert!(matches!(level.enter(2, 1, &counts), Entry::Full(Reason::ConcurrencyLimit)));
    drop(second);
    run(level.enter(2, 1, &counts));
}

#[test]
fn an_exempt_level_never_refuses() {
    let (level, counts) = (level(json!({"type": "Exempt"}), 0), counts());
    let permits: Vec<Permit> = (0..1000).map(|_| run(level.enter(1, 1, &counts))).collect();
    assert_eq!(level.figures().in_use, 1000);
    drop(permits);
    assert_eq!(level.figures().in_use, 0);
}

#[test]
fn a_full_queue_refuses_and_who_goes_away_leaves_a_place() {
    let (level, counts) = (level(queuing(1, 1, 2), 1), counts());
    let running = run(level.enter(1, 1, &counts));
    let mut first = wait(level.enter(1, 1, &counts));
    let second = wait(level.enter(1, 1, &counts));
    assert!(matches!(level.enter(1, 1, &counts), Entry::Full(Reason::QueueFull)));
    drop(second);
    let mut third = wait(level.enter(1, 1, &counts));
    assert!(poll(&mut first).is_none());
    drop(running);
    let running = poll(&mut first).expect("its turn");
    assert!(poll(&mut third).is_none());
    drop(running);
    drop(poll(&mut third).expect("its turn"));
    assert_eq!((level.figures().in_use, level.figures().waiting), (0, 0));
}

#[test]
fn seats_granted_to_who_has_gone_are_not_lost() {
    let (level, counts) = (level(queuing(1, 1, 9), 1), counts());
    let running = run(level.enter(1, 1, &counts));
    let gone = wait(level.enter(1, 1, &counts));
    let mut next = wait(level.enter(1, 1, &counts));
    drop(running);
    drop(gone);
    assert!(poll(&mut next).is_some());
}

#[test]
fn a_greedy_flow_does_not_delay_a_modest_one() {
    let (level, counts) = (level(queuing(64, 6, 50), 4), counts());
    let greedy: Vec<Entry> = (0..1000).map(|_| level.enter(7, 1, &counts)).collect();
    let mut running = Vec::new();
    let mut waiting = Vec::new();
    let mut refused = 0;
    for entry in greedy {
        match entry {
            Entry::Run(permit) => running.push(permit),
            Entry::Wait(place) => waiting.push(place),
            Entry::Full(_) => refused += 1,
        }
    }
    assert_eq!((running.len(), waiting.len(), refused), (4, 300, 696));
    // Another flow whose hand is not the same is among the next few.
    let mut modest = wait(level.enter(0x1234_5678_9abc_def0, 1, &counts));
    for turn in 0..12 {
        if poll(&mut modest).is_some() {
            return;
        }
        assert!(turn < 11, "the modest flow waits for the greedy one");
        running.remove(0);
        waiting.retain_mut(|place| match poll(place) {
            Some(permit) => {
                running.push(permit);
                false
            }
            None => true,
        });
    }
}

#[test]
fn a_wide_request_waits_until_it_fits_and_is_not_overtaken() {
    let (level, counts) = (level(queuing(1, 1, 9), 20), counts());
    // 15 in a hundred of the seats.
    let wide = run(level.enter(1, 10, &counts));
    assert_eq!(level.figures().in_use, 3);
    let others: Vec<Permit> = (0..16).map(|_| run(level.enter(1, 1, &counts))).collect();
    let mut next_wide = wait(level.enter(1, 10, &counts));
    let mut narrow = wait(level.enter(1, 1, &counts));
    assert!(poll(&mut narrow).is_none());
    drop(wide);
    let next_wide = poll(&mut next_wide).expect("its turn");
    assert!(poll(&mut narrow).is_some());
    drop((next_wide, others));
    assert_eq!(level.figures().in_use, 0);
}

#[test]
fn fewer_queues_lose_nobody_and_none_at_all_end_the_wait() {
    let (level, counts) = (level(queuing(64, 6, 50), 1), counts());
    let running = run(level.enter(1, 1, &counts));
    let mut waiting: Vec<_> = (2..22).map(|flow| wait(level.enter(flow << 40, 1, &counts))).collect();
    let bounds = level.figures().bounds;
    level.configure("u", &serde_json::from_value(queuing(2, 1, 50)).unwrap(), bounds);
    assert_eq!(level.figures().waiting, 20);
    drop(running);
    let running: Vec<Permit> = waiting.iter_mut().filter_map(poll).collect();
    assert_eq!((running.len(), level.figures().waiting), (1, 19));
    level.configure("u", &serde_json::from_value(json!({"type": "Exempt"})).unwrap(), bounds);
    assert_eq!(level.figures().waiting, 0);
}

#[test]
fn idle_levels_lend_their_seats_to_busy_ones() {
    let flow_control = bootstrapped();
    let (busy, counts) = (flow_control.level("workload-low"), counts());
    let entries: Vec<Entry> = (0..600).map(|n: u64| busy.enter(n << 32, 1, &counts)).collect();
    let running = |entries: &[Entry]| entries.iter().filter(|entry| matches!(entry, Entry::Run(_))).count();
    assert_eq!(running(&entries), 245);
    // Demand is a mean over time: the moments in which the requests came hardly count.
    flow_control.share_out(Instant::now() + Duration::from_secs(60));
    let figures = busy.figures();
    // The others keep 234 of the 600 in any case.
    assert_eq!((figures.limit, figures.in_use), (366, 366));
    // Who needs its own again has it back.
    let high = flow_control.level("workload-high");
    let _others: Vec<Entry> = (0..98).map(|n: u64| high.enter(n << 32, 1, &counts)).collect();
    flow_control.share_out(Instant::now() + Duration::from_secs(3600));
    assert_eq!(high.figures().limit, 98);
}

#[test]
fn an_uncontended_request_costs_little() {
    let flow_control = bootstrapped();
    let (jane, info) = (UserInfo::new("jane", &[]), info(Method::GET, "/api/v1/namespaces/a/configmaps/m"));
    let rounds = 2000;
    let pass = || {
        let schemas = Arc::clone(&flow_control.schemas.read());
        let schema = schemas.iter().find(|schema| schema.matches(&jane, &info)).unwrap();
        let flow = flow_control.flows.hash_one((&*schema.name, schema.distinguisher(&jane, &info)));
        drop(run(schema.level.enter(flow, 1, &schema.counts)));
    };
    let best = (0..20)
        .map(|_| {
            let since = Instant::now();
            (0..rounds).for_each(|_| pass());
            since.elapsed() / rounds
        })
        .min()
        .unwrap();
    println!("an uncontended request: {best:?}");
    // Without optimization it is some twenty times slower than the product.
    assert!(best < Duration::from_micros(60), "{best:?}");
}
