//! What a datastore does beside the calls of its trait, until it is closed.

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::Error;

/// The tasks of a datastore.
#[derive(Default)]
pub(crate) struct Tasks {
    running: TaskTracker,
    closing: CancellationToken,
}

impl Tasks {
    /// Starts a task that ends when the datastore is closed, wherever it is then.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let closing = self.closing.clone();
        self.running.spawn(async move {
            closing.run_until_cancelled(task).await;
        });
    }

    /// Ends all of them, and waits until they have ended.
    pub(crate) async fn close(&self) {
        self.closing.cancel();
        self.running.close();
        self.running.wait().await;
    }

    /// # Errors
    /// [`Error::Closed`] once the datastore closes.
    pub(crate) fn open(&self) -> Result<(), Error> {
        if self.closing.is_cancelled() { Err(Error::Closed) } else { Ok(()) }
    }

    /// Does something for a caller.
    ///
    /// # Errors
    /// [`Error::Closed`] once the datastore closes.
    pub(crate) async fn until_closed<T>(&self, doing: impl Future<Output = T>) -> Result<T, Error> {
        self.closing.run_until_cancelled(doing).await.ok_or(Error::Closed)
    }
}
