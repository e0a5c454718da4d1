//! Importing images from files: what `docker save` writes, and OCI image layouts, packed or as directories.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::{
    Image, ImageError, ImageStore, Result, Unpacked,
    builtin::hex,
    documents::{Config, Descriptor, DockerManifest, OciIndex, OciManifest, architecture, choose},
    index::Archive,
    reference,
    unpack::{clean, decompress, unpack},
};

/// Files of an image archive by name.
enum Source {
    Directory(PathBuf),
    /// Where each file lies in an uncompressed tar.
    Tar(File, BTreeMap<PathBuf, Place>),
}

enum Place {
    At {
        offset: u64,
        size: u64,
    },
    /// Older `docker save` writes a shared layer once and links to it.
    LinkTo(PathBuf),
}

pub(super) fn looks_like_image(path: &Path) -> bool {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    [".tar", ".tar.gz", ".tgz", ".tar.zst"].iter().any(|end| name.ends_with(end)) || path.join("oci-layout").is_file()
}

pub(super) fn import(store: &ImageStore, path: &Path) -> Result<Vec<String>> {
    let archive = Archive::of(path).map(|a| (path.to_owned(), a));
    let source = Source::open(path)?;
    let mut importer = Importer { store, path, source, unpacked: Vec::new(), images: Vec::new() };
    let outcome = importer.run();
    if let Err(e) = outcome {
        importer.unpacked.iter().for_each(|u| drop(std::fs::remove_dir_all(&u.temporary)));
        return Err(e);
    }
    let names = importer.images.iter().flat_map(|(i, _)| i.names.iter().cloned()).collect();
    sync(&store.directory);
    store.commit(importer.images, importer.unpacked, archive)?;
    Ok(names)
}

/// Brings unpacked layers to the disk before the index says they are there.
pub(super) fn sync(directory: &Path) {
    if let Ok(opened) = File::open(directory) {
        let _ = rustix::fs::syncfs(opened);
    }
}

struct Importer<'a> {
    store: &'a ImageStore,
    path: &'a Path,
    source: Source,
    unpacked: Vec<Unpacked>,
    /// Each with its configuration.
    images: Vec<(Image, Vec<u8>)>,
}

impl Importer<'_> {
    fn bad(&self, reason: impl ToString) -> ImageError {
        ImageError::Archive { path: self.path.display().to_string(), reason: reason.to_string() }
    }

    fn run(&mut self) -> Result<()> {
        // Archives of newer Docker versions are both; the older form names images more plainly.
        if self.source.has("manifest.json") {
            for manifest in self.json::<Vec<DockerManifest>>("manifest.json")? {
                let names = manifest.repo_tags.filter(|names| !names.is_empty()).unwrap_or_else(|| vec![self.stem()]);
                self.image(&manifest.config, &manifest.layers, names)?;
            }
            return Ok(());
        }
        if !self.source.has("index.json") {
            return Err(self.bad("it has neither manifest.json nor index.json"));
        }
        for descriptor in self.json::<OciIndex>("index.json")?.manifests {
            let names = self.oci_name(&descriptor);
            self.oci_image(&descriptor, names, 0)?;
        }
        Ok(())
    }

    /// `above`: how many indexes led here. A blob is found by its name alone, so that an index may name itself.
    fn oci_image(&mut self, descriptor: &Descriptor, names: Vec<String>, above: usize) -> Result<()> {
        const MAX_INDEXES: usize = 8;
        if above > MAX_INDEXES {
            return Err(self.bad(format!("more than {MAX_INDEXES} indexes lead to an image")));
        }
        let text = self.bytes(&blob(&descriptor.digest))?;
        if let Ok(index) = serde_json::from_slice::<OciIndex>(&text) {
            let platform = format!("linux/{}", architecture());
            let missing = || ImageError::Platform { image: self.path.display().to_string(), platform };
            let chosen = choose(&index.manifests).cloned().ok_or_else(missing)?;
            return self.oci_image(&chosen, names, above + 1);
        }
        let manifest: OciManifest = serde_json::from_slice(&text).map_err(|e| self.bad(e))?;
        let layers: Vec<String> = manifest.layers.iter().map(|l| blob(&l.digest)).collect();
        self.image(&blob(&manifest.config.digest), &layers, names)?;
        if let Some((image, _)) = self.images.last_mut() {
            let digests = image.names.iter().map(|n| format!("{}@{}", reference::repository(n), descriptor.digest));
            image.digests = digests.collect();
        }
        Ok(())
    }

    /// containerd writes the full name, others a tag or a name; an archive's own name is the last resort.
    fn oci_name(&self, descriptor: &Descriptor) -> Vec<String> {
        let annotation = |key: &str| descriptor.annotations.get(key).cloned();
        if let Some(name) = annotation("io.containerd.image.name") {
            return vec![name];
        }
        let stem = self.stem();
        match annotation("org.opencontainers.image.ref.name") {
            Some(name) if name.contains(['/', ':']) => vec![name],
            Some(tag) => vec![format!("{stem}:{tag}")],
            None => vec![stem],
        }
    }

    /// What an archive is called.
    fn stem(&self) -> String {
        let stem = self.path.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
        stem.split(".tar").next().unwrap_or_default().to_owned()
    }

    fn image(&mut self, config: &str, layers: &[String], names: Vec<String>) -> Result<()> {
        let bytes = self.bytes(config)?;
        let parsed: Config = serde_json::from_slice(&bytes).map_err(|e| self.bad(e))?;
        let mut image = parsed.image(&bytes);
        image.names = names.iter().map(|n| reference::normalise(n)).collect::<Result<_>>()?;
        if image.layers.len() != layers.len() {
            return Err(self.bad(format!(
                "{} layers are listed, the configuration knows {}",
                layers.len(),
                image.layers.len()
            )));
        }
        for (layer, diff_id) in layers.iter().zip(image.layers.clone()) {
            let ready = self.unpacked.iter().find(|u| u.diff_id == diff_id);
            if ready.is_none() && !self.store.has_layer(&diff_id)? {
                let path = self.path.display();
                let missing = |e| ImageError::Archive { path: path.to_string(), reason: format!("{layer}: {e}") };
                let packed = self.source.open_file(layer).map_err(missing)?;
                self.unpacked.push(unpack_layer(self.store, packed, &diff_id, image.display_name())?);
            }
        }
        let index = self.store.read()?;
        let size = |id: &String| {
            let fresh = self.unpacked.iter().find(|u| u.diff_id == *id).map(|u| u.size_bytes);
            fresh.or_else(|| index.layers.get(id).map(|l| l.size_bytes)).unwrap_or(0)
        };
        image.size_bytes = image.layers.iter().map(size).sum();
        // Nobody could pull it again.
        self.images.push((Image { pinned: true, ..image }, bytes));
        Ok(())
    }

    fn bytes(&mut self, name: &str) -> Result<Vec<u8>> {
        /// Documents are small; what is not is no document.
        const LIMIT: u64 = 16 << 20;
        let mut bytes = Vec::new();
        let read = self.source.open_file(name).and_then(|f| f.take(LIMIT).read_to_end(&mut bytes));
        match read {
            Ok(_) => Ok(bytes),
            Err(e) => Err(self.bad(format!("{name}: {e}"))),
        }
    }

    fn json<T: DeserializeOwned>(&mut self, name: &str) -> Result<T> {
        let bytes = self.bytes(name)?;
        serde_json::from_slice(&bytes).map_err(|e| self.bad(format!("{name}: {e}")))
    }
}

/// Unpacks one layer, which has to be what its digest says.
pub(super) fn unpack_layer(store: &ImageStore, packed: impl Read, diff_id: &str, image: &str) -> Result<Unpacked> {
    let temporary = store.temporary()?;
    let work = || -> io::Result<(u64, String)> {
        let mut hashing =
            Hashing { inner: decompress(BufReader::with_capacity(128 << 10, packed))?, hash: Sha256::new() };
        let size = unpack(&mut hashing, &temporary)?;
        // Padding behind the archive's end counts for the digest too.
        io::copy(&mut hashing, &mut io::sink())?;
        Ok((size, format!("sha256:{}", hex(&hashing.hash.finalize()))))
    };
    let damaged = |reason: String| {
        let _ = std::fs::remove_dir_all(&temporary);
        ImageError::Layer { image: image.to_owned(), layer: diff_id.to_owned(), reason }
    };
    match work() {
        Ok((size_bytes, digest)) if digest == diff_id => {
            Ok(Unpacked { diff_id: diff_id.to_owned(), temporary, size_bytes })
        }
        Ok((_, digest)) => Err(damaged(format!("its digest is {digest}"))),
        Err(e) => Err(damaged(e.to_string())),
    }
}

struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hash.update(&buffer[..n]);
        Ok(n)
    }
}

fn blob(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

impl Source {
    fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Ok(Self::Directory(path.to_owned()));
        }
        let failed = |e| ImageError::io("read", path, e);
        let mut file = File::open(path).map_err(failed)?;
        let mut magic = [0u8; 4];
        let got = file.read(&mut magic).map_err(failed)?;
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        if got == 4 && (magic.starts_with(&[0x1f, 0x8b]) || magic == [0x28, 0xb5, 0x2f, 0xfd]) {
            // Its files are needed in another order than they come, so it is unpacked once, to no name.
            let directory = path.parent().unwrap_or(Path::new("/"));
            let mut plain = tempfile(directory).map_err(failed)?;
            let mut packed = decompress(BufReader::new(file)).map_err(failed)?;
            io::copy(&mut packed, &mut plain).map_err(failed)?;
            drop(packed);
            file = plain;
        }
        // What is read as a header and is none stands in the reader's message as it is: that is for nobody's terminal.
        let unreadable = |e: io::Error| ImageError::Archive {
            path: path.display().to_string(),
            reason: format!("it cannot be read as a tar archive ({})", e.kind()),
        };
        let places = places(&mut file).map_err(unreadable)?;
        Ok(Self::Tar(file, places))
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Self::Directory(root) => root.join(clean(name)).is_file(),
            Self::Tar(_, places) => places.contains_key(&clean(name)),
        }
    }

    fn open_file(&mut self, name: &str) -> io::Result<Box<dyn Read + '_>> {
        match self {
            Self::Directory(root) => Ok(Box::new(File::open(root.join(clean(name)))?)),
            Self::Tar(file, places) => {
                let missing = || io::Error::new(io::ErrorKind::NotFound, "the archive does not have it");
                let mut place = places.get(&clean(name)).ok_or_else(missing)?;
                if let Place::LinkTo(target) = place {
                    place = places.get(target).ok_or_else(missing)?;
                }
                let Place::At { offset, size } = place else { return Err(missing()) };
                file.seek(SeekFrom::Start(*offset))?;
                Ok(Box::new(file.take(*size)))
            }
        }
    }
}

fn places(file: &mut File) -> io::Result<BTreeMap<PathBuf, Place>> {
    file.seek(SeekFrom::Start(0))?;
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(file).entries_with_seek()? {
        let entry = entry?;
        let path = clean(&entry.path()?.to_string_lossy());
        let place = match (entry.header().entry_type(), entry.link_name()?) {
            (tar::EntryType::Symlink, Some(to)) => {
                let joined = path.parent().unwrap_or(Path::new("")).join(to);
                Place::LinkTo(resolve_dots(&joined))
            }
            (tar::EntryType::Link, Some(to)) => Place::LinkTo(clean(&to.to_string_lossy())),
            _ => Place::At { offset: entry.raw_file_position(), size: entry.size() },
        };
        found.insert(path, place);
    }
    Ok(found)
}

fn resolve_dots(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::Normal(name) => out.push(name),
            std::path::Component::ParentDir => drop(out.pop()),
            _ => {}
        }
    }
    out
}

/// A file without a name, gone with its last user.
fn tempfile(directory: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let opened = rustix::fs::open(directory, flags, Mode::from_raw_mode(0o600));
    Ok(File::from(opened.or_else(|_| rustix::fs::open("/tmp", flags, Mode::from_raw_mode(0o600)))?))
}
