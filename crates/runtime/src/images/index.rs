use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{ImageError, Result, reference};

/// What an image says about running it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunConfig {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub env: Vec<String>,
    pub working_dir: String,
    pub user: String,
    pub stop_signal: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Image {
    /// The digest of its configuration.
    pub id: String,
    /// Full names with tags.
    pub names: BTreeSet<String>,
    /// Repositories with the digest of the manifest they gave.
    pub digests: BTreeSet<String>,
    /// Digests of the uncompressed layers, the lowest first.
    pub layers: Vec<String>,
    pub config: RunConfig,
    pub size_bytes: u64,
    /// Never to be removed for want of space.
    pub pinned: bool,
    /// When it came, or the last container of it went: in seconds since 1970.
    pub last_used_s: i64,
}

impl Image {
    pub fn display_name(&self) -> &str {
        self.names.iter().chain(&self.digests).next().unwrap_or(&self.id)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layer {
    /// Below the layer root: short, since overlayfs takes only a page of options.
    pub directory: String,
    pub size_bytes: u64,
}

/// An archive that was read: as long as these stay the same it need not be read again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Archive {
    size_bytes: u64,
    modified_ns: i128,
}

impl Archive {
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        let modified_ns = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        Some(Self { size_bytes: metadata.len(), modified_ns })
    }
}

/// Tells one written index from another.
pub(super) type Stamp = (u64, i64, i64);

pub(super) trait StampOf: Sized {
    fn of(path: &Path) -> Option<Self>;
}

impl StampOf for Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec()))
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Index {
    pub images: BTreeMap<String, Image>,
    pub layers: BTreeMap<String, Layer>,
    pub archives: BTreeMap<PathBuf, Archive>,
    pub next_layer: u64,
}

impl Index {
    pub(super) fn load(path: &Path) -> Result<Self> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(ImageError::io("read", path, e)),
        };
        serde_json::from_slice(&bytes).map_err(|source| ImageError::Index { path: path.display().to_string(), source })
    }

    pub(super) fn save(&self, path: &Path) -> Result<()> {
        let temporary = path.with_extension("new");
        let write = || -> std::io::Result<()> {
            let mut file = fs::File::create(&temporary)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_data()?;
            fs::rename(&temporary, path)
        };
        write().map_err(|e| ImageError::io("write", path, e))
    }

    pub(super) fn find(&self, name: &str) -> Option<&Image> {
        if let Some(image) = self.images.get(name).or_else(|| self.images.get(&format!("sha256:{name}"))) {
            return Some(image);
        }
        let full = reference::normalise(name).ok()?;
        let by_digest = full.split_once('@').map(|(_, digest)| digest);
        self.images.values().find(|i| {
            i.names.contains(&full) || i.digests.contains(&full) || by_digest.is_some_and(|digest| i.id == digest)
        })
    }

    /// Adds an image; its names leave the images that had them.
    pub(super) fn add(&mut self, image: Image) {
        for other in self.images.values_mut() {
            other.names.retain(|name| !image.names.contains(name));
        }
        let id = image.id.clone();
        match self.images.get_mut(&id) {
            Some(known) => {
                known.names.extend(image.names);
                known.digests.extend(image.digests);
                known.pinned |= image.pinned;
                if !known.pinned {
                    known.last_used_s = image.last_used_s;
                }
            }
            None => {
                self.images.insert(id, image);
            }
        }
        // An image that lost its last name to a newer one and was never asked for by digest is of no use.
        self.images.retain(|_, i| !(i.names.is_empty() && i.digests.is_empty()));
    }

    /// Takes a name off an image, or the whole image where it is named by its id or loses its last name.
    pub(super) fn forget(&mut self, id: &str, name: &str) {
        let Some(image) = self.images.get_mut(id) else { return };
        let full = reference::normalise(name).unwrap_or_default();
        let by_name = image.names.remove(&full) || image.digests.remove(&full);
        if !by_name || image.names.is_empty() {
            self.images.remove(id);
        }
    }

    /// A name for one more layer, and where it goes. What lies there already belongs to an index that was lost, and
    /// perhaps a container runs on it.
    pub(super) fn fresh_layer(&mut self, root: &Path) -> (String, PathBuf) {
        loop {
            self.next_layer += 1;
            let directory = self.next_layer.to_string();
            let target = root.join(&directory);
            if !target.exists() {
                return (directory, target);
            }
        }
    }

    pub(super) fn take_unused_layers(&mut self, in_use: &[String]) -> Vec<Layer> {
        let wanted: BTreeSet<&String> = self.images.values().flat_map(|i| &i.layers).collect();
        let unused: Vec<String> = self
            .layers
            .iter()
            .filter(|(diff_id, layer)| !wanted.contains(diff_id) && !in_use.contains(&layer.directory))
            .map(|(diff_id, _)| diff_id.clone())
            .collect();
        unused.iter().filter_map(|diff_id| self.layers.remove(diff_id)).collect()
    }
}
