//! The dialects in which channels share a connection: what each version has, and how its messages look.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use tokio_tungstenite::tungstenite::Message;

/// What a client and the node agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    version: u8,
    /// Messages are text: a digit for the channel, then base64. For clients that cannot send bytes.
    base64: bool,
}

const fn dialect(version: u8, base64: bool) -> Dialect {
    Dialect { version, base64 }
}

/// Closes the channel that it names, where a dialect has that.
const CLOSE: u8 = 255;

/// Those of exec and attach over WebSocket; a client that names none speaks the first.
/// (upstream: `cri-streaming/pkg/streaming/remotecommand`, and for `v5` `apiserver/pkg/util/proxy`)
pub const SOCKET: [(&str, Dialect); 6] = [
    ("", dialect(1, false)),
    ("channel.k8s.io", dialect(1, false)),
    ("base64.channel.k8s.io", dialect(1, true)),
    ("v4.channel.k8s.io", dialect(4, false)),
    ("v4.base64.channel.k8s.io", dialect(4, true)),
    ("v5.channel.k8s.io", dialect(5, false)),
];

/// Those of exec and attach over SPDY, the newest first.
pub const SPDY: [(&str, Dialect); 5] = [
    ("v5.channel.k8s.io", dialect(5, false)),
    ("v4.channel.k8s.io", dialect(4, false)),
    ("v3.channel.k8s.io", dialect(3, false)),
    ("v2.channel.k8s.io", dialect(2, false)),
    ("channel.k8s.io", dialect(1, false)),
];

/// Those of port-forward over WebSocket, where each port has two channels.
pub const PORTS: [(&str, Dialect); 4] = [
    ("", dialect(4, false)),
    ("v4.channel.k8s.io", dialect(4, false)),
    ("v4.base64.channel.k8s.io", dialect(4, true)),
    ("portforward.k8s.io", dialect(4, false)),
];

/// What a client's message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Bytes(u8, Bytes),
    /// Nothing more comes on this channel.
    Closed(u8),
}

impl Dialect {
    /// Whether the error channel ends with a Status as JSON, of success too. Before, an error was its message alone,
    /// and success was silence.
    pub fn has_status(self) -> bool {
        self.version >= 4
    }

    /// Whether a SPDY client opens a stream for the sizes of its terminal.
    pub fn has_resize(self) -> bool {
        self.version >= 3
    }

    /// How many channels there are. In base64 each is one letter of ASCII, from the digit zero on.
    pub fn channels(self) -> usize {
        if self.base64 { usize::from(0x7f - b'0') } else { 256 }
    }

    pub fn write(self, channel: u8, bytes: &[u8]) -> Message {
        if self.base64 {
            return Message::text(format!("{}{}", char::from(b'0' + channel), STANDARD.encode(bytes)));
        }
        Message::binary([&[channel], bytes].concat())
    }

    /// `None` for what says nothing to us, as upstream passes it over: other kinds of messages, empty ones, and text
    /// that is no base64.
    pub fn read(self, message: Message) -> Option<Said> {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => Bytes::from(text),
            _ => return None,
        };
        let first = *bytes.first()?;
        let rest = bytes.slice(1..);
        if self.base64 {
            return Some(Said::Bytes(first.checked_sub(b'0')?, STANDARD.decode(rest).ok()?.into()));
        }
        match rest[..] {
            [channel] if first == CLOSE && self.version >= 5 => Some(Said::Closed(channel)),
            _ => Some(Said::Bytes(first, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Dialect {
        SOCKET.into_iter().find(|(known, _)| *known == name).unwrap().1
    }

    #[test]
    fn messages_look_as_upstreams_do() {
        for (name, channel, bytes, expected) in [
            ("", 1, &b"\n"[..], Message::binary(&b"\x01\n"[..])),
            ("channel.k8s.io", 1, b"", Message::binary(&b"\x01"[..])),
            ("base64.channel.k8s.io", 1, b"\n", Message::text("1Cg==")),
            ("v4.base64.channel.k8s.io", 3, b"", Message::text("3")),
            ("v5.channel.k8s.io", 2, b"ab", Message::binary(&b"\x02ab"[..])),
        ] {
            assert_eq!(named(name).write(channel, bytes), expected, "{name}");
        }
    }

    #[test]
    fn messages_are_understood() {
        let bytes = |channel, bytes: &'static [u8]| Some(Said::Bytes(channel, Bytes::from_static(bytes)));
        for (name, message, expected) in [
            ("channel.k8s.io", Message::binary(&b"\0foo"[..]), bytes(0, b"foo")),
            ("channel.k8s.io", Message::text("\0foo"), bytes(0, b"foo")),
            ("channel.k8s.io", Message::binary(&b""[..]), None),
            // Only the fifth version closes a channel.
            ("v4.channel.k8s.io", Message::binary(&b"\xff\0"[..]), bytes(255, b"\0")),
            ("v5.channel.k8s.io", Message::binary(&b"\xff\0"[..]), Some(Said::Closed(0))),
            ("base64.channel.k8s.io", Message::text("0Zm9vCg=="), bytes(0, b"foo\n")),
            ("base64.channel.k8s.io", Message::binary(&b"0Zm9vCg=="[..]), bytes(0, b"foo\n")),
            ("base64.channel.k8s.io", Message::text("0not base64"), None),
            ("base64.channel.k8s.io", Message::binary(&b"\0Zm9v"[..]), None),
            ("v5.channel.k8s.io", Message::Ping(Bytes::new()), None),
        ] {
            assert_eq!(named(name).read(message.clone()), expected, "{name} {message:?}");
        }
    }
}
