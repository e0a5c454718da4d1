//! URLs, read as Go's `url.ParseRequestURI` reads them: absolute, or an absolute path.

use std::{collections::BTreeMap, sync::Arc};

use super::{Cost, Outcome, Row, Sig, global, member, run};
use crate::value::{Key, Map, Opaque, Text, Value};

const URL: Sig = Sig::Opaque("kubernetes.URL");
const ONE: Cost = Cost::Fixed(1);

/// The parts of a URL as they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Url {
    scheme: String,
    user: Option<String>,
    /// With the port, and with brackets where they are needed.
    host: String,
    path: String,
    query: String,
    fragment: String,
}

pub(crate) const ROWS: &[Row] = &[
    global(
        "url",
        &[Sig::String],
        URL,
        Cost::Text(1),
        run!([Value::String(text)] => match parse(text) {
            Ok(url) => Ok(Value::Opaque(Opaque::Url(Arc::new(url)))),
            Err(why) => Err(format!("URL parse error during conversion from string: parse {text:?}: {why}", text = &**text)),
        }),
    ),
    global(
        "isURL",
        &[Sig::String],
        Sig::Bool,
        ONE,
        run!([Value::String(text)] => Ok(Value::Bool(parse(text).is_ok()))),
    ),
    member("getScheme", &[URL], Sig::String, ONE, |args| part(args, |url| url.scheme.clone())),
    member("getHost", &[URL], Sig::String, ONE, |args| part(args, |url| url.host.clone())),
    member("getHostname", &[URL], Sig::String, ONE, |args| part(args, |url| host_and_port(&url.host).0.to_owned())),
    member("getPort", &[URL], Sig::String, ONE, |args| part(args, |url| host_and_port(&url.host).1.to_owned())),
    member("getEscapedPath", &[URL], Sig::String, ONE, |args| part(args, |url| escaped(&url.path))),
    member(
        "getQuery",
        &[URL],
        Sig::Map(&Sig::String, &Sig::List(&Sig::String)),
        ONE,
        run!(
        [Value::Opaque(Opaque::Url(url))] => Ok(query(&url.query))),
    ),
];

fn part<'a>(args: &[Value<'a>], part: fn(&Url) -> String) -> Outcome<'a> {
    match args {
        [Value::Opaque(Opaque::Url(url))] => Ok(Value::text(part(url))),
        _ => super::no_overload(),
    }
}

pub(crate) fn parse(text: &str) -> Result<Url, String> {
    if text.is_empty() {
        return Err("empty url".to_owned());
    }
    if text.chars().any(|c| c.is_ascii_control()) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    let mut url = Url::default();
    let mut rest = text;
    if let Some(colon) = text.find(':') {
        let scheme = &text[..colon];
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        if colon == 0 {
            return Err("missing protocol scheme".to_owned());
        }
        if is_scheme {
            url.scheme = scheme.to_ascii_lowercase();
            rest = &text[colon + 1..];
        }
    }
    let (before, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (before, query) = before.split_once('?').unwrap_or((before, ""));
    (url.fragment, url.query) = (fragment.to_owned(), query.to_owned());
    if !before.starts_with('/') {
        return match url.scheme.as_str() {
            "" => Err("invalid URI for request".to_owned()),
            // `mailto:someone`: nothing in it has a place in the parts.
            _ => Ok(url),
        };
    }
    url.path = before.to_owned();
    if !url.scheme.is_empty()
        && let Some(authority) = before.strip_prefix("//")
    {
        let end = authority.find('/').unwrap_or(authority.len());
        url.path = authority[end..].to_owned();
        let authority = &authority[..end];
        let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
        url.user = user.map(str::to_owned);
        check_host(host)?;
        url.host = host.to_owned();
    }
    check_escapes(&url.path)?;
    Ok(url)
}

fn check_host(host: &str) -> Result<(), String> {
    let after = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or("missing ']' in host")?.1,
        None => match host.find(':') {
            Some(colon) => &host[colon..],
            None => "",
        },
    };
    let is_port =
        after.is_empty() || after.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()));
    if !is_port {
        return Err(format!("invalid port {after:?} after host"));
    }
    match host.chars().find(|c| " \"<>\\^`{|}".contains(*c)) {
        Some(bad) => Err(format!("invalid character {:?} in host name", bad.to_string())),
        None => Ok(()),
    }
}

fn check_escapes(path: &str) -> Result<(), String> {
    for (at, _) in path.match_indices('%') {
        let code = path.as_bytes().get(at + 1..at + 3).unwrap_or_default();
        if code.len() < 2 || !code.iter().all(u8::is_ascii_hexdigit) {
            return Err(format!("invalid URL escape {:?}", &path[at..path.len().min(at + 3)].to_owned()));
        }
    }
    Ok(())
}

/// Without brackets and without the port.
fn host_and_port(host: &str) -> (&str, &str) {
    if let Some((inside, after)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (inside, after.strip_prefix(':').unwrap_or_default());
    }
    host.split_once(':').unwrap_or((host, ""))
}

fn escaped(path: &str) -> String {
    let mut text = String::new();
    for byte in path.bytes() {
        match byte {
            b if b.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@%!*'()[]".contains(&b) => text.push(b as char),
            b => text.push_str(&format!("%{b:02X}")),
        }
    }
    text
}

fn query<'a>(query: &str) -> Value<'a> {
    let mut found: BTreeMap<String, Vec<Value<'a>>> = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let (Some(key), Some(value)) = (unescaped(key), unescaped(value)) {
            found.entry(key).or_default().push(Value::text(value));
        }
    }
    let entries = found.into_iter().map(|(key, values)| (Key::String(Text::Shared(key.into())), Value::list(values)));
    Value::Map(Map::Owned(Arc::new(entries.collect())))
}

fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let code = std::str::from_utf8(rest.get(..2)?).ok()?;
                bytes.push(u8::from_str_radix(code, 16).ok()?);
                rest = &rest[2..];
            }
            byte => bytes.push(*byte),
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
