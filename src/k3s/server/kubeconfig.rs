//! The administrator's kubeconfig, at every start: with this server's address, mode and group.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{PermissionsExt, chown};

use anyhow::{Context as _, bail};
use k3s_env::Server;
use k3s_supervisor::{Tls, kubeconfig, private_dir, public_dir, write_atomically};

/// Writes it, if it says something else, and gives it its mode and group.
///
/// # Errors
/// A folder or file that can't be written, or a group that does not exist.
pub fn write(config: &Server, tls: &Tls) -> anyhow::Result<()> {
    let (path, mode) = (&config.kubeconfig.path, config.kubeconfig.mode);
    let listener = &config.listener;
    let address = match listener.bind_address {
        address if !address.is_unspecified() => address,
        address if address.is_ipv4() => Ipv4Addr::LOCALHOST.into(),
        _ => Ipv6Addr::LOCALHOST.into(),
    };
    let server = format!("https://{}", SocketAddr::new(address, listener.port));
    let text = kubeconfig(&server, tls.server_ca.certificate(), &tls.client_admin);
    if let Some(folder) = path.parent() {
        // With --write-kubeconfig-mode others may read the file, and an ordinary user's k3s looks for a configuration
        // beside it.
        if config.rootless { private_dir(folder) } else { public_dir(folder) }?;
    }
    if std::fs::read_to_string(path).is_ok_and(|have| have == text) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
            .with_context(|| format!("cannot set the mode of {}", path.display()))?;
    } else {
        write_atomically(path, text.as_bytes(), mode)?;
    }
    if let Some(group) = &config.kubeconfig.group {
        let groups = std::fs::read_to_string("/etc/group").context("cannot read /etc/group")?;
        let Some(id) = group_id(group, &groups) else { bail!("--write-kubeconfig-group: there is no group {group}") };
        chown(path, None, Some(id)).with_context(|| format!("cannot give {} to group {group}", path.display()))?;
    }
    Ok(())
}

/// The id of a group by its number, or by its name in group(5).
fn group_id(group: &str, groups: &str) -> Option<u32> {
    let named = groups.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        Some((name, fields.nth(1)?))
    });
    group.parse().ok().or_else(|| named.into_iter().find(|(name, _)| *name == group)?.1.parse().ok())
}
