//! Settings of the kernel that the kubelet counts on (`--protect-kernel-defaults`).

use super::Host;

/// What Kubernetes' kubelet wants: it sets them itself unless it is told to compare.
const WANTED: &[(&str, u64)] = &[
    // Memory is promised without being there, since limits are kept by cgroups.
    ("vm.overcommit_memory", 1),
    // The kernel's out-of-memory killer, not a halt.
    ("vm.panic_on_oom", 0),
    // A node that is broken starts again.
    ("kernel.panic", 10),
    ("kernel.panic_on_oops", 1),
    // A container has a session keyring, which counts for root.
    ("kernel.keys.root_maxkeys", 1_000_000),
    ("kernel.keys.root_maxbytes", 25_000_000),
];

/// The `sysctl` assignments that would make this host's settings those that the kubelet wants; none if they are.
pub fn differing(host: &Host) -> Vec<String> {
    let differs = |name: &str, wanted: u64| {
        let value = host.read(&format!("/proc/sys/{}", name.replace('.', "/")));
        value.and_then(|value| value.parse::<u64>().ok()) != Some(wanted)
    };
    let wrong = WANTED.iter().filter(|(name, wanted)| differs(name, *wanted));
    wrong.map(|(name, wanted)| format!("{name}={wanted}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::Temporary;
    use super::*;

    #[test]
    fn what_differs_is_named_as_it_should_be() {
        let host = Temporary::new();
        for (name, wanted) in WANTED {
            host.write(&format!("/proc/sys/{}", name.replace('.', "/")), &format!("{wanted}\n"));
        }
        assert!(differing(&host.host).is_empty());
        host.write("/proc/sys/kernel/panic", "0\n");
        host.write("/proc/sys/vm/overcommit_memory", "");
        assert_eq!(differing(&host.host), ["vm.overcommit_memory=1", "kernel.panic=10"]);
    }
}
