//! Descriptions at a column, as kubectl sets them.

/// Lines end at this column.
const WIDTH: usize = 80;

/// Each line of `text` on as many lines as it needs, all moved to the right by `indent`.
pub(super) fn wrap(text: &str, indent: usize) -> String {
    let (fill, limit) = (" ".repeat(indent), WIDTH.saturating_sub(indent));
    text.split('\n').flat_map(|line| broken(line, limit)).map(|line| format!("{fill}{line}\n")).collect()
}

/// A line broken at blanks. Those at which it is broken are gone; others stay, at its beginning too. A word that is
/// longer than a line is left whole.
fn broken(line: &str, limit: usize) -> Vec<String> {
    let is_blank = |c: char| c.is_whitespace() && c != '\u{a0}';
    let length = |text: &str| text.chars().count();
    let (mut lines, mut last, mut rest) = (Vec::new(), String::new(), line);
    while !rest.is_empty() {
        let (blanks, after) = rest.split_at(rest.find(|c| !is_blank(c)).unwrap_or(rest.len()));
        let (word, after) = after.split_at(after.find(is_blank).unwrap_or(after.len()));
        let before = length(&last) + length(blanks);
        if before + length(word) <= limit || (before <= 1 && !word.is_empty()) {
            last.push_str(blanks);
        } else if !word.is_empty() {
            lines.push(std::mem::take(&mut last));
        }
        last.push_str(word);
        rest = after;
    }
    lines.push(last);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: &[&str]) {
        assert_eq!(broken(line, 10), expected, "{line:?}");
    }

    #[test]
    fn lines_are_broken_at_blanks() {
        check("", &[""]);
        check("one two", &["one two"]);
        check("one two th", &["one two th"]);
        check("one two thr", &["one two", "thr"]);
        check("one  two   three", &["one  two", "three"]);
        check("one two\u{a0}three", &["one", "two\u{a0}three"]);
        check("größe über", &["größe über"]);
    }

    #[test]
    fn blanks_around_a_line() {
        check(" - one", &[" - one"]);
        check("   one two", &["   one two"]);
        check("   one twos", &["   one", "twos"]);
        check("one  ", &["one  "]);
        check("one two th  ", &["one two th"]);
    }

    #[test]
    fn long_words_stay_whole() {
        check("seventeenletters1", &["seventeenletters1"]);
        check("a seventeenletters1 b", &["a", "seventeenletters1", "b"]);
    }

    #[test]
    fn lines_are_moved_to_the_right() {
        assert_eq!(wrap("one\n\n - two", 2), "  one\n  \n   - two\n");
        let words = ["word"; 20].join(" ");
        let lines = wrap(&words, 4);
        assert_eq!(lines.lines().map(str::len).collect::<Vec<_>>(), [78, 28]);
    }
}
