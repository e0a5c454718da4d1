use std::{io, path::PathBuf};

use jiff::Timestamp;
use knarr_api::bootstrap_token::hex;
use knarr_client::https::HttpsError;

/// Why a machine is not let in, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(
        "the server {server} cannot be reached; check the address, that `knarr server` runs there, and that no firewall \
         is in between"
    )]
    Unreachable {
        server: String,
        #[source]
        source: HttpsError,
    },
    #[error("{server} is not usable as the server's address; give it as https://HOST:6443")]
    Address { server: String },
    #[error(
        "the server {server} is not the one that the token was made for: its CA is {}, the token says sha256:{}. Either the \
         cluster was made anew, or something else answers in its place; take a new token by `knarr token create` on the \
         server",
        match found { Some(found) => format!("sha256:{}", hex(found)), None => "not in what it shows".to_owned() },
        hex(expected)
    )]
    WrongToken { server: String, expected: [u8; 32], found: Option<[u8; 32]> },
    #[error(
        "the server {server} does not belong to the cluster that this machine joined: its certificate is not of that CA. \
         If the cluster was made anew, remove what is left of the old one with `knarr reset`, then join with a new token"
    )]
    WrongAuthority { server: String },
    #[error(
        "the certificate of the server {server} is not for that name; use one of its addresses, or start `knarr server` \
         with --tls-san"
    )]
    WrongName { server: String },
    #[error(
        "the server's certificate holds from {from} to {until}, and it is {now}; start `knarr server` anew to have it renewed"
    )]
    ServerExpired { from: Timestamp, until: Timestamp, now: Timestamp },
    #[error("{server} does not speak as an API server does; is this the right port?")]
    NotAServer {
        server: String,
        #[source]
        source: HttpsError,
    },
    #[error(
        "the server does not accept the token: it has expired, was revoked, or is of another cluster; take a new one by \
         `knarr token create` on the server"
    )]
    TokenRefused,
    #[error(
        "the server does not accept this node's certificate; start the agent once more with --token, and a new token by \
         `knarr token create` on the server"
    )]
    CertificateRefused,
    #[error(
        "this node's certificate ended on {ended}, while the agent did not run; start it once more with --token, and a new \
         token by `knarr token create` on the server"
    )]
    CertificateExpired { ended: Timestamp },
    #[error(
        "this machine's clock is {seconds} s {} the server's, and certificates do not hold across that: set the clock \
         (`timedatectl set-ntp true`), then start the agent again",
        if *ahead { "ahead of" } else { "behind" }
    )]
    ClockSkew { seconds: i64, ahead: bool },
    #[error("this agent is of Kubernetes {own} and the server of {server}: {why}")]
    Version { own: String, server: String, why: &'static str },
    #[error("{message}; choose another --node-name, or remove the other by `kubectl delete node {node}` if it is gone")]
    NameTaken { node: String, message: String },
    #[error("the server turned the request for a certificate down: {message}")]
    Denied { message: String },
    #[error(
        "nobody approved the certificate request {name} within {minutes} min; see `kubectl get csr`, approve it by \
         `kubectl certificate approve {name}`, and start the agent again"
    )]
    NotApproved { name: String, minutes: u64 },
    #[error("the server did not accept the request for a certificate")]
    Api(#[source] kube::Error),
    #[error("cannot use {}; check that the data directory is writable and the disk not full", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{} is damaged: remove it, and start the agent with a new token", path.display())]
    Damaged { path: PathBuf },
    #[error("a key or a certificate cannot be made or used: {0}")]
    Key(String),
}

impl JoinError {
    pub(crate) fn key(error: impl std::fmt::Display) -> Self {
        Self::Key(error.to_string())
    }
}
