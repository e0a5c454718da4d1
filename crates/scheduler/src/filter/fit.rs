//! Enough room: pods, CPU, memory, ephemeral storage, extended resources.

use super::{Plugin, Refusal};
use crate::{cluster::NodeInfo, pod::PodInfo};

pub fn check(pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
    let mut reasons = Vec::new();
    let mut resolvable = true;
    if node.pods.len() as i64 + 1 > node.max_pods {
        reasons.push("Too many pods".to_owned());
    }
    let mut short = |name: &str, asked: i64, used: i64, there: i64| {
        if asked > 0 && asked > there - used {
            reasons.push(format!("Insufficient {name}"));
            // More than the node has at all: evicting others would not help.
            resolvable &= asked <= there;
        }
    };
    let (asked, used, there) = (&pod.requests, &node.requested, &node.allocatable);
    short("cpu", asked.cpu_milli, used.cpu_milli, there.cpu_milli);
    short("memory", asked.memory_bytes, used.memory_bytes, there.memory_bytes);
    short("ephemeral-storage", asked.ephemeral_bytes, used.ephemeral_bytes, there.ephemeral_bytes);
    for (name, amount) in &asked.others {
        let of = |list: &std::collections::BTreeMap<String, i64>| list.get(name).copied().unwrap_or(0);
        short(name, *amount, of(&used.others), of(&there.others));
    }
    if reasons.is_empty() { Ok(()) } else { Err(Refusal { plugin: Plugin::Fit, reasons, resolvable }) }
}
