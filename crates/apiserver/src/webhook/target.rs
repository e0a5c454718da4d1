//! Where a webhook is: a Service of this cluster or an address outside, and whom its certificate must be from.
//!
//! A Service is reached straight at one of its ready endpoints, as `services/proxy` is: the server may run on a machine
//! where nobody routes cluster addresses, and an endpoint that is not ready is passed over at once instead of being
//! found out by a timeout.

use std::sync::{Arc, Mutex, OnceLock};

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::ClientConfig;
use serde_json::Value;

use super::client::Idle;
use crate::json::text;

const DEFAULT_PORT: u16 = 443;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    Address { host: String, port: u16 },
    Service { namespace: String, name: String, port: u16 },
}

/// One `clientConfig`, with the connections to it that are open and idle.
#[derive(Debug)]
pub(super) struct Target {
    pub place: Place,
    /// What the certificate must be for.
    pub server_name: String,
    /// The `Host` header.
    pub host: String,
    pub path: String,
    /// PEM; `None` where the host's own authorities are trusted.
    pub authority: Option<Vec<u8>>,
    pub tls: OnceLock<Result<Arc<ClientConfig>, String>>,
    pub idle: Mutex<Vec<Idle>>,
}

impl Target {
    /// Reads a `clientConfig` that validation let through.
    pub fn parse(config: &Value) -> Result<Self, String> {
        let authority = match text(&config["caBundle"]) {
            "" => None,
            encoded => Some(STANDARD.decode(encoded).map_err(|error| format!("caBundle: {error}"))?),
        };
        let (place, server_name, host, path) = match config["service"].as_object() {
            Some(_) => service(&config["service"]),
            None => address(text(&config["url"]))?,
        };
        let path = if path.starts_with('/') { path } else { format!("/{path}") };
        let (tls, idle) = (OnceLock::new(), Mutex::default());
        Ok(Self { place, server_name, host, path, authority, tls, idle })
    }

    /// The address as errors show it.
    pub fn shown(&self, query: &str) -> String {
        format!("https://{}{}?{query}", self.host, self.path)
    }
}

fn service(service: &Value) -> (Place, String, String, String) {
    let (namespace, name) = (text(&service["namespace"]).to_owned(), text(&service["name"]).to_owned());
    let port = service["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(DEFAULT_PORT);
    let server_name = format!("{name}.{namespace}.svc");
    let host = format!("{server_name}:{port}");
    (Place::Service { namespace, name, port }, server_name, host, text(&service["path"]).to_owned())
}

fn address(url: &str) -> Result<(Place, String, String, String), String> {
    let parsed = url::Url::parse(url).map_err(|error| format!("url {url:?}: {error}"))?;
    let host = parsed.host_str().ok_or_else(|| format!("url {url:?}: there is no host in it"))?;
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let shown = parsed.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let port = parsed.port().unwrap_or(DEFAULT_PORT);
    Ok((Place::Address { host: bare.clone(), port }, bare, shown, parsed.path().to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn client_configs_are_read() {
        let service = json!({"service": {"namespace": "n", "name": "s", "path": "/v", "port": 8443}});
        let plain = json!({"service": {"namespace": "n", "name": "s"}});
        for (config, shown, server_name) in [
            (service, "https://s.n.svc:8443/v?timeout=5s", "s.n.svc"),
            (plain, "https://s.n.svc:443/?timeout=5s", "s.n.svc"),
            (json!({"url": "https://a.example/x/y"}), "https://a.example/x/y?timeout=5s", "a.example"),
            (json!({"url": "https://[::1]:9443"}), "https://[::1]:9443/?timeout=5s", "::1"),
        ] {
            let target = Target::parse(&config).unwrap();
            assert_eq!((target.shown("timeout=5s").as_str(), target.server_name.as_str()), (shown, server_name));
        }
        assert!(Target::parse(&json!({"url": "https://a", "caBundle": "%"})).is_err());
        assert!(Target::parse(&json!({"url": "nothing"})).is_err());
    }
}
