//! PEM (RFC 7468), read as Go's `encoding/pem` reads it: what stands between blocks, and what is no whole block, is passed
//! over.

use std::fmt::Write as _;

use base64::{Engine, prelude::BASE64_STANDARD};

pub struct Block<'a> {
    pub label: &'a str,
    /// There are lines of `Key: value` before the content (RFC 1421).
    pub has_headers: bool,
    pub bytes: Vec<u8>,
}

/// The blocks of a text, in its order.
pub fn blocks(text: &str) -> impl Iterator<Item = Block<'_>> {
    let mut lines = text.lines().map(str::trim_end);
    let mut open: Option<(&str, bool, String)> = None;
    std::iter::from_fn(move || {
        for line in lines.by_ref() {
            if let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----")) {
                open = Some((label, false, String::new()));
            } else if let Some(end) = line.strip_prefix("-----END ") {
                let Some((label, has_headers, content)) = open.take() else { continue };
                if let (Some(ended), Ok(bytes)) = (end.strip_suffix("-----"), BASE64_STANDARD.decode(content))
                    && ended == label
                {
                    return Some(Block { label, has_headers, bytes });
                }
            } else if let Some((_, has_headers, content)) = &mut open {
                if content.is_empty() && line.contains(':') {
                    *has_headers = true;
                } else {
                    content.extend(line.chars().filter(|c| !matches!(c, ' ' | '\t')));
                }
            }
        }
        None
    })
}

/// One block, ended by a line break.
pub fn encode(label: &str, bytes: &[u8]) -> String {
    let content = BASE64_STANDARD.encode(bytes);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = content.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        _ = writeln!(pem, "{line}");
        rest = after;
    }
    _ = writeln!(pem, "-----END {label}-----");
    pem
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The blocks, as `LABEL=content`, with a `+` where there are headers.
    fn read(text: &str) -> String {
        let one = |block: Block<'_>| {
            let mark = if block.has_headers { "+" } else { "" };
            format!("{}{mark}={}", block.label, String::from_utf8_lossy(&block.bytes))
        };
        blocks(text).map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn whole_blocks_are_read_and_the_rest_is_passed_over() {
        for (text, expected) in [
            ("", ""),
            ("words\n-----BEGIN A B-----\neHg=\n-----END A B-----\nwords", "A B=xx"),
            ("-----BEGIN A-----\r\neH\r\n g=\t\r\n-----END A-----  \r\n", "A=xx"),
            ("-----BEGIN A-----\nKey: value\n\neHg=\n-----END A-----\n", "A+=xx"),
            ("-----BEGIN A-----\n-----END A-----\n-----BEGIN B-----\neHg=\n-----END B-----", "A= B=xx"),
            ("-----BEGIN A-----\neHg=\n-----END B-----\n-----BEGIN C-----\neHg=\n-----END C-----", "C=xx"),
            ("-----BEGIN A-----\neHg=\n-----BEGIN C-----\neHg=\n-----END C-----", "C=xx"),
            ("-----BEGIN A-----\n!\n-----END A-----\n-----END A-----", ""),
            (" -----BEGIN A-----\neHg=\n-----END A-----", ""),
            ("-----BEGIN A-----\neHg=", ""),
        ] {
            assert_eq!(read(text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(list in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..4)) {
            let text: String = list.iter().map(|bytes| encode("X", bytes)).collect();
            prop_assert!(text.lines().all(|line| line.len() <= 64));
            prop_assert_eq!(blocks(&text).map(|block| block.bytes).collect::<Vec<_>>(), list);
        }
    }
}
