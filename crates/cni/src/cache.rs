//! Notes of what is attached, one file a pod, so that it can be undone after a restart and without its configuration.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::attachment::Attachment;

#[derive(Clone, Debug)]
pub struct Cache(PathBuf);

impl Cache {
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self(dir.to_owned()))
    }

    /// Noted before anything is made, and again with the result.
    pub fn note(&self, attachment: &Attachment) -> io::Result<()> {
        let path = self.path(&attachment.container_id);
        let new = path.with_extension("new");
        fs::write(&new, serde_json::to_vec(attachment)?)?;
        fs::rename(&new, &path)
    }

    pub fn get(&self, id: &str) -> io::Result<Option<Attachment>> {
        match fs::read(self.path(id)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub fn forget(&self, id: &str) -> io::Result<()> {
        match fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// All that is attached, as far as its notes can be read.
    pub fn all(&self) -> io::Result<Vec<Attachment>> {
        let entries = fs::read_dir(&self.0)?;
        let ids =
            entries.flatten().filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".json")?.to_owned()));
        Ok(ids.filter_map(|id| self.get(&id).ok().flatten()).collect())
    }

    fn path(&self, id: &str) -> PathBuf {
        self.0.join(format!("{id}.json"))
    }
}
