//! CRI's ImageService.

use std::collections::HashMap;

use k3s_cri::ImageService as _;
use k8s_cri::v1;
use k8s_cri::v1::image_service_server::ImageService;
use tonic::{Request, Response, Status};

use super::{Service, request, response, status};

fn image_of(spec: Option<v1::ImageSpec>) -> String {
    spec.unwrap_or_default().image
}

#[tonic::async_trait]
impl ImageService for Service {
    async fn list_images(
        &self,
        request: Request<v1::ListImagesRequest>,
    ) -> Result<Response<v1::ListImagesResponse>, Status> {
        let wanted = image_of(request.into_inner().filter.unwrap_or_default().image);
        let images = if wanted.is_empty() {
            self.0.list_images().await.map_err(status::of)?
        } else {
            self.0.image_status(&wanted).await.map_err(status::of)?.into_iter().collect()
        };
        let images = images.into_iter().map(response::image).collect();
        Ok(Response::new(v1::ListImagesResponse { images }))
    }

    async fn image_status(
        &self,
        request: Request<v1::ImageStatusRequest>,
    ) -> Result<Response<v1::ImageStatusResponse>, Status> {
        let request = request.into_inner();
        let image = self.0.image_status(&image_of(request.image)).await.map_err(status::of)?;
        let mut info = HashMap::new();
        if let Some(stored) = image.as_ref().and_then(|image| self.0.images.get(&image.id)).filter(|_| request.verbose)
        {
            let text = serde_json::json!({"imageSpec": stored.config}).to_string();
            info.insert("info".to_owned(), text);
        }
        Ok(Response::new(v1::ImageStatusResponse { image: image.map(response::image), info }))
    }

    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Result<Response<v1::PullImageResponse>, Status> {
        let request = request.into_inner();
        let auth = request.auth.map(request::auth);
        let image_ref = self.0.pull_image(&image_of(request.image), auth.as_ref()).await.map_err(status::of)?;
        Ok(Response::new(v1::PullImageResponse { image_ref }))
    }

    async fn remove_image(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Result<Response<v1::RemoveImageResponse>, Status> {
        self.0.remove_image(&image_of(request.into_inner().image)).await.map_err(status::of)?;
        Ok(Response::new(v1::RemoveImageResponse {}))
    }

    async fn image_fs_info(
        &self,
        _: Request<v1::ImageFsInfoRequest>,
    ) -> Result<Response<v1::ImageFsInfoResponse>, Status> {
        let usage = response::filesystem(self.0.image_fs_info().await.map_err(status::of)?);
        // Images and containers' own layers are on one file system.
        let (image_filesystems, container_filesystems) = (vec![usage.clone()], vec![usage]);
        Ok(Response::new(v1::ImageFsInfoResponse { image_filesystems, container_filesystems }))
    }
}
