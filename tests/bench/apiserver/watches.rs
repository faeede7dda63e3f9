//! Watches: what they take while nothing happens, and how soon all of them know of an event.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::client::{Client, Protocol};
use crate::objects::{COLLECTION, config_map};
use crate::server::Server;

/// The server allows so many streams in one connection.
const STREAMS: usize = 250;
/// Handshakes at a time.
const OPENING: usize = 32;
const LIMIT: Duration = Duration::from_secs(10);

/// How watches are spread over connections.
#[derive(Debug, Clone, Copy)]
pub enum Spread {
    /// As clients in Go do it: many in one HTTP/2 connection.
    Shared,
    /// Each in an HTTP/1.1 connection of its own.
    Apart,
}

/// Open watches, with their connections.
pub struct Watches {
    bodies: Vec<Incoming>,
    _clients: Vec<Client>,
}

impl Watches {
    /// So many, of all objects of the namespace, from now on.
    pub async fn open(server: &Server, count: usize, spread: Spread) -> Self {
        let (protocol, each) = match spread {
            Spread::Shared => (Protocol::Http2, STREAMS),
            Spread::Apart => (Protocol::Http1, 1),
        };
        let mut first = Client::connect(server.address()).await.expect("a connection");
        let (_, list) = first.get(&format!("{COLLECTION}?limit=1")).await.expect("a list");
        let list: serde_json::Value = serde_json::from_slice(&list).expect("JSON");
        let version = list["metadata"]["resourceVersion"].as_str().expect("a resource version");
        let path = format!("{COLLECTION}?watch=true&allowWatchBookmarks=true&resourceVersion={version}");
        let connections = (0..count.div_ceil(each)).map(|n| {
            let path = path.clone();
            async move {
                let mut client = Client::connect_by(server.address(), protocol).await.expect("a connection");
                let mut bodies = Vec::new();
                for _ in 0..each.min(count - n * each) {
                    let response = client.send(Method::GET, &path, Bytes::new()).await.expect("an answer");
                    assert!(response.status().is_success(), "a watch is answered with {}", response.status());
                    bodies.push(response.into_body());
                }
                (client, bodies)
            }
        });
        let opened: Vec<_> = stream::iter(connections).buffer_unordered(OPENING).collect().await;
        let (clients, bodies): (_, Vec<_>) = opened.into_iter().unzip();
        Self { bodies: bodies.into_iter().flatten().collect(), _clients: clients }
    }

    /// From the moment an object is written, until the last watch has its event: of so many events, one by one.
    pub async fn events(self, server: &Server, events: usize) -> Vec<Duration> {
        let seen: Arc<[Event]> = (0..events).map(|_| Event::default()).collect();
        let (begin, watches) = (Instant::now(), self.bodies.len());
        let readers: Vec<_> =
            self.bodies.into_iter().map(|body| tokio::spawn(read(body, Arc::clone(&seen), begin))).collect();
        let mut client = Client::connect(server.address()).await.expect("a connection");
        let mut took = Vec::new();
        for (n, event) in seen.iter().enumerate() {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let written = begin.elapsed();
            let body = config_map(&format!("event-{n}"));
            let (code, answer) = client.answer(Method::POST, COLLECTION, body).await.expect("an answer");
            assert!(code.is_success(), "a write is answered with {code}: {}", String::from_utf8_lossy(&answer));
            while event.watches.load(Ordering::Acquire) < watches {
                assert!(begin.elapsed() - written < LIMIT, "not all watches have event {n}");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            took.push(Duration::from_nanos(event.last.load(Ordering::Acquire)).saturating_sub(written));
        }
        readers.iter().for_each(tokio::task::JoinHandle::abort);
        took
    }
}

/// How many watches have seen an event, and when the last of them did, in nanoseconds.
#[derive(Default)]
struct Event {
    watches: AtomicUsize,
    last: AtomicU64,
}

/// Notes when each event, which is a line, has come.
async fn read(mut body: Incoming, seen: Arc<[Event]>, begin: Instant) {
    let mut events = seen.iter();
    while let Some(Ok(frame)) = body.frame().await {
        let lines = frame.data_ref().map_or(0, |data| data.iter().filter(|byte| **byte == b'\n').count());
        let now = u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        for event in events.by_ref().take(lines) {
            event.last.fetch_max(now, Ordering::AcqRel);
            event.watches.fetch_add(1, Ordering::AcqRel);
        }
    }
}
