use std::{fs, io::Write, os::unix::fs::MetadataExt};

use super::*;

fn needs_root() {
    assert!(rustix::process::geteuid().is_root(), "these tests unpack layers; run them as root");
}

/// One entry of a test layer.
enum Entry<'a> {
    File(&'a str, &'a str),
    Directory(&'a str),
    Symlink(&'a str, &'a str),
    Link(&'a str, &'a str),
}

fn layer(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o4755);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_000_000_000);
        header.set_size(0);
        let raw = |header: &mut tar::Header, name: &str| {
            // Names are written as they are: the library would refuse the dangerous ones.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        };
        match entry {
            Entry::File(name, text) => {
                raw(&mut header, name);
                header.set_size(text.len() as u64);
                header.set_cksum();
                builder.append(&header, text.as_bytes()).unwrap();
            }
            Entry::Directory(name) => {
                raw(&mut header, name);
                header.set_entry_type(tar::EntryType::Directory);
                header.set_cksum();
                builder.append(&header, &[][..]).unwrap();
            }
            Entry::Symlink(name, to) | Entry::Link(name, to) => {
                raw(&mut header, name);
                let link = matches!(entry, Entry::Link(..));
                header.set_entry_type(if link { tar::EntryType::Link } else { tar::EntryType::Symlink });
                header.as_old_mut().linkname[..to.len()].copy_from_slice(to.as_bytes());
                header.set_cksum();
                builder.append(&header, &[][..]).unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}

fn unpacked(entries: &[Entry<'_>]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    unpack::unpack(&layer(entries)[..], dir.path()).unwrap();
    dir
}

#[test]
fn files_keep_owner_mode_and_time() {
    needs_root();
    use Entry::{Directory, File, Link, Symlink};
    let dir =
        unpacked(&[Directory("d/"), File("d/f", "text"), Link("d/hard", "d/f"), Symlink("d/soft", "/etc/passwd")]);
    let of = |name: &str| fs::symlink_metadata(dir.path().join(name)).unwrap();
    assert_eq!((of("d/f").uid(), of("d/f").gid(), of("d/f").mode() & 0o7777), (7, 8, 0o4755));
    assert_eq!((of("d/f").mtime(), of("d").mtime()), (1_000_000_000, 1_000_000_000));
    assert_eq!(of("d/f").ino(), of("d/hard").ino());
    assert_eq!((of("d/soft").uid(), fs::read_link(dir.path().join("d/soft")).unwrap()), (7, "/etc/passwd".into()));
}

#[test]
fn nothing_is_written_outside_the_layer() {
    needs_root();
    use Entry::{File, Symlink};
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap().to_owned();
    let dir = tempfile::tempdir().unwrap();
    for entries in [
        vec![Symlink("out", &target), File("out/evil", "x")],
        vec![File("../../../../../../../../../../tmp/knarr-evil", "x")],
        vec![Symlink("up", "../../../../../../../.."), File("up/tmp/knarr-evil", "x")],
    ] {
        // Refused or kept inside, but never followed.
        let _ = unpack::unpack(&layer(&entries)[..], dir.path());
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert!(!Path::new("/tmp/knarr-evil").exists());
}

#[test]
fn deletions_become_overlay_marks() {
    needs_root();
    use Entry::{Directory, File};
    let dir = unpacked(&[Directory("d/"), File(".wh.gone", ""), File("d/.wh..wh..opq", "")]);
    let gone = fs::symlink_metadata(dir.path().join("gone")).unwrap();
    assert_eq!((gone.mode() & 0o170_000, gone.rdev()), (0o020_000, 0), "a character device 0:0");
    let mut value = [0u8; 8];
    let length = rustix::fs::getxattr(dir.path().join("d"), "trusted.overlay.opaque", &mut value).unwrap();
    assert_eq!(&value[..length], b"y");
    assert!(!dir.path().join(".wh.gone").exists());
}

/// An OCI layout directory with one gzipped layer; gives the layer's blob for spoiling.
fn oci_layout(directory: &Path, text: &str) -> PathBuf {
    use sha2::Digest;
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = builtin::hex(&sha2::Sha256::digest(bytes));
        fs::write(blobs.join(&digest), bytes).unwrap();
        digest
    };
    let plain = layer(&[Entry::File("f", text)]);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&plain).unwrap();
    let packed = put(&packed.finish().unwrap());
    let diff_id = builtin::hex(&sha2::Sha256::digest(&plain));
    let config = put(format!(
        r#"{{"config":{{"Cmd":["/f"],"User":"9"}},"rootfs":{{"type":"layers","diff_ids":["sha256:{diff_id}"]}}}}"#
    )
    .as_bytes());
    let size = |digest: &str| fs::metadata(blobs.join(digest)).unwrap().len();
    let descriptor = |digest: &str| format!(r#"{{"digest":"sha256:{digest}","size":{}}}"#, size(digest));
    let manifest =
        put(format!(r#"{{"config":{},"layers":[{}]}}"#, descriptor(&config), descriptor(&packed)).as_bytes());
    let named = format!(
        r#"{{"manifests":[{{"digest":"sha256:{manifest}","annotations":{{"org.opencontainers.image.ref.name":"example.com/a:1"}}}}]}}"#
    );
    fs::write(directory.join("index.json"), named).unwrap();
    fs::write(directory.join("oci-layout"), "{}").unwrap();
    blobs.join(packed)
}

#[test]
fn an_oci_layout_is_imported_found_and_removed() {
    needs_root();
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(dir.path()).unwrap();
    let layouts = dir.path().join("archives");
    oci_layout(&layouts.join("one"), "v1");
    let imported = store.import_directory(&layouts).unwrap();
    assert_eq!(imported[0].1.as_ref().unwrap(), &["example.com/a:1"]);
    assert!(store.import_directory(&layouts).unwrap().is_empty(), "each archive is read once");
    let image = store.find("example.com/a:1").unwrap().unwrap();
    assert_eq!((image.config.user.as_str(), image.config.cmd.as_slice()), ("9", &["/f".to_owned()][..]));
    assert_eq!(store.find(&image.id).unwrap().as_ref(), Some(&image));
    let digest = image.digests.first().unwrap().clone();
    assert_eq!(store.find(&digest).unwrap().as_ref(), Some(&image));
    let layer = store.layer_root().join(&store.layer_names(&image).unwrap()[0]);
    assert_eq!(fs::read_to_string(layer.join("f")).unwrap(), "v1");
    // Another process's view of the same store.
    assert!(ImageStore::open(dir.path()).unwrap().remove("example.com/a:1").unwrap());
    assert_eq!((store.find("example.com/a:1").unwrap(), layer.exists()), (None, false));
    assert!(!store.remove("example.com/a:1").unwrap());
}

#[test]
fn layers_that_a_container_shows_stay() {
    use knarr_cri::v1::{ContainerConfig, ImageSpec, Mount, PodSandboxConfig};
    needs_root();
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(dir.path()).unwrap();
    oci_layout(&dir.path().join("archives/one"), "v1");
    store.import_directory(&dir.path().join("archives")).unwrap();
    let image = store.find("example.com/a:1").unwrap().unwrap();
    let layers = store.layer_names(&image).unwrap();
    let shown = Some(ImageSpec { image: image.id.clone(), ..ImageSpec::default() });
    let mount = Mount { container_path: "/i".into(), image: shown, ..Mount::default() };
    let config = ContainerConfig { command: vec!["x".into()], mounts: vec![mount], ..ContainerConfig::default() };
    let spec = crate::spec::container(crate::spec::Inputs {
        id: "c",
        config: &config,
        sandbox: &PodSandboxConfig::default(),
        image: &RunConfig::default(),
        rootfs: crate::shim::spec::Rootfs {
            store: store.layer_root(),
            layers: vec![],
            upper: "/u".into(),
            work: "/w".into(),
            mountpoint: "/m".into(),
            readonly: false,
        },
        cgroup: "k/c".into(),
        exit_path: "/e".into(),
        sandbox_mounts: vec![],
        mounted_images: [(image.id.clone(), layers.clone())].into(),
        target_pid: None,
    });
    let record = dir.path().join("containers/c");
    fs::create_dir_all(&record).unwrap();
    crate::shim::spec::store(&record.join(crate::container::SPEC_FILE), &spec.unwrap()).unwrap();
    assert!(store.remove("example.com/a:1").unwrap());
    let layer = store.layer_root().join(&layers[0]);
    assert!(layer.exists());
    fs::remove_dir_all(record).unwrap();
    store.collect_garbage().unwrap();
    assert!(!layer.exists());
}

/// What the message about a damaged index advises.
#[test]
fn a_lost_index_makes_an_empty_store_that_works() {
    needs_root();
    let dir = tempfile::tempdir().unwrap();
    let layouts = dir.path().join("archives");
    oci_layout(&layouts.join("one"), "v1");
    let store = || ImageStore::open(dir.path()).unwrap();
    store().import_directory(&layouts).unwrap();
    fs::remove_file(dir.path().join("images/index.json")).unwrap();
    assert!(store().list().unwrap().is_empty());
    assert_eq!(store().import_directory(&layouts).unwrap()[0].1.as_ref().unwrap(), &["example.com/a:1"]);
    store().collect_garbage().unwrap();
    assert_eq!(fs::read_dir(store().layer_root()).unwrap().count(), 1, "the lost layer is still there");
    let image = store().find("example.com/a:1").unwrap().unwrap();
    let layer = store().layer_root().join(&store().layer_names(&image).unwrap()[0]);
    assert_eq!(fs::read_to_string(layer.join("f")).unwrap(), "v1");
}

#[test]
fn damaged_archives_are_refused_and_leave_nothing() {
    needs_root();
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(dir.path()).unwrap();
    let layout = dir.path().join("bad");
    let blob = oci_layout(&layout, "v1");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&layer(&[Entry::File("f", "other")])).unwrap();
    fs::write(&blob, packed.finish().unwrap()).unwrap();
    let error = store.import(&layout).unwrap_err();
    assert!(matches!(error, ImageError::Layer { .. }), "{error}");
    fs::write(dir.path().join("junk.tar"), b"not an archive at all").unwrap();
    let error = store.import(&dir.path().join("junk.tar")).unwrap_err();
    assert!(matches!(error, ImageError::Archive { .. }), "{error}");
    assert!(store.list().unwrap().is_empty());
    assert_eq!(fs::read_dir(store.layer_root()).unwrap().count(), 0);
}

#[test]
fn an_index_that_names_itself_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(&dir.path().join("store")).unwrap();
    let blobs = dir.path().join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let index = r#"{"manifests":[{"digest":"sha256:self"}]}"#;
    fs::write(dir.path().join("index.json"), index).unwrap();
    fs::write(dir.path().join("oci-layout"), "{}").unwrap();
    fs::write(blobs.join("self"), index).unwrap();
    let error = store.import(dir.path()).unwrap_err();
    assert!(error.to_string().contains("indexes lead to an image"), "{error}");
}

/// A sparse file takes no room in its archive and all that it claims where it is unpacked.
#[test]
fn a_layer_larger_than_the_disk_is_refused_before_it_is_written() {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNUSparse);
    let sparse = header.as_gnu_mut().unwrap();
    sparse.set_real_size(1 << 60);
    // What is told of its content ends where it ends, or the archive is damaged.
    sparse.sparse[0].set_offset(1 << 60);
    sparse.sparse[0].set_length(0);
    header.as_old_mut().name[..4].copy_from_slice(b"huge");
    for count in [1, 20] {
        let mut archive = Vec::new();
        for _ in 0..count {
            header.set_size(0);
            header.set_mode(0o644);
            header.set_cksum();
            archive.extend_from_slice(header.as_bytes());
        }
        let dir = tempfile::tempdir().unwrap();
        let error = unpack::unpack(&archive[..], dir.path()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

#[test]
fn an_image_remembers_when_it_was_used_last_unless_it_stays_anyway() {
    let directory = tempfile::tempdir().unwrap();
    let store = ImageStore::open(directory.path()).unwrap();
    let image =
        |id: &str, pinned| Image { id: id.into(), names: [format!("r/{id}:1")].into(), pinned, ..Image::default() };
    let images = ["loose", "pinned"].map(|id| (image(id, id == "pinned"), Vec::new()));
    store.commit(images.into(), Vec::new(), None).unwrap();
    let used = |id: &str| store.find(id).unwrap().unwrap().last_used_s;
    let came = used("loose");
    assert!(came > 0);
    for (back_s, noted) in [(USE_NOTED_S - 5, false), (USE_NOTED_S + 5, true)] {
        let then = came - back_s;
        let rewind = |index: &mut Index| {
            index.images.values_mut().for_each(|image| image.last_used_s = then);
            Ok(())
        };
        store.change(rewind).unwrap();
        ["loose", "pinned", "none"].iter().for_each(|id| store.note_use(id).unwrap());
        assert_eq!((used("loose") > then, used("pinned")), (noted, then), "{back_s} s ago");
    }
}

#[test]
fn a_newer_image_takes_the_name_over() {
    let mut index = index::Index::default();
    let image = |id: &str| Image {
        id: id.into(),
        names: ["r/a:1".to_owned()].into(),
        layers: vec![id.into()],
        ..Image::default()
    };
    index.add(image("old"));
    index.add(image("new"));
    assert_eq!(index.images.keys().collect::<Vec<_>>(), ["new"]);
}

/// A registry of one image, as little as a client needs: manifests by tag and digest, and blobs. It notes the paths it
/// was asked for.
async fn registry(layout: PathBuf, asked: Arc<Mutex<Vec<String>>>) -> std::net::SocketAddr {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (layout, asked) = (layout.clone(), asked.clone());
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                loop {
                    let mut request = String::new();
                    match stream.read_line(&mut request).await {
                        Ok(1..) => {}
                        Ok(0) => return,
                        // A greeting by TLS, which servers answer in plain words.
                        Err(_) => return stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap(),
                    }
                    let mut header = String::new();
                    while stream.read_line(&mut header).await.unwrap() > 2 {
                        header.clear();
                    }
                    let path = request.split(' ').nth(1).unwrap().to_owned();
                    asked.lock().unwrap().push(path.clone());
                    let index = fs::read_to_string(layout.join("index.json")).unwrap();
                    let manifest = index.split("sha256:").nth(1).unwrap()[..64].to_owned();
                    let last = path.rsplit('/').next().unwrap().trim_start_matches("sha256:").to_owned();
                    let wanted = if last == "1" { manifest.clone() } else { last };
                    let body = if path == "/v2/" {
                        Some(vec![])
                    } else {
                        fs::read(layout.join("blobs/sha256").join(&wanted)).ok()
                    };
                    let kind = "application/vnd.oci.image.manifest.v1+json";
                    let answer = match &body {
                        Some(b) => format!(
                            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nDocker-Content-Digest: sha256:{wanted}\r\nContent-Length: {}\r\n\r\n",
                            b.len()
                        ),
                        None => {
                            let error = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"not here"}]}"#;
                            let head = "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length";
                            format!("{head}: {}\r\n\r\n{error}", error.len())
                        }
                    };
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    stream.write_all(&body.filter(|_| !request.starts_with("HEAD")).unwrap_or_default()).await.unwrap();
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn images_are_pulled_from_a_registry() {
    needs_root();
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("registry");
    oci_layout(&layout, "pulled");
    let address = registry(layout, Arc::default()).await;
    let store = std::sync::Arc::new(ImageStore::open(dir.path()).unwrap());
    let name = format!("{address}/some/app:1");
    let id = store.pull(&name, None).await.unwrap();
    let image = store.find(&name).unwrap().unwrap();
    assert_eq!(image.id, id);
    let layer = store.layer_root().join(&store.layer_names(&image).unwrap()[0]);
    assert_eq!(fs::read_to_string(layer.join("f")).unwrap(), "pulled");
    let digest = image.digests.first().unwrap().clone();
    assert_eq!(store.pull(&digest, None).await.unwrap(), id, "by digest too");
    let error = store.pull(&format!("{address}/some/app:nope"), None).await.unwrap_err();
    assert!(matches!(error, ImageError::Registry { kind: RegistryProblem::NotFound, .. }), "{error:?}");
    let error = store.pull("127.0.0.1:1/some/app:1", None).await.unwrap_err();
    assert!(matches!(error, ImageError::Registry { kind: RegistryProblem::Unavailable, .. }), "{error:?}");
}

#[tokio::test]
async fn what_two_want_at_once_is_fetched_once() {
    needs_root();
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("registry");
    oci_layout(&layout, "shared");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let address = registry(layout, asked.clone()).await;
    let store = Arc::new(ImageStore::open(dir.path()).unwrap());
    let names = [format!("{address}/some/app:1"), format!("{address}/other/app:1")];
    let (first, second) = tokio::join!(store.pull(&names[0], None), store.pull(&names[1], None));
    assert_eq!(first.unwrap(), second.unwrap());
    let asked = asked.lock().unwrap().clone();
    let mut blobs: Vec<_> =
        asked.iter().filter(|path| path.contains("/blobs/")).map(|p| p.rsplit('/').next()).collect();
    blobs.sort();
    let all = blobs.len();
    blobs.dedup();
    // The config twice, since each puller reads it, and the layer once.
    assert_eq!((all, blobs.len()), (3, 2), "{asked:?}");
}
