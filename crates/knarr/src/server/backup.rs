//! `GET /knarr/backup`: a snapshot of the store as it is, with the files that belong to it.
//!
//! Whoever may ask can become anybody in the cluster, for its keys are in the answer. So it is for those who may do
//! everything already: no role but `cluster-admin` has the path.

use std::{fs, path::PathBuf, sync::Arc};

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use http::StatusCode;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use knarr_apiserver::{
    PathHandler,
    contract::{Body, Response},
    seal::{Keys, check_opens, has_sealed},
};
use knarr_store::{RangeRequest, Revision, Store, StoreError, snapshot::Encoder};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::datastore::PREFIX;

pub const PATH: &str = "/knarr/backup";
/// Where the files of the data directory's `pki` are in a backup.
pub const PKI: &str = "pki/";
const PAGE: usize = 500;
/// Pieces that may wait for whoever reads.
const AHEAD: usize = 16;

/// What a backup says of itself.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    pub knarr: String,
    pub node_name: String,
}

/// What a backup is made of.
#[derive(Clone)]
pub struct Source {
    /// As it lies on the disk: Secrets stay encrypted.
    pub store: Arc<dyn Store>,
    pub pki: PathBuf,
    /// The user's own keys for Secrets, which take the place of those in `pki`.
    pub key_file: Option<PathBuf>,
    pub node_name: String,
}

pub type Pieces = mpsc::Receiver<Result<Bytes, StoreError>>;

impl Source {
    /// Begins a backup; its pieces come as they are read.
    pub async fn begin(self) -> Result<Pieces> {
        self.check_keys().await?;
        let files = self.files()?;
        let revision = self.store.revision().await?;
        let about = About { knarr: crate::version::SHORT.into(), node_name: self.node_name };
        let (mut encoder, first) = Encoder::begin(revision, &serde_json::to_string(&about)?);
        let mut head = vec![first];
        head.extend(files.iter().map(|(name, content)| encoder.file(name, content)));
        let (out, pieces) = mpsc::channel(AHEAD);
        tokio::spawn(async move {
            for piece in head {
                let _ = out.send(Ok(piece)).await;
            }
            let last = match send_keys(&*self.store, revision, &mut encoder, &out).await {
                Ok(()) => Ok(encoder.end()),
                Err(error) => Err(error),
            };
            // Whoever asked may have gone.
            let _ = out.send(last).await;
        });
        Ok(pieces)
    }

    /// A backup whose Secrets nobody can read would be found out on the day it is needed.
    async fn check_keys(&self) -> Result<()> {
        let file = self.key_file.clone().unwrap_or_else(|| Keys::path_in(&self.pki));
        if file.exists() {
            return Ok(check_opens(&*self.store, &Keys::read(&file)?).await?);
        }
        if has_sealed(&*self.store).await? {
            bail!("{} is gone, and Secrets are encrypted with the key in it", file.display());
        }
        Ok(())
    }

    /// The files by their names in the backup.
    fn files(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let unreadable = || format!("cannot read {}", self.pki.display());
        let own = Keys::path_in(&self.pki);
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.pki).with_context(unreadable)? {
            let path = entry.with_context(unreadable)?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            // What begins with a dot is being written.
            if !path.is_file() || name.starts_with('.') || (path == own && self.key_file.is_some()) {
                continue;
            }
            files.push((format!("{PKI}{name}"), fs::read(&path).with_context(unreadable)?));
        }
        if let Some(file) = &self.key_file {
            let content = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            let name = own.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            files.push((format!("{PKI}{name}"), content));
        }
        files.sort();
        Ok(files)
    }
}

/// All keys as of one revision. History reaches back five minutes, so a reader who takes longer has an error.
async fn send_keys(
    store: &dyn Store,
    revision: Revision,
    encoder: &mut Encoder,
    out: &mpsc::Sender<Result<Bytes, StoreError>>,
) -> Result<(), StoreError> {
    let end = Bytes::from(format!("{PREFIX}0"));
    let mut start = Bytes::from(format!("{PREFIX}/"));
    loop {
        let request = RangeRequest { start, end: end.clone(), revision: Some(revision), limit: PAGE, count: false };
        let reply = store.range(request).await?;
        for kv in &reply.kvs {
            if out.send(Ok(encoder.key(kv))).await.is_err() {
                return Err(StoreError::Closed);
            }
        }
        match reply.kvs.last() {
            Some(last) if reply.more => start = Bytes::from([&last.key[..], b"\0"].concat()),
            _ => return Ok(()),
        }
    }
}

/// The backup as an answer of the API server, which has asked already whether this user may.
pub struct BackupPath(pub Source);

#[async_trait]
impl PathHandler for BackupPath {
    fn paths(&self) -> &'static [&'static str] {
        &[PATH]
    }

    async fn handle(&self, request: http::Request<Body>) -> Response {
        if request.method() != http::Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "a backup is read with GET\n".into());
        }
        match self.0.clone().begin().await {
            Ok(pieces) => {
                let frames = stream::unfold(pieces, |mut pieces| async {
                    let piece = pieces.recv().await?;
                    Some((piece.map(Frame::data).map_err(Into::into), pieces))
                });
                let mut response = http::Response::new(BodyExt::boxed_unsync(StreamBody::new(frames)));
                let binary = http::HeaderValue::from_static("application/octet-stream");
                response.headers_mut().insert(http::header::CONTENT_TYPE, binary);
                response
            }
            Err(error) => {
                tracing::error!(%error, "a backup cannot be made");
                text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n"))
            }
        }
    }
}

fn text(status: StatusCode, text: String) -> Response {
    let body = Full::new(Bytes::from(text)).map_err(|never: std::convert::Infallible| match never {});
    let mut response = http::Response::new(BodyExt::boxed_unsync(body));
    *response.status_mut() = status;
    response
}
