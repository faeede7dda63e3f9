//! Lingering: whether a user's processes outlive the user's sessions.

use std::path::Path;

/// What to tell a user whose cluster would end at logout; `None` where it would not.
pub fn advice(user: &str, uid: u32) -> Option<String> {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    // Only what lives below the user's own slice ends with the user's last session.
    let in_slice = own.contains(&format!("/user-{uid}.slice/"));
    (in_slice && !lingers(Path::new("/var/lib/systemd/linger"), user)).then(|| {
        format!(
            "when user {user} logs out for the last time, systemd ends this cluster and its pods, and after a reboot nothing starts it; let them outlive sessions with: sudo loginctl enable-linger {user}"
        )
    })
}

/// logind keeps a file of the user's name.
fn lingers(folder: &Path, user: &str) -> bool {
    folder.join(user).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_lingers_who_has_a_file_with_logind() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("edge"), "").unwrap();
        assert!(lingers(folder.path(), "edge"));
        assert!(!lingers(folder.path(), "other"));
    }
}
