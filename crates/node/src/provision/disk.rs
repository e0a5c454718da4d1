//! Volumes on the disk. Only what lies directly in the volumes' own directory is ever touched, and links are never
//! followed: containers write into volumes what they like.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Component, Path},
};

use crate::volume;

fn refuse(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

fn check_name(name: &str) -> io::Result<()> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(part)), None) if part == name => Ok(()),
        _ => Err(refuse("its name is no single name")),
    }
}

/// Makes a volume, open to all users of the pods that mount it; nobody else gets into the directory above. One that is
/// there already stays as it is.
pub fn make(dir: &Path, name: &str) -> io::Result<()> {
    check_name(name)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let path = dir.join(name);
    match fs::create_dir(&path) {
        Ok(()) => {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777))?;
            fs::File::open(dir)?.sync_all()
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match fs::symlink_metadata(&path)?.is_dir() {
            true => Ok(()),
            false => Err(refuse("something is there that is no directory")),
        },
        Err(error) => Err(error),
    }
}

/// Removes a volume and what a container may have mounted in it. `told` is where its object says that it is.
pub fn remove(dir: &Path, name: &str, told: &Path) -> io::Result<()> {
    check_name(name)?;
    let path = dir.join(name);
    if told != path {
        return Err(refuse("it is not a directory of this node's own volumes"));
    }
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.is_dir() => return Err(refuse("something is there that is no directory")),
        Ok(_) => {}
    }
    volume::reset(&path)?;
    fs::remove_dir_all(&path)
}
