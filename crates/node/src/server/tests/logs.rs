use http::StatusCode;

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

#[test]
fn log_options() {
    let now = "2026-01-01T00:01:00Z".parse().unwrap();
    let found = wanted("follow=true&sinceSeconds=60&limitBytes=5&timestamps=true&tailLines=all", now).unwrap();
    assert_eq!(found.options.since, Some("2026-01-01T00:00:00Z".parse().unwrap()));
    assert_eq!((found.options.follow, found.options.timestamps, found.previous), (true, true, false));
    assert_eq!((found.options.limit_bytes, found.options.tail_lines), (Some(5), None));
    assert!(wanted("sinceTime=yesterday", now).is_err());
}
