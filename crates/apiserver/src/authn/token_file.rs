use std::{collections::HashMap, path::Path};

use async_trait::async_trait;

use super::bearer::{bearer_token, sha256};
use crate::contract::{AuthenticationError, Authenticator, Credentials, UserInfo};

/// Why a file of tokens cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    #[error("the token file {path} cannot be read")]
    Read { path: String, source: std::io::Error },
    #[error("token file '{path}' must have at least 3 columns (token, user name, user uid), found {found}")]
    Columns { path: String, found: usize },
    #[error("token file '{path}', record {record}: {why}")]
    Record { path: String, record: usize, why: &'static str },
}

/// Users by tokens that never change while the server runs: a CSV file with token, user name, uid and, where there are
/// any, groups (several in one quoted field, with commas between them).
/// (<https://kubernetes.io/docs/reference/access-authn-authz/authentication/#static-token-file>)
pub struct TokenFile {
    /// By the token's digest: looking one up tells nothing about how much of a guess was right.
    users: HashMap<[u8; 32], UserInfo>,
}

impl TokenFile {
    pub fn read(path: &Path) -> Result<Self, TokenFileError> {
        let shown = path.display().to_string();
        let text =
            std::fs::read_to_string(path).map_err(|source| TokenFileError::Read { path: shown.clone(), source })?;
        Self::parse(&shown, &text)
    }

    pub(crate) fn parse(path: &str, text: &str) -> Result<Self, TokenFileError> {
        let mut users = HashMap::new();
        let records =
            records(text).map_err(|(record, why)| TokenFileError::Record { path: path.into(), record, why })?;
        for (at, record) in records.into_iter().enumerate() {
            let [token, name, uid, rest @ ..] = record.as_slice() else {
                return Err(TokenFileError::Columns { path: path.into(), found: record.len() });
            };
            if token.is_empty() {
                tracing::warn!(path, record = at + 1, "an empty token in the token file is left out");
                continue;
            }
            let groups = rest.first().filter(|groups| !groups.is_empty());
            let groups = groups.map(|groups| groups.split(',').map(str::to_owned).collect()).unwrap_or_default();
            let user = UserInfo { name: name.clone(), uid: uid.clone(), groups, ..UserInfo::default() };
            if users.insert(sha256(token), user).is_some() {
                tracing::warn!(path, record = at + 1, "a token is in the token file twice; the last one counts");
            }
        }
        Ok(Self { users })
    }
}

#[async_trait]
impl Authenticator for TokenFile {
    async fn authenticate(&self, credentials: Credentials<'_>) -> Result<Option<UserInfo>, AuthenticationError> {
        let Some(token) = bearer_token(credentials.headers) else { return Ok(None) };
        Ok(self.users.get(&sha256(&token)).cloned())
    }
}

/// The records of a CSV text (RFC 4180); lines that are empty are none. Where it is broken: the record's number and why.
fn records(text: &str) -> Result<Vec<Vec<String>>, (usize, &'static str)> {
    let mut records = Vec::new();
    let mut record: Vec<String> = Vec::new();
    let mut chars = text.chars().peekable();
    while chars.peek().is_some() {
        let mut field = String::new();
        if chars.next_if_eq(&'"').is_some() {
            loop {
                match chars.next() {
                    Some('"') if chars.next_if_eq(&'"').is_some() => field.push('"'),
                    Some('"') => break,
                    Some(c) => field.push(c),
                    None => return Err((records.len() + 1, "a quoted field has no end")),
                }
            }
            if chars.peek().is_some_and(|c| !matches!(c, ',' | '\r' | '\n')) {
                return Err((records.len() + 1, "something follows a quoted field"));
            }
        } else {
            while let Some(c) = chars.next_if(|c| !matches!(c, ',' | '\r' | '\n')) {
                field.push(c);
            }
        }
        record.push(field);
        if chars.next_if_eq(&',').is_some() {
            if chars.peek().is_none() {
                record.push(String::new());
            }
            continue;
        }
        let _ = chars.next_if_eq(&'\r');
        let _ = chars.next_if_eq(&'\n');
        let ended = std::mem::take(&mut record);
        if ended != [""] {
            records.push(ended);
        }
    }
    if !record.is_empty() {
        records.push(record);
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    #[tokio::test]
    async fn a_file_says_who_brings_a_token() {
        let text = "t1,anna,u1\n\nt2,ben,u2,\"dev,ops\"\r\n,nobody,u3\n\"t,\"\"3\",eve,u4,one,ignored\nt1,carl,u5,\n";
        let file = TokenFile::parse("f", text).unwrap();
        type User<'a> = (&'a str, &'a str, &'a [&'a str]);
        let rows: [(&str, Option<User<'_>>); 5] = [
            ("t1", Some(("carl", "u5", &[]))),
            ("t2", Some(("ben", "u2", &["dev", "ops"]))),
            ("t,\"3", Some(("eve", "u4", &["one"]))),
            ("t", None),
            ("T1", None),
        ];
        for (token, expected) in rows {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
            let found = file.authenticate(Credentials { headers: &headers, peer_certificates: &[] }).await.unwrap();
            let found = found.map(|user| (user.name, user.uid, user.groups));
            let expected = expected.map(|(name, uid, groups)| {
                (name.to_owned(), uid.to_owned(), groups.iter().map(|group| (*group).to_owned()).collect::<Vec<_>>())
            });
            assert_eq!(found, expected, "{token}");
        }
        for (text, why) in [
            ("t,u", "at least 3 columns (token, user name, user uid), found 2"),
            ("t,\"u,1", "a quoted field has no end"),
            ("t,\"u\"x,1", "something follows"),
        ] {
            let error = TokenFile::parse("f", text).err().unwrap().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
