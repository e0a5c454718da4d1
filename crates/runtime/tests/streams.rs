//! exec, attach and port-forward on real containers.

mod support;

use std::time::{Duration, Instant};

use knarr_cri::{CriError, RuntimeService, StreamService, TerminalSize, v1::*};
use support::{Host, PATIENCE, container};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn request(id: &str, script: &str) -> ExecRequest {
    ExecRequest {
        container_id: id.into(),
        cmd: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        ..Default::default()
    }
}

#[tokio::test]
async fn exec_runs_beside_the_container() {
    let host = Host::new("exec").await;
    let sandbox = host.sandbox().await;
    // With its path, so that busybox's shell really executes it and does not play it.
    let id = host.run(&sandbox, container("c", "exec /bin/sleep 1000")).await;
    assert_eq!(host.exec(&id, "echo out; echo err >&2; exit 9").await, (9, "out\n".into(), "err\n".into()));
    assert_eq!(host.exec(&id, "ps -o args | grep -c '^/bin/sleep 1000$'; hostname").await.1, "1\nknarr-pod\n");
    // Streams both ways.
    let mut session =
        host.runtime.exec(ExecRequest { stdin: true, stdout: true, ..request(&id, "cat; exit 4") }).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"there and back").await.unwrap();
    drop(stdin);
    let mut text = String::new();
    session.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!((text.as_str(), session.exit.await.unwrap()), ("there and back", 4));
    // A program that is not there.
    let missing = ExecRequest { cmd: vec!["nope".into()], ..request(&id, "") };
    let error = host.runtime.exec(missing).await.err().unwrap().to_string();
    assert!(error.contains("executable file not found"), "{error}");
    // One that takes too long is killed.
    let cmd = ["/bin/sleep", "100"].map(str::to_owned).to_vec();
    let late = host.runtime.exec_sync(ExecSyncRequest { container_id: id.clone(), cmd, timeout: 1 }).await;
    assert!(matches!(late, Err(CriError::DeadlineExceeded { .. })), "{late:?}");
    let deadline = Instant::now() + PATIENCE;
    while host.exec(&id, "ps -o args | grep -c '^[/]bin/sleep 100$'").await.1 != "0\n" {
        assert!(Instant::now() < deadline, "the late command is still there");
    }
    host.stop(&id, 0).await;
    let error = host.runtime.exec(request(&id, "true")).await.err().unwrap();
    assert!(matches!(error, CriError::FailedPrecondition { .. }), "{error}");
    host.finish().await;
}

#[tokio::test]
async fn exec_with_a_terminal() {
    let host = Host::new("tty").await;
    let sandbox = host.sandbox().await;
    let id = host.run(&sandbox, container("c", "exec sleep 1000")).await;
    // The size comes on another way than the input, so it may come later.
    let script =
        "tty; read line; until [ \"$(stty size)\" = '45 123' ]; do sleep 0.02; done; stty size; echo got $line; exit 6";
    let asked = ExecRequest { tty: true, stdin: true, stdout: true, ..request(&id, script) };
    let mut session = host.runtime.exec(asked).await.unwrap();
    session.resize.as_ref().unwrap().send(TerminalSize { width: 123, height: 45 }).await.unwrap();
    session.stdin.as_mut().unwrap().write_all(b"hello\n").await.unwrap();
    let mut text = String::new();
    let mut stdout = session.stdout.take().unwrap();
    tokio::time::timeout(PATIENCE, stdout.read_to_string(&mut text)).await.expect("the size arrives").unwrap();
    assert_eq!(session.exit.await.unwrap(), 6);
    for part in ["/dev/pts/", "45 123", "got hello"] {
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    }
    host.finish().await;
}

#[tokio::test]
async fn attach_joins_the_containers_streams() {
    let host = Host::new("attach").await;
    let sandbox = host.sandbox().await;
    for tty in [false, true] {
        let mut config = container(&format!("a{tty}"), "read line; echo got $line; exit 8");
        (config.stdin, config.stdin_once, config.tty) = (true, true, tty);
        let id = host.run(&sandbox, config).await;
        let request = AttachRequest { container_id: id.clone(), stdin: true, stdout: true, tty, stderr: false };
        let mut session = host.runtime.attach(request).await.unwrap();
        session.stdin.take().unwrap().write_all(b"this\n").await.unwrap();
        let mut text = String::new();
        session.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
        assert!(text.contains("got this"), "{text:?}");
        assert_eq!(session.exit.await.unwrap(), 8);
        assert!(host.log(&format!("a{tty}.log")).contains("got this"), "the log has it too");
    }
    // The end of the input is the end of a container that reads it once.
    let mut config = container("once", "cat >/dev/null; exit 2");
    (config.stdin, config.stdin_once) = (true, true);
    let id = host.run(&sandbox, config).await;
    let session = host
        .runtime
        .attach(AttachRequest { container_id: id.clone(), stdin: true, ..Default::default() })
        .await
        .unwrap();
    drop(session);
    assert_eq!(host.ended(&id).await.exit_code, 2);
    host.finish().await;
}

#[tokio::test]
async fn ports_are_forwarded_to_the_pods_loopback() {
    let host = Host::new("forward").await;
    let sandbox = host.sandbox().await;
    host.run(&sandbox, container("server", "while :; do echo hi from inside | nc -l -p 8080; done")).await;
    let deadline = Instant::now() + PATIENCE;
    let mut tunnel = loop {
        match host.runtime.port_forward(&sandbox, 8080).await {
            Ok(tunnel) => break tunnel,
            Err(e) => assert!(Instant::now() < deadline, "{e}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let mut text = vec![0; 15];
    tunnel.read_exact(&mut text).await.unwrap();
    assert_eq!(text, b"hi from inside\n");
    let error = host.runtime.port_forward(&sandbox, 9).await.err().unwrap().to_string();
    assert!(error.contains("port 9") && error.contains("refused"), "{error}");
    host.finish().await;
}
