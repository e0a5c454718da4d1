use std::{io, path::Path};

/// Why an image is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("cannot {action} {path}")]
    Io {
        action: &'static str,
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("{name:?} is not the name of an image: {reason}")]
    Name { name: String, reason: String },
    #[error("no such image on this node: {name}; `knarr image ls` shows what there is")]
    NotHere { name: String },
    #[error("{path} is neither a docker-archive nor an OCI image layout: {reason}")]
    Archive { path: String, reason: String },
    #[error("the layer {layer} of {image} is damaged: {reason}")]
    Layer { image: String, layer: String, reason: String },
    #[error("the layer {layer} of image {image} is missing from the store: remove the image and pull it again")]
    MissingLayer { image: String, layer: String },
    #[error("the image index {path} is damaged: remove it to start with an empty store")]
    Index {
        path: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("image {image} has nothing for {platform}")]
    Platform { image: String, platform: String },
    #[error("failed to resolve reference {image:?}: {message}")]
    Registry { image: String, message: String, kind: RegistryProblem },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistryProblem {
    NotFound,
    Denied,
    /// Worth trying again.
    Unavailable,
}

impl ImageError {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.display().to_string(), source }
    }
}
