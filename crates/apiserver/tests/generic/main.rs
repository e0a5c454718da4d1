//! The generic path through the real server, in process, over the real store in memory.

mod deletes;
mod fields;
mod forms;
#[path = "../harness/mod.rs"]
mod harness;
mod life;
mod lifecycles;
mod lists;
mod operations;
mod patches;
mod refusals;
mod warnings;

use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "v"}})
}
