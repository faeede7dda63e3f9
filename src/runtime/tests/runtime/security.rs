//! With which rights containers run.

use k3s_cri::*;

use crate::node::{Node, is_rootless};

fn field<'a>(lines: &'a [String], name: &str) -> &'a str {
    lines.iter().find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap_or_default()
}

pub async fn the_default_container_has_containerds_rights() {
    let node = Node::new().await;
    let script = "cat /proc/self/status; cat /proc/kcore | wc -c; ls /sys/firmware | wc -l; \
                  echo x > /proc/sys/kernel/hostname; touch /sys/x; mount -t tmpfs none /tmp; unshare -U true; \
                  ls -l /proc/self/fd | wc -l; cat /proc/mounts";
    let lines = node.script(script).await;
    assert_eq!(field(&lines, "CapBnd:"), "00000000a80425fb");
    assert_eq!(field(&lines, "CapEff:"), "00000000a80425fb");
    assert_eq!(field(&lines, "CapAmb:"), "0000000000000000");
    assert_eq!(field(&lines, "NoNewPrivs:"), "0");
    assert_eq!(field(&lines, "Seccomp:"), "2");
    let refused = |wanted: &str| assert!(lines.iter().any(|line| line.contains(wanted)), "{wanted}: {lines:#?}");
    refused("can't create /proc/sys/kernel/hostname: Read-only file system");
    refused("touch: /sys/x: ");
    refused("mount: permission denied");
    refused("unshare: unshare(0x10000000): Operation not permitted");
    let root = lines.iter().find(|line| line.contains(" / ")).unwrap();
    assert!(root.contains("nodev"), "{root}");
    // 0, 1, 2, and the directory itself, and one line of total.
    assert!(lines.contains(&"5".to_owned()), "descriptors leaked: {lines:#?}");

    let lines = node
        .script_with("cat /proc/self/status; touch /x; touch /tmp/x", |config| {
            config.security = SecurityContext {
                run_as_user: Some(1000),
                no_new_privs: true,
                readonly_rootfs: true,
                drop_capabilities: vec!["ALL".into()],
                ..SecurityContext::default()
            };
        })
        .await;
    assert_eq!(field(&lines, "CapBnd:"), "0000000000000000");
    assert_eq!(field(&lines, "CapEff:"), "0000000000000000");
    assert_eq!(field(&lines, "NoNewPrivs:"), "1");
    assert_eq!(field(&lines, "Seccomp:"), "2");
    assert!(lines.iter().any(|line| line == "touch: /x: Read-only file system"), "{lines:#?}");
    node.end().await;
}

pub async fn privileged_containers_have_all_rights() {
    let node = Node::new().await;
    let lines = node
        .script_with("cat /proc/self/status; mount -t tmpfs none /tmp && echo mounted", |config| {
            config.security.privileged = true;
        })
        .await;
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let own: Vec<String> = own.lines().map(str::to_owned).collect();
    assert_eq!(field(&lines, "CapEff:"), field(&own, "CapEff:"));
    assert_eq!(field(&lines, "Seccomp:"), field(&own, "Seccomp:"));
    assert!(lines.contains(&"mounted".to_owned()), "{lines:#?}");
    assert!(is_rootless() || field(&lines, "CapBnd:") != "00000000a80425fb");
    node.end().await;
}
