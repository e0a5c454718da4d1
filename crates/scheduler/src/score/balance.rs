//! Room left, and how evenly CPU and memory would be used.

use super::MAX;
use crate::{cluster::NodeInfo, pod::PodInfo};

/// The share that would stay free, averaged over CPU and memory (LeastAllocated).
pub fn room(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let (cpu, memory) = pod.scoring_requests;
    let free = |used: i64, there: i64| if there <= 0 || used > there { 0 } else { (there - used) * MAX / there };
    let cpu = free(node.scoring_requested.0 + cpu, node.allocatable.cpu_milli);
    let memory = free(node.scoring_requested.1 + memory, node.allocatable.memory_bytes);
    (cpu + memory) / 2
}

/// Less the further apart the used shares of CPU and memory would be (BalancedAllocation).
pub fn evenness(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let share = |used: i64, there: i64| if there <= 0 { 1.0 } else { (used as f64 / there as f64).min(1.0) };
    let cpu = share(node.requested.cpu_milli + pod.requests.cpu_milli, node.allocatable.cpu_milli);
    let memory = share(node.requested.memory_bytes + pod.requests.memory_bytes, node.allocatable.memory_bytes);
    // The standard deviation of two values is half their distance.
    ((1.0 - (cpu - memory).abs() / 2.0) * MAX as f64) as i64
}
