//! The labels and annotations by which sandboxes and containers say whose they are. They are the kubelet's
//! own, so that `crictl` and log collectors find what they expect, and they are all that a restarted agent
//! has to re-adopt what runs.

pub const POD_NAME: &str = "io.kubernetes.pod.name";
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub const POD_UID: &str = "io.kubernetes.pod.uid";
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";

pub const HASH: &str = "io.kubernetes.container.hash";
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
pub const TERMINATION_MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
pub const TERMINATION_MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
pub const GRACE_PERIOD: &str = "io.kubernetes.pod.terminationGracePeriod";

/// Where a pod came from: `api` (no annotation), or `file` for a static pod.
pub const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
/// Identifies the content of a static pod; its mirror carries the same value under [`CONFIG_MIRROR`].
pub const CONFIG_HASH: &str = "kubernetes.io/config.hash";
pub const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";
