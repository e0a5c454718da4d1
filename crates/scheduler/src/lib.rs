//! Finds a node for every pod that has none.
//! (<https://kubernetes.io/docs/concepts/scheduling-eviction/kube-scheduler/>)
//!
//! One task decides, pod by pod, over a picture of the cluster that watch events keep current: [`cluster`] holds
//! nodes with what runs on them, [`queue`] the pods that wait, [`filter`] says which nodes can take a pod, [`score`]
//! which of those is best, [`decide`] puts that together. What was decided counts at once (the pod is *assumed* on
//! its node) while the binding is written by another task, so deciding never waits for the API server.

mod around;
mod bind;
mod cluster;
mod decide;
mod device;
mod filter;
mod pod;
mod preempt;
mod queue;
mod resources;
mod run;
mod score;
mod tally;
mod terms;
#[cfg(test)]
mod tests;
mod volume;

pub use run::{Config, NAME, run};
