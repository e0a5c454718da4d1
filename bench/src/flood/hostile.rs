//! What the other one does. Each answers with what it heard, so that a refusal can be told from silence.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, Config,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::wire::{Wire, send, status};

const AT_ONCE: usize = 64;
const HELD: Duration = Duration::from_secs(10);
const CHUNK: usize = 64 << 10;

pub async fn idle_connections(wire: &Wire, count: usize) -> Result<String> {
    let connections = stream::iter(0..count).map(|_| wire.connect()).buffer_unordered(AT_ONCE);
    let connections: Vec<_> = connections.collect().await;
    let open = connections.iter().filter(|connection| connection.is_ok()).count();
    tokio::time::sleep(HELD).await;
    Ok(format!("{open} open"))
}

/// Heads that never end, a byte every second.
pub async fn slow_heads(wire: &Wire, count: usize) -> Result<String> {
    let slow = stream::iter(0..count).map(|_| async {
        let mut stream = wire.connect().await?;
        send(&mut stream, wire.head("GET", "/api/v1/namespaces").as_bytes()).await;
        anyhow::Ok(stream)
    });
    let mut open: Vec<_> = slow.buffer_unordered(AT_ONCE).filter_map(|made| async { made.ok() }).collect().await;
    for _ in 0..HELD.as_secs() {
        for stream in &mut open {
            send(stream, b"x").await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(format!("{} open", open.len()))
}

pub async fn large_heads(wire: &Wire, times: usize) -> Result<String> {
    let filler = format!("X-Filler: {}\r\n\r\n", "x".repeat(100_000));
    let mut heard = BTreeMap::<String, usize>::new();
    for _ in 0..times {
        let mut stream = wire.connect().await?;
        send(&mut stream, (wire.head("GET", "/api/v1/namespaces") + &filler).as_bytes()).await;
        *heard.entry(status(&mut stream).await.unwrap_or_else(|_| "closed".into())).or_default() += 1;
    }
    Ok(format!("{heard:?}"))
}

/// Twice: with its length told before, and in chunks.
pub async fn large_body(wire: &Wire, bytes: usize) -> Result<String> {
    let path = "/api/v1/namespaces/default/configmaps";
    let json = "Content-Type: application/json\r\n";
    let mut heard = Vec::new();
    for how in [format!("Content-Length: {bytes}\r\n\r\n"), "Transfer-Encoding: chunked\r\n\r\n".to_owned()] {
        let mut stream = wire.connect().await?;
        send(&mut stream, (wire.head("POST", path) + json + &how).as_bytes()).await;
        let mut chunk = if how.starts_with("Transfer") { format!("{CHUNK:x}\r\n").into_bytes() } else { Vec::new() };
        chunk.extend(std::iter::repeat_n(b' ', CHUNK));
        if how.starts_with("Transfer") {
            chunk.extend(b"\r\n");
        }
        let mut sent = 0;
        while sent < bytes && send(&mut stream, &chunk).await {
            sent += CHUNK;
        }
        let said = status(&mut stream).await.unwrap_or_else(|_| "closed".into());
        heard.push(format!("{said} after {} MB", sent >> 20));
    }
    Ok(heard.join(", "))
}

/// Watches that are asked for and never read, while what they watch changes all the time.
pub async fn unread_watches(wire: &Wire, admin: &Client, count: usize) -> Result<String> {
    let mut watches = Vec::new();
    for _ in 0..count {
        let mut stream = wire.connect().await?;
        let head = wire.head("GET", "/api/v1/namespaces/default/configmaps?watch=true&resourceVersion=0");
        send(&mut stream, (head + "\r\n").as_bytes()).await;
        watches.push(stream);
    }
    let maps: Api<ConfigMap> = Api::namespaced(admin.clone(), "default");
    let text = "y".repeat(10_000);
    let changes = stream::iter(0..5_000).map(|number| {
        let patch = json!({"data": {"text": text, "number": number.to_string()}});
        let (maps, name) = (maps.clone(), format!("m{}", number % 1_000 + 1));
        async move { maps.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await }
    });
    let done = changes.buffer_unordered(16).filter(|done| std::future::ready(done.is_ok())).count().await;
    Ok(format!("{done} changes"))
}

/// As many at a time as one user can have under way; the answers are read and thrown away.
pub async fn lists(user: &Config, at_once: usize) -> Result<String> {
    const CONNECTIONS: usize = 4;
    let clients: Vec<Client> =
        (0..CONNECTIONS).map(|_| Client::try_from(user.clone())).collect::<Result<_, _>>().context("no client")?;
    let asked = stream::iter(0..2_000).map(|number| {
        let client = clients[number % CONNECTIONS].clone();
        async move {
            let request = http::Request::get("/api/v1/namespaces/default/configmaps").body(Vec::new());
            match client.request_text(request.unwrap_or_default()).await {
                Ok(_) => "answered",
                Err(kube::Error::Api(status)) if status.code == 429 => "429",
                Err(_) => "failed",
            }
        }
    });
    let heard = asked.buffer_unordered(at_once).fold(BTreeMap::<_, usize>::new(), |mut heard, what| async move {
        *heard.entry(what).or_default() += 1;
        heard
    });
    Ok(format!("{:?}", heard.await))
}
