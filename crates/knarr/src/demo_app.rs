//! The web server in the built-in demo image: says its version, colour, pod and node, so that a rolling update
//! can be watched. After SIGTERM it answers for a moment longer, as a well-behaved server behind a Service does.

use std::{convert::Infallible, env, net::Ipv6Addr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use http_body_util::Full;
use hyper::{Request, Response, body::Bytes, body::Incoming, header, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::Semaphore,
    task::JoinSet,
};

use crate::cli::DemoAppArgs;

/// How long new connections are still taken after SIGTERM, unless `LINGER_MS` says otherwise: with 0 it is one of the
/// many servers that just end.
const LINGER: Duration = Duration::from_secs(1);
const CONNECTIONS: usize = 512;

struct App {
    version: String,
    colour: String,
    pod: String,
    node: String,
}

pub fn run(args: DemoAppArgs) -> Result<()> {
    let DemoAppArgs { port } = args;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve(port))
}

async fn serve(port: u16) -> Result<()> {
    let var = |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.into());
    let app = Arc::new(App {
        version: var("VERSION", "unknown"),
        colour: var("COLOUR", "grey"),
        pod: var("POD_NAME", &var("HOSTNAME", "unknown")),
        node: var("NODE_NAME", "unknown"),
    });
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await;
    let listener = listener.with_context(|| format!("cannot listen on port {port}"))?;
    println!("demo {} ({}) listens on port {port}", app.version, app.colour);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let linger = env::var("LINGER_MS").ok().and_then(|text| text.parse().ok()).map_or(LINGER, Duration::from_millis);
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let stop = async {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tokio::time::sleep(linger).await;
    };
    tokio::pin!(stop);
    loop {
        while connections.try_join_next().is_some() {}
        let slot = slots.clone().acquire_owned().await?;
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let app = app.clone();
                connections.spawn(async move { answer(stream, app).await; drop(slot) });
            }
            () = &mut stop => break,
        }
    }
    println!("demo {} ends", app.version);
    Ok(())
}

async fn answer(stream: TcpStream, app: Arc<App>) {
    let service = service_fn(move |request| {
        let response = respond(&app, &request);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(10))
        .serve_connection(TokioIo::new(stream), service);
    // A client that breaks off is no news to a web server.
    let _ = connection.await;
}

fn respond(app: &App, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let App { version, colour, pod, node } = app;
    let wants_html =
        request.headers().get(header::ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"text/html"));
    let (status, kind, body) = match request.uri().path() {
        "/healthz" | "/readyz" => (200, "text/plain", "ok\n".to_owned()),
        "/" if wants_html => (
            200,
            "text/html; charset=utf-8",
            format!(
                "<!doctype html><title>Knarr demo</title><body style=\"font:2rem system-ui;background:{colour};\
                 color:white;text-align:center;padding-top:20vh\"><h1>version {version}</h1><p>{pod} on {node}</p>\n"
            ),
        ),
        "/" => (200, "text/plain", format!("version={version} colour={colour} pod={pod} node={node}\n")),
        _ => (404, "text/plain", "not found\n".to_owned()),
    };
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
