//! Bootstrap tokens: what a machine proves itself with before it has a certificate
//! (<https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/>), and the longer form that `knarr agent`
//! is given, which also says how to recognise the server.

use std::{fmt, str::FromStr};

use jiff::Timestamp;

pub const NAMESPACE: &str = "kube-system";
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
/// The Secret's name is this and the token's id.
pub const SECRET_PREFIX: &str = "bootstrap-token-";
/// Everyone with a token is in it.
pub const GROUP: &str = "system:bootstrappers";
/// Who is in it may ask for the certificate of a node, and gets it; kubeadm's tokens are in it too.
pub const NODE_GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";
pub const USER_PREFIX: &str = "system:bootstrap:";

const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;

/// `abcdef.0123456789abcdef`: an id that may be known, and a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct BootstrapToken {
    pub id: String,
    pub secret: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("it does not read abcdef.0123456789abcdef: six and sixteen lower-case letters or digits")]
    Malformed,
    #[error(
        "it lacks the end @sha256:..., by which the server is recognised; take all that `knarr token create` prints"
    )]
    NoAuthority,
    #[error("what follows @sha256: is not 64 hexadecimal digits; take all that `knarr token create` prints")]
    MalformedAuthority,
}

/// The letters that ids and secrets are made of.
pub const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

pub fn is_id(text: &str) -> bool {
    text.len() == ID_LENGTH && text.bytes().all(|byte| ALPHABET.contains(&byte))
}

impl BootstrapToken {
    /// A token of random letters; `random` gives numbers below its argument.
    pub fn generate(mut random: impl FnMut(usize) -> usize) -> Self {
        let mut text = |length| (0..length).map(|_| char::from(ALPHABET[random(ALPHABET.len())])).collect();
        Self { id: text(ID_LENGTH), secret: text(SECRET_LENGTH) }
    }

    pub fn secret_name(&self) -> String {
        format!("{SECRET_PREFIX}{}", self.id)
    }
}

impl FromStr for BootstrapToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let (id, secret) = text.split_once('.').ok_or(TokenError::Malformed)?;
        let is_secret = secret.len() == SECRET_LENGTH && secret.bytes().all(|byte| ALPHABET.contains(&byte));
        let token = Self { id: id.to_owned(), secret: secret.to_owned() };
        if is_id(id) && is_secret { Ok(token) } else { Err(TokenError::Malformed) }
    }
}

impl fmt::Display for BootstrapToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.id, self.secret)
    }
}

/// Without the secret, so that no log has it.
impl fmt::Debug for BootstrapToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.<secret>", self.id)
    }
}

/// `abcdef.0123456789abcdef@sha256:HEX`: a token, and the SHA-256 of the CA's SubjectPublicKeyInfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    pub token: BootstrapToken,
    pub authority: [u8; 32],
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let (token, authority) = text.split_once('@').unwrap_or((text, ""));
        let token = token.parse()?;
        if authority.is_empty() {
            return Err(TokenError::NoAuthority);
        }
        let hex = authority.strip_prefix("sha256:").ok_or(TokenError::MalformedAuthority)?;
        Ok(Self { token, authority: from_hex(hex).ok_or(TokenError::MalformedAuthority)? })
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@sha256:{}", self.token, hex(&self.authority))
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// What `expiration` of a token's Secret says. A time that cannot be read is taken for past, as upstream does.
pub fn is_expired(expiration: Option<&str>, now: Timestamp) -> bool {
    match expiration {
        None | Some("") => false,
        Some(text) => !text.parse::<Timestamp>().is_ok_and(|ends| ends > now),
    }
}

/// The groups that `auth-extra-groups` names; the first that is none of a bootstrapper's makes the token unusable.
pub fn extra_groups(text: &str) -> Result<Vec<String>, String> {
    let is_group = |group: &str| {
        let rest = group.strip_prefix("system:bootstrappers:").unwrap_or_default();
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == ':' || c == '-';
        let ends = rest.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        ends && rest.len() <= 256 && rest.chars().all(allowed)
    };
    let groups = text.split(',').map(str::trim).filter(|group| !group.is_empty());
    let check = |group: &str| if is_group(group) { Ok(group.to_owned()) } else { Err(group.to_owned()) };
    groups.map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_as_they_are_written() {
        let hash = "ab".repeat(32);
        let text = format!("abcdef.0123456789abcdef@sha256:{hash}");
        let token: JoinToken = text.parse().unwrap();
        assert_eq!(token.authority, [0xab; 32]);
        assert_eq!(token.to_string(), text);
        assert!(!format!("{token:?}").contains("0123456789abcdef"));
        for (text, expected) in [
            ("", TokenError::Malformed),
            ("abcdef", TokenError::Malformed),
            ("abcde.0123456789abcdef", TokenError::Malformed),
            ("ABCDEF.0123456789abcdef", TokenError::Malformed),
            ("abcdef.0123456789abcde", TokenError::Malformed),
            ("abcdef.0123456789abcdef", TokenError::NoAuthority),
            ("abcdef.0123456789abcdef@abab", TokenError::MalformedAuthority),
            ("abcdef.0123456789abcdef@sha256:abab", TokenError::MalformedAuthority),
        ] {
            assert_eq!(text.parse::<JoinToken>(), Err(expected), "{text}");
        }
        let mut next = 0;
        let made = BootstrapToken::generate(|below| {
            next += 7;
            next % below
        });
        assert_eq!(made.to_string().parse::<BootstrapToken>(), Ok(made));
    }

    #[test]
    fn expiry() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (text, expected) in [
            (None, false),
            (Some("2026-01-01T00:00:01Z"), false),
            (Some("2026-01-01T00:00:00Z"), true),
            (Some("2025-12-31T23:59:59+00:00"), true),
            (Some("tomorrow"), true),
        ] {
            assert_eq!(is_expired(text, now), expected, "{text:?}");
        }
    }

    #[test]
    fn groups() {
        assert_eq!(extra_groups(""), Ok(vec![]));
        assert_eq!(extra_groups(NODE_GROUP), Ok(vec![NODE_GROUP.to_owned()]));
        for bad in ["system:masters", "system:bootstrappers", "system:bootstrappers:", "system:bootstrappers:A"] {
            assert_eq!(extra_groups(bad), Err(bad.to_owned()));
        }
    }
}
