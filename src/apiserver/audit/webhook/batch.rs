//! Events are delivered together: as soon as there are enough of them, or the first has waited for long enough.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::Delivery;
use super::throttle::Bucket;

/// Deliveries that are under way at a time: a server that is away for a while does not keep back what comes after, and
/// what waits for it is bounded.
const UNDER_WAY: usize = 16;

/// Delivers what comes, until nobody sends any more or this server ends.
pub(super) async fn run(delivery: Arc<Delivery>, mut incoming: mpsc::Receiver<Bytes>) {
    let mut bucket = delivery.options.throttle.map(Bucket::new);
    let mut under_way = JoinSet::new();
    let mut batch = Vec::new();
    loop {
        collect(&delivery, &mut incoming, &mut batch).await;
        if batch.is_empty() {
            break;
        }
        for part in parts(&delivery, std::mem::take(&mut batch)) {
            if let Some(bucket) = &mut bucket {
                delivery.closing.run_until_cancelled(bucket.take()).await;
            }
            while under_way.len() >= UNDER_WAY {
                under_way.join_next().await;
            }
            let delivery = Arc::clone(&delivery);
            under_way.spawn(async move { delivery.deliver(part).await });
        }
        while under_way.try_join_next().is_some() {}
    }
    while under_way.join_next().await.is_some() {}
}

/// Waits until there is a batch. It stays empty if nothing comes any more.
async fn collect(delivery: &Delivery, incoming: &mut mpsc::Receiver<Bytes>, batch: &mut Vec<Bytes>) {
    let most = delivery.options.max_batch.max(1);
    let closing = &delivery.closing;
    let first = closing.run_until_cancelled(incoming.recv_many(batch, most)).await;
    if first == Some(0) {
        return;
    }
    let until = Instant::now() + delivery.options.max_wait;
    while batch.len() < most && !closing.is_cancelled() {
        let room = most - batch.len();
        let more = closing.run_until_cancelled(timeout_at(until, incoming.recv_many(batch, room))).await;
        match more {
            Some(Ok(more)) if more > 0 => {}
            _ => break,
        }
    }
    if closing.is_cancelled() {
        // What is there is all that will come.
        incoming.close();
        if batch.len() < most {
            let room = most - batch.len();
            incoming.recv_many(batch, room).await;
        }
    }
}

/// A batch in parts that are not too long.
fn parts(delivery: &Delivery, batch: Vec<Bytes>) -> Vec<Vec<Bytes>> {
    let Some(limits) = delivery.options.truncate else { return vec![batch] };
    let mut parts = vec![Vec::new()];
    let mut size = 0;
    for event in batch {
        size += event.len();
        match parts.last_mut() {
            Some(part) if part.is_empty() || size <= limits.max_batch_size => part.push(event),
            _ => {
                size = event.len();
                parts.push(vec![event]);
            }
        }
    }
    parts
}
