//! Images: what containers are started from. Each layer is unpacked once into a directory of its own, in the form
//! overlayfs stacks, and shared by all images and containers that have it; an index says which images consist of
//! which. What an image was packed in is not kept.
//!
//! The command line works on the same store while the agent runs: changes are made under a file lock, and an index
//! changed by another process is read anew.

mod builtin;
pub(crate) mod documents;
mod error;
mod export;
mod import;
mod index;
mod pack;
mod pull;
pub(crate) mod reference;
mod registry;
pub(crate) mod unpack;

#[cfg(test)]
mod export_tests;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

pub use builtin::NAMES as BUILTIN_NAMES;
pub use error::{ImageError, RegistryProblem};
pub use index::{Image, RunConfig};
pub use pull::Progress;
pub use reference::normalise;
pub use registry::Credentials;

use sha2::Digest;

use index::{Archive, Index, Layer, Stamp, StampOf};

type Result<T> = std::result::Result<T, ImageError>;

/// How exactly it is known when an image was used last.
const USE_NOTED_S: i64 = 60;

/// The images of one data directory.
#[derive(Debug)]
pub struct ImageStore {
    directory: PathBuf,
    /// Where containers say which layers they use.
    containers: PathBuf,
    /// What says how registries are reached, where something does.
    registries: Option<PathBuf>,
    cached: Mutex<(Option<Stamp>, Index)>,
    /// Images on their way, by the digest of their config: who wants one that is being fetched waits for it.
    pulls: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

/// A layer unpacked but not yet part of any image.
#[derive(Debug)]
struct Unpacked {
    diff_id: String,
    temporary: PathBuf,
    size_bytes: u64,
}

impl ImageStore {
    /// Opens the store below a data directory, making it where missing.
    pub fn open(data_dir: &Path) -> Result<Self> {
        let directory = data_dir.join("images");
        let layers = directory.join("l");
        for made in [&layers, &directory.join("configs")] {
            fs::create_dir_all(made).map_err(|e| ImageError::io("make", made, e))?;
        }
        let store = Self {
            directory,
            containers: data_dir.join("containers"),
            registries: None,
            cached: Mutex::default(),
            pulls: Mutex::default(),
        };
        store.read()?;
        store.discard_leftovers();
        Ok(store)
    }

    /// Reaches registries as a directory of containerd's `hosts.toml` files says.
    pub fn with_registries(self, directory: Option<PathBuf>) -> Self {
        Self { registries: directory, ..self }
    }

    /// The directory that layer names in a container's spec are relative to.
    pub fn layer_root(&self) -> PathBuf {
        self.directory.join("l")
    }

    pub fn list(&self) -> Result<Vec<Image>> {
        Ok(self.read()?.images.into_values().collect())
    }

    /// Finds an image by name, digest or id, as pods and CRI give them.
    pub fn find(&self, name: &str) -> Result<Option<Image>> {
        Ok(self.read()?.find(name).cloned())
    }

    /// The directories of an image's layers, the topmost first, as overlayfs wants them.
    pub fn layer_names(&self, image: &Image) -> Result<Vec<String>> {
        let index = self.read()?;
        let name = |diff_id: &String| {
            let missing =
                || ImageError::MissingLayer { image: image.display_name().to_owned(), layer: diff_id.clone() };
            index.layers.get(diff_id).map(|l| l.directory.clone()).ok_or_else(missing)
        };
        image.layers.iter().rev().map(name).collect()
    }

    /// Reads a docker-archive, an OCI archive or an OCI layout directory; gives the names of the images in it.
    pub fn import(&self, path: &Path) -> Result<Vec<String>> {
        import::import(self, path)
    }

    /// Imports every archive of a directory that has not been read before. A broken one is reported and skipped.
    pub fn import_directory(&self, directory: &Path) -> Result<Vec<(PathBuf, Result<Vec<String>>)>> {
        let entries = fs::read_dir(directory).map_err(|e| ImageError::io("list", directory, e))?;
        let mut paths: Vec<PathBuf> =
            entries.flatten().map(|e| e.path()).filter(|p| import::looks_like_image(p)).collect();
        paths.sort();
        let mut results = Vec::new();
        for path in paths {
            let seen = Archive::of(&path).is_some_and(|a| self.read().is_ok_and(|i| i.archives.get(&path) == Some(&a)));
            if !seen {
                let outcome = self.import(&path);
                results.push((path, outcome));
            }
        }
        Ok(results)
    }

    /// Removes a name; with its last name goes the image, and with it the layers no other image or container uses.
    /// Gives false where there is no such image.
    pub fn remove(&self, name: &str) -> Result<bool> {
        let removed = self.change(|index| {
            let Some(id) = index.find(name).map(|i| i.id.clone()) else { return Ok(false) };
            index.forget(&id, name);
            Ok(true)
        })?;
        if removed {
            self.collect_garbage()?;
        }
        Ok(removed)
    }

    /// Writes images to an archive, each under the name it is asked for by, or all of its names where that is no name.
    pub fn export(&self, names: &[String], path: &Path, progress: &Progress) -> Result<()> {
        let find = |name: &String| {
            let missing = || ImageError::NotHere { name: name.clone() };
            let image = self.find(name)?.ok_or_else(missing)?;
            let full = reference::normalise(name).ok().filter(|full| image.names.contains(full));
            let shown = full.map_or_else(|| image.names.iter().cloned().collect(), |full| vec![full]);
            Ok((image, shown))
        };
        let images: Vec<(Image, Vec<String>)> = names.iter().map(find).collect::<Result<_>>()?;
        export::export(self, &images, path, progress)
    }

    /// Removes the images that some layer of is used by no container, and tells of each what it was and the bytes that
    /// went with it.
    pub fn prune(&self) -> Result<Vec<(String, u64)>> {
        let in_use = self.layers_in_use();
        let mut removed = Vec::new();
        for image in self.list()?.into_iter().filter(|image| !image.pinned) {
            if self.layer_names(&image)?.iter().all(|layer| in_use.contains(layer)) {
                continue;
            }
            let (before, _) = self.usage()?;
            self.remove(&image.id)?;
            removed.push((image.display_name().to_owned(), before.saturating_sub(self.usage()?.0)));
        }
        Ok(removed)
    }

    /// The image's configuration as it was pulled or imported.
    fn config_document(&self, id: &str) -> Option<Vec<u8>> {
        let bytes = fs::read(self.config_path(id)).ok()?;
        (format!("sha256:{}", builtin::hex(&sha2::Sha256::digest(&bytes))) == id).then_some(bytes)
    }

    fn config_path(&self, id: &str) -> PathBuf {
        self.directory.join("configs").join(id.trim_start_matches("sha256:"))
    }

    /// Notes that an image was used until now. Not more than once in a while, for that is a write to the disk, and not
    /// for one that stays anyway.
    pub fn note_use(&self, id: &str) -> Result<()> {
        let now_s = jiff::Timestamp::now().as_second();
        if self.read()?.images.get(id).is_none_or(|image| image.pinned || now_s < image.last_used_s + USE_NOTED_S) {
            return Ok(());
        }
        self.change(|index| {
            if let Some(image) = index.images.get_mut(id) {
                image.last_used_s = now_s;
            }
            Ok(())
        })
    }

    /// Makes the built-in demo images of the running program.
    pub fn add_builtin(&self, exe: &Path) -> Result<()> {
        builtin::add(self, exe)
    }

    /// Pulls an image and gives its id.
    pub async fn pull(self: &Arc<Self>, name: &str, credentials: Option<Credentials>) -> Result<String> {
        self.pull_showing(name, credentials, &Progress::default()).await
    }

    /// Pulls an image, and tells meanwhile how far it is.
    pub async fn pull_showing(
        self: &Arc<Self>,
        name: &str,
        credentials: Option<Credentials>,
        progress: &Progress,
    ) -> Result<String> {
        pull::pull(self, name, credentials, progress).await
    }

    /// The turn to fetch this content. It is over when the last handle is dropped.
    fn turn(&self, digest: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut pulls = self.pulls.lock().unwrap_or_else(PoisonError::into_inner);
        pulls.retain(|_, turn| turn.strong_count() > 0);
        let present = pulls.get(digest).and_then(Weak::upgrade);
        present.unwrap_or_else(|| {
            let turn = Arc::default();
            pulls.insert(digest.to_owned(), Arc::downgrade(&turn));
            turn
        })
    }

    /// Bytes and files of all layers.
    pub fn usage(&self) -> Result<(u64, u64)> {
        let index = self.read()?;
        Ok((index.layers.values().map(|l| l.size_bytes).sum(), index.layers.len() as u64))
    }

    /// Deletes layers that nothing uses.
    pub fn collect_garbage(&self) -> Result<()> {
        let in_use = self.layers_in_use();
        let unused = self.change(|index| {
            let mut unused: Vec<String> = index.take_unused_layers(&in_use).into_iter().map(|l| l.directory).collect();
            // An index that was lost left its layers behind.
            let known = |name: &String| index.layers.values().any(|layer| layer.directory == *name);
            unused.extend(self.layer_directories().into_iter().filter(|name| !known(name) && !in_use.contains(name)));
            self.forget_configs(index);
            Ok(unused)
        })?;
        for directory in unused {
            let path = self.layer_root().join(directory);
            match fs::remove_dir_all(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(ImageError::io("remove", &path, e)),
                _ => {}
            }
        }
        Ok(())
    }

    fn forget_configs(&self, index: &Index) {
        let Ok(entries) = fs::read_dir(self.directory.join("configs")) else { return };
        for entry in entries.flatten() {
            let id = format!("sha256:{}", entry.file_name().to_string_lossy());
            if !index.images.contains_key(&id) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// The directories of whole layers, known to the index or not.
    fn layer_directories(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.layer_root()) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).collect()
    }

    /// Layer directories that containers are stacked on, or show.
    fn layers_in_use(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.containers) else { return Vec::new() };
        let specs = entries.flatten().map(|e| e.path().join(crate::container::SPEC_FILE));
        specs
            .filter_map(|path| crate::shim::spec::load::<crate::shim::spec::ContainerSpec>(&path).ok())
            .flat_map(|spec| {
                let mounted = spec.mounts.into_iter().filter_map(|mount| mount.layers).flatten();
                spec.rootfs.layers.into_iter().chain(mounted)
            })
            .collect()
    }

    /// A fresh directory to unpack a layer in.
    fn temporary(&self) -> Result<PathBuf> {
        let name = format!("new-{}-{}", std::process::id(), uuid::Uuid::new_v4().simple());
        let path = self.layer_root().join(name);
        fs::create_dir(&path).map_err(|e| ImageError::io("make", &path, e))?;
        Ok(path)
    }

    /// Removes what processes that are no more left half-unpacked.
    fn discard_leftovers(&self) {
        let Ok(entries) = fs::read_dir(self.layer_root()) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let owner = name.to_str().and_then(|n| n.strip_prefix("new-")?.split('-').next());
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    fn has_layer(&self, diff_id: &str) -> Result<bool> {
        Ok(self.read()?.layers.contains_key(diff_id))
    }

    /// Adds images with their configurations, where they have one, and the layers unpacked for them, all or nothing;
    /// remembers the archive they came from.
    fn commit(
        &self,
        images: Vec<(Image, Vec<u8>)>,
        unpacked: Vec<Unpacked>,
        archive: Option<(PathBuf, Archive)>,
    ) -> Result<()> {
        let root = self.layer_root();
        self.change(|index| {
            for (image, config) in images.iter().filter(|(_, config)| !config.is_empty()) {
                let path = self.config_path(&image.id);
                fs::write(&path, config).map_err(|e| ImageError::io("write", &path, e))?;
            }
            for layer in unpacked {
                if index.layers.contains_key(&layer.diff_id) {
                    let _ = fs::remove_dir_all(&layer.temporary);
                    continue;
                }
                let (directory, target) = index.fresh_layer(&root);
                fs::rename(&layer.temporary, &target).map_err(|e| ImageError::io("name", &target, e))?;
                index.layers.insert(layer.diff_id, Layer { directory, size_bytes: layer.size_bytes });
            }
            let last_used_s = jiff::Timestamp::now().as_second();
            images.into_iter().for_each(|(image, _)| index.add(Image { last_used_s, ..image }));
            index.archives.extend(archive);
            Ok(())
        })
    }

    fn read(&self) -> Result<Index> {
        let path = self.index_path();
        let stamp = Stamp::of(&path);
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if cached.0 != stamp || stamp.is_none() {
            *cached = (stamp, Index::load(&path)?);
        }
        Ok(cached.1.clone())
    }

    /// Changes the index under the lock that all processes on this store share.
    fn change<T>(&self, change: impl FnOnce(&mut Index) -> Result<T>) -> Result<T> {
        let lock_path = self.directory.join("lock");
        let lock = fs::File::create(&lock_path).map_err(|e| ImageError::io("open", &lock_path, e))?;
        lock.lock().map_err(|e| ImageError::io("lock", &lock_path, e))?;
        let path = self.index_path();
        let before = Index::load(&path)?;
        let mut index = before.clone();
        let outcome = change(&mut index)?;
        if index != before {
            index.save(&path)?;
        }
        Ok(outcome)
    }

    fn index_path(&self) -> PathBuf {
        self.directory.join("index.json")
    }
}
