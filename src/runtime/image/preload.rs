//! The images directory: archives, and lists of images to pull (`.txt`), imported at start and when they appear.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::store::replace;
use super::{ImageError, ImageStore, ImportReport, Reference, import};
use crate::Runtime;

/// Files imported before, so that a start does not read them again.
#[derive(Default, Serialize, Deserialize)]
struct Imported {
    files: BTreeMap<String, ImportedFile>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ImportedFile {
    size: u64,
    modified_nanos: u128,
    names: Vec<String>,
}

impl Imported {
    /// Without a readable record, everything is imported again.
    fn read(record: &Path) -> Self {
        std::fs::read(record).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    fn write(&self, record: &Path) {
        let written = serde_json::to_vec(self)
            .map_err(|error| ImageError::document("imported.json", error))
            .and_then(|bytes| replace(record, &bytes));
        if let Err(error) = written {
            tracing::warn!(%error, "imported images will be imported again at the next start");
        }
    }

    fn is_unchanged(&self, name: &str, stamp: Option<(u64, u128)>, images: &ImageStore) -> bool {
        self.files.get(name).is_some_and(|known| {
            Some((known.size, known.modified_nanos)) == stamp
                && known.names.iter().all(|name| images.get(name).is_some())
        })
    }
}

impl Runtime {
    /// Imports every archive in the images directory that is new or changed, and pulls what its lists name. Each file
    /// fails or succeeds by itself. The images of the files that are there are not garbage collected.
    pub async fn import_images(&self) -> Vec<ImportReport> {
        let _importing = self.importing.lock().await;
        let record = self.options.root.join("imported.json");
        let mut imported = Imported::read(&record);
        let files = match files(&self.options.images_dir) {
            Ok(files) => files,
            Err(error) => {
                return vec![ImportReport { file: self.options.images_dir.clone(), result: Err(error) }];
            }
        };
        let present: HashSet<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        imported.files.retain(|name, _| present.contains(name.as_str()));
        let mut reports = Vec::new();
        for (name, file) in &files {
            let stamp = stamp(file);
            if imported.is_unchanged(name, stamp, &self.images) {
                continue;
            }
            let result = if name.ends_with(".txt") { self.pull_list(file).await } else { self.import_file(file).await };
            if let (Ok(names), Some((size, modified_nanos))) = (&result, stamp) {
                let entry = ImportedFile { size, modified_nanos, names: names.clone() };
                imported.files.insert(name.clone(), entry);
            }
            match &result {
                Ok(images) => tracing::info!(file = %file.display(), ?images, "imported images"),
                Err(error) => tracing::error!(file = %file.display(), %error, "cannot import images"),
            }
            reports.push(ImportReport { file: file.clone(), result });
        }
        if !reports.is_empty() {
            imported.write(&record);
        }
        self.images.pin(imported.files.into_values().flat_map(|file| file.names).collect());
        reports
    }

    async fn import_file(&self, path: &Path) -> Result<Vec<String>, ImageError> {
        let (images, path) = (self.images.clone(), path.to_owned());
        let import = move || {
            let file = File::open(&path).map_err(ImageError::io("open"))?;
            import::import(&images, file)
        };
        tokio::task::spawn_blocking(import).await.unwrap_or_else(|error| Err(ImageError::List(error.to_string())))
    }

    /// Pulls each image that a list names, unless it is there. All are tried; the first error is the list's.
    async fn pull_list(&self, path: &Path) -> Result<Vec<String>, ImageError> {
        let text = std::fs::read_to_string(path).map_err(ImageError::io("read"))?;
        let mut names = Vec::new();
        let mut failed = None;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match self.pull_line(line).await {
                Ok(name) => names.push(name),
                Err(error) => failed = failed.or(Some(ImageError::List(error.to_string()))),
            }
        }
        failed.map_or(Ok(names), Err)
    }

    async fn pull_line(&self, line: &str) -> Result<String, k3s_cri::Error> {
        let reference = Reference::parse(line)?;
        if self.images.get(line).is_none() {
            self.strong()?.pull(reference.clone(), None).await?;
        }
        Ok(reference.to_string())
    }
}

/// The files of the directory by name, in order. Those that begin with a dot are on their way.
fn files(directory: &Path) -> Result<Vec<(String, PathBuf)>, ImageError> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(ImageError::Io { doing: "list images".to_owned(), source }),
    };
    let mut files: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.path().is_file())
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .filter(|(name, _)| !name.starts_with('.'))
        .collect();
    files.sort();
    Ok(files)
}

fn stamp(file: &Path) -> Option<(u64, u128)> {
    let metadata = file.metadata().ok()?;
    let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some((metadata.len(), modified.as_nanos()))
}
