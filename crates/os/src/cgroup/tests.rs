use super::{layout::V1Layout, *};

#[test]
fn weights_follow_the_published_table() {
    for (shares, weight) in [(0, 0), (2, 1), (100, 17), (512, 59), (1024, 100), (2048, 174), (262_144, 10_000)] {
        let resources = Resources { cpu_shares: shares, ..Resources::default() };
        assert_eq!(resources.cpu_weight(), weight, "{shares} shares");
    }
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    for path in ["", "/", "../x", "a/../../x", "./"] {
        assert!(relative(Path::new(path)).is_err(), "{path:?}");
    }
    assert_eq!(relative(Path::new("/knarr/pod1")).unwrap(), Path::new("knarr/pod1"));
}

/// Plain directories stand in for the kernel's: what matters is which file gets which text.
fn limits() -> Resources {
    Resources {
        cpu_shares: 512,
        cpu_quota_us: 50_000,
        cpu_period_us: 100_000,
        memory_limit_bytes: 64 << 20,
        pids_limit: 100,
        oom_group: true,
        ..Resources::default()
    }
}

#[test]
fn version_2_files() {
    let dir = tempfile::tempdir().unwrap();
    let cgroups = Cgroups::with_layout(Layout::V2(dir.path().to_owned()));
    let group = dir.path().join("knarr/pod/c");
    std::fs::create_dir_all(&group).unwrap();
    std::fs::write(group.join("memory.swap.max"), "").unwrap();
    assert!(cgroups.create(Path::new("knarr/pod/c"), &limits()).unwrap().is_empty());
    for (file, expected) in [
        ("cpu.weight", "59"),
        ("cpu.max", "50000 100000"),
        ("memory.max", "67108864"),
        ("memory.swap.max", "0"),
        ("memory.oom.group", "1"),
        ("pids.max", "100"),
    ] {
        assert_eq!(std::fs::read_to_string(group.join(file)).unwrap(), expected, "{file}");
    }
}

#[test]
fn version_1_files() {
    let dir = tempfile::tempdir().unwrap();
    let hierarchies = ["cpu", "memory", "pids", "cpuset"].map(|c| (vec![c.to_owned()], dir.path().join(c)));
    let cgroups = Cgroups::with_layout(Layout::V1(V1Layout { hierarchies: hierarchies.to_vec(), trackers: vec![] }));
    assert!(cgroups.create(Path::new("knarr/c"), &limits()).unwrap().is_empty());
    for (file, expected) in [
        ("cpu/knarr/c/cpu.shares", "512"),
        ("cpu/knarr/c/cpu.cfs_quota_us", "50000"),
        ("memory/knarr/c/memory.limit_in_bytes", "67108864"),
        ("pids/knarr/c/pids.max", "100"),
    ] {
        assert_eq!(std::fs::read_to_string(dir.path().join(file)).unwrap(), expected, "{file}");
    }
    assert!(!dir.path().join("cpuset/knarr").exists(), "a controller nobody asked for is left alone");
}

#[test]
fn real_groups_are_made_limited_and_removed() {
    assert!(rustix::process::geteuid().is_root(), "this test makes control groups; run it as root");
    let cgroups = Cgroups::detect().unwrap();
    let path = PathBuf::from(format!("knarr-os-test-{}/pod/c", std::process::id()));
    let root = Path::new(path.components().next().unwrap().as_os_str());
    let mut warnings = cgroups.create(&path, &limits()).unwrap();
    // Hosts without swap accounting are common; nothing else may be refused.
    warnings.retain(|w| !w.object.contains("swap") && !w.object.contains("memsw"));
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(cgroups.usage(&path).memory_limit_bytes, Some(64 << 20));
    assert_eq!(cgroups.oom_kills(&path), 0);
    assert!(cgroups.processes(&path).is_empty());
    cgroups.remove_root(root).unwrap();
    assert_eq!(cgroups.usage(&path), Usage::default());
}

/// In whichever hierarchies this host has: version 1's freezer, and version 2, also where it is only beside version 1.
#[test]
fn a_frozen_process_stands_still() {
    assert!(rustix::process::geteuid().is_root(), "this test makes control groups; run it as root");
    let mut tried = vec![Cgroups::detect().unwrap()];
    let trackers = crate::mount::table().unwrap();
    tried
        .extend(trackers.into_iter().find(|m| m.kind == "cgroup2").map(|m| Cgroups::with_layout(Layout::V2(m.target))));
    for cgroups in tried {
        let path = PathBuf::from(format!("knarr-os-freeze-{}", std::process::id()));
        cgroups.create_freezable(&path).unwrap();
        #[allow(clippy::disallowed_methods)]
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        cgroups.move_process(&path, i32::try_from(child.id()).unwrap()).unwrap();
        for frozen in [true, false] {
            cgroups.set_frozen(&path, frozen).unwrap();
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
            while cgroups.is_frozen(&path) != frozen {
                assert!(std::time::Instant::now() < deadline, "{:?}: never {frozen}", cgroups.version());
                std::thread::yield_now();
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        cgroups.remove_root(&path).unwrap();
    }
}
