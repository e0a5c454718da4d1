//! Images: those that are there, and those that a registry would have.

use async_trait::async_trait;
use knarr_cri::{CriError, ImageService, Result, v1::*};

use super::FakeRuntime;

#[async_trait]
impl ImageService for FakeRuntime {
    async fn list_images(&self, _: ListImagesRequest) -> Result<ListImagesResponse> {
        let state = self.state();
        let image =
            |name: &String| Image { id: name.clone(), repo_tags: vec![name.clone()], size: 42, ..Image::default() };
        Ok(ListImagesResponse { images: state.images.iter().map(image).collect() })
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

    async fn remove_image(&self, request: RemoveImageRequest) -> Result<RemoveImageResponse> {
        self.state().images.remove(&request.image.unwrap_or_default().image);
        Ok(RemoveImageResponse::default())
    }

    async fn image_fs_info(&self, _: ImageFsInfoRequest) -> Result<ImageFsInfoResponse> {
        Ok(ImageFsInfoResponse::default())
    }
}
