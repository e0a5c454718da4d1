//! `knarr token`: what machines join with.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, bail};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    ByteString,
    api::{
        core::v1::{ConfigMap, Secret},
        discovery::v1::EndpointSlice,
    },
};
use knarr_api::bootstrap_token::{
    BootstrapToken, JoinToken, NAMESPACE, NODE_GROUP, SECRET_PREFIX, SECRET_TYPE, is_expired, is_id,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams},
};

use crate::{cli::TokenCommand, datadir::DataDir, say::say};

pub async fn run(command: TokenCommand) -> Result<()> {
    match command {
        TokenCommand::Create { data, ttl } => create(&connect(&DataDir::at(&data.data_dir)?).await?, ttl).await,
        TokenCommand::List { data } => list(&connect(&DataDir::at(&data.data_dir)?).await?).await,
        TokenCommand::Revoke { data, tokens } => revoke(&connect(&DataDir::at(&data.data_dir)?).await?, &tokens).await,
    }
}

async fn connect(data: &DataDir) -> Result<Client> {
    if !data.admin_kubeconfig().exists() {
        bail!("no server keeps its cluster in {}; run this on the server, with its --data-dir", data.root().display());
    }
    if data.running()?.is_none() {
        bail!("the server of {} does not run; start it first", data.root().display());
    }
    Ok(knarr_client::from_kubeconfig(&data.admin_kubeconfig()).await?)
}

async fn create(client: &Client, ttl: Duration) -> Result<()> {
    let server = address(client).await.context("where the server is reached could not be read")?;
    let (token, expiration) = make(client, ttl).await?;
    say!("knarr agent --server {server} --token {token}");
    let until = match expiration {
        Some(ends) => ends.to_string(),
        None => format!("`knarr token revoke {}`", token.token.id),
    };
    eprintln!("\nType this on the other machine, as root. The token is shown only now, and good until {until}.");
    Ok(())
}

/// Makes a token; says when it ends, if it does.
pub async fn make(client: &Client, ttl: Duration) -> Result<(JoinToken, Option<Timestamp>)> {
    let authority = authority(client).await.context("the cluster's CA could not be read")?;
    #[allow(clippy::disallowed_methods)] // a token has to be one that nobody can guess
    let token = BootstrapToken::generate(|below| rand::Rng::random_range(&mut rand::rng(), 0..below));
    let expiration = if ttl.is_zero() { None } else { Some(Timestamp::now() + SignedDuration::try_from(ttl)?) };
    let expiration = expiration.map(|ends| ends.round(jiff::Unit::Second)).transpose()?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    secrets.create(&PostParams::default(), &secret(&token, expiration)).await.context("the token could not be kept")?;
    Ok((JoinToken { token, authority }, expiration))
}

fn secret(token: &BootstrapToken, expiration: Option<Timestamp>) -> Secret {
    let mut data = BTreeMap::from([
        ("token-id", token.id.clone()),
        ("token-secret", token.secret.clone()),
        ("usage-bootstrap-authentication", "true".to_owned()),
        ("auth-extra-groups", NODE_GROUP.to_owned()),
        ("description", "Made by knarr token create.".to_owned()),
    ]);
    data.extend(expiration.map(|ends| ("expiration", ends.to_string())));
    let data = data.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())));
    Secret {
        metadata: ObjectMeta { name: Some(token.secret_name()), ..ObjectMeta::default() },
        type_: Some(SECRET_TYPE.to_owned()),
        data: Some(data.collect()),
        ..Secret::default()
    }
}

/// As other machines reach it: where the Service `kubernetes` leads.
async fn address(client: &Client) -> Result<String> {
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
    let slice = slices.get("kubernetes").await?;
    let host = slice.endpoints.iter().flatten().flat_map(|endpoint| &endpoint.addresses).next();
    let port = slice.ports.iter().flatten().find_map(|port| port.port);
    let (host, port) = host.zip(port).context("the Service kubernetes has no endpoint")?;
    Ok(if host.contains(':') { format!("https://[{host}]:{port}") } else { format!("https://{host}:{port}") })
}

async fn authority(client: &Client) -> Result<[u8; 32]> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let map = maps.get("extension-apiserver-authentication").await?;
    let pem = map.data.and_then(|mut data| data.remove("client-ca-file")).context("its ConfigMap is empty")?;
    knarr_join::authority_hash_of_pem(&pem).context("it is no certificate")
}

async fn list(client: &Client) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let found = secrets.list(&ListParams::default().fields(&format!("type={SECRET_TYPE}"))).await?;
    say!("{:<10} {:<12} {:<22} DESCRIPTION", "ID", "LEFT", "EXPIRES");
    let now = Timestamp::now();
    for secret in &found.items {
        let data = |key: &str| {
            let value = secret.data.as_ref().and_then(|data| data.get(key));
            value.map(|value| String::from_utf8_lossy(&value.0).into_owned()).unwrap_or_default()
        };
        let ends = data("expiration");
        let left = match ends.parse::<Timestamp>() {
            _ if is_expired(Some(&ends), now) => "expired".to_owned(),
            Ok(ends) => span(ends.as_second() - now.as_second()),
            Err(_) => "for ever".to_owned(),
        };
        let ends = if ends.is_empty() { "never".to_owned() } else { ends };
        say!("{:<10} {left:<12} {ends:<22} {}", data("token-id"), data("description"));
    }
    Ok(())
}

/// In the two largest units.
fn span(seconds: i64) -> String {
    match (seconds / 3600, seconds % 3600 / 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours @ 0..48, minutes, _) => format!("{hours}h{minutes}m"),
        (hours, ..) => format!("{}d{}h", hours / 24, hours % 24),
    }
}

/// A token is named by its id, or by all of it.
async fn revoke(client: &Client, tokens: &[String]) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let mut unknown = Vec::new();
    for token in tokens {
        let id = token.split('.').next().unwrap_or_default();
        if !is_id(id) {
            bail!("{id:?} is no token's id: six lower-case letters or digits, as `knarr token list` shows them");
        }
        match knarr_client::errors::optional(
            secrets.delete(&format!("{SECRET_PREFIX}{id}"), &DeleteParams::default()).await,
        )? {
            Some(_) => say!("token {id} revoked; machines that joined by it stay"),
            None => unknown.push(id),
        }
    }
    if !unknown.is_empty() {
        bail!("no such token: {}; `knarr token list` shows what there is", unknown.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn spans() {
        for (seconds, expected) in
            [(5, "5s"), (65, "1m5s"), (86_399, "23h59m"), (24 * 3600, "24h0m"), (3 * 86_400 + 7200, "3d2h")]
        {
            assert_eq!(span(seconds), expected);
        }
    }
}
