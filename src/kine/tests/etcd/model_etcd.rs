//! The model test on etcd. Where etcd differs from the other backends, the model does as well: all writes of a
//! transaction are of one revision, and one transaction can't write a key twice (it refuses that). For longer runs:
//! `KINE_MODEL_SEEDS=1000 cargo test -p k3s-kine --test etcd for_long -- --ignored --nocapture`.

use super::{
    model::{self, Backend},
    *,
};

struct Member<'a>(&'a Cluster);

impl Backend for Member<'_> {
    type Store = Etcd;

    const ONE_REVISION: bool = true;

    async fn open(&self) -> Etcd {
        open_with(self.0, Options { progress_interval: Duration::from_millis(5), ..options() }).await
    }

    async fn close(&self, store: Etcd) {
        store.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_answers_as_the_model_does() {
    let cluster = Cluster::start(1);
    for seed in 0..2 {
        model::run(&Member(&cluster), seed, 500).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes as long as it is told to"]
async fn it_answers_as_the_model_does_for_long() {
    let cluster = Cluster::start(3);
    for seed in 100..100 + model::long_seeds() {
        model::run(&Member(&cluster), seed, 2000).await;
    }
}
