use http::Method;

/// What a request is to the authoriser: a verb on subresources of this Node, any of which is enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub verb: &'static str,
    pub subresources: Vec<&'static str>,
}

impl Asked {
    /// As upstream's `pkg/kubelet/server/auth.go` sorts paths, with the fine grains of 1.33 and later.
    pub fn of(method: &Method, path: &str) -> Self {
        let verb = match method.as_str() {
            "GET" => "get",
            "POST" => "create",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" => "delete",
            _ => "",
        };
        let first = path.strip_prefix('/').map_or("", |rest| rest.split('/').next().unwrap_or_default());
        let subresources = match first {
            "stats" => vec!["stats"],
            "metrics" => vec!["metrics"],
            "logs" => vec!["log"],
            "checkpoint" => vec!["checkpoint"],
            "pods" | "runningpods" => vec!["pods", "proxy"],
            "healthz" => vec!["healthz", "proxy"],
            "configz" => vec!["configz", "proxy"],
            "statusz" => vec!["statusz", "proxy"],
            _ => vec!["proxy"],
        };
        Self { verb, subresources }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_sorted_as_upstream_does() {
        for (method, path, verb, subresources) in [
            (Method::POST, "/exec/d/p/a", "create", &["proxy"][..]),
            (Method::GET, "/containerLogs/d/p/a", "get", &["proxy"]),
            (Method::GET, "/metrics", "get", &["metrics"]),
            (Method::GET, "/metrics/cadvisor", "get", &["metrics"]),
            (Method::GET, "/metricsx", "get", &["proxy"]),
            (Method::PUT, "/stats/summary", "update", &["stats"]),
            (Method::GET, "/logs/", "get", &["log"]),
            (Method::PATCH, "/checkpoint/d/p/a", "patch", &["checkpoint"]),
            (Method::GET, "/pods/", "get", &["pods", "proxy"]),
            (Method::GET, "/runningpods/", "get", &["pods", "proxy"]),
            (Method::GET, "/healthz/ping", "get", &["healthz", "proxy"]),
            (Method::DELETE, "/configz", "delete", &["configz", "proxy"]),
            (Method::GET, "/statusz", "get", &["statusz", "proxy"]),
            (Method::OPTIONS, "/", "", &["proxy"]),
            // What begins with more slashes than one is nothing that has a grain of its own.
            (Method::GET, "//metrics", "get", &["proxy"]),
        ] {
            let expected = Asked { verb, subresources: subresources.to_vec() };
            assert_eq!(Asked::of(&method, path), expected, "{method} {path}");
        }
    }
}
