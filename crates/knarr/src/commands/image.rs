//! `knarr image`: the images of this node. Works beside a running cluster and without one.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use knarr_node::Keyring;
use knarr_runtime::{
    ImageStore,
    images::{Credentials, Progress, normalise},
};

use crate::{cli::ImageCommand, datadir::DataDir, say::say};

/// How many digits of an id are shown.
const SHORT_ID: usize = 12;

pub async fn run(command: ImageCommand) -> Result<()> {
    match command {
        ImageCommand::Pull { data, registries, docker_config, images } => {
            let store = Arc::new(open(&DataDir::at(&data.data_dir)?)?.with_registries(Some(registries.directory()?)));
            pull(&store, docker_config, &images).await
        }
        ImageCommand::Export { data, output, images } => {
            let store = open(&DataDir::at(&data.data_dir)?)?;
            let mut names = Vec::new();
            for image in images {
                names.push(by_short_id(&store, &image)?.unwrap_or(image));
            }
            let progress = Arc::new(Progress::default());
            let (told, path) = (progress.clone(), output.clone());
            let work = tokio::task::spawn_blocking(move || store.export(&names, &path, &told));
            shown(&progress, "written", async { Ok(work.await??) }).await?;
            say!("exported to {}", output.display());
            Ok(())
        }
        ImageCommand::Prune { data } => {
            let store = open(&DataDir::at(&data.data_dir)?)?;
            let removed = store.prune()?;
            let freed: u64 = removed.iter().map(|(_, bytes)| bytes).sum();
            removed.iter().for_each(|(name, _)| say!("removed {name}"));
            say!("{:.1} MB freed", freed as f64 / 1e6);
            Ok(())
        }
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

/// One after the other; the first that is not to be had ends it.
async fn pull(store: &Arc<ImageStore>, docker_config: Option<PathBuf>, images: &[String]) -> Result<()> {
    let keyring = match &docker_config {
        None => Keyring::default(),
        Some(path) => std::fs::read(path)
            .map_err(anyhow::Error::new)
            .and_then(|bytes| Keyring::of_docker_config(&bytes).map_err(anyhow::Error::msg))
            .with_context(|| format!("--docker-config {}", path.display()))?,
    };
    for image in images {
        let mut attempts: Vec<Option<Credentials>> =
            keyring.lookup(&normalise(image)?).into_iter().map(|found| Credentials::of(found.auth.clone())).collect();
        if attempts.is_empty() {
            attempts.push(None);
        }
        let mut outcome = Ok(String::new());
        for credentials in attempts {
            let progress = Progress::default();
            outcome =
                shown(&progress, "fetched", async { Ok(store.pull_showing(image, credentials, &progress).await?) })
                    .await;
            if outcome.is_ok() {
                break;
            }
        }
        let id = outcome?;
        say!("pulled {image} ({})", &id.trim_start_matches("sha256:")[..SHORT_ID]);
    }
    Ok(())
}

/// Says every second how far the work is.
async fn shown<T>(progress: &Progress, what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut work = std::pin::pin!(work);
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.tick().await;
    loop {
        tokio::select! {
            outcome = &mut work => return outcome,
            _ = ticks.tick() => {
                let (done, all) = progress.bytes();
                let all = if all > 0 { format!(" of {:.1}", all as f64 / 1e6) } else { String::new() };
                eprintln!("{what} {:.1}{all} MB", done as f64 / 1e6);
            }
        }
    }
}

pub fn open(data: &DataDir) -> Result<ImageStore> {
    if !rustix::process::geteuid().is_root() {
        bail!("the images in {} belong to root: run this with sudo", data.root().display());
    }
    if let Some(runtime) = data.record()?.and_then(|record| record.runtime) {
        bail!(
            "this node's pods are run by {runtime}, which has their images: see to them there (with containerd, by \
             `ctr --namespace k8s.io images`)"
        );
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
