//! Pods on a machine of eight processors in four cores, threads four apart; one core's worth is reserved.

use serde_json::{Value, from_value, json};

use super::topology::Place;
use super::*;

const RESERVED_MILLI: i64 = 1500;

fn machine() -> Topology {
    Topology((0..8).map(|cpu| (cpu, Place { numa: 0, socket: 0, core: cpu % 4 })).collect())
}

fn open(dir: &Path, policy: CpuPolicy, reserved: Option<&str>) -> Result<Cpus, CpusError> {
    let options = CpuOptions { policy, reserved: reserved.map(|list| list.parse().unwrap()) };
    Cpus::open(&options, || Ok(machine()), &dir.join("state"), RESERVED_MILLI, false)
}

fn container(name: &str, cpu: &str) -> Value {
    json!({"name": name, "resources": {"limits": {"cpu": cpu, "memory": "1Gi"}, "requests": {"cpu": cpu, "memory": "1Gi"}}})
}

fn pod(uid: &str, init: &[Value], containers: &[Value]) -> Pod {
    from_value(json!({"metadata": {"uid": uid}, "spec": {"initContainers": init, "containers": containers}})).unwrap()
}

fn of(cpus: &Cpus, uid: &str, container: &str) -> String {
    cpus.of(uid, container).unwrap()
}

#[tokio::test]
async fn whole_processors_are_a_containers_own_until_it_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let cpus = open(dir.path(), CpuPolicy::Static, None).unwrap();
    let mut news = cpus.subscribe();
    cpus.allocate(&pod("1", &[], &[container("a", "2"), container("b", "1")])).await.unwrap();
    assert!(news.has_changed().unwrap());
    news.mark_unchanged();
    assert_eq!((of(&cpus, "1", "a"), of(&cpus, "1", "b")), ("1,5".into(), "2".into()));
    let mut resources = LinuxContainerResources { cpu_quota: 200_000, ..LinuxContainerResources::default() };
    cpus.confine("1", "a", &mut resources);
    assert_eq!((&*resources.cpuset_cpus, resources.cpu_quota), ("1,5", -1));

    // Parts of processors, and pods that are not Guaranteed, share what is left.
    let mut burstable = pod("3", &[], &[container("a", "2")]);
    burstable.spec.as_mut().unwrap().containers[0].resources.as_mut().unwrap().limits = None;
    for shares in [pod("2", &[], &[container("a", "1500m")]), burstable] {
        cpus.allocate(&shares).await.unwrap();
        let uid = shares.metadata.uid.unwrap();
        let mut resources = LinuxContainerResources { cpu_quota: 150_000, ..LinuxContainerResources::default() };
        cpus.confine(&uid, "a", &mut resources);
        assert_eq!((&*resources.cpuset_cpus, resources.cpu_quota), ("0,3-4,6-7", 150_000), "{uid}");
        assert!(!cpus.has_own(&uid));
    }
    assert!(!news.has_changed().unwrap());
    let refused = cpus.allocate(&pod("4", &[], &[container("a", "4")])).await.unwrap_err().to_string();
    assert_eq!(refused, "not enough cpus available to satisfy request: requested=4, available=3");

    // Another agent knows the same.
    let cpus = open(dir.path(), CpuPolicy::Static, None).unwrap();
    assert_eq!((of(&cpus, "1", "a"), of(&cpus, "2", "a")), ("1,5".into(), "0,3-4,6-7".into()));
    cpus.release("1").await;
    assert_eq!(of(&cpus, "2", "a"), "0-7");
    assert_eq!(of(&open(dir.path(), CpuPolicy::Static, None).unwrap(), "2", "a"), "0-7");
}

#[tokio::test]
async fn what_init_containers_had_is_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let cpus = open(dir.path(), CpuPolicy::Static, None).unwrap();
    let mut sidecar = container("s", "2");
    sidecar["restartPolicy"] = json!("Always");
    // Six are not reserved.
    let all = pod("1", &[container("i", "6"), sidecar], &[container("a", "4")]);
    cpus.allocate(&all).await.unwrap();
    assert_eq!(
        (of(&cpus, "1", "i"), of(&cpus, "1", "s"), of(&cpus, "1", "a")),
        ("1-3,5-7".into(), "1,5".into(), "2-3,6-7".into())
    );
}

#[test]
fn what_cannot_be_is_said_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let told = |policy, reserved, reserved_milli, has_pods| {
        let options = CpuOptions { policy, reserved: Option::map(reserved, |list: &str| list.parse().unwrap()) };
        let opened = Cpus::open(&options, || Ok(machine()), &dir.path().join("state"), reserved_milli, has_pods);
        opened.err().map(|error| error.to_string()).unwrap_or_default()
    };
    let policy = |configured: &str, found: &str| {
        format!("configured policy {configured:?} differs from state checkpoint policy {found:?}")
    };
    assert_eq!(told(CpuPolicy::None, None, 0, true), "");
    assert!(told(CpuPolicy::Static, None, 1000, true).starts_with(&policy("static", "none")));
    assert!(told(CpuPolicy::Static, None, 0, false).starts_with("the static policy requires systemreserved.cpu"));
    let missing = "the processors 7-8 cannot be reserved: this machine has 0-7";
    assert_eq!(told(CpuPolicy::Static, Some("7-8"), 0, false), missing);
    assert_eq!(told(CpuPolicy::Static, Some("7"), 0, false), "");
    assert!(told(CpuPolicy::None, None, 0, false).starts_with(&policy("none", "static")));
    let taken = Checkpoint { assignments: [("1".into(), [("a".into(), "6-9".parse().unwrap())].into())].into() };
    checkpoint::write(&dir.path().join("state"), &taken).unwrap();
    let wrong = "pods have the processors 6-9, of which 7-9 are reserved or not there any more";
    assert!(told(CpuPolicy::Static, Some("7"), 0, false).starts_with(wrong));
}
