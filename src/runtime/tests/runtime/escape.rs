//! Ways by which containers have got out of other runtimes, each tried here, as root and in a user namespace.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k3s_cri::*;

use crate::archive::{self, Layer};
use crate::node::{Node, busybox, log, shell};

/// What only the node has: whoever reads it has got out.
const SECRET: &str = "the node's secret";

/// A file of the node that no container sees.
fn secret(node: &Node) -> std::path::PathBuf {
    let path = node.path("secret");
    std::fs::write(&path, SECRET).unwrap();
    path
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// CVE-2024-21626: a working directory that is a descriptor the runtime left open, for a container and for a command in
/// it, whose working directory a container may have made a link.
pub async fn no_open_descriptor_is_a_working_directory() {
    let node = Node::new().await;
    let secret = secret(&node);
    let up = format!("{}{}", "../".repeat(20), secret.display().to_string().trim_start_matches('/'));
    let script = format!("cat {up} {}; echo looked", secret.display());
    let sandbox = node.sandbox("cwd").await;
    for descriptor in 3..20 {
        let mut config = shell(&script);
        config.name = format!("c{descriptor}");
        config.log_path = format!("{descriptor}.log").into();
        config.working_dir = format!("/proc/self/fd/{descriptor}");
        let id = node.runtime.create_container(&sandbox, config).await.unwrap();
        // Most are refused; one that starts must be inside.
        if node.runtime.start_container(&id).await.is_ok() {
            let lines = log(&node.ended(&id).await.log_path);
            assert!(!lines.iter().any(|line| line.contains(SECRET)), "descriptor {descriptor}: {lines:?}");
        }
    }
    let mut config = shell("exec sleep 1000");
    config.working_dir = "/tmp/work".into();
    let id = node.run(&sandbox, config).await;
    let exec = async |command: &[&str]| node.runtime.exec_sync(&id, words(command), Duration::from_secs(10)).await;
    for descriptor in 3..20 {
        let link =
            format!("cd /; /bin/busybox rm -rf /tmp/work; /bin/busybox ln -s /proc/self/fd/{descriptor} /tmp/work");
        // The command is started in the working directory that the one before has replaced.
        if exec(&["sh", "-c", &link]).await.is_err() {
            break;
        }
        if let Ok(output) = exec(&["sh", "-c", &script]).await {
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(!text.contains(SECRET), "descriptor {descriptor}: {text}");
        }
    }
    // Nothing is open in the command itself, either.
    let id = node
        .run(
            &sandbox,
            ContainerConfig { name: "last".into(), log_path: "last.log".into(), ..busybox(&["sleep", "1000"]) },
        )
        .await;
    let listed = node.runtime.exec_sync(&id, words(&["ls", "/proc/self/fd"]), Duration::from_secs(10)).await.unwrap();
    // The last is that of the directory which is being listed.
    assert_eq!(String::from_utf8_lossy(&listed.stdout).split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    node.end().await;
}

/// Exchanges two names of a directory as fast as can be, until dropped.
struct Swapper {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Swapper {
    fn start(one: &Path, other: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopping, one, other) = (stop.clone(), one.to_owned(), other.to_owned());
        let thread = std::thread::spawn(move || {
            while !stopping.load(Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(rustix::fs::CWD, &one, rustix::fs::CWD, &other, flags).unwrap();
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn volume(host: &Path, container: &str) -> Mount {
    Mount {
        container_path: container.into(),
        host_path: host.to_owned(),
        readonly: false,
        recursive_read_only: false,
        propagation: Propagation::Private,
        ..Mount::default()
    }
}

/// CVE-2021-30465: a mount's place in a volume that another container of the pod has exchanged for a link.
pub async fn a_mount_does_not_follow_a_link_that_appears() {
    let node = Node::new().await;
    secret(&node);
    let (shared, landing) = (node.path("shared"), node.path("landing"));
    for directory in [&shared, &landing, &shared.join("place"), &node.path("data")] {
        std::fs::create_dir(directory).unwrap();
    }
    std::fs::write(node.path("data/mine"), "data").unwrap();
    let directory = node.directory.path().display().to_string();
    let sandbox = node.sandbox("race").await;
    for target in [
        landing.display().to_string(),
        format!("{}{directory}", "../".repeat(30)),
        "/proc/1/root".to_owned(),
        "/".to_owned(),
    ] {
        symlink(&target, shared.join("link")).unwrap();
        let swapping = Swapper::start(&shared.join("place"), &shared.join("link"));
        for attempt in 0..4 {
            let mut config = shell(&format!("cat {directory}/secret /vol/place/secret /vol/link/secret; echo looked"));
            config.name = format!("race-{attempt}-{}", target.len());
            config.log_path = format!("{}-{attempt}.log", target.len()).into();
            config.mounts = vec![volume(&shared, "/vol"), volume(&node.path("data"), "/vol/place")];
            let id = node.runtime.create_container(&sandbox, config).await.unwrap();
            // One whose place was a link to nowhere just then does not start.
            if node.runtime.start_container(&id).await.is_ok() {
                let lines = log(&node.ended(&id).await.log_path);
                assert!(!lines.iter().any(|line| line.contains(SECRET)), "{target}: {lines:?}");
            }
        }
        drop(swapping);
        // Whichever of the names the link has now.
        let link = ["place", "link"].map(|name| shared.join(name)).into_iter().find(|path| path.is_symlink()).unwrap();
        let directory = shared.join(if link.ends_with("link") { "place" } else { "link" });
        std::fs::remove_file(&link).unwrap();
        if directory.ends_with("link") {
            std::fs::rename(directory, shared.join("place")).unwrap();
        }
    }
    assert_eq!(std::fs::read_dir(&landing).unwrap().count(), 0, "something was made outside");
    assert_eq!(std::fs::read_dir(node.path("data")).unwrap().count(), 1);
    node.end().await;
}

/// CVE-2019-19921 and CVE-2023-27561: an image whose /proc is a link, into a volume where the mount can be exchanged
/// between mounting and masking.
pub async fn proc_is_no_link_of_the_image() {
    let node = Node::empty().await;
    for (name, links) in [
        ("proc", vec![("proc", "/vol/proc")]),
        ("sys", vec![("sys", "vol")]),
        ("deep", vec![("proc", "a"), ("a", "/vol")]),
    ] {
        let links = links.into_iter().fold(Layer::new(), |layer, (from, to)| layer.symlink(from, to)).finish();
        archive::docker(&node.images_dir().join(format!("{name}.tar")), name, &[archive::busybox_layer(), links], "");
    }
    for report in node.runtime.import_images().await {
        report.result.unwrap();
    }
    let shared = node.path("shared");
    std::fs::create_dir_all(shared.join("proc")).unwrap();
    let sandbox = node.sandbox("links").await;
    for image in ["proc", "sys", "deep"] {
        let config = ContainerConfig {
            name: image.into(),
            image_id: image.into(),
            image: image.into(),
            mounts: vec![volume(&shared, "/vol")],
            ..shell("cat /proc/kcore")
        };
        let id = node.runtime.create_container(&sandbox, config).await.unwrap();
        let error = node.runtime.start_container(&id).await.unwrap_err().to_string();
        assert!(error.contains("symbolic link") && error.contains("must be a directory"), "{image}: {error}");
    }
    node.end().await;
}

/// The subcommand of this test that a container runs as `/proc/self/exe`: it is the runtime's own binary then, and tries
/// everything to change it, also once it is another program with the binary still open.
pub fn overwrite_exe() -> ExitCode {
    let fails = |what: &str, result: std::io::Result<()>| match result {
        Ok(()) => println!("{what}: DONE"),
        Err(error) => println!("{what}: {error}"),
    };
    let exe = Path::new("/proc/self/exe");
    fails("chmod", std::fs::set_permissions(exe, std::fs::Permissions::from_mode(0o4777)));
    fails("chown", std::os::unix::fs::chown(exe, Some(1), Some(1)));
    fails("truncate", std::fs::OpenOptions::new().write(true).truncate(true).open(exe).map(drop));
    let file = std::fs::File::open(exe).unwrap();
    fails("fchmod", file.set_permissions(std::fs::Permissions::from_mode(0o4777)));
    fails("utimes", file.set_modified(std::time::UNIX_EPOCH));
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
    let script = format!(
        "for i in 1 2 3; do echo overwritten > /proc/self/fd/{0} && echo write: DONE; done; echo over",
        std::os::fd::AsRawFd::as_raw_fd(&file)
    );
    let error = std::os::unix::process::CommandExt::exec(std::process::Command::new("/bin/sh").args(["-c", &script]));
    println!("exec: {error}");
    ExitCode::FAILURE
}

/// CVE-2019-5736: a container that runs `/proc/self/exe`, as its command, and as the interpreter of a script that a
/// command in the container runs.
pub async fn the_runtimes_binary_is_not_written() {
    let node = Node::new().await;
    let exe = std::fs::canonicalize("/proc/self/exe").unwrap();
    let state = || {
        let file = std::fs::metadata(&exe).unwrap();
        (file.mode(), file.uid(), file.gid(), file.size(), file.mtime(), file.mtime_nsec())
    };
    let before = state();
    let (_, lines) = node.run_to_end(busybox(&["/proc/self/exe", "overwrite-exe"])).await;
    let tried = |lines: &[String]| {
        for what in ["chmod", "chown", "truncate", "fchmod", "utimes"] {
            assert!(
                lines.iter().any(|line| line.contains(&format!("{what}: Read-only file system"))),
                "{what}: {lines:#?}"
            );
        }
        assert!(lines.iter().any(|line| line.ends_with("over")), "{lines:#?}");
        assert!(!lines.iter().any(|line| line.contains("DONE")), "{lines:#?}");
    };
    tried(&lines);
    let sandbox = node.sandbox("exec").await;
    let script = "echo '#!/proc/self/exe overwrite-exe' > /bin/bad; /bin/busybox chmod 755 /bin/bad; exec sleep 1000";
    let id = node.run(&sandbox, shell(script)).await;
    let output = loop {
        // Until the container has made it.
        match node.runtime.exec_sync(&id, words(&["/bin/bad"]), Duration::from_secs(10)).await {
            Ok(output) => break output,
            Err(error) => assert!(!error.to_string().contains("not running"), "{error}"),
        }
    };
    tried(&String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(state(), before);
    node.end().await;
}

/// What is masked or read-only stays so, also for a container that is not filtered and makes namespaces of its own.
pub async fn masked_paths_are_not_uncovered() {
    let node = Node::new().await;
    let tries = "umount /proc/kcore && echo DONE; umount -l /proc/kcore && echo DONE; \
                 mount -o remount,bind,rw /proc/sys && echo DONE; mount -t proc none /tmp && echo DONE; \
                 mount --bind /proc /tmp && umount /tmp/kcore && echo DONE; \
                 echo x > /proc/sys/kernel/domainname && echo DONE; cat /proc/kcore | wc -c";
    let tries = tries.replace("umount", "/bin/busybox umount");
    for (name, script) in [("plain", tries.clone()), ("nested", format!("unshare -Urm sh -c '{tries}'"))] {
        let lines = node.script_with(&script, |config| config.security.seccomp = SecurityProfile::Unconfined).await;
        assert!(!lines.iter().any(|line| line.contains("DONE")), "{name}: {lines:#?}");
        // Where no user namespaces are to be had, nothing is tried.
        let refused = lines.iter().any(|line| line.contains("unshare"));
        assert!(refused || lines.contains(&"0".to_owned()), "{name}: {lines:#?}");
    }
    node.end().await;
}
