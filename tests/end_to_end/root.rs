//! Real root, in a network namespace of its own, so that the machine's addresses and rules stay as they are.

use std::time::Duration;

use k3s_tests::{Cluster, eventually};

use crate::web;

#[test]
fn root_works_on_a_cluster_without_the_launcher() {
    // Nothing of the cluster's network may meet the machine's: this process and what it starts move into namespaces of
    // their own.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET | nix::sched::CloneFlags::CLONE_NEWNS)
        .expect("namespaces");
    for args in [
        &["link", "set", "lo", "up"][..],
        &["link", "add", "uplink", "type", "veth", "peer", "name", "provider"],
        &["link", "set", "provider", "up"],
        &["addr", "add", "198.51.100.2/24", "dev", "uplink"],
        &["link", "set", "uplink", "up"],
        &["route", "add", "default", "via", "198.51.100.1"],
    ] {
        assert!(std::process::Command::new("ip").args(args).status().expect("ip").success(), "ip {args:?}");
    }
    let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("private mounts");
    for folder in ["/run", "/var/log"] {
        nix::mount::mount(Some("tmpfs"), folder, Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>)
            .expect("a tmpfs");
    }
    let folder = std::path::PathBuf::from("/var/lib/k3s-test-root");
    // Left over by a test that was killed.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    let mut cluster = Cluster::root(&folder, &["--https-listen-port=16445", "--node-name=root-node"]);
    cluster.start();
    web::deploy(&cluster, 30082);
    let holders = cluster.holders();
    assert!(holders.iter().all(|line| line.contains("k3s server")) && !holders.is_empty(), "{holders:?}");
    web::check_network(&cluster, 30082);
    web::check_kubectl(&cluster);
    let before = web::containers(&cluster);
    cluster.kill();
    cluster.start();
    assert_eq!(web::containers(&cluster), before);
    eventually("the node port answers again", Duration::from_secs(30), || {
        web::fetch(([127, 0, 0, 1], 30082).into(), "/index.html")
    });
    web::delete(&cluster);
    cluster.stop();
    drop(cluster);
    std::fs::remove_dir_all(&folder).expect("an empty place");
}
