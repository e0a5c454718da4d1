//! Who asks, told to a server that trusts this one, and heard from a proxy that this one trusts.
//! (<https://kubernetes.io/docs/reference/access-authn-authz/authentication/#authenticating-proxy>)

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::contract::UserInfo;

const USER: &str = "x-remote-user";
const UID: &str = "x-remote-uid";
const GROUP: &str = "x-remote-group";
const EXTRA_PREFIX: &str = "x-remote-extra-";

/// What may stand in a header's name (RFC 9110), the percent sign left out.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'*')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// Says in a request's headers who asks. Whatever a client put there itself is taken out first.
pub fn tell(headers: &mut HeaderMap, user: &UserInfo) {
    let told: Vec<HeaderName> = headers.keys().filter(|name| is_told(name.as_str())).cloned().collect();
    for name in told {
        headers.remove(name);
    }
    let mut add = |name: &str, value: &str| {
        // A name that no header can carry is a user that cannot be told: the other server then refuses.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(value.as_bytes())) {
            headers.append(name, value);
        }
    };
    add(USER, &user.name);
    if !user.uid.is_empty() {
        add(UID, &user.uid);
    }
    user.groups.iter().for_each(|group| add(GROUP, group));
    for (key, values) in &user.extra {
        let name = format!("{EXTRA_PREFIX}{}", utf8_percent_encode(key, ESCAPED));
        values.iter().for_each(|value| add(&name, value));
    }
}

fn is_told(name: &str) -> bool {
    matches!(name, USER | UID | GROUP) || name.starts_with(EXTRA_PREFIX)
}

/// The headers that a front proxy speaks in, and which proxies are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeaders {
    /// Common names of proxies' certificates; any of the authority's where it is empty.
    pub allowed_names: Vec<String>,
    pub username: Vec<String>,
    pub uid: Vec<String>,
    pub group: Vec<String>,
    pub extra_prefix: Vec<String>,
}

impl Default for RequestHeaders {
    /// What this server itself sends, and what it lets its own front-proxy certificate say.
    fn default() -> Self {
        let one = |text: &str| vec![text.to_owned()];
        Self {
            allowed_names: one(crate::pki::FRONT_PROXY_NAME),
            username: one("X-Remote-User"),
            uid: one("X-Remote-Uid"),
            group: one("X-Remote-Group"),
            extra_prefix: one("X-Remote-Extra-"),
        }
    }
}

impl RequestHeaders {
    pub fn allows(&self, common_name: &str) -> bool {
        self.allowed_names.is_empty() || self.allowed_names.iter().any(|name| name == common_name)
    }

    /// Whom a proxy speaks for; `None` where its headers name nobody.
    pub fn read(&self, headers: &HeaderMap) -> Option<UserInfo> {
        let values = |names: &[String]| -> Vec<String> {
            let all = names.iter().flat_map(|name| headers.get_all(name.as_str()));
            let texts = all.filter_map(|value| std::str::from_utf8(value.as_bytes()).ok());
            texts.filter(|text| !text.is_empty()).map(str::to_owned).collect()
        };
        let first = |names: &[String]| values(names).into_iter().find(|text| !text.trim().is_empty());
        let name = first(&self.username)?;
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for prefix in self.extra_prefix.iter().map(|prefix| prefix.to_lowercase()) {
            for (name, value) in headers {
                let Some(key) = name.as_str().strip_prefix(&prefix) else { continue };
                let key = percent_decode_str(key).decode_utf8_lossy().into_owned();
                extra.entry(key).or_default().extend(std::str::from_utf8(value.as_bytes()).map(str::to_owned));
            }
        }
        Some(UserInfo { name, uid: first(&self.uid).unwrap_or_default(), groups: values(&self.group), extra })
    }

    /// As other servers read it in `kube-system/extension-apiserver-authentication`.
    pub fn published(&self, authority_pem: &str) -> [(&'static str, String); 6] {
        let list = |names: &[String]| serde_json::to_string(names).unwrap_or_default();
        [
            ("requestheader-allowed-names", list(&self.allowed_names)),
            ("requestheader-client-ca-file", authority_pem.to_owned()),
            ("requestheader-extra-headers-prefix", list(&self.extra_prefix)),
            ("requestheader-group-headers", list(&self.group)),
            ("requestheader-uid-headers", list(&self.uid)),
            ("requestheader-username-headers", list(&self.username)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_what_is_heard() {
        let user = UserInfo {
            name: "anna".into(),
            uid: "42".into(),
            groups: vec!["dev".into(), "system:authenticated".into()],
            extra: BTreeMap::from([("example.org/Scope%".to_lowercase(), vec!["a".into(), "b".into()])]),
        };
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-remote-user", "eve"),
            ("x-remote-group", "system:masters"),
            ("x-remote-extra-any", "thing"),
            ("x-remote-uid", "1"),
            ("accept", "*/*"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        tell(&mut headers, &user);
        assert_eq!(RequestHeaders::default().read(&headers), Some(user));
        assert!(headers.contains_key("accept") && headers.contains_key("x-remote-extra-example.org%2fscope%25"));
        assert_eq!(RequestHeaders::default().read(&HeaderMap::new()), None);
    }
}
