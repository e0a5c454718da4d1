//! What runs: deployments, jobs and cron jobs.

use clap::Command;
use serde_json::{Value, json};

use super::generator;
use crate::{
    cx::Cx,
    error::Result,
    fail,
    flags::{list, text},
};

pub fn commands() -> [Command; 3] {
    let image = || list("image", "The image of a container");
    [
        generator(
            "deployment",
            "Create a deployment",
            vec![image(), text("replicas", "How many pods"), text("port", "The port of the container")],
        )
        .visible_alias("deploy"),
        generator("job", "Create a job", vec![image(), text("from", "cronjob/NAME: take its template")]),
        generator(
            "cronjob",
            "Create a cron job",
            vec![image(), text("schedule", "When, as cron has it"), text("restart", "OnFailure or Never")],
        )
        .visible_alias("cj"),
    ]
}

fn images(cx: &Cx) -> Result<Vec<&str>> {
    let images = cx.flags.list("image");
    if images.is_empty() { Err(fail!("required flag(s) \"image\" not set")) } else { Ok(images) }
}

fn container(name: &str, image: &str, command: &[&str]) -> Value {
    let mut container = json!({"name": name, "image": image, "resources": {}});
    if !command.is_empty() {
        container["command"] = command.into();
    }
    container
}

pub fn deployment(cx: &Cx, name: &str) -> Result<Value> {
    let (images, command) = (images(cx)?, cx.flags.rest());
    if images.len() > 1 && !command.is_empty() {
        return Err(fail!("cannot specify multiple --image options and command"));
    }
    let bare = |image: &str| image.rsplit('/').next()?.split([':', '@']).next().map(str::to_owned);
    let each = |image: &&str| container(&bare(image).unwrap_or_default(), image, &command);
    let mut containers: Vec<Value> = images.iter().map(each).collect();
    if let Some(port) = cx.flags.number::<u16>("port")? {
        containers[0]["ports"] = json!([{"containerPort": port}]);
    }
    Ok(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"labels": {"app": name}, "name": name},
        "spec": {
            "replicas": cx.flags.number::<i32>("replicas")?.unwrap_or(1),
            "selector": {"matchLabels": {"app": name}},
            "strategy": {},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": containers}},
        },
        "status": {},
    }))
}

pub async fn job(cx: &Cx, name: &str) -> Result<Value> {
    if let Some(from) = cx.flags.some("from") {
        let Some(("cronjob" | "cronjobs" | "cj" | "cronjob.batch", from)) = from.split_once('/') else {
            return Err(fail!("from must be an existing cronjob"));
        };
        let namespace = cx.namespace().await?;
        let parent = cx.api().await?.get(&format!("/apis/batch/v1/namespaces/{namespace}/cronjobs/{from}")).await?;
        let template = &parent["spec"]["jobTemplate"];
        let mut annotations = template["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
        annotations.insert("cronjob.kubernetes.io/instantiate".into(), "manual".into());
        let owner = json!([{"apiVersion": "batch/v1", "kind": "CronJob", "name": from, "uid": parent["metadata"]["uid"], "controller": true}]);
        let mut metadata = json!({"name": name, "annotations": annotations, "ownerReferences": owner});
        if template["metadata"]["labels"].is_object() {
            metadata["labels"] = template["metadata"]["labels"].clone();
        }
        return Ok(
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template["spec"], "status": {}}),
        );
    }
    let images = cx.flags.list("image");
    let image = images.first().ok_or_else(|| fail!("either --image or --from must be specified"))?;
    let pod = json!({"containers": [container(name, image, &cx.flags.rest())], "restartPolicy": "Never"});
    Ok(
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"template": {"metadata": {}, "spec": pod}}, "status": {}}),
    )
}

pub fn cron_job(cx: &Cx, name: &str) -> Result<Value> {
    let pod = json!({
        "containers": [container(name, images(cx)?[0], &cx.flags.rest())],
        "restartPolicy": cx.flags.some("restart").unwrap_or("OnFailure"),
    });
    let template = json!({"metadata": {"name": name}, "spec": {"template": {"metadata": {}, "spec": pod}}});
    Ok(json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name},
        "spec": {"jobTemplate": template, "schedule": cx.flags.required("schedule")?}, "status": {},
    }))
}
