//! `exec`, `attach`, `cp` and `port-forward`: streams between this terminal and a pod.

use std::{
    io::{IsTerminal as _, Read as _, Write as _},
    path::Path,
};

use clap::Command;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::logs::{default_container, named_container, pods_of};
use crate::{
    api::{Api, Query},
    cx::{Cx, dig, dig_str, items},
    error::{Error, Result},
    fail,
    flags::{self, switch, text},
    resources::{Info, Search},
    say, stream,
};

const PROTOCOLS: &str = "v5.channel.k8s.io, v4.channel.k8s.io";
const BUFFER: usize = 32 * 1024;

pub fn commands() -> Vec<Command> {
    let container = || text("container", "The container").short('c');
    let patience = || text("pod-running-timeout", "Not supported: wait for the pod with `knarr wait`");
    let terminal = || {
        vec![
            container(),
            patience(),
            switch("stdin", "Give standard input to the container").short('i'),
            switch("tty", "With a terminal").short('t'),
            switch("quiet", "Only what the container writes").short('q'),
        ]
    };
    vec![
        flags::command("exec", "Execute a command in a container", "POD | TYPE/NAME", terminal()),
        flags::command("attach", "Attach to a running container", "POD | TYPE/NAME", terminal()),
        flags::command(
            "cp",
            "Copy files and directories to and from containers",
            "FROM TO",
            vec![
                container(),
                switch("no-preserve", "Not supported: change owner and rights with `knarr exec`"),
                text("retries", "Not supported: copy again"),
            ],
        ),
        flags::command(
            "port-forward",
            "Forward one or more local ports to a pod",
            "POD | TYPE/NAME [LOCAL:]REMOTE...",
            vec![text("address", "Local addresses to listen on"), patience()],
        ),
    ]
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

fn container(cx: &Cx, pod: &Info) -> Result<String> {
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
    let mut query = streams(&container, stdin, tty);
    for word in &words {
        // An empty word is a word too.
        query = query.keep("command", word);
    }
    run(cx.api().await?, &query.on(&pod.path(Some("exec"))), stdin, tty).await
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
        let mut buffer = vec![0; BUFFER];
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

/// One side of a copy: a file in a pod, or one here.
enum Side<'a> {
    Pod { namespace: Option<&'a str>, pod: &'a str, path: &'a str },
    Here(&'a str),
}

fn side(word: &str) -> Result<Side<'_>> {
    let Some((place, path)) = word.split_once(':').filter(|(place, _)| !place.starts_with(['.', '/'])) else {
        return Ok(Side::Here(word));
    };
    if path.is_empty() {
        return Err(fail!("filepath can not be empty"));
    }
    let (namespace, pod) = place.split_once('/').map_or((None, place), |(namespace, pod)| (Some(namespace), pod));
    Ok(Side::Pod { namespace, pod, path })
}

pub async fn cp(cx: &Cx) -> Result<()> {
    let args = cx.flags.args();
    let [from, to] = args.as_slice() else { return Err(Error::Usage("source and destination are required".into())) };
    match (side(from)?, side(to)?) {
        (Side::Here(from), Side::Pod { namespace, pod, path }) => {
            upload(cx, from, &find(cx, namespace, pod).await?, path).await
        }
        (Side::Pod { namespace, pod, path }, Side::Here(to)) => {
            download(cx, &find(cx, namespace, pod).await?, path, to).await
        }
        _ => Err(fail!("one of src or dest must be a local file specification")),
    }
}

async fn find(cx: &Cx, namespace: Option<&str>, name: &str) -> Result<Info> {
    let namespace = match namespace {
        Some(namespace) => namespace.to_owned(),
        None => cx.namespace().await?,
    };
    let resource = cx.discovery().await?.by_plural("", "pods")?;
    let object = cx.api().await?.get(&resource.path(Some(&namespace), Some(name), None)).await?;
    Ok(Info::of(&resource, object))
}

async fn in_pod(cx: &Cx, pod: &Info, words: &[&str], stdin: bool) -> Result<(stream::Sender, stream::Receiver)> {
    let mut query = streams(&container(cx, pod)?, stdin, false);
    for word in words {
        query = query.keep("command", word);
    }
    stream::connect(cx.api().await?, &query.on(&pod.path(Some("exec"))), PROTOCOLS).await
}

async fn upload(cx: &Cx, from: &str, pod: &Info, to: &str) -> Result<()> {
    let local = Path::new(from);
    if !local.exists() {
        return Err(fail!("{from} doesn't exist in local filesystem"));
    }
    // What the path names is a folder to copy into where it ends with a slash or is one.
    let is_folder = to.ends_with('/') || check(cx, pod, &["test", "-d", to]).await?;
    let name = local.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let target = if is_folder { format!("{}/{name}", to.trim_end_matches('/')) } else { to.to_owned() };
    let (folder, base) = target.rsplit_once('/').unwrap_or((".", &target));
    let folder = if folder.is_empty() { "/" } else { folder };
    let mut archive = tar::Builder::new(Vec::new());
    if local.is_dir() {
        archive.append_dir_all(base, local)?
    } else {
        archive.append_path_with_name(local, base)?
    }
    let bytes = archive.into_inner()?;
    let (mut sender, mut receiver) = in_pod(cx, pod, &["tar", "-xmf", "-", "-C", folder], true).await?;
    for chunk in bytes.chunks(BUFFER) {
        sender.send(stream::STDIN, chunk).await?;
    }
    sender.close(stream::STDIN).await?;
    finish(&mut receiver, &mut Vec::new()).await
}

async fn check(cx: &Cx, pod: &Info, words: &[&str]) -> Result<bool> {
    let (_sender, mut receiver) = in_pod(cx, pod, words, false).await?;
    while let Some((channel, bytes)) = receiver.next().await? {
        if channel == stream::ERROR {
            return Ok(serde_json::from_slice::<Value>(&bytes).is_ok_and(|status| status["status"] == "Success"));
        }
    }
    Ok(false)
}

async fn finish(receiver: &mut stream::Receiver, out: &mut Vec<u8>) -> Result<()> {
    while let Some((channel, bytes)) = receiver.next().await? {
        match channel {
            stream::STDOUT => out.extend(bytes),
            stream::STDERR => std::io::stderr().write_all(&bytes)?,
            stream::ERROR => return stream::outcome(&bytes),
            _ => {}
        }
    }
    Ok(())
}

async fn download(cx: &Cx, pod: &Info, from: &str, to: &str) -> Result<()> {
    let (_sender, mut receiver) = in_pod(cx, pod, &["tar", "cf", "-", from], false).await?;
    let mut bytes = Vec::new();
    finish(&mut receiver, &mut bytes).await?;
    let inside = from.trim_start_matches('/').trim_end_matches('/');
    let base = inside.rsplit('/').next().unwrap_or(inside);
    let target = Path::new(to);
    let target = if target.is_dir() { target.join(base) } else { target.to_owned() };
    let mut archive = tar::Archive::new(bytes.as_slice());
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let Ok(rest) = path.strip_prefix(inside) else { continue };
        // A name that climbs out of the target is not written, and a link might lead out of it.
        if rest.components().any(|part| !matches!(part, std::path::Component::Normal(_)))
            || !matches!(entry.header().entry_type(), tar::EntryType::Regular | tar::EntryType::Directory)
        {
            eprintln!(
                "warning: skipping {}: only files and directories inside of the source are copied",
                path.display()
            );
            continue;
        }
        let place = if rest.as_os_str().is_empty() { target.clone() } else { target.join(rest) };
        if entry.header().entry_type().is_dir() {
            std::fs::create_dir_all(&place)?;
        } else {
            entry.unpack(&place)?;
        }
    }
    Ok(())
}

pub async fn port_forward(cx: &Cx) -> Result<()> {
    let args = cx.flags.args();
    let Some((word, ports)) = args.split_first().filter(|(_, ports)| !ports.is_empty()) else {
        return Err(Error::Usage("TYPE/NAME and list of ports are required for port-forward".into()));
    };
    let word = if word.contains('/') { (*word).to_owned() } else { format!("pods/{word}") };
    let asked =
        Search::default().with_args(&[&word]).run(cx).await?.all()?.pop().ok_or_else(|| fail!("{word} not found"))?;
    let pod = if asked.resource.kind == "Pod" {
        asked.clone()
    } else {
        pods_of(cx, &word, true).await?.into_iter().next().ok_or_else(|| fail!("no pod of {word} is there"))?
    };
    if dig_str(&pod.object, "status.phase") != "Running" {
        return Err(fail!(
            "unable to forward port because pod is not running. Current status={}",
            dig_str(&pod.object, "status.phase")
        ));
    }
    let addresses = match cx.flags.some("address").unwrap_or("localhost") {
        "localhost" => vec!["127.0.0.1", "::1"],
        other => other.split(',').collect(),
    };
    let mut listeners = Vec::new();
    for port in ports {
        let (local, remote) = port.split_once(':').map_or((*port, *port), |(local, remote)| (local, remote));
        let remote = target(&asked, &pod, remote)?;
        let mut local: u16 = match (local, port.contains(':')) {
            ("", true) => 0,
            (text, _) => text.parse().or_else(|_| {
                if port.contains(':') { Err(fail!("error parsing local port '{text}'")) } else { Ok(remote) }
            })?,
        };
        for address in &addresses {
            match TcpListener::bind((*address, local)).await {
                Ok(listener) => {
                    local = listener.local_addr()?.port();
                    let shown = if address.contains(':') { format!("[{address}]") } else { (*address).to_owned() };
                    say!("Forwarding from {shown}:{local} -> {remote}")?;
                    listeners.push((listener, local, remote));
                }
                Err(error) if *address == "::1" && !listeners.is_empty() => drop(error),
                Err(error) => return Err(fail!("unable to listen on port {local}: {error}")),
            }
        }
    }
    let api = cx.api().await?.clone();
    let path = pod.path(Some("portforward"));
    let servers = listeners.into_iter().map(|(listener, local, remote)| {
        let (api, path) = (api.clone(), path.clone());
        async move {
            loop {
                let (connection, _) = listener.accept().await?;
                say!("Handling connection for {local}")?;
                let (api, path) = (api.clone(), format!("{path}?ports={remote}"));
                tokio::spawn(async move {
                    if let Err(error) = forward(&api, &path, connection).await {
                        eprintln!("error forwarding port {remote}: {error}");
                    }
                });
            }
        }
    });
    futures::future::try_join_all(servers).await.map(|_: Vec<()>| ())
}

/// The port of the pod: its own, or the one that a port of a service leads to.
fn target(asked: &Info, pod: &Info, port: &str) -> Result<u16> {
    let named = |name: &str| {
        let ports = items(dig(&pod.object, "spec.containers")).flat_map(|container| items(&container["ports"]));
        ports
            .into_iter()
            .find(|port| port["name"] == name)
            .and_then(|port| u16::try_from(port["containerPort"].as_u64()?).ok())
    };
    let bad = || fail!("error parsing remote port '{port}'");
    if asked.resource.kind != "Service" {
        return port.parse().ok().or_else(|| named(port)).ok_or_else(bad);
    }
    let found = items(dig(&asked.object, "spec.ports"))
        .find(|known| known["name"] == port || known["port"].as_u64().map(|n| n.to_string()).as_deref() == Some(port));
    let found = found.ok_or_else(|| fail!("Service {} does not have a service port {port}", asked.name))?;
    match &found["targetPort"] {
        Value::String(name) => named(name).ok_or_else(bad),
        number => number.as_u64().and_then(|number| u16::try_from(number).ok()).ok_or_else(bad),
    }
}

/// One connection: channel 0 is its data, channel 1 its errors; the first message of each names the port.
async fn forward(api: &Api, path: &str, connection: TcpStream) -> Result<()> {
    let (mut sender, mut receiver) = stream::connect(api, path, "v4.channel.k8s.io").await?;
    let (mut from, mut to) = connection.into_split();
    let up = async {
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = from.read(&mut buffer).await?;
            if length == 0 {
                return std::future::pending::<Result<()>>().await;
            }
            sender.send(0, &buffer[..length]).await?;
        }
    };
    let down = async {
        let mut named = [false; 2];
        while let Some((channel, bytes)) = receiver.next().await? {
            match named.get_mut(usize::from(channel)) {
                Some(named) if !*named => *named = true,
                _ if channel == 0 => to.write_all(&bytes).await?,
                _ => return Err(fail!("{}", String::from_utf8_lossy(&bytes))),
            }
        }
        Ok(())
    };
    tokio::select! {
        ended = up => ended,
        ended = down => ended,
    }
}
