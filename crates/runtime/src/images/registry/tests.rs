//! Registries that answer by a script, asked through configurations as administrators write them.

use std::{
    fs,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use super::{
    hosts::{BadFile, Host, Scheme},
    *,
};

/// One request: its first line, its headers in lower case, its body.
struct Asked {
    line: String,
    headers: String,
    body: String,
}

type Script = Arc<dyn Fn(&Asked) -> String + Send + Sync>;
type Log = Arc<Mutex<Vec<String>>>;

/// An answer with a length, as the script's shape wants it.
fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

/// Requests are told as `METHOD PATH`, with what was shown behind it.
async fn talk(stream: impl AsyncRead + AsyncWrite + Unpin, script: Script, log: Log) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        stream.read_until(b'\n', &mut line).await?;
        let Some(line) = String::from_utf8(line).ok().filter(|line| line.contains("HTTP/1.1")) else {
            // Such as a greeting by TLS, which servers answer in plain words.
            return stream.write_all(answer("400 Bad Request", "", "").as_bytes()).await;
        };
        let (mut headers, mut length) = (String::new(), 0);
        loop {
            let mut header = String::new();
            stream.read_line(&mut header).await?;
            if header.trim().is_empty() {
                break;
            }
            let (name, value) = header.split_once(':').unwrap();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().unwrap();
            }
            headers += &format!("{}:{value}", name.to_lowercase());
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let asked = Asked { line: line.replace(" HTTP/1.1\r\n", ""), headers, body: String::from_utf8(body).unwrap() };
        let shown = asked.headers.lines().find_map(|h| h.strip_prefix("authorization: ")).unwrap_or("-");
        log.lock().unwrap().push(format!("{} {shown}", asked.line));
        stream.write_all(script(&asked).as_bytes()).await?;
    }
}

/// A server of the script; also gives what it was asked.
async fn serve(script: impl Fn(&Asked) -> String + Send + Sync + 'static) -> (SocketAddr, Log) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, log, script) = (listener.local_addr().unwrap(), Log::default(), Arc::new(script) as Script);
    let told = log.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(talk(stream, script.clone(), log.clone()));
        }
    });
    (address, told)
}

fn ok() -> String {
    answer("200 OK", "", "{}")
}

/// A configuration directory with this in `reg.io`.
fn configured(text: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("reg.io")).unwrap();
    fs::write(root.path().join("reg.io/hosts.toml"), text).unwrap();
    root
}

fn hosts(text: &str) -> Result<Vec<Host>, BadFile> {
    super::hosts::of("reg.io", Some(configured(text).path()))
}

fn told(outcome: Result<(Vec<u8>, String), ImageError>) -> String {
    outcome.map_or_else(|e| e.to_string(), |_| "ok".into())
}

#[test]
fn hosts_are_read_as_containerd_reads_them() {
    let text = r#"
        server = "https://reg.io"
        skip_verify = true
        [host."http://mirror.lan:5000"]
          capabilities = ["pull", "Resolve"]
          dial_timeout = "1.5s"
        [host."zweiter.lan/path/"]
          capabilities = ["pull"]
          ca = ["ca.pem", "/etc/other.pem"]
          client = [["c.cert", "c.key"]]
          [host."zweiter.lan/path/".header]
            x-one = "1"
            x-two = ["2", "3"]
        [host."https://old.lan/root"]
          override_path = true
          client = "both.pem"
          proxy = "http://proxy:3128"
    "#;
    let read = hosts(text).unwrap();
    let shape: Vec<_> = read.iter().map(|h| (h.scheme, &*h.authority, &*h.path, h.pulls, h.resolves)).collect();
    let expected = [
        (Scheme::Http, "mirror.lan:5000", "/v2", true, true),
        (Scheme::Https, "zweiter.lan", "/path/v2", true, false),
        (Scheme::Https, "old.lan", "/root", true, true),
        (Scheme::Https, "reg.io", "/v2", true, true),
    ];
    assert_eq!(shape, expected);
    assert_eq!(read[0].dial_timeout.as_millis(), 1500);
    assert!(read[1].authorities[0].ends_with("reg.io/ca.pem") && read[1].authorities[1] == Path::new("/etc/other.pem"));
    assert!(
        read[1]
            .identity
            .as_ref()
            .is_some_and(|(c, k)| c.ends_with("c.cert") && k.as_ref().is_some_and(|k| k.ends_with("c.key")))
    );
    assert_eq!(read[1].headers.get_all("x-two").iter().collect::<Vec<_>>(), ["2", "3"]);
    assert!(!format!("{:?}", read[1].headers).contains("\"1\""), "headers may be secret");
    assert!(read[2].identity.as_ref().is_some_and(|(_, key)| key.is_none()) && read[2].proxy.is_some());
    assert!(read[3].skip_verify && !read[0].skip_verify);
}

#[test]
fn registries_that_nothing_is_said_of() {
    for (registry, expected) in [
        ("docker.io", (Scheme::Https, "registry-1.docker.io", false)),
        ("reg.io:5000", (Scheme::Https, "reg.io:5000", false)),
        ("localhost", (Scheme::Https, "localhost", true)),
        ("localhost:5000", (Scheme::HttpsFirst, "localhost:5000", true)),
        ("127.0.0.1:80", (Scheme::Http, "127.0.0.1:80", false)),
        ("[::1]:5000", (Scheme::HttpsFirst, "[::1]:5000", true)),
    ] {
        let host = super::hosts::of(registry, None).unwrap().remove(0);
        assert_eq!((host.scheme, &*host.authority, host.skip_verify), expected);
    }
}

#[test]
fn the_directory_of_a_registry() {
    let root = tempfile::tempdir().unwrap();
    let say = |directory: &str| {
        fs::create_dir_all(root.path().join(directory)).unwrap();
        fs::write(root.path().join(directory).join("hosts.toml"), format!("server = \"{directory}\"")).unwrap();
    };
    let found = |registry| super::hosts::of(registry, Some(root.path())).unwrap()[0].authority.clone();
    assert_eq!(found("reg.io:5000"), "reg.io:5000");
    say("_default");
    assert_eq!((found("reg.io:5000"), found("other.io")), ("_default".into(), "_default".into()));
    say("reg.io:5000");
    assert_eq!(found("reg.io:5000"), "reg.io:5000");
    say("reg.io_5000_");
    assert_eq!(found("reg.io:5000"), "reg.io_5000_");
    // Docker's files, where there is no other.
    let docker = root.path().join("docker.lan");
    fs::create_dir(&docker).unwrap();
    for name in ["a.crt", "b.crt", "me.cert", "me.key"] {
        fs::write(docker.join(name), "").unwrap();
    }
    let host = super::hosts::of("docker.lan", Some(root.path())).unwrap().remove(0);
    assert_eq!((host.authorities.len(), host.authority.as_str()), (2, "docker.lan"));
    assert_eq!(host.identity, Some((docker.join("me.cert"), Some(docker.join("me.key")))));
}

#[test]
fn bad_files_are_named_and_their_secrets_are_not() {
    for (text, expected) in [
        ("server = [", "line 1: "),
        ("\n\nx-secret = \"s3cret", "line 3: "),
        ("server = 5", "server: it has to be a string"),
        ("mirror = \"x\"", "unknown field `mirror`"),
        ("capabilities = [\"fetch\"]", "unknown capability fetch"),
        ("[host.\"https://m\"]\nskip_verfy = true", "host \"https://m\": unknown field `skip_verfy`"),
        ("[host.\"https://m\"]\ndial_timeout = \"soon\"", "https://m: dial_timeout: \"soon\" is no time"),
        ("[host.\"https://u:s3cret@m\"]\nodd = 1", "host \"m\": unknown field `odd`"),
        ("header = \"s3cret\"", "a value of the wrong type: expected a map"),
        ("[host.\"https://u:s3cret@m\"]", "an address is made of"),
        ("[host.\"ftp://m\"]", "an address is made of"),
        ("client = [\"a.pem\", \"b.pem\"]", "client: one certificate is shown"),
        ("client = 7", "client has to be a path"),
        ("proxy = \"socks5://p:1\"", "proxy: it has to be http://HOST:PORT"),
        ("[header]\nx-token = \"s3cret\\n\"", "header x-token: no header has such a value"),
    ] {
        let error = hosts(text).err().unwrap_or_else(|| panic!("{text} is taken")).to_string();
        assert!(error.contains("reg.io/hosts.toml: ") && error.contains(expected), "{text}: {error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
    let root = configured("ca = \"none.pem\"");
    let error = Registry::open("reg.io/a:1", Some(root.path()), None).err().unwrap().to_string();
    assert!(error.contains("reg.io/none.pem: No such file"), "{error}");
    fs::write(root.path().join("reg.io/none.pem"), "no certificate").unwrap();
    let error = Registry::open("reg.io/a:1", Some(root.path()), None).err().unwrap().to_string();
    assert!(error.contains("reg.io/none.pem: there is no certificate"), "{error}");
}

#[tokio::test]
async fn mirrors_come_first_and_the_registry_last() {
    let (broken, broken_log) = serve(|_| answer("500 Internal Server Error", "", "")).await;
    let (mirror, mirror_log) = serve(|asked| {
        assert!(asked.headers.contains("x-mirror: yes"), "{}", asked.headers);
        if asked.line.contains("/manifests/1") { ok() } else { answer("404 Not Found", "", "") }
    })
    .await;
    let (own, own_log) = serve(|_| answer("404 Not Found", "", "")).await;
    let root = configured(&format!(
        "server = \"http://{own}\"\n[host.\"http://{broken}\"]\n[host.\"http://{mirror}/m\"]\nheader = {{ x-mirror = \"yes\" }}"
    ));
    let registry = Registry::open("reg.io/some/app:1", Some(root.path()), None).unwrap();
    assert_eq!(told(registry.manifest("1").await), "ok");
    assert_eq!(*broken_log.lock().unwrap(), ["GET /v2/some/app/manifests/1?ns=reg.io -"]);
    assert_eq!(*mirror_log.lock().unwrap(), ["GET /m/v2/some/app/manifests/1?ns=reg.io -"]);
    assert!(own_log.lock().unwrap().is_empty());
    // All are asked; the one that came furthest tells why not.
    let error = told(registry.manifest("2").await);
    assert!(error.ends_with(&format!("unexpected status from GET request to http://{broken}/v2/some/app/manifests/2?ns=reg.io: 500 Internal Server Error")), "{error}");
    assert_eq!(own_log.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_mirror_that_may_not_resolve_is_asked_for_digests_only() {
    let (mirror, log) = serve(|_| ok()).await;
    let (own, own_log) = serve(|_| ok()).await;
    let root = configured(&format!("server = \"http://{own}\"\n[host.\"http://{mirror}\"]\ncapabilities = [\"pull\"]"));
    let registry = Registry::open("reg.io/a:1", Some(root.path()), None).unwrap();
    assert_eq!(told(registry.manifest("1").await), "ok");
    assert_eq!((log.lock().unwrap().len(), own_log.lock().unwrap().len()), (0, 1));
    let digest = super::digest(&Sha256::digest("{}"));
    assert_eq!(told(registry.manifest(&digest).await), "ok");
    assert_eq!((log.lock().unwrap().len(), own_log.lock().unwrap().len()), (1, 1));
    let other = super::digest(&Sha256::digest("other"));
    assert!(told(registry.manifest(&other).await).contains(&format!("the manifest's digest is {digest}, not {other}")));
}

#[tokio::test]
async fn a_name_and_password_are_shown_when_they_are_asked_for() {
    let challenge = || answer("401 Unauthorized", "www-authenticate: Basic realm=\"r\"\r\n", "");
    let (own, log) = serve(move |asked| match asked.headers.contains("authorization: Basic dTpw") {
        true => ok(),
        false => challenge(),
    })
    .await;
    let image = format!("{own}/a:1");
    let open = |password: &str| {
        let credentials = Credentials::Basic { username: "u".into(), password: password.into() };
        Registry::open(&image, None, Some(credentials)).unwrap()
    };
    let registry = open("p");
    assert_eq!(told(registry.manifest("1").await), "ok");
    assert_eq!(told(registry.manifest("1").await), "ok");
    assert_eq!(log.lock().unwrap().iter().map(|line| line.ends_with('-')).collect::<Vec<_>>(), [true, false, false]);
    let wrong = open("wrong").manifest("1").await.unwrap_err();
    let expected = format!("unexpected status from GET request to http://{own}/v2/a/manifests/1: 401 Unauthorized");
    assert_eq!(wrong.to_string(), format!("failed to resolve reference {image:?}: {expected}"));
    assert!(matches!(wrong, ImageError::Registry { kind: RegistryProblem::Denied, .. }));
    let none = told(Registry::open(&image, None, None).unwrap().manifest("1").await);
    let expected = "pull access denied, repository does not exist or may require authorization: authorization failed: no \
                    basic auth credentials";
    assert!(none.ends_with(expected), "{none}");
}

/// A registry that takes tokens, and its server of tokens; that one takes POST unless told otherwise.
async fn with_tokens(takes_post: bool) -> (SocketAddr, Log) {
    let (tokens, log) = serve(move |asked| {
        let is_post = asked.line.starts_with("POST /token");
        let shown = match is_post {
            true => asked.body.clone(),
            false => asked.headers.clone(),
        };
        let good = ["username=u&password=p", "authorization: Basic dTpw", "grant_type=refresh_token&refresh_token=id"];
        let anonymous = !is_post && !shown.contains("authorization:");
        match () {
            () if is_post && !takes_post => answer("404 Not Found", "", ""),
            () if good.iter().any(|good| shown.contains(good)) => answer("200 OK", "", r#"{"access_token":"good"}"#),
            () if anonymous => answer("200 OK", "", r#"{"token":"weak"}"#),
            () => answer("401 Unauthorized", "", r#"{"errors":[{"code":"UNAUTHORIZED","message":"who?"}]}"#),
        }
    })
    .await;
    let (own, _) = serve(move |asked| {
        let error = if asked.headers.contains("Bearer weak") { ",error=\"insufficient_scope\"" } else { "" };
        let realm = format!("Bearer realm=\"http://{tokens}/token\",service=\"s\",scope=\"repository:a:pull\"{error}");
        match asked.headers.contains("authorization: Bearer good") {
            true => ok(),
            false => answer("401 Unauthorized", &format!("www-authenticate: {realm}\r\n"), ""),
        }
    })
    .await;
    (own, log)
}

#[tokio::test]
async fn tokens_are_fetched_for_what_one_has() {
    let basic = |password: &str| Credentials::Basic { username: "u".into(), password: password.into() };
    for (takes_post, credentials, expected, last_asked) in [
        (true, Some(basic("p")), "ok", "POST /token -"),
        (false, Some(basic("p")), "ok", "GET /token?service=s&scope=repository%3Aa%3Apull Basic dTpw"),
        (true, Some(Credentials::Identity("id".into())), "ok", "POST /token -"),
        (
            true,
            Some(basic("wrong")),
            "failed to authorize: failed to fetch oauth token: unexpected status from GET request to http://TOKENS/token?service=s&scope=repository%3Aa%3Apull: 401 Unauthorized: unauthorized: who?",
            "GET /token?service=s&scope=repository%3Aa%3Apull Basic dTp3cm9uZw==",
        ),
        (
            true,
            None,
            "pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed",
            "GET /token?service=s&scope=repository%3Aa%3Apull -",
        ),
    ] {
        let (own, log) = with_tokens(takes_post).await;
        let registry = Registry::open(&format!("{own}/a:1"), None, credentials).unwrap();
        let outcome = told(registry.manifest("1").await);
        let (start, end) = expected.split_once("TOKENS").unwrap_or((expected, ""));
        assert!(outcome.contains(start) && outcome.ends_with(end), "{outcome}");
        assert_eq!(log.lock().unwrap().last().unwrap(), last_asked);
    }
    // A token of the registry's own is shown as it is.
    let (own, log) = with_tokens(true).await;
    let registry = Registry::open(&format!("{own}/a:1"), None, Some(Credentials::Token("good".into()))).unwrap();
    assert_eq!(told(registry.manifest("1").await), "ok");
    assert!(log.lock().unwrap().is_empty());
}

#[tokio::test]
async fn answers_have_a_bound() {
    let (own, _) = serve(|_| answer("200 OK", "", &" ".repeat(4 << 20 | 1))).await;
    let error = told(Registry::open(&format!("{own}/a:1"), None, None).unwrap().manifest("1").await);
    assert!(error.ends_with("answers with more than 4194304 bytes"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(&format!("{own}/a:1"), None, None).unwrap();
    let descriptor = Descriptor {
        digest: super::digest(&Sha256::digest("x")),
        size: 1,
        platform: None,
        annotations: Default::default(),
    };
    let error = registry.layer(&descriptor, dir.path(), &Progress::default()).await.unwrap_err().to_string();
    assert!(error.contains("it is larger than the 1 bytes that the manifest tells"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// A server with a certificate that `ca.pem` vouches for and that asks for one; `client.pem` is one.
async fn serve_tls(directory: &Path) -> SocketAddr {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let _ = rustls::crypto::ring::default_provider().install_default();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).unwrap();
    let issuer = Issuer::from_params(&params, &key);
    let issued = |name: &str| {
        let key = KeyPair::generate().unwrap();
        (CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap(), key)
    };
    let (client, client_key) = issued("client");
    fs::write(directory.join("ca.pem"), ca.pem()).unwrap();
    fs::write(directory.join("client.pem"), client.pem() + &client_key.serialize_pem()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let verifier = rustls::server::WebPkiClientVerifier::builder(roots.into()).build().unwrap();
    let (server, server_key) = issued("127.0.0.1");
    let config = rustls::ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![server.der().clone()],
            rustls::pki_types::PrivateKeyDer::Pkcs8(server_key.serialize_der().into()),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                talk(acceptor.accept(stream).await?, Arc::new(|_: &Asked| ok()), Log::default()).await
            });
        }
    });
    address
}

#[tokio::test]
async fn certificates_are_checked_and_shown() {
    let root = configured("");
    let address = serve_tls(&root.path().join("reg.io")).await;
    for (rest, expected) in [
        ("ca = \"ca.pem\"\nclient = \"client.pem\"", Ok(())),
        ("skip_verify = true\nclient = \"client.pem\"", Ok(())),
        ("client = \"client.pem\"", Err("UnknownIssuer")),
        ("ca = \"ca.pem\"", Err("CertificateRequired")),
    ] {
        fs::write(root.path().join("reg.io/hosts.toml"), format!("server = \"https://{address}\"\n{rest}")).unwrap();
        let registry = Registry::open("reg.io/a:1", Some(root.path()), None).unwrap();
        let outcome = told(registry.manifest("1").await);
        assert!(outcome.contains(expected.err().unwrap_or("ok")), "{rest}: {outcome}");
    }
    // Where plain HTTP would do, too, a certificate that is not trusted is no reason for it.
    let text = format!("server = \"http://{address}\"\nskip_verify = false\nclient = \"client.pem\"");
    fs::write(root.path().join("reg.io/hosts.toml"), text).unwrap();
    let registry = Registry::open("reg.io/a:1", Some(root.path()), None).unwrap();
    assert!(told(registry.manifest("1").await).contains("UnknownIssuer"));
}
