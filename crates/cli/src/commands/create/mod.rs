//! `create`: from files, or one object of a common kind from flags. A file a family of kinds: the flags that are theirs,
//! and the objects made of them.

mod data;
mod limits;
mod network;
mod rights;
mod workload;

use std::fs;

use clap::{Arg, Command};
use serde_json::{Map, Value, json};

use super::apply;
use crate::{
    cx::{Cx, dig_str},
    error::{Error, Result},
    fail,
    flags::{self, switch, text},
    output::Reporter,
    resources::{self, Found},
};

pub const MANAGER: &str = "kubectl-create";

fn shared() -> Vec<Arg> {
    let mut own = vec![
        switch("save-config", "Note what is sent, for a later apply"),
        text("validate", "strict, warn or ignore: what becomes of fields that the server does not know"),
    ];
    own.extend(flags::writing());
    own
}

fn generator(name: &'static str, about: &'static str, own: Vec<Arg>) -> Command {
    flags::command(name, about, "NAME", own.into_iter().chain(shared()).collect())
}

pub fn command() -> Command {
    let mut own = shared();
    own.extend(flags::files());
    own.push(text("raw", "Post the file to this path"));
    own.push(switch("edit", "Not supported: write the file first"));
    own.push(flags::selector());
    let namespace = generator("namespace", "Create a namespace", vec![]).visible_alias("ns");
    apply::grouped(flags::command("create", "Create a resource from a file, from stdin or from flags", "", own))
        .subcommands(workload::commands())
        .subcommands(data::commands())
        .subcommand(namespace)
        .subcommands(network::commands())
        .subcommands(rights::commands())
        .subcommands(limits::commands())
}

/// `create -f`
pub async fn from_files(cx: &Cx) -> Result<()> {
    if cx.flags.list("filename").is_empty() {
        return Err(fail!("must specify one of -f and -k"));
    }
    if let Some(path) = cx.flags.some("raw") {
        let mut text = String::new();
        match cx.flags.list("filename").as_slice() {
            ["-"] => _ = std::io::Read::read_to_string(&mut std::io::stdin(), &mut text)?,
            [file] => text = fs::read_to_string(file)?,
            _ => return Err(fail!("--raw can only use a single local file or stdin")),
        }
        return crate::cx::write_out(&cx.api().await?.raw(http::Method::POST, path, Some(text.into_bytes())).await?);
    }
    let Found { mut infos, mut errors, .. } = resources::from_files(cx).await?;
    if let Some(selector) = cx.flags.some("selector") {
        let selector = knarr_api::selector::LabelSelector::parse(selector).map_err(|error| fail!("{error}"))?;
        infos.retain(|info| selector.matches_value(&info.object["metadata"]["labels"]));
    }
    if infos.is_empty() && errors.is_empty() {
        return Err(fail!("no objects passed to create"));
    }
    let mut reporter = Reporter::new(cx)?;
    for info in infos {
        match apply::create(cx, &info, MANAGER).await {
            Ok(object) => reporter.done(&object, "created")?,
            Err(error) => errors.push(error),
        }
    }
    Error::collected(errors)
}

/// `create KIND NAME`
pub async fn generate(cx: &Cx, kind: &str) -> Result<()> {
    let args = cx.flags.args();
    let [name] = args.as_slice() else {
        return Err(Error::Usage(format!("exactly one NAME is required, got {}", args.len())));
    };
    if kind == "token" {
        return rights::token(cx, name).await;
    }
    let object = match kind {
        "deployment" => workload::deployment(cx, name)?,
        "configmap" => data::config_map(cx, name)?,
        "namespace" => {
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "spec": {}, "status": {}})
        }
        "serviceaccount" => json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}),
        "job" => workload::job(cx, name).await?,
        "cronjob" => workload::cron_job(cx, name)?,
        "ingress" => network::ingress(cx, name)?,
        "role" | "clusterrole" => rights::role(cx, kind, name).await?,
        "rolebinding" | "clusterrolebinding" => rights::binding(cx, kind, name)?,
        "quota" => limits::quota(cx, name)?,
        "poddisruptionbudget" => limits::budget(cx, name)?,
        "priorityclass" => limits::priority_class(cx, name)?,
        other => match other.split_once(' ') {
            Some(("service", ty)) => network::service(cx, ty, name)?,
            Some(("secret", ty)) => data::secret(cx, ty, name)?,
            _ => return Err(fail!("unknown command \"{kind}\"")),
        },
    };
    let object = finish(cx, object, MANAGER).await?;
    Reporter::new(cx)?.done(&object, "created")
}

/// Sends a generated object, or leaves it at the client.
pub async fn finish(cx: &Cx, mut object: Value, manager: &str) -> Result<Value> {
    if cx.dry_run()? == flags::DryRun::Client {
        let namespaced =
            !matches!(dig_str(&object, "kind"), "Namespace" | "ClusterRole" | "ClusterRoleBinding" | "PriorityClass");
        if let (true, Some(namespace)) = (namespaced, cx.asked_namespace()) {
            object["metadata"]["namespace"] = namespace.into();
        }
        return Ok(if cx.flags.on("save-config") { apply::with_note(&object) } else { object });
    }
    let info = resources::placed(cx, object, "").await?;
    let kind = dig_str(&info.object, "kind").to_owned();
    apply::create(cx, &info, manager).await.map_err(|error| {
        let known = SAID.iter().find(|(known, _)| *known == kind && manager == MANAGER);
        match known.filter(|_| error.reason() != "Invalid") {
            Some((_, words)) => {
                let ty = dig_str(&info.object, "spec.type");
                fail!("failed to create {}{}", words.replace('@', ty), error.message())
            }
            None => error,
        }
    })
}

/// What kubectl says before the server's words.
const SAID: &[(&str, &str)] = &[
    ("ConfigMap", "configmap: "),
    ("CronJob", "cronjob: "),
    ("Deployment", "deployment: "),
    ("Ingress", "ingress: "),
    ("Job", "job: "),
    ("PriorityClass", "priorityclass: "),
    ("ResourceQuota", "quota: "),
    ("RoleBinding", "rolebinding: "),
    ("ClusterRoleBinding", "clusterrolebinding: "),
    ("Secret", "secret "),
    ("Service", "@ service: "),
    ("ServiceAccount", "serviceaccount: "),
];

fn pairs(items: &[&str]) -> Result<Map<String, Value>> {
    items
        .iter()
        .map(|item| {
            let (key, value) =
                item.split_once('=').ok_or_else(|| fail!("unexpected format: {item}, expected KEY=VALUE"))?;
            Ok((key.to_owned(), Value::from(value)))
        })
        .collect()
}
