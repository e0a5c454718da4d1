//! What is exported and imported again is what it was.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
    path::Path,
};

use proptest::{prelude::*, test_runner::Config};
use sha2::{Digest, Sha256};

use super::{builtin::hex, *};

/// A file of a layer as the archive has it: path, content or target, and what else there is to it.
#[derive(Clone, Debug)]
struct Made {
    path: String,
    kind: Kind,
    mode: u32,
    uid: u64,
    mtime: u64,
    attribute: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
enum Kind {
    File(Vec<u8>),
    Directory,
    Symlink(String),
    /// To the first file of the layer.
    Link,
    Fifo,
    Deleted,
    Opaque,
}

fn made() -> impl Strategy<Value = Made> {
    let name = prop::sample::select(vec![
        "a",
        "b",
        "ü",
        "a long name that no header of a plain archive has room for, since it goes on and on and on and on",
    ]);
    let path = prop::collection::vec(name, 1..4).prop_map(|parts| parts.join("/"));
    let kind = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..1500).prop_map(Kind::File),
        Just(Kind::Directory),
        "[a-z/.]{1,120}".prop_map(Kind::Symlink),
        Just(Kind::Link),
        Just(Kind::Fifo),
        Just(Kind::Deleted),
        Just(Kind::Opaque),
    ];
    let attribute = prop::option::of(prop::collection::vec(any::<u8>(), 1..40));
    (path, kind, 0..0o10000_u32, 0..70_000_u64, 0..2_000_000_000_u64, attribute)
        .prop_map(|(path, kind, mode, uid, mtime, attribute)| Made { path, kind, mode, uid, mtime, attribute })
}

/// A layer's archive. What does not fit, such as a file below a file, is left out.
fn archive(entries: &[Made]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut taken: BTreeMap<String, bool> = BTreeMap::new();
    let mut first = None;
    for made in entries {
        let above = made.path.match_indices('/').any(|(at, _)| taken.get(&made.path[..at]) == Some(&false));
        let is_mark = matches!(made.kind, Kind::Opaque);
        if above || (taken.contains_key(&made.path) && !is_mark) || (is_mark && taken.get(&made.path) == Some(&false)) {
            continue;
        }
        taken.extend(made.path.match_indices('/').map(|(at, _)| (made.path[..at].to_owned(), true)));
        taken.insert(made.path.clone(), matches!(made.kind, Kind::Directory | Kind::Opaque));
        let mut header = tar::Header::new_gnu();
        header.set_mode(made.mode);
        header.set_uid(made.uid);
        header.set_gid(made.uid + 1);
        header.set_mtime(made.mtime);
        header.set_size(0);
        let (directory, name) = made.path.rsplit_once('/').unwrap_or(("", &made.path));
        if let (Some(value), Kind::File(_) | Kind::Directory) = (&made.attribute, &made.kind) {
            builder.append_pax_extensions([("SCHILY.xattr.user.test", value.as_slice())]).unwrap();
        }
        match &made.kind {
            Kind::File(content) => {
                header.set_size(content.len() as u64);
                builder.append_data(&mut header, &made.path, content.as_slice()).unwrap();
                first.get_or_insert(made.path.clone());
            }
            Kind::Directory => {
                header.set_entry_type(tar::EntryType::Directory);
                builder.append_data(&mut header, &made.path, &[][..]).unwrap();
            }
            Kind::Symlink(to) => {
                header.set_entry_type(tar::EntryType::Symlink);
                match header.set_link_name_literal(to) {
                    Ok(()) => builder.append_data(&mut header, &made.path, &[][..]).unwrap(),
                    Err(_) => builder.append_link(&mut header, &made.path, to).unwrap(),
                }
            }
            Kind::Link => {
                let Some(first) = &first else { continue };
                header.set_entry_type(tar::EntryType::Link);
                builder.append_link(&mut header, &made.path, first).unwrap();
            }
            Kind::Fifo => {
                header.set_entry_type(tar::EntryType::Fifo);
                builder.append_data(&mut header, &made.path, &[][..]).unwrap();
            }
            Kind::Deleted => builder
                .append_data(&mut header, format!("{directory}/.wh.{name}").trim_start_matches('/'), &[][..])
                .unwrap(),
            Kind::Opaque => builder.append_data(&mut header, format!("{}/.wh..wh..opq", made.path), &[][..]).unwrap(),
        }
    }
    builder.into_inner().unwrap()
}

/// Everything there is to a directory's files; links to one file have one number.
fn all(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut numbers = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        let mut paths: Vec<_> = fs::read_dir(&directory).unwrap().map(|e| e.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            let m = fs::symlink_metadata(&path).unwrap();
            let content = match () {
                () if m.is_file() => hex(&Sha256::digest(fs::read(&path).unwrap())),
                () if m.is_symlink() => hex(fs::read_link(&path).unwrap().as_os_str().as_bytes()),
                () => String::new(),
            };
            if m.is_dir() {
                left.push(path.clone());
            }
            // Marks, and directories that the archive does not tell of, have the time they were made.
            let is_mark = m.file_type().is_char_device();
            let mtime = if m.is_dir() || is_mark { 0 } else { m.mtime() };
            let attribute = |name: &str| {
                let mut value = [0; 64];
                rustix::fs::lgetxattr(&path, name, &mut value).map(|n| value[..n].to_vec()).ok()
            };
            let attributes = [attribute("user.test"), attribute("trusted.overlay.opaque")];
            let next = numbers.len();
            let number = if m.is_dir() { 0 } else { *numbers.entry(m.ino()).or_insert(next) };
            let told = format!(
                "{:o} {} {} {mtime} {} {content} {attributes:?} {number}",
                m.mode(),
                m.uid(),
                m.gid(),
                m.rdev()
            );
            found.insert(path.strip_prefix(root).unwrap().display().to_string(), told);
        }
    }
    found
}

/// A docker-archive of these layers.
fn docker_archive(path: &Path, layers: &[Vec<u8>], names: &[&str]) {
    let diff_ids: Vec<String> = layers.iter().map(|l| format!("sha256:{}", hex(&Sha256::digest(l)))).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "config": { "Cmd": ["/f"], "Labels": { "who": "me" }, "ExposedPorts": { "80/tcp": {} } },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let files: Vec<String> = (0..layers.len()).map(|i| format!("{i}.tar")).collect();
    let manifest = serde_json::json!([{ "Config": "config.json", "RepoTags": names, "Layers": files }]);
    let mut builder = tar::Builder::new(fs::File::create(path).unwrap());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes).unwrap();
    };
    add("config.json", config.to_string().as_bytes());
    add("manifest.json", manifest.to_string().as_bytes());
    files.iter().zip(layers).for_each(|(name, layer)| add(name, layer));
    builder.finish().unwrap();
}

/// A store in a directory of its own, with what the archive holds.
fn imported(archive: &Path) -> (tempfile::TempDir, ImageStore, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(dir.path()).unwrap();
    let names = store.import(archive).unwrap();
    (dir, store, names)
}

fn layers(store: &ImageStore, image: &Image) -> Vec<BTreeMap<String, String>> {
    store.layer_names(image).unwrap().iter().map(|name| all(&store.layer_root().join(name))).collect()
}

fn there_and_back(contents: &[Vec<Made>]) {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let packed: Vec<Vec<u8>> = contents.iter().map(|layer| archive(layer)).collect();
    docker_archive(&at("first.tar"), &packed, &["reg.io/a:1", "reg.io/a:2"]);
    let (_one, one, names) = imported(&at("first.tar"));
    let image = one.find(&names[0]).unwrap().unwrap();
    one.export(std::slice::from_ref(&image.id), &at("second.tar"), &Progress::default()).unwrap();
    let (_two, two, again) = imported(&at("second.tar"));
    assert_eq!(names, again);
    let back = two.find(&names[0]).unwrap().unwrap();
    assert_eq!((&image.config, &image.names), (&back.config, &back.names));
    assert_eq!(layers(&one, &image), layers(&two, &back));
    let document = |store: &ImageStore, image: &Image| {
        let bytes = store.config_document(&image.id).unwrap();
        let mut document: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        document.as_object_mut().unwrap().remove("rootfs");
        document
    };
    assert_eq!(document(&one, &image), document(&two, &back));
    // From here on nothing changes any more, the image's digest included.
    two.export(std::slice::from_ref(&back.id), &at("third.tar"), &Progress::default()).unwrap();
    assert!(fs::read(at("second.tar")).unwrap() == fs::read(at("third.tar")).unwrap());
}

#[test]
fn any_image_comes_back_as_it_was() {
    assert!(rustix::process::geteuid().is_root(), "these tests unpack layers; run them as root");
    let layers = prop::collection::vec(prop::collection::vec(made(), 0..12), 0..4);
    proptest!(Config::with_cases(64), |(contents in layers)| there_and_back(&contents));
}

#[test]
fn an_archive_has_the_names_that_were_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    docker_archive(&at("first.tar"), &[archive(&[])], &["reg.io/a:1", "reg.io/a:2"]);
    let (_one, one, _) = imported(&at("first.tar"));
    one.export(&["reg.io/a:2".into()], &at("named.tar"), &Progress::default()).unwrap();
    assert_eq!(imported(&at("named.tar")).2, ["reg.io/a:2"]);
    let error = one.export(&["reg.io/none".into()], &at("named.tar"), &Progress::default()).unwrap_err();
    assert!(error.to_string().starts_with("no such image on this node: reg.io/none"), "{error}");
    // An image without a name is called as its archive is.
    docker_archive(&at("nobody.tar"), &[archive(&[])], &[]);
    assert_eq!(imported(&at("nobody.tar")).2, ["docker.io/library/nobody:latest"]);
}

#[test]
fn an_archive_is_an_oci_layout_too() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    docker_archive(&at("first.tar"), &[archive(&[])], &["reg.io/a:1"]);
    let (_one, one, _) = imported(&at("first.tar"));
    one.export(&["reg.io/a:1".into()], &at("both.tar"), &Progress::default()).unwrap();
    let layout = at("layout");
    tar::Archive::new(fs::File::open(at("both.tar")).unwrap()).unpack(&layout).unwrap();
    fs::remove_file(layout.join("manifest.json")).unwrap();
    let (_two, two, names) = imported(&layout);
    assert_eq!(names, ["reg.io/a:1"]);
    assert_eq!(two.find("reg.io/a:1").unwrap().unwrap().id, imported(&at("both.tar")).1.list().unwrap()[0].id);
}

#[test]
fn pruning_leaves_what_is_used_and_takes_its_configurations_along() {
    let dir = tempfile::tempdir().unwrap();
    docker_archive(&dir.path().join("a.tar"), &[archive(&[])], &["reg.io/a:1"]);
    let (data, store, _) = imported(&dir.path().join("a.tar"));
    let image = store.find("reg.io/a:1").unwrap().unwrap();
    let configs = || fs::read_dir(data.path().join("images/configs")).unwrap().count();
    assert_eq!(store.prune().unwrap(), [], "what was imported nobody could pull again");
    assert_eq!(configs(), 1);
    let loosen = |index: &mut super::index::Index| {
        index.images.values_mut().for_each(|image| image.pinned = false);
        Ok(())
    };
    store.change(loosen).unwrap();
    assert_eq!(store.prune().unwrap(), [("reg.io/a:1".to_owned(), 0)]);
    assert_eq!((store.find(&image.id).unwrap(), configs()), (None, 0));
}
