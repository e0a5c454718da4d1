//! `knarr backup`: from a server that runs, through its API, or from the data directory of one that does not.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufReader, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use http_body_util::BodyExt;
use knarr_store::snapshot;
use kube::client::Body;

use crate::{
    cli::BackupArgs,
    datadir::{DataDir, Running},
    say::say,
    server::{backup::PATH, backup::Source, datastore},
};

pub async fn run(args: BackupArgs) -> Result<()> {
    let BackupArgs { file, data, encryption_key_file } = args;
    let data = DataDir::at(&data.data_dir)?;
    if file.exists() {
        bail!("{} is there already; name another file, a backup is never written over", file.display());
    }
    let running = data.running()?;
    if running.as_ref().is_some_and(|running| running.port.is_none()) || data.identity().exists() {
        bail!("{} keeps no cluster: run this on the server, with its --data-dir", data.root().display());
    }
    let mut unfinished = Unfinished::create(&file)?;
    match running {
        Some(_) if encryption_key_file.is_some() => {
            bail!(
                "the server of {} runs and knows its own keys: leave out --encryption-key-file",
                data.root().display()
            )
        }
        Some(_) => from_server(&data, &mut unfinished).await?,
        None => from_directory(&data, encryption_key_file, &mut unfinished).await?,
    }
    let summary = unfinished.finish()?;
    say!(
        "{}: {} objects at revision {}, with the cluster's keys and certificates; keep it as you keep those",
        file.display(),
        summary.keys,
        summary.revision
    );
    Ok(())
}

async fn from_server(data: &DataDir, out: &mut Unfinished) -> Result<()> {
    let client = knarr_client::from_kubeconfig(&data.admin_kubeconfig()).await?;
    let request = http::Request::get(PATH).body(Body::empty())?;
    let response = client.send(request).await.context("the server does not answer")?;
    let (head, mut body) = response.into_parts();
    if !head.status.is_success() {
        let said = body.collect().await?.to_bytes();
        bail!("the server made no backup ({}): {}", head.status, String::from_utf8_lossy(&said).trim());
    }
    while let Some(frame) = body.frame().await {
        let frame = frame.context("the server ended the backup early; its log says why")?;
        if let Ok(piece) = frame.into_data() {
            out.write(&piece)?;
        }
    }
    Ok(())
}

async fn from_directory(data: &DataDir, key_file: Option<PathBuf>, out: &mut Unfinished) -> Result<()> {
    let Some(record) = data.record()? else { bail!("there is no cluster in {}", data.root().display()) };
    if !data.store().exists() {
        bail!(
            "{} has no store: a cluster that is in etcd is backed up while its server runs, or with etcd's own tools",
            data.root().display()
        );
    }
    let _lock = data.lock(&Running::command())?;
    let store = Arc::new(datastore::embedded(data)?);
    let source = Source { store, pki: data.pki(), key_file, node_name: record.node_name };
    let mut pieces = source.begin().await?;
    while let Some(piece) = pieces.recv().await {
        out.write(&piece?)?;
    }
    Ok(())
}

/// A backup that has another name until it is whole, and is gone where it never becomes so.
struct Unfinished {
    target: PathBuf,
    path: PathBuf,
    file: File,
}

impl Unfinished {
    fn create(target: &Path) -> Result<Self> {
        let mut name = target.file_name().context("a backup needs the name of a file")?.to_owned();
        name.push(".unfinished");
        let path = target.with_file_name(name);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { target: target.to_owned(), path, file })
    }

    fn write(&mut self, piece: &[u8]) -> Result<()> {
        self.file.write_all(piece).with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Reads it as a restore would before it gets its name.
    fn finish(self) -> Result<snapshot::Summary> {
        let written = || format!("cannot write {}", self.path.display());
        self.file.sync_all().with_context(written)?;
        let read = File::open(&self.path).with_context(written)?;
        let summary = snapshot::read(BufReader::new(read), &mut |_| Ok(()))
            .with_context(|| format!("the backup {} is not whole", self.path.display()))?;
        fs::rename(&self.path, &self.target).with_context(written)?;
        Ok(summary)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After it got its name there is nothing left by this one.
        let _ = fs::remove_file(&self.path);
    }
}
