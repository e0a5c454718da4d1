use knarr_cri::v1::{
    Capability, ImageSpec, Int64Value, KeyValue, LinuxContainerConfig, LinuxContainerSecurityContext, Mount,
};

use super::*;

fn config(command: &[&str], args: &[&str]) -> ContainerConfig {
    let owned = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect();
    let image = Some(ImageSpec { image: "an/image".into(), ..ImageSpec::default() });
    ContainerConfig { command: owned(command), args: owned(args), image, ..ContainerConfig::default() }
}

fn image() -> RunConfig {
    RunConfig {
        entrypoint: vec!["/entry".into()],
        cmd: vec!["default".into()],
        env: vec!["PATH=/bin".into(), "A=image".into()],
        user: "web".into(),
        ..RunConfig::default()
    }
}

#[test]
fn commands_follow_kubernetes_rules() {
    for (command, given, expected) in [
        (&[][..], &[][..], &["/entry", "default"][..]),
        (&["c"], &[], &["c"]),
        (&["c"], &["a"], &["c", "a"]),
        (&[], &["a"], &["/entry", "a"]),
    ] {
        assert_eq!(args(&config(command, given), &image()).unwrap(), expected, "{command:?} {given:?}");
    }
    let error = args(&config(&[], &[]), &RunConfig::default()).unwrap_err().to_string();
    assert!(error.starts_with("no command specified") && error.contains("an/image"), "{error}");
}

#[test]
fn variables_of_the_pod_win_over_the_images() {
    let mut config = config(&[], &[]);
    config.envs =
        vec![KeyValue { key: "A".into(), value: "pod=1".into() }, KeyValue { key: "B".into(), value: "".into() }];
    let sandbox = PodSandboxConfig { hostname: "pod-0".into(), ..PodSandboxConfig::default() };
    assert_eq!(env(&config, &sandbox, &image()), ["HOSTNAME=pod-0", "PATH=/bin", "A=pod=1", "B="]);
}

#[test]
fn capabilities_are_added_and_dropped() {
    let check = |add: &[&str], drop: &[&str], has: &[&str], lacks: &[&str]| {
        let owned = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect();
        let changes =
            Capability { add_capabilities: owned(add), drop_capabilities: owned(drop), ..Capability::default() };
        let security = LinuxContainerSecurityContext { capabilities: Some(changes), ..Default::default() };
        let set = capabilities(&security).unwrap();
        has.iter().for_each(|n| assert!(set.contains(Capabilities::named(n).unwrap()), "{add:?} {drop:?} has {n}"));
        lacks
            .iter()
            .for_each(|n| assert!(!set.contains(Capabilities::named(n).unwrap()), "{add:?} {drop:?} lacks {n}"));
    };
    check(&[], &[], &["CHOWN", "NET_RAW"], &["SYS_ADMIN", "NET_ADMIN"]);
    check(&["NET_ADMIN"], &["NET_RAW"], &["NET_ADMIN"], &["NET_RAW"]);
    check(&["NET_BIND_SERVICE"], &["ALL"], &["NET_BIND_SERVICE"], &["CHOWN"]);
    check(&["ALL"], &["SYS_ADMIN"], &["SYS_MODULE"], &["SYS_ADMIN"]);
    let wrong = Capability { add_capabilities: vec!["FLY".into()], ..Capability::default() };
    let security = LinuxContainerSecurityContext { capabilities: Some(wrong), ..Default::default() };
    assert!(capabilities(&security).unwrap_err().to_string().contains("FLY"));
}

#[test]
fn mounts_are_ordered_and_the_pods_win() {
    let mount = |target: &str| Mount { container_path: target.into(), host_path: "/h".into(), ..Mount::default() };
    let config =
        ContainerConfig { mounts: vec![mount("/a/b/c"), mount("/etc/hosts"), mount("/a/../a/")], ..Default::default() };
    let of_sandbox = |target: &str| BindMount::new("/s", target);
    let none = BTreeMap::new();
    let all =
        mounts(&config, None, vec![], vec![of_sandbox("/etc/hosts"), of_sandbox("/etc/hostname")], &none).unwrap();
    let got: Vec<_> = all.iter().map(|m| (m.source.to_str().unwrap(), m.target.to_str().unwrap())).collect();
    assert_eq!(got, [("/h", "/a"), ("/h", "/etc/hosts"), ("/s", "/etc/hostname"), ("/h", "/a/b/c")]);
    for target in ["relative", "/", "/a/.."] {
        let config = ContainerConfig { mounts: vec![mount(target)], ..Default::default() };
        assert!(mounts(&config, None, vec![], vec![], &none).is_err(), "{target}");
    }
}

#[test]
fn an_image_is_mounted_by_its_layers_and_never_written_to() {
    let image = |name: &str| {
        let image = Some(ImageSpec { image: name.into(), ..ImageSpec::default() });
        let mount = Mount { container_path: "/i".into(), image, image_sub_path: "a/b".into(), ..Mount::default() };
        ContainerConfig { mounts: vec![mount], ..Default::default() }
    };
    let known = BTreeMap::from([("id".to_owned(), vec!["2".to_owned(), "1".to_owned()])]);
    let mount = mounts(&image("id"), None, vec![], vec![], &known).unwrap().remove(0);
    assert_eq!((mount.source.to_str(), mount.readonly, mount.layers), (Some("a/b"), true, known.get("id").cloned()));
    let error = mounts(&image("other"), None, vec![], vec![], &known).unwrap_err().to_string();
    assert!(error.contains("\"/i\"") && error.contains("other"), "{error}");
}

#[test]
fn users_come_from_the_pod_or_the_image() {
    let mut security = LinuxContainerSecurityContext::default();
    assert_eq!(user(&security, &image()).unwrap().user, "web");
    security.run_as_user = Some(Int64Value { value: 1000 });
    assert_eq!(user(&security, &image()).unwrap().user, "1000");
    security.run_as_group = Some(Int64Value { value: -1 });
    assert!(user(&security, &image()).is_err());
}

#[test]
fn privileged_containers_are_not_confined() {
    let security = LinuxContainerSecurityContext { privileged: true, ..Default::default() };
    let linux = LinuxContainerConfig { security_context: Some(security), ..Default::default() };
    let config = ContainerConfig { linux: Some(linux), ..config(&["x"], &[]) };
    let rootfs = Rootfs {
        store: "/".into(),
        layers: vec![],
        upper: "/u".into(),
        work: "/w".into(),
        mountpoint: "/m".into(),
        readonly: false,
    };
    let spec = container(Inputs {
        id: "c",
        config: &config,
        sandbox: &PodSandboxConfig::default(),
        image: &image(),
        rootfs,
        cgroup: "k/c".into(),
        exit_path: "/e".into(),
        sandbox_mounts: vec![],
        mounted_images: BTreeMap::new(),
        target_pid: None,
    })
    .unwrap();
    assert!(spec.masked_paths.is_empty() && spec.resources.devices.is_none() && spec.process.seccomp.is_empty());
    assert_eq!(spec.process.capabilities, Capabilities::ALL);
}
