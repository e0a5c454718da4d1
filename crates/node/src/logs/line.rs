//! One line of a log file: `TIME STREAM TAGS CONTENT`.

use jiff::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    Stdout,
    Stderr,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub time: Timestamp,
    /// The time as it was written, which is how it is shown again.
    pub time_text: String,
    pub stream: StreamKind,
    /// What the container wrote; with its newline, unless more of the same line follows.
    pub content: Vec<u8>,
}

/// Parses a line, with or without its newline; `None` where it is not in the format.
pub fn parse(bytes: &[u8]) -> Option<Line> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let mut parts = bytes.splitn(4, |byte| *byte == b' ');
    let time_text = std::str::from_utf8(parts.next()?).ok()?;
    let time = time_text.parse().ok()?;
    let stream = match parts.next()? {
        b"stdout" => StreamKind::Stdout,
        b"stderr" => StreamKind::Stderr,
        _ => return None,
    };
    let tags = parts.next()?;
    let partial = tags.split(|byte| *byte == b':').next() == Some(b"P");
    let mut content = parts.next().unwrap_or_default().to_vec();
    if !partial {
        content.push(b'\n');
    }
    Some(Line { time, time_text: time_text.to_owned(), stream, content })
}
