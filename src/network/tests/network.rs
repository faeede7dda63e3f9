//! The network as pods, the node and its neighbours see it: in namespaces made for each test.

mod support;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use k3s_cri::{PodNetwork, PortMapping, Protocol};
use k3s_network::Network;
use serde_json::json;
use support::api::Api;
use support::space::{NEIGHBOUR_IP, NODE_IP, Space, as_an_ordinary_user, ask, ask_udp_from, in_own_namespace, serve};
use support::{output, pod, start, start_without_proxy, until};
use tokio_util::sync::CancellationToken;

/// A pod in its namespace, with its address, answering at port 8080.
async fn attached(network: &Network, name: &'static str) -> (Space, String) {
    let space = Space::new();
    let attachment = network.add(&pod(name), &space.path, &[]).await.expect("attaches");
    space.serve(name, 8080);
    (space, attachment.ips[0].to_string())
}

fn web() -> serde_json::Value {
    json!({"clusterIP": "10.43.0.9", "clusterIPs": ["10.43.0.9"], "type": "NodePort", "ports": [
        {"name": "tcp", "port": 80, "protocol": "TCP", "nodePort": 30080},
        {"name": "udp", "port": 80, "protocol": "UDP", "nodePort": 30080},
    ]})
}

fn names(asks: impl FnMut(usize) -> Result<String, ErrorKind>) -> BTreeSet<String> {
    let answers = (0..40).map(asks).map(|answer| answer.expect("an answer"));
    answers.map(|answer| answer.split(' ').next().unwrap_or_default().to_owned()).collect()
}

fn both() -> BTreeSet<String> {
    BTreeSet::from(["one".into(), "two".into()])
}

async fn pods_reach_each_other_and_services() {
    let (api, dir, cancel) = (Api::new(), tempfile::tempdir().expect("a directory"), CancellationToken::new());
    let neighbour = Space::new();
    neighbour.become_neighbour();
    let network = start(&api, dir.path(), &cancel, None).await;
    let (one, one_ip) = attached(&network, "one").await;
    let (two, two_ip) = attached(&network, "two").await;
    assert_eq!((one_ip.as_str(), two_ip.as_str()), ("10.42.0.2", "10.42.0.3"));

    // Directly, with their own addresses, and from the node and outwards.
    assert_eq!(one.ask(&format!("{two_ip}:8080")), Ok(format!("two {one_ip}")));
    assert_eq!(two.ask(&format!("{one_ip}:8080")), Ok(format!("one {two_ip}")));
    assert_eq!(ask(&format!("{one_ip}:8080")), Ok("one 10.42.0.1".into()));
    neighbour.serve("neighbour", 9000);
    assert_eq!(one.ask(&format!("{NEIGHBOUR_IP}:9000")), Ok(format!("neighbour {NODE_IP}")), "masqueraded");
    assert_eq!(one.run(|| ask("127.0.0.1:8080")), Ok("one 127.0.0.1".into()), "loopback is up");

    // A service without endpoints refuses at once, from everywhere.
    api.service("web", web());
    until("the service to refuse", async || one.ask("10.43.0.9:80") == Err(ErrorKind::ConnectionRefused)).await;
    assert_eq!(ask("10.43.0.9:80"), Err(ErrorKind::ConnectionRefused));
    assert_eq!(one.ask_udp("10.43.0.9:80"), Err(ErrorKind::ConnectionRefused));
    assert_eq!(neighbour.ask(&format!("{NODE_IP}:30080")), Err(ErrorKind::ConnectionRefused));
    assert_eq!(one.ask("10.43.0.9:81"), Err(ErrorKind::ConnectionRefused), "no such port");

    // With endpoints it balances over both, and a pod reaches itself through it.
    api.endpoints("web", 8080, &[(&one_ip, "here"), (&two_ip, "here")]);
    until("the service to answer", async || ask("10.43.0.9:80").is_ok()).await;
    assert_eq!(names(|_| ask("10.43.0.9:80")), both());
    assert_eq!(names(|_| one.ask("10.43.0.9:80")), both());
    assert_eq!(names(|_| two.ask_udp("10.43.0.9:80")), both());
    let seen: BTreeSet<_> = (0..40).filter_map(|_| one.ask("10.43.0.9:80").ok()).collect();
    assert!(seen.contains(&format!("two {one_ip}")), "the client's address stays: {seen:?}");

    // Node ports: from the node by each of its addresses, from pods, and from outside.
    assert_eq!(names(|_| ask(&format!("{NODE_IP}:30080"))), both());
    assert_eq!(names(|_| ask("127.0.0.1:30080")), both());
    assert_eq!(names(|_| one.ask(&format!("{NODE_IP}:30080"))), both());
    assert_eq!(names(|_| neighbour.ask(&format!("{NODE_IP}:30080"))), both());
    assert_eq!(names(|_| neighbour.ask_udp(&format!("{NODE_IP}:30080"))), both());

    // The API server, which is a process of the node.
    serve("apiserver", &format!("{NODE_IP}:6443"));
    let port = json!([{"name": "tcp", "port": 443, "protocol": "TCP"}]);
    api.service("kubernetes", json!({"clusterIP": "10.43.0.1", "ports": port}));
    api.endpoints("kubernetes", 6443, &[(NODE_IP, "here")]);
    until("the API server to answer", async || one.ask("10.43.0.1:443").is_ok()).await;
    assert_eq!(two.ask("10.43.0.1:443"), Ok(format!("apiserver {two_ip}")));
    assert_eq!(ask("10.43.0.1:443"), Ok("apiserver 10.42.0.1".into()));

    // What listens on the node's loopback stays unreachable, although node ports work there: not even for a pod that
    // sends 127.0.0.1 out.
    let local = std::net::TcpListener::bind("127.0.0.1:7000").expect("binds");
    one.run(|| {
        output("ip", &["addr", "del", "127.0.0.1/8", "dev", "lo"]);
        std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").expect("writes");
        output("ip", &["route", "add", "127.0.0.1/32", "via", "10.42.0.1", "src", "10.42.0.2"]);
    });
    assert_eq!(one.ask("127.0.0.1:7000"), Err(ErrorKind::TimedOut));
    drop(local);

    // Gone again: nothing answers, nothing is left.
    api.delete_service("web");
    until("the rules to go", async || !output("nft", &["list", "ruleset"]).contains("default/web")).await;
    network.del(&pod("one"), None).await.expect("detaches");
    network.del(&pod("one"), None).await.expect("detaching twice is no error");
    network.del(&pod("two"), Some(two.path.clone())).await.expect("detaches");
    assert!(!output("ip", &["-o", "link"]).contains("veth"), "{}", output("ip", &["-o", "link"]));
    let leases: Vec<_> = std::fs::read_dir(dir.path().join("agent/cni")).expect("is there").flatten().collect();
    assert_eq!(leases.len(), 1, "only the last address is remembered: {leases:?}");
    cancel.cancel();
    network.stopped().await;
    Network::cleanup(dir.path()).await.expect("cleans up");
    Network::cleanup(dir.path()).await.expect("cleaning up twice is no error");
    assert_eq!(output("nft", &["list", "ruleset"]), "");
    assert!(!output("ip", &["-o", "link"]).contains("cni0"));
}

const CORE: &str = "pods_reach_each_other_and_services_as_root";

#[test]
fn pods_reach_each_other_and_services_as_root() {
    in_own_namespace(CORE, pods_reach_each_other_and_services);
}

#[test]
fn pods_reach_each_other_and_services_as_an_ordinary_user() {
    as_an_ordinary_user(CORE);
}

#[test]
fn what_a_killed_process_left_is_taken_up_or_collected() {
    in_own_namespace("what_a_killed_process_left_is_taken_up_or_collected", async || {
        let (api, dir) = (Api::new(), tempfile::tempdir().expect("a directory"));
        api.service("web", web());
        let first = CancellationToken::new();
        let network = start(&api, dir.path(), &first, None).await;
        let (one, one_ip) = attached(&network, "one").await;
        let (_two, two_ip) = attached(&network, "two").await;
        api.endpoints("web", 8080, &[(&one_ip, "here"), (&two_ip, "here")]);
        until("the service to answer", async || ask("10.43.0.9:80").is_ok()).await;
        // Nothing is told to anybody: pods keep their network and their services.
        first.cancel();
        network.stopped().await;
        drop(network);
        assert_eq!(names(|_| one.ask("10.43.0.9:80")), both());

        let cancel = CancellationToken::new();
        let network = start(&api, dir.path(), &cancel, None).await;
        let again = network.add(&pod("one"), &one.path, &[]).await.expect("attaches again");
        assert_eq!(again.ips[0].to_string(), one_ip);
        assert_eq!(names(|_| one.ask("10.43.0.9:80")), both());
        // Killed between the lease and the interface, or the interface lost: adding it again makes it whole.
        output("ip", &["link", "del", "dev", &port_of(&one_ip)]);
        network.add(&pod("one"), &one.path, &[]).await.expect("attaches again");
        assert_eq!(ask(&format!("{one_ip}:8080")), Ok("one 10.42.0.1".into()));

        network.gc(&[pod("one").sandbox_id]).await.expect("collects");
        assert!(ask(&format!("{two_ip}:8080")).is_err());
        assert_eq!(ask(&format!("{one_ip}:8080")), Ok("one 10.42.0.1".into()));
        assert_eq!(output("ip", &["-o", "link"]).matches("veth").count(), 1);
        cancel.cancel();
        network.stopped().await;
    });
}

/// The bridge port whose other end has the address: by the hardware address made of it.
fn port_of(ip: &str) -> String {
    let parts: Vec<u8> = ip.split('.').map(|part| part.parse().expect("a number")).collect();
    let mac = format!("0a:58:{:02x}:{:02x}:{:02x}:{:02x}", parts[0], parts[1], parts[2], parts[3]);
    let known = output("bridge", &["fdb", "show", "br", "cni0"]);
    let line = known.lines().find(|line| line.starts_with(&mac)).unwrap_or_else(|| panic!("{mac} in {known}"));
    line.split(' ').nth(2).expect("a device").to_owned()
}

#[test]
fn a_local_policy_keeps_the_clients_address_and_drops_without_local_endpoints() {
    in_own_namespace("a_local_policy_keeps_the_clients_address_and_drops_without_local_endpoints", async || {
        let (api, dir, cancel) = (Api::new(), tempfile::tempdir().expect("a directory"), CancellationToken::new());
        let neighbour = Space::new();
        neighbour.become_neighbour();
        let network = start(&api, dir.path(), &cancel, None).await;
        let (one, one_ip) = attached(&network, "one").await;
        let mut spec = web();
        spec["externalTrafficPolicy"] = json!("Local");
        spec["externalIPs"] = json!(["198.51.100.7"]);
        api.service("web", spec);
        api.endpoints("web", 8080, &[(&one_ip, "here"), ("10.42.1.9", "elsewhere")]);
        neighbour.run(|| output("ip", &["route", "add", "198.51.100.7", "via", NODE_IP]));
        let node_port = format!("{NODE_IP}:30080");
        until("the node port to answer", async || neighbour.ask(&node_port).is_ok()).await;
        let expected = BTreeSet::from([format!("one {NEIGHBOUR_IP}")]);
        let answers: BTreeSet<_> = (0..20).map(|_| neighbour.ask(&node_port).expect("an answer")).collect();
        assert_eq!(answers, expected);
        assert_eq!(neighbour.ask("198.51.100.7:80"), Ok(format!("one {NEIGHBOUR_IP}")));
        // No local endpoint: dropped outside, but still there for pods.
        let (_two, two_ip) = attached(&network, "two").await;
        api.endpoints("web", 8080, &[(&two_ip, "elsewhere")]);
        until("the node port to fall silent", async || neighbour.ask(&node_port) == Err(ErrorKind::TimedOut)).await;
        assert_eq!(one.ask(&node_port), Ok(format!("two {one_ip}")));
        cancel.cancel();
        network.stopped().await;
    });
}

#[test]
fn a_client_keeps_its_endpoint_with_session_affinity() {
    in_own_namespace("a_client_keeps_its_endpoint_with_session_affinity", async || {
        let (api, dir, cancel) = (Api::new(), tempfile::tempdir().expect("a directory"), CancellationToken::new());
        let network = start(&api, dir.path(), &cancel, None).await;
        let (one, one_ip) = attached(&network, "one").await;
        let (_two, two_ip) = attached(&network, "two").await;
        let mut spec = web();
        spec["sessionAffinity"] = json!("ClientIP");
        api.service("web", spec);
        api.endpoints("web", 8080, &[(&one_ip, "here"), (&two_ip, "here")]);
        until("the service to answer", async || ask("10.43.0.9:80").is_ok()).await;
        assert_eq!(names(|_| one.ask("10.43.0.9:80")).len(), 1);
        cancel.cancel();
        network.stopped().await;
    });
}

#[test]
fn a_udp_client_that_keeps_its_port_finds_the_new_endpoint() {
    in_own_namespace("a_udp_client_that_keeps_its_port_finds_the_new_endpoint", async || {
        let (api, dir, cancel) = (Api::new(), tempfile::tempdir().expect("a directory"), CancellationToken::new());
        let network = start(&api, dir.path(), &cancel, None).await;
        let (_one, one_ip) = attached(&network, "one").await;
        let (_two, two_ip) = attached(&network, "two").await;
        let client = UdpSocket::bind("0.0.0.0:0").expect("binds");
        api.service("web", web());
        api.endpoints("web", 8080, &[(&one_ip, "here")]);
        until("the first endpoint", async || ask_udp_from(&client, "10.43.0.9:80").is_ok_and(|a| a.starts_with("one")))
            .await;
        api.endpoints("web", 8080, &[(&two_ip, "here")]);
        until("the second endpoint", async || {
            ask_udp_from(&client, "10.43.0.9:80").is_ok_and(|a| a.starts_with("two"))
        })
        .await;
        cancel.cancel();
        network.stopped().await;
    });
}

#[test]
fn a_host_port_leads_to_its_pod_and_to_nobody_elses() {
    in_own_namespace("a_host_port_leads_to_its_pod_and_to_nobody_elses", async || {
        let (api, dir, cancel) = (Api::new(), tempfile::tempdir().expect("a directory"), CancellationToken::new());
        let neighbour = Space::new();
        neighbour.become_neighbour();
        let network = start(&api, dir.path(), &cancel, None).await;
        let ports = |host_ip: &str, host_port| {
            [PortMapping { protocol: Protocol::Tcp, container_port: 8080, host_port, host_ip: host_ip.into() }]
        };
        let (one, two) = (Space::new(), Space::new());
        network.add(&pod("one"), &one.path, &ports("", 8000)).await.expect("attaches");
        network.add(&pod("two"), &two.path, &ports("127.0.0.1", 8001)).await.expect("attaches");
        one.serve("one", 8080);
        two.serve("two", 8080);
        assert_eq!(neighbour.ask(&format!("{NODE_IP}:8000")), Ok(format!("one {NEIGHBOUR_IP}")));
        assert_eq!(ask("127.0.0.1:8000"), Ok("one 10.42.0.1".into()));
        assert!(one.ask(&format!("{NODE_IP}:8000")).is_ok(), "its own pod");
        assert_eq!(ask("127.0.0.1:8001"), Ok("two 10.42.0.1".into()));
        assert_eq!(neighbour.ask(&format!("{NODE_IP}:8001")), Err(ErrorKind::ConnectionRefused));

        let third = Space::new();
        let refused = network.add(&pod("three"), &third.path, &ports("", 8001)).await.expect_err("is taken");
        assert!(
            refused.to_string().contains("host port 8001 of 0.0.0.0 is already used by pod default/two"),
            "{refused}"
        );
        network.del(&pod("one"), None).await.expect("detaches");
        until("the host port to go", async || ask("127.0.0.1:8000") == Err(ErrorKind::ConnectionRefused)).await;
        cancel.cancel();
        network.stopped().await;
    });
}

#[test]
fn the_table_reads_as_it_was_meant() {
    in_own_namespace("the_table_reads_as_it_was_meant", async || {
        let (api, dir, cancel) = (Api::new(), tempfile::tempdir().expect("a directory"), CancellationToken::new());
        api.service("web", web());
        api.endpoints("web", 8080, &[("10.42.0.2", "here"), ("10.42.1.2", "there")]);
        let network = start(&api, dir.path(), &cancel, None).await;
        let ruleset = output("nft", &["list", "ruleset"]);
        for expected in [
            "type nat hook prerouting priority dstnat; policy accept;",
            "ip daddr . meta l4proto . th dport vmap @service-ips",
            "10.43.0.9 . tcp . 80 : goto svc-",
            "udp . 30080 : goto ext-",
            "numgen random mod 2 map { 0 : 10.42.0.2 . 8080, 1 : 10.42.1.2 . 8080 }",
            "ip saddr 10.42.0.0/16 ip daddr != 10.42.0.0/16 ip daddr != 224.0.0.0/4 oifname != \"lo\" masquerade fully-random",
            "reject with tcp reset",
        ] {
            assert!(ruleset.contains(expected), "{expected:?} in {ruleset}");
        }
        cancel.cancel();
        network.stopped().await;
    });
}

#[test]
fn services_are_left_alone_where_somebody_else_proxies() {
    in_own_namespace("services_are_left_alone_where_somebody_else_proxies", async || {
        let (api, dir, cancel) = (Api::new(), tempfile::tempdir().expect("a directory"), CancellationToken::new());
        api.service("web", web());
        api.endpoints("web", 8080, &[("10.42.0.2", "here")]);
        // What an earlier start with a proxy has set up goes.
        let earlier = CancellationToken::new();
        let before = start(&api, dir.path(), &earlier, None).await;
        assert!(output("nft", &["list", "ruleset"]).contains("10.43.0.9"));
        earlier.cancel();
        before.stopped().await;
        let network = start_without_proxy(&api, dir.path(), &cancel).await;
        let ruleset = output("nft", &["list", "ruleset"]);
        assert!(!ruleset.contains("10.43.0.9") && !ruleset.contains("svc-"), "{ruleset}");
        assert!(ruleset.contains("masquerade fully-random"), "{ruleset}");
        let (one, one_ip) = attached(&network, "one").await;
        let (_two, two_ip) = attached(&network, "two").await;
        assert_eq!(one.ask(&format!("{two_ip}:8080")), Ok(format!("two {one_ip}")));
        cancel.cancel();
        network.stopped().await;
    });
}

/// Ports of a host whose relay connects in its clients' name.
#[derive(Default)]
struct Marked {
    back: std::sync::atomic::AtomicBool,
}

#[async_trait::async_trait]
impl k3s_network::HostPorts for Marked {
    async fn open(&self, _: Protocol, _: std::net::SocketAddr, _: std::net::SocketAddr) -> std::io::Result<()> {
        Ok(())
    }

    async fn close(&self, _: Protocol, _: std::net::SocketAddr) -> std::io::Result<()> {
        Ok(())
    }

    fn client_mark(&self) -> Option<u32> {
        Some(0x10_0000)
    }

    fn client_addresses_come_back(&self) {
        self.back.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn answers_to_a_relays_clients_are_delivered_here() {
    in_own_namespace("answers_to_a_relays_clients_are_delivered_here", async || {
        let (api, dir) = (Api::new(), tempfile::tempdir().expect("a directory"));
        api.service("web", web());
        api.endpoints("web", 8080, &[("10.42.0.2", "here")]);
        // Twice: the second start finds in place what the first has set up.
        for _ in 0..2 {
            let cancel = CancellationToken::new();
            let host = std::sync::Arc::new(Marked::default());
            let network = start(&api, dir.path(), &cancel, Some(host.clone())).await;
            assert!(host.back.load(std::sync::atomic::Ordering::Relaxed));
            cancel.cancel();
            network.stopped().await;
        }
        let table = output("nft", &["list", "table", "ip", "k3s-clients"]);
        for expected in [
            "type route hook output priority mangle; policy accept;",
            "ct direction reply ct mark & 0x00100000 == 0x00100000 meta mark set 0x00200000",
            "ct direction original meta mark & 0x00100000 == 0x00100000 ct mark set 0x00100000",
            "ip daddr 10.42.0.0/24 meta mark set meta mark & 0xffffbfff",
        ] {
            assert!(table.contains(expected), "{expected:?} in {table}");
        }
        assert!(output("ip", &["rule"]).contains("fwmark 0x200000 lookup 1715"), "{}", output("ip", &["rule"]));
        assert_eq!(
            output("ip", &["route", "list", "table", "1715"]).trim(),
            "local default dev lo proto static scope host"
        );
    });
}

const THOUSAND: &str = "a_thousand_services_are_synced_in_no_time";

/// There a transaction is limited by `net.core.wmem_max`, so that so many services take several.
#[test]
fn a_thousand_services_are_synced_as_an_ordinary_user() {
    as_an_ordinary_user(THOUSAND);
}

#[test]
fn a_thousand_services_are_synced_in_no_time() {
    in_own_namespace(THOUSAND, async || {
        let (api, dir, cancel) = (Api::new(), tempfile::tempdir().expect("a directory"), CancellationToken::new());
        for n in 0..1001 {
            let name = format!("service-{n}");
            let ip = format!("10.43.{}.{}", 1 + n / 250, 1 + n % 250);
            api.service(&name, json!({"clusterIP": ip, "ports": [{"name": "tcp", "port": 80, "protocol": "TCP"}]}));
            let endpoints = [("10.42.0.2", "here"), ("10.42.0.3", "here"), ("10.42.1.2", "there")];
            api.endpoints(&name, 8080, if n < 1000 { &endpoints } else { &[] });
        }
        let started = Instant::now();
        let network = start(&api, dir.path(), &cancel, None).await;
        let first = started.elapsed();
        let (_one, one_ip) = attached(&network, "one").await;
        assert_eq!(output("nft", &["list", "map", "ip", "k3s", "service-ips"]).matches("goto").count(), 1000);

        // The last of them has no endpoint yet.
        assert_eq!(ask("10.43.5.1:80"), Err(ErrorKind::ConnectionRefused));
        let started = Instant::now();
        api.endpoints("service-1000", 8080, &[(&one_ip, "here")]);
        until("the changed service", async || ask("10.43.5.1:80").is_ok()).await;
        let change = started.elapsed();
        eprintln!("1,000 services: first sync with start {first:?}, change of one {change:?}");
        assert!(first < Duration::from_secs(20) && change < Duration::from_secs(5), "{first:?} {change:?}");
        cancel.cancel();
        network.stopped().await;
    });
}
