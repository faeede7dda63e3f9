//! The machine's disk, built once from a recipe.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

/// What the machine has beyond Debian's essential packages.
const PACKAGES: &str = "linux-image-cloud-amd64,systemd-sysv,udev,dbus,dbus-user-session,libpam-systemd,login,passwd,\
                        util-linux,iproute2,kmod,nftables,uidmap,slirp4netns,busybox-static";
/// What its first stage needs to find the disk. The default is every driver, which takes seconds to unpack.
const MODULES: &str = "virtio_pci\nvirtio_blk\next4\n";
const DISK: &str = "1600M";

/// A built image: kernel, first stage and disk.
pub struct Image {
    folder: PathBuf,
}

impl Image {
    /// The image, from the cache if the recipe is the same. Takes about a minute and a half to build, most of which is
    /// waiting for packages.
    ///
    /// # Panics
    /// Without root, mmdebstrap or Debian's package sources.
    pub fn build() -> Self {
        let sources = sources();
        let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest");
        let mut recipe = Sha256::new();
        for part in [PACKAGES, MODULES, DISK, &sources.suite, &sources.lines] {
            recipe.update(part);
        }
        for file in ["agent", "customize", "k3s-agent-of-tests.service"] {
            recipe.update(fs::read(guest.join(file)).expect("a file of the recipe"));
        }
        let key: String = recipe.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let cache = cache();
        let folder = cache.join(&key);
        if !folder.join("disk").exists() {
            fs::create_dir_all(&cache).expect("room for the image");
            let new = tempfile::tempdir_in(&cache).expect("room for the image");
            make(new.path(), &guest, &sources);
            // Others may have built it meanwhile; theirs is as good.
            let _ = fs::rename(new.path(), &folder);
        }
        Self { folder }
    }

    /// The kernel.
    pub fn kernel(&self) -> PathBuf {
        self.folder.join("kernel")
    }

    /// The first stage.
    pub fn initrd(&self) -> PathBuf {
        self.folder.join("initrd")
    }

    /// The disk, not to be written to.
    pub fn disk(&self) -> PathBuf {
        self.folder.join("disk")
    }
}

/// Where images are kept: beside what cargo builds.
fn cache() -> PathBuf {
    match std::env::var_os("K3S_VM_CACHE") {
        Some(path) => path.into(),
        None => "/var/cache/k3s-vm-tests".into(),
    }
}

fn make(folder: &Path, guest: &Path, sources: &Sources) {
    let root = folder.join("root");
    let first_stage = format!(
        "mkdir -p $1/etc/initramfs-tools/conf.d && echo MODULES=list >$1/etc/initramfs-tools/conf.d/tests && printf '{}' \
         >$1/etc/initramfs-tools/modules",
        MODULES.replace('\n', "\\n")
    );
    let list = folder.join("sources.list");
    fs::write(&list, &sources.lines).expect("a list of sources");
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap
        .args(["--quiet", "--variant=minbase", "--mode=root", "--aptopt=Acquire::Languages \"none\""])
        .args(["doc", "man", "locale", "info"].map(|name| format!("--dpkgopt=path-exclude=/usr/share/{name}/*")))
        .arg(format!("--essential-hook={first_stage}"))
        .arg(format!("--customize-hook={} $1", guest.join("customize").display()))
        .arg(format!("--include={PACKAGES}"))
        .arg(&sources.suite)
        .arg(&root)
        .arg(&list);
    run(&mut mmdebstrap);
    for (name, begin) in [("kernel", "vmlinuz-"), ("initrd", "initrd.img-")] {
        let boot = fs::read_dir(root.join("boot")).expect("a folder with a kernel");
        let path = boot.flatten().map(|entry| entry.path());
        let found =
            path.into_iter().find(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(begin)));
        fs::copy(found.expect("a kernel"), folder.join(name)).expect("a copy of the kernel");
    }
    let disk = folder.join("disk.new");
    run(Command::new("truncate").args(["-s", DISK]).arg(&disk));
    run(Command::new("/sbin/mke2fs").args(["-q", "-t", "ext4", "-O", "^has_journal", "-d"]).arg(&root).arg(&disk));
    fs::remove_dir_all(&root).expect("the root folder is no longer needed");
    fs::rename(disk, folder.join("disk")).expect("the disk in place");
}

/// Debian's package sources, as apt has them on this host.
struct Sources {
    suite: String,
    /// In the form of sources.list.
    lines: String,
}

fn sources() -> Sources {
    let output = Command::new("apt-get")
        .args([
            "indextargets",
            "--format",
            "$(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT) $(CODENAME)",
            "Created-By: Packages",
        ])
        .output()
        .expect("apt-get");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines: Vec<(String, String)> = text
        .lines()
        .filter_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["Debian", uri, release, component, codename] => {
                Some((codename.to_owned(), format!("deb {uri} {release} {component}\n")))
            }
            _ => None,
        })
        .collect();
    lines.sort();
    lines.dedup();
    // The main suite is the one without a suffix (-updates, -security).
    let suite = lines.iter().map(|(codename, _)| codename).find(|name| !name.contains('-'));
    let suite = suite.expect("Debian's package lists; run apt-get update").clone();
    Sources { suite, lines: lines.into_iter().map(|(_, line)| line).collect() }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
