use std::{fs, io::Write, path::Path, time::Duration};

use tokio::sync::mpsc;

use super::{Options, StreamKind, line::parse, stream, tail_lines};

fn line(second: u32, stream: &str, tag: &str, text: &str) -> String {
    format!("2026-01-01T00:00:{second:02}.000000001Z {stream} {tag} {text}\n")
}

#[test]
fn lines_are_parsed() {
    for (text, expected) in [
        ("2026-01-01T00:00:01.5Z stdout F hello world\n", Some((StreamKind::Stdout, "hello world\n"))),
        ("2026-01-01T00:00:01.5Z stderr P half", Some((StreamKind::Stderr, "half"))),
        ("2026-01-01T00:00:01.5Z stdout P:x half", Some((StreamKind::Stdout, "half"))),
        ("2026-01-01T00:00:01+02:00 stdout F \n", Some((StreamKind::Stdout, "\n"))),
        ("2026-01-01T00:00:01Z stdout F\n", Some((StreamKind::Stdout, "\n"))),
        ("yesterday stdout F x\n", None),
        ("2026-01-01T00:00:01Z stdlog F x\n", None),
        ("\n", None),
    ] {
        let found = parse(text.as_bytes());
        let found = found.as_ref().map(|line| (line.stream, std::str::from_utf8(&line.content).unwrap()));
        assert_eq!(found, expected, "{text:?}");
    }
}

async fn read(path: &Path, options: Options) -> String {
    let (out, mut lines) = mpsc::channel(4);
    let reading = async { stream(path, &options, || async { false }, out).await.unwrap() };
    let collecting = async {
        let mut all = Vec::new();
        while let Some(bytes) = lines.recv().await {
            all.extend_from_slice(&bytes);
        }
        String::from_utf8(all).unwrap()
    };
    tokio::join!(reading, collecting).1
}

/// Two files that were rotated away and the present one, with lines 0 to 8.
fn rotated(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("0.log");
    for (file, seconds) in [("0.log.20260101-000001", 0..3), ("0.log.20260101-000002", 3..6), ("0.log", 6..9)] {
        let text: String = seconds
            .map(|second| line(second, if second % 2 == 0 { "stdout" } else { "stderr" }, "F", &second.to_string()))
            .collect();
        fs::write(dir.join(file), text).unwrap();
    }
    path
}

#[tokio::test]
async fn what_is_wanted_is_read_through_all_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = rotated(dir.path());
    let all = Options::default;
    let since = |text: &str| Some(text.parse().unwrap());
    for (name, options, expected) in [
        ("all", all(), "0 1 2 3 4 5 6 7 8"),
        ("tail in one file", Options { tail_lines: Some(2), ..all() }, "7 8"),
        ("tail over files", Options { tail_lines: Some(5), ..all() }, "4 5 6 7 8"),
        ("tail of everything", Options { tail_lines: Some(99), ..all() }, "0 1 2 3 4 5 6 7 8"),
        ("no lines", Options { tail_lines: Some(0), ..all() }, ""),
        ("since", Options { since: since("2026-01-01T00:00:07Z"), ..all() }, "7 8"),
        ("one stream", Options { stream: Some(StreamKind::Stderr), ..all() }, "1 3 5 7"),
        ("limit", Options { limit_bytes: Some(3), ..all() }, "0 1"),
        ("limit within a line", Options { limit_bytes: Some(4), ..all() }, "0 1"),
    ] {
        let text = read(&path, options).await;
        assert_eq!(text.split_whitespace().collect::<Vec<_>>().join(" "), expected, "{name}");
    }
    let stamped = read(&path, Options { tail_lines: Some(1), timestamps: true, ..all() }).await;
    assert_eq!(stamped, "2026-01-01T00:00:08.000000001Z 8\n");
}

#[tokio::test]
async fn partial_lines_are_put_together() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    fs::write(
        &path,
        [line(0, "stdout", "P", "one "), line(0, "stdout", "F", "line"), line(1, "stdout", "F", "next")].concat(),
    )
    .unwrap();
    assert_eq!(read(&path, Options::default()).await, "one line\nnext\n");
}

#[tokio::test]
async fn a_log_that_is_not_there_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(read(&dir.path().join("gone/0.log"), Options::default()).await, "");
}

#[test]
fn the_tail_is_found_in_a_long_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    let text: String = (0..20_000).map(|number| line(number % 60, "stdout", "F", &number.to_string())).collect();
    fs::write(&path, text).unwrap();
    let last: Vec<_> = tail_lines(&path, 3).unwrap().into_iter().map(|line| line.content).collect();
    assert_eq!(last, [b"19997\n".to_vec(), b"19998\n".to_vec(), b"19999\n".to_vec()]);
}

#[tokio::test]
async fn a_followed_log_goes_on_through_a_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    fs::write(&path, line(0, "stdout", "F", "first")).unwrap();
    let (out, mut lines) = mpsc::channel(4);
    let (stop, running) = tokio::sync::watch::channel(true);
    let following = {
        let path = path.clone();
        tokio::spawn(async move {
            let options = Options { follow: true, ..Options::default() };
            stream(&path, &options, || std::future::ready(*running.borrow()), out).await
        })
    };
    let mut next = async || {
        let bytes = tokio::time::timeout(Duration::from_secs(120), lines.recv()).await.expect("a line in time");
        bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    };
    assert_eq!(next().await.as_deref(), Some("first\n"));
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    let second = line(1, "stdout", "F", "second");
    // In two writes: half a line is not shown.
    file.write_all(&second.as_bytes()[..10]).unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;
    file.write_all(&second.as_bytes()[10..]).unwrap();
    assert_eq!(next().await.as_deref(), Some("second\n"));
    fs::rename(&path, dir.path().join("0.log.20260101-000000")).unwrap();
    fs::write(&path, line(2, "stdout", "F", "third")).unwrap();
    assert_eq!(next().await.as_deref(), Some("third\n"));
    stop.send_replace(false);
    assert_eq!(next().await, None);
    following.await.unwrap().unwrap();
}
