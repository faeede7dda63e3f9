//! Users and groups, looked up in the image's own /etc/passwd and /etc/group.

use std::os::fd::BorrowedFd;
use std::path::Path;

use k3s_cri::ContainerUser;
use oci_spec::runtime::User;

use super::error::{Context, Error};
use super::inside;

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub user: ContainerUser,
    /// For `$HOME` if the environment has none.
    pub home: String,
}

/// Before a `username`: the image's /etc/group does not count (supplementalGroupsPolicy `Strict`). No name of a user
/// begins with it.
pub(crate) const ONLY_GIVEN_GROUPS: char = '=';

/// Resolves the specification's user. A `username` (`name|uid[:group|gid]`) is looked up and brings the groups it is a
/// member of; without one the numbers are taken as they are.
pub(crate) fn look_up(root: BorrowedFd<'_>, user: &User) -> Result<Identity, Error> {
    let passwd = inside::read_small(root, Path::new("/etc/passwd")).doing("read /etc/passwd")?.unwrap_or_default();
    let group = inside::read_small(root, Path::new("/etc/group")).doing("read /etc/group")?.unwrap_or_default();
    resolve(user, &passwd, &group)
}

fn resolve(user: &User, passwd: &str, group: &str) -> Result<Identity, Error> {
    let extra = user.additional_gids().clone().unwrap_or_default();
    let Some(wanted) = user.username() else {
        let home = by_uid(passwd, user.uid()).map(|entry| entry.home).unwrap_or_default();
        return Ok(identity(user.uid(), user.gid(), extra, home));
    };
    let (wanted, only_given) = match wanted.strip_prefix(ONLY_GIVEN_GROUPS) {
        Some(wanted) => (wanted, true),
        None => (wanted.as_str(), false),
    };
    let (name, group_name) = match wanted.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (wanted, None),
    };
    let entry = match name.parse::<u32>() {
        Ok(uid) => by_uid(passwd, uid).unwrap_or(Entry { name: "", uid, gid: 0, home: "" }),
        Err(_) => entries(passwd)
            .find(|entry| entry.name == name)
            .ok_or_else(|| Error::invalid(format!("unable to find user {name}: no matching entries in passwd file")))?,
    };
    let gid = match group_name {
        None | Some("") => entry.gid,
        Some(group_name) => match group_name.parse() {
            Ok(gid) => gid,
            Err(_) => {
                groups(group).find(|(name, _, _)| *name == group_name).map(|(_, gid, _)| gid).ok_or_else(|| {
                    Error::invalid(format!("unable to find group {group_name}: no matching entries in group file"))
                })?
            }
        },
    };
    let mut all = extra;
    if !entry.name.is_empty() && !only_given {
        let member_of = groups(group).filter(|(_, _, members)| members.split(',').any(|member| member == entry.name));
        all.extend(member_of.map(|(_, gid, _)| gid));
    }
    Ok(identity(entry.uid, gid, all, entry.home))
}

fn identity(uid: u32, gid: u32, mut supplemental_groups: Vec<u32>, home: &str) -> Identity {
    // The primary group is one of them too, as containerd has it.
    supplemental_groups.push(gid);
    supplemental_groups.sort_unstable();
    supplemental_groups.dedup();
    let home = if home.is_empty() { "/" } else { home }.to_owned();
    Identity { user: ContainerUser { uid, gid, supplemental_groups }, home }
}

struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn entries(passwd: &str) -> impl Iterator<Item = Entry<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).unwrap_or_default();
        Some(Entry { name, uid, gid, home })
    })
}

fn by_uid(passwd: &str, uid: u32) -> Option<Entry<'_>> {
    entries(passwd).find(|entry| entry.uid == uid)
}

/// Name, id and members of each group.
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::UserBuilder;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102:web:/var/www:/bin/false\nbroken line\n";
    const GROUP: &str = "root:x:0:\nweb:x:102:\nssl:x:103:web,mail\nstaff:x:50:\n";

    fn look(username: &str) -> Result<(u32, u32, Vec<u32>, String), String> {
        let user = UserBuilder::default().username(username).additional_gids([7]).build().unwrap();
        resolve(&user, PASSWD, GROUP)
            .map(|got| (got.user.uid, got.user.gid, got.user.supplemental_groups, got.home))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        assert_eq!(look("web"), Ok((101, 102, vec![7, 102, 103], "/var/www".into())));
        assert_eq!(look("101"), Ok((101, 102, vec![7, 102, 103], "/var/www".into())));
        assert_eq!(look("web:staff"), Ok((101, 50, vec![7, 50, 103], "/var/www".into())));
        assert_eq!(look("=web"), Ok((101, 102, vec![7, 102], "/var/www".into())));
        assert_eq!(look("=101:50"), Ok((101, 50, vec![7, 50], "/var/www".into())));
        assert_eq!(look("4000"), Ok((4000, 0, vec![0, 7], "/".into())));
        assert_eq!(look("4000:4001"), Ok((4000, 4001, vec![7, 4001], "/".into())));
    }

    #[test]
    fn unknown_names_are_errors() {
        assert_eq!(look("nobody").unwrap_err(), "unable to find user nobody: no matching entries in passwd file");
        assert_eq!(look("web:none").unwrap_err(), "unable to find group none: no matching entries in group file");
    }
}
