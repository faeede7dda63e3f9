//! CRI's image service.

use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use k3s_cri::{Error, Image, ImageService};
use serde::{Deserialize, Serialize};

use super::store::{StoredImage, replace};
use super::{ImportReport, import};
use crate::Runtime;
use crate::snapshot::disk_usage;

#[async_trait]
impl ImageService for Runtime {
    async fn image_status(&self, image: &str) -> Result<Option<Image>, Error> {
        Ok(self.images.get(image).map(|image| image.describe()))
    }

    async fn list_images(&self) -> Result<Vec<Image>, Error> {
        Ok(self.images.list().iter().map(|image| image.describe()).collect())
    }

    async fn pull_image(&self, image: &str) -> Result<String, Error> {
        super::Reference::parse(image)?;
        match self.images.get(image) {
            Some(image) => Ok(image.id.clone()),
            None => Err(Error::Pull {
                image: image.to_owned(),
                detail: format!(
                    "it is not on this node, and this version can't pull from registries yet; put an image archive \
                     into {}",
                    self.options.images_dir.display()
                ),
            }),
        }
    }

    async fn remove_image(&self, image: &str) -> Result<(), Error> {
        let (images, image) = (self.images.clone(), image.to_owned());
        let layers = self.layers_in_use();
        blocking("remove image", move || images.remove(&image, &layers)).await
    }

    async fn fs_used_bytes(&self) -> Result<u64, Error> {
        let root = self.options.root.clone();
        blocking("measure images", move || disk_usage(&root)).await
    }
}

/// Runs what reads or writes disks, and says what it was when it fails.
pub(crate) async fn blocking<T: Send + 'static, E: std::fmt::Display + Send + 'static>(
    doing: &str,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Error> {
    let internal = |detail: String| {
        if detail.contains("No space left on device") {
            return Error::NoSpace { doing: doing.to_owned() };
        }
        Error::Internal { doing: doing.to_owned(), detail }
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| internal(error.to_string())),
        Err(error) => Err(internal(error.to_string())),
    }
}

impl StoredImage {
    /// As CRI describes images.
    pub(crate) fn describe(&self) -> Image {
        let user = self.config.config().as_ref().and_then(|config| config.user().clone()).unwrap_or_default();
        let name = user.split(':').next().unwrap_or_default();
        let uid = name.parse().ok();
        let digests = self.manifest_digest.iter().flat_map(|digest| {
            let names = self.names.iter().filter_map(|name| super::Reference::parse(name).ok());
            names.map(move |name| format!("{}@{digest}", name.name()))
        });
        let mut repo_digests: Vec<String> = digests.collect();
        repo_digests.dedup();
        Image {
            id: self.id.clone(),
            repo_tags: self.names.iter().filter(|name| !name.contains('@')).cloned().collect(),
            repo_digests,
            size: self.size,
            uid,
            username: if uid.is_none() { name.to_owned() } else { String::new() },
            pinned: self.builtin,
        }
    }

    /// What CRI calls the image's reference: by digest where there is one, else the id.
    pub(crate) fn reference(&self) -> String {
        self.describe().repo_digests.into_iter().next().unwrap_or_else(|| self.id.clone())
    }
}

/// Files imported before, so that a start does not read them again.
#[derive(Default, Serialize, Deserialize)]
struct Imported {
    files: std::collections::BTreeMap<String, ImportedFile>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ImportedFile {
    size: u64,
    modified_nanos: u128,
    names: Vec<String>,
}

impl Runtime {
    /// Imports every archive in the images directory that is new or changed. Each file fails or succeeds by itself.
    pub async fn import_images(&self) -> Vec<ImportReport> {
        let _importing = self.importing.lock().await;
        let (images, directory, root) =
            (self.images.clone(), self.options.images_dir.clone(), self.options.root.clone());
        let reports = tokio::task::spawn_blocking(move || import_all(&images, &directory, &root)).await;
        let reports = reports.unwrap_or_default();
        for report in &reports {
            match &report.result {
                Ok(images) => tracing::info!(file = %report.file.display(), ?images, "imported images"),
                Err(error) => {
                    tracing::error!(file = %report.file.display(), %error, "cannot import images");
                }
            }
        }
        reports
    }
}

fn import_all(images: &Arc<super::ImageStore>, directory: &Path, root: &Path) -> Vec<ImportReport> {
    let record = root.join("imported.json");
    // Without a readable record, everything is imported again.
    let mut imported: Imported =
        std::fs::read(&record).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(source) => {
            let result = Err(super::ImageError::Io { doing: "list images".to_owned(), source });
            return vec![ImportReport { file: directory.to_owned(), result }];
        }
    };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    let mut reports = Vec::new();
    for file in files {
        let Some(name) = file.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.')) else {
            continue;
        };
        let stamp = stamp(&file);
        let known = imported.files.get(name);
        let unchanged = known.is_some_and(|known| {
            Some((known.size, known.modified_nanos)) == stamp
                && known.names.iter().all(|name| images.get(name).is_some())
        });
        if unchanged {
            continue;
        }
        let result = if name.ends_with(".txt") {
            Err(super::ImageError::document(
                name,
                "lists of images to pull can't be used yet: there are no registry pulls",
            ))
        } else {
            import::import(images, &file)
        };
        if let (Ok(names), Some((size, modified_nanos))) = (&result, stamp) {
            let entry = ImportedFile { size, modified_nanos, names: names.clone() };
            imported.files.insert(name.to_owned(), entry);
        }
        reports.push(ImportReport { file, result });
    }
    if !reports.is_empty() {
        let written = serde_json::to_vec(&imported)
            .map_err(|error| super::ImageError::document("imported.json", error))
            .and_then(|bytes| replace(&record, &bytes));
        if let Err(error) = written {
            tracing::warn!(%error, "imported images will be imported again at the next start");
        }
    }
    reports
}

fn stamp(file: &Path) -> Option<(u64, u128)> {
    let metadata = file.metadata().ok()?;
    let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some((metadata.len(), modified.as_nanos()))
}
