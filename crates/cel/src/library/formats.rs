//! Named formats of strings, with the messages that the API's own validation has for them.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Cost, Row, Sig, global, member, run, time, url};
use crate::value::{Opaque, Value};

const FORMAT: Sig = Sig::Opaque("kubernetes.NamedFormat");
const ONE: Cost = Cost::Fixed(1);

/// A format: what is wrong with a string by it, and how long upstream takes its pattern to be, which its cost goes by.
pub struct Format {
    pub name: &'static str,
    pub(crate) check: fn(&str) -> Vec<String>,
    pub(crate) pattern_size: u64,
}

impl std::fmt::Debug for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

static TABLE: [Format; 13] = [
    Format { name: "dns1123Label", check: |text| label(text, false), pattern_size: 30 },
    Format { name: "dns1123Subdomain", check: |text| subdomain(text, false), pattern_size: 60 },
    Format { name: "dns1035Label", check: |text| label_1035(text, false), pattern_size: 30 },
    Format { name: "qualifiedName", check: qualified, pattern_size: 60 },
    Format { name: "dns1123LabelPrefix", check: |text| label(text, true), pattern_size: 30 },
    Format { name: "dns1123SubdomainPrefix", check: |text| subdomain(text, true), pattern_size: 60 },
    Format { name: "dns1035LabelPrefix", check: |text| label_1035(text, true), pattern_size: 30 },
    Format { name: "labelValue", check: label_value, pattern_size: 40 },
    Format { name: "uri", check: uri, pattern_size: 500 },
    Format { name: "uuid", check: |text| unless(is_uuid(text), "does not match the UUID format"), pattern_size: 75 },
    Format {
        name: "byte",
        check: |text| unless(STANDARD.decode(text).is_ok() && !text.is_empty(), "invalid base64"),
        pattern_size: 95,
    },
    Format {
        name: "date",
        check: |text| unless(text.len() == 10 && time::date_or_timestamp(text).is_ok(), "invalid date"),
        pattern_size: 108,
    },
    Format {
        name: "datetime",
        check: |text| unless(time::timestamp(text).is_ok(), "invalid datetime"),
        pattern_size: 108,
    },
];

macro_rules! constant {
    ($name:literal, $at:literal) => {
        global($name, &[], FORMAT, ONE, |_| Ok(Value::Opaque(Opaque::Format(&TABLE[$at]))))
    };
}

pub(crate) const ROWS: &[Row] = &[
    constant!("format.dns1123Label", 0),
    constant!("format.dns1123Subdomain", 1),
    constant!("format.dns1035Label", 2),
    constant!("format.qualifiedName", 3),
    constant!("format.dns1123LabelPrefix", 4),
    constant!("format.dns1123SubdomainPrefix", 5),
    constant!("format.dns1035LabelPrefix", 6),
    constant!("format.labelValue", 7),
    constant!("format.uri", 8),
    constant!("format.uuid", 9),
    constant!("format.byte", 10),
    constant!("format.date", 11),
    constant!("format.datetime", 12),
    global(
        "format.named",
        &[Sig::String],
        Sig::Optional(&FORMAT),
        ONE,
        run!([Value::String(name)] => {
            let found = TABLE.iter().find(|format| format.name == &**name);
            Ok(found.map_or(Value::Optional(None), |format| Value::some(Value::Opaque(Opaque::Format(format)))))
        }),
    ),
    member(
        "validate",
        &[FORMAT, Sig::String],
        Sig::Optional(&Sig::List(&Sig::String)),
        Cost::Validate,
        run!(
        [Value::Opaque(Opaque::Format(format)), Value::String(text)] => {
            let wrong = (format.check)(text);
            Ok(match wrong.is_empty() {
                true => Value::Optional(None),
                false => Value::some(Value::list(wrong.into_iter().map(Value::text).collect())),
            })
        }),
    ),
];

fn unless(holds: bool, why: &str) -> Vec<String> {
    if holds { Vec::new() } else { vec![why.to_owned()] }
}

fn uri(text: &str) -> Vec<String> {
    url::parse(text).err().map(|why| format!("parse {text:?}: {why}")).into_iter().collect()
}

fn is_uuid(text: &str) -> bool {
    let hex: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    let dashes_fit = text.bytes().enumerate().all(|(at, byte)| byte != b'-' || matches!(at, 8 | 13 | 18 | 23));
    hex.len() == 32 && hex.iter().all(u8::is_ascii_hexdigit) && (text.len() == 32 || dashes_fit && text.len() == 36)
}

pub(crate) fn is_label(text: &str) -> bool {
    label(text, false).is_empty()
}

pub(crate) fn is_subdomain(text: &str) -> bool {
    subdomain(text, false).is_empty()
}

/// A name that the server completes may end in a dash.
fn completed(text: &str, prefix: bool) -> String {
    match text.strip_suffix('-') {
        Some(rest) if prefix => format!("{rest}a"),
        _ => text.to_owned(),
    }
}

fn is_dns_label(text: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|b| is_plain(*b))
        && bytes.last().is_some_and(|b| is_plain(*b))
        && bytes.iter().all(|b| is_plain(*b) || *b == b'-')
}

fn too_long(text: &str, most: usize) -> Vec<String> {
    unless(text.len() <= most, &format!("must be no more than {most} characters"))
}

fn label(text: &str, prefix: bool) -> Vec<String> {
    let text = completed(text, prefix);
    let mut wrong = too_long(&text, 63);
    wrong.extend(unless(
        is_dns_label(&text),
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end \
         with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
         '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
    ));
    wrong
}

fn subdomain(text: &str, prefix: bool) -> Vec<String> {
    let text = completed(text, prefix);
    let mut wrong = too_long(&text, 253);
    wrong.extend(unless(
        text.split('.').all(is_dns_label),
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start \
         and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
         '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
    ));
    wrong
}

fn label_1035(text: &str, prefix: bool) -> Vec<String> {
    let text = completed(text, prefix);
    let mut wrong = too_long(&text, 63);
    wrong.extend(unless(
        is_dns_label(&text) && text.starts_with(|c: char| c.is_ascii_lowercase()),
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
         character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation \
         is '[a-z]([-a-z0-9]*[a-z0-9])?')",
    ));
    wrong
}

fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

fn qualified(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let name = match text.split_once('/') {
        None => text,
        Some((_, name)) if name.contains('/') => {
            return vec![
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', with an \
                 optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
                    .to_owned(),
            ];
        }
        Some(("", name)) => {
            wrong.push("prefix part must be non-empty".to_owned());
            name
        }
        Some((prefix, name)) => {
            wrong.extend(subdomain(prefix, false).into_iter().map(|why| format!("prefix part {why}")));
            name
        }
    };
    wrong.extend(unless(!name.is_empty(), "name part must be non-empty"));
    wrong.extend(too_long(name, 63).into_iter().map(|why| format!("name part {why}")));
    wrong.extend(unless(
        is_name(name),
        "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
         alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
         '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
    ));
    wrong
}

fn label_value(text: &str) -> Vec<String> {
    let mut wrong = too_long(text, 63);
    wrong.extend(unless(
        text.is_empty() || is_name(text),
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start \
         and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for \
         validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
    ));
    wrong
}
