//! What flags say about the node arrives in its Node object.

use k3s_tests::{Cluster, User};
use serde_json::{Value, json};

#[test]
fn a_node_is_registered_as_the_flags_say() {
    let user = User::create("node");
    let config = user.home.join("config.yaml");
    let text = "node-label: [zone=attic]\nnode-taint: only=these:PreferNoSchedule\nnode-external-ip: 192.0.2.7\n\
                kubelet-arg:\n- max-pods=7\n- container-log-max-files=3\n";
    std::fs::write(&config, text).expect("a file");
    let config = format!("--config={}", config.display());
    let args = [
        "--https-listen-port=16450",
        "--disable=coredns",
        "--node-name=edge-1",
        "--with-node-id",
        "--tls-san=k3s.test",
    ];
    let mut cluster = Cluster::rootless(&user, &[&[&*config], &args[..]].concat());
    cluster.start();
    let node = |cluster: &Cluster<'_>| -> Value {
        let list = cluster.kubectl(&["get", "nodes", "-o", "json"]);
        serde_json::from_str::<Value>(&list).expect("JSON")["items"][0].clone()
    };
    let first = node(&cluster);
    let name = first["metadata"]["name"].as_str().expect("a name").to_owned();
    let id = name.strip_prefix("edge-1-").expect("the name given, and an id");
    assert!(id.len() == 8 && id.bytes().all(|it| it.is_ascii_hexdigit()), "{name}");
    assert_eq!(first["metadata"]["labels"]["zone"], "attic");
    let taint = json!({"key": "only", "value": "these", "effect": "PreferNoSchedule"});
    assert!(first["spec"]["taints"].as_array().expect("taints").contains(&taint), "{}", first["spec"]);
    assert_eq!(first["status"]["capacity"]["pods"], "7");
    let external = json!({"type": "ExternalIP", "address": "192.0.2.7"});
    assert!(first["status"]["addresses"].as_array().expect("addresses").contains(&external), "{}", first["status"]);

    // The id is the machine's: a second start has it as well.
    cluster.stop();
    cluster.start();
    assert_eq!(node(&cluster)["metadata"]["name"], name);
    cluster.stop();
}
