//! Credentials of registries, and which of them are for an image (upstream's `pkg/credentialprovider`): the parts of a
//! host may be globs, ports have to be the same, and a path is the beginning of the image's.

use std::collections::BTreeMap;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use k8s_openapi::api::core::v1::Secret;
use knarr_cri::v1::AuthConfig;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::repository;

/// What Docker Hub's credentials are called.
const DOCKER_HUB: &str = "index.docker.io";

/// The Secret that a credential is from, in upstream's form (`ImagePullSecret`).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Source {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    /// Tells credentials apart, and does not tell them.
    pub credential_hash: String,
}

#[derive(Clone)]
pub struct Credential {
    pub auth: AuthConfig,
    /// None for what is not a pod's alone.
    pub source: Option<Source>,
}

#[derive(Default)]
pub struct Keyring {
    /// Host and path, and what is for them; the last in order of the alphabet is looked at first, so that the longer of
    /// two paths wins.
    entries: Vec<(String, Credential)>,
}

impl Keyring {
    /// What is in Secrets of the two types for it.
    pub fn of_secrets<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut keyring = Self::default();
        for secret in secrets {
            let data = |key: &str| {
                let bytes = secret.data.as_ref()?.get(key)?;
                serde_json::from_slice::<Value>(&bytes.0).ok()
            };
            let entries = match secret.type_.as_deref() {
                Some("kubernetes.io/dockerconfigjson") => {
                    data(".dockerconfigjson").and_then(|config| config.get("auths").cloned())
                }
                Some("kubernetes.io/dockercfg") => data(".dockercfg"),
                _ => None,
            };
            let source = Source {
                uid: secret.metadata.uid.clone().unwrap_or_default(),
                namespace: secret.metadata.namespace.clone().unwrap_or_default(),
                name: secret.metadata.name.clone().unwrap_or_default(),
                credential_hash: String::new(),
            };
            keyring.add(&entries.unwrap_or_default(), Some(&source));
        }
        keyring
    }

    /// What `docker login` and `podman login` keep in a file; an error says why it is of no use, without its content.
    pub fn of_docker_config(bytes: &[u8]) -> Result<Self, String> {
        let config: Value = serde_json::from_slice(bytes)
            .map_err(|e| format!("line {}, column {}: it is not JSON", e.line(), e.column()))?;
        let auths = match config.get("auths") {
            Some(auths) if auths.is_object() => auths.clone(),
            None => Value::Null,
            Some(_) => return Err("auths: it has to be an object of registries".into()),
        };
        let empty = |entry: &Value| credential(entry).is_none();
        let helper = config.get("credsStore").and_then(Value::as_str).filter(|helper| !helper.is_empty());
        let helpers = config.get("credHelpers").and_then(Value::as_object).filter(|helpers| !helpers.is_empty());
        let left =
            auths.as_object().and_then(|auths| auths.iter().find(|(_, entry)| empty(entry))).map(|(name, _)| name);
        match (helper, helpers, left) {
            (_, Some(helpers), _) => {
                let all: Vec<&str> = helpers.keys().map(String::as_str).collect();
                return Err(format!("the credentials for {} are kept by helpers, which are not run", all.join(", ")));
            }
            (Some(helper), None, Some(registry)) => {
                return Err(format!(
                    "the credentials for {registry} are kept by the helper {helper}, which is not run"
                ));
            }
            (_, None, Some(registry)) => return Err(format!("auths: {registry}: there are no credentials in it")),
            (_, None, None) => {}
        }
        let mut keyring = Self::default();
        keyring.add(&auths, None);
        Ok(keyring)
    }

    fn add(&mut self, entries: &Value, source: Option<&Source>) {
        let entries: BTreeMap<&String, &Value> = entries.as_object().into_iter().flatten().collect();
        for (place, entry) in entries {
            let Some(auth) = credential(entry) else { continue };
            let hash = |source: &Source| Source { credential_hash: hash(&auth), ..source.clone() };
            let credential = Credential { source: source.map(hash), auth };
            self.entries.push((key(place), credential));
        }
        self.entries.sort_by(|(one, _), (other, _)| other.cmp(one));
    }

    /// Credentials for an image, the first to try first.
    pub fn lookup(&self, image: &str) -> Vec<&Credential> {
        let repository = repository(image);
        let of = |fits: &dyn Fn(&str) -> bool| -> Vec<&Credential> {
            self.entries.iter().filter(|(key, _)| fits(key)).map(|(_, credential)| credential).collect()
        };
        let found = of(&|key| matches(key, &repository));
        match found.is_empty() && repository.starts_with("docker.io/") {
            true => of(&|key| key == DOCKER_HUB),
            false => found,
        }
    }
}

/// Where an entry is for: host and path, without the scheme and the version of the protocol.
fn key(place: &str) -> String {
    let place = place.strip_prefix("https://").or_else(|| place.strip_prefix("http://")).unwrap_or(place);
    let place = place.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = place.find('/').map_or((place, ""), |at| place.split_at(at));
    let path = match path.starts_with("/v1/") || path.starts_with("/v2/") {
        true => &path[3..],
        false => path,
    };
    if path == "/" { host.to_owned() } else { format!("{host}{path}") }
}

fn matches(key: &str, repository: &str) -> bool {
    fn split(text: &str) -> (Vec<&str>, &str, &str) {
        let (authority, path) = text.find('/').map_or((text, ""), |at| text.split_at(at));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (authority, ""),
        };
        (host.split('.').collect(), port, path)
    }
    let ((globs, glob_port, glob_path), (parts, port, path)) = (split(key), split(repository));
    glob_port == port
        && globs.len() == parts.len()
        && path.starts_with(glob_path)
        && globs.iter().zip(parts).all(|(glob, part)| fits(glob, part))
}

/// `*` is any number of characters of one part.
fn fits(glob: &str, part: &str) -> bool {
    match glob.split_once('*') {
        None => glob == part,
        Some((before, after)) => part.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| fits(after, &rest[at..]))
        }),
    }
}

fn credential(entry: &Value) -> Option<AuthConfig> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let auth = text("auth");
    let (username, password) = match auth.trim() {
        "" => (text("username"), text("password")),
        auth => {
            let engine = if auth.ends_with('=') { &STANDARD } else { &STANDARD_NO_PAD };
            let decoded = String::from_utf8(engine.decode(auth).ok()?).ok()?;
            let (username, password) = decoded.split_once(':')?;
            (username.to_owned(), password.to_owned())
        }
    };
    let (identity_token, registry_token) = (text("identitytoken"), text("registrytoken"));
    let empty = username.is_empty() && identity_token.is_empty() && registry_token.is_empty();
    (!empty).then(|| AuthConfig { username, password, identity_token, registry_token, ..AuthConfig::default() })
}

fn hash(auth: &AuthConfig) -> String {
    let AuthConfig { username, password, identity_token, registry_token, .. } = auth;
    // Told apart also where one ends with what the next begins with.
    let parts = serde_json::json!([username, password, identity_token, registry_token]);
    super::hash(&parts.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(name: &str, auths: Value) -> Secret {
        serde_json::from_value(serde_json::json!({
            "metadata": { "name": name, "namespace": "ns", "uid": name },
            "type": "kubernetes.io/dockerconfigjson",
            "data": { ".dockerconfigjson": STANDARD.encode(serde_json::json!({ "auths": auths }).to_string()) },
        }))
        .unwrap()
    }

    /// Who is tried for an image, in order; each entry's user is called as its place.
    fn users(places: &[&str], image: &str) -> Vec<String> {
        let auths: Value = places.iter().map(|p| ((*p).to_owned(), serde_json::json!({ "username": p }))).collect();
        let secrets = [secret("s", auths)];
        Keyring::of_secrets(&secrets).lookup(image).iter().map(|c| c.auth.username.clone()).collect()
    }

    #[test]
    fn entries_are_for_images_as_upstream_has_it() {
        for (place, image, expected) in [
            ("reg.io", "reg.io/a/b:1", true),
            ("reg.io", "reg.io:5000/a", false),
            ("reg.io:5000", "reg.io:5000/a", true),
            ("reg.io:5000", "reg.io/a", false),
            ("https://reg.io", "reg.io/a", true),
            ("http://reg.io/v2/", "reg.io/a", true),
            ("https://reg.io/v1/", "reg.io/a", true),
            ("reg.io/team", "reg.io/team/app", true),
            ("reg.io/team", "reg.io/other/app", false),
            ("reg.io/team", "reg.io/teamwork/app", true),
            ("*.reg.io", "a.reg.io/x", true),
            ("*.reg.io", "reg.io/x", false),
            ("*.reg.io", "a.b.reg.io/x", false),
            ("*.*.reg.io", "a.b.reg.io/x", true),
            ("pre*fix.reg.io", "pre-and-fix.reg.io/x", true),
            ("pre*fix.reg.io", "pre-and-not.reg.io/x", false),
            ("*.reg.io:5000/team", "a.reg.io:5000/team/x@sha256:0", true),
            ("reg.*", "reg.io/x", true),
            ("docker.io", "nginx", true),
            ("https://index.docker.io/v1/", "nginx", true),
            ("https://index.docker.io/v1/", "me/app:2", true),
            ("https://index.docker.io/v1/", "reg.io/app", false),
            ("[::1]:5000", "[::1]:5000/a", true),
        ] {
            assert_eq!(!users(&[place], image).is_empty(), expected, "{place} for {image}");
        }
    }

    #[test]
    fn the_longer_path_is_tried_first() {
        let places = ["reg.io", "reg.io/team", "*.io", "reg.io/team/app"];
        assert_eq!(users(&places, "reg.io/team/app:1"), ["reg.io/team/app", "reg.io/team", "reg.io", "*.io"]);
        // What is Docker Hub's is for its images only where nothing else is.
        assert_eq!(users(&["index.docker.io", "docker.io/library"], "nginx"), ["docker.io/library"]);
    }

    #[test]
    fn credentials_have_many_forms() {
        let of = |entry: Value| credential(&entry).map(|a| (a.username, a.password, a.identity_token));
        let some = |u: &str, p: &str, i: &str| Some((u.to_owned(), p.to_owned(), i.to_owned()));
        for (entry, expected) in [
            (serde_json::json!({ "username": "u", "password": "p" }), some("u", "p", "")),
            (serde_json::json!({ "username": "x", "auth": STANDARD.encode("u:p:q") }), some("u", "p:q", "")),
            (serde_json::json!({ "auth": "dTpwcA" }), some("u", "pp", "")),
            (serde_json::json!({ "identitytoken": "i" }), some("", "", "i")),
            (serde_json::json!({ "auth": "no base64" }), None),
            (serde_json::json!({}), None),
        ] {
            assert_eq!(of(entry.clone()), expected, "{entry}");
        }
        let untyped = Secret { type_: None, ..secret("s", serde_json::json!({ "reg.io": { "username": "u" } })) };
        assert!(Keyring::of_secrets([&untyped]).lookup("reg.io/a").is_empty());
    }

    #[test]
    fn files_that_are_of_no_use_say_why() {
        for (text, expected) in [
            ("{", "line 1, column 1: it is not JSON"),
            (r#"{"auths":[]}"#, "auths: it has to be an object of registries"),
            (r#"{"auths":{"reg.io":{}}}"#, "auths: reg.io: there are no credentials in it"),
            (
                r#"{"auths":{"reg.io":{}},"credsStore":"desktop"}"#,
                "the credentials for reg.io are kept by the helper desktop, which is not run",
            ),
            (r#"{"credHelpers":{"reg.io":"x"}}"#, "the credentials for reg.io are kept by helpers, which are not run"),
        ] {
            assert_eq!(Keyring::of_docker_config(text.as_bytes()).err().as_deref(), Some(expected));
        }
        let good = Keyring::of_docker_config(br#"{"auths":{"reg.io":{"username":"u"}},"credsStore":"x"}"#).unwrap();
        assert!(good.lookup("reg.io/a")[0].source.is_none());
    }
}
