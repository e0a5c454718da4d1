use super::super::route::{self, Path, Place};

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
