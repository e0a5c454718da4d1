//! Finding the last lines of a log, which may reach back into files that were rotated away.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use super::line::{Line, parse};

const BLOCK: u64 = 64 * 1024;

/// The files of one run, the oldest first: those rotated away, then the present one.
pub fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    let prefix = path.file_name().map(|name| format!("{}.", name.to_string_lossy())).unwrap_or_default();
    if let Some(parent) = path.parent() {
        match fs::read_dir(parent) {
            Ok(entries) => {
                for entry in entries {
                    let entry = entry?;
                    if entry.file_name().to_string_lossy().starts_with(&prefix) {
                        all.push(entry.path());
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    all.sort();
    all.push(path.to_owned());
    Ok(all)
}

/// Where to begin so that `lines` lines follow: how many of `files` to skip, and the offset in the next one.
pub fn start(files: &[PathBuf], lines: u64) -> io::Result<(usize, u64)> {
    let mut wanted = lines;
    for (index, path) in files.iter().enumerate().rev() {
        let mut file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        let (offset, found) = last_lines(&mut file, wanted)?;
        if found >= wanted {
            return Ok((index, offset));
        }
        wanted -= found;
    }
    Ok((0, 0))
}

/// The offset of the last `wanted` lines and how many lines there are from it on, reading backwards.
fn last_lines(file: &mut File, wanted: u64) -> io::Result<(u64, u64)> {
    let end = file.seek(SeekFrom::End(0))?;
    if wanted == 0 {
        return Ok((end, 0));
    }
    let mut at = end;
    let mut newlines = 0;
    let mut block = Vec::new();
    while at > 0 {
        let from = at.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(from))?;
        block.resize(usize::try_from(at - from).unwrap_or(0), 0);
        file.read_exact(&mut block)?;
        for (index, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let offset = from + index as u64;
            // The newline at the very end closes the last line and opens none.
            if offset + 1 == end {
                continue;
            }
            newlines += 1;
            if newlines == wanted {
                return Ok((offset + 1, wanted));
            }
        }
        at = from;
    }
    Ok((0, if end == 0 { 0 } else { newlines + 1 }))
}

/// The last lines of one file, parsed. Blocking.
pub fn tail_lines(path: &Path, lines: usize) -> io::Result<Vec<Line>> {
    let mut file = File::open(path)?;
    let (offset, _) = last_lines(&mut file, lines as u64)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes.split_inclusive(|byte| *byte == b'\n').filter_map(parse).collect())
}
