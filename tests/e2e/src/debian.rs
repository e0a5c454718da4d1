//! Images of the programs that teaching examples run, made from Debian's packages under the names and with the
//! environment of the public images. The packages, which the set-up fetched by apt, are unpacked; nothing of them runs
//! before a container does.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::{
    command::succeed,
    image::{Image, digest, header, write_archive},
};

/// What is large and nobody here reads.
const LEFT_OUT: [&str; 9] = [
    "./usr/share/doc",
    "./usr/share/man",
    "./usr/share/locale",
    "./usr/share/info",
    "./usr/share/lintian",
    "./usr/share/perl*",
    "./usr/lib/*/perl*",
    "./usr/lib/*/gconv",
    "./usr/share/fonts",
];

/// Called with a package, a directory and what tar is told besides.
const UNPACK: &str = "package=$1; root=$2; shift 2; dpkg-deb --fsys-tarfile \"$package\" | \
                      tar -x --keep-directory-symlink -C \"$root\" \"$@\"";
/// Runs what it is told.
const PLAIN: &str = "#!/bin/sh\nexec \"$@\"\n";
const NGINX: &str = "daemon off; error_log stderr; pid /run/nginx.pid; events {} http { include /etc/nginx/mime.types; \
                     access_log off; server { listen 80; root /usr/share/nginx/html; } }\n";

/// An archive with `redis:7.0`, `mariadb:10.11`, `php:8.2-cli`, `wordpress:6.1` and `nginx:1.22`, made from the packages in
/// `cache` and kept there for as long as they are the same.
pub fn images(cache: &Path) -> Result<PathBuf> {
    let packages = packages(cache)?;
    let own = [
        files(&[("entry", include_str!("../images/redis.sh"))], &["data"])?,
        files(&[("entry", include_str!("../images/mariadb.sh"))], &[])?,
        files(&[("entry", PLAIN)], &[])?,
        files(&[("entry", include_str!("../images/wordpress.sh"))], &[])?,
        files(&[("etc/nginx/nginx.conf", NGINX), ("entry", PLAIN)], &[])?,
    ];
    let made_of =
        digest(format!("{packages:?} {LEFT_OUT:?} {:?}", own.each_ref().map(|layer| digest(layer))).as_bytes());
    let path = cache.join(format!("images-{}.tar", &made_of[..16]));
    if !path.exists() {
        let root = tempfile::tempdir()?;
        unpack(root.path(), &packages)?;
        let layers: Vec<_> = [layer(root.path())?].into_iter().chain(own).collect();
        let unfinished = path.with_extension("unfinished");
        write_images(&unfinished, &layers)?;
        fs::rename(&unfinished, &path)?;
    }
    Ok(path)
}

fn write_images(path: &Path, layers: &[Vec<u8>]) -> Result<()> {
    let image = |name, own: &'static [usize], command: &str, env: &[&str]| {
        let path = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"];
        let env: Vec<&str> = path.iter().chain(env).copied().collect();
        let command: Vec<&str> = command.split(' ').collect();
        Image { name, layers: own, config: json!({"Env": env, "Entrypoint": ["/entry"], "Cmd": command}) }
    };
    let php = "php -S 0.0.0.0:80 -t /usr/share/wordpress";
    let images = [
        image("docker.io/library/redis:7.0", &[0, 1], "redis-server", &[]),
        image("docker.io/library/mariadb:10.11", &[0, 2], "mariadbd", &[]),
        image("docker.io/library/php:8.2-cli", &[0, 3], "php -a", &["PHP_CLI_SERVER_WORKERS=2"]),
        image("docker.io/library/wordpress:6.1", &[0, 4], php, &["PHP_CLI_SERVER_WORKERS=4"]),
        image("docker.io/library/nginx:1.22", &[0, 5], "nginx", &[]),
    ];
    write_archive(path, layers, &images)
}

/// The packages that the set-up fetched.
fn packages(cache: &Path) -> Result<Vec<PathBuf>> {
    let archives = cache.join("archives");
    let entries = fs::read_dir(&archives).with_context(|| format!("no {}: run `./x setup`", archives.display()))?;
    let mut found: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    found.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
    ensure!(!found.is_empty(), "no packages in {}: run `./x setup`", archives.display());
    found.sort();
    Ok(found)
}

fn unpack(root: &Path, packages: &[PathBuf]) -> Result<()> {
    for dir in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(root.join("usr").join(dir))?;
        symlink(format!("usr/{dir}"), root.join(dir))?;
    }
    let left_out = LEFT_OUT.map(|pattern| format!("--exclude={pattern}"));
    for package in packages {
        let mut unpack = Command::new("sh");
        unpack.args(["-c", UNPACK, "sh"]);
        unpack.arg(package).arg(root).args(&left_out);
        succeed(&mut unpack).with_context(|| format!("cannot unpack {}", package.display()))?;
    }
    // What the packages' own scripts would do.
    symlink("gawk", root.join("usr/bin/awk"))?;
    symlink("php8.2", root.join("usr/bin/php"))?;
    let modules = root.join("etc/php/8.2/cli/conf.d");
    fs::create_dir_all(&modules)?;
    fs::write(modules.join("20-mysql.ini"), "extension=mysqlnd\nextension=mysqli\n")?;
    let users = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n";
    fs::write(root.join("etc/passwd"), users)?;
    fs::write(root.join("etc/group"), "root:x:0:\nadm:x:4:\nwww-data:x:33:\nnogroup:x:65534:\n")?;
    Ok(())
}

fn layer(root: &Path) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    tar.follow_symlinks(false);
    tar.append_dir_all(".", root)?;
    Ok(tar.into_inner()?)
}

fn files(files: &[(&str, &str)], directories: &[&str]) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for dir in directories {
        tar.append_data(&mut header(tar::EntryType::Directory, 0o777, 0), format!("{dir}/"), std::io::empty())?;
    }
    for (path, text) in files {
        tar.append_data(&mut header(tar::EntryType::Regular, 0o755, text.len() as u64), path, text.as_bytes())?;
    }
    Ok(tar.into_inner()?)
}
