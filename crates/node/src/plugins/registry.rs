//! Keeps what is registered as the folder's sockets are.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;
use knarr_grpc::unix::Channel;
use tokio::time::Instant;

use super::{
    Handler, Plugin,
    folder::{self, Stamp},
    wire,
};

const PERIOD: Duration = Duration::from_secs(1);
/// A plugin that was refused or did not answer is asked again after these pauses.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(122);

/// Handlers by the type of plugin that each deals with: `DRAPlugin`, `CSIPlugin`, `DevicePlugin`.
pub type Handlers = BTreeMap<&'static str, Arc<dyn Handler>>;

pub struct Registry {
    dir: PathBuf,
    handlers: Handlers,
}

/// What became of a socket.
struct Seen {
    stamp: Stamp,
    state: State,
}

enum State {
    /// Left when the socket goes or is made anew.
    Registered(Arc<dyn Handler>, Plugin),
    /// Left when it is time to ask again.
    Refused { pause: Duration, again: Instant },
}

impl Registry {
    pub fn new(dir: PathBuf, handlers: Handlers) -> Self {
        Self { dir, handlers }
    }

    /// Follows the folder. One round waits for the slowest plugin, all of whose answers have deadlines.
    pub async fn run(&self) {
        let mut seen = BTreeMap::new();
        loop {
            let dir = self.dir.clone();
            match tokio::task::spawn_blocking(move || folder::sockets(&dir)).await {
                Ok(Ok(sockets)) => self.settle(&mut seen, sockets).await,
                Ok(Err(error)) => {
                    tracing::debug!(path = %self.dir.display(), %error, "the folder of plugins cannot be read");
                }
                Err(error) => tracing::warn!(%error, "the folder of plugins was not read"),
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    async fn settle(&self, seen: &mut BTreeMap<PathBuf, Seen>, sockets: BTreeMap<PathBuf, Stamp>) {
        let stale = |(path, known): &(&PathBuf, &Seen)| sockets.get(*path) != Some(&known.stamp);
        let gone: Vec<PathBuf> = seen.iter().filter(stale).map(|(path, _)| path.clone()).collect();
        for path in gone {
            if let Some(Seen { state: State::Registered(handler, plugin), .. }) = seen.remove(&path) {
                tracing::info!(plugin = plugin.name, "a plugin is gone");
                handler.deregister(&plugin).await;
            }
        }
        let now = Instant::now();
        let due = sockets.into_iter().filter_map(|(path, stamp)| match seen.get(&path).map(|known| &known.state) {
            Some(State::Refused { pause, again }) if *again <= now => Some((path, stamp, (*pause * 2).min(LAST_PAUSE))),
            None => Some((path, stamp, FIRST_PAUSE)),
            _ => None,
        });
        let asked = join_all(due.map(async |(path, stamp, pause)| {
            let state = match self.register(&path).await {
                Ok((handler, plugin)) => {
                    tracing::info!(plugin = plugin.name, "a plugin is registered");
                    State::Registered(handler, plugin)
                }
                Err(error) => {
                    tracing::warn!(socket = %path.display(), error, "a plugin could not be registered");
                    State::Refused { pause, again: Instant::now() + pause }
                }
            };
            (path, Seen { stamp, state })
        }));
        seen.extend(asked.await);
    }

    async fn register(&self, socket: &Path) -> Result<(Arc<dyn Handler>, Plugin), String> {
        let at = socket.display();
        let channel = Channel::new(socket.to_owned());
        let (kind, plugin) = wire::info(&channel, socket)
            .await
            .map_err(|failure| format!("failed to get plugin info using RPC GetInfo at socket {at}, err: {failure}"))?;
        let taken = match self.handlers.get(&*kind) {
            None => Err(format!("no handler registered for plugin type: {kind} at socket {at}")),
            Some(handler) => match handler.register(&plugin).await {
                Ok(()) => Ok(handler),
                Err(why) => Err(format!("plugin registration failed with err: {why}")),
            },
        };
        let refused = taken.as_ref().err().map(|why| format!("RegisterPlugin error -- {why}"));
        let told = wire::notify(&channel, refused.as_deref()).await;
        let handler = taken?;
        // It serves all the same; a plugin that minds makes its socket anew.
        if let Err(error) = told {
            tracing::warn!(plugin = plugin.name, %error, "a plugin could not be told that it is registered");
        }
        Ok((handler.clone(), plugin))
    }
}
