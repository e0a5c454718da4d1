//! How deeply a YAML document may nest, found before it is parsed. The parser takes time in the square of the depth of
//! open brackets, and looks at the depth only when it has read all: a body of brackets alone would keep it for minutes.
//!
//! Where text stands outside of brackets, only a parser knows what it means. So each bracket is taken for one that
//! opens: from there on it is exact what is quoted, what is a comment and what closes. What a bracket in plain text leads
//! to is read for nothing, and ends where it closes.

/// Deeper than anyone writes, and than an object may be.
const MAX_DEPTH: usize = 1000;
/// Brackets in texts may never close, and then all that follows is read again. So much of it is read at most,
/// for each byte and at least.
const STEPS_PER_BYTE: usize = 64;
const LEAST_STEPS: usize = 20_000_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Where something may begin.
    Between,
    Plain,
    /// After blanks in plain text, where a comment may begin.
    PlainBlank,
    Single,
    Double,
    Escaped,
    Comment,
    /// An anchor, an alias or a tag: what it is of may begin after it.
    Word,
    /// `!<`, up to `>`.
    Tag,
}

/// What ends a line, to YAML.
const BREAKS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];

/// True where the document would cost its parser more than any that is meant well.
pub fn is_too_deep(text: &[u8]) -> bool {
    if let Ok(text) = std::str::from_utf8(text)
        && text.contains(BREAKS)
    {
        return is_too_deep(text.replace(BREAKS, "\n").as_bytes());
    }
    if text.split(|byte| matches!(byte, b'\n' | b'\r')).any(|line| indicators(line) > MAX_DEPTH) {
        return true;
    }
    let mut steps = text.len().saturating_mul(STEPS_PER_BYTE).max(LEAST_STEPS);
    let opens = text.iter().enumerate().filter(|(_, byte)| matches!(byte, b'[' | b'{'));
    opens.into_iter().any(|(at, _)| is_deep_from(&text[at..], &mut steps))
}

/// How many lists in lists, and keys of keys, one line begins.
fn indicators(line: &[u8]) -> usize {
    let prefix = line.iter().take_while(|byte| matches!(byte, b'-' | b'?' | b':' | b' ' | b'\t'));
    prefix.filter(|byte| matches!(byte, b'-' | b'?' | b':')).count()
}

fn is_deep_from(text: &[u8], steps: &mut usize) -> bool {
    let (mut place, mut depth) = (Place::Between, 0_usize);
    for (at, byte) in text.iter().enumerate() {
        let Some(rest) = steps.checked_sub(1) else { return true };
        *steps = rest;
        let next = text.get(at + 1).copied().unwrap_or(b'\n');
        place = match (place, byte) {
            (Place::Between, b'\'') => Place::Single,
            (Place::Between, b'"') => Place::Double,
            (Place::Between | Place::PlainBlank, b'#') => Place::Comment,
            (Place::Between, b'!') if next == b'<' => Place::Tag,
            (Place::Between, b'!' | b'&' | b'*') => Place::Word,
            (Place::Between | Place::Word, b' ' | b'\t' | b'\r' | b'\n') => Place::Between,
            (Place::Between, b':' | b'?') => Place::Between,
            (Place::Between | Place::Word | Place::Plain | Place::PlainBlank, b'[' | b'{') => {
                depth += 1;
                Place::Between
            }
            (Place::Between | Place::Word | Place::Plain | Place::PlainBlank, b']' | b'}') => {
                depth -= 1;
                Place::Between
            }
            (Place::Between | Place::Word | Place::Plain | Place::PlainBlank, b',') => Place::Between,
            (Place::Plain | Place::PlainBlank, b':') if b" \t\r\n,[]{}".contains(&next) => Place::Between,
            (Place::Plain | Place::PlainBlank, b' ' | b'\t' | b'\r' | b'\n') => Place::PlainBlank,
            (Place::Between | Place::Plain | Place::PlainBlank, _) => Place::Plain,
            // Two quotes in single quotes stand for one: the text ends, and begins again at once.
            (Place::Single, b'\'') | (Place::Double, b'"') | (Place::Comment, b'\n' | b'\r') | (Place::Tag, b'>') => {
                Place::Between
            }
            (Place::Double, b'\\') => Place::Escaped,
            (Place::Escaped, _) => Place::Double,
            (place, _) => place,
        };
        if depth > MAX_DEPTH {
            return true;
        }
        if depth == 0 {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nests_without_end_is_too_deep() {
        let rows = [
            ("[", "", true),
            ("{a: ", "", true),
            ("x: [[", "]\n", true),
            ("- ", "", true),
            ("? - ", "", true),
            // Brackets that do not close what they seem to.
            ("[\"]\", ", "", true),
            ("[']', ", "", true),
            ("['''\", ]', ", "", true),
            ("[\"\\\"]\", ", "", true),
            ("[\"\\\\\", ", "", true),
            ("[\"\\\\\"], ", "", false),
            ("[ # ]\n", "", true),
            ("[a b, # ]\n", "", true),
            ("[!<]> a, ", "", true),
            ("[it's, ", "", true),
            ("[-\"]\", ", "]", false),
            ("[&a \"]\", ", "", true),
            ("[!a ']', ", "", true),
            ("[a\u{2028}# ]\n", "", true),
            ("[ # ]\r", "", true),
            // What people write.
            ("[a, b], ", "", false),
            ("- {a: [1, 'x]', \"y}\"], b: it's # [\n}\n", "", false),
            ("b: |\n  {\"x\": [\"]\"]}\n", "", false),
            ("- a\n", "", false),
            ("text (see [1] and [2]), it's\n", "", false),
            ("", "a\n", false),
        ];
        for (first, last, expected) in rows {
            let text = first.repeat(5000) + &last.repeat(5000);
            assert_eq!(is_too_deep(text.as_bytes()), expected, "{first:?} {last:?}");
        }
    }

    /// Up to a thousand of them: quoted, they seem to open what the next quote hides.
    #[test]
    fn quoted_brackets_are_no_depth() {
        let text = "a: '['\nb: \"{\"\n".repeat(200);
        assert!(!is_too_deep(text.as_bytes()));
    }

    #[test]
    fn the_search_itself_ends() {
        // Each bracket seems to open what is quoted to the end.
        let text = "[x\"a\" \"[ '\n".repeat(20_000);
        assert!(is_too_deep(text.as_bytes()));
        assert!(!is_too_deep(&[b"x [ \"".as_slice(), &b"a".repeat(1 << 20)].concat()));
    }
}
