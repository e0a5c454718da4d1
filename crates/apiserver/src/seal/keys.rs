//! The keys, and how one record is sealed: `k8s:enc:aesgcm:v1:KEY:`, a nonce of its own, AES-256-GCM over the object
//! with the record's place as what goes along in the clear.
//!
//! A nonce is random, which is safe for some four billion writes under one key (NIST SP 800-38D, 8.3).

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};
use sha2::{Digest, Sha256};

use super::OpenError;
use crate::pki::PkiError;

const MARK: &[u8] = b"k8s:enc:aesgcm:v1:";
const KEY_BYTES: usize = 32;
const FILE: &str = "encryption.key";

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("could not read the encryption keys in {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}, line {line}: an encryption key is 32 bytes in base64, one a line, the one to write with first", path.display())]
    Malformed { path: PathBuf, line: usize },
    #[error("{} holds no encryption key; put the key back that the Secrets were encrypted with", path.display())]
    Empty { path: PathBuf },
    #[error("{} is gone and Secrets are encrypted with the key in it; put it back, or name another file with --encryption-key-file", path.display())]
    Missing { path: PathBuf },
    #[error(transparent)]
    Write(#[from] PkiError),
    #[error("this host gives no random bytes for an encryption key")]
    Random,
}

pub(super) struct Key {
    /// The beginning of the key's own digest.
    id: String,
    key: LessSafeKey,
}

/// The first seals; all of them open.
pub struct Keys {
    first: Key,
    pub(super) older: Vec<Key>,
    random: SystemRandom,
}

impl Keys {
    /// The keys in a file of the user's.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let text = fs::read_to_string(path).map_err(|source| KeyError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// The file with the keys in the directory of certificates.
    pub fn path_in(directory: &Path) -> PathBuf {
        directory.join(FILE)
    }

    pub fn are_in(directory: &Path) -> bool {
        Self::path_in(directory).exists()
    }

    /// The keys in the directory of certificates. Where there are none, one is made, unless there are Secrets already
    /// that another sealed.
    pub fn open_in(directory: &Path, has_sealed: bool) -> Result<Self, KeyError> {
        let path = directory.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text, &path),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(KeyError::Read { path, source: error }),
            Err(_) if has_sealed => Err(KeyError::Missing { path }),
            Err(_) => {
                let mut bytes = [0; KEY_BYTES];
                SystemRandom::new().fill(&mut bytes).map_err(|_| KeyError::Random)?;
                let text = format!(
                    "# What the Secrets in this cluster's store are encrypted with. Keep a copy: without it they are lost.\n{}\n",
                    BASE64_STANDARD.encode(bytes)
                );
                crate::pki::write_private(directory, FILE, &text)?;
                Self::parse(&text, &path)
            }
        }
    }

    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, KeyError> {
        let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
        let keys = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).map(|(line, text)| {
            let malformed = || KeyError::Malformed { path: path.to_owned(), line };
            let bytes = BASE64_STANDARD.decode(text).map_err(|_| malformed())?;
            let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| malformed())?;
            let id = Sha256::digest(&bytes).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            Ok(Key { id, key: LessSafeKey::new(key) })
        });
        let mut keys = keys.collect::<Result<Vec<_>, KeyError>>()?.into_iter();
        let first = keys.next().ok_or_else(|| KeyError::Empty { path: path.to_owned() })?;
        Ok(Self { first, older: keys.collect(), random: SystemRandom::new() })
    }

    pub(super) fn seal(&self, place: &[u8], plain: &[u8]) -> Bytes {
        let mut nonce = [0; NONCE_LEN];
        // A host without randomness could not even have made the first TLS connection.
        self.random.fill(&mut nonce).unwrap_or_else(|_| panic!("the system gives no random bytes"));
        let head = [MARK, self.first.id.as_bytes(), b":", &nonce].concat();
        let mut sealed = plain.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let done = self.first.key.seal_in_place_append_tag(nonce, Aad::from(place), &mut sealed);
        done.unwrap_or_else(|_| panic!("a Secret of {} bytes is too large to be encrypted", plain.len()));
        Bytes::from([head, sealed].concat())
    }

    /// What is not sealed is what an earlier version wrote, and is as it is.
    pub(super) fn open(&self, place: &[u8], value: &Bytes) -> Result<Bytes, OpenError> {
        let Some((id, rest)) = split(value) else { return Ok(value.clone()) };
        let secret = || String::from_utf8_lossy(place.strip_prefix(super::SEALED).unwrap_or(place)).into_owned();
        let key = [&self.first].into_iter().chain(&self.older).find(|key| key.id.as_bytes() == id);
        let Some(key) = key else {
            return Err(OpenError::UnknownKey { secret: secret(), key: String::from_utf8_lossy(id).into_owned() });
        };
        let damaged = || OpenError::Damaged { secret: secret(), key: key.id.clone() };
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN).ok_or_else(damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
        let mut buffer = sealed.to_vec();
        let length = key.key.open_in_place(nonce, Aad::from(place), &mut buffer).map_err(|_| damaged())?.len();
        buffer.truncate(length);
        Ok(buffer.into())
    }

    pub(super) fn is_current(&self, value: &[u8]) -> bool {
        split(value).is_some_and(|(id, _)| id == self.first.id.as_bytes())
    }
}

pub(super) fn is_sealed(value: &[u8]) -> bool {
    value.starts_with(MARK)
}

/// The key's id, and what follows it.
fn split(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = value.strip_prefix(MARK)?;
    let end = rest.iter().position(|byte| *byte == b':')?;
    Some((&rest[..end], &rest[end + 1..]))
}
