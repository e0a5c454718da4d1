//! Which hosts stand for a registry: containerd's directory of `hosts.toml` files (its docs/hosts.md), read anew for each
//! pull. Where containerd passes over what it does not understand, this is an error that names the file.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::SignedDuration;
use reqwest::{
    Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde::Deserialize;
use toml::{Table, Value};

/// How long a connection may take to come about where the file does not say.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);

/// A file that says how to reach a registry, and what is wrong with it. Never what stands in it: that may be secret.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct BadFile {
    pub path: PathBuf,
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Https,
    Http,
    /// HTTP once the host has shown that it does not speak TLS.
    HttpsFirst,
}

/// A host that has a registry's content.
#[derive(Clone)]
pub struct Host {
    pub scheme: Scheme,
    /// Its name or address, with the port where there is one.
    pub authority: String,
    /// What comes before the repository in every path.
    pub path: String,
    /// Has content.
    pub pulls: bool,
    /// May say what a tag stands for.
    pub resolves: bool,
    /// Files of certificates to trust beside the system's.
    pub authorities: Vec<PathBuf>,
    /// Files of the certificate and key to show.
    pub identity: Option<(PathBuf, Option<PathBuf>)>,
    pub skip_verify: bool,
    pub headers: HeaderMap,
    pub dial_timeout: Duration,
    pub proxy: Option<Url>,
}

/// The hosts to ask for a registry, in this order.
pub fn of(registry: &str, root: Option<&Path>) -> Result<Vec<Host>, BadFile> {
    let Some(directory) = root.and_then(|root| directory(root, registry)) else {
        return HostFile::default().host(None, registry, Path::new("")).map(|host| vec![host]);
    };
    let path = directory.join("hosts.toml");
    let bad = |reason: String| BadFile { path: path.clone(), reason };
    match fs::read_to_string(&path) {
        Ok(text) => parse(&text, registry, &directory).map_err(|e| BadFile { path: path.clone(), ..e }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => docker_files(registry, &directory),
        Err(e) => Err(bad(e.to_string())),
    }
}

/// The directory of a registry; a port may be told as `_5000_` where a file system does not take colons.
fn directory(root: &Path, registry: &str) -> Option<PathBuf> {
    let without_colon = registry.rsplit_once(':').map(|(host, port)| format!("{host}_{port}_"));
    let names = without_colon.into_iter().chain([registry.to_owned(), "_default".to_owned()]);
    names.map(|name| root.join(name)).find(|path| path.exists())
}

fn parse(text: &str, registry: &str, directory: &Path) -> Result<Vec<Host>, BadFile> {
    let bad = |reason: String| BadFile { path: directory.to_owned(), reason };
    let mut table: Table = toml::from_str(text).map_err(|e| {
        let line = e.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
        bad(format!("line {line}: {}", e.message()))
    })?;
    let server = match table.remove("server") {
        None => None,
        Some(Value::String(server)) => Some(server).filter(|server| !server.is_empty()),
        Some(_) => return Err(bad("server: it has to be a string".into())),
    };
    let mirrors = match table.remove("host") {
        None => Table::new(),
        Some(Value::Table(mirrors)) => mirrors,
        Some(_) => return Err(bad("host: it has to be a table of hosts, as [host.\"https://mirror\"]".into())),
    };
    let read = |value: Value, what: &str| {
        value.try_into::<HostFile>().map_err(|e| bad(format!("{what}{}", without_value(e.message()))))
    };
    let mut hosts = Vec::new();
    for (address, value) in mirrors {
        let what = format!("host {:?}: ", without_password(&address));
        hosts.push(read(value, &what)?.host(Some(&address), registry, directory)?);
    }
    // The registry itself, or what stands for it, comes after all mirrors.
    hosts.push(read(Value::Table(table), "")?.host(server.as_deref(), registry, directory)?);
    Ok(hosts)
}

/// An address as it may be told.
fn without_password(address: &str) -> &str {
    address.rsplit_once('@').map_or(address, |(_, host)| host)
}

/// What is wrong with a value's type, and not the value.
fn without_value(message: &str) -> String {
    match message.rsplit_once(", expected ") {
        Some((told, expected)) if told.starts_with("invalid ") => {
            format!("a value of the wrong type: expected {expected}")
        }
        _ => message.to_owned(),
    }
}

/// Where there is no `hosts.toml`: certificates by Docker's names for them.
fn docker_files(registry: &str, directory: &Path) -> Result<Vec<Host>, BadFile> {
    let bad = |e: io::Error| BadFile { path: directory.to_owned(), reason: e.to_string() };
    let mut names: Vec<PathBuf> = fs::read_dir(directory)
        .map_err(bad)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()
        .map_err(bad)?;
    names.sort();
    let ending =
        |end: &'static str| names.iter().filter(move |path| path.extension().is_some_and(|e| e == end)).cloned();
    let pairs = ending("cert").map(|cert| match cert.with_extension("key") {
        key if key.exists() => Pair::Two([cert, key]),
        _ => Pair::One(cert),
    });
    let file = HostFile {
        ca: Some(OneOrMany::Many(ending("crt").collect())),
        client: Some(Client::Many(pairs.collect())),
        ..HostFile::default()
    };
    Ok(vec![file.host(None, registry, directory)?])
}

/// What `hosts.toml` says of one host.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HostFile {
    capabilities: Vec<String>,
    ca: Option<OneOrMany<PathBuf>>,
    client: Option<Client>,
    skip_verify: Option<bool>,
    header: std::collections::BTreeMap<String, OneOrMany<String>>,
    override_path: bool,
    dial_timeout: Option<String>,
    proxy: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "it has to be a string or a list of strings")]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "client has to be a path, a list of paths or a list of pairs of paths")]
enum Client {
    One(PathBuf),
    Many(Vec<Pair>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Pair {
    One(PathBuf),
    Two([PathBuf; 2]),
}

impl HostFile {
    /// The host at an address, by default the registry's own.
    fn host(self, address: Option<&str>, registry: &str, directory: &Path) -> Result<Host, BadFile> {
        let bad = |reason: String| {
            let whose = address.map(|address| format!("{}: ", without_password(address))).unwrap_or_default();
            BadFile { path: directory.to_owned(), reason: format!("{whose}{reason}") }
        };
        let Self { capabilities, ca, client, mut skip_verify, header, override_path, dial_timeout, proxy } = self;
        let (mut pulls, mut resolves) = (capabilities.is_empty(), capabilities.is_empty());
        for capability in &capabilities {
            match capability.to_lowercase().as_str() {
                "pull" => pulls = true,
                "resolve" => resolves = true,
                "push" => {}
                _ => return Err(bad(format!("unknown capability {capability}"))),
            }
        }
        let (tls, authority, path) = match address {
            // Told without the address, which may have a password in it.
            Some(address) => place(address, override_path).map_err(|reason| BadFile {
                path: directory.to_owned(),
                reason: format!("host or server: {reason}"),
            })?,
            None => {
                (pulls, resolves) = (true, true);
                let (tls, authority) = usual(registry);
                // As container engines do: a registry on this machine needs no certificate that others vouch for.
                if is_local(&authority) && port(&authority) != Some("80") {
                    skip_verify = Some(true);
                }
                (tls, authority, "/v2".to_owned())
            }
        };
        let inside = |path: PathBuf| directory.join(path);
        let has_tls = ca.is_some() || client.is_some() || skip_verify.is_some();
        let scheme = match tls {
            true => Scheme::Https,
            false if has_tls && port(&authority) != Some("80") => Scheme::HttpsFirst,
            false => Scheme::Http,
        };
        let mut pairs: Vec<(PathBuf, Option<PathBuf>)> = match client {
            None => Vec::new(),
            Some(Client::One(path)) => vec![(path, None)],
            Some(Client::Many(pairs)) => pairs.into_iter().map(Pair::into_files).collect(),
        };
        if pairs.len() > 1 {
            return Err(bad("client: one certificate is shown to a host, and here are several".into()));
        }
        Ok(Host {
            scheme,
            authority,
            path,
            pulls,
            resolves,
            authorities: ca.map(OneOrMany::into_vec).into_iter().flatten().map(inside).collect(),
            identity: pairs.pop().map(|(cert, key)| (inside(cert), key.map(inside))),
            skip_verify: skip_verify == Some(true),
            headers: headers(header).map_err(bad)?,
            dial_timeout: dial_timeout.map_or(Ok(DIAL_TIMEOUT), |text| duration(&text)).map_err(bad)?,
            proxy: proxy.map(|proxy| proxy_url(&proxy)).transpose().map_err(bad)?,
        })
    }
}

impl Pair {
    fn into_files(self) -> (PathBuf, Option<PathBuf>) {
        match self {
            Self::One(cert) => (cert, None),
            Self::Two([cert, key]) => (cert, Some(key).filter(|key| !key.as_os_str().is_empty())),
        }
    }
}

/// Whether an address asks for TLS, its host with port, and the path before repositories.
fn place(address: &str, override_path: bool) -> Result<(bool, String, String), String> {
    let full = if address.contains("://") { address.to_owned() } else { format!("https://{address}") };
    let url = Url::parse(&full).map_err(|e| format!("it is not an address: {e}"))?;
    let plain =
        url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    let (Some(host), "http" | "https", true) = (url.host_str(), url.scheme(), plain) else {
        return Err("an address is made of http or https, a host, a port and a path".into());
    };
    let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let mut path = url.path().trim_end_matches('/').to_owned();
    if !override_path && !path.ends_with("/v2") {
        path.push_str("/v2");
    }
    Ok((url.scheme() == "https", authority, path))
}

/// Where a registry is reached that nothing is said of, and whether by TLS.
fn usual(registry: &str) -> (bool, String) {
    match registry {
        "docker.io" => (true, "registry-1.docker.io".to_owned()),
        local if is_local(local) => (matches!(port(local), None | Some("443")), local.to_owned()),
        other => (true, other.to_owned()),
    }
}

fn port(authority: &str) -> Option<&str> {
    authority.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.ends_with(']'))
}

fn is_local(authority: &str) -> bool {
    let host = port(authority).map_or(authority, |port| &authority[..authority.len() - port.len() - 1]);
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn headers(table: std::collections::BTreeMap<String, OneOrMany<String>>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (key, values) in table {
        let name: HeaderName = key.parse().map_err(|_| format!("header: {key:?} is not a header's name"))?;
        for value in values.into_vec() {
            let mut value =
                HeaderValue::try_from(value).map_err(|_| format!("header {key}: no header has such a value"))?;
            value.set_sensitive(true);
            headers.append(name.clone(), value);
        }
    }
    Ok(headers)
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
    parsed.filter(|time| !time.is_zero()).ok_or_else(|| format!("dial_timeout: {text:?} is no time like 5s or 500ms"))
}

fn proxy_url(text: &str) -> Result<Url, String> {
    let bad = || "proxy: it has to be http://HOST:PORT or https://HOST:PORT".to_owned();
    let url = Url::parse(text).map_err(|_| bad())?;
    let plain = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    (plain && url.has_host() && matches!(url.scheme(), "http" | "https")).then_some(url).ok_or_else(bad)
}
