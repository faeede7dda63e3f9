//! The two ways to a datastore: the trait, and etcd's gRPC.

use std::sync::Arc;

use bytes::Bytes;
use etcd_client::{Compare, CompareOp, GetOptions, PutOptions, Txn, TxnOp};
use k3s_kine::Datastore;

/// A client of some datastore. Clones share what it is connected by.
#[derive(Clone)]
pub enum Client {
    Trait(Arc<dyn Datastore>),
    Grpc(Box<etcd_client::Client>),
}

impl Client {
    /// Creates a key as Kubernetes does: if it is at revision 0. Returns the revision of the write.
    pub async fn create(&mut self, key: &str, value: &Bytes) -> i64 {
        match self {
            Client::Trait(store) => store.create(key.to_owned().into(), value.clone(), 0).await.expect("create"),
            Client::Grpc(client) => put(client, key, 0, value).await,
        }
    }

    /// Replaces a value if it is still at `revision`.
    pub async fn update(&mut self, key: &str, revision: i64, value: &Bytes) -> i64 {
        match self {
            Client::Trait(store) => {
                store.update(key.to_owned().into(), revision, value.clone(), 0).await.expect("update")
            }
            Client::Grpc(client) => put(client, key, revision, value).await,
        }
    }

    /// Reads all keys with a prefix that ends with `/`. Returns how many bytes of values there are.
    pub async fn list(&mut self, prefix: &str) -> usize {
        match self {
            Client::Trait(store) => {
                let end = format!("{}0", prefix.trim_end_matches('/'));
                let range = store.range(prefix.to_owned().into(), end.into(), 0, 0).await.expect("range");
                range.kvs.iter().map(|kv| kv.value.len()).sum()
            }
            Client::Grpc(client) => {
                let options = GetOptions::new().with_prefix();
                let mut client = client.kv_client().max_decoding_message_size(usize::MAX);
                let range = client.get(prefix, Some(options)).await.expect("get");
                range.kvs().iter().map(|kv| kv.value().len()).sum()
            }
        }
    }
}

async fn put(client: &mut etcd_client::Client, key: &str, revision: i64, value: &Bytes) -> i64 {
    let txn = Txn::new()
        .when([Compare::mod_revision(key, CompareOp::Equal, revision)])
        .and_then([TxnOp::put(key, value.clone(), None::<PutOptions>)])
        .or_else([TxnOp::get(key, None)]);
    let done = client.txn(txn).await.expect("txn");
    assert!(done.succeeded(), "{key} is at another revision");
    done.header().expect("a header").revision()
}
