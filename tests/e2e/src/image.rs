//! Test images, written as archives of the kind that `docker save` writes.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::command::succeed;

/// The name under which tests use it.
pub const BUSYBOX: &str = "docker.io/library/busybox:1.35";
/// The same with Perl, which makes any system call, and a copy of it that runs as root whoever starts it.
pub const PERL: &str = "docker.io/library/perl:5";

const APPLETS: [&str; 55] = [
    "sh", "ash", "cat", "chmod", "cp", "cut", "date", "dd", "df", "echo", "env", "expr", "false", "find", "grep",
    "head", "hostname", "httpd", "id", "ip", "kill", "ln", "ls", "mkdir", "mknod", "mount", "mv", "nc", "nsenter",
    "nslookup", "ping", "printf", "ps", "pwd", "readlink", "reboot", "rm", "sed", "seq", "sleep", "sort", "stat",
    "stty", "tail", "tar", "test", "timeout", "top", "touch", "tr", "true", "umount", "unshare", "wc", "wget",
];

pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(1_700_000_000);
    header
}

/// An image of an archive: its name, its layers' places in the archive, and the `config` of its configuration.
pub struct Image<'a> {
    pub name: &'a str,
    pub layers: &'a [usize],
    pub config: Value,
}

/// Writes images and the layers (tar files) that they share as one archive.
pub fn write_archive(path: &Path, layers: &[Vec<u8>], images: &[Image<'_>]) -> Result<()> {
    let mut tar = tar::Builder::new(fs::File::create(path)?);
    let mut add = |name: &str, bytes: &[u8]| {
        tar.append_data(&mut header(tar::EntryType::Regular, 0o644, bytes.len() as u64), name, bytes)
    };
    let digests: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    for (layer, digest) in layers.iter().zip(&digests) {
        add(&format!("{digest}.tar"), layer)?;
    }
    let mut manifest = Vec::new();
    for Image { name, layers, config } in images {
        let diff_ids: Vec<_> = layers.iter().map(|at| format!("sha256:{}", digests[*at])).collect();
        let files: Vec<_> = layers.iter().map(|at| format!("{}.tar", digests[*at])).collect();
        let config = json!({
            "architecture": std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64"),
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        })
        .to_string();
        let file = format!("{}.json", digest(config.as_bytes()));
        add(&file, config.as_bytes())?;
        manifest.push(json!({"Config": file, "RepoTags": [name], "Layers": files}));
    }
    add("manifest.json", Value::from(manifest).to_string().as_bytes())?;
    tar.finish()?;
    Ok(())
}

fn busybox_layer(busybox: &[u8]) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (dir, mode) in
        [("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("root", 0o700), ("var", 0o755), ("home", 0o755)]
    {
        tar.append_data(&mut header(tar::EntryType::Directory, mode, 0), format!("{dir}/"), std::io::empty())?;
    }
    tar.append_data(&mut header(tar::EntryType::Regular, 0o755, busybox.len() as u64), "bin/busybox", busybox)?;
    for applet in APPLETS {
        let mut link = header(tar::EntryType::Symlink, 0o777, 0);
        tar.append_link(&mut link, format!("bin/{applet}"), "busybox")?;
    }
    let users =
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\nweb:x:1000:1000::/home:/bin/sh\n";
    let groups = "root:x:0:\nnogroup:x:65534:\nweb:x:1000:\nextra:x:2000:web\n";
    for (path, text) in [("etc/passwd", users), ("etc/group", groups)] {
        tar.append_data(&mut header(tar::EntryType::Regular, 0o644, text.len() as u64), path, text.as_bytes())?;
    }
    Ok(tar.into_inner()?)
}

/// This host's Perl, with the libraries that it is linked with.
fn perl_layer() -> Result<Vec<u8>> {
    let perl = fs::read("/usr/bin/perl").context("no /usr/bin/perl: apt-get install perl-base")?;
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: &str, mode: u32, bytes: &[u8]| {
        let mut header = header(tar::EntryType::Regular, mode, bytes.len() as u64);
        tar.append_data(&mut header, path.trim_start_matches('/'), bytes)
    };
    add("bin/perl", 0o755, &perl)?;
    add("bin/perl-as-root", 0o4755, &perl)?;
    add("users.pl", 0o644, b"print \"$< $>\";")?;
    let linked = succeed(Command::new("ldd").arg("/usr/bin/perl"))?;
    for library in linked.split_whitespace().filter(|word| word.starts_with('/')) {
        add(library, 0o755, &fs::read(library)?)?;
    }
    Ok(tar.into_inner()?)
}

/// The image of sandboxes for runtimes that make a container of each, in the same archive as busybox.
pub const PAUSE: &str = "knarr.test/pause:1";

/// Writes the busybox image as an archive.
pub fn write_busybox(path: &Path) -> Result<()> {
    let waits = json!({"Entrypoint": ["/bin/busybox", "sleep", "2147483647"]});
    write_busybox_as(path, &[(BUSYBOX, shell()), (PAUSE, waits)])
}

/// The same files as other images.
pub fn write_busybox_as(path: &Path, images: &[(&str, Value)]) -> Result<()> {
    let images: Vec<Image<'_>> =
        images.iter().map(|(name, config)| Image { name, layers: &[0], config: config.clone() }).collect();
    write_archive(path, &[busybox_layer(&busybox_program()?)?], &images)
}

/// Writes the image with Perl as an archive; no cluster has it from the beginning.
pub fn write_perl(path: &Path) -> Result<()> {
    let image = Image { name: PERL, layers: &[0, 1], config: shell() };
    write_archive(path, &[busybox_layer(&busybox_program()?)?, perl_layer()?], &[image])
}

fn busybox_program() -> Result<Vec<u8>> {
    fs::read("/bin/busybox").context("no /bin/busybox: apt-get install busybox-static")
}

fn shell() -> Value {
    json!({"Env": ["PATH=/bin"], "Cmd": ["sh"]})
}
