//! What runtime and shim say to each other: JSON in frames (a length in four bytes, little-endian) on a UNIX stream
//! socket, with descriptors attached to a frame's first bytes. One connection serves one request; `Exec`, `Attach`
//! and `Watch` keep theirs for what follows.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::spec::{Exit, Identity};

/// The largest frame: arguments of `exec` are bounded by the kernel at 2 MiB in sum.
pub const MAX_FRAME_BYTES: usize = 4 << 20;

#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Answered by `Ready` once the sandbox's namespaces are there, or by why they are not.
    Hello,
    /// Set a container up to the point where its program would start. The path is that of its spec.
    Create {
        spec: PathBuf,
    },
    Start {
        id: String,
    },
    /// Signal a container's first process; with `all`, kill everything in it.
    Kill {
        id: String,
        signal: i32,
        all: bool,
    },
    /// Forget a container that has ended; one that was never started is killed.
    Remove {
        id: String,
    },
    /// Run another process; carries one descriptor for each of the streams named, in order, unless `terminal`.
    Exec {
        id: String,
        spec: PathBuf,
        args: Vec<String>,
        terminal: bool,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    },
    /// On an `Exec` connection: kill that process and its session.
    KillExec,
    /// Also send output to the descriptors carried. Answered by `Attached`, with a descriptor for input if asked for.
    Attach {
        id: String,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    },
    /// A client that was attached to a container's input has gone.
    DetachInput {
        id: String,
    },
    Resize {
        id: String,
        width: u16,
        height: u16,
    },
    ReopenLog {
        id: String,
    },
    /// A socket that is connecting to a port of the sandbox's loopback address.
    Connect {
        port: u16,
        v6: bool,
    },
    /// Answered by `State`, then by an `Exited` for each container that ends.
    Watch,
    /// Kill everything in the sandbox and end.
    Shutdown,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    Done,
    Ready {
        pid: i32,
    },
    Created {
        pid: i32,
        identity: Identity,
        warnings: Vec<String>,
    },
    /// With the time at which the program began, which only the shim knows to be before the program's end. Zero from
    /// a shim of a version that did not say.
    Started {
        pid: i32,
        #[serde(default)]
        at_ns: i64,
    },
    Attached,
    Connecting,
    State {
        containers: Vec<ContainerState>,
    },
    Exited {
        id: String,
        exit: Exit,
    },
    ExecExited {
        code: i32,
    },
    Failed {
        kind: Failure,
        message: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    NotFound,
    /// The state of the thing forbids the request.
    Precondition,
    /// The program could not be started: not found, not executable, no such user.
    Start,
    Internal,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerState {
    pub id: String,
    pub pid: i32,
    pub running: bool,
    /// Zero where it has not started, or the shim is of a version that did not say.
    #[serde(default)]
    pub started_at_ns: i64,
    pub exit: Option<Exit>,
}

/// A message as the bytes of a frame.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    let mut frame = vec![0; 4];
    // Serialising these types into memory has no way to fail.
    serde_json::to_writer(&mut frame, message).unwrap_or_default();
    let length = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame
}

/// Takes one whole frame's content off the front of `buffer`, if it is all there.
pub fn take_frame(buffer: &mut Vec<u8>) -> Result<Option<Vec<u8>>, FrameTooLarge> {
    let Some(header) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*header) as usize;
    if length > MAX_FRAME_BYTES {
        return Err(FrameTooLarge(length));
    }
    if buffer.len() < 4 + length {
        return Ok(None);
    }
    let frame = buffer[4..4 + length].to_vec();
    buffer.drain(..4 + length);
    Ok(Some(frame))
}

#[derive(Debug, thiserror::Error)]
#[error("a frame of {0} bytes is more than the protocol allows: the peer speaks something else")]
pub struct FrameTooLarge(usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in_however_cut() {
        let sent = [Request::Hello, Request::Start { id: "a".into() }, Request::Connect { port: 80, v6: true }];
        let bytes: Vec<u8> = sent.iter().flat_map(encode).collect();
        for cut in 0..bytes.len() {
            let mut buffer = Vec::new();
            let mut got = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                buffer.extend_from_slice(part);
                while let Some(frame) = take_frame(&mut buffer).unwrap() {
                    got.push(format!("{:?}", serde_json::from_slice::<Request>(&frame).unwrap()));
                }
            }
            assert_eq!(got, sent.iter().map(|r| format!("{r:?}")).collect::<Vec<_>>(), "cut at {cut}");
        }
    }

    #[test]
    fn a_foreign_peer_is_refused() {
        assert!(take_frame(&mut b"GET / HTTP/1.1".to_vec()).is_err());
    }
}
