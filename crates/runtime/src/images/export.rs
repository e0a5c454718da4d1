//! Writing images to an archive that is two things at once, as `docker save` makes it since version 25: what `docker load`
//! reads, and an OCI image layout. Layers are packed anew from what they were unpacked to, so an image that others packed
//! gets a new digest; packed again, it keeps that.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, BufWriter, Seek, SeekFrom, Write},
    path::Path,
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    Image, ImageError, ImageStore, Progress, Result, builtin::hex, documents::architecture, pack::pack, reference,
};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Writes images, each with the names it is to have there. What stands at the path is replaced once all is written.
pub(super) fn export(
    store: &ImageStore,
    images: &[(Image, Vec<String>)],
    path: &Path,
    progress: &Progress,
) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".part");
    let temporary = Path::new(&temporary);
    let failed = |e| ImageError::io("write", path, e);
    let outcome = File::create(temporary).map_err(failed).and_then(|file| {
        let mut archive = Archive { file, blobs: BTreeMap::new(), progress };
        write(store, images, &mut archive)?;
        archive.file.sync_all().map_err(failed)?;
        std::fs::rename(temporary, path).map_err(failed)
    });
    if outcome.is_err() {
        let _ = std::fs::remove_file(temporary);
    }
    outcome
}

fn write(store: &ImageStore, images: &[(Image, Vec<String>)], archive: &mut Archive<'_>) -> Result<()> {
    let failed = |e| ImageError::io("write", Path::new("the archive"), e);
    let mut layers: HashMap<String, Blob> = HashMap::new();
    let (mut index, mut docker) = (Vec::new(), Vec::new());
    for (image, names) in images {
        let mut own = Vec::new();
        for name in store.layer_names(image)?.into_iter().rev() {
            if !layers.contains_key(&name) {
                let directory = store.layer_root().join(&name);
                let packed = archive.blob(|into| pack(&directory, into));
                layers.insert(name.clone(), packed.map_err(|e| ImageError::io("pack", &directory, e))?);
            }
            own.push(layers[&name].clone());
        }
        let config = config(store, image, &own);
        let config = archive.blob(|into| into.write_all(&config)).map_err(failed)?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(CONFIG),
            "layers": own.iter().map(|layer| layer.descriptor(LAYER)).collect::<Vec<_>>(),
        });
        let manifest = archive.blob(|into| into.write_all(manifest.to_string().as_bytes())).map_err(failed)?;
        for name in names {
            let mut descriptor = manifest.descriptor(MANIFEST);
            descriptor["annotations"] = json!({
                "io.containerd.image.name": name,
                "org.opencontainers.image.ref.name": reference::tag_or_digest(name),
            });
            index.push(descriptor);
        }
        if names.is_empty() {
            index.push(manifest.descriptor(MANIFEST));
        }
        docker.push(json!({
            "Config": config.path(),
            "RepoTags": names,
            "Layers": own.iter().map(Blob::path).collect::<Vec<_>>(),
        }));
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": index });
    let files = [
        ("index.json", index),
        ("manifest.json", Value::Array(docker)),
        ("oci-layout", json!({ "imageLayoutVersion": "1.0.0" })),
    ];
    for (name, document) in files {
        archive.document(name, document.to_string().as_bytes()).map_err(failed)?;
    }
    // A tar archive ends with two empty blocks.
    archive.file.write_all(&[0; 1024]).map_err(failed)
}

/// The image's own configuration with the digests that its layers have now.
fn config(store: &ImageStore, image: &Image, layers: &[Blob]) -> Vec<u8> {
    let diff_ids: Vec<&String> = layers.iter().map(|layer| &layer.digest).collect();
    let kept = store.config_document(&image.id);
    if let Some(bytes) = &kept
        && diff_ids.iter().copied().eq(&image.layers)
    {
        return bytes.clone();
    }
    let run = &image.config;
    let from_what_is_known = || {
        json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": run.entrypoint, "Cmd": run.cmd, "Env": run.env,
                "WorkingDir": run.working_dir, "User": run.user, "StopSignal": run.stop_signal,
            },
        })
    };
    let parsed = kept.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok()).filter(Value::is_object);
    let mut document = parsed.unwrap_or_else(from_what_is_known);
    document["rootfs"] = json!({ "type": "layers", "diff_ids": diff_ids });
    document.to_string().into_bytes()
}

#[derive(Clone)]
struct Blob {
    digest: String,
    size_bytes: u64,
}

impl Blob {
    fn path(&self) -> String {
        format!("blobs/{}", self.digest.replacen(':', "/", 1))
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": self.digest, "size": self.size_bytes })
    }
}

/// A tar archive whose files get their names when they are written, since these are their digests.
struct Archive<'a> {
    file: File,
    blobs: BTreeMap<String, Blob>,
    progress: &'a Progress,
}

impl Archive<'_> {
    /// Adds what is written, unless it is there.
    fn blob(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<Blob> {
        let begin = self.file.stream_position()?;
        self.file.write_all(&[0; 512])?;
        let (size_bytes, digest) = self.write(write)?;
        if let Some(known) = self.blobs.get(&digest) {
            self.file.set_len(begin)?;
            self.file.seek(SeekFrom::Start(begin))?;
            return Ok(known.clone());
        }
        let blob = Blob { digest: digest.clone(), size_bytes };
        self.file.write_all(&[0; 512][..padding(size_bytes)])?;
        let end = self.file.stream_position()?;
        self.file.seek(SeekFrom::Start(begin))?;
        self.file.write_all(header(&blob.path(), size_bytes)?.as_bytes())?;
        self.file.seek(SeekFrom::Start(end))?;
        self.blobs.insert(digest, blob.clone());
        Ok(blob)
    }

    /// Gives the size and digest of what was written.
    fn write(&self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<(u64, String)> {
        let inner = BufWriter::new(&self.file);
        let mut into = Hashing { inner, hash: Sha256::new(), size_bytes: 0, progress: self.progress };
        write(&mut into)?;
        into.flush()?;
        Ok((into.size_bytes, format!("sha256:{}", hex(&into.hash.finalize()))))
    }

    fn document(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let size_bytes = bytes.len() as u64;
        self.file.write_all(header(name, size_bytes)?.as_bytes())?;
        self.file.write_all(bytes)?;
        self.file.write_all(&[0; 512][..padding(size_bytes)])
    }
}

fn header(name: &str, size_bytes: u64) -> io::Result<tar::Header> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name)?;
    header.set_size(size_bytes);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    Ok(header)
}

/// What is missing to a whole block.
fn padding(size_bytes: u64) -> usize {
    (512 - (size_bytes % 512) as usize) % 512
}

struct Hashing<'a, W> {
    inner: W,
    hash: Sha256,
    size_bytes: u64,
    progress: &'a Progress,
}

impl<W: Write> Write for Hashing<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size_bytes += written as u64;
        self.progress.add(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
