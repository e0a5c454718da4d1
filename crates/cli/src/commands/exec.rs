//! `exec` and `attach`: a container's streams as this terminal's.

use std::io::{IsTerminal as _, Read as _};

use clap::Command;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::logs::{default_container, named_container, pods_of};
use crate::{
    api::{Api, Query},
    cx::{Cx, dig_str},
    error::{Error, Result},
    fail,
    flags::{self, switch},
    resources::{Info, Search},
    stream,
};

pub const PROTOCOLS: &str = "v5.channel.k8s.io, v4.channel.k8s.io";

pub fn commands() -> [Command; 2] {
    [("exec", "Execute a command in a container"), ("attach", "Attach to a running container")].map(|(name, about)| {
        let quiet = switch("quiet", "Only what the container writes").short('q');
        let own = [flags::container(), flags::no_patience()].into_iter().chain(flags::terminal()).chain([quiet]);
        flags::command(name, about, "POD | TYPE/NAME", own.collect())
    })
}

/// The pod that a word means.
async fn pod(cx: &Cx, word: &str) -> Result<Info> {
    let word = if word.contains('/') { word.to_owned() } else { format!("pods/{word}") };
    if let Some(name) = word.strip_prefix("pods/") {
        let found = Search::default().with_args(&["pods", name]).run(cx).await?;
        return found.all()?.pop().ok_or_else(|| fail!("pods {name:?} not found"));
    }
    pods_of(cx, &word, true).await?.into_iter().next().ok_or_else(|| fail!("no pod of {word} is there"))
}

pub fn container(cx: &Cx, pod: &Info) -> Result<String> {
    match cx.flags.some("container") {
        Some(name) => named_container(pod, name),
        None => default_container(pod, cx.flags.on("quiet")),
    }
}

pub async fn exec(cx: &Cx) -> Result<()> {
    let (args, words) = (cx.flags.args(), cx.flags.rest());
    let [word] = args.as_slice() else {
        return Err(match args.len() {
            0 => Error::Usage("pod, type/name or --filename must be specified".into()),
            _ => fail!("exec [POD] [COMMAND] is not supported anymore. Use exec [POD] -- [COMMAND] instead"),
        });
    };
    if words.is_empty() {
        return Err(fail!("you must specify at least one command for the container"));
    }
    let pod = pod(cx, word).await?;
    if matches!(dig_str(&pod.object, "status.phase"), "Succeeded" | "Failed") {
        return Err(fail!(
            "cannot exec into a container in a completed pod; current phase is {}",
            dig_str(&pod.object, "status.phase")
        ));
    }
    let container = container(cx, &pod)?;
    let (stdin, tty) = (cx.flags.on("stdin"), wants_tty(cx));
    run(cx.api().await?, &path_of(&pod, &container, &words, stdin, tty), stdin, tty).await
}

/// Where words are run as a command. An empty word is a word too.
pub fn path_of(pod: &Info, container: &str, words: &[&str], stdin: bool, tty: bool) -> String {
    let query = words.iter().fold(streams(container, stdin, tty), |query, word| query.keep("command", word));
    query.on(&pod.path(Some("exec")))
}

fn wants_tty(cx: &Cx) -> bool {
    let tty = cx.flags.on("tty");
    if tty && cx.flags.on("stdin") && !std::io::stdin().is_terminal() {
        eprintln!("Unable to use a TTY - input is not a terminal or the right kind of file");
        return false;
    }
    tty
}

fn streams(container: &str, stdin: bool, tty: bool) -> Query {
    Query::default()
        .add("container", container)
        .some("stdin", stdin.then_some("true"))
        .add("stdout", "true")
        .some("stderr", (!tty).then_some("true"))
        .some("tty", tty.then_some("true"))
}

pub async fn attach(cx: &Cx) -> Result<()> {
    let args = cx.flags.args();
    let Some(word) = args.first() else {
        return Err(Error::Usage("at least 1 argument is required for attach".into()));
    };
    let pod = pod(cx, word).await?;
    let container = container(cx, &pod)?;
    attach_to(cx, &pod, &container, cx.flags.on("stdin"), wants_tty(cx)).await
}

pub async fn attach_to(cx: &Cx, pod: &Info, container: &str, stdin: bool, tty: bool) -> Result<()> {
    if stdin && !cx.flags.on("quiet") {
        eprintln!("If you don't see a command prompt, try pressing enter.");
    }
    let path = streams(container, stdin, tty).on(&pod.path(Some("attach")));
    run(cx.api().await?, &path, stdin, tty).await
}

/// Puts the terminal into raw mode, and back when dropped.
struct Raw(Option<rustix::termios::Termios>);

impl Raw {
    fn enter(wanted: bool) -> Self {
        let stdin = std::io::stdin();
        let Some(before) = wanted.then(|| rustix::termios::tcgetattr(&stdin).ok()).flatten() else { return Self(None) };
        let mut raw = before.clone();
        raw.make_raw();
        let _ = rustix::termios::tcsetattr(&stdin, rustix::termios::OptionalActions::Now, &raw);
        Self(Some(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = rustix::termios::tcsetattr(std::io::stdin(), rustix::termios::OptionalActions::Now, before);
        }
    }
}

fn size() -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some((size.ws_col, size.ws_row))
}

/// Standard input as it is typed; a thread reads it, for a read of a terminal cannot be given up.
fn typed() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(4);
    std::thread::spawn(move || {
        let mut buffer = vec![0; stream::BUFFER];
        while let Ok(length) = std::io::stdin().lock().read(&mut buffer) {
            if length == 0 || sender.blocking_send(buffer[..length].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

async fn run(api: &Api, path: &str, stdin: bool, tty: bool) -> Result<()> {
    let (mut sender, mut receiver) = stream::connect(api, path, PROTOCOLS).await?;
    let raw = Raw::enter(tty);
    let mut resized = signal(SignalKind::window_change())?;
    if let Some((width, height)) = size().filter(|_| tty) {
        sender.resize(width, height).await?;
    }
    let mut input = stdin.then(typed);
    let mut outcome = Ok(());
    loop {
        tokio::select! {
            message = receiver.next() => match message? {
                None => break,
                Some((stream::STDOUT, bytes)) => copy_out(&mut std::io::stdout().lock(), &bytes)?,
                Some((stream::STDERR, bytes)) => copy_out(&mut std::io::stderr().lock(), &bytes)?,
                Some((stream::ERROR, bytes)) => {
                    drop(raw);
                    outcome = stream::outcome(&bytes);
                    break;
                }
                Some(_) => {}
            },
            bytes = next(&mut input) => match bytes {
                Some(bytes) => sender.send(stream::STDIN, &bytes).await?,
                None => {
                    input = None;
                    sender.close(stream::STDIN).await?;
                }
            },
            _ = resized.recv(), if tty => if let Some((width, height)) = size() {
                sender.resize(width, height).await?;
            },
        }
    }
    outcome
}

async fn next(input: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    match input {
        Some(input) => input.recv().await,
        None => std::future::pending().await,
    }
}

fn copy_out(out: &mut impl std::io::Write, bytes: &[u8]) -> Result<()> {
    out.write_all(bytes)?;
    Ok(out.flush()?)
}
