//! A file that is put aside when it has grown: `audit.log` becomes `audit-2026-01-02T03-04-05.678.log`, as Kubernetes
//! names it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::{SignedDuration, Timestamp};

use super::Options;

/// In megabytes, if nothing is said.
const DEFAULT_SIZE: u64 = 100;
const TIME: &str = "%Y-%m-%dT%H-%M-%S.%3f";

/// The file, and the rules for its predecessors.
pub(super) struct Rotated {
    /// `None`: standard output.
    path: Option<PathBuf>,
    file: Option<File>,
    size: u64,
    max_size: u64,
    max_backups: usize,
    max_age: u32,
    compress: bool,
}

impl Rotated {
    /// Opens the file, whose folder is made if need be.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(options: &Options) -> io::Result<Self> {
        let mut rotated = Self {
            path: (options.path.as_os_str() != "-").then(|| options.path.clone()),
            file: None,
            size: 0,
            max_size: if options.max_size == 0 { DEFAULT_SIZE } else { options.max_size } << 20,
            max_backups: options.max_backups,
            max_age: options.max_age,
            compress: options.compress,
        };
        rotated.reopen()?;
        Ok(rotated)
    }

    fn reopen(&mut self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Writes lines, in as few pieces as the size allows. After an error there is no half line in the file.
    ///
    /// # Errors
    /// If they cannot all be written.
    pub fn write(&mut self, lines: &[&[u8]]) -> io::Result<()> {
        if self.path.is_none() {
            let mut out = io::stdout().lock();
            return lines.iter().try_for_each(|line| out.write_all(line)).and_then(|()| out.flush());
        }
        let mut rest = lines;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |line: &&&[u8]| {
                bytes += line.len() as u64;
                self.size + bytes <= self.max_size
            };
            let count = match rest.iter().take_while(fits).count() {
                0 if self.size > 0 => {
                    self.rotate()?;
                    continue;
                }
                // A line that is longer than the file may be has one of its own.
                count => count.max(1),
            };
            self.append(&rest[..count].concat())?;
            rest = &rest[count..];
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            self.reopen()?;
        }
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        if let Err(error) = file.write_all(bytes) {
            // The half line may have to stay: then the next one is at least not lost with it.
            if let Err(stuck) = file.set_len(self.size) {
                tracing::debug!(%stuck, "a half line stays in the audit log");
            }
            return Err(error);
        }
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Puts the file aside and begins another.
    fn rotate(&mut self) -> io::Result<()> {
        let Some(path) = self.path.clone() else { return Ok(()) };
        let (stem, extension) = parts(&path);
        let aside = path.with_file_name(format!("{stem}-{}{extension}", Timestamp::now().strftime(TIME)));
        self.file = None;
        std::fs::rename(&path, &aside)?;
        self.reopen()?;
        // What follows is housekeeping: the next event does not depend on it.
        if let Err(error) = self.tidy(&path, &aside) {
            tracing::warn!(%error, path = %path.display(), "cannot tidy old audit logs");
        }
        Ok(())
    }

    fn tidy(&self, path: &Path, newest: &Path) -> io::Result<()> {
        if self.compress {
            compress(newest)?;
        }
        let mut old = backups(path)?;
        // The newest first.
        old.sort_by(|a, b| b.cmp(a));
        let since = Timestamp::now() - SignedDuration::from_hours(24 * i64::from(self.max_age));
        let oldest = since.strftime(TIME).to_string();
        for (at, (time, file)) in old.iter().enumerate() {
            let too_many = self.max_backups > 0 && at >= self.max_backups;
            let too_old = self.max_age > 0 && *time < oldest;
            if too_many || too_old {
                std::fs::remove_file(file)?;
            }
        }
        Ok(())
    }
}

/// `audit` and `.log`.
fn parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
    let extension = text(path.extension()).map(|extension| format!(".{extension}")).unwrap_or_default();
    (text(path.file_stem()).unwrap_or_default(), extension)
}

/// The files that were put aside, with the time in their names.
fn backups(path: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let (stem, extension) = parts(path);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let file = entry?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        let time = name.strip_prefix(&format!("{stem}-")).and_then(|rest| rest.strip_suffix(&extension));
        let is_time = |time: &&str| time.len() == "2026-01-02T03-04-05.678".len() && time.starts_with("20");
        if let Some(time) = time.filter(is_time) {
            found.push((time.to_owned(), file.clone()));
        }
    }
    Ok(found)
}

fn compress(path: &Path) -> io::Result<()> {
    let mut target = path.as_os_str().to_owned();
    target.push(".gz");
    let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&target)?;
    let mut encoder = GzEncoder::new(file, Compression::default());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?;
    std::fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_grown_file_is_put_aside_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { max_size: 1, max_backups: 2, ..Options::new(folder.path().join("sub/audit.log")) };
        let folder = folder.path().join("sub");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("audit-2020-01-01T00-00-00.000.log"), "old").unwrap();
        std::fs::write(folder.join("audit-notes.log"), "not ours").unwrap();
        let mut log = Rotated::open(&options).unwrap();
        let line = vec![b'x'; 600 << 10];
        for _ in 0..4 {
            log.write(&[&line]).unwrap();
            // Names have a resolution of a millisecond.
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let names = files(&folder);
        assert_eq!(names.len(), 4, "{names:?}");
        assert!(names.contains(&"audit-notes.log".to_owned()) && names.contains(&"audit.log".to_owned()));
        assert!(!names.contains(&"audit-2020-01-01T00-00-00.000.log".to_owned()));
        assert_eq!(std::fs::metadata(folder.join("audit.log")).unwrap().len(), 600 << 10);
    }

    #[test]
    fn age_and_compression_are_kept_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let options = Options { max_size: 1, max_age: 7, compress: true, ..Options::new(&path) };
        std::fs::write(folder.path().join("audit-2020-01-01T00-00-00.000.log.gz"), "old").unwrap();
        let mut log = Rotated::open(&options).unwrap();
        let line = vec![b'x'; 600 << 10];
        log.write(&[&line, &line]).unwrap();
        let names = files(folder.path());
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(names[0].starts_with("audit-20") && names[0].ends_with(".log.gz") && names[1] == "audit.log");
    }

    #[test]
    fn a_full_disk_fails_the_write_and_nothing_else() {
        let Ok(full) = OpenOptions::new().append(true).open("/dev/full") else { return };
        let folder = tempfile::tempdir().unwrap();
        let mut log = Rotated::open(&Options::new(folder.path().join("audit.log"))).unwrap();
        let good = log.file.replace(full);
        assert_eq!(log.write(&[b"lost\n"]).unwrap_err().kind(), io::ErrorKind::StorageFull);
        log.file = good;
        log.write(&[b"kept\n"]).unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("audit.log")).unwrap(), "kept\n");
    }
}
