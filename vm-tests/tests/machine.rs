//! k3s on a machine with systemd, as an ordinary user and as root. One machine, since a boot takes long without acceleration;
//! each scenario begins with no cluster running and says its name when it fails.

use std::time::{Duration, Instant};

use k3s_systemd::units;
use k3s_tests::busybox_image;
use k3s_vm_tests::{Image, Machine, Payload};

/// More than twice what the longest scenario takes on a machine at rest.
const PATIENCE: Duration = Duration::from_secs(240);

const PODS: &str = include_str!("pods.yaml");
const WHO: &str = include_str!("who.yaml");
/// Functions that every script has.
const PRELUDE: &str = include_str!("prelude.sh");
const DELEGATE: &str = "[Service]\nDelegate=cpu cpuset io memory pids\n";

struct Scenarios {
    machine: Machine,
}

impl Scenarios {
    /// A machine with the binary, the user unit and the images of pods; and what install.sh is run from.
    fn start() -> Self {
        let image = Image::build();
        let folder = tempfile::tempdir().expect("a folder");
        let archive = folder.path().join("payload.tar");
        let binary = std::env::var("K3S_BINARY").expect("K3S_BINARY names the binary to test");
        Payload::create(&archive)
            .file("usr/local/bin/k3s", 0o755, &std::fs::read(&binary).expect("the binary"))
            .file("etc/systemd/user/k3s-rootless.service", 0o644, units::ROOTLESS.as_bytes())
            .file("root/checkout/install.sh", 0o755, include_bytes!("../../install.sh"))
            .file("root/checkout/systemd/k3s-rootless.service", 0o644, units::ROOTLESS.as_bytes())
            .file("root/checkout/systemd/k3s.service", 0o644, units::SERVER.as_bytes())
            .file("root/busybox.tar", 0o644, &busybox_image("k3s.test/busybox:1").docker_archive())
            .file("root/pods.yaml", 0o644, PODS.as_bytes())
            .file("root/who.yaml", 0o644, WHO.as_bytes())
            .file("root/prelude.sh", 0o644, PRELUDE.as_bytes())
            .finish();
        let mut machine = Machine::boot(&image, &archive);
        let unpacked = machine.run(
            "tar -x -C / </dev/vdb && chown -R root: /usr/local /root && install -d -o edge -g edge \
             /home/edge/.rancher /home/edge/.rancher/k3s /home/edge/.rancher/k3s/agent /home/edge/.rancher/k3s/agent/images \
             && install -o edge -m 0644 /root/busybox.tar /home/edge/.rancher/k3s/agent/images/",
            PATIENCE,
        );
        assert_eq!(unpacked.status, 0, "{}", unpacked.text);
        Self { machine }
    }

    /// Runs a scenario; its script fails at the first command that does.
    fn run(&mut self, name: &str, script: &str) -> String {
        let began = Instant::now();
        let script = format!("set -e\n. /root/prelude.sh\n{script}");
        let output = self.machine.run(&script, PATIENCE);
        if output.status != 0 {
            let log = self.machine.run(". /root/prelude.sh; report", PATIENCE).text;
            panic!("{name}: status {}\n{}\n--- the machine:\n{log}", output.status, output.text);
        }
        println!("{name}: {:.1} s", began.elapsed().as_secs_f32());
        output.text
    }
}

#[test]
fn k3s_lives_with_systemd() {
    let mut on = Scenarios::start();

    let controllers = on.run(
        "a user who has memory and pids only",
        "loginctl enable-linger edge; await test -S /run/user/$uid/bus
         printf '[Service]\\nDelegate=\\nDelegate=memory pids\\n' >/tmp/delegate.conf
         install -D -m 0644 /tmp/delegate.conf /etc/systemd/system/user@.service.d/delegate.conf
         systemctl daemon-reload; systemctl restart user@$uid.service
         user systemctl --user enable --now k3s-rootless
         kubectl get --raw /readyz >/dev/null
         user systemctl --user show -p StatusText k3s-rootless | grep 'Kubernetes v'
         log | grep 'not all limits.*cpu are not delegated.*delegate.conf' >/dev/null
         cat $(scope)/kubepods/cgroup.controllers 2>/dev/null || cat $(scope)/cgroup.subtree_control",
    );
    assert!(controllers.contains("memory") && controllers.contains("pids"), "{controllers}");
    assert!(!controllers.lines().last().is_some_and(|line| line.contains("cpu")), "{controllers}");

    on.run(
        "with every controller delegated",
        &format!(
            "printf '{}' >/etc/systemd/system/user@.service.d/delegate.conf
             sync",
            DELEGATE.replace('\n', "\\n")
        ),
    );
    on.machine.reboot();
    on.run(
        "after a reboot a lingering user's cluster is there without a login",
        "await active; await kubectl get --raw /readyz
         ! log | grep 'not all limits'",
    );
    on.run(
        "limits of pods are enforced",
        "apply /root/pods.yaml
         await running limited; c=$(cgroup limited)
         test \"$(cat $c/memory.max)\" = 33554432
         test \"$(cat $c/cpu.max)\" = '20000 100000'
         grep -w pids $c/cgroup.controllers
         for name in cpuset io; do grep -w $name $(scope)/cgroup.subtree_control; done
         await eval 'test $(sed -n \"s/^nr_throttled //p\" '$c'/cpu.stat) -gt 0'
         await eval 'kubectl get pod greedy -o json | grep OOMKilled'
         # The pids controller bites as well.
         echo 2 >$c/pids.max
         ! kubectl exec limited -- sh -c 'true & true & true & true & wait'",
    );
    on.run(
        "a pod sees the real address of a client elsewhere, by TCP and by UDP, and IPv6 reaches it",
        "ip netns add elsewhere; ip link add near type veth peer name far netns elsewhere
         ip address add 192.0.2.1/24 dev near; ip link set near up; ip netns exec elsewhere ip link set far up
         ip netns exec elsewhere ip address add 192.0.2.77/24 dev far
         apply /root/who.yaml
         await eval 'ip netns exec elsewhere busybox wget -qO- http://192.0.2.1:18080/cgi-bin/who >/tmp/who'
         grep -w 192.0.2.77 /tmp/who
         await eval 'ask_udp 192.0.2.1:18081 >/tmp/who'
         test $(cat /tmp/who) = 192.0.2.77
         test -n \"$(busybox wget -qO- http://[::1]:18080/cgi-bin/who)\"
         kubectl delete pod who; ip link delete near; ip netns delete elsewhere",
    );
    on.run(
        "a restart leaves pods running",
        "before=$(cat $(cgroup limited)/cgroup.procs)
         user systemctl --user restart k3s-rootless
         kubectl get --raw /readyz
         test \"$before\" = \"$(cat $(cgroup limited)/cgroup.procs)\"
         user systemctl --user kill -s KILL k3s-rootless; await kubectl get --raw /readyz; await active
         test \"$before\" = \"$(cat $(cgroup limited)/cgroup.procs)\"",
    );
    on.run(
        "a reload reads files anew, and the server goes on",
        "before=$(user systemctl --user show -p MainPID -p NRestarts k3s-rootless)
         user systemctl --user reload k3s-rootless
         await eval 'log | grep \"reloaded certificates\"'
         await eval 'user systemctl --user show -p StatusText k3s-rootless | grep \"StatusText=Kubernetes v\"'
         active; kubectl get --raw /readyz
         test \"$before\" = \"$(user systemctl --user show -p MainPID -p NRestarts k3s-rootless)\"",
    );
    on.run(
        "the watchdog has a server restarted that hangs",
        "unit=/home/edge/.config/systemd/user/k3s-rootless.service.d
         install -d -o edge /home/edge/.config /home/edge/.config/systemd /home/edge/.config/systemd/user $unit
         printf '[Service]\\nWatchdogSec=10\\n' >$unit/watchdog.conf
         user systemctl --user daemon-reload; user systemctl --user restart k3s-rootless
         launcher=$(user systemctl --user show -p MainPID --value k3s-rootless)
         before=$(user systemctl --user show -p NRestarts --value k3s-rootless)
         for pid in $(cat /proc/$launcher/task/$launcher/children); do
             tr '\\0' ' ' </proc/$pid/cmdline | grep -q 'server --rootless' || continue
             kill -STOP $pid; echo stopped
         done | grep stopped
         await eval 'test $(user systemctl --user show -p NRestarts --value k3s-rootless) -gt '$before
         await kubectl get --raw /readyz; await active
         rm -r $unit; user systemctl --user daemon-reload",
    );
    on.run(
        "stop",
        "user systemctl --user disable --now k3s-rootless; end_pods
         await ended; await eval '! ls -d /sys/fs/cgroup/user.slice/user-'$uid'.slice/user@'$uid'.service/app.slice/k3s-*.scope'",
    );
    on.run(
        "systemd-run --user -p Delegate=yes --tty",
        "user script -qfc 'systemd-run --user -p Delegate=yes -p TimeoutStopSec=5 --unit k3s-tty --tty k3s server --rootless' /tmp/tty.log >/dev/null &
         await kubectl get --raw /readyz
         unit=/sys/fs/cgroup/user.slice/user-$uid.slice/user@$uid.service/app.slice/k3s-tty.service
         grep -w memory $unit/cgroup.subtree_control | grep -w cpu
         await eval 'cgroup limited | grep ^'$unit'/kubepods/'
         user systemctl --user stop k3s-tty; await ended",
    );
    on.run(
        "from a plain terminal, without lingering",
        "loginctl disable-linger edge; await eval '! test -e /run/user/$uid/bus'
         su -l edge -c 'k3s server --rootless' >/tmp/terminal.log 2>&1 &
         await kubectl get --raw /readyz
         grep 'loginctl enable-linger edge' /tmp/terminal.log
         ! grep 'not all limits' /tmp/terminal.log
         await cgroup limited; c=$(cgroup limited); echo $c | grep 'k3s-.*scope/kubepods'
         test \"$(cat $c/memory.max)\" = 33554432
         loginctl terminate-user edge; await ended",
    );
    on.run(
        "install.sh as root, for a user, and the removal of what it has installed",
        "ln /usr/local/bin/k3s /root/k3s; cd /root/checkout; export INSTALL_K3S_SKIP_DOWNLOAD=true INSTALL_K3S_USER=edge
         ./install.sh >/tmp/install.log 2>&1
         active; test -e /var/lib/systemd/linger/edge
         main=$(user systemctl --user show -p MainPID --value k3s-rootless)
         tr '\\0' ' ' </proc/$main/cmdline | grep 'k3s.* server --rootless'
         ./install.sh | grep 'nothing has changed'
         k3s-uninstall.sh; await ended
         ! ls /usr/local/bin/k3s /home/edge/.config/systemd/user/k3s-rootless.service /home/edge/.rancher/k3s",
    );
    on.run(
        "install.sh as root, for a server as root",
        "install -m 0755 /root/k3s /usr/local/bin/k3s
         nic=$(ls /sys/class/net | grep -v '^lo$' | head -n 1)
         ip address add 10.0.2.15/24 dev $nic; ip link set $nic up; ip route add default via 10.0.2.2
         install -D -m 0644 /root/busybox.tar /var/lib/rancher/k3s/agent/images/busybox.tar
         cd /root/checkout; export INSTALL_K3S_SKIP_DOWNLOAD=true INSTALL_K3S_ROOTFUL=true
         ./install.sh >/tmp/install.log 2>&1; KUBECONFIG=/etc/rancher/k3s/k3s.yaml
         systemctl show -p StatusText k3s | grep 'Kubernetes v'",
    );
    on.run(
        "a server as root has its pods below /sys/fs/cgroup/kubepods, and leaves them running",
        "KUBECONFIG=/etc/rancher/k3s/k3s.yaml
         apply /root/pods.yaml; await running limited; c=$(cgroup limited); echo $c | grep ^/sys/fs/cgroup/kubepods/
         test \"$(cat $c/memory.max)\" = 33554432; before=$(cat $c/cgroup.procs)
         systemctl restart k3s; kubectl get --raw /readyz
         test \"$before\" = \"$(cat $c/cgroup.procs)\"
         k3s-uninstall.sh; await ended
         ! ls /usr/local/bin/k3s /etc/systemd/system/k3s.service /var/lib/rancher/k3s /sys/fs/cgroup/kubepods",
    );
}
