//! With which rights containers run.

use k3s_cri::*;

use crate::node::{Node, busybox, is_rootless};

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

pub async fn groups_of_the_image_count_unless_they_are_not_to() {
    let node = Node::new().await;
    let groups = async |policy| {
        let lines = node
            .script_with("id -G", |config| {
                config.security.run_as_username = "web".into();
                config.security.supplemental_groups = vec![7];
                config.security.supplemental_groups_policy = policy;
            })
            .await;
        let mut groups: Vec<String> = lines[0].split(' ').map(str::to_owned).collect();
        groups.sort();
        groups
    };
    assert_eq!(groups(SupplementalGroupsPolicy::Merge).await, ["102", "103", "7"]);
    assert_eq!(groups(SupplementalGroupsPolicy::Strict).await, ["102", "7"]);
    // A command run later is in the same groups.
    let sandbox = node.sandbox("exec").await;
    let mut config = busybox(&["sleep", "1000"]);
    config.security.run_as_username = "web".into();
    config.security.supplemental_groups_policy = SupplementalGroupsPolicy::Strict;
    let id = node.run(&sandbox, config).await;
    let command = vec!["id".into(), "-G".into()];
    let output = node.runtime.exec_sync(&id, command, std::time::Duration::from_secs(10)).await.unwrap();
    assert_eq!(output.stdout, b"102\n");
    node.end().await;
}

pub async fn what_is_mounted_below_a_volume_is_read_only_where_that_is_asked_for() {
    let node = Node::new().await;
    let volume = node.path("volume");
    std::fs::create_dir_all(volume.join("below")).unwrap();
    let below = volume.join("below");
    nix::mount::mount(Some("tmpfs"), &below, Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>).unwrap();
    for (recursive_read_only, want) in [(false, vec!["closed", "open"]), (true, vec!["closed", "closed"])] {
        let script = "for f in /v/x /v/below/x; do echo > $f 2>/dev/null && echo open || echo closed; done";
        let lines = node
            .script_with(script, |config| {
                config.mounts = vec![Mount {
                    container_path: "/v".into(),
                    host_path: volume.clone(),
                    readonly: true,
                    recursive_read_only,
                    propagation: Propagation::Private,
                    ..Mount::default()
                }];
            })
            .await;
        let said: Vec<&str> = lines.iter().map(String::as_str).filter(|line| !line.contains("/v/")).collect();
        assert_eq!(said, want, "recursive: {recursive_read_only}");
    }
    nix::mount::umount(&below).unwrap();
    node.end().await;
}

pub async fn an_apparmor_profile_is_refused_with_the_reason_where_there_is_no_apparmor() {
    if std::path::Path::new("/sys/module/apparmor").exists() {
        return;
    }
    let node = Node::new().await;
    let sandbox = node.sandbox("web").await;
    let mut config = busybox(&["true"]);
    config.security.apparmor = SecurityProfile::Localhost("mine".into());
    let error = node.runtime.create_container(&sandbox, config).await.unwrap_err();
    assert!(matches!(error, Error::FailedPrecondition { .. }), "{error:?}");
    assert!(error.to_string().contains("\"mine\"") && error.to_string().contains("no AppArmor"), "{error}");
    node.end().await;
}
