//! A subject taken over byte for byte: rcgen knows one value of each attribute, and a request may well name several
//! organizations.

use rcgen::{KeyPair, SigningKey};

/// Where the subject stands among the fields of a certificate.
pub(super) const OF_CERTIFICATE: usize = 5;

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;

/// A signed structure (a certificate, a request) with another field `at` its place, signed anew; `None` for what is no
/// such structure.
pub(super) fn replaced(
    signed: &[u8],
    at: usize,
    subject: &[u8],
    key: &KeyPair,
) -> Option<Result<Vec<u8>, rcgen::Error>> {
    let (_, inside, _) = element(signed)?;
    let (_, mut fields, rest) = element(inside)?;
    let (algorithm, _, _) = element(rest)?;
    let mut parts = Vec::new();
    while !fields.is_empty() {
        let (whole, _, rest) = element(fields)?;
        parts.push(if parts.len() == at { subject } else { whole });
        fields = rest;
    }
    let content = tagged(SEQUENCE, &parts);
    let sealed = key.sign(&content).map(|signature| {
        let signature = tagged(BIT_STRING, &[&[0], &signature]);
        tagged(SEQUENCE, &[&content, algorithm, &signature])
    });
    Some(sealed)
}

/// The first element of some DER, its content, and what follows.
fn element(der: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let first = usize::from(*der.get(1)?);
    let (head, length) = match first {
        0..=0x7f => (2, first),
        0x81..=0x84 => {
            let bytes = der.get(2..2 + (first - 0x80))?;
            (2 + bytes.len(), bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
        }
        _ => return None,
    };
    let end = head + length;
    Some((der.get(..end)?, der.get(head..end)?, der.get(end..)?))
}

fn tagged(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = content.len().to_be_bytes();
    let length: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
    let mut der = vec![tag];
    if content.len() > 0x7f {
        der.push(0x80 | length.len() as u8);
        der.extend(length);
    } else {
        der.push(content.len() as u8);
    }
    der.extend(content);
    der
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Where the subject stands among the fields of a request.
    pub const OF_REQUEST: usize = 1;

    const SET: u8 = 0x31;

    fn attribute(kind: u8, value: &str) -> Vec<u8> {
        tagged(SEQUENCE, &[&[0x06, 0x03, 0x55, 0x04, kind], &tagged(0x0c, &[value.as_bytes()])])
    }

    /// A name of organizations, all in one set as Go writes them or each in its own as OpenSSL does, and a common name.
    pub fn name(organizations: &[&str], in_one_set: bool, common_name: &str) -> Vec<u8> {
        let organizations: Vec<Vec<u8>> = organizations.iter().map(|one| attribute(10, one)).collect();
        let mut sets: Vec<Vec<u8>> = match in_one_set {
            true => vec![tagged(SET, &[&organizations.concat()])],
            false => organizations.iter().map(|one| tagged(SET, &[one])).collect(),
        };
        sets.push(tagged(SET, &[&attribute(3, common_name)]));
        tagged(SEQUENCE, &[&sets.concat()])
    }

    #[test]
    fn lengths_are_written_as_they_are_read() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0x1_0000] {
            let content = vec![7; length];
            let der = tagged(SEQUENCE, &[&content]);
            let followed = [&*der, &[1, 2]].concat();
            assert_eq!(element(&followed), Some((&*der, &*content, &[1, 2][..])), "{length}");
            assert_eq!(element(&der[..der.len() - 1]), None, "{length}, cut short");
        }
        for broken in [&[][..], &[0x30], &[0x30, 0x80], &[0x30, 0x85, 0, 0, 0, 0, 0], &[0x30, 0x82, 1]] {
            assert_eq!(element(broken), None, "{broken:?}");
        }
    }
}
