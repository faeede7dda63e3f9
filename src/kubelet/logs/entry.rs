//! Lines of the CRI log format: `<time> <stdout|stderr> <F|P> <content>`.

use jiff::Timestamp;

/// A line of a log; `partial` if the container's own line goes on in the next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub time: &'a str,
    pub stderr: bool,
    pub partial: bool,
    pub content: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Reads a line without its newline; `None` if it is not in the format.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(parts.next()?).ok()?;
        let stream = parts.next()?;
        let tags = parts.next()?;
        let content = parts.next().unwrap_or_default();
        if !matches!(stream, b"stdout" | b"stderr") {
            return None;
        }
        let partial = tags.split(|byte| *byte == b':').next() == Some(b"P");
        Some(Self { time, stderr: stream == b"stderr", partial, content })
    }

    pub fn timestamp(&self) -> Option<Timestamp> {
        self.time.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_four_parts() {
        let entry = Entry::parse(b"2016-10-06T00:17:09.669794202Z stderr P log content").unwrap();
        assert_eq!((entry.stderr, entry.partial, entry.content), (true, true, b"log content".as_slice()));
        assert_eq!(entry.timestamp().unwrap().as_second(), 1_475_713_029);
        assert_eq!(Entry::parse(b"2016-10-06T00:17:09Z stdout F ").unwrap().content, b"");
        assert_eq!(Entry::parse(b"2016-10-06T00:17:09Z stdout F").unwrap().content, b"");
        assert_eq!(Entry::parse(b"nonsense"), None);
        assert_eq!(Entry::parse(b"2016-10-06T00:17:09Z stdin F x"), None);
    }
}
