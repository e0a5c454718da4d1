//! The built-in demo image: this very program, which is static and so needs nothing around it. Two tags share its one
//! layer and differ in what they are told to show, so that a rolling update can be watched without any registry.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use sha2::{Digest, Sha256};

use super::{Image, ImageError, ImageStore, Result, RunConfig, Unpacked, index::Archive};

/// The names of the built-in images.
pub const NAMES: [&str; 2] = ["knarr.local/demo:v1", "knarr.local/demo:v2"];
const COLOURS: [&str; 2] = ["blue", "green"];

/// Makes the images, unless those of this very program are there already.
pub fn add(store: &ImageStore, exe: &Path) -> Result<()> {
    let metadata = fs::metadata(exe).map_err(|e| ImageError::io("inspect", exe, e))?;
    // A layer's digest is that of an archive of it. There is no archive, and reading the whole program at each start
    // would cost more than the start, so the identity of the file stands in.
    let identity = format!("knarr built-in image 1: {:?}", Archive::of(exe));
    let diff_id = format!("sha256:{}", hex(&Sha256::digest(identity)));
    let images: Vec<Image> =
        NAMES.iter().zip(COLOURS).map(|(name, colour)| image(name, colour, &diff_id, metadata.len())).collect();
    let known = store.list()?;
    let complete = store.has_layer(&diff_id)?
        && images.iter().all(|i| known.iter().any(|k| k.id == i.id && k.names.is_superset(&i.names)));
    if complete {
        return Ok(());
    }
    let layer = make_layer(store, exe, diff_id, metadata.len())?;
    store.commit(images.into_iter().map(|image| (image, Vec::new())).collect(), vec![layer], None)?;
    // The image of the program's previous version.
    store.collect_garbage()
}

fn image(name: &str, colour: &str, diff_id: &str, size_bytes: u64) -> Image {
    let version = name.rsplit(':').next().unwrap_or_default();
    let config = RunConfig {
        entrypoint: vec!["/knarr".into(), "demo-app".into()],
        env: vec!["PATH=/".into(), format!("VERSION={version}"), format!("COLOUR={colour}")],
        working_dir: "/".into(),
        ..RunConfig::default()
    };
    let id = format!("sha256:{}", hex(&Sha256::digest(format!("{config:?} {diff_id}"))));
    Image {
        id,
        names: [name.to_owned()].into(),
        layers: vec![diff_id.to_owned()],
        config,
        size_bytes,
        pinned: true,
        ..Image::default()
    }
}

fn make_layer(store: &ImageStore, exe: &Path, diff_id: String, size_bytes: u64) -> Result<Unpacked> {
    let temporary = store.temporary()?;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |e| ImageError::io("make", &path, e)
    };
    let (etc, tmp, program) = (temporary.join("etc"), temporary.join("tmp"), temporary.join("knarr"));
    for directory in [&etc, &tmp] {
        fs::create_dir(directory).map_err(failed(directory))?;
    }
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755)).map_err(failed(&temporary))?;
    fs::set_permissions(&tmp, fs::Permissions::from_mode(0o1777)).map_err(failed(&tmp))?;
    let passwd = "root:x:0:0:root:/:/\nnobody:x:65534:65534:nobody:/:/\n";
    fs::write(etc.join("passwd"), passwd).map_err(failed(&etc))?;
    fs::write(etc.join("group"), "root:x:0:\nnobody:x:65534:\n").map_err(failed(&etc))?;
    // A hard link costs nothing; across file systems it has to be a copy.
    let source = fs::canonicalize(exe).map_err(failed(exe))?;
    if fs::hard_link(&source, &program).is_err() {
        fs::copy(exe, &program).map_err(failed(&program))?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).map_err(failed(&program))?;
    }
    Ok(Unpacked { diff_id, temporary, size_bytes })
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing into a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
