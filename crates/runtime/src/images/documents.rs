//! The documents of images, as far as they are read: OCI's image specification, and what `docker save` writes.

use std::collections::BTreeMap;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{Image, RunConfig, builtin::hex};

/// An entry of a docker-archive's `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerManifest {
    pub config: String,
    #[serde(default)]
    pub repo_tags: Option<Vec<String>>,
    pub layers: Vec<String>,
}

/// The parts used of the OCI image specification's documents.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OciIndex {
    pub manifests: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
pub(super) struct OciManifest {
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Descriptor {
    pub digest: String,
    #[serde(default)]
    pub size: u64,
    #[serde(default)]
    pub platform: Option<Platform>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Platform {
    pub architecture: String,
    pub os: String,
    #[serde(default)]
    pub variant: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Config {
    #[serde(default)]
    config: Option<ConfigRun>,
    rootfs: RootfsIds,
}

#[derive(Debug, Deserialize)]
struct RootfsIds {
    diff_ids: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ConfigRun {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    stop_signal: Option<String>,
}

impl Config {
    /// The image a configuration describes, with its digest as id.
    pub(super) fn image(self, bytes: &[u8]) -> Image {
        let run = self.config.unwrap_or_default();
        Image {
            id: format!("sha256:{}", hex(&Sha256::digest(bytes))),
            layers: self.rootfs.diff_ids,
            config: RunConfig {
                entrypoint: run.entrypoint.unwrap_or_default(),
                cmd: run.cmd.unwrap_or_default(),
                env: run.env.unwrap_or_default(),
                working_dir: run.working_dir.unwrap_or_default(),
                user: run.user.unwrap_or_default(),
                stop_signal: run.stop_signal.unwrap_or_default(),
            },
            ..Image::default()
        }
    }
}

/// This machine's architecture in Go's terms.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The manifest for this machine.
pub(super) fn choose(manifests: &[Descriptor]) -> Option<&Descriptor> {
    let fits = |d: &&Descriptor| {
        let variant_ok = |v: &Option<String>| v.as_deref().is_none_or(|v| v == "v8" || v == "v1");
        d.platform
            .as_ref()
            .is_some_and(|p| p.os == "linux" && p.architecture == architecture() && variant_ok(&p.variant))
    };
    let unnamed = || manifests.iter().find(|d| d.platform.is_none());
    manifests.iter().find(fits).or_else(unnamed)
}

/// Whatever document the bytes are.
#[cfg(fuzzing)]
pub(crate) fn fuzz(bytes: &[u8]) {
    let _ = serde_json::from_slice::<Vec<DockerManifest>>(bytes);
    let _ = serde_json::from_slice::<OciManifest>(bytes);
    if let Ok(index) = serde_json::from_slice::<OciIndex>(bytes) {
        choose(&index.manifests);
    }
    if let Ok(config) = serde_json::from_slice::<Config>(bytes) {
        config.image(bytes);
    }
}
