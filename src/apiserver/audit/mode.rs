//! Whether a request waits for its events.

use std::str::FromStr;

/// Whether a request waits until its event is written or delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// No; when too many events wait, new ones are lost.
    Batch,
    /// Yes, but not for its success.
    Blocking,
    /// Yes, and a request whose first event can't be written is not served.
    BlockingStrict,
}

/// A word that is none of those that are known.
#[derive(Debug, thiserror::Error)]
#[error("{word:?} is not one of {known}")]
pub struct UnknownWord {
    pub(super) word: String,
    pub(super) known: &'static str,
}

impl FromStr for Mode {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "batch" => Ok(Self::Batch),
            "blocking" => Ok(Self::Blocking),
            "blocking-strict" => Ok(Self::BlockingStrict),
            _ => Err(UnknownWord { word: word.to_owned(), known: "batch, blocking, blocking-strict" }),
        }
    }
}
