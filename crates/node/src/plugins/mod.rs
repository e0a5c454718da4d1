//! Plugins that add themselves to the node: each makes a socket in one folder, is asked there what it is, and is handed
//! to whoever deals with its type. (<https://kubernetes.io/docs/reference/node/kubelet-files/#device-plugins>,
//! `k8s.io/kubelet/pkg/apis/pluginregistration/v1`)
//!
//! The folder is looked through every second, as kubelets do, and in it and what plugins are registered lies all there
//! is to know: a plugin that was started anew has a new socket, and one that is gone has none.

mod folder;
mod registry;
#[cfg(test)]
mod tests;
mod wire;

use std::{
    fs,
    path::{Path, PathBuf},
};

use async_trait::async_trait;

pub use registry::{Handlers, Registry};

/// What a plugin says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugin {
    /// Such as `gpu.example.com`.
    pub name: String,
    /// The socket of its service, which may be another than the one it registered by.
    pub endpoint: PathBuf,
    /// Which versions of its type's service it speaks, in that type's own terms.
    pub versions: Vec<String>,
}

/// Deals with plugins of one type.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Takes a plugin, or refuses it with what the plugin is told; it is then asked again later. Has to end in time by
    /// itself.
    async fn register(&self, plugin: &Plugin) -> Result<(), String>;

    /// Its socket is gone. Another of the same name may have come before: then this is about the older one.
    async fn deregister(&self, plugin: &Plugin);
}

/// What a node makes in its `kubelet_dir`: where plugins register, and where they keep their own sockets.
pub fn dirs(kubelet_dir: &Path) -> [PathBuf; 2] {
    ["plugins_registry", "plugins"].map(|name| kubelet_dir.join(name))
}

/// Answers where plugins register. A node whose disk takes no such folder has no plugins.
pub fn make_dirs(kubelet_dir: &Path) -> PathBuf {
    let dirs = dirs(kubelet_dir);
    for dir in &dirs {
        if let Err(error) = fs::create_dir_all(dir) {
            tracing::warn!(path = %dir.display(), %error, "no folder for plugins; none can register");
        }
    }
    let [registry, _] = dirs;
    registry
}
