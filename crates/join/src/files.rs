//! The node's keys and certificates on the disk, for their owner's eyes only.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::JoinError;

/// A certificate and its key, both PEM.
#[derive(Clone)]
pub struct Leaf {
    pub certificate: String,
    pub key: String,
}

#[derive(Clone, Debug)]
pub struct Files {
    directory: PathBuf,
}

const AUTHORITY: &str = "ca.crt";

impl Files {
    pub fn at(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    pub fn authority(&self) -> Result<Option<String>, JoinError> {
        self.read(AUTHORITY)
    }

    pub fn write_authority(&self, pem: &str) -> Result<(), JoinError> {
        self.write(AUTHORITY, pem)
    }

    /// `client` or `serving`. Key and certificate are one file, so that they are never of different ages.
    pub fn leaf(&self, name: &str) -> Result<Option<Leaf>, JoinError> {
        let Some(text) = self.read(&format!("{name}.pem"))? else { return Ok(None) };
        let at = text.find("-----BEGIN PRIVATE KEY");
        let at = at.ok_or_else(|| JoinError::Damaged { path: self.directory.join(format!("{name}.pem")) })?;
        let (certificate, key) = text.split_at(at);
        Ok(Some(Leaf { certificate: certificate.to_owned(), key: key.to_owned() }))
    }

    pub fn write_leaf(&self, name: &str, leaf: &Leaf) -> Result<(), JoinError> {
        self.write(&format!("{name}.pem"), &format!("{}{}", leaf.certificate, leaf.key))
    }

    pub fn remove_leaf(&self, name: &str) -> Result<(), JoinError> {
        let path = self.directory.join(format!("{name}.pem"));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(JoinError::File { path, source: error }),
            _ => Ok(()),
        }
    }

    fn read(&self, name: &str) -> Result<Option<String>, JoinError> {
        let path = self.directory.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(JoinError::File { path, source }),
        }
    }

    /// The old file or the new one, whatever happens in between.
    fn write(&self, name: &str, text: &str) -> Result<(), JoinError> {
        let path = self.directory.join(name);
        let next = self.directory.join(format!(".{name}.new"));
        let write = || -> io::Result<()> {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&next, &path)?;
            File::open(&self.directory)?.sync_all()
        };
        write().map_err(|source| JoinError::File { path: path.clone(), source })
    }
}
