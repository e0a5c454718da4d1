//! `port-forward`: connections to this machine that are answered in a pod.

use clap::Command;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::logs::pods_of;
use crate::{
    api::Api,
    cx::{Cx, dig, dig_str, items},
    error::{Error, Result},
    fail,
    flags::{self, text},
    resources::{Info, Search},
    say, stream,
};

pub fn command() -> Command {
    flags::command(
        "port-forward",
        "Forward one or more local ports to a pod",
        "POD | TYPE/NAME [LOCAL:]REMOTE...",
        vec![text("address", "Local addresses to listen on"), flags::no_patience()],
    )
}

pub async fn run(cx: &Cx) -> Result<()> {
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
    let listeners = listen(cx, &asked, &pod, ports).await?;
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

/// Listens for every port at every address; what is listened to comes with its local port and the pod's.
async fn listen(cx: &Cx, asked: &Info, pod: &Info, ports: &[&str]) -> Result<Vec<(TcpListener, u16, u16)>> {
    let addresses = match cx.flags.some("address").unwrap_or("localhost") {
        "localhost" => vec!["127.0.0.1", "::1"],
        other => other.split(',').collect(),
    };
    let mut listeners = Vec::new();
    for port in ports {
        let (local, remote) = port.split_once(':').map_or((*port, *port), |(local, remote)| (local, remote));
        let remote = target(asked, pod, remote)?;
        let mut local: u16 = match local {
            "" if port.contains(':') => 0,
            text if port.contains(':') => text.parse().map_err(|_| fail!("error parsing local port '{text}'"))?,
            text => text.parse().unwrap_or(remote),
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
    Ok(listeners)
}

/// The port of the pod: its own, or the one that a port of a service leads to.
fn target(asked: &Info, pod: &Info, port: &str) -> Result<u16> {
    let named = |name: &str| {
        let mut ports = items(dig(&pod.object, "spec.containers")).flat_map(|container| items(&container["ports"]));
        ports.find(|port| port["name"] == name).and_then(|port| u16::try_from(port["containerPort"].as_u64()?).ok())
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
        let mut buffer = vec![0; stream::BUFFER];
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
