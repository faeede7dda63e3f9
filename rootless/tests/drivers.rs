//! Network drivers, several clusters at once, and what is killed at any time.

mod machine;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use k3s_rootless::process::ProcessId;
use machine::{NETWORK, PATIENCE, User, accept, await_end, can_launch};

#[test]
fn pasta_is_a_way_out_ends_with_the_launcher_and_is_started_anew() {
    if !can_launch() {
        return;
    }
    if !std::path::Path::new("/usr/bin/pasta").exists() {
        eprintln!("skipped: it needs pasta (Debian: passt)");
        return;
    }
    let user = User::new(30).on(NETWORK);
    let vars = [("K3S_ROOTLESS_NET_DRIVER", "pasta"), ("K3S_ROOTLESS_DISABLE_HOST_LOOPBACK", "false")];
    let mut k3s = user.launch(&vars);
    let network = k3s.info().network;
    assert_eq!((network.address.to_string().as_str(), network.mtu), ("10.41.0.100", 65_520));
    assert_eq!(k3s.ask("sh cat /sys/class/net/tap0/mtu"), "65520");
    assert_eq!(k3s.ask("sh head -1 /etc/resolv.conf"), "nameserver 10.41.0.3");
    for round in 0..2 {
        let listener = k3s.on_host(|| TcpListener::bind("127.0.0.1:0").unwrap());
        let port = listener.local_addr().unwrap().port();
        k3s.tell(&format!("connect 10.41.0.2:{port}"));
        accept(&listener).write_all(b"the host").unwrap();
        assert_eq!(k3s.answer(), "the host", "round {round}");
        // It is passt by another name, and executes itself anew as what suits the processor.
        k3s.process("pas").kill(PATIENCE).unwrap();
        // The launcher answers after it has started the driver anew.
        assert_eq!(k3s.ask(&format!("tcp 127.0.0.1:{}", 7001 + round)), "listening");
    }
    let pasta = k3s.process("pas");
    k3s.signal(rustix::process::Signal::KILL);
    k3s.wait();
    await_end(&Some(pasta));
}

#[test]
fn without_a_network_driver_there_is_the_loopback_with_the_nodes_address() {
    if !can_launch() {
        return;
    }
    let user = User::new(31).on(NETWORK);
    let mut k3s = user.launch(&[("K3S_ROOTLESS_NET_DRIVER", "none")]);
    assert_eq!(k3s.ask("sh ls /sys/class/net"), "lo");
    assert_eq!(k3s.ask("who 10.41.0.100:7000"), "here");
    assert!(k3s.ask("connect 10.41.0.100:7000").starts_with("10.41.0.100:"));
    assert!(k3s.ask("connect 127.0.0.1:7001").contains("refused"), "the loopback's own address is still there");
    // Ports need no driver.
    assert_eq!(k3s.ask("publish tcp 198.51.100.1:8001 10.41.0.100:7000"), "1 198.51.100.1:8001");
    let said = k3s.on_host(|| std::io::read_to_string(TcpStream::connect("198.51.100.1:8001").unwrap()).unwrap());
    assert!(said.starts_with("10.41.0.100:"), "{said}");
    // Pods hold these namespaces, and another driver does not fit them.
    k3s.ask("sh (setsid sleep 100000 </dev/null >/dev/null 2>&1 &)");
    k3s.tell("exit 0");
    k3s.wait();
    let (status, says) = user.fail();
    assert!(status.code() == Some(1) && says.contains("K3S_ROOTLESS_NET_DRIVER"), "{says}");
}

#[test]
fn two_users_and_two_clusters_of_one_do_not_disturb_each_other() {
    if !can_launch() {
        return;
    }
    let (user, other) = (User::new(32), User::new(33));
    let second = user.home().join("second");
    let mut clusters = [user.launch(&[]), user.launch_on(&second, &[]), other.launch(&[])];
    for (number, k3s) in clusters.iter_mut().enumerate() {
        assert_eq!(k3s.ask(&format!("sh echo {number} > /etc/number; ls /sys/class/net")), "lo\ntap0");
    }
    for (number, k3s) in clusters.iter_mut().enumerate() {
        assert_eq!(k3s.ask("sh cat /etc/number"), number.to_string());
    }
    // The end of one is none of the others' business.
    assert!(k3s_rootless::killall(&user.state_dir()).unwrap());
    assert_eq!(clusters[0].wait().code(), Some(128 + 9));
    assert_eq!(clusters[1].ask("sh cat /etc/number"), "1");
    assert_eq!(clusters[2].ask("sh cat /etc/number"), "2");
    assert!(k3s_rootless::killall(&second.join("rootless")).unwrap());
}

#[test]
fn a_cidr_of_the_hosts_own_is_refused_with_one_that_is_free() {
    if !can_launch() {
        return;
    }
    let user = User::new(34).on(NETWORK);
    let (status, says) = user.fail_with(&[("K3S_ROOTLESS_CIDR", "198.51.0.0/16")]);
    assert_eq!(status.code(), Some(1));
    assert!(says.contains("198.51.100.0/24") && says.contains("K3S_ROOTLESS_CIDR=10.41.0.0/16"), "{says}");
    user.assert_no_processes();
}

#[test]
fn a_data_directory_mounted_noexec_is_refused() {
    if !can_launch() {
        return;
    }
    let user = User::new(35).on("mount -t tmpfs -o noexec tmpfs \"$HOME/noexec\"");
    let path = user.home().join("noexec");
    std::fs::create_dir(&path).unwrap();
    let mut command = user.command_on(&path.join("k3s"), &[]);
    let output = command.env("HOME", user.home()).stdin(std::process::Stdio::null()).output().unwrap();
    let says = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && says.contains("noexec") && says.contains("--data-dir"), "{says}");
}

#[test]
fn after_kill_9_of_anything_at_any_time_the_next_launch_works() {
    if !can_launch() {
        return;
    }
    let user = User::new(36);
    for round in 0..12_u64 {
        let mut child = user.command(&[]).spawn().unwrap();
        let launcher = child.id() as i32;
        // From before the lock is taken until the server runs, and each of its children as well as itself.
        std::thread::sleep(Duration::from_millis(10 * round));
        let children =
            std::fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children")).unwrap_or_default();
        let victim = children.split_whitespace().nth(round as usize % 4).and_then(|pid| pid.parse().ok());
        let victim = rustix::process::Pid::from_raw(victim.unwrap_or(launcher)).unwrap();
        // It may have ended by itself in the meantime.
        let _ = rustix::process::kill_process(victim, rustix::process::Signal::KILL);
        drop(child.stdin.take());
        child.wait().unwrap();
    }
    let mut k3s = user.launch(&[]);
    assert_eq!(k3s.ask("sh ls /sys/class/net"), "lo\ntap0");
    // Before: it takes its record away a moment before it ends.
    let init = user.init();
    k3s.tell("exit 0");
    assert_eq!(k3s.wait().code(), Some(0));
    await_end(&init);
    user.assert_no_processes();
}

#[test]
fn after_kill_9_of_launcher_init_server_or_driver_the_next_launch_works() {
    if !can_launch() {
        return;
    }
    let user = User::new(37);
    for victim in ["launcher", "k3s-init", "launch", "slirp4netns"] {
        let mut k3s = user.launch(&[]);
        assert_eq!(k3s.ask("sh ls /sys/class/net"), "lo\ntap0", "before {victim} is killed");
        let process = match victim {
            "launcher" => ProcessId::of(k3s.pid()).unwrap(),
            // It may be one that was joined, and no child of this launcher.
            "k3s-init" => user.init().unwrap(),
            child => k3s.process(child),
        };
        process.kill(PATIENCE).unwrap();
        if victim == "slirp4netns" {
            k3s.tell("exit 0");
        }
        k3s.wait();
    }
    let mut k3s = user.launch(&[]);
    assert_eq!(k3s.ask("sh ls /sys/class/net"), "lo\ntap0");
    // Before: it takes its record away a moment before it ends.
    let init = user.init();
    k3s.tell("exit 0");
    assert_eq!(k3s.wait().code(), Some(0));
    await_end(&init);
    user.assert_no_processes();
}
