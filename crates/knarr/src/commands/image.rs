//! `knarr image`: the images of this node. Works beside a running cluster and without one.

use anyhow::{Context, Result, bail};
use knarr_runtime::ImageStore;

use crate::{cli::ImageCommand, datadir::DataDir, say::say};

/// How many digits of an id are shown.
const SHORT_ID: usize = 12;

pub async fn run(command: ImageCommand) -> Result<()> {
    match command {
        ImageCommand::Import { data, files } => {
            let store = open(&DataDir::at(&data.data_dir)?)?;
            let mut failed = 0;
            for file in &files {
                match store.import(file) {
                    Ok(names) => names.iter().for_each(|name| say!("imported {name}")),
                    Err(error) => {
                        failed += 1;
                        eprintln!("error: {:#}", anyhow::Error::new(error));
                    }
                }
            }
            match (failed, files.len()) {
                (0, _) => Ok(()),
                (_, 1) => bail!("nothing was imported"),
                (_, all) => bail!("{failed} of {all} archives were not imported"),
            }
        }
        ImageCommand::Ls { data } => list(&open(&DataDir::at(&data.data_dir)?)?),
        ImageCommand::Rm { data, images } => {
            let store = open(&DataDir::at(&data.data_dir)?)?;
            let mut unknown = Vec::new();
            for image in &images {
                let name = by_short_id(&store, image)?.unwrap_or_else(|| image.clone());
                if store.remove(&name).with_context(|| format!("cannot remove {image}"))? {
                    say!("removed {image}");
                } else {
                    unknown.push(image.as_str());
                }
            }
            if !unknown.is_empty() {
                bail!("no such image on this node: {}; `knarr image ls` shows what there is", unknown.join(", "));
            }
            Ok(())
        }
    }
}

pub fn open(data: &DataDir) -> Result<ImageStore> {
    if !rustix::process::geteuid().is_root() {
        bail!("the images in {} belong to root: run this with sudo", data.root().display());
    }
    data.prepare()?;
    let dir = data.root().join("runtime");
    std::fs::create_dir_all(&dir)?;
    Ok(ImageStore::open(&dir)?)
}

/// The whole id of an image by its beginning, as `ls` shows it. More than one is nobody's meaning.
fn by_short_id(store: &ImageStore, begin: &str) -> Result<Option<String>> {
    let digits = begin.strip_prefix("sha256:").unwrap_or(begin);
    if digits.len() < SHORT_ID / 2 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let ids = store.list()?.into_iter().map(|image| image.id);
    let fit: Vec<String> = ids.filter(|id| id.trim_start_matches("sha256:").starts_with(digits)).collect();
    if fit.len() > 1 {
        bail!("{begin} is the beginning of {} images' ids; give more of it", fit.len());
    }
    Ok(fit.into_iter().next())
}

fn list(store: &ImageStore) -> Result<()> {
    say!("{:<48} {:<14} {:>10}", "IMAGE", "ID", "SIZE");
    for image in store.list()? {
        let id = image.id.trim_start_matches("sha256:");
        let unnamed = image.names.is_empty().then(|| "<none>".to_owned());
        for name in image.names.iter().chain(&unnamed) {
            say!("{name:<48} {:<14} {:>7.1} MB", &id[..id.len().min(SHORT_ID)], image.size_bytes as f64 / 1e6);
        }
    }
    Ok(())
}
