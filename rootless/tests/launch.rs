//! Real launches, as an ordinary user.

mod machine;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;

use k3s_rootless::process::ProcessId;
use machine::{User, accept, await_end, can_launch, namespaces};
use rustix::process::Signal;

#[test]
fn inside_it_is_root_with_a_system_of_its_own() {
    if !can_launch() {
        return;
    }
    let user = User::new(0);
    let mut k3s = user.launch(&[]);
    assert_eq!(k3s.ask("sh id -u; id -g"), "0\n0");
    assert_eq!(k3s.ask("sh cat /proc/self/uid_map | wc -l"), "2");
    let capabilities = "sh grep -E 'CapEff|CapBnd' /proc/self/status | cut -f 2 | uniq | wc -l";
    assert_eq!(k3s.ask(capabilities), "1", "capabilities are missing");
    assert_eq!(k3s.ask("sh cat /proc/1/comm"), "k3s-init");
    assert_eq!(k3s.ask("sh ls /sys/class/net"), "lo\ntap0");
    assert_eq!(k3s.ask("sh cat /sys/class/net/tap0/mtu"), "1500");
    assert_eq!(k3s.ask("sh echo $HOME"), user.home().display().to_string());
    assert_eq!(k3s.ask("sh pwd"), user.home().display().to_string());
    assert_eq!(k3s.ask("sh env | grep _K3S_ROOTLESS"), "exit status: 1");
    assert_eq!(k3s.ask("sh hostname"), hostname());
    let server = k3s.process("launch").pid;
    let all_new = namespaces(server).iter().zip(namespaces(std::process::id() as i32)).all(|(a, b)| *a != b);
    assert!(all_new, "{:?}", namespaces(server));
}

fn hostname() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned()
}

#[test]
fn system_directories_can_be_written_and_the_hosts_stay_as_they_are() {
    if !can_launch() {
        return;
    }
    let user = User::new(1);
    let mut k3s = user.launch(&[]);
    for dir in ["/etc", "/run", "/var/run", "/var/lib"] {
        let file = format!("{dir}/k3s-rootless-test");
        assert_eq!(k3s.ask(&format!("sh echo inside > {file} && cat {file}")), "inside");
        assert!(!Path::new(&file).exists(), "{file} is on the host");
    }
    assert_eq!(k3s.ask("sh head -1 /etc/passwd"), fs::read_to_string("/etc/passwd").unwrap().lines().next().unwrap());
    assert_eq!(k3s.ask("sh head -1 /etc/resolv.conf"), "nameserver 10.41.0.3");
    let name = hostname();
    assert_eq!(k3s.ask(&format!("sh grep -w {name} /etc/hosts")), format!("10.41.0.100 {name}"));
    // What k3s keeps in the data directory.
    assert_eq!(k3s.ask("sh echo kept > /var/lib/kubelet/file; echo kept > /var/log/file"), "");
    for file in ["kubelet/file", "logs/file"] {
        assert_eq!(fs::read_to_string(user.data_dir().join(file)).unwrap(), "kept\n");
    }
    assert_eq!(k3s.ask("sh echo $(ls -d /proc/[0-9]* | wc -l)").len(), 1, "the host's processes show");
}

#[test]
fn a_data_directory_below_a_copied_up_one_stays_writable() {
    if !can_launch() {
        return;
    }
    let user = User::new(2);
    let home = user.home();
    let copied = home.parent().unwrap().to_str().unwrap();
    let mut k3s = user.launch(&[("K3S_ROOTLESS_COPYUPDIRS", copied)]);
    let file = user.data_dir().join("file");
    assert_eq!(k3s.ask(&format!("sh echo kept > {}", file.display())), "");
    assert_eq!(fs::read_to_string(&file).unwrap(), "kept\n");
    assert_eq!(k3s.ask(&format!("sh echo lost > {copied}/file && cat {copied}/file")), "lost");
    assert!(!Path::new(copied).join("file").exists());
}

#[test]
fn the_way_out_goes_through_the_driver() {
    if !can_launch() {
        return;
    }
    let user = User::new(3);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut k3s = user.launch(&[
        ("K3S_ROOTLESS_DISABLE_HOST_LOOPBACK", "false"),
        ("K3S_ROOTLESS_CIDR", "10.77.0.0/24"),
        ("K3S_ROOTLESS_MTU", "9000"),
    ]);
    let network = k3s.info().network;
    assert_eq!((network.address.to_string(), network.mtu), ("10.77.0.100".to_owned(), 9000));
    assert_eq!(k3s.ask("sh cat /sys/class/net/tap0/mtu"), "9000");
    k3s.tell(&format!("connect {}:{port}", network.gateway.unwrap()));
    accept(&listener).write_all(b"the host").unwrap();
    assert_eq!(k3s.answer(), "the host");
    // The driver is not needed for the namespace's own loopback.
    assert!(k3s.ask(&format!("connect 127.0.0.1:{port}")).contains("refused"));
}

#[test]
fn the_hosts_loopback_is_out_of_reach_by_default() {
    if !can_launch() {
        return;
    }
    let user = User::new(4);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut k3s = user.launch(&[]);
    let answer = k3s.ask(&format!("connect 10.41.0.2:{port}"));
    assert!(answer.starts_with("error:"), "{answer}");
}

#[test]
fn a_port_of_the_host_is_served_from_inside_with_the_clients_address() {
    if !can_launch() {
        return;
    }
    let user = User::new(5);
    let mut k3s = user.launch(&[]);
    let port = free_port();
    assert_eq!(k3s.ask(&format!("tcp 127.0.0.1:{port}")), "listening");
    let again = k3s.ask(&format!("tcp 127.0.0.1:{port}"));
    assert!(again.contains(&format!("127.0.0.1:{port}")) && again.contains("in use"), "{again}");

    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert_eq!(k3s.ask("accept"), client.local_addr().unwrap().to_string());
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "from inside");

    assert_eq!(k3s.ask(&format!("udp 127.0.0.1:{port}")), "bound");
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(b"ping", ("127.0.0.1", port)).unwrap();
    assert_eq!(k3s.ask("receive"), client.local_addr().unwrap().to_string());
    let mut datagram = [0; 8];
    assert_eq!(client.recv(&mut datagram).unwrap(), 4);

    assert_eq!(k3s.ask("close"), "closed");
    TcpStream::connect(("127.0.0.1", port)).expect_err("the port is still open");
    assert_eq!(k3s.ask(&format!("tcp 127.0.0.1:{port}")), "listening");
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_port_for_root_only_is_refused_as_such() {
    if !can_launch() {
        return;
    }
    let first: u16 =
        fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap().trim().parse().unwrap();
    if first < 2 {
        eprintln!("skipped: every port is open to ordinary users here");
        return;
    }
    let user = User::new(6);
    let mut k3s = user.launch(&[]);
    let answer = k3s.ask("tcp 127.0.0.1:1");
    assert!(answer.contains("ip_unprivileged_port_start"), "{answer}");
}

#[test]
fn a_second_launch_names_the_first() {
    if !can_launch() {
        return;
    }
    let user = User::new(7);
    let mut k3s = user.launch(&[]);
    let (status, says) = user.fail();
    assert_eq!(status.code(), Some(1));
    assert!(says.contains(&format!("process {}", k3s.pid())), "{says}");
    assert_eq!(k3s.ask("sh echo unharmed"), "unharmed");
}

#[test]
fn the_servers_status_is_the_launchers() {
    if !can_launch() {
        return;
    }
    let user = User::new(8);
    let mut k3s = user.launch(&[]);
    k3s.tell("exit 7");
    assert_eq!(k3s.wait().code(), Some(7));
    let mut k3s = user.launch(&[]);
    k3s.signal(Signal::TERM);
    assert_eq!(k3s.wait().code(), Some(128 + 15), "the signal is passed on");
}

#[test]
fn without_pods_nothing_is_left() {
    if !can_launch() {
        return;
    }
    let user = User::new(9);
    let mut k3s = user.launch(&[]);
    let (init, driver) = (k3s.process("k3s-init"), k3s.process("slirp4netns"));
    k3s.tell("exit 0");
    assert_eq!(k3s.wait().code(), Some(0));
    assert!(!driver.is_alive(), "the launcher waits for its driver");
    await_end(&Some(init));
    user.assert_no_processes();
    assert_eq!(user.init(), None, "the init leaves no record");
}

#[test]
fn pods_outlive_kill_9_and_the_next_launch_joins_them() {
    if !can_launch() {
        return;
    }
    let user = User::new(10);
    let mut k3s = user.launch(&[]);
    // As a shim does: a session of its own, and no parent.
    let pod = "sh (setsid sleep 100000 </dev/null >/dev/null 2>&1 & echo $!)";
    let pod_inside: i32 = k3s.ask(pod).parse().unwrap();
    k3s.ask("sh echo kept > /etc/k3s-rootless-test");
    let (init, driver, server) = (k3s.process("k3s-init"), k3s.process("slirp4netns"), k3s.process("launch"));
    let before = namespaces(server.pid);

    k3s.signal(Signal::KILL);
    k3s.wait();
    await_end(&Some(server));
    await_end(&Some(driver));
    assert!(init.is_alive());

    let mut k3s = user.launch(&[]);
    assert_eq!(namespaces(k3s.process("launch").pid), before);
    assert_eq!(user.init().as_ref(), Some(&init));
    assert_eq!(k3s.ask(&format!("sh cat /proc/{pod_inside}/comm /etc/k3s-rootless-test")), "sleep\nkept");
    assert_eq!(k3s.ask("sh ls /sys/class/net"), "lo\ntap0");

    // Now the server alone: the launcher says how it ended, and the pod goes on.
    let server = k3s.process("launch");
    server.kill(machine::PATIENCE).unwrap();
    assert_eq!(k3s.wait().code(), Some(128 + 9));
    assert!(init.is_alive());

    let mut k3s = user.launch(&[]);
    assert_eq!(k3s.ask(&format!("sh cat /proc/{pod_inside}/comm")), "sleep");
    k3s.tell("exit 0");
    k3s.wait();
    assert!(init.is_alive(), "a clean stop leaves pods running");

    assert!(k3s_rootless::killall(&user.state_dir()).unwrap());
    user.assert_no_processes();
    assert!(!k3s_rootless::killall(&user.state_dir()).unwrap(), "there is nothing more to end");
}

#[test]
fn the_init_leaves_when_its_last_pod_ends() {
    if !can_launch() {
        return;
    }
    let user = User::new(11);
    let mut k3s = user.launch(&[]);
    k3s.ask("sh (setsid sleep 100000 </dev/null >/dev/null 2>&1 &)");
    let init = k3s.process("k3s-init");
    k3s.tell("exit 0");
    k3s.wait();
    let pod = user.processes().into_iter().find(|&pid| pid != init.pid).unwrap();
    ProcessId::of(pod).unwrap().kill(machine::PATIENCE).unwrap();
    await_end(&Some(init));
    user.assert_no_processes();
}

#[test]
fn killall_ends_a_running_server_too() {
    if !can_launch() {
        return;
    }
    let user = User::new(12);
    let mut k3s = user.launch(&[]);
    assert!(k3s_rootless::killall(&user.state_dir()).unwrap());
    assert_eq!(k3s.wait().code(), Some(128 + 9));
    user.assert_no_processes();
}

#[test]
fn a_killed_driver_is_started_anew() {
    if !can_launch() {
        return;
    }
    let user = User::new(13);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut k3s = user.launch(&[("K3S_ROOTLESS_DISABLE_HOST_LOOPBACK", "false")]);
    k3s.process("slirp4netns").kill(machine::PATIENCE).unwrap();
    // A port is opened by the same loop that starts the driver, so its answer comes after.
    let other = free_port();
    assert_eq!(k3s.ask(&format!("tcp 127.0.0.1:{other}")), "listening");
    k3s.tell(&format!("connect 10.41.0.2:{port}"));
    accept(&listener).write_all(b"again").unwrap();
    assert_eq!(k3s.answer(), "again");
}

#[test]
fn launcher_and_init_are_small() {
    if !can_launch() {
        return;
    }
    let user = User::new(14);
    let k3s = user.launch(&[]);
    let kib = |pid: i32, field: &str| -> u64 {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let values = text.lines().filter_map(|l| l.strip_prefix(field)?.trim().split(' ').next()?.parse::<u64>().ok());
        values.sum()
    };
    let (launcher, init) = (k3s.pid(), k3s.process("k3s-init").pid);
    assert!(kib(launcher, "Rss:") < 4096, "launcher: {} KiB resident", kib(launcher, "Rss:"));
    let private = kib(init, "Private_Clean:") + kib(init, "Private_Dirty:");
    assert!(private < 1024, "init: {private} KiB private");
}

#[test]
fn what_is_missing_is_said_and_nothing_is_left() {
    if !can_launch() {
        return;
    }
    let user = User::new(15);
    user.write("subuid", "root:1:65536\n");
    let (status, says) = user.fail();
    assert_eq!(status.code(), Some(1));
    assert!(says.contains("usermod --add-subuids") && says.contains(machine::NAME), "{says}");
    // The kernel takes no id twice; the tool's own words say so.
    let twice = format!("{0}:1500000000:65536\n{0}:1500000000:65536\n", machine::NAME);
    user.write("subuid", &twice);
    let (status, says) = user.fail();
    assert_eq!(status.code(), Some(1));
    assert!(says.contains("newuidmap: write to uid_map failed"), "{says}");
    user.assert_no_processes();
}
