//! The syntaxes of names, labels, keys and ports, with upstream's explanations
//! (`k8s.io/apimachinery/pkg/util/validation`). Each function returns what is wrong; nothing wrong allocates nothing.

use crate::value::Object;

pub type Faults = Vec<String>;

const LABEL_FMT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_FMT: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";

fn is_lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_label(text: &[u8]) -> bool {
    match text {
        [] => false,
        [only] => is_lower_alphanumeric(*only),
        [first, middle @ .., last] => {
            is_lower_alphanumeric(*first)
                && is_lower_alphanumeric(*last)
                && middle.iter().all(|byte| is_lower_alphanumeric(*byte) || *byte == b'-')
        }
    }
}

fn is_subdomain(text: &str) -> bool {
    text.as_bytes().split(|byte| *byte == b'.').all(is_label)
}

/// `([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]`
fn is_word(text: &[u8]) -> bool {
    match text {
        [] => false,
        [only] => only.is_ascii_alphanumeric(),
        [first, middle @ .., last] => {
            first.is_ascii_alphanumeric()
                && last.is_ascii_alphanumeric()
                && middle.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
        }
    }
}

/// Upstream counts bytes in both, and says "characters" for names and "bytes" for labels.
pub fn max_length(characters: usize) -> String {
    format!("must be no more than {characters} characters")
}

fn max_bytes(bytes: usize) -> String {
    format!("must be no more than {bytes} bytes")
}

pub fn in_range(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

fn regex_fault(text: &str, regex: &str, examples: &[&str]) -> String {
    let mut fault = text.to_owned();
    fault.push_str(" (");
    for (i, example) in examples.iter().enumerate() {
        fault.push_str(if i == 0 { "e.g. '" } else { " or '" });
        fault.push_str(example);
        fault.push_str("', ");
    }
    fault + "regex used for validation is '" + regex + "')"
}

/// A DNS-1123 subdomain: what most names are.
pub fn subdomain(text: &str) -> Faults {
    let mut faults = Faults::new();
    if text.len() > 253 {
        faults.push(max_length(253));
    }
    if !is_subdomain(text) {
        let says = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
                    and must start and end with an alphanumeric character";
        faults.push(regex_fault(says, SUBDOMAIN_FMT, &["example.com"]));
    }
    faults
}

/// A DNS-1123 label: a namespace's or a container's name.
pub fn label(text: &str) -> Faults {
    let mut faults = Faults::new();
    if text.len() > 63 {
        faults.push(max_length(63));
    }
    if !is_label(text.as_bytes()) {
        faults.push(if is_subdomain(text) {
            "must not contain dots".to_owned()
        } else {
            let says = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
                        start and end with an alphanumeric character";
            regex_fault(says, LABEL_FMT, &["my-name", "123-abc"])
        });
    }
    faults
}

/// A DNS-1035 label: a Service's name.
pub fn dns1035(text: &str) -> Faults {
    let mut faults = Faults::new();
    if text.len() > 63 {
        faults.push(max_length(63));
    }
    if !is_label(text.as_bytes()) || !text.as_bytes()[0].is_ascii_lowercase() {
        let says = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
                    alphabetic character, and end with an alphanumeric character";
        faults.push(regex_fault(says, "[a-z]([-a-z0-9]*[a-z0-9])?", &["my-name", "abc-123"]));
    }
    faults
}

/// `*.` and a subdomain: the host of an Ingress rule.
pub fn wildcard_subdomain(text: &str) -> Faults {
    let mut faults = Faults::new();
    if text.len() > 253 {
        faults.push(max_length(253));
    }
    if !text.strip_prefix("*.").is_some_and(is_subdomain) {
        let says = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must \
                    consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
        faults.push(regex_fault(says, &format!(r"\*\.{SUBDOMAIN_FMT}"), &["*.example.com"]));
    }
    faults
}

/// What can stand in a URL path: the names of RBAC objects, and the least that any name must be.
pub fn path_segment(text: &str) -> Faults {
    if matches!(text, "." | "..") {
        return vec![format!("may not be '{text}'")];
    }
    ["/", "%"].iter().filter(|bad| text.contains(*bad)).map(|bad| format!("may not contain '{bad}'")).collect()
}

const WORD_FAULT: &str =
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
const WORD_FMT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

/// A label key, finalizer or resource name: `name` or `example.com/name`.
pub fn qualified_name(text: &str) -> Faults {
    let mut faults = Faults::new();
    let (prefix, name) = match text.split_once('/') {
        None => (None, text),
        Some((prefix, name)) if !name.contains('/') => (Some(prefix), name),
        Some(_) => {
            let says = regex_fault(WORD_FAULT, WORD_FMT, &["MyName", "my.name", "123-abc"]);
            let with = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("a qualified name {says} {with}")];
        }
    };
    match prefix {
        None => {}
        Some("") => faults.push("prefix part must be non-empty".into()),
        Some(prefix) => faults.extend(subdomain(prefix).into_iter().map(|fault| format!("prefix part {fault}"))),
    }
    if name.is_empty() {
        faults.push("name part must be non-empty".into());
    } else if name.len() > 63 {
        faults.push(format!("name part {}", max_bytes(63)));
    }
    if !is_word(name.as_bytes()) {
        let says = regex_fault(WORD_FAULT, WORD_FMT, &["MyName", "my.name", "123-abc"]);
        faults.push(format!("name part {says}"));
    }
    faults
}

pub fn label_value(text: &str) -> Faults {
    let mut faults = Faults::new();
    if text.len() > 63 {
        faults.push(max_bytes(63));
    }
    if !text.is_empty() && !is_word(text.as_bytes()) {
        let says = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and \
                    must start and end with an alphanumeric character";
        let regex = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
        faults.push(regex_fault(says, regex, &["MyValue", "my_value", "12345"]));
    }
    faults
}

/// A key of a ConfigMap or a Secret, which becomes a file name.
pub fn config_key(text: &str) -> Faults {
    let mut faults = Faults::new();
    if text.len() > 253 {
        faults.push(max_length(253));
    }
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
        let says = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        faults.push(regex_fault(says, "[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"]));
    }
    match text {
        "." => faults.push("must not be '.'".into()),
        ".." => faults.push("must not be '..'".into()),
        _ if text.starts_with("..") => faults.push("must not start with '..'".into()),
        _ => {}
    }
    faults
}

pub fn env_name(text: &str) -> Faults {
    if text.is_empty() {
        return vec!["environment variable name must be non-empty".into()];
    }
    if text.bytes().any(|byte| !(0x20..0x7f).contains(&byte) || byte == b'=') {
        let says = "a valid environment variable name must consist only of printable ASCII characters other than '='";
        return vec![says.into()];
    }
    Faults::new()
}

pub fn port_name(text: &str) -> Faults {
    let mut faults = Faults::new();
    if text.len() > 15 {
        faults.push(max_length(15));
    }
    if text.is_empty() || !text.bytes().all(|byte| is_lower_alphanumeric(byte) || byte == b'-') {
        faults.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        faults.push("must contain at least one letter (a-z)".into());
    }
    if text.contains("--") {
        faults.push("must not contain consecutive hyphens".into());
    }
    if text.starts_with('-') || text.ends_with('-') {
        faults.push("must not begin or end with a hyphen".into());
    }
    faults
}

pub fn port_number(port: i64) -> Faults {
    if (1..=65535).contains(&port) { Faults::new() } else { vec![in_range(1, 65535)] }
}

pub fn http_header_name(text: &str) -> Faults {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Faults::new();
    }
    let says = "a valid HTTP header must consist of alphanumeric characters or '-'";
    vec![regex_fault(says, "[-A-Za-z0-9]+", &["X-Header-Name"])]
}

pub fn percent(text: &str) -> Faults {
    let digits = text.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Faults::new();
    }
    let says = "a valid percent string must be a numeric string followed by an ending '%'";
    vec![regex_fault(says, "[0-9]+%", &["1%", "93%"])]
}

/// Addresses with leading zeros in a part are refused here, as they are by Rust's parser.
pub fn ip(text: &str) -> Faults {
    match text.parse::<std::net::IpAddr>() {
        Ok(_) => Faults::new(),
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".into()],
    }
}

/// True for `address/bits` with bits that fit the address's family.
pub fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let (Ok(address), Ok(bits)) = (address.parse::<std::net::IpAddr>(), bits.parse::<u8>()) else { return false };
    bits <= if address.is_ipv4() { 32 } else { 128 }
}

pub fn cidr(text: &str) -> Faults {
    if is_cidr(text) {
        Faults::new()
    } else {
        vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".into()]
    }
}

/// `generateName` and five characters of 27 that form no words, cut so that a label of 63 bytes holds them.
pub fn generate_name(base: &str, random: u64) -> String {
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut end = base.len().min(58);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = base[..end].to_owned();
    let mut rest = random;
    for _ in 0..5 {
        name.push(char::from(LETTERS[(rest % 27) as usize]));
        rest /= 27;
    }
    name
}

/// True where the sizes of all keys and values together pass the limit.
pub(super) fn exceeds(map: &Object, limit_bytes: usize) -> bool {
    let size = |(key, value): (&String, &serde_json::Value)| key.len() + value.as_str().map_or(0, str::len);
    map.iter().map(size).sum::<usize>() > limit_bytes
}
