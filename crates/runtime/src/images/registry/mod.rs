//! A registry (the OCI distribution specification), by way of the hosts that stand for it.

mod auth;
mod connection;
mod hosts;
#[cfg(test)]
mod tests;

use std::path::Path;

use knarr_cri::v1::AuthConfig;
use reqwest::{Method, Response, StatusCode, Url};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use super::{ImageError, builtin::hex, documents::Descriptor, error::RegistryProblem, pull::Progress, reference};
use connection::Connection;

/// Manifests are small; containerd takes no larger ones.
const MAX_MANIFEST_BYTES: u64 = 4 << 20;
const MAX_ERROR_BYTES: u64 = 64 << 10;

/// Who to be to a registry.
#[derive(Clone)]
pub enum Credentials {
    Basic {
        username: String,
        password: String,
    },
    /// What a token is given for.
    Identity(String),
    /// What the registry itself takes.
    Token(String),
}

impl Credentials {
    /// A pull secret's many forms.
    pub fn of(auth: AuthConfig) -> Option<Self> {
        if !auth.registry_token.is_empty() {
            return Some(Self::Token(auth.registry_token));
        }
        if !auth.username.is_empty() {
            return Some(Self::Basic { username: auth.username, password: auth.password });
        }
        if !auth.identity_token.is_empty() {
            return Some(Self::Identity(auth.identity_token));
        }
        let decoded = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, auth.auth.trim()).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        let (username, password) = text.split_once(':')?;
        Some(Self::Basic { username: username.into(), password: password.trim_end_matches('\0').into() })
    }
}

/// Why a host did not give what was asked for.
#[derive(Debug)]
pub struct Problem {
    kind: RegistryProblem,
    message: String,
    /// How far the request came; of several hosts' problems the furthest is told.
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Unanswered,
    NotFound,
    Refused,
}

impl Problem {
    fn denied(message: &str) -> Self {
        Self { kind: RegistryProblem::Denied, message: message.to_owned(), stage: Stage::Unanswered }
    }

    fn unavailable(message: impl Into<String>) -> Self {
        Self { kind: RegistryProblem::Unavailable, message: message.into(), stage: Stage::Unanswered }
    }

    fn transport(error: &reqwest::Error) -> Self {
        Self::unavailable(format!("failed to do request: {}", crate::shim::error_line(error)))
    }

    fn because(self, what: &str) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }
}

/// One repository.
pub struct Registry {
    hosts: Vec<Connection>,
    /// The full name that is pulled, for messages.
    image: String,
}

impl Registry {
    pub fn open(image: &str, root: Option<&Path>, credentials: Option<Credentials>) -> Result<Self, ImageError> {
        let problem = |e: hosts::BadFile| ImageError::Registry {
            image: image.to_owned(),
            message: e.to_string(),
            kind: RegistryProblem::Unavailable,
        };
        let (registry, repository) = reference::repository(image).split_once('/').unwrap_or_default();
        let hosts = hosts::of(registry, root).map_err(problem)?;
        let connect = |host| Connection::new(host, registry, repository, credentials.clone());
        Ok(Self {
            hosts: hosts.into_iter().map(connect).collect::<Result<_, _>>().map_err(problem)?,
            image: image.into(),
        })
    }

    /// The manifest or index of a tag or digest, and its digest. A tag is asked of hosts only that may say what it is.
    pub async fn manifest(&self, reference: &str) -> Result<(Vec<u8>, String), ImageError> {
        let is_digest = reference::is_digest(reference);
        let asked: Vec<&Connection> = self.hosts.iter().filter(|h| h.pulls && (is_digest || h.resolves)).collect();
        let response = self.ask(&asked, &format!("manifests/{reference}")).await?;
        let told =
            response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let bytes = read(response, MAX_MANIFEST_BYTES).await.map_err(|problem| self.failed(problem))?;
        let digest = digest(&Sha256::digest(&bytes));
        let expected =
            if is_digest { Some(reference.to_owned()) } else { told.filter(|told| reference::is_digest(told)) };
        match expected {
            Some(expected) if expected != digest => {
                let message = format!("the manifest's digest is {digest}, not {expected}");
                Err(self.failed(Problem::unavailable(message)))
            }
            _ => Ok((bytes, digest)),
        }
    }

    /// A document of the image, kept in memory: not a layer.
    pub async fn document(&self, descriptor: &Descriptor, limit_bytes: u64) -> Result<Vec<u8>, ImageError> {
        let response = self.blob(descriptor).await?;
        let bytes = read(response, limit_bytes).await.map_err(|problem| self.failed(problem))?;
        self.check(descriptor, &Sha256::digest(&bytes))?;
        Ok(bytes)
    }

    /// Fetches a layer into a file below the directory, which has no name there, so that it is gone when this program
    /// is; and no more of it than its descriptor says.
    pub async fn layer(
        &self,
        descriptor: &Descriptor,
        directory: &Path,
        progress: &Progress,
    ) -> Result<std::fs::File, ImageError> {
        let path = directory.join(format!("blob-{}", uuid::Uuid::new_v4().simple()));
        let failed = |e| ImageError::io("write", &path, e);
        let made = tokio::fs::File::options().create_new(true).read(true).write(true).open(&path).await;
        let _ = tokio::fs::remove_file(&path).await;
        let mut file = made.map_err(failed)?;
        let mut response = self.blob(descriptor).await?;
        let (mut hash, mut left_bytes) = (Sha256::new(), descriptor.size);
        while let Some(chunk) = response.chunk().await.map_err(|e| self.failed(Problem::transport(&e)))? {
            let Some(rest) = left_bytes.checked_sub(chunk.len() as u64) else {
                let reason = format!("it is larger than the {} bytes that the manifest tells", descriptor.size);
                return Err(self.damaged(descriptor, reason));
            };
            left_bytes = rest;
            hash.update(&chunk);
            file.write_all(&chunk).await.map_err(failed)?;
            progress.add(chunk.len() as u64);
        }
        file.rewind().await.map_err(failed)?;
        self.check(descriptor, &hash.finalize())?;
        Ok(file.into_std().await)
    }

    async fn blob(&self, descriptor: &Descriptor) -> Result<Response, ImageError> {
        let asked: Vec<&Connection> = self.hosts.iter().filter(|host| host.pulls).collect();
        self.ask(&asked, &format!("blobs/{}", descriptor.digest)).await
    }

    /// Asks one host after the other, until one has it.
    async fn ask(&self, hosts: &[&Connection], path: &str) -> Result<Response, ImageError> {
        let mut worst: Option<Problem> = None;
        for host in hosts {
            match host.get(path).await {
                Ok(response) => return Ok(response),
                Err(problem) => {
                    tracing::debug!(
                        host = host.authority(),
                        image = self.image,
                        problem = problem.message,
                        "trying next host"
                    );
                    if worst.as_ref().is_none_or(|worst| worst.stage < problem.stage) {
                        worst = Some(problem);
                    }
                }
            }
        }
        let none = || Problem {
            message: "no resolve hosts".into(),
            kind: RegistryProblem::Unavailable,
            stage: Stage::Unanswered,
        };
        Err(self.failed(worst.unwrap_or_else(none)))
    }

    fn failed(&self, problem: Problem) -> ImageError {
        let message = match problem.stage {
            Stage::NotFound => format!("{}: not found", self.image),
            _ => problem.message,
        };
        ImageError::Registry { image: self.image.clone(), message, kind: problem.kind }
    }

    fn check(&self, descriptor: &Descriptor, hash: &[u8]) -> Result<(), ImageError> {
        match digest(hash) {
            found if found == descriptor.digest => Ok(()),
            found => Err(self.damaged(descriptor, format!("its digest is {found}"))),
        }
    }

    fn damaged(&self, descriptor: &Descriptor, reason: String) -> ImageError {
        ImageError::Layer { image: self.image.clone(), layer: descriptor.digest.clone(), reason }
    }
}

fn digest(hash: &[u8]) -> String {
    format!("sha256:{}", hex(hash))
}

/// A body that has a bound.
async fn read(mut response: Response, limit_bytes: u64) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| Problem::transport(&e))? {
        if bytes.len() as u64 + chunk.len() as u64 > limit_bytes {
            let message = format!("{} answers with more than {limit_bytes} bytes", response.url());
            return Err(Problem::unavailable(message));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    code: String,
    #[serde(default)]
    message: String,
}

/// What a status that is no success means, with what the server says of it.
async fn status_problem(method: &Method, url: &Url, response: Response) -> Problem {
    let status = response.status();
    let body = read(response, MAX_ERROR_BYTES).await.unwrap_or_default();
    let told = serde_json::from_slice::<Errors>(&body).map(|body| body.errors).unwrap_or_default();
    let told: String = told.iter().take(3).map(|e| format!(": {}: {}", e.code.to_lowercase(), e.message)).collect();
    let told: String = told.chars().filter(|c| !c.is_control()).take(512).collect();
    let (kind, stage) = match status {
        StatusCode::NOT_FOUND => (RegistryProblem::NotFound, Stage::NotFound),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => (RegistryProblem::Denied, Stage::Refused),
        _ => (RegistryProblem::Unavailable, Stage::Refused),
    };
    Problem { kind, message: format!("unexpected status from {method} request to {url}: {status}{told}"), stage }
}
