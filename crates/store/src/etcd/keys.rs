//! Where a key of the store lies in etcd: under another prefix, so that several clusters may share one etcd.

use bytes::Bytes;

use crate::StoreError;

/// The end of a key that stands for nothing and only makes a revision; see [`super::watch`]. No other key has a zero
/// byte in it.
const FENCE: &[u8] = b"\0fence";

#[derive(Clone, Debug)]
pub struct Keys {
    own: Bytes,
    there: Bytes,
}

#[derive(Debug, thiserror::Error)]
#[error("the key {key} is not below {own}, the only keys that are kept in etcd")]
struct Misplaced {
    key: String,
    own: String,
}

impl Keys {
    /// Keys that begin with `own` lie in etcd under `there` instead.
    pub fn new(own: Bytes, there: Bytes) -> Self {
        Self { own, there }
    }

    /// The key, or the bound of a range, as etcd has it.
    pub fn place(&self, key: &[u8]) -> Result<Bytes, StoreError> {
        let Some(rest) = key.strip_prefix(&self.own[..]) else {
            let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let source = std::sync::Arc::new(Misplaced { key: shown(key), own: shown(&self.own) });
            return Err(StoreError::Engine { action: "finding a key's place in etcd", source });
        };
        Ok([&self.there[..], rest].concat().into())
    }

    /// The key that lies at a place in etcd.
    pub fn key(&self, place: &Bytes) -> Bytes {
        match place.strip_prefix(&self.there[..]) {
            Some(_) if self.own == self.there => place.clone(),
            Some(rest) => [&self.own[..], rest].concat().into(),
            // etcd answers with what was asked for, and that was below the prefix.
            None => place.clone(),
        }
    }

    /// Some place of one's own, to ask etcd about nothing in particular.
    pub fn any(&self) -> Bytes {
        fence_of(&self.there)
    }
}

pub fn fence_of(prefix: &[u8]) -> Bytes {
    [prefix, FENCE].concat().into()
}

pub fn is_fence(place: &[u8]) -> bool {
    place.ends_with(FENCE)
}

/// The end of the range of all keys with a prefix; etcd takes a zero byte for "no end".
pub fn end_of(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(b"\0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_as_they_were() {
        for (own, there) in [("/registry", "/registry"), ("/registry", "/teams/a"), ("/registry", ""), ("", "/x/")] {
            let keys = Keys::new(own.into(), there.into());
            let key = Bytes::from(format!("{own}/pods/default/a"));
            let place = keys.place(&key).unwrap();
            assert_eq!(place, format!("{there}/pods/default/a"));
            assert_eq!(keys.key(&place), key);
        }
    }

    #[test]
    fn a_key_of_nobody_is_refused() {
        let keys = Keys::new("/registry".into(), "/registry".into());
        let refused = keys.place(b"/elsewhere").unwrap_err();
        assert!(matches!(refused, StoreError::Engine { .. }), "{refused:?}");
    }

    #[test]
    fn the_end_of_a_prefix_is_behind_all_its_keys() {
        for (prefix, end) in [(&b"/registry/"[..], &b"/registry0"[..]), (b"a\xff", b"b"), (b"\xff\xff", b"\0")] {
            assert_eq!(end_of(prefix), end);
        }
    }
}
