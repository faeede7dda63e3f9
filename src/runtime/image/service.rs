//! CRI's image service.

use async_trait::async_trait;
use k3s_cri::{Error, FilesystemUsage, Image, ImageService, RegistryAuth};

use super::store::{ImageStore, StoredImage};
use crate::Runtime;

#[async_trait]
impl ImageService for Runtime {
    async fn image_status(&self, image: &str) -> Result<Option<Image>, Error> {
        Ok(self.images.get(image).map(|image| self.images.describe(&image)))
    }

    async fn list_images(&self) -> Result<Vec<Image>, Error> {
        Ok(self.images.list().iter().map(|image| self.images.describe(image)).collect())
    }

    async fn pull_image(&self, image: &str, auth: Option<&RegistryAuth>) -> Result<String, Error> {
        let reference = super::Reference::parse(image)?;
        if let Some(builtin) = self.images.get(image).filter(|image| image.builtin) {
            return Ok(builtin.id.clone());
        }
        self.strong()?.pull(reference, auth.cloned()).await
    }

    async fn remove_image(&self, image: &str) -> Result<(), Error> {
        let (images, image) = (self.images.clone(), image.to_owned());
        let layers = self.layers_in_use();
        blocking("remove image", move || images.remove(&image, &layers)).await
    }

    async fn image_fs_info(&self) -> Result<FilesystemUsage, Error> {
        let runtime = self.strong()?;
        blocking("measure images", move || runtime.image_filesystem()).await
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

impl ImageStore {
    /// As CRI describes images.
    pub(crate) fn describe(&self, image: &StoredImage) -> Image {
        let name = image.user();
        let uid = name.parse().ok();
        Image {
            id: image.id.clone(),
            repo_tags: image.names.iter().filter(|name| !name.contains('@')).cloned().collect(),
            repo_digests: image.repo_digests(),
            size: image.size,
            uid,
            username: if uid.is_none() { name } else { String::new() },
            pinned: self.is_pinned(image),
        }
    }
}

impl StoredImage {
    /// Name or number of the user that the image asks for.
    fn user(&self) -> String {
        let user = self.config.config().as_ref().and_then(|config| config.user().clone()).unwrap_or_default();
        user.split(':').next().unwrap_or_default().to_owned()
    }

    fn repo_digests(&self) -> Vec<String> {
        let digests = self.target.iter().flat_map(|digest| {
            let names = self.names.iter().filter_map(|name| super::Reference::parse(name).ok());
            names.map(move |name| format!("{}@{digest}", name.name()))
        });
        let mut repo_digests: Vec<String> = digests.collect();
        repo_digests.sort();
        repo_digests.dedup();
        repo_digests
    }

    /// What CRI calls the image's reference: by digest where there is one, else the id.
    pub(crate) fn reference(&self) -> String {
        self.repo_digests().into_iter().next().unwrap_or_else(|| self.id.clone())
    }
}
