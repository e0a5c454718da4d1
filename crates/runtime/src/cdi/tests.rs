//! Files in two directories, devices that are asked for, and what comes of it.

use std::{fs, path::Path};

use knarr_cri::v1::CdiDevice;
use serde_json::{Value, json};

use super::given;

struct Host(tempfile::TempDir);

impl Host {
    fn new(files: &[(&str, Value)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["etc", "run"] {
            fs::create_dir(dir.path().join(sub)).unwrap();
        }
        for (name, content) in files {
            let text = match content {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            fs::write(dir.path().join(name), text).unwrap();
        }
        Self(dir)
    }

    /// What is given as text: variables, devices, mounts, groups; or the error.
    fn given(&self, names: &[&str]) -> String {
        let asked: Vec<_> = names.iter().map(|name| CdiDevice { name: (*name).to_owned() }).collect();
        let (etc, run) = (self.0.path().join("etc"), self.0.path().join("run"));
        let dirs: [&Path; 3] = [&etc, &run, Path::new("/nowhere/at/all")];
        let given = match given(&asked, &dirs) {
            Ok(given) => given,
            Err(error) => return error.to_string().replace(&format!("{}/", self.0.path().display()), ""),
        };
        let mut text = given.env;
        text.extend(given.devices.iter().map(|(device, permissions)| {
            let (target, mode) = (device.target.display(), device.mode & 0o777);
            format!("{target} {}:{} {mode:o} {}:{} {permissions}", device.major, device.minor, device.uid, device.gid)
        }));
        text.extend(given.mounts.iter().map(|mount| {
            let flags = [(mount.readonly, "ro"), (mount.nosuid, "nosuid"), (mount.noexec, "noexec")];
            let flags: Vec<_> = flags.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
            format!("{} on {} {}", mount.source.display(), mount.target.display(), flags.join(","))
        }));
        text.extend(given.groups.iter().map(|gid| format!("group {gid}")));
        text.join("; ")
    }
}

fn file(kind: &str, devices: Value) -> Value {
    json!({"cdiVersion": "0.6.0", "kind": kind, "devices": devices, "containerEdits": {"env": ["ALL=1"]}})
}

fn device(name: &str, edits: Value) -> Value {
    json!({"name": name, "containerEdits": edits})
}

#[test]
fn devices_bring_what_their_files_say() {
    let nodes = json!([{"path": "/dev/mine", "hostPath": "/dev/null", "fileMode": 384, "uid": 7},
        {"path": "/dev/made", "type": "b", "major": 9, "minor": 3, "permissions": "r"}]);
    let mounts = json!([{"hostPath": "/lib/x", "containerPath": "/x", "options": ["ro", "nosuid", "nodev", "bind"]}]);
    let gpus = json!([
        device("0", json!({"env": ["GPU=0"], "deviceNodes": nodes})),
        device("1", json!({"mounts": mounts, "additionalGids": [0, 44]})),
    ]);
    let yaml = "cdiVersion: '0.6.0'\nkind: other.com/nic\ndevices: [{name: a, containerEdits: {env: [NIC=a]}}]\n";
    let host = Host::new(&[
        ("run/gpus.json", file("v.com/gpu", gpus)),
        ("etc/gpus.json", file("v.com/gpu", json!([device("0", json!({"env": ["GPU=old"]}))]))),
        ("etc/nic.yaml", yaml.into()),
        ("etc/readme.txt", "{".into()),
        ("etc/broken.json", "{".into()),
        ("etc/nameless.json", json!({"devices": []})),
    ]);
    let null = "/dev/mine 1:3 600 7:0 rwm";
    for (names, expected) in [
        (&[][..], String::new()),
        (&["v.com/gpu=0"], format!("ALL=1; GPU=0; {null}; /dev/made 9:3 666 0:0 r")),
        (&["v.com/gpu=1"], "ALL=1; /lib/x on /x ro,nosuid; group 44".to_owned()),
        (
            &["other.com/nic=a", "v.com/gpu=1", "v.com/gpu=0"],
            format!("NIC=a; ALL=1; GPU=0; {null}; /dev/made 9:3 666 0:0 r; /lib/x on /x ro,nosuid; group 44"),
        ),
        (&["v.com/gpu=0", "v.com/gpu=2", "no"], "unresolvable CDI devices v.com/gpu=2, no".to_owned()),
    ] {
        assert_eq!(host.given(names), expected, "{names:?}");
    }
}

#[test]
fn what_cannot_be_done_is_said() {
    for (edits, expected) in [
        (
            json!({"hooks": [{"hookName": "createContainer", "path": "/bin/x"}]}),
            "asks for hooks, which this runtime does not do",
        ),
        (json!({"intelRdt": {}}), "asks for Intel RDT, which this runtime does not do"),
        (json!({"netDevices": [{"name": "x"}]}), "asks for network devices, which this runtime does not do"),
        (
            json!({"mounts": [{"type": "tmpfs"}]}),
            "asks for a mount of the type \"tmpfs\", which this runtime does not do",
        ),
        (
            json!({"mounts": [{"options": ["sync"]}]}),
            "asks for the mount option \"sync\", which this runtime does not do",
        ),
        (
            json!({"deviceNodes": [{"path": "/dev/x", "type": "p"}]}),
            "asks for a device node of the type \"p\", which this runtime does not do",
        ),
        (json!({"deviceNodes": [{"path": "/dev/not-there"}]}), "/dev/not-there cannot be used"),
    ] {
        let host = Host::new(&[("etc/a.json", file("v/c", json!([device("x", edits)])))]);
        let said = host.given(&["v/c=x"]);
        assert!(said.ends_with(expected) && said.starts_with("CDI device v/c=x"), "{said}");
    }
    let twice = || file("v/c", json!([device("x", json!({}))]));
    let host = Host::new(&[("etc/a.json", twice()), ("etc/b.json", twice())]);
    assert_eq!(host.given(&["v/c=x"]), "CDI device v/c=x is described twice: in etc/a.json and etc/b.json");
    let host = Host::new(&[("etc/a.json", twice()), ("run/b.json", twice())]);
    assert_eq!(host.given(&["v/c=x"]), "ALL=1");
}
