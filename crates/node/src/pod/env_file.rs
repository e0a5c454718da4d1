//! Files of variables that a container writes for others (KEP-3721): a small part of what a shell reads, where every value
//! is in single quotes and may go over several lines.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use knarr_os::root::Root;
use rustix::fs::OFlags;

/// A file may have this many bytes, and a line as many as upstream's reader takes.
const MAX_BYTES: u64 = 1 << 20;
const MAX_LINE_BYTES: usize = 64 << 10;

/// The value of a variable of the file at a path inside a volume; empty where the file does not have it.
pub fn read(volume: &Path, path: &Path, key: &str) -> io::Result<String> {
    // The pod's containers made all of it: links lead nowhere else, and what never ends is not waited for.
    let opened = Root::open(volume)?.get(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
    let file = File::from(opened);
    let bad = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    if !file.metadata()?.is_file() {
        return Err(bad("it is not a file".to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(bad(format!("it is larger than {MAX_BYTES} bytes")));
    }
    value_of(&String::from_utf8_lossy(&bytes), key).map_err(bad)
}

fn value_of(text: &str, key: &str) -> Result<String, String> {
    let mut lines = text.lines().enumerate().map(|(i, line)| (i + 1, line));
    while let Some((number, line)) = lines.next() {
        let bad =
            |number: usize, why: &str| Err(format!("invalid environment variable format at line {number}: {why}"));
        if line.len() > MAX_LINE_BYTES {
            return bad(number, "token too long");
        }
        let line = line.trim_start_matches([' ', '\t']);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else { return bad(number, "missing '='") };
        match name.trim_end_matches([' ', '\t']) {
            "" => return bad(number, "empty variable name"),
            trimmed if trimmed != name => return bad(number, "whitespace before '=' is not allowed"),
            _ => {}
        }
        // As in a shell, where `A= 'b'` leaves A empty.
        if value.starts_with([' ', '\t']) {
            if name == key {
                return Ok(String::new());
            }
            continue;
        }
        let Some(mut rest) = value.strip_prefix('\'') else {
            return bad(number, "value must be enclosed in single quotes");
        };
        let (mut whole, mut last) = (String::new(), number);
        let after = loop {
            if let Some((end, after)) = rest.split_once('\'') {
                whole.push_str(end);
                break after.trim_start_matches([' ', '\t']);
            }
            whole.push_str(rest);
            whole.push('\n');
            let Some((number, line)) = lines.next() else {
                return Err(format!(
                    "invalid environment variable format starting at line {number}: unclosed single quote"
                ));
            };
            (last, rest) = (number, line);
        };
        if !after.is_empty() && !after.starts_with('#') {
            return bad(last, "unexpected content after closing quote");
        }
        if name == key {
            return Ok(whole);
        }
    }
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_upstream_reads_them() {
        let ok = |value: &str| Ok::<_, String>(value.to_owned());
        let bad = |line: usize, why: &str| Err(format!("invalid environment variable format at line {line}: {why}"));
        for (text, expected) in [
            ("K='v'", ok("v")),
            ("  K='v'  # why\n", ok("v")),
            ("\n \t\n# K='no'\nA='x'\nK='v'\r\n", ok("v")),
            ("K='a # b = c $D \\n'", ok("a # b = c $D \\n")),
            ("A='1\nK=2'\nK='one\n\ntwo'", ok("one\n\ntwo")),
            ("K='first'\nK='second'", ok("first")),
            ("K=''", ok("")),
            ("K= 'v'", ok("")),
            ("A= v\nK='v'", ok("v")),
            ("OTHER='v'", ok("")),
            ("K='v'\nnonsense", ok("v")),
            ("nonsense\nK='v'", bad(1, "missing '='")),
            ("A='x'\n='v'", bad(2, "empty variable name")),
            ("K ='v'", bad(1, "whitespace before '=' is not allowed")),
            ("K=v", bad(1, "value must be enclosed in single quotes")),
            ("K=\"v\"", bad(1, "value must be enclosed in single quotes")),
            ("K='v'x", bad(1, "unexpected content after closing quote")),
            ("K='a\nb' c", bad(2, "unexpected content after closing quote")),
            (
                "A='x'\nK='v\nB",
                Err("invalid environment variable format starting at line 2: unclosed single quote".to_owned()),
            ),
        ] {
            assert_eq!(value_of(text, "K"), expected, "{text:?}");
        }
    }

    #[test]
    fn a_file_is_of_its_volume_and_has_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        std::fs::create_dir(&volume).unwrap();
        std::fs::write(dir.path().join("secret"), "K='outside'").unwrap();
        std::fs::write(volume.join("good"), "K='v'").unwrap();
        std::os::unix::fs::symlink("/good", volume.join("link")).unwrap();
        std::os::unix::fs::symlink("../secret", volume.join("out")).unwrap();
        std::fs::write(volume.join("large"), vec![b'\n'; MAX_BYTES as usize + 1]).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            volume.join("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        let of = |name: &str| read(&volume, Path::new(name), "K").map_err(|e| e.to_string());
        assert_eq!(of("good").as_deref(), Ok("v"));
        assert_eq!(of("link").as_deref(), Ok("v"));
        for (name, why) in
            [("out", "No such file"), ("pipe", "not a file"), ("large", "larger than"), (".", "not a file")]
        {
            assert!(of(name).is_err_and(|e| e.contains(why)), "{name}: {:?}", of(name));
        }
    }
}
