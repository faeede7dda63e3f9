//! Namespaces for a server of root, so that the machine's addresses, rules and folders stay as they are.

/// Moves this process, and what it starts, into a network of its own with a way out that leads nowhere, and gives it
/// empty folders in the place of `private`.
///
/// # Panics
/// If it can't.
pub fn own_network_and_mounts(private: &[&str]) {
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
    let propagation = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, propagation, None::<&str>).expect("private mounts");
    for &folder in private {
        nix::mount::mount(Some("tmpfs"), folder, Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>)
            .expect("a tmpfs");
    }
}
