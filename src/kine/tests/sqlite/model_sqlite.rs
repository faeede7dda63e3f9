//! The model test on SQLite. For longer runs:
//! `KINE_MODEL_SEEDS=1000 cargo test -p k3s-kine --test sqlite for_long -- --ignored --nocapture`.

use super::{
    model::{self, Backend},
    *,
};

struct File(tempfile::TempDir);

impl Backend for File {
    type Store = Sqlite;

    async fn open(&self) -> Sqlite {
        let options = Options { progress_interval: Duration::from_millis(5), ..Options::default() };
        Sqlite::open(&self.0.path().join("state.db"), options).unwrap()
    }

    async fn close(&self, store: Sqlite) {
        store.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_answers_as_the_model_does() {
    for seed in 0..6 {
        model::run(&File(tempfile::tempdir().unwrap()), seed, 700).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes as long as it is told to"]
async fn it_answers_as_the_model_does_for_long() {
    for seed in 100..100 + model::long_seeds() {
        model::run(&File(tempfile::tempdir().unwrap()), seed, 2000).await;
    }
}
