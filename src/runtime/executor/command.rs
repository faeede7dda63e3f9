//! Finding and executing the command, with the errors of runc.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::Never;
use super::error::{Error, Reason};

/// A command that was found, with all the kernel needs to run it.
pub(super) struct Command {
    name: String,
    file: CString,
    args: Vec<CString>,
    environment: Vec<CString>,
}

impl Command {
    /// Finds the program of `args[0]` as a shell does.
    pub(super) fn find(args: &[String], environment: Vec<String>) -> Result<Self, Error> {
        let Some(name) = args.first().filter(|name| !name.is_empty()) else {
            return Err(Error::invalid("no command specified"));
        };
        let path = find(name, &environment)?;
        let c_string = |text: &[u8]| {
            let reason = "contains a NUL byte".to_owned();
            CString::new(text).map_err(|_| Error::Command { command: name.clone(), reason })
        };
        Ok(Self {
            file: c_string(path.as_os_str().as_bytes())?,
            args: args.iter().map(|arg| c_string(arg.as_bytes())).collect::<Result<_, _>>()?,
            environment: environment.iter().map(|entry| c_string(entry.as_bytes())).collect::<Result<_, _>>()?,
            name: name.clone(),
        })
    }

    /// Replaces this process. Returns only the reason why it could not.
    pub(super) fn execute(self) -> Result<Never, Error> {
        let Err(error) = nix::unistd::execve(&self.file, &self.args, &self.environment);
        Err(Error::Command { command: self.name, reason: Reason(&error.into()).to_string() })
    }
}

fn find(name: &str, environment: &[String]) -> Result<PathBuf, Error> {
    if name.contains('/') {
        let path = Path::new(name);
        return match executable(path) {
            Ok(()) => Ok(path.to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let reason = format!("stat {name}: {}", Reason(&error));
                Err(Error::Command { command: name.to_owned(), reason })
            }
            Err(error) => Err(Error::Command { command: name.to_owned(), reason: Reason(&error).to_string() }),
        };
    }
    let search = environment.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or_default();
    for directory in search.split(':') {
        let directory = if directory.is_empty() { "." } else { directory };
        let path = Path::new(OsStr::new(directory)).join(name);
        if executable(&path).is_ok() {
            return Ok(path);
        }
    }
    Err(Error::NotInPath { command: name.to_owned() })
}

fn executable(path: &Path) -> io::Result<()> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(io::Error::from_raw_os_error(libc::EACCES));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(name: &str) -> String {
        match find(name, &["PATH=/nowhere:/etc".to_owned()]) {
            Ok(path) => path.display().to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn errors_read_as_runcs() {
        assert_eq!(reason("foo"), "exec: \"foo\": executable file not found in $PATH");
        assert_eq!(reason("/foo"), "exec: \"/foo\": stat /foo: no such file or directory");
        assert_eq!(reason("/etc"), "exec: \"/etc\": is a directory");
        assert_eq!(reason("/etc/passwd"), "exec: \"/etc/passwd\": permission denied");
        assert_eq!(find("sh", &["PATH=/nowhere:/bin".to_owned()]).unwrap(), Path::new("/bin/sh"));
    }
}
