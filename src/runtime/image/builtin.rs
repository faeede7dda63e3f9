//! Images made of the running binary: no registry, no archive, no copy.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use oci_spec::image::{ConfigBuilder, ImageConfiguration, ImageConfigurationBuilder, RootFsBuilder};
use sha2::{Digest, Sha256};

use super::store::StoredImage;
use super::{ARCHITECTURE, ImageError, Reference};
use crate::snapshot::{Snapshots, hex};

/// Where such an image has the binary.
pub(crate) const BINARY: &str = "/bin/k3s";

/// An image whose only program is the running binary, at `/bin/k3s`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltinImage {
    /// The name pods use; made fully qualified.
    pub reference: String,
    /// The image's entrypoint, e.g. `["/bin/k3s", "addon", "coredns"]`.
    pub entrypoint: Vec<String>,
    /// The image's cmd, which a container's args replace.
    pub cmd: Vec<String>,
    /// `uid[:gid]`, empty for root.
    pub user: String,
}

/// What the root of such an image has, besides the binary: directories with their modes.
const DIRECTORIES: [(&str, u32); 12] = [
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("opt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var", 0o755),
];

impl BuiltinImage {
    /// The image as the store would have it. Its id changes when what it runs changes.
    pub(super) fn store(&self, snapshots: &Snapshots) -> Result<StoredImage, ImageError> {
        let reference =
            Reference::parse(&self.reference).map_err(|error| ImageError::document("built-in image", error))?;
        let skeleton = skeleton_id();
        snapshots.build(&skeleton, make_skeleton).map_err(|error| ImageError::layer(&skeleton, error))?;
        let config = self.configuration(&skeleton).map_err(|error| ImageError::document("built-in image", error))?;
        let bytes = serde_json::to_vec(&config).map_err(|error| ImageError::document("built-in image", error))?;
        let id = format!("sha256:{}", hex(&Sha256::digest(&bytes)));
        Ok(StoredImage {
            id,
            names: vec![reference.to_string()],
            target: None,
            manifest_digest: None,
            blobs: Vec::new(),
            size: 0,
            config,
            diff_ids: vec![skeleton],
            builtin: true,
        })
    }

    fn configuration(&self, skeleton: &str) -> Result<ImageConfiguration, oci_spec::OciSpecError> {
        let config = ConfigBuilder::default()
            .entrypoint(self.entrypoint.clone())
            .cmd(self.cmd.clone())
            .user(self.user.clone())
            .env(vec!["PATH=/bin".to_owned()])
            .working_dir("/".to_owned())
            .build()?;
        let rootfs = RootFsBuilder::default().typ("layers").diff_ids(vec![skeleton.to_owned()]).build()?;
        ImageConfigurationBuilder::default()
            .architecture(ARCHITECTURE)
            .os("linux")
            .config(config)
            .rootfs(rootfs)
            .history(Vec::new())
            .build()
    }
}

/// The skeleton has no archive to be digested; its name is the digest of its description.
fn skeleton_id() -> String {
    let mut digest = Sha256::new();
    digest.update(b"k3s builtin image skeleton");
    for (name, mode) in DIRECTORIES {
        digest.update(format!("{name} {mode:o}\n"));
    }
    format!("sha256:{}", hex(&digest.finalize()))
}

fn make_skeleton(root: &Path) -> std::io::Result<()> {
    let set_mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
    for (name, mode) in DIRECTORIES {
        let path = root.join(name);
        std::fs::create_dir(&path)?;
        set_mode(&path, mode)?;
    }
    // The place that the binary is mounted on.
    let place = root.join(BINARY.trim_start_matches('/'));
    std::fs::write(&place, b"")?;
    set_mode(&place, 0o755)?;
    set_mode(root, 0o755)
}
