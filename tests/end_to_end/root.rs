//! Real root, in a network namespace of its own, so that the machine's addresses and rules stay as they are.

use std::time::Duration;

use k3s_tests::{Cluster, eventually};

use crate::{isolation, pods, web};

#[test]
fn root_works_on_a_cluster_without_the_launcher() {
    isolation::own_network_and_mounts(&["/run", "/var/log"]);
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
    pods::check(&cluster, true);
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
