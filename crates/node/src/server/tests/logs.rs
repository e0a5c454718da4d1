use std::time::Duration;

use futures::StreamExt;
use http::StatusCode;
use tokio_tungstenite::tungstenite::Message;

use super::{super::logs::wanted, Host};

#[tokio::test]
async fn logs_are_served_and_refused_with_the_reason() {
    let host = Host::new().await;
    std::fs::create_dir_all(&host.logs).unwrap();
    let text = "2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:01Z stderr F two\n";
    std::fs::write(host.logs.join("0.log"), text).unwrap();
    for (path, status, expected) in [
        ("/containerLogs/d/p/a", StatusCode::OK, "one\ntwo\n"),
        ("/containerLogs/d/p/a?tailLines=1", StatusCode::OK, "two\n"),
        ("/containerLogs/d/p/b", StatusCode::BAD_REQUEST, "container \"b\" not found in pod \"p\""),
        ("/containerLogs/d/gone/a", StatusCode::NOT_FOUND, "pod \"gone_d\" not found"),
        (
            "/containerLogs/d/p/a?previous=true",
            StatusCode::BAD_REQUEST,
            "previous terminated container \"a\" in pod \"p\" not found",
        ),
        (
            "/containerLogs/d/p/a?tailLines=-1",
            StatusCode::BAD_REQUEST,
            "tailLines must be a number that is not negative, not \"-1\"",
        ),
    ] {
        assert_eq!(host.get(path).await, (status, expected.to_owned()), "{path}");
    }
}

/// As upstream's conformance test asks for them, and as clients do that cannot read bytes.
#[tokio::test]
async fn logs_come_over_web_sockets() {
    let host = Host::new().await;
    std::fs::create_dir_all(&host.logs).unwrap();
    std::fs::write(host.logs.join("0.log"), "2026-01-01T00:00:00Z stdout F container is alive\n").unwrap();
    for (protocol, expected) in [
        ("binary.k8s.io", &b"container is alive\n"[..]),
        ("", b"container is alive\n"),
        ("base64.binary.k8s.io", b"Y29udGFpbmVyIGlzIGFsaXZlCg=="),
    ] {
        let mut socket = host.socket("/containerLogs/d/p/a", protocol).await;
        let mut heard = Vec::new();
        loop {
            let message = tokio::time::timeout(Duration::from_secs(120), socket.next()).await.expect("an end in time");
            match message.expect("a goodbye").unwrap() {
                Message::Close(_) => break,
                message => {
                    assert_eq!(message.is_text(), protocol.starts_with("base64"), "{message:?}");
                    heard.push(message.into_data());
                }
            }
        }
        assert_eq!(heard[0], b""[..], "the first message only says that there is something to hear");
        assert_eq!(heard[1..].concat(), expected, "{protocol}");
    }
}

/// Refusals come before the connection changes, so that clients see what is wrong.
#[tokio::test]
async fn logs_over_web_sockets_are_refused_with_the_reason() {
    let host = Host::new().await;
    for (path, protocol, status, expected) in [
        ("/containerLogs/d/p/b", "binary.k8s.io", StatusCode::BAD_REQUEST, "container \"b\" not found in pod \"p\""),
        (
            "/containerLogs/d/p/a",
            "channel.k8s.io",
            StatusCode::FORBIDDEN,
            "requested protocol(s) are not supported: [channel.k8s.io]; supports [ binary.k8s.io base64.binary.k8s.io]",
        ),
    ] {
        assert_eq!(host.refused_socket(path, protocol).await, (status, expected.to_owned()), "{path}");
    }
}

#[test]
fn log_options() {
    let now = "2026-01-01T00:01:00Z".parse().unwrap();
    let found = wanted("follow=true&sinceSeconds=60&limitBytes=5&timestamps=true&tailLines=all", now).unwrap();
    assert_eq!(found.options.since, Some("2026-01-01T00:00:00Z".parse().unwrap()));
    assert_eq!((found.options.follow, found.options.timestamps, found.previous), (true, true, false));
    assert_eq!((found.options.limit_bytes, found.options.tail_lines), (Some(5), None));
    assert!(wanted("sinceTime=yesterday", now).is_err());
}
