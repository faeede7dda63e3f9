//! The Node object: registration, status, lease.

pub(crate) mod facts;
mod lease;
mod register;
mod status;

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::context::Context;

/// Registers the node and keeps its lease and status fresh until `cancel`.
pub(crate) async fn run(ctx: &Context, cancel: &CancellationToken) {
    let work = async {
        register::run(ctx).await;
        tokio::join!(lease::run(ctx), status::run(ctx));
    };
    tokio::select! {
        () = cancel.cancelled() => {}
        () = work => {}
    }
}

/// Pauses between attempts while the API can't be reached: 100 ms doubling to 5 s.
struct Retry(Duration);

impl Retry {
    fn new() -> Self {
        Self(Duration::from_millis(100))
    }

    async fn pause(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(Duration::from_secs(5));
    }
}
