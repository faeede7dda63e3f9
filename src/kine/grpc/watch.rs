//! etcd's Watch service: a stream carries many watches.

mod session;
mod watcher;

use std::pin::Pin;

use etcd_client::proto::{PbWatchRequest, PbWatchResponse, PbWatchService};
use futures::{Stream, StreamExt, stream};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status, Streaming};

use self::session::Session;
use super::Face;

/// Answers that wait for the connection, of all watches of a stream together.
const WAITING: usize = 16;

#[tonic::async_trait]
impl PbWatchService for Face {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<PbWatchResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<Streaming<PbWatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        let (sender, mut answers) = mpsc::channel(WAITING);
        let session = Session::new(self.clone(), sender).run(request.into_inner());
        // Whoever sends the answers has the session: it ends with the client's connection.
        let session = AbortOnDropHandle::new(tokio::spawn(session));
        let answers = stream::poll_fn(move |context| {
            let _ = &session;
            answers.poll_recv(context)
        });
        Ok(Response::new(answers.take_until(self.closing.clone().cancelled_owned()).boxed()))
    }
}
