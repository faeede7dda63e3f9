//! Ports of the host that are led inside, by each port driver.

mod machine;

use std::io::Read;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use machine::{Launched, NETWORK, PATIENCE, User, can_launch};

/// A client's address on the host, and what the server inside says it is.
fn ask_tcp(k3s: &Launched, from: &'static str, to: &'static str) -> (SocketAddr, String) {
    k3s.on_host(move || {
        use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
        // A socket of the standard library can't be bound before it connects.
        let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket(family, SocketType::STREAM, None).unwrap();
        bind(&socket, &from).unwrap();
        connect(&socket, &to).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        (stream.local_addr().unwrap(), said)
    })
}

fn ask_udp(k3s: &Launched, from: &'static str, to: &'static str) -> (SocketAddr, String) {
    k3s.on_host(move || {
        let socket = UdpSocket::bind(from).unwrap();
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send(b"who?").unwrap();
        let mut said = [0; 64];
        let length = socket.recv(&mut said).unwrap();
        (socket.local_addr().unwrap(), String::from_utf8(said[..length].to_vec()).unwrap())
    })
}

/// What `k3s-network` sets up: answers to connections in a client's name come back.
const WAY_BACK: &str = r#"sh PATH=$PATH:/usr/sbin:/sbin; ip rule add fwmark 0x200000/0x200000 lookup 1715 priority 100 && ip route add local default dev lo table 1715 && nft "table ip way-back { chain out { type route hook output priority -150; ct direction reply ct mark and 0x100000 == 0x100000 meta mark set 0x200000; ct direction original meta mark and 0x100000 == 0x100000 ct mark set meta mark; }; chain in { type filter hook prerouting priority -150; ct direction reply ct mark and 0x100000 == 0x100000 meta mark set 0x200000; }; }""#;

/// A pod: a network of its own behind a bridge, with a server that says who asks.
fn start_pod(k3s: &mut Launched) {
    let script = concat!(
        "sh PATH=$PATH:/usr/sbin:/sbin; ",
        "mkfifo $HOME/pod; unshare -n sh -c 'echo up; exec sleep 100000' > $HOME/pod 2>/dev/null </dev/null & pod=$!; read _ < $HOME/pod; ",
        "ip link add v0 type veth peer name eth0 netns $pod && ip address add 10.42.0.1/24 dev v0 && ip link set v0 up && ",
        "nsenter -t $pod -n sh -c 'ip address add 10.42.0.7/24 dev eth0; ip link set eth0 up; ip route add default via 10.42.0.1'; ",
        "nsenter -t $pod -n $HOME/../launch who 10.42.0.7:80 > $HOME/pod 2>&1 & head -n 1 $HOME/pod"
    );
    assert_eq!(k3s.ask(script), "ready");
    let node_port = r#"sh PATH=$PATH:/usr/sbin:/sbin; nft "table ip node-ports { chain out { type nat hook output priority -100; ip daddr 10.41.0.100 meta l4proto { tcp, udp } th dport 30080 dnat to 10.42.0.7:80; }; }""#;
    assert_eq!(k3s.ask(node_port), "");
}

#[test]
fn a_relay_keeps_the_clients_address_for_a_pod_a_node_port_and_a_server_of_the_node() {
    if !can_launch() {
        return;
    }
    let user = User::new(20).on(NETWORK);
    let mut k3s = user.launch(&[]);
    start_pod(&mut k3s);
    assert_eq!(k3s.ask("who 10.41.0.100:7000"), "here");
    for (port, target) in [(8001, "10.42.0.7:80"), (8002, "10.41.0.100:30080"), (8003, "10.41.0.100:7000")] {
        for protocol in ["tcp", "udp"] {
            let said = k3s.ask(&format!("publish {protocol} 0.0.0.0:{port} {target}"));
            assert!(said.ends_with(&format!(" 0.0.0.0:{port}")), "{said}");
        }
    }
    // Before the way back is there, the node itself asks.
    assert!(ask_tcp(&k3s, "198.51.100.2:0", "198.51.100.1:8001").1.starts_with("10.42.0.1:"));
    assert!(ask_udp(&k3s, "198.51.100.2:0", "198.51.100.1:8001").1.starts_with("10.42.0.1:"));
    assert_eq!(k3s.ask(WAY_BACK), "");
    assert_eq!(k3s.ask("keep"), "kept");
    for to in ["198.51.100.1:8001", "198.51.100.1:8002", "198.51.100.1:8003"] {
        let (client, seen) = ask_tcp(&k3s, "198.51.100.2:0", to);
        assert_eq!(seen, client.to_string(), "TCP {to}");
        let (client, seen) = ask_udp(&k3s, "198.51.100.2:0", to);
        assert_eq!(seen, client.to_string(), "UDP {to}");
    }
    // The host's loopback would be the pod's own in there.
    assert!(ask_tcp(&k3s, "127.0.0.1:0", "127.0.0.1:8001").1.starts_with("10.42.0.1:"));
    assert!(ask_udp(&k3s, "127.0.0.1:0", "127.0.0.1:8001").1.starts_with("10.42.0.1:"));
}

/// The same for IPv6, and a pod that has it. slirp4netns gives the device an address and the default route.
const WAY_BACK_IPV6: &str = concat!(
    "sh PATH=$PATH:/usr/sbin:/sbin; ip -6 rule add fwmark 0x200000/0x200000 lookup 1715 priority 100 && ",
    "ip -6 route add local default dev lo table 1715 && ",
    r#"nft "table ip6 way-back { chain out { type route hook output priority -150; ct direction reply ct mark and 0x100000 == 0x100000 meta mark set 0x200000; ct direction original meta mark and 0x100000 == 0x100000 ct mark set meta mark; }; chain in { type filter hook prerouting priority -150; ct direction reply ct mark and 0x100000 == 0x100000 meta mark set 0x200000; }; }""#
);

#[test]
fn a_relay_keeps_the_clients_address_with_ipv6_as_well() {
    if !can_launch() {
        return;
    }
    let user = User::new(26).on(concat!(
        "ip link set lo up; ip link add lan0 type veth peer name lan1; ip link set lan1 up; ip link set lan0 up;",
        "ip address add 198.51.100.1/24 dev lan0; ip route add default via 198.51.100.254;",
        "ip -6 address add 2001:db8::1/64 dev lan0 nodad; ip -6 address add 2001:db8::2/64 dev lan0 nodad"
    ));
    let mut k3s = user.launch(&[("K3S_ROOTLESS_ENABLE_IPV6", "true")]);
    let pod = concat!(
        "sh PATH=$PATH:/usr/sbin:/sbin; ",
        "mkfifo $HOME/pod; unshare -n sh -c 'echo up; exec sleep 100000' > $HOME/pod 2>/dev/null </dev/null & pod=$!; read _ < $HOME/pod; ",
        "ip link add v0 type veth peer name eth0 netns $pod && ip -6 address add fd42::1/64 dev v0 nodad && ip link set v0 up && ",
        "nsenter -t $pod -n sh -c 'ip -6 address add fd42::7/64 dev eth0 nodad; ip link set eth0 up; ip -6 route add default via fd42::1'; ",
        // The device's own address comes with the driver's first advertisement.
        "until ip -6 route get 2001:db8::2 2>&1 | grep -q 'dev tap0 .*src fd00'; do sleep 0.05; done; ",
        "sysctl -qw net.ipv6.conf.all.forwarding=1; ",
        "nsenter -t $pod -n $HOME/../launch who [fd42::7]:80 > $HOME/pod 2>&1 & head -n 1 $HOME/pod"
    );
    assert_eq!(k3s.ask(pod), "ready");
    for protocol in ["tcp", "udp"] {
        let said = k3s.ask(&format!("publish {protocol} [::]:8001 [fd42::7]:80"));
        assert!(said.ends_with(" [::]:8001"), "{said}");
    }
    assert!(ask_tcp(&k3s, "[2001:db8::2]:0", "[2001:db8::1]:8001").1.starts_with("[fd42::1]:"));
    assert!(ask_udp(&k3s, "[2001:db8::2]:0", "[2001:db8::1]:8001").1.starts_with("[fd42::1]:"));
    assert_eq!(k3s.ask(WAY_BACK_IPV6), "");
    assert_eq!(k3s.ask("keep"), "kept");
    let (client, seen) = ask_tcp(&k3s, "[2001:db8::2]:0", "[2001:db8::1]:8001");
    assert_eq!(seen, client.to_string());
    let (client, seen) = ask_udp(&k3s, "[2001:db8::2]:0", "[2001:db8::1]:8001");
    assert_eq!(seen, client.to_string());
    assert!(ask_tcp(&k3s, "[::1]:0", "[::1]:8001").1.starts_with("[fd42::1]:"), "loopback would be the pod's own");
}

/// Where the inside has no IPv6, which is the usual case, a server sees the node.
#[test]
fn clients_of_ipv6_reach_a_server_of_ipv4() {
    if !can_launch() {
        return;
    }
    let user = User::new(27).on(concat!(
        "ip link set lo up; ip link add lan0 type veth peer name lan1; ip link set lan1 up; ip link set lan0 up;",
        "ip address add 198.51.100.1/24 dev lan0; ip route add default via 198.51.100.254;",
        "ip -6 address add 2001:db8::1/64 dev lan0 nodad; ip -6 address add 2001:db8::2/64 dev lan0 nodad"
    ));
    let mut k3s = user.launch(&[]);
    assert_eq!(k3s.ask("who 127.0.0.1:7000"), "here");
    assert_eq!(k3s.ask("keep"), "kept");
    for (id, protocol) in [(1, "tcp"), (3, "udp")] {
        // Beside each other: these are two ports.
        assert_eq!(k3s.ask(&format!("publish {protocol} 0.0.0.0:8001 127.0.0.1:7000")), format!("{id} 0.0.0.0:8001"));
        let listening = format!("{} [::]:8001", id + 1);
        assert_eq!(k3s.ask(&format!("publish {protocol} [::]:8001 127.0.0.1:7000")), listening);
    }
    for (from, to) in [("[::1]:0", "[::1]:8001"), ("[2001:db8::2]:0", "[2001:db8::1]:8001")] {
        assert!(ask_tcp(&k3s, from, to).1.starts_with("127.0.0.1:"), "TCP {to}");
        assert!(ask_udp(&k3s, from, to).1.starts_with("127.0.0.1:"), "UDP {to}");
    }
}

#[test]
fn ports_come_and_go_while_all_runs_and_one_in_use_is_named() {
    if !can_launch() {
        return;
    }
    let user = User::new(21).on(NETWORK);
    let mut k3s = user.launch(&[]);
    assert_eq!(k3s.ask("who 127.0.0.1:7000"), "here");
    assert_eq!(k3s.ask("publish tcp 127.0.0.1:8001 127.0.0.1:7000"), "1 127.0.0.1:8001");
    assert!(ask_tcp(&k3s, "127.0.0.1:0", "127.0.0.1:8001").1.starts_with("127.0.0.1:"));
    let twice = k3s.ask("publish tcp 127.0.0.1:8001 127.0.0.1:7001");
    assert!(twice.contains("127.0.0.1:8001") && twice.contains("127.0.0.1:7000"), "{twice}");
    let taken = k3s.on_host(|| std::net::TcpListener::bind("127.0.0.1:8002").unwrap());
    let refused = k3s.ask("publish tcp 127.0.0.1:8002 127.0.0.1:7000");
    assert!(refused.contains("TCP port 127.0.0.1:8002") && refused.contains("in use"), "{refused}");
    drop(taken);
    assert_eq!(k3s.ask("publish tcp 127.0.0.1:8002 127.0.0.1:7000"), "2 127.0.0.1:8002");
    assert_eq!(k3s.ask("withdraw 1"), "withdrawn");
    k3s.on_host(|| TcpStream::connect("127.0.0.1:8001").expect_err("the port is still open"));
    assert_eq!(k3s.ask("publish tcp 127.0.0.1:8001 127.0.0.1:7000"), "3 127.0.0.1:8001");
    assert!(k3s.ask("withdraw 1").contains("id 1"));
}

#[test]
fn a_low_port_is_opened_as_it_is_where_the_host_allows_and_10000_higher_elsewhere() {
    if !can_launch() {
        return;
    }
    let user = User::new(22).on(NETWORK);
    let mut k3s = user.launch(&[]);
    assert_eq!(k3s.ask("publish tcp 127.0.0.1:80 127.0.0.1:7000"), "1 127.0.0.1:10080");
    k3s.on_host(|| std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "443").unwrap());
    assert_eq!(k3s.ask("publish tcp 127.0.0.1:443 127.0.0.1:7000"), "2 127.0.0.1:443");
}

#[test]
fn slirp4netns_forwards_ports_and_goes_on_after_its_end() {
    if !can_launch() {
        return;
    }
    let user = User::new(23).on(NETWORK);
    let mut k3s = user.launch(&[("K3S_ROOTLESS_PORT_DRIVER", "slirp4netns")]);
    assert_eq!(k3s.ask("who 127.0.0.1:7000"), "here");
    assert_eq!(k3s.ask("publish tcp 198.51.100.1:8001 127.0.0.1:7000"), "1 198.51.100.1:8001");
    assert_eq!(k3s.ask("publish udp 198.51.100.1:8001 127.0.0.1:7000"), "2 198.51.100.1:8001");
    let refused = k3s.ask("publish tcp 198.51.100.1:1 127.0.0.1:7000");
    assert_eq!(refused, "3 198.51.100.1:10001");
    assert_eq!(k3s.ask("tcp 198.51.100.1:8002"), "listening");
    let again = k3s.ask("tcp 198.51.100.1:8002");
    assert!(again.contains("in use"), "{again}");
    for round in 0..2 {
        assert!(ask_tcp(&k3s, "198.51.100.2:0", "198.51.100.1:8001").1.starts_with("127.0.0.1:"), "round {round}");
        assert!(ask_udp(&k3s, "198.51.100.2:0", "198.51.100.1:8001").1.starts_with("127.0.0.1:"), "round {round}");
        if round == 0 {
            k3s.process("slirp4netns").kill(PATIENCE).unwrap();
            // The launcher answers after it has started the driver anew.
            let again = k3s.ask("tcp 198.51.100.1:8002");
            assert!(again.contains("in use"), "{again}");
        }
    }
    // A server that accepts itself sees the client, whom slirp4netns keeps.
    k3s.tell("accept");
    let (client, said) = ask_tcp(&k3s, "198.51.100.2:0", "198.51.100.1:8002");
    assert_eq!((k3s.answer(), said.as_str()), (client.to_string(), "from inside"));
    assert_eq!(k3s.ask("withdraw 1"), "withdrawn");
    k3s.on_host(|| TcpStream::connect("198.51.100.1:8001").expect_err("the port is still open"));
}

#[test]
fn without_a_port_driver_no_port_is_opened() {
    if !can_launch() {
        return;
    }
    let user = User::new(24).on(NETWORK);
    let mut k3s = user.launch(&[("K3S_ROOTLESS_PORT_DRIVER", "none")]);
    let refused = k3s.ask("publish tcp 127.0.0.1:8001 127.0.0.1:7000");
    assert!(refused.contains("K3S_ROOTLESS_PORT_DRIVER"), "{refused}");
    assert_eq!(k3s.ask("tcp 0.0.0.0:6443"), "listening");
    k3s.on_host(|| TcpStream::connect("127.0.0.1:6443").expect_err("the port is open on the host"));
}

#[test]
fn rootlessctl_speaks_with_it() {
    if !can_launch() {
        return;
    }
    if !std::path::Path::new("/usr/bin/rootlessctl").exists() {
        eprintln!("skipped: it needs rootlessctl (Debian: rootlesskit)");
        return;
    }
    let user = User::new(25).on(NETWORK);
    let mut k3s = user.launch(&[]);
    assert_eq!(k3s.ask("who 127.0.0.1:7000"), "here");
    let socket = user.state_dir().join("api.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let rootlessctl = |arguments: &[&str]| {
        let output = Command::new("rootlessctl").arg("--socket").arg(&socket).args(arguments).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (ok, info, error) = rootlessctl(&["info", "--json"]);
    assert!(ok, "{error}");
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["childPID"], user.init().unwrap().pid);
    assert_eq!(info["stateDir"], user.state_dir().to_str().unwrap());
    assert_eq!(info["networkDriver"]["driver"], "slirp4netns");
    assert_eq!(info["networkDriver"]["childIP"], "10.41.0.100");
    assert_eq!(info["networkDriver"]["dns"][0], "10.41.0.3");
    assert_eq!(info["portDriver"]["driver"], "builtin");
    assert!(rootlessctl(&["info"]).0);

    let (ok, id, error) = rootlessctl(&["add-ports", "127.0.0.1:8001:7000/tcp"]);
    assert_eq!((ok, id.trim(), error.as_str()), (true, "1", ""));
    assert!(ask_tcp(&k3s, "127.0.0.1:0", "127.0.0.1:8001").1.starts_with("127.0.0.1:"));
    let (_, list, _) = rootlessctl(&["list-ports"]);
    let line = list.lines().nth(1).unwrap_or_default().split_whitespace().collect::<Vec<_>>();
    assert_eq!(line[..4], ["1", "tcp", "127.0.0.1", "8001"], "{list}");
    let (ok, _, error) = rootlessctl(&["add-ports", "127.0.0.1:8001:7000/tcp"]);
    assert!(!ok && error.contains("127.0.0.1:8001"), "{error}");
    assert_eq!(rootlessctl(&["remove-ports", "1"]).1.trim(), "1");
    assert_eq!(rootlessctl(&["list-ports", "--json"]).1.trim(), "");
    let (ok, _, error) = rootlessctl(&["remove-ports", "1"]);
    assert!(!ok && error.contains("id 1"), "{error}");
}
