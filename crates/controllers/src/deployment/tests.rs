use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    plan::{Action, Observed, plan},
    *,
};

/// A Deployment and its ReplicaSets, with a world that does what it is told: pods come up at once, or never.
struct World {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
    now: Timestamp,
    /// Images whose pods never become ready.
    broken: Vec<&'static str>,
    seen: Vec<String>,
    made: i64,
}

fn deployment(change: Value) -> Deployment {
    let mut value = json!({
        "metadata": {"name": "web", "namespace": "d", "uid": "dep", "generation": 1, "annotations": {"note": "x"}},
        "spec": {
            "replicas": 10, "selector": {"matchLabels": {"app": "web"}}, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 10,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "v1"}]}},
        },
    });
    json_patch::merge(&mut value, &change);
    serde_json::from_value(value).unwrap()
}

fn image(set: &ReplicaSet) -> &str {
    set.spec.as_ref().unwrap().template.as_ref().unwrap().spec.as_ref().unwrap().containers[0].image.as_deref().unwrap()
}

impl World {
    fn new(change: Value) -> Self {
        let now = "2024-01-01T00:00:00Z".parse().unwrap();
        Self { deployment: deployment(change), sets: Vec::new(), now, broken: Vec::new(), seen: Vec::new(), made: 0 }
    }

    fn change(&mut self, change: Value) {
        let mut value = serde_json::to_value(&self.deployment).unwrap();
        json_patch::merge(&mut value, &change);
        self.deployment = serde_json::from_value(value).unwrap();
        *self.deployment.metadata.generation.as_mut().unwrap() += 1;
    }

    fn set_image(&mut self, image: &str) {
        self.change(json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}}));
    }

    fn plan(&self) -> Vec<Action> {
        let sets: Vec<_> = self.sets.iter().cloned().map(Arc::new).collect();
        let running = |set: &ReplicaSet| -> Vec<Arc<Pod>> {
            (0..set.status.as_ref().map_or(0, |status| status.replicas)).map(|_| Arc::new(Pod::default())).collect()
        };
        plan(&Observed { deployment: &self.deployment, replica_sets: &sets, pods_of: &running, now: self.now })
    }

    /// One reconciliation. False where it had nothing to do.
    fn step(&mut self) -> bool {
        let actions = self.plan();
        let mut acted = false;
        for action in actions {
            acted |= !matches!(action, Action::LookAgain(_));
            match action {
                Action::Create(set) => {
                    let mut set = *set;
                    self.made += 1;
                    set.metadata.uid = Some(format!("rs{}", self.made));
                    set.metadata.generation = Some(1);
                    let made = self.now + jiff::SignedDuration::from_secs(self.made);
                    set.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(made));
                    self.seen.push(format!("{} 0>{}", image(&set), scale::replicas(&set)));
                    self.sets.push(set);
                }
                Action::Update { set, scaled_from } => {
                    if let Some(before) = scaled_from {
                        self.seen.push(format!("{} {before}>{}", image(&set), scale::replicas(&set)));
                    }
                    let there = self.sets.iter_mut().find(|there| there.metadata.name == set.metadata.name).unwrap();
                    *there = *set;
                }
                Action::Delete(set) => {
                    self.seen.push(format!("{} deleted", image(&set)));
                    self.sets.retain(|there| there.metadata.name != set.metadata.name);
                }
                Action::SetRevision(revision) => {
                    let annotations = self.deployment.metadata.annotations.get_or_insert_default();
                    annotations.insert(revision::REVISION.into(), revision);
                }
                Action::SetStatus(status) => self.deployment.status = Some(*status),
                Action::LookAgain(_) => {}
            }
        }
        let up: i32 = self.sets.iter().map(scale::replicas).sum();
        let limits = scale::Limits::of(&self.deployment);
        assert!(
            up <= scale::wanted(&self.deployment).max(0) + limits.max_surge.max(10),
            "{up} is too many: {:?}",
            self.seen
        );
        acted
    }

    fn pods_follow(&mut self) {
        for set in &mut self.sets {
            let replicas = scale::replicas(set);
            let ready = if self.broken.contains(&image(set)) { 0 } else { replicas };
            let status = set.status.get_or_insert_default();
            status.replicas = replicas;
            status.ready_replicas = Some(ready);
            status.available_replicas = Some(ready);
            status.observed_generation = set.metadata.generation;
        }
    }

    /// Until nothing moves any more.
    fn settle(&mut self) -> Vec<String> {
        for _ in 0..60 {
            let before: Vec<_> = self.sets.clone();
            let acted = self.step();
            self.pods_follow();
            if !acted && before == self.sets {
                return std::mem::take(&mut self.seen);
            }
        }
        panic!("does not settle: {:?}", self.seen);
    }

    fn conditions(&self) -> HashMap<String, String> {
        let status = self.deployment.status.clone().unwrap();
        let show =
            |c: &k8s_openapi::api::apps::v1::DeploymentCondition| format!("{} {}", c.status, c.reason.clone().unwrap());
        status.conditions.unwrap().iter().map(|c| (c.type_.clone(), show(c))).collect()
    }
}

#[test]
fn rolls_out_updates_and_keeps_history() {
    let mut world = World::new(json!({}));
    assert_eq!(world.settle(), ["v1 0>10"]);
    assert_eq!(world.conditions()["Available"], "True MinimumReplicasAvailable");
    assert_eq!(world.conditions()["Progressing"], "True NewReplicaSetAvailable");
    let message = &world.deployment.status.as_ref().unwrap().conditions.as_ref().unwrap();
    let name = world.sets[0].metadata.name.clone().unwrap();
    assert!(message.iter().any(|c| c.message == Some(format!("ReplicaSet {name:?} has successfully progressed."))));
    assert!(name.starts_with("web-"));

    world.set_image("v2");
    // 25% of ten: three more at most, two fewer at most.
    assert_eq!(world.settle()[..4], ["v2 0>3", "v1 10>8", "v2 3>5", "v1 8>3"]);
    let (old, new) = (&world.sets[0], &world.sets[1]);
    assert_eq!((scale::replicas(old), scale::replicas(new)), (0, 10));
    assert_eq!((revision::of(old), revision::of(new)), (1, 2));
    assert_eq!(new.metadata.annotations.as_ref().unwrap()["note"], "x");

    // kubectl rollout undo puts the old template back: the old set becomes the new one.
    world.set_image("v1");
    world.settle();
    assert_eq!(world.sets.len(), 2);
    assert_eq!((revision::of(&world.sets[0]), revision::of(&world.sets[1])), (3, 2));
    assert_eq!(world.sets[0].metadata.annotations.as_ref().unwrap()["deployment.kubernetes.io/revision-history"], "1");
    assert_eq!(world.deployment.metadata.annotations.as_ref().unwrap()[revision::REVISION], "3");
}

#[test]
fn a_broken_image_stops_within_limits_and_times_out() {
    let mut world = World::new(json!({}));
    world.settle();
    world.broken = vec!["bad"];
    world.set_image("bad");
    assert_eq!(world.settle(), ["bad 0>3", "v1 10>8", "bad 3>5"]);
    assert_eq!(world.conditions()["Available"], "True MinimumReplicasAvailable");
    assert_eq!(world.conditions()["Progressing"], "True ReplicaSetUpdated");
    assert!(matches!(world.plan()[..], [Action::LookAgain(after)] if (600..=602).contains(&after.as_secs())));
    world.now += jiff::SignedDuration::from_secs(601);
    world.settle();
    assert_eq!(world.conditions()["Progressing"], "False ProgressDeadlineExceeded");
    world.set_image("good");
    let seen = world.settle();
    assert_eq!(seen[..3], ["good 0>0", "bad 5>0", "good 0>5"], "what is broken makes room first");
    assert_eq!(world.conditions()["Progressing"], "True NewReplicaSetAvailable");
}

#[test]
fn recreate_waits_until_all_old_pods_are_gone() {
    let mut world =
        World::new(json!({"spec": {"replicas": 3, "strategy": {"type": "Recreate", "rollingUpdate": null}}}));
    assert_eq!(world.settle(), ["v1 0>3"]);
    world.set_image("v2");
    world.step();
    assert_eq!(std::mem::take(&mut world.seen), ["v1 3>0"]);
    world.step();
    assert!(world.seen.is_empty(), "old pods still run");
    assert_eq!(world.settle(), ["v2 0>3"]);
}

#[test]
fn paused_it_scales_in_proportion_but_does_not_roll() {
    let mut world = World::new(json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}}}));
    world.settle();
    world.broken = vec!["v2"];
    world.set_image("v2");
    world.settle();
    world.change(json!({"spec": {"replicas": 15}}));
    // The documentation's own example: 8 old and 5 new become 11 and 7.
    assert_eq!(world.settle(), ["v1 8>11", "v2 5>7"]);
    world.change(json!({"spec": {"paused": true}}));
    world.settle();
    assert_eq!(world.conditions()["Progressing"], "Unknown DeploymentPaused");
    world.set_image("v3");
    assert!(world.settle().is_empty());
    world.change(json!({"spec": {"paused": false}}));
    world.settle();
    assert_eq!(world.conditions()["Progressing"], "True NewReplicaSetAvailable");
}

#[test]
fn old_sets_beyond_the_limit_go() {
    let mut world = World::new(json!({"spec": {"replicas": 1, "revisionHistoryLimit": 2}}));
    for image in ["v1", "v2", "v3", "v4", "v5"] {
        world.set_image(image);
        world.settle();
    }
    let images: Vec<_> = world.sets.iter().map(image).collect();
    assert_eq!(images, ["v3", "v4", "v5"]);
}

#[test]
fn hash_depends_on_template_and_collisions_only() {
    let name = |change| revision::new_set(&deployment(change)).metadata.name.unwrap();
    let plain = name(json!({}));
    assert_eq!(name(json!({"spec": {"replicas": 3}})), plain);
    assert_ne!(name(json!({"spec": {"template": {"metadata": {"labels": {"x": "y"}}}}})), plain);
    assert_ne!(name(json!({"status": {"collisionCount": 1}})), plain);
}
