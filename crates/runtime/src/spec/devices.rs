//! Device nodes of the host, as a container is shown them.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

use knarr_os::mount::DeviceKind;

use crate::shim::spec::Device;

/// The device at a path, or all below it.
pub fn find(host: &Path, target: &Path) -> io::Result<Vec<Device>> {
    let metadata = fs::metadata(host)?;
    if !metadata.is_dir() {
        let not_a_device = || io::Error::new(io::ErrorKind::InvalidInput, "it is neither a device nor a directory");
        return device(&metadata, target).map(|d| vec![d]).ok_or_else(not_a_device);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(host)?.flatten() {
        let target = target.join(entry.file_name());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(find(&entry.path(), &target)?),
            Ok(_) => found.extend(fs::metadata(entry.path()).ok().and_then(|m| device(&m, &target))),
            Err(_) => {}
        }
    }
    Ok(found)
}

fn device(metadata: &fs::Metadata, target: &Path) -> Option<Device> {
    let kind = match metadata.file_type() {
        t if t.is_char_device() => DeviceKind::Character,
        t if t.is_block_device() => DeviceKind::Block,
        _ => return None,
    };
    // The C library's packing of device numbers (`gnu_dev_major`).
    let raw = metadata.rdev();
    let major = ((raw >> 8) & 0xfff) | ((raw >> 32) & !0xfff);
    let minor = (raw & 0xff) | ((raw >> 12) & !0xff);
    Some(Device {
        target: target.to_owned(),
        kind,
        major: major as u32,
        minor: minor as u32,
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
    })
}

/// What a privileged container gets: everything below `/dev` but what the container has its own of.
pub fn all_of_host() -> Vec<Device> {
    let own = [
        "pts",
        "shm",
        "mqueue",
        "fd",
        "hugepages",
        "console",
        "ptmx",
        "tty",
        "null",
        "zero",
        "full",
        "random",
        "urandom",
    ];
    let Ok(entries) = fs::read_dir("/dev") else { return Vec::new() };
    let wanted = entries.flatten().filter(|e| !own.iter().any(|name| e.file_name() == *name));
    let wanted = wanted.filter(|e| e.file_type().is_ok_and(|t| !t.is_symlink()));
    wanted.flat_map(|e| find(&e.path(), &e.path()).unwrap_or_default()).collect()
}

/// A rule that lets a version 1 control group use a device.
pub fn rule(device: &Device, permissions: &str) -> String {
    let kind = if device.kind == DeviceKind::Character { 'c' } else { 'b' };
    let permissions = if permissions.is_empty() { "rwm" } else { permissions };
    format!("{kind} {}:{} {permissions}", device.major, device.minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_null_device_is_found_with_its_numbers() {
        let found = find(Path::new("/dev/null"), Path::new("/dev/none")).unwrap();
        assert_eq!((found[0].major, found[0].minor, found[0].kind), (1, 3, DeviceKind::Character));
        assert_eq!(rule(&found[0], ""), "c 1:3 rwm");
        assert!(find(Path::new("/etc/passwd"), Path::new("/x")).is_err());
    }
}
