//! What a machine gets from the host: an archive, as a disk.

use std::fs::File;
use std::path::Path;

use tar::{Builder, Header};

/// Files for the machine. There they are unpacked with `tar x </dev/vdb`.
pub struct Payload {
    archive: Builder<File>,
}

impl Payload {
    /// An empty one, written to `path`.
    ///
    /// # Panics
    /// If it can't be written.
    pub fn create(path: &Path) -> Self {
        Self { archive: Builder::new(File::create(path).expect("room for the payload")) }
    }

    /// Adds a file that anybody may read and, if `mode` says so, execute.
    ///
    /// # Panics
    /// If there is no room.
    pub fn file(mut self, name: &str, mode: u32, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        header.set_cksum();
        self.archive.append_data(&mut header, name, content).expect("room for the payload");
        self
    }

    /// Writes it to the end.
    ///
    /// # Panics
    /// If there is no room.
    pub fn finish(self) {
        self.archive.into_inner().expect("room for the payload");
    }
}
