//! What a request asks for, read from its method, path and query alone, as upstream's RequestInfo does.
//! (<https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris>)

use http::Method;
use percent_encoding::percent_decode_str;

/// The parameters of a request, decoded, in order.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(query: Option<&str>) -> Self {
        let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Self(pairs.map(|(key, value)| (key.into_owned(), value.into_owned())).collect())
    }

    /// The first value; empty where there is none.
    pub fn get(&self, key: &str) -> &str {
        self.find(key).unwrap_or_default()
    }

    pub fn find(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// A boolean as Go's conversion reads it: present and neither `false` nor `0`.
    pub fn flag(&self, key: &str) -> bool {
        self.find(key).is_some_and(|value| !matches!(value, "false" | "0"))
    }
}

/// A request taken apart. The strings are empty where the path does not name the thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    pub path: String,
    pub is_resource: bool,
    pub verb: &'static str,
    pub group: String,
    pub version: String,
    pub namespace: String,
    pub resource: String,
    pub subresource: String,
    pub name: String,
    /// Of a list or watch; empty where there is none.
    pub field_selector: String,
    /// What follows the subresource, with its slash.
    pub rest: String,
}

impl RequestInfo {
    pub fn parse(method: &Method, path: &str, query: &Query) -> Self {
        let mut info = Self { path: path.to_owned(), verb: method_verb(method), ..Self::default() };
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let rest = match segments.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => {
                info.version = decode(version);
                rest
            }
            ["apis", group, version, rest @ ..] if !rest.is_empty() => {
                info.group = decode(group);
                info.version = decode(version);
                rest
            }
            _ => return info,
        };
        info.is_resource = true;
        info.verb = match *method {
            Method::POST => "create",
            Method::GET | Method::HEAD => "get",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "",
        };
        // The old form of a watch has its own prefix: /api/v1/watch/pods.
        let (rest, old_watch) = match rest {
            ["watch", rest @ ..] if !rest.is_empty() => (rest, true),
            _ => (rest, false),
        };
        info.read_resource(rest);
        info.refine_verb(query, old_watch);
        info
    }

    fn read_resource(&mut self, rest: &[&str]) {
        let parts = match rest {
            // The subresources of a namespace itself; anything else after a namespace is a resource in it.
            ["namespaces", namespace, sub @ ("status" | "finalize"), ..] => {
                self.namespace = decode(namespace);
                self.subresource = (*sub).to_owned();
                &rest[..2]
            }
            ["namespaces", namespace, parts @ ..] if !parts.is_empty() => {
                self.namespace = decode(namespace);
                parts
            }
            ["namespaces", namespace] => {
                self.namespace = decode(namespace);
                rest
            }
            _ => rest,
        };
        let mut parts = parts.iter();
        self.resource = parts.next().copied().map(decode).unwrap_or_default();
        self.name = parts.next().copied().map(decode).unwrap_or_default();
        if let Some(sub) = parts.next() {
            self.subresource = decode(sub);
        }
        for part in parts {
            self.rest.push('/');
            self.rest.push_str(part);
        }
    }

    fn refine_verb(&mut self, query: &Query, old_watch: bool) {
        if self.verb == "get" && (self.name.is_empty() || old_watch) {
            let watch = old_watch || query.flag("watch");
            self.verb = if watch { "watch" } else { "list" };
            self.field_selector = query.get("fieldSelector").to_owned();
            // A list of one name is authorised as that name.
            let by_name = self.field_selector.split(',').find_map(|term| term.strip_prefix("metadata.name="));
            if let (true, Some(name)) = (self.name.is_empty(), by_name) {
                self.name = name.trim_start_matches('=').to_owned();
            }
        }
        if self.verb == "delete" && self.name.is_empty() {
            self.verb = "deletecollection";
        }
    }

    /// Requests that live as long as the client wants: no deadline, not counted as in flight.
    pub fn is_long_running(&self) -> bool {
        self.verb == "watch" || matches!(&*self.subresource, "proxy" | "exec" | "attach" | "portforward" | "log")
    }
}

fn decode(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

fn method_verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_say_what_is_asked() {
        // method, path with query, then verb group/version resource namespace name subresource rest
        let rows = [
            ("GET", "/api/v1/pods", "list /v1 pods - - - -"),
            ("GET", "/api/v1/namespaces/n/pods?watch=1", "watch /v1 pods n - - -"),
            ("GET", "/api/v1/namespaces/n/pods?watch=false", "list /v1 pods n - - -"),
            ("GET", "/api/v1/watch/namespaces/n/pods/p", "watch /v1 pods n p - -"),
            ("GET", "/api/v1/namespaces/n/pods/p?watch=true", "get /v1 pods n p - -"),
            ("GET", "/api/v1/namespaces/n/pods/p/log", "get /v1 pods n p log -"),
            ("POST", "/api/v1/namespaces/n/pods/p/proxy/a/b", "create /v1 pods n p proxy /a/b"),
            ("GET", "/api/v1/namespaces/n", "get /v1 namespaces n n - -"),
            ("PUT", "/api/v1/namespaces/n/finalize", "update /v1 namespaces n n finalize -"),
            ("DELETE", "/apis/apps/v1/namespaces/n/deployments", "deletecollection apps/v1 deployments n - - -"),
            ("PATCH", "/apis/apps/v1/namespaces/n/deployments/d/scale", "patch apps/v1 deployments n d scale -"),
            (
                "GET",
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
                "get rbac.authorization.k8s.io/v1 clusterroles - system:node - -",
            ),
            ("GET", "/api/v1/pods?fieldSelector=metadata.name%3Dp", "list /v1 pods - p - -"),
        ];
        for (method, target, expected) in rows {
            let uri: http::Uri = target.parse().unwrap();
            let info = RequestInfo::parse(&method.parse().unwrap(), uri.path(), &Query::parse(uri.query()));
            let or = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
            let actual = format!(
                "{} {}/{} {} {} {} {} {}",
                info.verb,
                info.group,
                info.version,
                info.resource,
                or(&info.namespace),
                or(&info.name),
                or(&info.subresource),
                or(&info.rest)
            );
            assert_eq!(actual, expected, "{method} {target}");
            assert!(info.is_resource);
        }
        for path in ["/", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz", "/openapi/v3"] {
            let info = RequestInfo::parse(&Method::GET, path, &Query::default());
            assert!(!info.is_resource, "{path}");
            assert_eq!(info.verb, "get");
        }
    }
}
