//! How much of a disk lies below a folder.

use std::{fs, ops::AddAssign, os::unix::fs::MetadataExt, path::Path};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    pub bytes: u64,
    pub inodes: u64,
}

impl AddAssign for Footprint {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.inodes += other.inodes;
    }
}

impl Footprint {
    /// Without following links, or what is mounted somewhere below. What goes away meanwhile counts nothing.
    pub fn below(path: &Path) -> Self {
        fn walk(path: &Path, device: u64, found: &mut Footprint) {
            let Ok(metadata) = fs::symlink_metadata(path) else { return };
            if metadata.dev() != device {
                return;
            }
            *found += Footprint { bytes: metadata.blocks() * 512, inodes: 1 };
            if metadata.is_dir() {
                let entries = fs::read_dir(path).into_iter().flatten().flatten();
                entries.for_each(|entry| walk(&entry.path(), device, found));
            }
        }
        let mut found = Self::default();
        if let Ok(metadata) = fs::symlink_metadata(path) {
            walk(path, metadata.dev(), &mut found);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_measured_without_following_links() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("in")).unwrap();
        fs::write(dir.path().join("in/file"), vec![1; 100_000]).unwrap();
        std::os::unix::fs::symlink("/usr", dir.path().join("out")).unwrap();
        let found = Footprint::below(dir.path());
        assert!((100_000..200_000).contains(&found.bytes), "{found:?}");
        assert_eq!(found.inodes, 4);
        assert_eq!(Footprint::below(&dir.path().join("none")), Footprint::default());
    }
}
