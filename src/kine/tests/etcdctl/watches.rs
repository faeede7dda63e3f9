//! watch, alone and several on one stream.

use std::{
    io::{BufRead, BufReader},
    process::Child,
    time::Duration,
};

use etcd_client::{Client, EventType, WatchFilterType, WatchOptions};
use k3s_kine::Datastore;
use tokio::sync::mpsc;

use super::*;

/// `etcdctl watch`, which goes on until it is killed.
pub(super) struct Watching {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Watching {
    pub(super) fn begin(served: &Served, args: &[&str]) -> Self {
        let mut child = served.etcdctl(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("etcdctl");
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    pub(super) async fn lines(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.len() < count {
            let line = tokio::time::timeout(Duration::from_secs(20), self.lines.recv()).await;
            lines.push(line.unwrap_or_else(|_| panic!("after {lines:?} came nothing")).expect("etcdctl ended"));
        }
        lines
    }

    /// Waits for the answers to a request for progress: etcdctl prints one for each of its two watches.
    async fn progress(&mut self, revision: i64) {
        let told = format!("progress notify: {revision}");
        assert_eq!(self.lines(2).await, [told.clone(), told]);
    }

    fn say(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_brings_the_past_and_what_happens_with_what_was_before() {
    let served = Served::tcp().await;
    served.run(&["put", "/a", "1"]).await;
    let mut watching = Watching::begin(&served, &["watch", "/", "--prefix", "--rev=1", "--prev-kv"]);
    assert_eq!(watching.lines(3).await, ["PUT", "/a", "1"]);
    served.run(&["put", "/a", "2"]).await;
    assert_eq!(watching.lines(5).await, ["PUT", "/a", "1", "/a", "2"]);
    served.run(&["del", "/a"]).await;
    assert_eq!(watching.lines(5).await, ["DELETE", "/a", "2", "/a", ""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_keeps_several_watches_and_asks_for_progress() {
    let served = Served::tcp().await;
    let mut watching = Watching::begin(&served, &["watch", "-i"]);
    watching.say("watch /a");
    watching.say("watch /b");
    // The answer shows that the watches are there.
    watching.say("progress");
    watching.progress(1).await;
    served.run(&["put", "/b", "1"]).await;
    assert_eq!(watching.lines(3).await, ["PUT", "/b", "1"]);
    served.run(&["put", "/a", "2"]).await;
    assert_eq!(watching.lines(3).await, ["PUT", "/a", "2"]);
    served.run(&["put", "/c", "3"]).await;
    watching.say("progress");
    watching.progress(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stream_has_many_watches_with_ids_filters_and_ends_of_their_own() {
    let served = Served::tcp().await;
    let mut client = Client::connect([&served.url], None).await.unwrap();
    let filters = [WatchFilterType::NoPut];
    let options = WatchOptions::new().with_watch_id(7).with_prev_key().with_filters(filters);
    let mut stream = client.watch("/a", Some(options)).await.unwrap();
    let first = stream.message().await.unwrap().unwrap();
    assert!(first.created() && first.watch_id() == 7);
    stream.watch("/", Some(WatchOptions::new().with_prefix())).await.unwrap();
    let second = stream.message().await.unwrap().unwrap();
    assert!(second.created() && second.watch_id() == 0);
    stream.watch("/x", Some(WatchOptions::new().with_watch_id(7))).await.unwrap();
    let refused = stream.message().await.unwrap().unwrap();
    assert!(refused.canceled() && refused.cancel_reason().contains("duplicate"), "{refused:?}");

    client.put("/a", "1", None).await.unwrap();
    let event = stream.message().await.unwrap().unwrap();
    assert_eq!((event.watch_id(), event.events()[0].event_type()), (0, EventType::Put));
    stream.cancel(0).await.unwrap();
    let canceled = stream.message().await.unwrap().unwrap();
    assert_eq!((canceled.watch_id(), canceled.canceled()), (0, true));
    client.delete("/a", None).await.unwrap();
    let event = stream.message().await.unwrap().unwrap();
    assert_eq!((event.watch_id(), event.events()[0].event_type()), (7, EventType::Delete));
    assert_eq!(event.events()[0].prev_kv().unwrap().value(), b"1");
    client.put("/elsewhere", "", None).await.unwrap();
    stream.request_progress().await.unwrap();
    let progress = stream.message().await.unwrap().unwrap();
    assert_eq!((progress.watch_id(), progress.header().unwrap().revision()), (-1, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_waits_for_a_revision_to_come_and_large_events_come_one_by_one() {
    let served = Served::tcp().await;
    let mut client = Client::connect([&served.url], None).await.unwrap();
    let options = WatchOptions::new().with_start_revision(4).with_fragment();
    let mut stream = client.watch("/a", Some(options)).await.unwrap();
    assert!(stream.message().await.unwrap().unwrap().created());
    let large = "x".repeat(1_500_000);
    for _ in 2..=6 {
        client.put("/a", large.clone(), None).await.unwrap();
    }
    let mut revisions = Vec::new();
    while revisions.len() < 3 {
        let message = stream.message().await.unwrap().unwrap();
        assert!(message.events().len() <= 2, "{} events in one message", message.events().len());
        revisions.extend(message.events().iter().map(|event| event.kv().unwrap().mod_revision()));
    }
    assert_eq!(revisions, [4, 5, 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_misses_nothing() {
    let served = Served::tcp().await;
    let mut client = Client::connect([&served.url], None).await.unwrap();
    let mut stream = client.watch("/a", None).await.unwrap();
    assert!(stream.message().await.unwrap().unwrap().created());
    // More than the windows of HTTP/2 and all buffers hold; less than what makes compaction come early.
    let value = bytes::Bytes::from("x".repeat(18_000));
    let mut at = served.store.create("/a".into(), value.clone(), 0).await.unwrap();
    for _ in 0..2200 {
        at = served.store.update("/a".into(), at, value.clone(), 0).await.unwrap();
    }
    let mut next = 2;
    while next <= at {
        for event in stream.message().await.unwrap().unwrap().events() {
            assert_eq!(event.kv().unwrap().mod_revision(), next);
            next += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_comes_by_itself_where_it_is_wanted_and_the_end_ends_the_stream() {
    let served = Served::tcp().await;
    let mut client = Client::connect([&served.url], None).await.unwrap();
    let mut stream = client.watch("/a", Some(WatchOptions::new().with_progress_notify())).await.unwrap();
    assert!(stream.message().await.unwrap().unwrap().created());
    let progress = stream.message().await.unwrap().unwrap();
    assert!(progress.events().is_empty());
    assert_eq!(progress.header().unwrap().revision(), 1);
    served.close().await;
    assert!(!matches!(stream.message().await, Ok(Some(_))));
}
