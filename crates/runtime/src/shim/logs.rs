//! Container logs, one line each as `TIME STREAM TAG TEXT`: the format of CRI, which `kubectl logs` is read from.
//! The tag is `F` for a full line and `P` for a part of one that was too long to hold.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::PathBuf,
};

/// A line longer than this is written in parts.
const MAX_LINE_BYTES: usize = 16 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// One container's log: what has been read but not yet ended by a newline waits here.
#[derive(Debug)]
pub struct Log {
    path: Option<PathBuf>,
    file: Option<File>,
    pending: [Vec<u8>; 2],
    out: Vec<u8>,
}

impl Log {
    pub fn open(path: Option<PathBuf>) -> io::Result<Self> {
        let mut log = Self { path, file: None, pending: [Vec::new(), Vec::new()], out: Vec::new() };
        log.reopen()?;
        Ok(log)
    }

    /// Opens the path anew: what had the name was moved away by rotation.
    pub fn reopen(&mut self) -> io::Result<()> {
        if let Some(path) = &self.path {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            self.file = Some(OpenOptions::new().create(true).append(true).open(path)?);
        }
        Ok(())
    }

    /// Takes output in; whole lines go to the file. A write that fails loses its lines and nothing more: a full disk
    /// must not stop the container.
    pub fn write(&mut self, stream: Stream, mut bytes: &[u8], now: &dyn Fn() -> String) {
        if self.file.is_none() {
            return;
        }
        let time = now();
        let pending = &mut self.pending[stream as usize];
        while !bytes.is_empty() {
            let room = MAX_LINE_BYTES - pending.len();
            let window = &bytes[..bytes.len().min(room)];
            match window.iter().position(|b| *b == b'\n') {
                Some(end) => {
                    line(&mut self.out, &time, stream, 'F', pending, &window[..end]);
                    pending.clear();
                    bytes = &bytes[end + 1..];
                }
                None if window.len() == room => {
                    line(&mut self.out, &time, stream, 'P', pending, window);
                    pending.clear();
                    bytes = &bytes[room..];
                }
                None => {
                    pending.extend_from_slice(window);
                    bytes = &bytes[window.len()..];
                }
            }
        }
        self.flush();
    }

    /// Writes out what was not ended by a newline; nothing more will come.
    pub fn finish(&mut self, now: &dyn Fn() -> String) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let pending = std::mem::take(&mut self.pending[stream as usize]);
            if !pending.is_empty() {
                line(&mut self.out, &now(), stream, 'F', &pending, &[]);
            }
        }
        self.flush();
        self.file = None;
    }

    fn flush(&mut self) {
        if let Some(file) = &mut self.file {
            let _ = file.write_all(&self.out);
        }
        self.out.clear();
        // One burst of long lines must not keep the shim large for ever.
        self.out.shrink_to(MAX_LINE_BYTES);
        self.pending.iter_mut().for_each(|p| {
            if p.is_empty() {
                p.shrink_to(256)
            }
        });
    }
}

fn line(out: &mut Vec<u8>, time: &str, stream: Stream, tag: char, head: &[u8], tail: &[u8]) {
    // Writing into memory does not fail.
    let _ = write!(out, "{time} {} {tag} ", stream.name());
    out.extend_from_slice(head);
    out.extend_from_slice(tail);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(chunks: &[(Stream, &[u8])]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c/0.log");
        let mut log = Log::open(Some(path.clone())).unwrap();
        let now = || "T".to_owned();
        chunks.iter().for_each(|(stream, bytes)| log.write(*stream, bytes, &now));
        log.finish(&now);
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn lines_are_tagged_by_how_they_ended() {
        use Stream::{Stderr, Stdout};
        let long = vec![b'x'; MAX_LINE_BYTES + 1];
        let long_line = [&long[..], b"\n"].concat();
        let long_expected = format!("T stdout P {}\nT stdout F x\n", "x".repeat(MAX_LINE_BYTES));
        type Row<'a> = (&'a [(Stream, &'a [u8])], &'a str);
        let table: [Row<'_>; 6] = [
            (&[(Stdout, b"a\nb\n")], "T stdout F a\nT stdout F b\n"),
            (&[(Stdout, b"he"), (Stderr, b"err\n"), (Stdout, b"llo\n")], "T stderr F err\nT stdout F hello\n"),
            (&[(Stdout, b"no newline")], "T stdout F no newline\n"),
            (&[(Stdout, b"\n\n")], "T stdout F \nT stdout F \n"),
            (&[(Stdout, b"")], ""),
            (&[(Stdout, &long_line)], &long_expected),
        ];
        for (chunks, expected) in table {
            assert_eq!(written(chunks), expected);
        }
    }

    #[test]
    fn rotation_goes_on_in_a_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = Log::open(Some(path.clone())).unwrap();
        let now = || "T".to_owned();
        log.write(Stream::Stdout, b"one\ntw", &now);
        std::fs::rename(&path, dir.path().join("0.log.1")).unwrap();
        log.reopen().unwrap();
        log.write(Stream::Stdout, b"o\n", &now);
        assert_eq!(std::fs::read_to_string(dir.path().join("0.log.1")).unwrap(), "T stdout F one\n");
        assert_eq!(std::fs::read_to_string(path).unwrap(), "T stdout F two\n");
    }
}
