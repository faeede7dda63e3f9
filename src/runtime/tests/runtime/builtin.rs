//! The image made of the running binary.

use std::process::ExitCode;

use k3s_cri::*;

use crate::node::Node;

/// What the container of that image runs: it tries to change its own program in every way there is.
pub fn write_to_self() -> ExitCode {
    // Not opened for writing: that fails for a running program anyway, and would prove nothing once it has ended.
    let change = |path: &str| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(path, mode).map_err(|error| error.raw_os_error())
    };
    let remount = nix::mount::mount(
        None::<&str>,
        "/bin/k3s",
        None::<&str>,
        nix::mount::MsFlags::MS_REMOUNT | nix::mount::MsFlags::MS_BIND,
        None::<&str>,
    );
    println!("path: {:?}", change("/bin/k3s"));
    println!("exe: {:?}", change("/proc/self/exe"));
    println!("remount: {:?}", remount);
    println!("unlink: {:?}", std::fs::remove_file("/bin/k3s").map_err(|error| error.raw_os_error()));
    println!(
        "id: {}",
        std::fs::metadata("/bin/k3s").map(|file| std::os::unix::fs::MetadataExt::ino(&file)).unwrap_or(0)
    );
    ExitCode::SUCCESS
}

pub async fn the_binary_is_there_and_cannot_be_written() {
    let node = Node::empty().await;
    let image = node.runtime.image_status("docker.io/rancher/builtin:v1").await.unwrap().unwrap();
    assert!(image.pinned);
    assert_eq!(node.runtime.pull_image("rancher/builtin:v1", None).await.unwrap(), image.id);
    let config = ContainerConfig {
        name: "dns".into(),
        image_id: image.id,
        image: "rancher/builtin:v1".into(),
        log_path: "dns/0.log".into(),
        ..ContainerConfig::default()
    };
    let (status, lines) = node.run_to_end(config.clone()).await;
    assert_eq!(status.exit_code, 0, "{lines:?}");
    let file = std::fs::metadata("/proc/self/exe").unwrap();
    // EROFS, EPERM, EBUSY.
    assert_eq!(lines[0], "stdout F path: Err(Some(30))");
    assert_eq!(lines[1], "stdout F exe: Err(Some(30))");
    assert_eq!(lines[2], "stdout F remount: Err(EPERM)");
    assert_eq!(lines[3], "stdout F unlink: Err(Some(16))");
    // The very same file, not a copy.
    assert_eq!(lines[4], format!("stdout F id: {}", std::os::unix::fs::MetadataExt::ino(&file)));
    node.end().await;
}
