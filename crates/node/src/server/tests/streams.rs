//! Exec, attach and port-forward over WebSocket, in every dialect that clients speak.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::{SinkExt, StreamExt};
use http::StatusCode;
use knarr_streaming::channels;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use super::Host;

/// Everything a session sends, by channel, until it hangs up.
async fn hear<S>(socket: &mut WebSocketStream<S>) -> [Vec<u8>; 5]
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut heard: [Vec<u8>; 5] = Default::default();
    loop {
        let message = tokio::time::timeout(Duration::from_secs(120), socket.next()).await.expect("an answer in time");
        match message {
            Some(Ok(Message::Binary(bytes))) => heard[usize::from(bytes[0])].extend_from_slice(&bytes[1..]),
            Some(Ok(Message::Text(text))) => {
                let (channel, data) = text.split_at(1);
                heard[channel.parse::<usize>().unwrap()].extend(STANDARD.decode(data).unwrap());
            }
            Some(Ok(Message::Close(_))) | None => return heard,
            Some(Ok(_)) => {}
            Some(Err(error)) => panic!("{error}"),
        }
    }
}

/// What comes on the error channel says which dialect it is: a Status from the fourth version on, and before that the
/// message of an error, and of success nothing at all.
#[tokio::test]
async fn exec_speaks_every_dialect() {
    let host = Host::new().await;
    host.runtime.answer_command("ok", 0, "fine");
    host.runtime.answer_command("bad", 3, "oh");
    let path = |command: &str| format!("/exec/d/p/a?command={command}&stdout=1&stderr=1");
    for (protocol, has_status) in [
        ("", false),
        ("channel.k8s.io", false),
        ("base64.channel.k8s.io", false),
        ("v4.channel.k8s.io", true),
        ("v4.base64.channel.k8s.io", true),
        ("v5.channel.k8s.io", true),
    ] {
        for (command, output, code) in [("ok", "fine", 0), ("bad", "oh", 3)] {
            let heard = hear(&mut host.socket(&path(command), protocol).await).await;
            assert_eq!(String::from_utf8_lossy(&heard[1]), output, "{protocol}");
            let status = channels::exit_status(code);
            let error = match (has_status, code) {
                (true, _) => status.to_string(),
                (false, 0) => String::new(),
                (false, _) => status["message"].as_str().unwrap().to_owned(),
            };
            assert_eq!(String::from_utf8_lossy(&heard[3]), error, "{protocol}");
        }
    }
    let refused = host.refused_socket(&path("ok"), "v2.channel.k8s.io").await;
    let known = "[ channel.k8s.io base64.channel.k8s.io v4.channel.k8s.io v4.base64.channel.k8s.io v5.channel.k8s.io]";
    let why = format!("requested protocol(s) are not supported: [v2.channel.k8s.io]; supports {known}");
    assert_eq!(refused, (StatusCode::FORBIDDEN, why));
}

/// The first message is empty and says that the session has begun, on the first channel that the client reads.
#[tokio::test]
async fn sessions_begin_with_a_sign() {
    let host = Host::new().await;
    for (query, expected) in [
        ("stdin=1&stdout=1&stderr=1", Message::binary(&b"\x01"[..])),
        ("stdin=1&stderr=1", Message::binary(&b"\x02"[..])),
        ("stdin=1", Message::binary(&b"\x03"[..])),
    ] {
        let mut socket = host.socket(&format!("/exec/d/p/a?command=cat&{query}"), "channel.k8s.io").await;
        let first = tokio::time::timeout(Duration::from_secs(120), socket.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(first, expected, "{query}");
    }
}

/// Input in base64 arrives as what it stands for; what is no base64 is passed over.
#[tokio::test]
async fn input_may_be_text() {
    let host = Host::new().await;
    let path = "/exec/d/p/a?command=cat&stdin=1&stdout=1";
    let mut socket = host.socket(path, "base64.channel.k8s.io").await;
    for message in ["0aGVsbG8g", "0!", "0d29ybGQ="] {
        socket.send(Message::text(message)).await.unwrap();
    }
    let mut echoed = Vec::new();
    while echoed.len() < 11 {
        match tokio::time::timeout(Duration::from_secs(120), socket.next()).await.unwrap().unwrap().unwrap() {
            Message::Text(text) if text.starts_with('1') => echoed.extend(STANDARD.decode(&text[1..]).unwrap()),
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(String::from_utf8_lossy(&echoed), "hello world");
}

#[tokio::test]
async fn exec_runs_and_tells_how_it_ended() {
    let host = Host::new().await;
    host.runtime.answer_command("ok", 0, "fine");
    host.runtime.answer_command("bad", 3, "oh");
    for (command, output, status) in
        [("ok", "fine", json!({"metadata": {}, "status": "Success"})), ("bad", "oh", channels::exit_status(3))]
    {
        let path = format!("/exec/d/p/a?command={command}&stdout=true&stderr=true");
        let mut socket = host.socket(&path, "v5.channel.k8s.io, v4.channel.k8s.io").await;
        let heard = hear(&mut socket).await;
        assert_eq!(String::from_utf8_lossy(&heard[1]), output);
        assert_eq!(serde_json::from_slice::<Value>(&heard[3]).unwrap(), status);
    }
    assert_eq!(host.get("/exec/d/p/a?stdout=1").await.1, "you must specify at least 1 command");
    assert_eq!(host.get("/exec/d/p/a?command=x").await.1, "you must specify at least 1 of stdin, stdout, stderr");
    assert_eq!(host.get("/exec/d/p/b?command=x&stdout=1").await.1, "container not found (\"b\")");
}

/// The container's exit code is its own affair: who attached has seen everything.
#[tokio::test]
async fn attach_ends_well_however_the_container_does() {
    let host = Host::new().await;
    host.runtime.answer_command("attach", 3, "oh");
    let mut socket = host.socket("/attach/d/p/a?stdout=true", "v5.channel.k8s.io").await;
    let heard = hear(&mut socket).await;
    assert_eq!(String::from_utf8_lossy(&heard[1]), "oh");
    let status: Value = serde_json::from_slice(&heard[3]).unwrap();
    assert_eq!(status, json!({"metadata": {}, "status": "Success"}));
}

#[tokio::test]
async fn exec_carries_input_and_its_end() {
    let host = Host::new().await;
    let socket = host.socket("/exec/d/p/a?command=cat&stdin=true&stdout=true", "v5.channel.k8s.io").await;
    let sent: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    let (mut sink, stream) = socket.split();
    let sending = {
        let sent = sent.clone();
        tokio::spawn(async move {
            for chunk in sent.chunks(30_000) {
                sink.send(Message::binary([&[0], chunk].concat())).await.unwrap();
            }
            // Closes the channel of stdin, which ends `cat`.
            sink.send(Message::binary(vec![255, 0])).await.unwrap();
            sink
        })
    };
    let mut stream = stream;
    let (mut echoed, mut status) = (Vec::new(), Vec::new());
    while let Some(Ok(message)) = tokio::time::timeout(Duration::from_secs(120), stream.next()).await.unwrap() {
        match message {
            Message::Binary(bytes) if bytes[0] == 1 => echoed.extend_from_slice(&bytes[1..]),
            Message::Binary(bytes) if bytes[0] == 3 => status.extend_from_slice(&bytes[1..]),
            _ => {}
        }
    }
    drop(sending.await.unwrap());
    assert!(echoed == sent, "{} of {} bytes came back", echoed.len(), sent.len());
    assert_eq!(serde_json::from_slice::<Value>(&status).unwrap()["status"], "Success");
}

#[tokio::test]
async fn the_plain_port_forward_protocol() {
    let host = Host::new().await;
    let mut socket = host.socket("/portForward/d/p?ports=80&ports=1", "v4.channel.k8s.io").await;
    socket.send(Message::binary(b"\0abc".to_vec())).await.unwrap();
    let mut heard: [Vec<u8>; 4] = Default::default();
    while heard[0].len() < 8 || heard[3].len() < 4 || heard[1].len() < 2 {
        match tokio::time::timeout(Duration::from_secs(120), socket.next()).await.unwrap().unwrap().unwrap() {
            Message::Binary(bytes) => heard[usize::from(bytes[0])].extend_from_slice(&bytes[1..]),
            other => panic!("unexpected {other:?}"),
        }
    }
    // Each channel begins with its port.
    assert_eq!(heard[0], b"\x50\0ABCABC");
    assert_eq!(heard[1], b"\x50\0");
    assert_eq!(heard[2], b"\x01\0");
    let why = String::from_utf8_lossy(&heard[3][2..]);
    assert_eq!(&heard[3][..2], b"\x01\0");
    assert!(why.starts_with("error forwarding port 1 to pod ") && why.ends_with(": connection refused"), "{why}");
}

#[tokio::test]
async fn ports_are_forwarded_in_base64_and_refused_with_the_reason() {
    let host = Host::new().await;
    let mut socket = host.socket("/portForward/d/p?port=80", "v4.base64.channel.k8s.io").await;
    socket.send(Message::text("0YWJj")).await.unwrap();
    let mut heard: [Vec<u8>; 2] = Default::default();
    while heard[0].len() < 8 || heard[1].len() < 2 {
        match tokio::time::timeout(Duration::from_secs(120), socket.next()).await.unwrap().unwrap().unwrap() {
            Message::Text(text) => {
                let channel: usize = text[..1].parse().unwrap();
                heard[channel].extend(STANDARD.decode(&text[1..]).unwrap());
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!((&heard[0][..], &heard[1][..]), (&b"\x50\0ABCABC"[..], &b"\x50\0"[..]));
    for (query, expected) in [
        ("", "query parameter \"port\" is required"),
        ("?port=", "query parameter \"port\" cannot be empty"),
        ("?port=x", "unable to parse \"x\" as a port: invalid digit found in string"),
        ("?port=80,0", "port \"80,0\" must be > 0"),
    ] {
        let refused = host.refused_socket(&format!("/portForward/d/p{query}"), "v4.channel.k8s.io").await;
        assert_eq!(refused, (StatusCode::BAD_REQUEST, expected.to_owned()), "{query}");
    }
}
