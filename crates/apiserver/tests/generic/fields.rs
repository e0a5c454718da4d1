//! Fields that a type does not know, and keys that occur twice: in which words and in which order they are told of.
//! The rows are those of upstream's own integration test of field validation.

use super::harness::{Server, json_patch, merge_patch};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const ONE: &str = "/apis/apps/v1/namespaces/default/deployments/one";

const GOOD: &str = r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"one"},"spec":{
    "selector":{"matchLabels":{"app":"nginx"}},"template":{"metadata":{"labels":{"app":"nginx"}},
    "spec":{"containers":[{"name":"nginx","image":"nginx:latest","imagePullPolicy":"Always"}]}}}}"#;

const BAD: &str = r#"{"apiVersion":"apps/v1","kind":"Deployment",
    "metadata":{"name":"dupename","name":"one","labels":{"app":"nginx"},"unknownMeta":"metaVal"},
    "spec":{"unknown1":"val1","unknownDupe":"valDupe","unknownDupe":"valDupe2","paused":true,"paused":false,
    "selector":{"matchLabels":{"app":"nginx"}},"template":{"metadata":{"labels":{"app":"nginx"}},
    "spec":{"containers":[{"name":"nginx","image":"nginx:latest","unknownNested":"val1",
    "imagePullPolicy":"Always","imagePullPolicy":"Never"}]}}}}"#;

const BAD_YAML: &str = "metadata:
  name: dupename
  name: one
  unknownMeta: metaVal
spec:
  unknown1: val1
  paused: true
  paused: false
  selector: {matchLabels: {app: nginx}}
  template:
    metadata: {labels: {app: nginx}}
    spec: {containers: [{name: nginx, image: 'nginx:latest', unknownNested: val1}]}
";

const BAD_PATCH: &str = r#"{"spec":{"unknown1":"val1","unknownDupe":"valDupe","unknownDupe":"valDupe2",
    "paused":true,"paused":false,"template":{"spec":{"containers":[{"name":"nginx","image":"nginx:latest",
    "unknownNested":"val1","imagePullPolicy":"Always","imagePullPolicy":"Never"}]}}}}"#;

const BAD_OPERATIONS: &str = r#"[{"op":"add","path":"/spec/unknown1","value":"val1","foo":"bar"},
    {"op":"add","path":"/spec/unknown2","path":"/spec/unknown3","value":"val1"},
    {"op":"add","path":"/spec/template/spec/containers/0/unknownNested","value":"val1"}]"#;

/// In the order of the document.
const OF_BODY: &str = r#"duplicate field "metadata.name", unknown field "metadata.unknownMeta",
    unknown field "spec.unknown1", unknown field "spec.unknownDupe", duplicate field "spec.paused",
    unknown field "spec.template.spec.containers[0].unknownNested",
    duplicate field "spec.template.spec.containers[0].imagePullPolicy""#;

/// First the patch, then what came of it, which is sorted.
const OF_PATCH: &str = r#"duplicate field "spec.unknownDupe", duplicate field "spec.paused",
    duplicate field "spec.template.spec.containers[0].imagePullPolicy",
    unknown field "spec.template.spec.containers[0].unknownNested", unknown field "spec.unknown1",
    unknown field "spec.unknownDupe""#;

const OF_OPERATIONS: &str = r#"json patch unknown field "[0].foo", json patch duplicate field "[1].path",
    unknown field "spec.template.spec.containers[0].unknownNested", unknown field "spec.unknown1",
    unknown field "spec.unknown3""#;

const OF_LINES: [&str; 2] = ["line 3: key \"name\" already set in map", "line 8: key \"paused\" already set in map"];
const OF_YAML: &str = r#"unknown field "metadata.unknownMeta",
    unknown field "spec.template.spec.containers[0].unknownNested", unknown field "spec.unknown1""#;

fn each(problems: &str) -> Vec<String> {
    problems.split(',').map(|problem| problem.trim().to_owned()).collect()
}

fn as_header(problem: &str) -> String {
    format!("299 - \"{}\"", problem.replace('"', "\\\""))
}

#[tokio::test]
async fn they_are_told_of_as_upstream_does() {
    let server = Server::start().await;
    server.send("POST", DEPLOYMENTS, &[], GOOD.into()).await.expect(201);
    let strategic = "application/strategic-merge-patch+json";
    let other = &BAD.replace(r#""name":"one""#, r#""name":"two""#);
    for (method, path, kind, body, problems) in [
        ("POST", DEPLOYMENTS, "application/json", other.as_str(), OF_BODY),
        ("PUT", ONE, "", BAD, OF_BODY),
        ("PATCH", ONE, merge_patch(), BAD_PATCH, OF_PATCH),
        ("PATCH", ONE, strategic, BAD_PATCH, OF_PATCH),
        ("PATCH", ONE, json_patch(), BAD_OPERATIONS, OF_OPERATIONS),
    ] {
        let send = async |query: &str| {
            server.send(method, &format!("{path}?dryRun=All{query}"), &[("content-type", kind)], body.into()).await
        };
        let problems = each(problems);
        let refused = send("&fieldValidation=Strict").await;
        assert_eq!(refused.code(), if method == "PATCH" { 422 } else { 400 }, "{}", refused.text());
        let refused = refused.expect(refused.code());
        let why = format!(": strict decoding error: {}", problems.join(", "));
        assert!(refused["message"].as_str().unwrap().ends_with(&why), "{method} {kind}: {refused}");
        let expected: Vec<_> = problems.iter().map(|problem| as_header(problem)).collect();
        assert_eq!(send("").await.warnings(), expected, "{method} {kind}");
        assert_eq!(send("&fieldValidation=Warn").await.warnings(), expected, "{method} {kind}");
        assert_eq!(send("&fieldValidation=Ignore").await.warnings(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn of_yaml_each_line_is_a_warning() {
    let server = Server::start().await;
    let yaml = [("content-type", "application/yaml")];
    let strict = format!("{DEPLOYMENTS}?fieldValidation=Strict");
    let refused = server.send("POST", &strict, &yaml, BAD_YAML.into()).await.status(400, "BadRequest");
    let why = format!(
        "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: yaml: unmarshal \
         errors:\n  {}, {}",
        OF_LINES.join("\n  "),
        each(OF_YAML).join(", ")
    );
    assert_eq!(refused["message"], why);
    let warned = server.send("POST", DEPLOYMENTS, &yaml, BAD_YAML.into()).await;
    let expected = OF_LINES.iter().map(|line| (*line).to_owned()).chain(each(OF_YAML));
    assert_eq!(warned.warnings(), expected.map(|problem| as_header(&problem)).collect::<Vec<_>>());
    warned.expect(201);
    // An apply tells of its lines the same way.
    let apply = [("content-type", "application/apply-patch+yaml")];
    let twice = "kind: Deployment\napiVersion: apps/v1\nspec:\n  paused: true\n  paused: false\n  \
                 selector: {matchLabels: {a: b}}\n  template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, \
                 image: i}]}}\n";
    let warned = server.send("PATCH", &format!("{DEPLOYMENTS}/other?fieldManager=m"), &apply, twice.into()).await;
    assert_eq!(warned.warnings(), [as_header("line 5: key \"paused\" already set in map")]);
    warned.expect(201);
}

#[tokio::test]
async fn a_refused_patch_is_shown_and_no_object_is_named() {
    let server = Server::start().await;
    let map = "/api/v1/namespaces/default/configmaps/m";
    server
        .send("POST", "/api/v1/namespaces/default/configmaps", &[], br#"{"metadata":{"name":"m"}}"#.into())
        .await
        .expect(201);
    let path = format!("{map}?fieldValidation=Strict");
    let patch = br#"{"data":{"a":"b"},"odd":[1,"x"]}"#;
    let strategic = [("content-type", "application/strategic-merge-patch+json")];
    let refused = server.send("PATCH", &path, &strategic, patch.into()).await.status(422, "Invalid");
    assert_eq!(
        refused["message"],
        " \"\" is invalid: patch: Invalid value: \"map[data:map[a:b] odd:[1 x]]\": strict decoding error: \
         unknown field \"odd\""
    );
    assert_eq!(
        (&refused["details"]["kind"], &refused["details"]["name"]),
        (&serde_json::Value::Null, &serde_json::Value::Null)
    );
    // Of the others it is what they made of the object.
    let merge = [("content-type", merge_patch())];
    let refused = server.send("PATCH", &path, &merge, patch.into()).await.status(422, "Invalid");
    let shown = refused["message"].as_str().unwrap();
    assert!(shown.contains("\\\"name\\\":\\\"m\\\"") && shown.contains("\\\"odd\\\":[1,"), "{shown}");
}
