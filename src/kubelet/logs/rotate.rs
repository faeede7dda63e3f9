//! Rotating logs by size and number.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use k3s_cri::{ContainerState, ContainerStatus};

use crate::context::Context;

/// How often sizes are looked at.
const EVERY: Duration = Duration::from_secs(10);

/// Rotates the logs of running containers for ever.
pub(crate) async fn run(ctx: &Context) {
    loop {
        tokio::time::sleep(EVERY).await;
        let containers = match ctx.runtime.list_containers().await {
            Ok(containers) => containers,
            Err(error) => {
                tracing::debug!(%error, "cannot list containers to rotate their logs");
                continue;
            }
        };
        for container in containers.into_iter().filter(|container| container.state == ContainerState::Running) {
            if let Err(error) = rotate(ctx, &container).await {
                tracing::warn!(container = container.id, %error, "cannot rotate log");
            }
        }
    }
}

async fn rotate(ctx: &Context, container: &ContainerStatus) -> io::Result<()> {
    let path = &container.log_path;
    let size = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if size <= ctx.config.container_log_max_size {
        return Ok(());
    }
    let (path, keep) = (path.clone(), ctx.config.container_log_max_files);
    let moved = {
        let path = path.clone();
        tokio::task::spawn_blocking(move || {
            prepare(&path, keep)?;
            let moved = rotated_name(&path, Timestamp::now());
            fs::rename(&path, &moved).map(|()| moved)
        })
        .await
        .map_err(io::Error::other)??
    };
    if let Err(error) = ctx.runtime.reopen_container_log(&container.id).await {
        // The container still writes to the old file; under its own name it is not lost.
        fs::rename(&moved, &path)?;
        return Err(io::Error::other(error));
    }
    Ok(())
}

fn rotated_name(path: &Path, now: Timestamp) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", now.strftime("%Y%m%d-%H%M%S")));
    name.into()
}

/// Makes room for one more file and compresses those before the latest, which may still be read.
fn prepare(path: &Path, keep: usize) -> io::Result<()> {
    let mut old = rotated_files(path)?;
    // The current file and the one it is about to become count too.
    let allowed = keep.saturating_sub(2);
    while old.len() > allowed {
        fs::remove_file(old.remove(0))?;
    }
    for file in old.iter().filter(|file| file.extension().is_none_or(|extension| extension != "gz")) {
        compress(file)?;
    }
    Ok(())
}

/// Rotated files of a log, the oldest first.
fn rotated_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(Vec::new());
    };
    let prefix = format!("{name}.");
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(suffix) = name.to_str().and_then(|name| name.strip_prefix(&prefix)) else { continue };
        if suffix.ends_with(".tmp") {
            // Left over from a compression that was interrupted; its source is still there.
            fs::remove_file(entry.path())?;
        } else {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

fn compress(path: &Path) -> io::Result<()> {
    let with = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let tmp = with(".tmp");
    let mut source = fs::File::open(path)?;
    let mut target = GzEncoder::new(fs::File::create(&tmp)?, Compression::default());
    let mut block = vec![0; 64 * 1024];
    loop {
        let length = source.read(&mut block)?;
        if length == 0 {
            break;
        }
        target.write_all(&block[..length])?;
    }
    target.finish()?;
    fs::rename(&tmp, with(".gz"))?;
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_files_are_compressed_and_the_oldest_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        for stamp in ["20240101-000000.gz", "20240102-000000.gz", "20240103-000000", "20240104-000000"] {
            fs::write(dir.path().join(format!("0.log.{stamp}")), "x").unwrap();
        }
        fs::write(dir.path().join("0.log.20240104-000000.tmp"), "").unwrap();
        fs::write(&path, "current").unwrap();
        prepare(&path, 5).unwrap();
        let names: Vec<String> = rotated_files(&path)
            .unwrap()
            .iter()
            .map(|file| file.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        let expected = ["0.log.20240102-000000.gz", "0.log.20240103-000000.gz", "0.log.20240104-000000.gz"];
        assert_eq!(names, expected);
        assert_eq!(fs::read_to_string(&path).unwrap(), "current");
    }
}
