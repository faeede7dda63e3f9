//! Container logs: reading, following, rotating.
//!
//! The runtime writes lines of the CRI log format to `<pod log dir>/<namespace>_<name>_<uid>/<container>/<run>.log`.

pub(crate) mod entry;
pub mod read;
pub(crate) mod rotate;
