//! `cp`: files as a tar archive, packed or unpacked by the container's own `tar`.

use std::{
    io::Write as _,
    path::{Component, Path},
};

use clap::Command;
use serde_json::Value;

use super::exec;
use crate::{
    cx::Cx,
    error::{Error, Result},
    fail,
    flags::{self, switch, text},
    resources::Info,
    stream,
};

pub fn command() -> Command {
    flags::command(
        "cp",
        "Copy files and directories to and from containers",
        "FROM TO",
        vec![
            flags::container(),
            switch("no-preserve", "Not supported: change owner and rights with `knarr exec`"),
            text("retries", "Not supported: copy again"),
        ],
    )
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

pub async fn run(cx: &Cx) -> Result<()> {
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
    let path = exec::path_of(pod, &exec::container(cx, pod)?, words, stdin, false);
    stream::connect(cx.api().await?, &path, exec::PROTOCOLS).await
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
    for chunk in bytes.chunks(stream::BUFFER) {
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
        if rest.components().any(|part| !matches!(part, Component::Normal(_)))
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
