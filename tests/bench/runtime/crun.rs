//! Bare crun, which has no sandboxes, images or streams: what the kernel and a small program take.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::runtimes::now;

/// Starts containers one after the other.
///
/// # Errors
/// crun's words where it does not work, as on hosts with hybrid cgroups.
pub fn alone(rounds: usize) -> Result<Vec<Duration>, String> {
    let directory = tempfile::tempdir().expect("a folder");
    let bundle = directory.path();
    for name in ["rootfs/bin", "rootfs/shared", "rootfs/proc", "rootfs/dev", "rootfs/sys"] {
        std::fs::create_dir_all(bundle.join(name)).expect("a folder");
    }
    std::fs::copy(std::env::current_exe().expect("this program"), bundle.join("rootfs/bin/now")).expect("a copy");
    let made = Command::new("crun").arg("spec").current_dir(bundle).status();
    assert!(made.is_ok_and(|status| status.success()), "crun spec");
    let path = bundle.join("config.json");
    let mut spec: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).expect("a specification")).expect("JSON");
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = serde_json::json!(["/bin/now", "now", "/shared/began"]);
    spec["root"]["readonly"] = false.into();
    // As the pods': on the host's network.
    if let Some(namespaces) = spec["linux"]["namespaces"].as_array_mut() {
        namespaces.retain(|namespace| namespace["type"] != "network" && namespace["type"] != "cgroup");
    }
    if let Some(mounts) = spec["mounts"].as_array_mut() {
        mounts.retain(|mount| mount["type"] != "cgroup" && mount["type"] != "sysfs");
    }
    std::fs::write(&path, spec.to_string()).expect("a specification");
    let id = |round| format!("bench-{}-{round}", std::process::id());
    // The first also reads everything from the disk.
    one(bundle, &id(0))?;
    (1..=rounds).map(|round| one(bundle, &id(round))).collect()
}

fn one(bundle: &Path, id: &str) -> Result<Duration, String> {
    let crun = |args: &[&str]| {
        let mut command = Command::new("crun");
        command
            .arg("--cgroup-manager=disabled")
            .args(args)
            .current_dir(bundle)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    };
    let began = bundle.join("rootfs/shared/began");
    let begin = now();
    let words = bundle.join("crun.log");
    let stderr = std::fs::File::create(&words).expect("a log");
    if !crun(&["run", "--detach", id]).stderr(stderr).status().expect("crun").success() {
        return Err(std::fs::read_to_string(words).unwrap_or_default().trim().to_owned());
    }
    let waiting = Instant::now();
    let end: i128 = loop {
        if let Ok(text) = std::fs::read_to_string(&began) {
            break text.parse().expect("a time");
        }
        assert!(waiting.elapsed() < Duration::from_secs(30), "the container does not run");
        std::thread::sleep(Duration::from_millis(1));
    };
    std::fs::remove_file(&began).expect("a removed file");
    let removed = crun(&["delete", "--force", id]).status().expect("crun");
    assert!(removed.success(), "crun delete");
    Ok(Duration::from_nanos(u64::try_from(end - begin).unwrap_or_default()))
}
