//! The datastore as the registry sees it: what lies encrypted in it comes out plain.

use std::sync::Arc;

use bytes::Bytes;
use k3s_kine::{Datastore, Error as DatastoreError, Event, KeyValue, Range, Revision, Watch, WatchBatch};
use tokio::sync::mpsc;

use super::Encryption;
use crate::registry::Error;

/// How many batches of a watch may wait for their reader; the datastore's own queue comes on top.
const QUEUE: usize = 16;

/// A datastore whose values are encrypted by rules.
#[derive(Clone)]
pub(crate) struct Store {
    datastore: Arc<dyn Datastore>,
    encryption: Arc<Encryption>,
}

impl Store {
    pub fn new(datastore: Arc<dyn Datastore>, encryption: Arc<Encryption>) -> Self {
        Self { datastore, encryption }
    }

    /// Whether what is stored at `key` since `revision` is not as the rules would have it now.
    pub fn is_stale(&self, key: &[u8], revision: Revision) -> bool {
        self.encryption.is_stale(key, revision)
    }

    /// See [`Datastore::create`]. The current state in a conflict is plain.
    pub async fn create(&self, key: Bytes, value: Bytes, lifetime: i64) -> Result<Revision, Error> {
        let sealed = self.encryption.seal(&key, value);
        self.plain(self.datastore.create(key, sealed, lifetime).await)
    }

    /// See [`Datastore::update`].
    pub async fn update(&self, key: Bytes, expected: Revision, value: Bytes, lifetime: i64) -> Result<Revision, Error> {
        let sealed = self.encryption.seal(&key, value);
        self.plain(self.datastore.update(key, expected, sealed, lifetime).await)
    }

    /// See [`Datastore::delete`].
    pub async fn delete(&self, key: Bytes, expected: Revision) -> Result<Revision, Error> {
        self.plain(self.datastore.delete(key, expected).await)
    }

    /// See [`Datastore::range`].
    pub async fn range(&self, start: Bytes, end: Bytes, limit: i64, revision: Revision) -> Result<Range, Error> {
        let mut range = self.datastore.range(start, end, limit, revision).await?;
        for kv in &mut range.kvs {
            self.open(kv)?;
        }
        Ok(range)
    }

    /// See [`Datastore::watch`]. A value that can't be read is delivered as it is stored.
    pub async fn watch(&self, start: Bytes, end: Bytes, after: Revision) -> Result<Watch, Error> {
        let mut sealed = self.datastore.watch(start, end, after).await?;
        if !self.encryption.is_configured() {
            return Ok(sealed);
        }
        let (sender, opened) = mpsc::channel(QUEUE);
        let store = self.clone();
        tokio::spawn(async move {
            while let Some(mut batch) = sealed.recv().await {
                store.open_batch(&mut batch);
                if sender.send(batch).await.is_err() {
                    return;
                }
            }
        });
        Ok(opened)
    }

    /// See [`Datastore::current_revision`].
    pub async fn current_revision(&self) -> Result<Revision, Error> {
        Ok(self.datastore.current_revision().await?)
    }

    /// See [`Datastore::request_progress`].
    pub async fn request_progress(&self) -> Result<(), Error> {
        Ok(self.datastore.request_progress().await?)
    }

    fn plain(&self, written: Result<Revision, DatastoreError>) -> Result<Revision, Error> {
        match written {
            Err(DatastoreError::Conflict { key, current: Some(mut current), revision }) => {
                self.open(&mut current)?;
                Err(DatastoreError::Conflict { key, current: Some(current), revision }.into())
            }
            written => Ok(written?),
        }
    }

    /// What can't be read stays as it is stored: its reader fails on it alone, and not on what comes with it.
    fn open_batch(&self, batch: &mut WatchBatch) {
        let WatchBatch::Events(events) = batch else { return };
        let each = events.iter_mut().flat_map(|event| match event {
            Event::Put { kv, previous } => [Some(kv), previous.as_mut()],
            Event::Delete { previous, .. } => [Some(previous), None],
        });
        for kv in each.flatten() {
            if let Err(error) = self.open(kv) {
                tracing::error!(%error, "a change cannot be read");
            }
        }
    }

    fn open(&self, kv: &mut KeyValue) -> Result<(), Error> {
        kv.value = self
            .encryption
            .open(&kv.key, kv.mod_revision, &kv.value)
            .map_err(|source| Error::Encryption { key: String::from_utf8_lossy(&kv.key).into_owned(), source })?;
        Ok(())
    }
}
