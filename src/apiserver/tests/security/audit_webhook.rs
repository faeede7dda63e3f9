//! `--audit-webhook-*`.

use std::time::{Duration, Instant};

use http::StatusCode;
use k3s_apiserver::audit::webhook::Options;
use k3s_apiserver::audit::{Config as Audit, Mode, Truncate};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::outside::{Mood, Outside};

const MAPS: &str = "/api/v1/namespaces/a/configmaps";

const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- {level: RequestResponse, omitStages: [RequestReceived], resources: [{group: '', resources: [configmaps]}]}
- {level: None}
";

async fn cluster(outside: &Outside, change: impl FnOnce(&mut Options)) -> Cluster {
    let cluster = Cluster::start(|config, folder| {
        std::fs::write(folder.join("policy.yaml"), POLICY).unwrap();
        let mut options = Options {
            max_wait: Duration::from_millis(20),
            initial_backoff: Duration::from_millis(200),
            ..Options::new(outside.kubeconfig(folder))
        };
        change(&mut options);
        let policy_file = folder.join("policy.yaml");
        config.audit = Some(Audit { policy_file, log: None, webhook: Some(options) });
    })
    .await;
    let (code, _) = cluster.post("admin", "/api/v1/namespaces", json!({"metadata": {"name": "a"}})).await;
    assert_eq!(code, StatusCode::CREATED);
    cluster
}

fn taken(_: &Value) -> Value {
    json!({})
}

/// The events of what has come.
fn events(lists: &[Value]) -> Vec<Value> {
    for list in lists {
        assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("EventList"), &json!("audit.k8s.io/v1")));
    }
    lists.iter().flat_map(|list| list["items"].as_array().unwrap().clone()).collect()
}

/// Waits until so many events have come, and returns them.
async fn arrived(outside: &Outside, wanted: usize) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut all = Vec::new();
    while all.len() < wanted {
        assert!(Instant::now() < deadline, "only {} of {wanted} events have come", all.len());
        tokio::time::sleep(Duration::from_millis(5)).await;
        all.extend(events(&outside.seen()));
    }
    all
}

async fn lost(cluster: &Cluster) -> u64 {
    let (_, metrics) = cluster.get("admin", "/metrics").await;
    let metrics = metrics.as_str().unwrap().to_owned();
    let line = metrics.lines().find_map(|line| line.strip_prefix("apiserver_audit_error_total{plugin=\"webhook\"} "));
    line.expect("a count").parse().unwrap()
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["objectRef"]["name"].as_str().unwrap_or_default()).collect()
}

async fn create(cluster: &Cluster, name: &str) {
    let (code, answer) = cluster.post("admin", MAPS, json!({"metadata": {"name": name}})).await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
}

#[tokio::test]
async fn events_are_delivered_together() {
    let outside = Outside::start(taken);
    let cluster = cluster(&outside, |options| options.max_wait = Duration::from_secs(600)).await;
    for name in ["x", "y", "z"] {
        create(&cluster, name).await;
    }
    assert_eq!(outside.seen(), Vec::<Value>::new());
    // What waits is delivered when the server ends.
    cluster.server.close_audit().await;
    let lists = outside.seen();
    assert_eq!(lists.len(), 1, "{lists:?}");
    let events = events(&lists);
    assert_eq!(names(&events), ["x", "y", "z"]);
    assert_eq!((&events[0]["verb"], &events[0]["stage"]), (&json!("create"), &json!("ResponseComplete")));
    assert_eq!(events[0]["responseObject"]["metadata"]["name"], "x");
    assert_eq!(lost(&cluster).await, 0);
}

#[tokio::test]
async fn a_batch_that_is_full_does_not_wait() {
    let outside = Outside::start(taken);
    let cluster = cluster(&outside, |options| {
        (options.max_batch, options.max_wait) = (2, Duration::from_secs(600));
    })
    .await;
    for name in ["x", "y", "z"] {
        create(&cluster, name).await;
    }
    assert_eq!(names(&arrived(&outside, 2).await), ["x", "y"]);
    assert_eq!(outside.seen(), Vec::<Value>::new());
}

#[tokio::test]
async fn a_server_that_comes_back_gets_what_it_has_missed() {
    let outside = Outside::absent(taken);
    let cluster = cluster(&outside, |_| ()).await;
    create(&cluster, "absent").await;
    outside.arrive();
    assert_eq!(names(&arrived(&outside, 1).await), ["absent"]);
    for (mood, name) in [(Mood::Gone, "gone"), (Mood::Failing, "failing")] {
        outside.be(mood);
        let tries = outside.tries();
        create(&cluster, name).await;
        while mood == Mood::Failing && outside.tries() == tries {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        outside.be(Mood::Answering);
        assert_eq!(names(&arrived(&outside, 1).await), [name]);
    }
    // What it says to what it takes is of no interest.
    outside.be(Mood::Garbage);
    create(&cluster, "garbage").await;
    assert_eq!(names(&arrived(&outside, 1).await), ["garbage"]);
    create(&cluster, "last").await;
    assert_eq!(names(&arrived(&outside, 1).await), ["last"]);
    assert_eq!(lost(&cluster).await, 0);
}

#[tokio::test]
async fn a_server_that_stays_away_costs_events_and_not_requests() {
    let outside = Outside::absent(taken);
    let cluster = cluster(&outside, |options| options.initial_backoff = Duration::from_millis(1)).await;
    create(&cluster, "x").await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while lost(&cluster).await < 1 {
        assert!(Instant::now() < deadline, "the event is tried for ever");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    outside.arrive();
    create(&cluster, "y").await;
    assert_eq!(names(&arrived(&outside, 1).await), ["y"]);
}

#[tokio::test]
async fn a_server_that_hangs_holds_nobody_up_and_a_buffer_that_is_full_costs_events() {
    let outside = Outside::start(taken);
    outside.be(Mood::Hanging);
    let cluster = cluster(&outside, |options| {
        (options.max_batch, options.buffer) = (1, 2);
        options.throttle = None;
    })
    .await;
    let begin = Instant::now();
    // Sixteen deliveries are under way, one waits for its turn, two are in the buffer.
    for number in 0..40 {
        create(&cluster, &format!("m{number}")).await;
    }
    assert!(begin.elapsed() < Duration::from_secs(20), "requests wait for the webhook");
    assert!(lost(&cluster).await >= 40 - 16 - 1 - 2 - 1, "{}", lost(&cluster).await);
}

#[tokio::test]
async fn a_request_waits_for_its_event_if_that_is_wanted() {
    for mode in [Mode::Blocking, Mode::BlockingStrict] {
        let outside = Outside::start(taken);
        let cluster = cluster(&outside, |options| {
            (options.mode, options.initial_backoff) = (mode, Duration::from_millis(1));
        })
        .await;
        create(&cluster, "x").await;
        assert_eq!(names(&events(&outside.seen())), ["x"], "{mode:?}");
        outside.be(Mood::Failing);
        // That it has come is not told, by this policy; that it is answered can't be undone.
        assert_eq!(cluster.get("admin", MAPS).await.0, StatusCode::OK, "{mode:?}");
        assert_eq!(lost(&cluster).await, 1, "{mode:?}");
    }
}

#[tokio::test]
async fn nothing_is_done_unheard_of_if_that_is_wanted() {
    let outside = Outside::absent(taken);
    let cluster = Cluster::start(|config, folder| {
        let policy = POLICY.replace("omitStages: [RequestReceived], ", "");
        std::fs::write(folder.join("policy.yaml"), policy).unwrap();
        let options = Options {
            mode: Mode::BlockingStrict,
            initial_backoff: Duration::from_millis(1),
            ..Options::new(outside.kubeconfig(folder))
        };
        let policy_file = folder.join("policy.yaml");
        config.audit = Some(Audit { policy_file, log: None, webhook: Some(options) });
    })
    .await;
    assert_eq!(cluster.get("admin", MAPS).await.0, StatusCode::INTERNAL_SERVER_ERROR);
    outside.arrive();
    assert_eq!(cluster.get("admin", MAPS).await.0, StatusCode::OK);
    let stages: Vec<Value> = events(&outside.seen()).iter().map(|event| event["stage"].clone()).collect();
    assert_eq!(stages, ["RequestReceived", "ResponseComplete"]);
}

#[tokio::test]
async fn events_that_are_too_long_are_cut_or_left_out() {
    let outside = Outside::start(taken);
    let cluster = cluster(&outside, |options| {
        options.truncate = Some(Truncate { max_event_size: 2000, max_batch_size: 1500 });
        options.max_wait = Duration::from_secs(600);
    })
    .await;
    let map = json!({"metadata": {"name": "long"}, "data": {"text": "x".repeat(3000)}});
    assert_eq!(cluster.post("admin", MAPS, map).await.0, StatusCode::CREATED);
    let long = "y".repeat(3000);
    assert_eq!(cluster.get("admin", &format!("{MAPS}/none?comment={long}")).await.0, StatusCode::NOT_FOUND);
    for name in ["short", "shorter"] {
        create(&cluster, name).await;
    }
    cluster.server.close_audit().await;
    let lists = outside.seen();
    assert!(lists.len() > 1, "{lists:?}");
    // Parts are delivered at the same time.
    let mut events = events(&lists);
    events.sort_by_key(|event| event["objectRef"]["name"].to_string());
    assert_eq!(names(&events), ["long", "short", "shorter"]);
    assert_eq!(events[0]["annotations"]["audit.k8s.io/truncated"], "true");
    assert_eq!((events[0].get("requestObject"), events[0].get("responseObject")), (None, None));
    assert_eq!(events[1]["requestObject"]["metadata"]["name"], "short");
    assert_eq!(lost(&cluster).await, 1);
}
