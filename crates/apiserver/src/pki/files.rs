use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{Leaf, PkiError};

/// A directory of PEM files that only its owner may read.
pub(super) struct Directory<'a> {
    path: &'a Path,
}

impl<'a> Directory<'a> {
    pub(super) fn open(path: &'a Path) -> Result<Self, PkiError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| PkiError::Write { path: path.to_owned(), source })?;
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        self.path
    }

    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(super) fn read(&self, name: &str) -> Result<Option<String>, PkiError> {
        let path = self.path_of(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(PkiError::Read { path, source }),
        }
    }

    /// Writes a file whole or not at all: a crash leaves the old one or the new one.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), PkiError> {
        let path = self.path_of(name);
        let fresh = self.path_of(&format!(".{name}.new"));
        let write = || -> std::io::Result<()> {
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            fs::File::open(self.path)?.sync_all()
        };
        write().map_err(|source| PkiError::Write { path: path.clone(), source })
    }

    pub(super) fn read_leaf(&self, name: &str) -> Result<Option<Leaf>, PkiError> {
        let certificate = self.read(&format!("{name}.crt"))?;
        let key = self.read(&format!("{name}.key"))?;
        Ok(certificate.zip(key).map(|(certificate_pem, key_pem)| Leaf { certificate_pem, key_pem }))
    }

    pub(super) fn write_leaf(&self, name: &str, leaf: &Leaf) -> Result<(), PkiError> {
        self.write(&format!("{name}.key"), &leaf.key_pem)?;
        self.write(&format!("{name}.crt"), &leaf.certificate_pem)
    }
}
