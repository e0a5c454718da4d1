//! Queries.

/// The values of a query, decoded; the same key may come more than once.
pub fn query(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        })
        .collect()
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let hex = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = bytes.get(at + 1).copied().and_then(hex).zip(bytes.get(at + 2).copied().and_then(hex));
        match (bytes[at], pair) {
            (b'%', Some((high, low))) => {
                out.push(high << 4 | low);
                at += 3;
                continue;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

pub fn flag(query: &[(String, String)], key: &str) -> bool {
    query.iter().any(|(name, value)| name == key && matches!(value.as_str(), "" | "1" | "true" | "True"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Streams;

    #[test]
    fn queries() {
        let pairs =
            |list: &[(&str, &str)]| list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>();
        for (text, expected) in [
            ("", pairs(&[])),
            (
                "command=sh&command=-c&command=echo+a%20b%2B",
                pairs(&[("command", "sh"), ("command", "-c"), ("command", "echo a b+")]),
            ),
            ("a&b=%zz&c=%e2%82%ac", pairs(&[("a", ""), ("b", "%zz"), ("c", "€")])),
        ] {
            assert_eq!(query(text), expected, "{text}");
        }
        let streams = |text: &str| Streams::from_query(&query(text)).ok();
        let all = Streams { stdin: true, stdout: true, stderr: true, tty: false };
        assert_eq!(streams("input=1&output=1&error=1"), Some(all));
        assert_eq!(streams("stdin=true&stdout=true&stderr=true"), Some(all));
        assert_eq!(
            streams("stdout=true&stderr=true&tty=true"),
            Some(Streams { stdin: false, stderr: false, tty: true, ..all })
        );
        assert_eq!(streams("stdin=false"), None);
    }
}
