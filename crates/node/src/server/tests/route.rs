use super::super::{
    exec::Streams,
    route::{self, Path, Place},
};

#[test]
fn paths() {
    let place = || Place { namespace: "d".into(), pod: "p".into(), container: "a".into() };
    for (path, expected) in [
        ("/containerLogs/d/p/a", Some(Path::Logs(place()))),
        ("/exec/d/p/a", Some(Path::Exec(place()))),
        ("/exec/d/p/uid/a", Some(Path::Exec(place()))),
        ("/attach/d/p/a", Some(Path::Attach(place()))),
        ("/portForward/d/p", Some(Path::PortForward { namespace: "d".into(), pod: "p".into() })),
        ("/healthz", Some(Path::Health)),
        ("/run/d/p/a", None),
        ("/", None),
    ] {
        assert_eq!(route::parse(path), expected, "{path}");
    }
}

#[test]
fn queries() {
    let pairs =
        |list: &[(&str, &str)]| list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>();
    for (text, expected) in [
        ("", pairs(&[])),
        (
            "command=sh&command=-c&command=echo+a%20b%2B",
            pairs(&[("command", "sh"), ("command", "-c"), ("command", "echo a b+")]),
        ),
        ("a&b=%zz&c=%e2%82%ac", pairs(&[("a", ""), ("b", "%zz"), ("c", "€")])),
    ] {
        assert_eq!(route::query(text), expected, "{text}");
    }
    let streams = |text: &str| Streams::from_query(&route::query(text)).ok();
    let all = Streams { stdin: true, stdout: true, stderr: true, tty: false };
    assert_eq!(streams("input=1&output=1&error=1"), Some(all));
    assert_eq!(streams("stdin=true&stdout=true&stderr=true"), Some(all));
    assert_eq!(
        streams("stdout=true&stderr=true&tty=true"),
        Some(Streams { stdin: false, stderr: false, tty: true, ..all })
    );
    assert_eq!(streams("stdin=false"), None);
}
