use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    Auditor, Policy,
    log::{LogConfig, Rotating},
};
use crate::{
    Env,
    route::{Query, RequestInfo},
    testing::{Cluster, admin, pod, user},
};

fn policy(rules: &str) -> String {
    format!("apiVersion: audit.k8s.io/v1\nkind: Policy\n{rules}")
}

/// The level, what is left out, and whether managed fields are.
fn judged(policy: &Policy, who: Option<(&str, &[&str])>, line: &str) -> String {
    let (method, target) = line.split_once(' ').unwrap();
    let uri: http::Uri = target.parse().unwrap();
    let info = RequestInfo::parse(&method.parse().unwrap(), uri.path(), &Query::parse(uri.query()));
    let who = who.map(|(name, groups)| user(name, groups));
    match policy.judge(who.as_ref(), &info) {
        None => "None".into(),
        Some(verdict) => {
            let omitted = super::Stage::ALL.into_iter().filter(|stage| verdict.omits(*stage));
            let omitted: Vec<&str> = omitted.map(super::Stage::as_str).collect();
            let fields = if verdict.omit_managed_fields { " -fields" } else { "" };
            format!("{} -{}{fields}", verdict.level.as_str(), omitted.join(","))
        }
    }
}

#[test]
fn the_first_rule_that_matches_decides() {
    let rules = r#"
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- {level: None, users: ["system:kube-proxy"], verbs: [watch], resources: [{group: "", resources: [endpoints, "services/*"]}]}
- {level: None, userGroups: ["system:authenticated"], nonResourceURLs: ["/api*", "/version"]}
- {level: Request, resources: [{group: "", resources: [configmaps], resourceNames: [one]}], namespaces: [kube-system]}
- {level: Metadata, resources: [{group: "", resources: [secrets, configmaps]}], omitStages: [Panic]}
- {level: RequestResponse, resources: [{group: apps}], omitManagedFields: false}
- {level: Request, resources: [{group: batch, resources: ["*/status", "cronjobs"]}]}
- {level: Metadata, namespaces: [""]}
- {level: Metadata, verbs: [delete]}
"#;
    let policy = Policy::parse(policy(rules).as_bytes()).unwrap();
    let (proxy, someone) = (Some(("system:kube-proxy", &[][..])), Some(("u", &["system:authenticated"][..])));
    let plain = "-RequestReceived -fields";
    let rows = [
        (proxy, "GET /api/v1/endpoints?watch=1", "None".into()),
        (proxy, "GET /api/v1/namespaces/n/services/s/status", "None".into()),
        (someone, "GET /version", "None".into()),
        (someone, "GET /apis", "None".into()),
        (None, "GET /version", "None".into()),
        (None, "DELETE /version", format!("Metadata {plain}")),
        (someone, "GET /api/v1/namespaces/kube-system/configmaps/one", format!("Request {plain}")),
        (someone, "GET /api/v1/namespaces/n/configmaps/one", "Metadata -RequestReceived,Panic -fields".into()),
        (
            someone,
            "GET /api/v1/namespaces/kube-system/configmaps/two",
            "Metadata -RequestReceived,Panic -fields".into(),
        ),
        (someone, "GET /apis/apps/v1/namespaces/n/deployments/d/scale", "RequestResponse -RequestReceived".into()),
        (someone, "PUT /apis/batch/v1/namespaces/n/jobs/j/status", format!("Request {plain}")),
        (someone, "PUT /apis/batch/v1/namespaces/n/jobs/j", "None".into()),
        (someone, "GET /apis/batch/v1/namespaces/n/cronjobs", format!("Request {plain}")),
        (someone, "GET /api/v1/nodes", format!("Metadata {plain}")),
        (someone, "GET /api/v1/namespaces/n/pods", "None".into()),
        (someone, "DELETE /api/v1/namespaces/n/pods/p", format!("Metadata {plain}")),
    ];
    for (who, line, expected) in rows {
        assert_eq!(judged(&policy, who, line), expected, "{who:?} {line}");
    }
}

#[test]
fn policies_that_say_nothing_sensible_are_refused() {
    let rows = [
        ("rules: [{level: Metadata, user: [a]}]", "unknown field `user`"),
        ("rules: [{level: Metadata}]\nrule: []", "unknown field `rule`"),
        ("rules: []", "loaded illegal policy with 0 rules"),
        ("rules: [{}]", "rules[0].level: Required value"),
        ("rules: [{level: Loud}]", "rules[0].level: Unsupported value: \"Loud\""),
        ("rules: [{level: Metadata, nonResourceURLs: [x]}]", "must begin with a '/' character"),
        ("rules: [{level: Metadata, nonResourceURLs: [\"/a*/b\"]}]", "must be the final character of the rule"),
        (
            "rules: [{level: Metadata, nonResourceURLs: [/a], namespaces: [n]}]",
            "rules cannot apply to both regular resources and non-resource URLs",
        ),
        ("rules: [{level: Metadata, resources: [{group: apps/v1}]}]", "rules[0].resources.group: Invalid value"),
        (
            "rules: [{level: Metadata, resources: [{resourceNames: [a]}]}]",
            "using resourceNames requires at least one resource",
        ),
        (
            "rules: [{level: Metadata, omitStages: [Late]}]",
            "allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic",
        ),
    ];
    let why = |text: &str| {
        let error = Policy::parse(text.as_bytes()).map(drop).unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error}: {}", cause.unwrap_or_default())
    };
    for (rules, part) in rows {
        let said = why(&policy(rules));
        assert!(said.contains(part), "{rules}: {said}");
    }
    assert!(why("apiVersion: audit.k8s.io/v1beta1\nkind: Policy\nrules: []").contains("audit.k8s.io/v1beta1 Policy"));
}

fn config(path: &Path) -> LogConfig {
    LogConfig { path: path.to_owned(), max_size_bytes: 0, max_backups: 0, max_age_days: 0 }
}

struct Logged {
    cluster: Cluster,
    log: PathBuf,
    _directory: tempfile::TempDir,
}

impl Logged {
    async fn by(rules: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (file, log) = (directory.path().join("policy.yaml"), directory.path().join("audit.log"));
        std::fs::write(&file, policy(rules)).unwrap();
        let auditor = Auditor::open(file, config(&log), Env::host()).unwrap();
        let cluster = Cluster::of(|builder| builder.audit(auditor)).await;
        cluster.bootstrap().await;
        Self { cluster, log, _directory: directory }
    }

    /// Waits for so many events and answers with them.
    async fn events(&self, count: usize) -> Vec<Value> {
        let mut events = Vec::new();
        for _ in 0..400 {
            let text = std::fs::read_to_string(&self.log).unwrap();
            events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect();
            if events.len() >= count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(events.len(), count, "{events:#?}");
        events
    }
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn requests_are_logged_at_their_level() {
    let logged = Logged::by(
        "rules: [{level: Metadata, resources: [{resources: [secrets]}]}, \
         {level: RequestResponse, resources: [{resources: [configmaps]}], omitManagedFields: true, omitStages: [RequestReceived]}]",
    )
    .await;
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"password": "hunter2"}});
    logged.cluster.make("/api/v1/namespaces/default/secrets", secret).await;
    let events = logged.events(2).await;
    let (received, complete) = (&events[0], &events[1]);
    assert_eq!((&received["stage"], &complete["stage"]), (&"RequestReceived".into(), &"ResponseComplete".into()));
    assert_eq!(received["auditID"], complete["auditID"]);
    assert_eq!((&complete["kind"], &complete["apiVersion"]), (&"Event".into(), &"audit.k8s.io/v1".into()));
    assert_eq!(
        (&complete["verb"], &complete["requestURI"]),
        (&"create".into(), &"/api/v1/namespaces/default/secrets".into())
    );
    assert_eq!(
        complete["user"],
        json!({"username": "kubernetes-admin", "groups": ["system:masters", "system:authenticated"]})
    );
    let object = json!({"resource": "secrets", "namespace": "default", "name": "s", "apiVersion": "v1"});
    assert_eq!(complete["objectRef"], object);
    assert_eq!(complete["responseStatus"], json!({"metadata": {}, "code": 201}));
    let annotations = json!({"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""});
    assert_eq!(complete["annotations"], annotations);
    assert!(!std::fs::read_to_string(&logged.log).unwrap().contains("hunter2"));

    logged.cluster.make(MAPS, json!({"metadata": {"name": "c"}, "data": {"a": "b"}})).await;
    let change = json!({"data": {"a": "c"}});
    logged.cluster.send(&admin(), "PATCH", &format!("{MAPS}/c"), change.clone()).await;
    logged.cluster.send(&admin(), "GET", &format!("{MAPS}/none"), Value::Null).await;
    let events = logged.events(5).await;
    assert_eq!(events[2]["requestObject"]["data"], json!({"a": "b"}));
    assert_eq!(events[2]["responseObject"]["kind"], "ConfigMap");
    assert_eq!(events[2]["responseObject"]["metadata"].get("managedFields"), None);
    assert_eq!((&events[3]["requestObject"], &events[3]["verb"]), (&change, &"patch".into()));
    assert_eq!(events[4]["responseStatus"]["reason"], "NotFound");
    assert_eq!(
        (&events[4]["responseStatus"]["code"], &events[4]["responseStatus"]["status"]),
        (&404.into(), &"Failure".into())
    );
    assert_eq!(events[4]["responseObject"]["kind"], "Status");
    let mode = std::fs::metadata(&logged.log).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
}

#[tokio::test]
async fn refusals_impersonation_and_watches_are_told() {
    let logged = Logged::by("omitStages: [RequestReceived]\nrules: [{level: Metadata}]").await;
    let path = "/api/v1/namespaces/default/pods";
    let request = |who: &str, path: &str| {
        let mut request = http::Request::builder().uri(path).header("user-agent", "tester/1");
        request = request.header("x-forwarded-for", "192.0.2.9, nonsense, 192.0.2.8").header("audit-id", "mine");
        if !who.is_empty() {
            request = request.header("impersonate-user", who);
        }
        request.body(http_body_util::Full::new(bytes::Bytes::new())).unwrap()
    };
    let service = logged.cluster.api.local(admin());
    let answer = tower::ServiceExt::oneshot(service.clone(), request("alice", path)).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["audit-id"].to_str().unwrap()), (403, "mine"));
    let event = logged.events(1).await.remove(0);
    assert_eq!((&event["auditID"], &event["userAgent"]), (&"mine".into(), &"tester/1".into()));
    assert_eq!(event["sourceIPs"], json!(["192.0.2.9", "192.0.2.8"]));
    assert_eq!(
        (&event["user"]["username"], &event["impersonatedUser"]["username"]),
        (&"kubernetes-admin".into(), &"alice".into())
    );
    assert_eq!(event["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!(event["responseStatus"]["reason"], "Forbidden");

    let watch = tower::ServiceExt::oneshot(service, request("", &format!("{path}?watch=true"))).await.unwrap();
    let started = logged.events(2).await.remove(1);
    assert_eq!((&started["stage"], &started["verb"]), (&"ResponseStarted".into(), &"watch".into()));
    drop(watch);
    let ended = logged.events(3).await.remove(2);
    assert_eq!((&ended["stage"], &ended["responseStatus"]["code"]), (&"ResponseComplete".into(), &200.into()));

    // What goes no further than its URL is told of, too.
    let (code, _) = logged.cluster.get(&admin(), &format!("{path}?timeout=soon")).await;
    let refused = logged.events(4).await.remove(3);
    assert_eq!((code, &refused["stage"]), (400, &"ResponseStarted".into()));
    let why = "invalid timeout specified in the request URL - time: invalid duration \"soon\"";
    assert_eq!(refused["responseStatus"], json!({"metadata": {}, "message": why, "code": 400}));
}

#[tokio::test]
async fn what_breaks_a_standard_is_told_of() {
    let logged = Logged::by(
        "omitStages: [RequestReceived]\nrules: [{level: Metadata, resources: [{resources: [pods]}, \
         {group: apps, resources: [deployments]}]}]",
    )
    .await;
    let labels =
        json!({"pod-security.kubernetes.io/audit": "baseline", "pod-security.kubernetes.io/enforce": "privileged"});
    let cluster = &logged.cluster;
    cluster.namespace("team").await;
    let pods = "/api/v1/namespaces/team/pods";
    let host = json!({"hostNetwork": true});
    cluster.make(pods, pod("before", host.clone())).await;
    let (code, answer) =
        cluster.send(&admin(), "PATCH", "/api/v1/namespaces/team", json!({"metadata": {"labels": labels}})).await;
    assert_eq!(code, 200, "{answer}");
    cluster.settle().await;
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": pod("p", host.clone())["spec"]});
    let deployment = json!({"metadata": {"name": "d"},
                            "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    cluster.make(pods, pod("p", host)).await;
    cluster.make("/apis/apps/v1/namespaces/team/deployments", deployment).await;
    let violations = "would violate PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)";
    let rows = [
        ("before", Some("privileged:latest"), None),
        ("pod", Some("privileged:latest"), Some(violations)),
        ("deployment", None, Some(violations)),
    ];
    for (event, (what, policy, violations)) in logged.events(3).await.iter().zip(rows) {
        let said = |key: &str| event["annotations"][format!("pod-security.kubernetes.io/{key}")].as_str();
        assert_eq!((said("enforce-policy"), said("audit-violations")), (policy, violations), "{what}");
    }
}

/// Says something of every write on its way.
struct Speaker;

#[async_trait::async_trait]
impl crate::contract::Admission for Speaker {
    fn name(&self) -> &'static str {
        "Speaker"
    }

    async fn validate(
        &self,
        request: &crate::contract::AdmissionRequest<'_>,
    ) -> Result<(), knarr_api::status::ApiError> {
        assert_ne!(request.name, "panic", "as it was asked to");
        super::annotate("speaker.example.org/said", "first");
        super::annotate("speaker.example.org/said", "second");
        Ok(())
    }
}

#[tokio::test]
async fn admission_may_annotate_and_panics_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let (file, log) = (directory.path().join("policy.yaml"), directory.path().join("audit.log"));
    std::fs::write(&file, policy("omitStages: [RequestReceived]\nrules: [{level: Metadata}]")).unwrap();
    let speaking = crate::ApiServer::builder(std::sync::Arc::new(knarr_store::MemoryStore::default()));
    let mut plugins = crate::Plugins::permissive();
    plugins.admission.push(std::sync::Arc::new(Speaker));
    let auditor = Auditor::open(file, config(&log), Env::host()).unwrap();
    let server = speaking.audit(auditor).plugins(move |_| plugins).start().await.unwrap();
    let post = |name: &str| {
        let body = json!({"metadata": {"name": name}}).to_string();
        let request = http::Request::post("/api/v1/namespaces").header("content-type", "application/json");
        request.body(http_body_util::Full::new(bytes::Bytes::from(body))).unwrap()
    };
    for (name, code) in [("n", 201), ("panic", 500)] {
        let answer = tower::ServiceExt::oneshot(server.local(admin()), post(name)).await.unwrap();
        assert_eq!(answer.status().as_u16(), code);
    }
    let cluster = Cluster::bare().await;
    let events = Logged { cluster, log, _directory: directory }.events(2).await;
    assert_eq!(events[0]["annotations"]["speaker.example.org/said"], "first");
    assert_eq!((&events[1]["stage"], &events[1]["responseStatus"]["code"]), (&"Panic".into(), &500.into()));
    // Outside of a request there is nobody to tell.
    super::annotate("a/b", "c");
}

#[test]
fn full_logs_are_turned_over_and_old_ones_go() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.log");
    let clock = std::sync::Arc::new(std::sync::Mutex::new(Timestamp::UNIX_EPOCH));
    let (read, set) = (clock.clone(), move |days: i64| {
        *clock.lock().unwrap() = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * days);
    });
    let env = Env::seeded(move || *read.lock().unwrap(), 1);
    let config = LogConfig { max_size_bytes: 10, max_backups: 2, max_age_days: 5, ..config(&path) };
    let names = || {
        let all = std::fs::read_dir(directory.path()).unwrap();
        let mut names: Vec<String> = all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let mut log = Rotating::open(config.clone(), env.clone()).unwrap();
    log.line(b"123456\n").unwrap();
    log.line(b"abc").unwrap();
    assert_eq!(names(), ["audit.log"]);
    log.line(b"d").unwrap();
    log.line(b"a line that is longer than a file may be").unwrap();
    let first = ["audit-1970-01-01T00-00-00.000.log", "audit-1970-01-01T00-00-00.001.log", "audit.log"];
    assert_eq!(names(), first);
    assert_eq!(std::fs::read_to_string(directory.path().join(first[0])).unwrap(), "123456\nabc");
    set(3);
    log.line(b"x").unwrap();
    assert_eq!(names(), [first[1], "audit-1970-01-04T00-00-00.000.log", "audit.log"]);
    set(7);
    drop(log);
    Rotating::open(config, env).unwrap();
    assert_eq!(names(), ["audit-1970-01-04T00-00-00.000.log", "audit.log"], "six days are more than five");
}
