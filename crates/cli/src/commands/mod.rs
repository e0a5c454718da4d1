//! One file a command: what can be typed, and what it does.

mod apply;
mod change;
mod completion;
mod config;
mod cp;
mod create;
mod delete;
mod describe;
mod drain;
mod edit;
mod events;
mod exec;
mod explain;
mod get;
mod info;
mod logs;
mod make;
mod metadata;
mod nodes;
mod port_forward;
mod rollout;
mod set;
mod wait;

use clap::{ArgMatches, Command};

use crate::{cx::Cx, error::Result};

pub use completion::print as print_completion;

/// Every command, in the order in which help shows them.
pub fn all() -> Vec<Command> {
    let mut all = vec![
        get::command(),
        describe::command(),
        create::command(),
        apply::command(),
        delete::command(),
        logs::command(),
        rollout::command(),
        wait::command(),
        set::command(),
        events::command(),
        drain::command(),
        explain::command(),
        config::command(),
        completion::command(),
    ];
    all.extend(exec::commands());
    all.extend([cp::command(), port_forward::command()]);
    all.extend(edit::commands());
    all.extend(make::commands());
    all.extend(metadata::commands());
    all.extend(nodes::commands());
    all.extend(change::commands());
    all.extend(info::commands());
    all
}

pub async fn run(name: &str, cx: &Cx) -> Result<()> {
    match name {
        "get" => get::run(cx).await,
        "describe" => describe::run(cx).await,
        "create" => create::from_files(cx).await,
        "apply" => apply::run(cx).await,
        "apply view-last-applied" => apply::view_last_applied(cx).await,
        "delete" => delete::run(cx).await,
        "edit" => edit::edit(cx).await,
        "diff" => edit::diff(cx).await,
        "logs" => logs::run(cx).await,
        "exec" => exec::exec(cx).await,
        "attach" => exec::attach(cx).await,
        "cp" => cp::run(cx).await,
        "port-forward" => port_forward::run(cx).await,
        "wait" => wait::run(cx).await,
        "events" => events::run(cx).await,
        "explain" => explain::run(cx).await,
        "expose" => make::expose(cx).await,
        "autoscale" => make::autoscale(cx).await,
        "run" => make::run(cx).await,
        "drain" => drain::run(cx).await,
        "label" => metadata::run(cx, "labels").await,
        "annotate" => metadata::run(cx, "annotations").await,
        "taint" => nodes::taint(cx).await,
        "patch" => change::patch(cx).await,
        "scale" => change::scale(cx).await,
        "replace" => change::replace(cx).await,
        "cordon" => nodes::cordon(cx, true).await,
        "uncordon" => nodes::cordon(cx, false).await,
        "api-resources" => info::api_resources(cx).await,
        "api-versions" => info::api_versions(cx).await,
        "cluster-info" => info::cluster_info(cx).await,
        "auth can-i" => info::can_i(cx).await,
        "auth whoami" => info::whoami(cx).await,
        "top node" => info::top_node(cx).await,
        "top pod" => info::top_pod(cx).await,
        other => match other.split_once(' ') {
            Some(("create", kind)) => create::generate(cx, kind).await,
            Some(("rollout", what)) => rollout::run(cx, what).await,
            Some(("set", what)) => set::run(cx, what).await,
            Some(("config", what)) => config::run(cx, what),
            _ => Err(crate::fail!("unknown command \"{other}\"")),
        },
    }
}

/// The words of the command that was typed, and the flags of its last one.
pub fn innermost(matches: &ArgMatches) -> (Vec<String>, ArgMatches) {
    let (mut words, mut inner) = (Vec::new(), matches.clone());
    while let Some((name, sub)) = inner.subcommand() {
        words.push(name.to_owned());
        inner = sub.clone();
    }
    (words, inner)
}
