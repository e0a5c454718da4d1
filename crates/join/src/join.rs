use std::{path::Path, time::Duration};

use http::StatusCode;
use knarr_api::{bootstrap_token::JoinToken, pem};
use knarr_client::{
    Clock,
    https::{Endpoint, Https},
};

use crate::{
    Identity, JoinError, USER_AGENT,
    files::Files,
    greet,
    identity::{CLIENT, SERVING},
    pin::Pinned,
    request::{self, Use},
};

/// A server that is just being started is waited for.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a machine joins with.
pub struct Joining<'a> {
    pub server: &'a str,
    pub token: &'a JoinToken,
    pub node_name: &'a str,
    /// Tells this machine from every other.
    pub machine: &'a str,
    /// Where the keys and certificates are kept.
    pub directory: &'a Path,
    pub clock: Clock,
    pub seed: u64,
}

/// Makes this machine a member: afterwards it has a certificate, and needs the token no more.
pub async fn join(joining: &Joining<'_>) -> Result<Identity, JoinError> {
    let Joining { server, token, node_name, machine, directory, clock, seed } = *joining;
    let JoinToken { token, authority } = token;
    let pinned = Pinned::new(*authority);
    let endpoint = Endpoint {
        url: server.to_owned(),
        tls: pinned.client_config()?,
        token: Some(token.to_string()),
        patience: PATIENCE,
        seed,
    };
    let https = Https::new(endpoint).map_err(|_| JoinError::Address { server: server.to_owned() })?;
    let greeted = greet(&https, server, clock, PATIENCE).await;
    let shown = pinned.shown();
    let status = greeted.map_err(|error| match error {
        JoinError::WrongAuthority { server } if shown.authority.is_none() => {
            JoinError::WrongToken { server, expected: *authority, found: shown.other }
        }
        other => other,
    })?;
    // The clocks agree by now, so the time that the server's certificate holds means something.
    let now = clock.now();
    if let Some((from, until)) = shown.validity.filter(|(from, until)| now < *from || now > *until) {
        return Err(JoinError::ServerExpired { from, until, now });
    }
    if status == StatusCode::UNAUTHORIZED {
        return Err(JoinError::TokenRefused);
    }
    let authority = shown.authority.ok_or_else(|| JoinError::Key("the server showed no CA".to_owned()))?;
    let authority = pem::encode("CERTIFICATE", &authority);
    let leaf = request::request(&https.client(USER_AGENT), node_name, machine, &Use::Client).await?;
    let files = Files::at(directory);
    files.write_authority(&authority)?;
    files.remove_leaf(SERVING)?;
    files.write_leaf(CLIENT, &leaf)?;
    Identity::new(files, server, &authority, &leaf, seed)
}
