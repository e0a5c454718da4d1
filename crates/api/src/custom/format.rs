//! `format` of a schema. Formats that upstream does not know say nothing
//! (<https://kubernetes.io/docs/reference/using-api/cel/>, `apiserver/validation/formats.go`).

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::{meta::names, quantity::Quantity};

/// A format that upstream checks, or at least reads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Format {
    /// `int32`, `int64`, `float` and `double`: they only matter for values that are no numbers.
    Number,
    /// Known, and any string will do.
    Anything,
    Text(fn(&str) -> bool),
}

impl Format {
    /// `None` for a format that means nothing for these types.
    pub fn of(name: &str, types: &[String]) -> Option<Format> {
        match types {
            [one] if one == "integer" => matches!(name, "int32" | "int64").then_some(Format::Number),
            [one] if one == "number" => matches!(name, "float" | "double").then_some(Format::Number),
            [one] if one != "string" => None,
            _ => Format::of_text(&name.replace('-', "")),
        }
    }

    fn of_text(name: &str) -> Option<Format> {
        Some(Format::Text(match name {
            "bsonobjectid" => |text| text.len() == 24 && text.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "uri" => is_uri,
            "email" => is_email,
            "hostname" => is_hostname,
            "ipv4" => |text| text.parse::<Ipv4Addr>().is_ok(),
            "ipv6" => |text| text.parse::<Ipv6Addr>().is_ok(),
            "cidr" => names::is_cidr,
            "mac" => is_mac,
            "uuid" => |text| is_uuid(text, None),
            "uuid3" => |text| is_uuid(text, Some('3')),
            "uuid4" => |text| is_uuid(text, Some('4')),
            "uuid5" => |text| is_uuid(text, Some('5')),
            "isbn" => |text| is_isbn10(text) || is_isbn13(text),
            "isbn10" => is_isbn10,
            "isbn13" => is_isbn13,
            "creditcard" => is_credit_card,
            "ssn" => is_ssn,
            "hexcolor" => is_hex_color,
            "rgbcolor" => is_rgb_color,
            "byte" => is_base64,
            "password" => return Some(Format::Anything),
            "date" => |text| text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
            "duration" => is_duration,
            "datetime" => is_date_time,
            "quantity" => |text| text.parse::<Quantity>().is_ok(),
            "k8sshortname" => |text| names::label(text).is_empty(),
            "k8slongname" => |text| names::subdomain(text).is_empty(),
            _ => return None,
        }))
    }
}

fn digits(text: &str) -> Vec<u32> {
    text.chars().filter_map(|c| c.to_digit(10)).collect()
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The parts of a UUID; the hyphens may be left out.
fn is_uuid(text: &str, version: Option<char>) -> bool {
    let mut rest = text;
    for (i, length) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if i > 0 {
            rest = rest.strip_prefix('-').unwrap_or(rest);
        }
        let Some((part, after)) = rest.split_at_checked(length) else { return false };
        let first = part.chars().next().unwrap_or_default();
        let fits = match (i, version) {
            (2, Some(version)) => first == version,
            (3, Some('4' | '5')) => "89abAB".contains(first),
            _ => true,
        };
        if !fits || !is_hex(part, length) {
            return false;
        }
        rest = after;
    }
    rest.is_empty()
}

/// What Go's `url.ParseRequestURI` takes: an absolute path, or a scheme and what it is about.
fn is_uri(text: &str) -> bool {
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        return false;
    }
    let bytes = text.as_bytes();
    let escapes_are_hex = bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'%')
        .all(|(i, _)| bytes.get(i + 1..i + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)));
    let has_scheme = || {
        let Some((scheme, rest)) = text.split_once(':') else { return false };
        let authority = rest.strip_prefix("//").map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
            && !rest.is_empty()
            && !authority.unwrap_or_default().contains([' ', '<', '>', '"'])
    };
    escapes_are_hex && (text.starts_with('/') || has_scheme())
}

/// `a@example.com` or `Name <a@example.com>`.
fn is_email(text: &str) -> bool {
    let address = match text.trim().strip_suffix('>') {
        Some(named) => named.rsplit_once('<').map_or("", |(_, address)| address),
        None => text.trim(),
    };
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let is_atom = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    let is_dotted = |text: &str| text.split('.').all(|part| !part.is_empty() && part.chars().all(is_atom));
    let is_quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
    (is_dotted(local) || is_quoted) && (is_dotted(domain) || domain.starts_with('[') && domain.ends_with(']'))
}

/// A name of RFC 1034 whose last label is made of letters where there are several.
fn is_hostname(text: &str) -> bool {
    let labels: Vec<&str> = text.split('.').collect();
    let is_label = |label: &&str| {
        let inner = |c: char| c.is_alphanumeric() || c == '-';
        (1..=63).contains(&label.len()) && label.chars().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    let top = labels.last().copied().unwrap_or_default();
    let top_fits = labels.len() == 1 || top.chars().count() >= 2 && top.chars().all(char::is_alphabetic);
    text.len() <= 255 && labels.iter().all(is_label) && top_fits
}

/// 6, 8 or 20 octets in the three notations of Go's `net.ParseMAC`.
fn is_mac(text: &str) -> bool {
    let groups = |separator: char, length: usize, counts: [usize; 3]| {
        let parts: Vec<&str> = text.split(separator).collect();
        counts.contains(&parts.len()) && parts.iter().all(|part| is_hex(part, length))
    };
    groups(':', 2, [6, 8, 20]) || groups('-', 2, [6, 8, 20]) || groups('.', 4, [3, 4, 10])
}

fn is_isbn10(text: &str) -> bool {
    let text: Vec<char> = text.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
    let worth = |(i, c): (usize, &char)| match c {
        'X' if i == 9 => Some(100),
        c => c.to_digit(10).map(|digit| digit * (i as u32 + 1)),
    };
    text.len() == 10
        && text.iter().enumerate().map(worth).sum::<Option<u32>>().is_some_and(|sum| sum.is_multiple_of(11))
}

fn is_isbn13(text: &str) -> bool {
    let plain = text.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | ' '));
    let digits = digits(text);
    let sum: u32 = digits.iter().enumerate().map(|(i, digit)| digit * if i % 2 == 0 { 1 } else { 3 }).sum();
    plain && digits.len() == 13 && sum.is_multiple_of(10)
}

/// Luhn's sum over the digits; the length is that of the issuers upstream knows.
fn is_credit_card(text: &str) -> bool {
    let digits = digits(text);
    let doubled = |(i, digit): (usize, &u32)| match (i % 2 == 1, digit * 2) {
        (false, _) => *digit,
        (true, twice) if twice > 9 => twice - 9,
        (true, twice) => twice,
    };
    (13..=16).contains(&digits.len()) && digits.iter().rev().enumerate().map(doubled).sum::<u32>().is_multiple_of(10)
}

fn is_ssn(text: &str) -> bool {
    let plain: String = text.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
    let shape: Vec<usize> = text.split(['-', ' ']).map(str::len).collect();
    plain.len() == 9
        && plain.bytes().all(|byte| byte.is_ascii_digit())
        && matches!(shape.as_slice(), [9] | [3, 2, 4] | [3, 6] | [5, 4])
}

fn is_hex_color(text: &str) -> bool {
    let digits = text.strip_prefix('#').unwrap_or(text);
    is_hex(digits, 3) || is_hex(digits, 6)
}

/// `rgb(255,255,255)`
fn is_rgb_color(text: &str) -> bool {
    let inside = text.strip_prefix("rgb(").and_then(|rest| rest.strip_suffix(')')).unwrap_or_default();
    let parts: Vec<&str> = inside.split(',').map(str::trim).collect();
    parts.len() == 3 && parts.iter().all(|part| part.parse::<u8>().is_ok())
}

/// Groups of four; nothing at all is not base64 to upstream.
fn is_base64(text: &str) -> bool {
    let data = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
    let sign = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    !text.is_empty() && text.len().is_multiple_of(4) && data.bytes().all(sign)
}

/// `1h30m` as Go writes it, or one number and the name of a unit.
fn is_duration(text: &str) -> bool {
    const GO: [&str; 7] = ["ns", "us", "\u{b5}s", "ms", "s", "m", "h"];
    const NAMES: [&str; 28] = [
        "nano",
        "nanos",
        "nanosecond",
        "nanoseconds",
        "micro",
        "micros",
        "microsecond",
        "microseconds",
        "milli",
        "millis",
        "millisecond",
        "milliseconds",
        "sec",
        "secs",
        "second",
        "seconds",
        "min",
        "mins",
        "minute",
        "minutes",
        "hr",
        "hrs",
        "hour",
        "hours",
        "day",
        "days",
        "week",
        "weeks",
    ];
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let mut rest = unsigned;
    let mut parts = 0;
    while !rest.is_empty() {
        let number = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let after = &rest[number..];
        let unit = after.len() - after.trim_start_matches(|c: char| !c.is_ascii_digit() && c != '.').len();
        let name = after[..unit].trim();
        let single = NAMES.contains(&name) || matches!(name, "d" | "w") || after.starts_with(' ');
        let known = GO.contains(&name) || single && (NAMES.contains(&name) || matches!(name, "d" | "w"));
        if rest[..number].parse::<f64>().is_err() || !known || single && (parts > 0 || unit < after.len()) {
            return unsigned == "0";
        }
        parts += 1;
        rest = &after[unit..];
    }
    parts > 0
}

/// `date-time` of RFC 3339.
fn is_date_time(text: &str) -> bool {
    let has_shape = text.is_ascii()
        && text.len() >= 20
        && matches!(text.as_bytes()[10], b'T' | b't')
        && text.as_bytes()[13] == b':'
        && text.as_bytes()[16] == b':';
    has_shape && text.to_ascii_uppercase().parse::<jiff::Timestamp>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_take_and_refuse() {
        let rows = [
            ("uri", "http://a/b?c", "a b"),
            ("uri", "/path", "http://a b/"),
            ("email", "a@b.io", "a@"),
            ("email", "A B <a@b.io>", "ab.io"),
            ("hostname", "a-b.example", "-a.example"),
            ("ipv4", "10.0.0.1", "10.0.0.256"),
            ("ipv6", "::1", "1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0"),
            ("mac", "01:23:45:67:89:ab", "01:23"),
            ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123e4567"),
            ("uuid4", "123e4567-e89b-42d3-a456-426614174000", "123e4567-e89b-12d3-a456-426614174000"),
            ("isbn", "978-0321751041", "978-0321751042"),
            ("isbn10", "0321751043", "0321751044"),
            ("creditcard", "4111-1111-1111-1111", "4111-1111-1111-1112"),
            ("ssn", "111-22-3333", "11-222-3333"),
            ("hexcolor", "#fff", "#ff"),
            ("rgbcolor", "rgb(0, 1,255)", "rgb(0,1,256)"),
            ("byte", "YQ==", "YQ="),
            ("date", "2024-02-29", "2023-02-29"),
            ("duration", "1h30m", "1x"),
            ("duration", "22 ns", "h"),
            ("duration", "3 days", "3 moons"),
            ("date-time", "2024-01-02T03:04:05.6Z", "2024-01-02 03:04:05Z"),
            ("datetime", "2024-01-02t03:04:05+01:00", "2024-01-02"),
            ("quantity", "1Gi", "1Go"),
            ("bsonobjectid", "507f1f77bcf86cd799439011", "507f"),
            ("k8s-short-name", "a-b", "a.b"),
            ("k8s-long-name", "a-b.c", "A"),
        ];
        for (name, good, bad) in rows {
            let Some(Format::Text(check)) = Format::of(name, &["string".to_owned()]) else { panic!("{name}") };
            assert!(check(good), "{name} {good}");
            assert!(!check(bad), "{name} {bad}");
        }
        assert!(Format::of("int32", &["string".to_owned()]).is_none());
        assert!(Format::of("int32", &["integer".to_owned()]).is_some());
        assert!(Format::of("int32", &["boolean".to_owned()]).is_none());
    }
}
