//! Reading an image archive once, front to back: every file's content goes to the store's ingest directory under its
//! digest, which is computed on the way and never taken from the archive.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};
use tar::{Archive, EntryType};

use super::ImageError;
use super::compression::decompress;
use crate::snapshot::hex;

/// A file of the archive, in the ingest directory by the name of its digest.
#[derive(Debug, Clone)]
pub(super) struct Content {
    pub digest: String,
    pub size: u64,
    pub path: PathBuf,
}

/// The files of an archive by their cleaned names.
#[derive(Debug, Default)]
pub(super) struct Contents {
    files: HashMap<PathBuf, Content>,
    /// docker-archives have links in place of repeated layers.
    links: HashMap<PathBuf, PathBuf>,
}

impl Contents {
    pub(super) fn get(&self, name: &str) -> Option<&Content> {
        let mut path = clean(Path::new(name));
        // More links than this are a loop.
        for _ in 0..8 {
            if let Some(content) = self.files.get(&path) {
                return Some(content);
            }
            path = self.links.get(&path)?.clone();
        }
        None
    }

    /// The content with a digest, wherever the archive has it.
    pub(super) fn blob(&self, digest: &str) -> Result<&Content, ImageError> {
        let name = format!("blobs/{}", digest.replacen(':', "/", 1));
        let content = self.get(&name).ok_or_else(|| ImageError::Missing { what: name.clone() })?;
        if content.digest != digest {
            return Err(ImageError::Digest { what: name, found: content.digest.clone() });
        }
        Ok(content)
    }

    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        let content = self.get(name).ok_or_else(|| ImageError::Missing { what: name.to_owned() })?;
        content.read()
    }
}

impl Content {
    /// The whole of a document. Documents are small; what is not is no document.
    pub(super) fn read(&self) -> Result<Vec<u8>, ImageError> {
        if self.size > 16 << 20 {
            return Err(ImageError::document(&self.digest, "larger than 16 MiB"));
        }
        fs::read(&self.path).map_err(ImageError::io(format!("read {}", self.path.display())))
    }
}

/// Reads an archive into `ingest`, an empty directory.
pub(super) fn read(archive: impl Read + Send, ingest: &Path) -> Result<Contents, ImageError> {
    let mut archive = Archive::new(decompress(archive)?);
    let mut contents = Contents::default();
    let damaged = || ImageError::io("read archive");
    for entry in archive.entries().map_err(damaged())? {
        let mut entry = entry.map_err(damaged())?;
        let name = clean(&entry.path().map_err(damaged())?);
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let size = entry.size();
                let content = store(&mut entry, size, ingest)?;
                contents.files.insert(name, content);
            }
            EntryType::Symlink | EntryType::Link => {
                let Some(target) = entry.link_name().map_err(damaged())? else { continue };
                let base = match entry.header().entry_type() {
                    EntryType::Symlink => name.parent().unwrap_or(Path::new("")).to_owned(),
                    _ => PathBuf::new(),
                };
                contents.links.insert(name, clean(&base.join(target)));
            }
            _ => {}
        }
    }
    Ok(contents)
}

/// Fails unless a layer's uncompressed content has the digest `diff_id`.
pub(super) fn verify(mut content: impl Read, diff_id: &str) -> Result<(), ImageError> {
    let mut digest = Sha256::new();
    io::copy(&mut content, &mut digest).map_err(ImageError::io("read layer"))?;
    let found = format!("sha256:{}", hex(&digest.finalize()));
    if found == diff_id {
        return Ok(());
    }
    Err(ImageError::layer(diff_id, format!("layer is {found}, not {diff_id} as the image says")))
}

fn store(source: &mut impl Read, size: u64, ingest: &Path) -> Result<Content, ImageError> {
    let temporary = ingest.join("partial");
    let writing = || ImageError::io(format!("write {}", temporary.display()));
    let mut file = File::create(&temporary).map_err(writing())?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    let mut written = 0;
    loop {
        let count = source.read(&mut buffer).map_err(ImageError::io("read archive"))?;
        if count == 0 {
            break;
        }
        digest.update(&buffer[..count]);
        file.write_all(&buffer[..count]).map_err(writing())?;
        written += count as u64;
    }
    if written != size {
        let source = io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut off");
        return Err(ImageError::Io { doing: "read archive".to_owned(), source });
    }
    let digest = hex(&digest.finalize());
    let path = ingest.join(&digest);
    fs::rename(&temporary, &path).map_err(writing())?;
    Ok(Content { digest: format!("sha256:{digest}"), size, path })
}

/// A name without `.`, `..` and a leading `/`: names are only keys here and never touch the file system.
fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => cleaned.push(part),
            Component::ParentDir => drop(cleaned.pop()),
            _ => {}
        }
    }
    cleaned
}
