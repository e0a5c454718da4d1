//! Packing a layer: the opposite of [`super::unpack`]. The same directory always gives the same bytes.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs::{self, File, Metadata},
    io::{self, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{major, minor},
    io::Errno,
};
use tar::{EntryType, Header};

/// Writes a layer's directory as a tar archive, overlayfs' marks as the `.wh.` entries that they came from.
pub fn pack(directory: &Path, into: impl Write) -> io::Result<()> {
    let mut packer = Packer { builder: tar::Builder::new(into), root: directory, seen: HashMap::new() };
    packer.children(Path::new(""))?;
    packer.builder.into_inner()?.flush()
}

struct Packer<'a, W: Write> {
    builder: tar::Builder<W>,
    root: &'a Path,
    /// Where a file with several names was packed, by device and inode.
    seen: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Packer<'_, W> {
    fn children(&mut self, directory: &Path) -> io::Result<()> {
        let full = self.root.join(directory);
        if attribute(&full, "trusted.overlay.opaque")?.is_some_and(|value| value == b"y") {
            self.mark(&directory.join(".wh..wh..opq"))?;
        }
        let mut names: Vec<OsString> =
            fs::read_dir(&full)?.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<_, _>>()?;
        names.sort();
        for name in names {
            let path = directory.join(&name);
            let metadata = fs::symlink_metadata(self.root.join(&path))?;
            if metadata.file_type().is_char_device() && metadata.rdev() == 0 {
                let mut mark = OsString::from(".wh.");
                mark.push(&name);
                self.mark(&directory.join(mark))?;
                continue;
            }
            self.entry(&path, &metadata)?;
            if metadata.is_dir() {
                self.children(&path)?;
            }
        }
        Ok(())
    }

    fn mark(&mut self, path: &Path) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o600);
        self.builder.append_data(&mut header, path, io::empty())
    }

    fn entry(&mut self, path: &Path, metadata: &Metadata) -> io::Result<()> {
        let full = self.root.join(path);
        let kind = metadata.file_type();
        let mut header = Header::new_gnu();
        header.set_mode(metadata.mode() & 0o7777);
        header.set_uid(metadata.uid().into());
        header.set_gid(metadata.gid().into());
        header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
        header.set_size(0);
        if !kind.is_dir() && metadata.nlink() > 1 {
            let file = (metadata.dev(), metadata.ino());
            if let Some(first) = self.seen.get(&file) {
                header.set_entry_type(EntryType::Link);
                return self.builder.append_link(&mut header, path, first);
            }
            self.seen.insert(file, path.to_owned());
        }
        if !kind.is_symlink() {
            self.attributes(&full)?;
        }
        match () {
            () if kind.is_file() => {
                header.set_size(metadata.len());
                self.builder.append_data(&mut header, path, File::open(&full)?)
            }
            () if kind.is_symlink() => {
                header.set_entry_type(EntryType::Symlink);
                let target = fs::read_link(&full)?;
                // As it is, where it has room: the library would tidy it up.
                match header.set_link_name_literal(target.as_os_str().as_bytes()) {
                    Ok(()) => self.builder.append_data(&mut header, path, io::empty()),
                    Err(_) => self.builder.append_link(&mut header, path, target),
                }
            }
            () if kind.is_dir() => {
                header.set_entry_type(EntryType::Directory);
                self.builder.append_data(&mut header, path, io::empty())
            }
            () if kind.is_fifo() => {
                header.set_entry_type(EntryType::Fifo);
                self.builder.append_data(&mut header, path, io::empty())
            }
            () if kind.is_char_device() || kind.is_block_device() => {
                header.set_entry_type(if kind.is_char_device() { EntryType::Char } else { EntryType::Block });
                header.set_device_major(major(metadata.rdev()))?;
                header.set_device_minor(minor(metadata.rdev()))?;
                self.builder.append_data(&mut header, path, io::empty())
            }
            () => {
                let what = format!("{}: an archive has no place for such a file", full.display());
                Err(io::Error::new(io::ErrorKind::Unsupported, what))
            }
        }
    }

    /// Extended attributes go before their file, except those that are overlayfs' or this host's own.
    fn attributes(&mut self, full: &Path) -> io::Result<()> {
        let mut attributes = Vec::new();
        for name in attribute_names(full)? {
            if name.starts_with("trusted.overlay.") || name == "security.selinux" {
                continue;
            }
            if let Some(value) = attribute(full, &name)? {
                attributes.push((format!("SCHILY.xattr.{name}"), value));
            }
        }
        attributes.sort();
        match attributes.is_empty() {
            true => Ok(()),
            false => self.builder.append_pax_extensions(attributes.iter().map(|(key, value)| (&**key, &**value))),
        }
    }
}

/// What the kernel allows to an attribute, and to the list of them.
const MAX_ATTRIBUTE_BYTES: usize = 64 << 10;

fn attribute(path: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; MAX_ATTRIBUTE_BYTES];
    match rustix::fs::lgetxattr(path, name, &mut value) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn attribute_names(path: &Path) -> io::Result<Vec<String>> {
    let mut names = vec![0; MAX_ATTRIBUTE_BYTES];
    let length = match rustix::fs::llistxattr(path, &mut names) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => 0,
        Err(e) => return Err(e.into()),
    };
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.filter_map(|name| String::from_utf8(name.to_vec()).ok()).collect())
}
