//! One change of one object, as every watcher of its resource shares it.

use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};

use crate::contract::Stored;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    Added,
    Modified,
    Deleted,
}

/// What ends a line of a watch.
pub(super) const CLOSING: &[u8] = b"}\n";

impl Change {
    /// What begins a line of a watch.
    pub(super) const fn opening(self) -> &'static [u8] {
        match self {
            Self::Added => b"{\"type\":\"ADDED\",\"object\":",
            Self::Modified => b"{\"type\":\"MODIFIED\",\"object\":",
            Self::Deleted => b"{\"type\":\"DELETED\",\"object\":",
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// An applied event. The frames that most watchers want, in JSON and in protobuf, are each made by the first of them
/// and kept.
#[derive(Debug)]
pub struct CachedEvent {
    pub revision: u64,
    pub change: Change,
    /// The object after the change; for a deletion its last state under the deletion's revision.
    pub object: Arc<Stored>,
    /// The object before the change, for watchers whose selector it left or entered.
    pub before: Option<Arc<Stored>>,
    frame: OnceLock<Bytes>,
    message_frame: OnceLock<Bytes>,
}

impl CachedEvent {
    pub fn new(revision: u64, change: Change, object: Arc<Stored>, before: Option<Arc<Stored>>) -> Self {
        Self { revision, change, object, before, frame: OnceLock::new(), message_frame: OnceLock::new() }
    }

    /// The event as its own kind of change, one line of JSON.
    pub fn frame(&self) -> Bytes {
        match self.object.line_of(self.change) {
            Some(line) => line,
            None => self.frame.get_or_init(|| frame(self.change.as_str(), &self.object.json)).clone(),
        }
    }

    /// The event as its own kind of change in protobuf, as `make` writes an object of the resource.
    pub fn message_frame(&self, make: impl FnOnce(&str, &Stored) -> Bytes) -> Bytes {
        self.message_frame.get_or_init(|| make(self.change.as_str(), &self.object)).clone()
    }

    /// The object, and what was made of it so far.
    pub fn size_bytes(&self) -> usize {
        let frames = [&self.frame, &self.message_frame].into_iter().filter_map(OnceLock::get).map(Bytes::len);
        self.object.json.len() + self.object.message.size_bytes() + frames.sum::<usize>()
    }
}

impl Stored {
    /// The line of a watch that the object's bytes are kept in, where it tells of this kind of change.
    pub fn line_of(&self, change: Change) -> Option<Bytes> {
        self.line.starts_with(change.opening()).then(|| self.line.clone())
    }
}

/// One line of a watch: `{"type":"ADDED","object":{...}}`.
pub fn frame(kind: &str, object: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(object.len() + kind.len() + 24);
    out.put_slice(b"{\"type\":\"");
    out.put_slice(kind.as_bytes());
    out.put_slice(b"\",\"object\":");
    out.put_slice(object);
    out.put_slice(CLOSING);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{KeptForm, KeptMessage};

    #[test]
    fn frames_are_made_once_for_all_watchers() {
        let object = Stored {
            key: "a".into(),
            json: Bytes::from_static(b"{}"),
            line: Bytes::new(),
            resource_version: 1,
            labels: Arc::default(),
            fields: Arc::default(),
            message: KeptMessage::default(),
            shown: KeptForm::default(),
        };
        let event = CachedEvent::new(1, Change::Added, Arc::new(object), None);
        let mut made = 0;
        let mut frame = || {
            event.message_frame(|kind, object| {
                made += 1;
                [kind.as_bytes(), &object.json].concat().into()
            })
        };
        let (first, second) = (frame(), frame());
        assert_eq!((&first[..], first.as_ptr()), (&b"ADDED{}"[..], second.as_ptr()));
        assert_eq!(made, 1);
        assert_eq!(event.frame().as_ptr(), event.frame().as_ptr());
    }
}
