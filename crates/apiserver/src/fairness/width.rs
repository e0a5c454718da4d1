//! How many seats a request takes: one, but for those that bring many objects at once.

use crate::route::{Query, RequestInfo};

const OBJECTS_PER_SEAT: usize = 100;
const WIDEST: u32 = 10;

/// Lists, and watches that begin with what is there, take a seat for each hundred objects that they bring. `stored`
/// says how many there are; `nominal` is the level's number of seats, of which one request takes no more than a
/// seventh, so that a few wide ones do not fill a narrow level.
pub fn width(info: &RequestInfo, query: &Query, nominal: u32, stored: impl FnOnce() -> usize) -> u32 {
    let brings_many = match info.verb {
        "list" => true,
        "watch" => query.flag("sendInitialEvents"),
        _ => false,
    };
    // A list of one name reads one object.
    if !brings_many || !info.name.is_empty() {
        return 1;
    }
    let limit = query.get("limit").parse().ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let seats = stored().min(limit).div_ceil(OBJECTS_PER_SEAT);
    u32::try_from(seats).unwrap_or(WIDEST).clamp(1, WIDEST.min((nominal / 7).max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_as_wide_as_what_they_bring() {
        let pods = "/api/v1/pods";
        let rows = [
            ("GET", "/api/v1/namespaces/n/pods/p", 100, 5_000, 1),
            ("POST", "/api/v1/namespaces/n/pods", 100, 5_000, 1),
            ("DELETE", "/api/v1/namespaces/n/pods", 100, 5_000, 1),
            ("GET", pods, 100, 0, 1),
            ("GET", pods, 100, 100, 1),
            ("GET", pods, 100, 101, 2),
            ("GET", pods, 100, 5_000, 10),
            ("GET", pods, 28, 5_000, 4),
            ("GET", pods, 0, 5_000, 1),
            ("GET", "/api/v1/pods?limit=500", 100, 5_000, 5),
            ("GET", "/api/v1/pods?limit=x", 100, 5_000, 10),
            ("GET", "/api/v1/pods?fieldSelector=metadata.name%3Dp", 100, 5_000, 1),
            ("GET", "/api/v1/pods?watch=true", 100, 5_000, 1),
            ("GET", "/api/v1/pods?watch=true&sendInitialEvents=true", 100, 5_000, 10),
            ("GET", "/version", 100, 5_000, 1),
        ];
        for (method, target, nominal, stored, expected) in rows {
            let uri: http::Uri = target.parse().unwrap();
            let query = Query::parse(uri.query());
            let info = RequestInfo::parse(&method.parse().unwrap(), uri.path(), &query);
            assert_eq!(width(&info, &query, nominal, || stored), expected, "{method} {target}");
        }
    }
}
