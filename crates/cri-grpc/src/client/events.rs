//! What changes in the runtime: by its own word where it tells (containerd 1.7 and CRI-O do), and by listing every
//! second in any case, since what is told while nobody is connected is not told again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use knarr_cri::{
    Result, RuntimeService,
    v1::{
        ContainerEventResponse, ContainerEventType, ContainerState, GetEventsRequest, ListContainersRequest,
        ListPodSandboxRequest, PodSandboxMetadata, PodSandboxState, PodSandboxStatus,
    },
};
use knarr_grpc::{client::Failure, code};

use super::Remote;

/// As often as kubelets do.
const RELIST: Duration = Duration::from_secs(1);

/// Sandboxes and containers, each with its state and whose it is.
type Picture = BTreeMap<String, (i32, PodSandboxMetadata)>;

/// Tells of changes until the runtime is dropped.
pub async fn follow(remote: Weak<Remote>) {
    tokio::join!(relist(remote.clone()), listen(remote));
}

async fn relist(remote: Weak<Remote>) {
    // What is there when the first one listens is news, too.
    let mut known = Picture::new();
    loop {
        tokio::time::sleep(RELIST).await;
        let Some(remote) = remote.upgrade() else { return };
        if remote.events.receiver_count() == 0 {
            continue;
        }
        // While the runtime is away nothing can be told; what changed meanwhile is seen when it is back.
        let Ok(seen) = picture(&remote).await else { continue };
        for event in differences(&known, &seen) {
            // Who listened may have gone.
            let _ = remote.events.send(event);
        }
        known = seen;
    }
}

async fn listen(remote: Weak<Remote>) {
    while let Some(strong) = remote.upgrade() {
        let opened = strong.connection.stream("RuntimeService/GetContainerEvents", &GetEventsRequest {}).await;
        drop(strong);
        let ended = match opened {
            Ok(mut events) => loop {
                match events.next::<ContainerEventResponse>().await {
                    Ok(event) => match remote.upgrade() {
                        Some(remote) => _ = remote.events.send(event),
                        None => return,
                    },
                    Err(failure) => break failure,
                }
            },
            Err(failure) => failure,
        };
        if matches!(ended, Failure::Refused { code: code::UNIMPLEMENTED, .. }) {
            return;
        }
        tokio::time::sleep(RELIST).await;
    }
}

async fn picture(remote: &Arc<Remote>) -> Result<Picture> {
    let mut picture = Picture::new();
    for sandbox in remote.list_pod_sandbox(ListPodSandboxRequest::default()).await?.items {
        // Kept apart from the states of containers.
        let state = -1 - sandbox.state;
        picture.insert(sandbox.id, (state, sandbox.metadata.unwrap_or_default()));
    }
    for container in remote.list_containers(ListContainersRequest::default()).await?.containers {
        let whose = picture.get(&container.pod_sandbox_id).map(|(_, whose)| whose.clone()).unwrap_or_default();
        picture.insert(container.id, (container.state, whose));
    }
    Ok(picture)
}

fn differences(before: &Picture, after: &Picture) -> Vec<ContainerEventResponse> {
    let changed = after.iter().filter(|(id, (state, _))| before.get(*id).map(|(state, _)| state) != Some(state));
    let gone = before.iter().filter(|(id, _)| !after.contains_key(*id));
    let changed = changed.map(|(id, (state, whose))| event(id, kind(*state), whose));
    changed.chain(gone.map(|(id, (_, whose))| event(id, ContainerEventType::ContainerDeletedEvent, whose))).collect()
}

fn kind(state: i32) -> ContainerEventType {
    match state {
        state if state == ContainerState::ContainerCreated as i32 => ContainerEventType::ContainerCreatedEvent,
        state if state == ContainerState::ContainerRunning as i32 => ContainerEventType::ContainerStartedEvent,
        state if state == -1 - PodSandboxState::SandboxReady as i32 => ContainerEventType::ContainerStartedEvent,
        _ => ContainerEventType::ContainerStoppedEvent,
    }
}

fn event(id: &str, kind: ContainerEventType, whose: &PodSandboxMetadata) -> ContainerEventResponse {
    let sandbox = PodSandboxStatus { metadata: Some(whose.clone()), ..PodSandboxStatus::default() };
    ContainerEventResponse {
        container_id: id.to_owned(),
        container_event_type: kind.into(),
        pod_sandbox_status: Some(sandbox),
        ..ContainerEventResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_told_with_whose_it_is() {
        let whose = |uid: &str| PodSandboxMetadata { uid: uid.to_owned(), ..Default::default() };
        let picture = |entries: &[(&str, i32, &str)]| -> Picture {
            entries.iter().map(|(id, state, uid)| ((*id).to_owned(), (*state, whose(uid)))).collect()
        };
        let before = picture(&[("same", 1, "a"), ("ends", 1, "b"), ("gone", 2, "c")]);
        let after = picture(&[("same", 1, "a"), ("ends", 2, "b"), ("new", 0, "d"), ("sandbox", -1, "d")]);
        let told = differences(&before, &after).into_iter().map(|event| {
            let uid = event.pod_sandbox_status.clone().unwrap().metadata.unwrap().uid;
            (event.container_id.clone(), event.container_event_type(), uid)
        });
        let expected = [
            ("ends", ContainerEventType::ContainerStoppedEvent, "b"),
            ("new", ContainerEventType::ContainerCreatedEvent, "d"),
            ("sandbox", ContainerEventType::ContainerStartedEvent, "d"),
            ("gone", ContainerEventType::ContainerDeletedEvent, "c"),
        ];
        let expected = expected.map(|(id, kind, uid)| (id.to_owned(), kind, uid.to_owned()));
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }
}
