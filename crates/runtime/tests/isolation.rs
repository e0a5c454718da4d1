//! What containers see of each other and of the host, and what they may do to it.

mod support;

use knarr_cri::v1::*;
use support::{Host, container, with_security};

#[tokio::test]
async fn a_container_sees_its_own_world() {
    let host = Host::new("world").await;
    let sandbox = host.sandbox().await;
    let check = async |name: &str, script: &str, expected: &str| {
        let (status, log) = host.script(&sandbox, name, script).await;
        assert_eq!((status.exit_code, log.as_str()), (0, expected), "{script}");
    };
    check("pid", "echo $$", "1\n").await;
    check("name", "hostname; cat /etc/hostname; echo $HOSTNAME", "knarr-pod\nknarr-pod\nknarr-pod\n").await;
    check("env", "echo $FROM $HOME", "image /root\n").await;
    check("layers", "cat /added; test ! -e /gone && echo gone", "by the second layer\ngone\n").await;
    check("hosts", "grep -c 10.1.2.3 /etc/hosts", "1\n").await;
    check("dev", "echo x >/dev/null; head -c2 /dev/zero | wc -c; stat -c %a /dev/shm /dev/full", "2\n1777\n666\n")
        .await;
    check("sys", "mkdir /sys/fs/cgroup/x 2>/dev/null || echo read-only", "read-only\n").await;
    // A device node of the container's making is of no use.
    check("mknod", "mknod /disk b 254 0 && ! head -c1 /disk 2>/dev/null && echo useless", "useless\n").await;
    check("mount", "mount -t tmpfs none /tmp 2>/dev/null || echo refused", "refused\n").await;
    check("shm1", "echo shared >/dev/shm/f", "").await;
    check("shm2", "cat /dev/shm/f", "shared\n").await;
    check("net", "ls /sys/class/net", "lo\n").await;
    host.finish().await;
}

#[tokio::test]
async fn identity_and_rights_are_what_was_asked_for() {
    let host = Host::new("rights").await;
    let sandbox = host.sandbox().await;
    let script = "id -u; id -g; id -G; grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status";
    let uid = |value| Some(Int64Value { value });
    let web = with_security(container("web", script), |s| s.run_as_username = "web".into());
    let (status, log) = host.script_of(&sandbox, web).await;
    assert_eq!(log, "101\n102\n102 200\nCapEff:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t0\n");
    let user = status.user.unwrap().linux.unwrap();
    assert_eq!((user.uid, user.gid, user.supplemental_groups), (101, 102, vec![102, 200]));
    let strict = with_security(container("strict", script), |s| {
        s.run_as_user = uid(5000);
        s.run_as_group = uid(6000);
        s.supplemental_groups = vec![7000];
        s.no_new_privs = true;
        s.seccomp = Some(SecurityProfile::default());
    });
    let (_, log) = host.script_of(&sandbox, strict).await;
    assert_eq!(log, "5000\n6000\n6000 7000\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n");
    let root = with_security(container("root", script), |s| {
        s.capabilities = Some(Capability {
            drop_capabilities: vec!["ALL".into()],
            add_capabilities: vec!["CHOWN".into()],
            ..Default::default()
        });
    });
    let (_, log) = host.script_of(&sandbox, root).await;
    assert!(log.contains("CapEff:\t0000000000000001\n"), "{log}");
    let readonly =
        with_security(container("ro", "touch /x 2>/dev/null || echo refused; touch /dev/shm/y && echo shm"), |s| {
            s.readonly_rootfs = true;
        });
    assert_eq!(host.script_of(&sandbox, readonly).await.1, "refused\nshm\n");
    let nobody = with_security(container("nobody", "true"), |s| s.run_as_username = "nosuch".into());
    let error = host.create(&sandbox, nobody).await.unwrap_err().to_string();
    assert!(error.contains("unable to find user nosuch"), "{error}");
    host.finish().await;
}

#[tokio::test]
async fn the_default_seccomp_profile_really_blocks() {
    let host = Host::new("seccomp").await;
    let sandbox = host.sandbox().await;
    // unshare(2) of a user namespace needs no capability: only the filter can refuse it.
    let script = "unshare -U true 2>/dev/null && echo allowed || echo blocked; echo works";
    let (_, log) = host.script(&sandbox, "unconfined", script).await;
    assert_eq!(log, "allowed\nworks\n");
    for no_new_privs in [false, true] {
        let config = with_security(container(&format!("default-{no_new_privs}"), script), |s| {
            s.seccomp = Some(SecurityProfile::default());
            s.no_new_privs = no_new_privs;
        });
        assert_eq!(host.script_of(&sandbox, config).await.1, "blocked\nworks\n");
    }
    let profile = host.directory.path().join("deny-mkdir.json");
    let deny =
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}"#;
    std::fs::write(&profile, deny).unwrap();
    let config = with_security(
        container("local", "mkdir /tmp/x 2>/dev/null || echo blocked; touch /tmp/y && echo works"),
        |s| {
            let profile_type = security_profile::ProfileType::Localhost.into();
            s.seccomp = Some(SecurityProfile { profile_type, localhost_ref: profile.display().to_string() });
        },
    );
    assert_eq!(host.script_of(&sandbox, config).await.1, "blocked\nworks\n");
    host.finish().await;
}

#[tokio::test]
async fn paths_are_hidden_as_asked_for() {
    let host = Host::new("masked").await;
    let sandbox = host.sandbox().await;
    let script = "grep -q . /proc/interrupts && echo seen; ls /sys/devices/system/cpu | grep -c cpu0; \
                  (echo x >/proc/sys/kernel/domainname) 2>/dev/null && echo written";
    let hidden = with_security(container("hidden", script), |s| {
        s.masked_paths = vec!["/proc/interrupts".into(), "/sys/devices/system/cpu".into(), "/proc/no-such".into()];
        s.readonly_paths = vec!["/proc/sys".into(), "/proc/no-such".into()];
    });
    assert_eq!(host.script_of(&sandbox, hidden).await.1, "0\n");
    // The pod's own name, which it may set where nobody protects it.
    let open = container("open", script);
    assert_eq!(host.script_of(&sandbox, open).await.1, "seen\n1\nwritten\n");
    host.finish().await;
}

#[tokio::test]
async fn containers_have_keyrings_of_their_own() {
    let host = Host::new("keys").await;
    // What a shim would hand on: the session keyring of whoever started it. Another user sees it only as a holder.
    assert!(knarr_os::process::start_session_keyring().unwrap(), "this kernel has no keyrings; nothing can be shown");
    let session = |keys: &str| keys.lines().filter(|line| line.contains(" keyring ") && line.contains("_ses")).count();
    let own = std::fs::read_to_string("/proc/keys").unwrap();
    assert!(session(&own) > 0, "{own}");
    let held: Vec<String> = own.lines().filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect();
    let sandbox = host.sandbox().await;
    let stranger = |name: &str, script: &str| {
        with_security(container(name, script), |s| s.run_as_user = Some(Int64Value { value: 4321 }))
    };
    let (_, of_container) = host.script_of(&sandbox, stranger("first", "cat /proc/keys")).await;
    let second = host.run(&sandbox, stranger("second", "sleep 1000")).await;
    let (_, of_exec, _) = host.exec(&second, "cat /proc/keys").await;
    for keys in [of_container, of_exec] {
        assert_eq!(session(&keys), 1, "a session keyring of its own: {keys}");
        for key in &held {
            assert!(!keys.lines().any(|line| line.starts_with(key.as_str())), "{key} of the agent's is seen: {keys}");
        }
    }
    host.finish().await;
}

#[tokio::test]
async fn mounts_show_the_hosts_files() {
    let host = Host::new("mounts").await;
    let sandbox = host.sandbox().await;
    let source = host.directory.path().join("volume");
    std::fs::create_dir_all(source.join("sub")).unwrap();
    std::fs::write(source.join("f"), "from the host\n").unwrap();
    let mount = |path: &std::path::Path, target: &str, readonly: bool| Mount {
        host_path: path.display().to_string(),
        container_path: target.into(),
        readonly,
        ..Default::default()
    };
    let script = "cat /v/f /etc/one; touch /v/x 2>/dev/null || echo read-only; echo back >/v/sub/w; cat /etc/hosts";
    let mut config = container("m", script);
    config.mounts = vec![
        mount(&source.join("sub"), "/v/sub", false),
        mount(&source, "/v", true),
        mount(&source.join("f"), "/etc/one", true),
        mount(&source.join("f"), "/etc/hosts", true),
    ];
    let (_, log) = host.script_of(&sandbox, config).await;
    assert_eq!(log, "from the host\nfrom the host\nread-only\nfrom the host\n");
    assert_eq!(std::fs::read_to_string(source.join("sub/w")).unwrap(), "back\n");
    host.finish().await;
}

#[tokio::test]
async fn images_are_shown_as_files() {
    let host = Host::new("imagevolume").await;
    let sandbox = host.sandbox().await;
    let own = host.directory.path().join("own");
    std::fs::create_dir_all(&own).unwrap();
    std::fs::write(own.join("f"), "from the host\n").unwrap();
    let image = |target: &str, sub_path: &str| Mount {
        container_path: target.into(),
        image: Some(ImageSpec { image: support::IMAGE.into(), ..Default::default() }),
        image_sub_path: sub_path.into(),
        ..Default::default()
    };
    let script = "cat /i/added; test ! -e /i/gone && echo gone; cat /i/etc/f; head -n1 /e/passwd /p | grep -c root; \
                  touch /i/x 2>/dev/null || echo read-only; /i/bin/busybox true 2>/dev/null || echo no programs";
    let mut config = container("c", script);
    let in_image =
        Mount { host_path: own.display().to_string(), container_path: "/i/etc".into(), ..Default::default() };
    config.mounts = vec![in_image, image("/i", ""), image("/e", "etc"), image("/p", "./etc/passwd")];
    let (status, log) = host.script_of(&sandbox, config).await;
    assert_eq!(log, "by the second layer\ngone\nfrom the host\n2\nread-only\nno programs\n");
    assert_eq!(status.mounts.len(), 4);
    for (image, sub_path, why) in [(support::IMAGE, "no/such", "no/such"), ("far.example/x:1", "", "far.example/x:1")] {
        let mut config = container(&format!("bad{}", sub_path.len()), "true");
        let image = Some(ImageSpec { image: image.into(), ..Default::default() });
        let mount = Mount { image, image_sub_path: sub_path.into(), container_path: "/i".into(), ..Default::default() };
        config.mounts = vec![mount];
        let error = host.create(&sandbox, config).await.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    host.finish().await;
}

#[tokio::test]
async fn containers_may_share_processes() {
    let host = Host::new("sharedpid").await;
    let mut config = host.sandbox_config();
    let options = NamespaceOption { pid: NamespaceMode::Pod.into(), ..Default::default() };
    config.linux.as_mut().unwrap().security_context.as_mut().unwrap().namespace_options = Some(options.clone());
    let sandbox = host.sandbox_of(config).await;
    let shared = |name: &str, script: &str| {
        with_security(container(name, script), |s| s.namespace_options = Some(options.clone()))
    };
    let one = host.run(&sandbox, shared("one", "sleep 4321 & exec sleep 1234")).await;
    // The first may not have come as far as its programs when the second looks.
    let look =
        "until ps -o args | grep -q '^[s]leep 1234' && ps -o args | grep -q '^[s]leep 4321'; do sleep 0.02; done";
    assert_eq!(host.script_of(&sandbox, shared("two", look)).await.0.exit_code, 0);
    // Its background process is not the namespace's first, and still ends with it.
    host.stop(&one, 0).await;
    let look = "while ps -o args | grep -q '^[s]leep 4321'; do sleep 0.02; done";
    assert_eq!(host.script_of(&sandbox, shared("three", look)).await.0.exit_code, 0);
    host.finish().await;
}

#[tokio::test]
async fn pods_may_use_the_hosts_network() {
    let host = Host::new("hostnet").await;
    let mut config = host.sandbox_config();
    let options = NamespaceOption {
        network: NamespaceMode::Node.into(),
        pid: NamespaceMode::Node.into(),
        ipc: NamespaceMode::Node.into(),
        ..Default::default()
    };
    config.linux.as_mut().unwrap().security_context.as_mut().unwrap().namespace_options = Some(options.clone());
    let sandbox = host.sandbox_of(config).await;
    assert!(host.network.attached.lock().unwrap().is_empty(), "the pod network has no part in it");
    let script = "for ns in net pid ipc uts; do readlink /proc/self/ns/$ns; done";
    let node = with_security(container("c", script), |s| s.namespace_options = Some(options));
    let (_, log) = host.script_of(&sandbox, node).await;
    let own: String = ["net", "pid", "ipc", "uts"]
        .map(|ns| std::fs::read_link(format!("/proc/self/ns/{ns}")).unwrap().display().to_string() + "\n")
        .concat();
    assert_eq!(log, own);
    host.finish().await;
}

#[tokio::test]
async fn privileged_containers_may_mount_and_share_mounts_with_the_host() {
    let host = Host::new("privileged").await;
    let sandbox = host.sandbox().await;
    let shared = host.directory.path().join("shared");
    std::fs::create_dir_all(shared.join("in")).unwrap();
    use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
    rustix::mount::mount("tmpfs", &shared, "tmpfs", MountFlags::empty(), None).unwrap();
    rustix::mount::mount_change(&shared, MountPropagationFlags::SHARED).unwrap();
    std::fs::create_dir_all(shared.join("in")).unwrap();
    let mut config =
        with_security(container("p", "mount -t tmpfs none /s/in && echo seen >/s/in/f; ls /dev/pts/ptmx"), |s| {
            s.privileged = true
        });
    config.mounts = vec![Mount {
        host_path: shared.display().to_string(),
        container_path: "/s".into(),
        propagation: MountPropagation::PropagationBidirectional.into(),
        ..Default::default()
    }];
    let (status, log) = host.script_of(&sandbox, config).await;
    assert_eq!((status.exit_code, log.as_str()), (0, "/dev/pts/ptmx\n"));
    assert_eq!(
        std::fs::read_to_string(shared.join("in/f")).unwrap(),
        "seen\n",
        "the container's mount is the host's too"
    );
    for path in [shared.join("in"), shared] {
        rustix::mount::unmount(&path, UnmountFlags::DETACH).unwrap();
    }
    host.finish().await;
}

/// The block of the host's users that the sandbox of a test has.
fn block(host_id: u32) -> UserNamespace {
    let ids = vec![IdMapping { host_id, container_id: 0, length: 65_536 }];
    UserNamespace { mode: NamespaceMode::Pod.into(), uids: ids.clone(), gids: ids }
}

#[tokio::test]
async fn pods_may_have_users_of_their_own() {
    let host = Host::new("users").await;
    let mut config = host.sandbox_config();
    let linux = config.linux.as_mut().unwrap();
    let own = NamespaceOption {
        pid: NamespaceMode::Container.into(),
        userns_options: Some(block(262_144)),
        ..Default::default()
    };
    linux.security_context.as_mut().unwrap().namespace_options = Some(own.clone());
    linux.sysctls = [("kernel.shm_rmid_forced", "1"), ("net.ipv4.ip_unprivileged_port_start", "7")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let sandbox = host.sandbox_of(config).await;
    let volume = host.directory.path().join("volume");
    std::fs::create_dir_all(&volume).unwrap();
    std::fs::write(volume.join("f"), "from the host\n").unwrap();
    let container = |name: &str, script: &str| {
        let mut config = with_security(container(name, script), |s| s.namespace_options = Some(own.clone()));
        config.mounts = vec![Mount {
            host_path: volume.display().to_string(),
            container_path: "/v".into(),
            uid_mappings: block(262_144).uids,
            gid_mappings: block(262_144).gids,
            ..Default::default()
        }];
        config
    };
    let check = async |name: &str, script: &str, expected: &str| {
        let (status, log) = host.script_of(&sandbox, container(name, script)).await;
        assert_eq!((status.exit_code, log.as_str()), (0, expected), "{script}");
    };
    check("map", "echo $(cat /proc/self/uid_map /proc/self/gid_map)", "0 262144 65536 0 262144 65536\n").await;
    check("image", "stat -c %u:%g / /bin/busybox /added /etc/hosts /dev /v /v/f", &"0:0\n".repeat(7)).await;
    check("sysctls", "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_unprivileged_port_start", "1\n7\n")
        .await;
    check("dev", "echo x >/dev/null; head -c2 /dev/zero | wc -c; echo y >/dev/stdout; echo z >/dev/shm/f", "2\ny\n")
        .await;
    check("shm", "cat /dev/shm/f; stat -c %u /dev/shm/f", "z\n0\n").await;
    check("write", "echo new >/added; cat /added; touch /made; stat -c %u /added /made", "new\n0\n0\n").await;
    check(
        "volume",
        "cat /v/f; touch /v/root; touch /v/web && chmod 600 /v/web; exec stat -c %u /v/root",
        "from the host\n0\n",
    )
    .await;
    use std::os::unix::fs::MetadataExt;
    let owner = |path: &std::path::Path| std::fs::metadata(path).map(|m| (m.uid(), m.gid())).unwrap();
    assert_eq!(owner(&volume.join("root")), (0, 0), "on the disk it is as if the pod's users were the host's");
    let web = with_security(container("web", ""), |s| {
        s.namespace_options = Some(own.clone());
        s.run_as_username = "web".into();
    });
    let command = "touch /tmp/x; stat -c %u:%g /tmp/x; echo by name >/dev/stdout";
    let web = ContainerConfig { command: ["/bin/sh", "-c", command].map(str::to_owned).to_vec(), ..web };
    assert_eq!(host.script_of(&sandbox, web).await.1, "101:102\nby name\n");
    // What its root may do ends with what is the pod's.
    let all = |name: &str, script: &str| {
        let mut config = container(name, script);
        let security = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
        let add_capabilities = vec!["ALL".into()];
        security.capabilities = Some(Capability { add_capabilities, ..Default::default() });
        config
    };
    let script = "mount -t tmpfs none /tmp && echo mounted; hostname other && hostname; \
                  (echo 1 >/proc/sys/vm/drop_caches) 2>/dev/null || echo refused; \
                  mknod /disk b 254 0 2>/dev/null || echo no device; umount /proc 2>/dev/null || echo held; \
                  mount -o remount,bind,rw /r 2>/dev/null; touch /r/x 2>/dev/null || echo read-only; stat -c %u:%g /i/added /v/nested /dev/fd /dev/ptmx; \
                  unshare -m -p -f --mount-proc sh -c 'echo nested $$'";
    let mut config = all("all", script);
    let readonly = Mount { container_path: "/r".into(), readonly: true, ..config.mounts[0].clone() };
    let image = Some(ImageSpec { image: support::IMAGE.into(), ..Default::default() });
    // Where it is mounted is made in the volume that is mounted around it.
    let nested = Mount { container_path: "/v/nested/deep".into(), ..config.mounts[0].clone() };
    config.mounts.extend([nested, readonly, Mount { container_path: "/i".into(), image, ..Default::default() }]);
    let log = host.script_of(&sandbox, config).await.1;
    assert_eq!(log, "mounted\nother\nrefused\nno device\nheld\nread-only\n0:0\n0:0\n0:0\n0:0\nnested 1\n");
    assert_eq!(owner(&volume.join("nested")), (0, 0));
    let tty = ContainerConfig { tty: true, ..container("tty", "tty; stat -c %u /dev/console; echo x >/dev/tty") };
    assert_eq!(host.script_of(&sandbox, tty).await.1.replace('\r', ""), "/dev/pts/0\n0\nx\n");
    let id = host.run(&sandbox, container("long", "exec sleep 1000")).await;
    assert_eq!(owner(format!("/proc/{}", host.pid(&id).await).as_ref()), (262_144, 262_144), "the host sees who it is");
    let (code, out, _) =
        host.exec(&id, "id -u; cat /proc/self/uid_map | head -c 100 | wc -l; stat -c %u /proc/1").await;
    assert_eq!((code, out.as_str()), (0, "0\n1\n0\n"));
    let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
    assert_ne!(namespace(host.pid(&id).await), std::fs::read_link("/proc/self/ns/user").unwrap());
    // Numbers that the pod does not have, and files that cannot be mapped.
    let stranger = with_security(container("stranger", "true"), |s| {
        s.namespace_options = Some(own.clone());
        s.run_as_user = Some(Int64Value { value: 65_536 });
    });
    let error = host.create(&sandbox, stranger).await.unwrap_err().to_string();
    assert!(error.contains("user 65536 is none of the pod's own"), "{error}");
    let mut unmappable = container("unmappable", "true");
    unmappable.mounts[0].host_path = "/proc/sys".into();
    let error = host.create(&sandbox, unmappable).await.unwrap_err().to_string();
    let words = "failed to set MOUNT_ATTR_IDMAP on /proc/sys: invalid argument (maybe the filesystem used doesn't \
                 support idmap mounts on this kernel?)";
    assert!(error.contains(words), "{error}");
    // A container that looks at another's processes is of the same users.
    let look = with_security(support::container("look", "stat -c %u /proc/1; kill -0 1 && echo may"), |s| {
        let pid = NamespaceMode::Target.into();
        s.namespace_options = Some(NamespaceOption { pid, target_id: id.clone(), ..own.clone() });
    });
    assert_eq!(host.script_of(&sandbox, look).await.1, "0\nmay\n");
    let theirs = support::container("theirs", "true");
    let error = host.create(&sandbox, theirs).await.unwrap_err().to_string();
    assert!(error.contains("has to be its sandbox's"), "{error}");
    host.finish().await;
}

#[tokio::test]
async fn the_first_process_of_a_pod_is_of_its_users_as_well() {
    let host = Host::new("userspid").await;
    let mut config = host.sandbox_config();
    let options = NamespaceOption { userns_options: Some(block(327_680)), ..Default::default() };
    config.linux.as_mut().unwrap().security_context.as_mut().unwrap().namespace_options = Some(options.clone());
    let sandbox = host.sandbox_of(config).await;
    let look = with_security(container("c", "grep ^Uid: /proc/1/status; echo $(cat /proc/1/uid_map)"), |s| {
        s.namespace_options = Some(options);
    });
    assert_eq!(host.script_of(&sandbox, look).await.1, "Uid:\t0\t0\t0\t0\n0 327680 65536\n");
    host.finish().await;
}
