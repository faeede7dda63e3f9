//! Which ids an ordinary user may use besides the own one: subuid(5), subgid(5).

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A pod's images may own files by any 16-bit id, so fewer are of no use.
pub const NEEDED: u32 = 65_536;

/// Uids or gids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdKind {
    Uid,
    Gid,
}

impl IdKind {
    /// The tool of the shadow suite that writes a map with more than the caller's own id.
    pub fn tool(self) -> &'static str {
        match self {
            Self::Uid => "newuidmap",
            Self::Gid => "newgidmap",
        }
    }

    /// The option of usermod(8) that adds a range.
    pub(crate) fn usermod_option(self) -> &'static str {
        match self {
            Self::Uid => "--add-subuids",
            Self::Gid => "--add-subgids",
        }
    }
}

impl fmt::Display for IdKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uid => "sub-uids",
            Self::Gid => "sub-gids",
        })
    }
}

/// Ids of the host that a user may hand out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubIdRange {
    pub start: u32,
    pub count: u32,
}

/// All ranges in the text of a subuid or subgid file that belong to this user, by name or by uid.
/// Lines that are no `owner:start:count` are passed over, as the shadow suite does.
pub fn ranges_of(text: &str, name: &str, uid: u32) -> Vec<SubIdRange> {
    let uid = uid.to_string();
    parse(text).filter(|(owner, _)| *owner == name || *owner == uid).map(|(_, range)| range).collect()
}

/// The service that is to be asked for sub-ids, by the text of nsswitch.conf(5); `None` where it is the files. The shadow
/// suite takes one service only, the first.
pub(crate) fn service(nsswitch: &str) -> Option<&str> {
    let line = nsswitch.lines().find_map(|line| line.trim().strip_prefix("subid:"))?;
    line.split_whitespace().next().filter(|service| *service != "files" && !service.starts_with('#'))
}

/// What getsubids(1) prints: `0: edge 100000 65536`, a line for each range.
pub(crate) fn ranges_of_getsubids(text: &str, name: &str) -> Vec<SubIdRange> {
    let range = |line: &str| {
        let mut fields = line.split_once(": ")?.1.split_whitespace();
        let owner = fields.next()?;
        let (start, count): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        start.checked_add(count).filter(|_| count > 0 && owner == name)?;
        Some(SubIdRange { start, count })
    };
    text.lines().filter_map(range).collect()
}

/// The first id from which on nobody has a range, to propose one.
pub(crate) fn first_free(text: &str) -> u32 {
    let end = parse(text).map(|(_, r)| r.start.saturating_add(r.count)).max();
    end.unwrap_or(0).max(100_000)
}

fn parse(text: &str) -> impl Iterator<Item = (&str, SubIdRange)> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next().filter(|o| !o.is_empty() && !o.starts_with('#'))?;
        let start = fields.next()?.parse().ok()?;
        let count = fields.next()?.parse().ok()?;
        // A range must end within 32 bits, and the last id is "no id" to the kernel.
        u32::checked_add(start, count).filter(|_| count > 0)?;
        Some((owner, SubIdRange { start, count }))
    })
}

/// What stands in `/proc/PID/uid_map` and `gid_map` of the namespaces: 0 is the user, and 1 and up
/// are all sub-ids in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMap {
    pub kind: IdKind,
    pub own: u32,
    pub ranges: Vec<SubIdRange>,
}

/// The map was refused.
#[derive(Debug, thiserror::Error)]
pub enum IdMapError {
    #[error("cannot run {tool:?}: {source}")]
    Run { tool: PathBuf, source: std::io::Error },
    #[error("{tool:?} would not map the {kind} ({map}): {stderr}")]
    Refused { tool: PathBuf, kind: IdKind, map: String, stderr: String },
}

impl IdMap {
    /// The arguments of newuidmap(1) after the pid: triples of id inside, id outside, count.
    pub fn arguments(&self) -> Vec<String> {
        let mut args = vec!["0".to_owned(), self.own.to_string(), "1".to_owned()];
        let mut inside: u32 = 1;
        for range in &self.ranges {
            args.extend([inside.to_string(), range.start.to_string(), range.count.to_string()]);
            inside = inside.saturating_add(range.count);
        }
        args
    }

    /// Has the set-user-id tool write the map of this process's user namespace.
    ///
    /// # Errors
    /// The tool cannot be run, or refuses; its own words are in the error.
    pub fn apply(&self, tool: &Path, pid: i32) -> Result<(), IdMapError> {
        self.begin(tool, pid)?.finish()
    }

    /// Starts the tool, and does not wait for it: the maps of uids and of gids are written at the same time.
    ///
    /// # Errors
    /// The tool cannot be run.
    pub(crate) fn begin(&self, tool: &Path, pid: i32) -> Result<Mapping<'_>, IdMapError> {
        let mut command = Command::new(tool);
        command.arg(pid.to_string()).args(self.arguments());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let child = child.map_err(|source| IdMapError::Run { tool: tool.to_owned(), source })?;
        Ok(Mapping { map: self, tool: tool.to_owned(), child })
    }
}

/// A tool that is writing a map.
pub(crate) struct Mapping<'a> {
    map: &'a IdMap,
    tool: PathBuf,
    child: Child,
}

impl Mapping<'_> {
    /// Waits for its end.
    ///
    /// # Errors
    /// It refuses; its own words are in the error.
    pub(crate) fn finish(self) -> Result<(), IdMapError> {
        let Self { map, tool, child } = self;
        let output = child.wait_with_output().map_err(|source| IdMapError::Run { tool: tool.clone(), source })?;
        if output.status.success() {
            return Ok(());
        }
        let stderr = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        let stderr = if stderr.is_empty() { output.status.to_string() } else { stderr };
        Err(IdMapError::Refused { tool, kind: map.kind, map: map.arguments().join(" "), stderr })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "# ours\nroot:50:10\nedge:100000:65536\n1001:300000:1000\nedgy:1:1\nedge:500000:7\nedge:x:1\nedge:1\n";

    #[test]
    fn ranges_are_found_by_name_and_by_uid() {
        let found = ranges_of(TEXT, "edge", 1001);
        let starts: Vec<_> = found.iter().map(|r| (r.start, r.count)).collect();
        assert_eq!(starts, [(100_000, 65_536), (300_000, 1000), (500_000, 7)]);
        assert_eq!(ranges_of(TEXT, "nobody", 65534), []);
    }

    #[test]
    fn the_service_for_sub_ids_is_the_first_that_is_no_file() {
        assert_eq!(service("passwd: files\nsubid: sss files\n"), Some("sss"));
        assert_eq!(service("subid:\tfiles\n"), None);
        assert_eq!(service("passwd: sss\n#subid: sss\n"), None);
    }

    #[test]
    fn ranges_of_a_service_are_as_getsubids_prints_them() {
        let text = "0: edge 100000 65536\n1: edge 300000 5\nError fetching ranges\n";
        let found = ranges_of_getsubids(text, "edge");
        assert_eq!(found.iter().map(|r| (r.start, r.count)).collect::<Vec<_>>(), [(100_000, 65_536), (300_000, 5)]);
        assert_eq!(ranges_of_getsubids(text, "other"), []);
    }

    #[test]
    fn a_range_beyond_32_bits_or_empty_is_none() {
        assert_eq!(ranges_of("a:4294967295:2\na:5:0\n", "a", 1), []);
    }

    #[test]
    fn a_proposal_does_not_overlap_what_others_have() {
        assert_eq!(first_free(""), 100_000);
        assert_eq!(first_free("root:1:5\n"), 100_000);
        assert_eq!(first_free(TEXT), 500_007);
    }

    #[test]
    fn zero_is_the_user_and_sub_ids_follow_without_a_gap() {
        let map = IdMap { kind: IdKind::Uid, own: 1001, ranges: ranges_of(TEXT, "edge", 1001) };
        assert_eq!(map.arguments().join(" "), "0 1001 1 1 100000 65536 65537 300000 1000 66537 500000 7");
    }

    #[test]
    fn a_refusal_carries_the_tools_own_words() {
        let map = IdMap { kind: IdKind::Gid, own: 7, ranges: vec![] };
        // `ls` takes the pid and the map as file names, which are not there.
        let error = map.apply(Path::new("/bin/ls"), 999_999_999).unwrap_err().to_string();
        assert!(error.contains("999999999") && error.contains("sub-gids"), "{error}");
        let error = map.apply(Path::new("/nonexistent/newgidmap"), 1).unwrap_err();
        assert!(matches!(error, IdMapError::Run { .. }));
    }
}
