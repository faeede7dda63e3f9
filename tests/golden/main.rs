//! Answers of the API server compared with those recorded from Kubernetes.
//!
//! `suites/` holds requests and the normalized answers of the Kubernetes release that this k3s implements, recorded from
//! a server without controllers and scheduler. `expected.txt` says which answers are known to differ; it only gets
//! better, and a change of it shows in the diff of the commit that makes it.

mod client;
mod difference;
mod expected;
mod json;
mod normalizer;
mod server;
mod suite;

use std::path::Path;

use expected::Expected;
use server::Server;
use suite::{Outcome, Suite};

#[test]
fn answers_are_those_of_kubernetes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let suites = Suite::all(&folder.join("suites")).expect("recorded suites");
    let server = Server::start();
    let mut outcomes = Vec::new();
    for suite in &suites {
        let outcome = suite.replay(&server.client);
        println!("{:4}/{:<4} {}", outcome.same(), outcome.total, outcome.suite);
        outcomes.push(outcome);
    }
    drop(server);
    let same: usize = outcomes.iter().map(Outcome::same).sum();
    let total: usize = outcomes.iter().map(|outcome| outcome.total).sum();
    println!("{same} of {total} answers the same");
    assert!(same >= 500, "only {same} of {total} answers are the same");

    let file = folder.join("expected.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        std::fs::write(&file, Expected::measured(&outcomes).to_string()).expect("expected.txt written");
        return;
    }
    let text = std::fs::read_to_string(&file).expect("expected.txt");
    let complaints = Expected::parse(&text).expect("a readable expected.txt").check(&outcomes);
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}
