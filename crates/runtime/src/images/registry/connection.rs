//! One host of a registry: how it is reached, and what was shown to it so that it answers.

use std::{
    error::Error,
    fs, io,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use reqwest::{
    Certificate, Client, Identity, Method, Proxy, Response, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, HeaderValue},
};

use super::{
    Credentials, Problem,
    auth::Challenge,
    hosts::{BadFile, Host, Scheme},
    status_problem,
};

const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json, */*";

/// How long a host may say nothing.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

pub struct Connection {
    pub pulls: bool,
    pub resolves: bool,
    host: Host,
    client: Client,
    /// The path of the repository on this host.
    repository: String,
    /// The registry that a mirror stands for, which it is told.
    namespace: Option<String>,
    /// It was found not to speak TLS.
    plain: AtomicBool,
    credentials: Option<Credentials>,
    /// What it was shown last. Locked while a token is fetched, so that those who need it at once fetch one.
    authorization: tokio::sync::Mutex<Option<HeaderValue>>,
}

impl Connection {
    pub fn new(
        host: Host,
        registry: &str,
        repository: &str,
        credentials: Option<Credentials>,
    ) -> Result<Self, BadFile> {
        let is_own =
            host.authority == registry || (registry == "docker.io" && host.authority == "registry-1.docker.io");
        Ok(Self {
            pulls: host.pulls,
            resolves: host.resolves,
            client: client(&host)?,
            repository: repository.to_owned(),
            namespace: (!is_own).then(|| registry.to_owned()),
            plain: AtomicBool::new(host.scheme == Scheme::Http),
            credentials,
            authorization: tokio::sync::Mutex::default(),
            host,
        })
    }

    pub fn authority(&self) -> &str {
        &self.host.authority
    }

    /// Asks for something of the repository; answers what the host is asked back.
    pub async fn get(&self, path: &str) -> Result<Response, Problem> {
        let mut challenged = false;
        loop {
            let shown = self.authorization.lock().await.clone();
            let (url, response) = self.send(path, shown.clone()).await?;
            match response.status() {
                status if status.is_success() => return Ok(response),
                StatusCode::UNAUTHORIZED => match Challenge::of(response.headers()) {
                    Some(Challenge::Bearer(realm)) if challenged && !realm.error.is_empty() => {
                        let message = format!("server message: {}: authorization failed", realm.error);
                        return Err(Problem::denied(&message).because(ACCESS_DENIED));
                    }
                    Some(challenge) if !challenged => {
                        challenged = true;
                        self.authorize(challenge, shown).await?;
                    }
                    _ => return Err(status_problem(&Method::GET, &url, response).await),
                },
                _ => return Err(status_problem(&Method::GET, &url, response).await),
            }
        }
    }

    /// Finds what answers the challenge, unless somebody else has since.
    async fn authorize(&self, challenge: Challenge, shown: Option<HeaderValue>) -> Result<(), Problem> {
        let mut known = self.authorization.lock().await;
        if *known != shown {
            return Ok(());
        }
        let answer =
            challenge.answer(self.credentials.as_ref(), &self.client, &self.host.headers, &self.repository).await;
        let denied = |problem: Problem| match challenge {
            Challenge::Basic => problem.because(ACCESS_DENIED),
            Challenge::Bearer(_) => problem,
        };
        *known = Some(answer.map_err(denied)?);
        Ok(())
    }

    async fn send(&self, path: &str, shown: Option<HeaderValue>) -> Result<(Url, Response), Problem> {
        loop {
            let plain = self.plain.load(Ordering::Relaxed);
            let url = self.url(path, plain)?;
            let mut headers = self.host.headers.clone();
            headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
            headers.extend(shown.clone().map(|shown| (AUTHORIZATION, shown)));
            match self.client.get(url.clone()).headers(headers).send().await {
                Ok(response) => return Ok((url, response)),
                Err(error) if !plain && self.host.scheme == Scheme::HttpsFirst && is_no_tls(&error) => {
                    self.plain.store(true, Ordering::Relaxed);
                }
                Err(error) => return Err(Problem::transport(&error)),
            }
        }
    }

    fn url(&self, path: &str, plain: bool) -> Result<Url, Problem> {
        let scheme = if plain { "http" } else { "https" };
        let text = format!("{scheme}://{}{}/{}/{path}", self.host.authority, self.host.path, self.repository);
        let mut url = Url::parse(&text).map_err(|e| Problem::unavailable(format!("{text} is no address: {e}")))?;
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        Ok(url)
    }
}

const ACCESS_DENIED: &str = "pull access denied, repository does not exist or may require authorization";

/// Whether what came back to a TLS greeting was no TLS. Nothing else makes a host's content be asked for in the open.
fn is_no_tls(error: &reqwest::Error) -> bool {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if matches!(cause.downcast_ref(), Some(rustls::Error::InvalidMessage(_))) {
            return true;
        }
        // An I/O error tells its cause's cause, not its cause.
        let inner = cause.downcast_ref::<io::Error>().and_then(|error| error.get_ref());
        next = inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| cause.source());
    }
    false
}

fn client(host: &Host) -> Result<Client, BadFile> {
    // reqwest takes the process's provider; one that is set already stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let bad = |path: &Path, reason: String| BadFile { path: path.to_owned(), reason };
    let read = |path: &Path| fs::read(path).map_err(|e| bad(path, e.to_string()));
    let mut builder = Client::builder()
        .user_agent(concat!("knarr/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(host.dial_timeout)
        .read_timeout(READ_TIMEOUT)
        .tls_danger_accept_invalid_certs(host.skip_verify);
    for path in &host.authorities {
        let certificates = Certificate::from_pem_bundle(&read(path)?).unwrap_or_default();
        if certificates.is_empty() {
            return Err(bad(path, "there is no certificate in PEM in it".into()));
        }
        builder = builder.tls_certs_merge(certificates);
    }
    if let Some((certificate, key)) = &host.identity {
        let mut pem = read(certificate)?;
        if let Some(key) = key {
            pem.push(b'\n');
            pem.extend(read(key)?);
        }
        let identity = Identity::from_pem(&pem).map_err(|_| {
            bad(
                certificate,
                "with its key, if it has one in a file of its own, it is no certificate and key in PEM".into(),
            )
        })?;
        builder = builder.identity(identity);
    }
    if let Some(proxy) = &host.proxy {
        let proxy =
            Proxy::all(proxy.clone()).map_err(|_| bad(Path::new(&host.authority), "its proxy is none".into()))?;
        builder = builder.proxy(proxy);
    }
    builder.build().map_err(|e| bad(Path::new(&host.authority), crate::shim::error_line(&e)))
}
