//! Images: those that are there, and those that a registry would have.

use async_trait::async_trait;
use knarr_cri::{CriError, ImageService, Result, v1::*};

use super::FakeRuntime;

#[async_trait]
impl ImageService for FakeRuntime {
    async fn list_images(&self, _: ListImagesRequest) -> Result<ListImagesResponse> {
        let images = self.state().images.iter().map(|name| Image { id: name.clone(), ..Image::default() }).collect();
        Ok(ListImagesResponse { images })
    }

    async fn image_status(&self, request: ImageStatusRequest) -> Result<ImageStatusResponse> {
        let name = request.image.unwrap_or_default().image;
        let present = self.state().images.contains(&name);
        let image = present.then(|| Image { id: name.clone(), size: 42, ..Default::default() });
        Ok(ImageStatusResponse { image, ..Default::default() })
    }

    async fn pull_image(&self, request: PullImageRequest) -> Result<PullImageResponse> {
        let image = request.image.unwrap_or_default().image;
        let mut state = self.state();
        if !state.pullable.contains(&image) {
            return Err(CriError::Unavailable { message: format!("no registry has {image}") });
        }
        let shown = request.auth.map(|auth| auth.password).unwrap_or_default();
        if state.passwords.get(&image).is_some_and(|password| *password != shown) {
            return Err(CriError::PermissionDenied { message: "401 Unauthorized".to_owned() });
        }
        state.images.insert(image.clone());
        Ok(PullImageResponse { image_ref: image })
    }

    async fn remove_image(&self, _: RemoveImageRequest) -> Result<RemoveImageResponse> {
        Ok(RemoveImageResponse::default())
    }

    async fn image_fs_info(&self, _: ImageFsInfoRequest) -> Result<ImageFsInfoResponse> {
        Ok(ImageFsInfoResponse::default())
    }
}
