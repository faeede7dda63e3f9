//! The unit files, by systemd's own verdict.

use std::path::Path;
use std::process::Command;

use k3s_systemd::units;

/// What `systemd-analyze verify` says of a unit whose program is there.
fn verify(name: &str, text: &str, scope: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    // It looks for the program, which the machine that tests need not have installed.
    let program = folder.path().join("k3s");
    std::fs::write(&program, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let text = text.replace("/usr/local/bin/k3s", program.to_str().unwrap());
    let unit = folder.path().join(name);
    std::fs::write(&unit, text).unwrap();
    let output = Command::new("systemd-analyze")
        .arg("verify")
        .args(scope)
        .arg("--man=no")
        .arg(&unit)
        .env("XDG_RUNTIME_DIR", folder.path())
        .output()
        .expect("systemd-analyze (package systemd)");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // Other units of the machine are not ours to judge.
    let ours: String = said.lines().filter(|line| line.contains(name)).map(|line| format!("{line}\n")).collect();
    if output.status.success() { ours } else { format!("{}: {said}", output.status) }
}

#[test]
fn systemd_analyze_has_nothing_to_say_about_the_units() {
    assert_eq!(verify("k3s.service", units::SERVER, &[]), "");
    assert_eq!(verify("k3s-agent.service", units::AGENT, &[]), "");
    assert_eq!(verify("k3s-rootless.service", units::ROOTLESS, &["--user"]), "");
}

#[test]
fn systemd_analyze_does_see_a_mistake() {
    assert_ne!(verify("k3s.service", &units::SERVER.replace("Delegate=yes", "Delegate=perhaps"), &[]), "");
}

#[test]
fn a_restart_leaves_pods_running_and_readiness_is_awaited() {
    for text in [units::SERVER, units::AGENT, units::ROOTLESS] {
        for line in ["Type=notify", "KillMode=process", "Delegate=yes", "Restart=always"] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }
    for text in [units::SERVER, units::ROOTLESS] {
        assert!(text.lines().any(|line| line == "ExecReload=/bin/sh -c 'kill -HUP \"$MAINPID\"'"), "{text}");
    }
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("k3s-rootless.service").exists());
}
