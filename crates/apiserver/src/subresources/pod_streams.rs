use std::sync::Arc;

use async_trait::async_trait;
use http::StatusCode;
use http_body_util::{BodyExt, Empty};
use knarr_api::field::{FieldError, FieldPath};
use knarr_api::status::ApiError;
use serde_json::Value;
use url::form_urlencoded;

use crate::builtin;
use crate::contract::{Lookup, Response, SubresourceHandler, SubresourceRequest};
use crate::json::{items, text};
use crate::proxy::{Dialer, Forward, forward, node_address};

/// What happens in a pod and is seen on its node only: `pods/log`, `exec`, `attach` and `portforward`.
pub struct PodStreams {
    dialer: Dialer,
}

impl PodStreams {
    pub fn new(dialer: Dialer) -> Self {
        Self { dialer }
    }
}

type Query = Vec<(String, String)>;

fn find<'a>(query: &'a Query, key: &str) -> Option<&'a str> {
    query.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
}

fn containers(pod: &Value) -> impl Iterator<Item = &str> {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    lists.into_iter().flat_map(|list| items(&pod["spec"][list])).map(|container| text(&container["name"]))
}

/// The container that a request is about: the only one where it names none.
fn choose_container(pod: &Value, wanted: &str) -> Result<String, ApiError> {
    let pod_name = crate::json::name(pod);
    if !wanted.is_empty() {
        return match containers(pod).any(|name| name == wanted) {
            true => Ok(wanted.to_owned()),
            false => Err(ApiError::bad_request(format!("container {wanted} is not valid for pod {pod_name}"))),
        };
    }
    match items(&pod["spec"]["containers"]) {
        [only] => Ok(text(&only["name"]).to_owned()),
        [] => Err(ApiError::bad_request(format!("a container name must be specified for pod {pod_name}"))),
        _ => {
            let names: Vec<&str> = containers(pod).collect();
            let names = names.join(" ");
            let why = format!("a container name must be specified for pod {pod_name}, choose one of: [{names}]");
            Err(ApiError::bad_request(why))
        }
    }
}

/// PodLogOptions that make no sense are refused here; the node need not know how to.
fn check_log_options(query: &Query) -> Result<(), ApiError> {
    let mut errors = Vec::new();
    for (key, minimum, why) in [
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("limitBytes", 1, "must be greater than 0"),
        ("sinceSeconds", 1, "must be greater than 0"),
    ] {
        let Some(given) = find(query, key) else { continue };
        match given.parse::<i64>() {
            Ok(number) if number >= minimum => {}
            Ok(number) => errors.push(FieldError::invalid(&FieldPath::new(key), number, why)),
            Err(_) => return Err(ApiError::bad_request(format!("{key}: {given:?} is not a number"))),
        }
    }
    if find(query, "sinceSeconds").is_some() && find(query, "sinceTime").is_some() {
        let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        errors.push(FieldError::forbidden(&FieldPath::ROOT, why));
    }
    if errors.is_empty() { Ok(()) } else { Err(ApiError::invalid("PodLogOptions", "", errors)) }
}

/// Path and query at the node.
fn target(subresource: &str, namespace: &str, pod: &str, container: &str, query: &Query) -> String {
    let (path, names_container) = match subresource {
        "log" => ("containerLogs", true),
        "portforward" => ("portForward", false),
        other => (other, true),
    };
    let mut target = format!("/{path}/{namespace}/{pod}");
    if names_container {
        target.push('/');
        target.push_str(container);
    }
    let mut pairs = form_urlencoded::Serializer::new(String::new());
    pairs.extend_pairs(query.iter().filter(|(key, _)| key != "container"));
    let pairs = pairs.finish();
    if !pairs.is_empty() {
        target.push('?');
        target.push_str(&pairs);
    }
    target
}

fn no_logs_yet() -> Response {
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

#[async_trait]
impl SubresourceHandler for PodStreams {
    fn serves(&self) -> &'static [&'static str] {
        &["pods/log", "pods/exec", "pods/attach", "pods/portforward"]
    }

    async fn handle(&self, lookup: Arc<dyn Lookup>, request: SubresourceRequest) -> Result<Response, ApiError> {
        let SubresourceRequest { subresource, namespace, name, request, .. } = request;
        let query: Query =
            form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).into_owned().collect();
        let found = lookup.get_fresh(builtin::pods(), &namespace, &name).await?;
        let pod = found.ok_or_else(|| ApiError::not_found("pods", &name))?.value();

        let mut container = String::new();
        if subresource == "log" {
            check_log_options(&query)?;
        }
        if subresource != "portforward" {
            container = choose_container(&pod, find(&query, "container").unwrap_or_default())?;
        }
        let node_name = text(&pod["spec"]["nodeName"]);
        if node_name.is_empty() {
            return match subresource {
                "log" => Ok(no_logs_yet()),
                _ => Err(ApiError::bad_request(format!("pod {name} does not have a host assigned"))),
            };
        }
        let node =
            lookup.get(builtin::nodes(), "", node_name).ok_or_else(|| ApiError::not_found("nodes", node_name))?;
        let address = node_address(&node.value())?;
        let sender = self
            .dialer
            .node(&address.host, address.port)
            .await
            .map_err(|error| ApiError::internal(format!("error dialing node {node_name}: {error}")))?;
        let to = Forward {
            target: target(subresource, &namespace, &name, &container, &query),
            host: format!("{}:{}", address.host, address.port),
            errors_as_status: true,
        };
        forward(sender, request, to).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn containers_are_chosen_as_upstream_does() {
        let one = json!({ "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "a" }] } });
        let two = json!({ "metadata": { "name": "p" }, "spec": {
            "initContainers": [{ "name": "i" }], "containers": [{ "name": "a" }, { "name": "b" }],
        } });
        for (pod, wanted, expected) in [
            (&one, "", Ok("a")),
            (&one, "a", Ok("a")),
            (&one, "x", Err("container x is not valid for pod p")),
            (&two, "b", Ok("b")),
            (&two, "i", Ok("i")),
            (&two, "", Err("a container name must be specified for pod p, choose one of: [i a b]")),
        ] {
            let found = choose_container(pod, wanted).map_err(|e| e.to_value()["message"].as_str().unwrap().to_owned());
            assert_eq!(found.as_deref().map_err(|e| e.as_str()), expected, "{wanted:?}");
        }
    }

    #[test]
    fn log_options_are_checked() {
        for (query, ok) in [
            ("", true),
            ("tailLines=0", true),
            ("tailLines=-1", false),
            ("limitBytes=0", false),
            ("sinceSeconds=x", false),
            ("sinceSeconds=5&sinceTime=2026-01-01T00:00:00Z", false),
        ] {
            let query: Query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
            assert_eq!(check_log_options(&query).is_ok(), ok, "{query:?}");
        }
    }

    #[test]
    fn targets_keep_the_query_but_not_the_container() {
        let query: Query =
            form_urlencoded::parse(b"container=a&command=sh&command=-c%20x&stdin=true").into_owned().collect();
        assert_eq!(target("exec", "n", "p", "a", &query), "/exec/n/p/a?command=sh&command=-c+x&stdin=true");
        assert_eq!(target("log", "n", "p", "a", &Query::new()), "/containerLogs/n/p/a");
        assert_eq!(target("portforward", "n", "p", "", &Query::new()), "/portForward/n/p");
    }
}
