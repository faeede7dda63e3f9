//! The last words of a container.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::config::Config;
use crate::logs::entry::Entry;

const MAX_BYTES: u64 = 4096;
const MAX_LOG_BYTES: u64 = 2048;
const MAX_LOG_LINES: usize = 80;

/// The file on the node that a container's termination message is written to.
pub(crate) fn path(config: &Config, pod: &Pod, container: &str, attempt: u32) -> PathBuf {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    config.pod_dir(uid).join("containers").join(container).join(format!("termination-log-{attempt}"))
}

/// The message of a container that ended, by its policy.
pub(crate) fn read(container: &Container, path: &Path, log: &Path, exit_code: i32) -> Option<String> {
    let message = read_tail(path, MAX_BYTES).ok().filter(|message| !message.is_empty());
    let from_logs = container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
    match message {
        Some(message) => Some(message),
        None if from_logs && exit_code != 0 => log_tail(log).filter(|message| !message.is_empty()),
        None => None,
    }
}

fn read_tail(path: &Path, max: u64) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(max)))?;
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn log_tail(path: &Path) -> Option<String> {
    // Each line has some 40 bytes before what the container wrote.
    let text = read_tail(path, MAX_LOG_BYTES * 4).ok()?;
    let lines: Vec<&str> = text.lines().collect();
    let start = lines.len().saturating_sub(MAX_LOG_LINES);
    let mut message = String::new();
    for line in &lines[start..] {
        if let Some(entry) = Entry::parse(line.as_bytes()) {
            message.push_str(&String::from_utf8_lossy(entry.content));
            if !entry.partial {
                message.push('\n');
            }
        }
    }
    let mut cut = message.len().saturating_sub(MAX_LOG_BYTES as usize);
    while !message.is_char_boundary(cut) {
        cut += 1;
    }
    Some(message.split_off(cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_stand_in_for_a_message_only_on_error_and_if_asked() {
        let dir = tempfile::tempdir().unwrap();
        let (file, log) = (dir.path().join("message"), dir.path().join("0.log"));
        std::fs::write(&file, "").unwrap();
        std::fs::write(&log, "2024-01-01T00:00:00.0Z stderr F it broke\n").unwrap();
        let container = |policy: &str| Container {
            name: "c".into(),
            termination_message_policy: Some(policy.into()),
            ..Default::default()
        };
        assert_eq!(read(&container("File"), &file, &log, 1), None);
        assert_eq!(read(&container("FallbackToLogsOnError"), &file, &log, 0), None);
        assert_eq!(read(&container("FallbackToLogsOnError"), &file, &log, 1).as_deref(), Some("it broke\n"));
        std::fs::write(&file, "own words").unwrap();
        assert_eq!(read(&container("FallbackToLogsOnError"), &file, &log, 1).as_deref(), Some("own words"));
    }
}
