//! Load by wrk: requests over TLS that each wait for their answer, on so many connections.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

/// How fast answers came.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Answers per second.
    pub requests: f64,
    /// Bytes of answers per second.
    pub bytes: f64,
}

/// wrk, with the scripts it runs.
pub struct Wrk {
    folder: TempDir,
}

impl Wrk {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let report = include_str!("report.lua");
        for (name, script) in [("create", include_str!("create.lua")), ("read", include_str!("read.lua"))] {
            std::fs::write(folder.path().join(name), format!("{script}\n{report}")).expect("a script");
        }
        Self { folder }
    }

    /// GETs of `url`.
    pub fn read(&self, url: &str, connections: usize, time: Duration) -> Rate {
        self.run("read", url, connections, time, &[])
    }

    /// Creates below the server at `url`; `word` makes their names others than those of other runs.
    pub fn create(&self, url: &str, connections: usize, time: Duration, word: &str) -> Rate {
        self.run("create", url, connections, time, &[word])
    }

    fn run(&self, script: &str, url: &str, connections: usize, time: Duration, arguments: &[&str]) -> Rate {
        let script: PathBuf = self.folder.path().join(script);
        let output = Command::new("wrk")
            .args(["--threads", "2", "--connections", &connections.to_string(), "--timeout", "10s"])
            .args(["--duration", &format!("{}s", time.as_secs()), "--script"])
            .arg(script)
            .arg(url)
            .arg("--")
            .args(arguments)
            .output()
            .expect("wrk");
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().find_map(|line| line.strip_prefix("measured "));
        let numbers: Vec<f64> = line.unwrap_or_default().split(' ').filter_map(|number| number.parse().ok()).collect();
        let [requests, microseconds, bytes, failed] = numbers[..] else { panic!("wrk says nothing of {url}: {text}") };
        assert!(requests > 0.0 && failed == 0.0, "{failed} of {requests} requests for {url} failed: {text}");
        let seconds = microseconds / 1e6;
        Rate { requests: requests / seconds, bytes: bytes / seconds }
    }
}
