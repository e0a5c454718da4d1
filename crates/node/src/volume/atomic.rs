//! Replaces all files of a volume at once. They lie in a folder named by time; `..data` is a link to it, and
//! each file is a link through `..data`, so that moving that one link changes everything a reader sees. Pods only read
//! them: a group that they are given to gets no right to write.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::Path,
};

use super::FileContent;

const DATA: &str = "..data";
const NEXT: &str = "..data_tmp";

/// Writes `files` into `dir`. A volume that holds them already is left alone.
pub fn write(dir: &Path, files: &BTreeMap<String, FileContent>, group: Option<u32>) -> io::Result<()> {
    open_root(dir, group)?;
    let old = fs::read_link(dir.join(DATA)).ok();
    if let Some(old) = &old
        && same(&dir.join(old), files)
    {
        return Ok(());
    }
    let folder = fresh_folder(dir, old.as_deref())?;
    let target = dir.join(&folder);
    for (path, file) in files {
        write_file(&target.join(path), file, group)?;
    }
    open_folders(&target, group)?;
    symlink_anew(Path::new(&folder), &dir.join(NEXT))?;
    fs::rename(dir.join(NEXT), dir.join(DATA))?;
    let tops = files.keys().map(|path| path.split('/').next().unwrap_or_default().to_owned());
    link_tops(dir, &tops.collect())?;
    if let Some(old) = old.filter(|old| *old != Path::new(&folder)) {
        fs::remove_dir_all(dir.join(old)).or_else(missing_is_fine)?;
    }
    Ok(())
}

/// Whoever the pod runs as comes in, whatever the umask of this process.
fn open_root(dir: &Path, group: Option<u32>) -> io::Result<()> {
    let metadata = fs::metadata(dir)?;
    if let Some(group) = group.filter(|group| *group != metadata.gid()) {
        chown(dir, None, Some(group))?;
    }
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    if metadata.mode() & 0o7777 == mode { Ok(()) } else { fs::set_permissions(dir, fs::Permissions::from_mode(mode)) }
}

/// A new folder whose name sorts by when it was made.
fn fresh_folder(dir: &Path, old: Option<&Path>) -> io::Result<String> {
    let number = old.and_then(Path::to_str).and_then(|name| name.rsplit('.').next()?.parse::<u64>().ok());
    let mut number = number.unwrap_or(0);
    loop {
        number += 1;
        let name = format!("..v.{number}");
        match fs::create_dir(dir.join(&name)) {
            Ok(()) => return Ok(name),
            // Left by a write that was cut short.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::remove_dir_all(dir.join(&name))?,
            Err(error) => return Err(error),
        }
    }
}

fn write_file(path: &Path, file: &FileContent, group: Option<u32>) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, &file.bytes)?;
    if let Some(owner) = file.owner {
        chown(path, Some(owner), None)?;
    }
    if let Some(group) = group {
        chown(path, None, Some(group))?;
    }
    let shared = if group.is_some() { 0o440 } else { 0 };
    fs::set_permissions(path, fs::Permissions::from_mode(file.mode | shared))
}

/// The folders on the way to the files may be passed by everyone, and belong to the group as well.
fn open_folders(folder: &Path, group: Option<u32>) -> io::Result<()> {
    chown(folder, None, group)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(if group.is_some() { 0o2755 } else { 0o755 }))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_folders(&entry.path(), group)?;
        }
    }
    Ok(())
}

fn link_tops(dir: &Path, wanted: &BTreeSet<String>) -> io::Result<()> {
    for name in wanted {
        let (link, target) = (dir.join(name), Path::new(DATA).join(name));
        if fs::read_link(&link).ok().as_deref() != Some(&target) {
            symlink_anew(&target, &link)?;
        }
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !wanted.contains(&name) && entry.file_type()?.is_symlink() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

pub(super) fn symlink_anew(target: &Path, link: &Path) -> io::Result<()> {
    fs::remove_file(link).or_else(missing_is_fine)?;
    symlink(target, link)
}

fn missing_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Whether a folder holds these files and no others.
fn same(folder: &Path, files: &BTreeMap<String, FileContent>) -> bool {
    let equal = files.iter().all(|(path, file)| fs::read(folder.join(path)).is_ok_and(|bytes| bytes == file.bytes));
    equal && count(folder).is_ok_and(|count| count == files.len())
}

fn count(folder: &Path) -> io::Result<usize> {
    let mut total = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        total += if entry.file_type()?.is_dir() { count(&entry.path())? } else { 1 };
    }
    Ok(total)
}
