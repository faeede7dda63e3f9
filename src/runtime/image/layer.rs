//! A blob as it arrives: digested, kept, and if it is a layer unpacked, all in one pass.

use std::fs::File;
use std::io::{self, Read, Write};

use bytes::{Buf, Bytes};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::compression::decompress;
use super::store::ImageStore;
use super::{ImageError, archive};
use crate::snapshot::hex;

/// Reads what arrives; everything read is digested and written to the file too.
struct Arriving {
    pieces: mpsc::Receiver<Bytes>,
    current: Bytes,
    file: File,
    digest: Sha256,
    size: u64,
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            let Some(piece) = self.pieces.blocking_recv() else { return Ok(0) };
            self.digest.update(&piece);
            self.size += piece.len() as u64;
            self.file.write_all(&piece)?;
            self.current = piece;
        }
        let count = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// What is expected of a blob.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub digest: String,
    pub size: u64,
    /// Digest of the uncompressed content, if it is a layer.
    pub diff_id: Option<String>,
}

impl ImageStore {
    /// Takes a blob into the store, whole and with the right digest, or not at all. Blocks while it arrives.
    pub(super) fn receive(&self, expected: &Expected, pieces: mpsc::Receiver<Bytes>) -> Result<(), ImageError> {
        let ingest = self.ingest()?;
        let path = ingest.path().join("blob");
        let file = File::create(&path).map_err(ImageError::io(format!("create {}", path.display())))?;
        let mut arriving = Arriving { pieces, current: Bytes::new(), file, digest: Sha256::new(), size: 0 };
        let unpacked = match &expected.diff_id {
            Some(diff_id) => self.take_layer(diff_id, &mut arriving),
            None => Ok(()),
        };
        if let Err(error) = &unpacked
            && error.is_no_space()
        {
            return unpacked;
        }
        // The rest counts for the digest: a wrong one says more than what it led to.
        io::copy(&mut arriving, &mut io::sink()).map_err(ImageError::io("receive blob"))?;
        let found = format!("sha256:{}", hex(&arriving.digest.finalize()));
        if found != expected.digest {
            return Err(ImageError::Digest { what: format!("blob {}", expected.digest), found });
        }
        if arriving.size != expected.size {
            let detail = format!("has {} bytes, not {} as the manifest says", arriving.size, expected.size);
            return Err(ImageError::document(&expected.digest, detail));
        }
        unpacked?;
        let place = self.blob(&expected.digest);
        std::fs::rename(&path, &place).map_err(ImageError::io(format!("rename to {}", place.display())))
    }

    fn take_layer(&self, diff_id: &str, arriving: &mut Arriving) -> Result<(), ImageError> {
        let content = decompress(arriving)?;
        if self.snapshots.has(diff_id) {
            // Unpacked from another image already, so unpacking would not look at this one's bytes.
            return archive::verify(content, diff_id);
        }
        self.snapshots.unpack(diff_id, content).map_err(|error| ImageError::layer(diff_id, error))
    }
}
