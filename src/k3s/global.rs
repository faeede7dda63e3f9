//! Options before the command, as k3s has them: `k3s --debug server`, `k3s --data-dir DIR server`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Commands that know these options themselves; to others, as with k3s, they mean nothing.
const TAKE_THEM: &[&str] = &["server", "agent"];

/// Moves the options before the command behind it, so that `[--debug, server, x]` becomes `[server, --debug, x]`. What
/// is said behind the command counts more.
///
/// # Errors
/// An option that is none of k3s, or a folder that is not named.
pub fn moved_behind_the_command(args: Vec<OsString>) -> Result<Vec<OsString>, String> {
    let mut rest = args.into_iter();
    let mut options = Vec::new();
    while let Some(arg) = rest.next() {
        let Some(option) = arg.as_bytes().strip_prefix(b"-") else {
            let taken = arg.to_str().is_some_and(|name| TAKE_THEM.contains(&name));
            let options = if taken { options } else { Vec::new() };
            return Ok(std::iter::once(arg).chain(options).chain(rest).collect());
        };
        let option = option.strip_prefix(b"-").unwrap_or(option);
        let (name, value) = match option.iter().position(|byte| *byte == b'=') {
            Some(at) => (&option[..at], Some(OsStr::from_bytes(&option[at + 1..]).to_owned())),
            None => (option, None),
        };
        match name {
            b"debug" => options.push(joined("--debug=", &value.unwrap_or_else(|| "true".into()))),
            b"data-dir" | b"d" => {
                let value = value.or_else(|| rest.next()).ok_or("--data-dir needs a folder")?;
                options.push(joined("--data-dir=", &value));
            }
            _ => return Err(format!("unknown option {arg:?} before the command")),
        }
    }
    Err("no command".into())
}

fn joined(flag: &str, value: &OsStr) -> OsString {
    OsString::from_vec([flag.as_bytes(), value.as_bytes()].concat())
}
