use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};

use super::{Judge, Kind, Outcome, Report, Schedule, Verdict, task};

fn schedule(success: u32, failure: u32) -> Schedule {
    Schedule {
        initial_delay: Duration::from_secs(3),
        period: Duration::from_secs(5),
        timeout: Duration::from_secs(1),
        success_threshold: success,
        failure_threshold: failure,
    }
}

/// `+` is a success, `-` a failure, `?` an answer that could not be had; `G` and `B` are changes of the verdict.
fn outcome(letter: char) -> Outcome {
    match letter {
        '+' => Outcome::Success,
        '-' => Outcome::Failure("no".to_owned()),
        _ => Outcome::Unknown("who knows".to_owned()),
    }
}

#[test]
fn verdicts_follow_the_thresholds() {
    for (kind, success, failure, answers, expected) in [
        (Kind::Readiness, 1, 3, "+", "G"),
        (Kind::Readiness, 1, 3, "---+", "..BG"),
        (Kind::Readiness, 1, 3, "--+--", "..G.."),
        (Kind::Readiness, 2, 1, "+-++", ".B.G"),
        (Kind::Readiness, 1, 2, "-?-", "..B"),
        // Alive until proven otherwise, so the first success is no news.
        (Kind::Liveness, 1, 3, "+---", "...B"),
        (Kind::Liveness, 1, 3, "--+--", "....."),
        (Kind::Startup, 1, 2, "--", ".B"),
        (Kind::Startup, 1, 30, "---+", "...G"),
    ] {
        let mut judge = Judge::new(kind, &schedule(success, failure));
        let heard: String = answers
            .chars()
            .map(|letter| match judge.hear(&outcome(letter)) {
                None => '.',
                Some(Verdict::Good) => 'G',
                Some(Verdict::Bad) => 'B',
            })
            .collect();
        assert_eq!(heard, expected, "{kind:?} {answers}");
    }
}

/// Runs a probe on scripted answers; yields its reports with the second they came at, and when it asked.
async fn play(kind: Kind, running_for: u64, answers: &str) -> (Vec<(u64, Verdict)>, Vec<u64>) {
    let begun = Instant::now();
    let script: Arc<Mutex<VecDeque<char>>> = Arc::new(Mutex::new(answers.chars().collect()));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (sender, mut reports) = mpsc::channel(8);
    let base = Report { container: "a".to_owned(), container_id: "1".to_owned(), kind, verdict: Verdict::Good };
    let (script_of, asked_at) = (script.clone(), asked.clone());
    let ask = move || {
        let next = script_of.lock().unwrap().pop_front();
        asked_at.lock().unwrap().push(begun.elapsed().as_secs());
        async move {
            match next {
                Some(letter) => outcome(letter),
                None => std::future::pending().await,
            }
        }
    };
    let running_for = Duration::from_secs(running_for);
    let task = tokio::spawn(task::run(base, schedule(1, 2), running_for, ask, sender, Box::new(|_, _| {})));
    let mut seen = Vec::new();
    while let Ok(Some(report)) = tokio::time::timeout(Duration::from_secs(60), reports.recv()).await {
        seen.push((begun.elapsed().as_secs(), report.verdict));
    }
    task.abort();
    let asked = asked.lock().unwrap().clone();
    (seen, asked)
}

#[tokio::test(start_paused = true)]
async fn probes_keep_their_schedule() {
    // After the initial delay, then every period; a readiness probe goes on for ever.
    let (reports, asked) = play(Kind::Readiness, 0, "+--+").await;
    assert_eq!(asked, [3, 8, 13, 18, 23]);
    assert_eq!(reports, [(3, Verdict::Good), (13, Verdict::Bad), (18, Verdict::Good)]);
    // A container that was adopted has waited already.
    let (reports, asked) = play(Kind::Liveness, 100, "+--").await;
    assert_eq!((asked, reports), (vec![0, 5, 10], vec![(10, Verdict::Bad)]));
    // A startup probe ends with its first verdict.
    let (reports, asked) = play(Kind::Startup, 1, "-+").await;
    assert_eq!((asked, reports), (vec![2, 7], vec![(7, Verdict::Good)]));
}

mod network {
    use k8s_openapi::{
        api::core::v1::{HTTPGetAction, HTTPHeader},
        apimachinery::pkg::util::intstr::IntOrString,
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use knarr_grpc::server::{Reply, Status};

    use super::super::{grpc, http::Get};
    use super::*;

    /// Far more than an answer takes, however busy the machine is.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Answers every connection with the same bytes, and gives back what it was asked.
    async fn server(answer: &'static str) -> (u16, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, requests) = mpsc::channel(8);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = vec![0; 4096];
                let count = stream.read(&mut buffer).await.unwrap();
                asked.send(String::from_utf8_lossy(&buffer[..count]).into_owned()).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (port, requests)
    }

    #[tokio::test]
    async fn http_says_who_asks_and_reads_the_status() {
        let (port, mut requests) = server("HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\nno").await;
        let action = HTTPGetAction {
            path: Some("healthz?x=1".to_owned()),
            port: IntOrString::Int(port.into()),
            ..Default::default()
        };
        let get = Get::from_action(&action, None, "127.0.0.1", "kube-probe").unwrap();
        let answer = get.send(PATIENCE).await.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (503, "no"));
        let request = requests.recv().await.unwrap();
        assert!(request.starts_with("GET /healthz?x=1 HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("user-agent: kube-probe/1.36\r\n"), "{request}");
        assert!(request.contains(&format!("host: 127.0.0.1:{port}\r\n")), "{request}");
    }

    #[tokio::test]
    async fn http_does_not_follow_to_another_host() {
        let (port, _requests) =
            server("HTTP/1.1 302 Found\r\nlocation: http://example.invalid/\r\ncontent-length: 0\r\n\r\n").await;
        let action = HTTPGetAction { port: IntOrString::Int(port.into()), ..Default::default() };
        let get = Get::from_action(&action, None, "127.0.0.1", "kube-probe").unwrap();
        let answer = get.send(PATIENCE).await.unwrap();
        assert_eq!(answer.elsewhere.as_deref(), Some("http://example.invalid/"));
    }

    #[tokio::test]
    async fn https_to_a_server_without_tls_fails_a_probe_and_not_a_hook() {
        let (port, mut requests) = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        let header = |name: &str| HTTPHeader { name: name.to_owned(), value: "x".to_owned() };
        let action = HTTPGetAction {
            scheme: Some("HTTPS".to_owned()),
            path: Some("/".to_owned()),
            port: IntOrString::Int(port.into()),
            http_headers: Some(vec![header("Authorization"), header("X-Own")]),
            ..Default::default()
        };
        let get = Get::from_action(&action, None, "127.0.0.1", "kube-lifecycle").unwrap();
        let error = get.clone().send(PATIENCE).await.unwrap_err();
        let expected = format!("Get \"https://127.0.0.1:{port}/\": http: server gave HTTP response to HTTPS client");
        assert_eq!(error, expected);
        assert_eq!(get.send_in_any_way(PATIENCE).await.unwrap().body, "ok");
        let (_, _, plain) = (requests.recv().await, requests.recv().await, requests.recv().await.unwrap());
        assert!(plain.starts_with("GET / HTTP/1.1\r\n") && plain.contains("x-own: x\r\n"), "{plain}");
        assert!(!plain.contains("authorization"), "credentials are not for everyone to read: {plain}");
    }

    #[tokio::test]
    async fn names_are_looked_up() {
        let (port, _requests) = server("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        let to = |host: &str| HTTPGetAction {
            host: Some(host.to_owned()),
            port: IntOrString::Int(port.into()),
            ..Default::default()
        };
        let send = |host: &str| Get::from_action(&to(host), None, "192.0.2.1", "kube-probe").unwrap().send(PATIENCE);
        assert_eq!(send("localhost").await.unwrap().status, 200);
        let error = send("nobody.invalid").await.unwrap_err();
        assert!(error.contains("dial tcp: lookup nobody.invalid: "), "{error}");
    }

    #[tokio::test]
    async fn a_refused_connection_reads_as_in_go() {
        // Bound, so that nobody else gets the port; nobody listens.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = socket.local_addr().unwrap().port();
        let action =
            HTTPGetAction { path: Some("/".to_owned()), port: IntOrString::Int(port.into()), ..Default::default() };
        let get = Get::from_action(&action, None, "127.0.0.1", "kube-probe").unwrap();
        let error = get.send(PATIENCE).await.unwrap_err();
        let expected =
            format!("Get \"http://127.0.0.1:{port}/\": dial tcp 127.0.0.1:{port}: connect: connection refused");
        assert_eq!(error, expected);
    }

    #[tokio::test]
    async fn grpc_health() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // The protobuf of a health status, or of very much.
        let answer = async |method: String, request: bytes::Bytes| {
            assert_eq!(method, "grpc.health.v1.Health/Check");
            let service = String::from_utf8_lossy(&request[2..]).into_owned();
            match service.as_str() {
                "up" => Ok(Reply::One(bytes::Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]))),
                "down" => Ok(Reply::One(bytes::Bytes::from_static(&[0, 0, 0, 0, 2, 8, 2]))),
                "endless" => Ok(Reply::One(vec![0; 1 << 20].into())),
                "broken" => Err(Status { code: 13, message: "out of order".into() }),
                _ => Err(Status { code: 12, message: format!("unknown method {method}") }),
            }
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(knarr_grpc::server::serve(stream, answer));
            }
        });
        assert_eq!(grpc::check("127.0.0.1", port, "up", PATIENCE).await, Outcome::Success);
        for (service, expected) in [
            ("down", "service unhealthy (responded with \"NOT_SERVING\")"),
            ("broken", "error: health rpc failed: rpc error: code = Internal desc = out of order"),
            (
                "none",
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): unknown method \
                 grpc.health.v1.Health/Check",
            ),
            ("endless", "error: health rpc failed: rpc error: code = Unavailable desc = length limit exceeded"),
        ] {
            let found = grpc::check("127.0.0.1", port, service, PATIENCE).await;
            assert_eq!(found, Outcome::Failure(expected.to_owned()), "{service}");
        }
    }
}
