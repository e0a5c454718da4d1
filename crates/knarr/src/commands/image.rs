//! `knarr image`: the images of this node. Works beside a running cluster and without one.

use anyhow::{Context, Result, bail};
use knarr_runtime::ImageStore;

use crate::{cli::ImageCommand, datadir::DataDir};

pub async fn run(command: ImageCommand) -> Result<()> {
    match command {
        ImageCommand::Import { data, files } => {
            let store = open(&DataDir::at(&data.data_dir)?)?;
            let mut failed = 0;
            for file in &files {
                match store.import(file) {
                    Ok(names) => names.iter().for_each(|name| println!("imported {name}")),
                    Err(error) => {
                        failed += 1;
                        eprintln!("error: {:#}", anyhow::Error::new(error));
                    }
                }
            }
            if failed > 0 {
                bail!("{failed} of {} archives were not imported", files.len());
            }
            Ok(())
        }
        ImageCommand::Ls { data } => list(&open(&DataDir::at(&data.data_dir)?)?),
        ImageCommand::Rm { data, images } => {
            let store = open(&DataDir::at(&data.data_dir)?)?;
            for image in &images {
                if !store.remove(image).with_context(|| format!("cannot remove {image}"))? {
                    bail!("there is no image {image:?} on this node; `knarr image ls` shows what there is");
                }
                println!("removed {image}");
            }
            Ok(())
        }
    }
}

fn open(data: &DataDir) -> Result<ImageStore> {
    data.create()?;
    let dir = data.root().join("runtime");
    std::fs::create_dir_all(&dir)?;
    Ok(ImageStore::open(&dir)?)
}

fn list(store: &ImageStore) -> Result<()> {
    println!("{:<48} {:<14} {:>10}", "IMAGE", "ID", "SIZE");
    for image in store.list()? {
        let id = image.id.trim_start_matches("sha256:");
        let unnamed = image.names.is_empty().then(|| "<none>".to_owned());
        for name in image.names.iter().chain(&unnamed) {
            println!("{name:<48} {:<14} {:>7.1} MB", &id[..id.len().min(12)], image.size_bytes as f64 / 1e6);
        }
    }
    Ok(())
}
