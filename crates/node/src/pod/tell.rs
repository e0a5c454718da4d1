//! What a worker lets others know of its pod: the status, and events.

use std::collections::HashSet;

use knarr_client::events::EventType;

use super::{
    context::{field_path, full_name},
    status,
    worker::Worker,
    writer::Writer,
};

impl Worker {
    /// Hands the present status to the writer.
    pub(super) fn publish(&mut self) {
        if self.gone {
            return;
        }
        let input = status::Input {
            pod: &self.pod,
            previous: self.last_status.as_ref(),
            containers: &self.containers,
            observed: &self.observed,
            tracks: &self.tracks,
            waiting: &self.waiting,
            verdict: self.verdict.as_ref(),
            resize: &self.resize,
            devices: &|container| self.ctx.devices.health(&self.uid, container),
            over: self.over,
            runtime_name: &self.ctx.runtime_name,
            host_ips: &self.ctx.node_ips,
            generation: self.pod.metadata.generation,
            start_time: self.first_seen,
            now: self.ctx.now(),
        };
        let status = status::build(&input);
        self.last_status = Some(status.clone());
        // A static pod is written to its mirror, once there is one; a new mirror gets a writer of its own.
        let target = if self.is_static() { self.ctx.mirror(&self.uid) } else { Some(self.pod.clone()) };
        let uid = target.as_ref().and_then(|target| target.metadata.uid.as_deref());
        if self.writer.as_ref().is_none_or(|writer| uid.is_some_and(|uid| writer.uid() != uid)) {
            self.writer = target.as_deref().map(|target| Writer::new(self.ctx.clone(), target));
        }
        if let (Some(writer), Some(target)) = (&self.writer, &target) {
            writer.submit(status, target);
        }
    }

    /// An event about one of the pod's containers.
    pub(super) fn event(&self, name: &str, warning: bool, reason: &str, message: String) {
        let kind = if warning { EventType::Warning } else { EventType::Normal };
        match self.entry(name) {
            Some(entry) => {
                self.ctx.container_event(&self.pod, &field_path(entry), kind, reason, message);
            }
            None if warning => self.ctx.warning(&self.pod, reason, message),
            None => self.ctx.normal(&self.pod, reason, message),
        }
    }

    /// Events for containers that have begun to wait, once for each time they do.
    pub(super) fn announce_waits(&mut self) {
        let mut present = HashSet::new();
        let mut news = Vec::new();
        for (name, waiting) in &self.waiting {
            if !matches!(waiting.reason, "CrashLoopBackOff" | "ImagePullBackOff") {
                continue;
            }
            let restarts = self.observed.newest(name).map_or(0, |run| run.restart_count);
            let key = format!("{name}/{}/{restarts}/{}", waiting.reason, waiting.message);
            if !self.announced.contains(&key) {
                news.push((name.clone(), waiting.clone()));
            }
            present.insert(key);
        }
        self.announced = present;
        for (name, waiting) in news {
            if waiting.reason == "CrashLoopBackOff" {
                let pod = full_name(&self.pod);
                self.event(&name, true, "BackOff", format!("Back-off restarting failed container {name} in pod {pod}"));
            } else {
                self.event(&name, false, "BackOff", waiting.message.clone());
                self.event(&name, true, "Failed", "Error: ImagePullBackOff".to_owned());
            }
        }
    }
}
