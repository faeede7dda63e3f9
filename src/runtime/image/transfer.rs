//! What users do with images that CRI has no calls for: import, export, one more name, one name less.

use std::io::{Read, Write};

use k3s_cri::{Error, NamedImage};

use super::{Reference, blocking, import};
use crate::Runtime;

impl Runtime {
    /// All images, each under every name of it.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn named_images(&self) -> Result<Vec<NamedImage>, Error> {
        let images = self.images.clone();
        blocking("list images", move || images.named()).await
    }

    /// Imports the images of a docker-archive or OCI layout, compressed or not. Returns their names.
    ///
    /// # Errors
    /// When the archive is damaged or there is no space; nothing of it is visible then.
    pub async fn import_archive(&self, archive: impl Read + Send + 'static) -> Result<Vec<String>, Error> {
        let images = self.images.clone();
        blocking("import images", move || import::import(&images, archive)).await
    }

    /// Writes images into an archive that [`Runtime::import_archive`], Docker, containerd and skopeo read.
    ///
    /// # Errors
    /// When an image is not here, is made of the k3s binary, or can't be written.
    pub async fn export_archive(&self, names: &[String], to: impl Write + Send + 'static) -> Result<(), Error> {
        let images = self.images.clone();
        let names = names.iter().map(|name| Reference::parse(name)).collect::<Result<Vec<_>, _>>()?;
        blocking("export images", move || images.export(&names, to)).await
    }

    /// Gives an image one more name.
    ///
    /// # Errors
    /// When there is no such image, or the name is none.
    pub async fn tag_image(&self, image: &str, name: &str) -> Result<(), Error> {
        let name = Reference::parse(name)?;
        if self.images.get(image).is_none_or(|image| image.builtin) {
            return Err(Error::NotFound { what: format!("image {image:?}") });
        }
        let (images, image) = (self.images.clone(), image.to_owned());
        blocking("tag image", move || images.tag(&image, &name)).await
    }

    /// Takes one name away, and the image with its last one.
    ///
    /// # Errors
    /// When no image has the name.
    pub async fn untag_image(&self, name: &str) -> Result<(), Error> {
        let reference = Reference::parse(name)?;
        if self.images.get(name).is_none_or(|image| image.builtin) {
            return Err(Error::NotFound { what: format!("image {name:?}") });
        }
        let (images, layers) = (self.images.clone(), self.layers_in_use());
        blocking("remove image", move || images.untag(&reference, &layers)).await
    }
}
