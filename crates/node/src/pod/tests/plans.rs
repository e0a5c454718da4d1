use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::super::{
    containers::Containers,
    observe::{Instance, Observed, Phase, Sandbox},
    plan::{Action, Input, Kill, Plan, plan},
    track::{Failure, ImageState, Track},
};

const NOW: i64 = 10_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "d", "uid": "u"}, "spec": spec})).unwrap()
}

/// A container as the runtime lists it: `name:state`, where the state is `run`, `made`, or the exit code.
fn seen(sandbox: bool, runs: &str, pod: &Pod) -> Observed {
    let containers = Containers::of(pod);
    let mut observed = Observed::default();
    if sandbox {
        observed.sandbox = Some(Sandbox { id: "s".into(), attempt: 0, ready: true, ips: vec!["10.0.0.1".into()] });
    }
    for (index, run) in runs.split_whitespace().enumerate() {
        let (name, state) = run.split_once(':').unwrap();
        let (phase, code) = match state {
            "run" => (Phase::Running, 0),
            "made" => (Phase::Created, 0),
            "lost" => (Phase::Unknown, 0),
            code => (Phase::Exited, code.parse().unwrap()),
        };
        let older = observed.containers.entry(name.to_owned()).or_default();
        let instance = Instance {
            id: format!("{name}{index}"),
            name: name.to_owned(),
            sandbox_id: "s".into(),
            restart_count: u32::try_from(older.len()).unwrap(),
            phase,
            created_at: at(NOW - 3),
            started_at: at(NOW - 2),
            finished_at: at(NOW - 1),
            exit_code: code,
            reason: String::new(),
            message: String::new(),
            image: "i".into(),
            image_id: "i".into(),
            hash: containers.get(name).map(|entry| entry.hash()).unwrap_or_default(),
            log_path: String::new(),
            user: None,
            resources: None,
            stop_signal: None,
        };
        older.insert(0, instance);
    }
    observed
}

fn run(pod: &Pod, observed: &Observed, tracks: &BTreeMap<String, Track>) -> Plan {
    plan(&Input {
        pod: "p_d(u)",
        restart_policy: pod.spec.as_ref().unwrap().restart_policy.as_deref().unwrap_or("Always"),
        containers: &Containers::of(pod),
        observed,
        tracks,
        now: at(NOW),
    })
}

/// The plan in short: what is done to whom.
fn short(plan: &Plan) -> String {
    let actions = plan.actions.iter().map(|action| match action {
        Action::CreateSandbox { attempt } => format!("sandbox{attempt}"),
        Action::EnsureImage { name } => format!("image:{name}"),
        Action::Start { name, restart_count } => format!("start:{name}#{restart_count}"),
        Action::Kill { name, why, .. } => format!(
            "kill:{name}:{}",
            match why {
                Kill::Liveness { .. } => "liveness",
                Kill::Startup { .. } => "startup",
                Kill::Changed => "changed",
                Kill::SandboxGone => "sandbox",
                Kill::Resized => "resize",
                Kill::PostStart { .. } => "hook",
            }
        ),
    });
    let waits = plan.waiting.iter().map(|(name, waiting)| format!("wait:{name}:{}", waiting.reason));
    let ended = plan.ended.then(|| "ended".to_owned());
    actions.chain(waits).chain(ended).collect::<Vec<_>>().join(" ")
}

fn with_images(pod: &Pod) -> BTreeMap<String, Track> {
    let present = ImageState::Present { reference: "i".into() };
    let names = Containers::of(pod).entries.into_iter().map(|entry| entry.spec.name);
    names.map(|name| (name, Track { image: present.clone(), ..Track::default() })).collect()
}

#[test]
fn the_next_step() {
    let two = json!({"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]});
    let hooked = json!({"containers": [{"name": "a", "image": "i", "lifecycle": {"postStart": {"sleep": {"seconds": 1}}}}, {"name": "b", "image": "i"}]});
    let policy = |policy: &str| {
        let mut spec = two.clone();
        spec["restartPolicy"] = json!(policy);
        spec
    };
    let init = |policy: &str| json!({"restartPolicy": policy, "initContainers": [{"name": "i1", "image": "i"}, {"name": "i2", "image": "i"}], "containers": [{"name": "a", "image": "i"}]});
    let sidecar = json!({"initContainers": [{"name": "side", "image": "i", "restartPolicy": "Always"}, {"name": "i2", "image": "i"}], "containers": [{"name": "a", "image": "i"}]});
    let probed = json!({"initContainers": [{"name": "side", "image": "i", "restartPolicy": "Always", "startupProbe": {"exec": {"command": ["x"]}}}], "containers": [{"name": "a", "image": "i"}]});
    let rules = json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": "i", "restartPolicy": "Never", "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]}]});
    for (spec, sandbox, runs, expected) in [
        (two.clone(), false, "", "sandbox0"),
        (two.clone(), true, "", "start:a#0 start:b#0"),
        (two.clone(), true, "a:run b:run", ""),
        (two.clone(), true, "a:made b:run", "start:a#0"),
        (two.clone(), true, "a:1 b:run", "start:a#1"),
        (two.clone(), true, "a:0 b:run", "start:a#1"),
        (two.clone(), true, "a:lost b:run", "start:a#1"),
        // A postStart hook holds up those after it.
        (hooked, true, "", "start:a#0"),
        (policy("Never"), true, "a:1 b:run", ""),
        (policy("Never"), true, "a:1 b:0", "ended"),
        (policy("OnFailure"), true, "a:1 b:0", "start:a#1"),
        (policy("OnFailure"), true, "a:0 b:0", "ended"),
        (policy("Never"), false, "a:1 b:0", "ended"),
        (init("Always"), true, "", "start:i1#0"),
        (init("Always"), true, "i1:run", ""),
        (init("Always"), true, "i1:0", "start:i2#0"),
        (init("Always"), true, "i1:3", "start:i1#1"),
        (init("Never"), true, "i1:3", "ended"),
        (init("Always"), true, "i1:0 i2:0", "start:a#0"),
        // Once the app was made, nobody goes back.
        (init("Always"), true, "a:1", "start:a#1"),
        (sidecar.clone(), true, "side:run", "start:i2#0"),
        (sidecar.clone(), true, "side:run i2:0", "start:a#0"),
        (sidecar.clone(), true, "side:1 i2:0 a:run", "start:side#1"),
        (sidecar, true, "side:0 i2:run", "start:side#1"),
        (probed, true, "side:run", ""),
        (rules.clone(), true, "a:42", "start:a#1"),
        (rules, true, "a:1", "ended"),
    ] {
        let pod = pod(spec);
        let plan = run(&pod, &seen(sandbox, runs, &pod), &with_images(&pod));
        assert_eq!(short(&plan), expected, "{runs} of {:?}", pod.spec);
    }
}

#[test]
fn images_come_before_starts() {
    let pod = pod(json!({"containers": [{"name": "a", "image": "i"}]}));
    let observed = seen(true, "", &pod);
    let failed = |reason, ago| {
        let failure = Failure { reason, message: "m".into(), at: at(NOW - ago) };
        ImageState::Failed { image: "i".into(), failure }
    };
    let mut pull = super::super::backoff::Backoff::default();
    pull.advance(at(NOW - 20), at(NOW - 20));
    for (image, expected) in [
        (ImageState::Unknown, "image:a"),
        (ImageState::Pulling, ""),
        (failed("ErrImagePull", 1), "wait:a:ErrImagePull"),
        (failed("ErrImagePull", 6), "wait:a:ImagePullBackOff"),
        (failed("ErrImagePull", 11), "image:a"),
    ] {
        let track = Track { image, pull, ..Track::default() };
        let plan = run(&pod, &observed, &BTreeMap::from([("a".to_owned(), track)]));
        assert_eq!(short(&plan), expected);
        assert_eq!(plan.wake_at.is_some(), expected.starts_with("wait"), "{expected}");
    }
}

#[test]
fn restarts_back_off() {
    let pod = pod(json!({"containers": [{"name": "a", "image": "i"}]}));
    let mut tracks = with_images(&pod);
    let chance = Containers::of(&pod).entries[0].chance();
    tracks.get_mut("a").unwrap().crashed(chance, at(NOW - 5), at(NOW - 5));
    let plan = run(&pod, &seen(true, "a:1", &pod), &tracks);
    assert_eq!(short(&plan), "wait:a:CrashLoopBackOff");
    assert_eq!(plan.waiting["a"].message, "back-off 10s restarting failed container=a pod=p_d(u)");
    assert_eq!(plan.wake_at, Some(at(NOW + 9)));
    // Another image, or more memory, is not blamed for it.
    for changed in [json!({"image": "j"}), json!({"image": "i", "resources": {"limits": {"memory": "1Gi"}}})] {
        let mut container = changed.clone();
        container["name"] = json!("a");
        let new = self::pod(json!({"containers": [container]}));
        assert_eq!(short(&run(&new, &seen(true, "a:1", &pod), &tracks)), "start:a#1", "{changed}");
    }
}

#[test]
fn unhealthy_containers_are_stopped_once() {
    let pod = pod(json!({"containers": [{"name": "a", "image": "i"}]}));
    let observed = seen(true, "a:run", &pod);
    let mut tracks = with_images(&pod);
    tracks.get_mut("a").unwrap().health_mut("a0").liveness = Some(false);
    assert_eq!(short(&run(&pod, &observed, &tracks)), "kill:a:liveness");
    tracks.get_mut("a").unwrap().killing = Some("a0".into());
    assert_eq!(short(&run(&pod, &observed, &tracks)), "");
    // What was said of an earlier run says nothing of this one.
    tracks.get_mut("a").unwrap().health_mut("other").liveness = Some(false);
    tracks.get_mut("a").unwrap().killing = None;
    assert_eq!(short(&run(&pod, &observed, &tracks)), "");
}

#[test]
fn a_changed_image_restarts_only_its_container() {
    let old = pod(json!({"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]}));
    let new = pod(json!({"containers": [{"name": "a", "image": "j"}, {"name": "b", "image": "i"}]}));
    assert_eq!(short(&run(&new, &seen(true, "a:run b:run", &old), &with_images(&new))), "kill:a:changed");
}

#[test]
fn a_lost_sandbox_begins_again_from_the_first_init_container() {
    let pod =
        pod(json!({"initContainers": [{"name": "i1", "image": "i"}], "containers": [{"name": "a", "image": "i"}]}));
    let mut observed = seen(true, "i1:0 a:run", &pod);
    observed.sandbox.as_mut().unwrap().ready = false;
    assert_eq!(short(&run(&pod, &observed, &with_images(&pod))), "kill:a:sandbox");
    let mut observed = seen(true, "i1:0 a:137", &pod);
    observed.sandbox.as_mut().unwrap().ready = false;
    assert_eq!(short(&run(&pod, &observed, &with_images(&pod))), "sandbox1");
    let sandbox = Sandbox { id: "s2".into(), attempt: 1, ready: true, ips: vec![] };
    observed.sandbox = Some(sandbox);
    assert_eq!(short(&run(&pod, &observed, &with_images(&pod))), "start:i1#1");
}
