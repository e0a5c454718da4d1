//! `./x demo`: a cluster, an app on it, and a rolling update under load; Ctrl-C ends all of it.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    run::{check, output, release_binary, root, step},
    setup::{self, Tools},
};

const NODE_PORT: u16 = 30088;
const IMAGE: &str = "web=knarr.local/demo:v2";

struct Demo {
    knarr: PathBuf,
    tools: Tools,
    data_dir: PathBuf,
}

pub fn run() -> Result<()> {
    let (interrupt, interrupted) = mpsc::channel();
    ctrlc::set_handler(move || {
        let _ = interrupt.send(());
    })?;
    let tools = step("set-up", setup::for_demo)?;
    let knarr = step("build", release_binary)?;
    let demo = Demo { knarr, tools, data_dir: setup::cache().join("demo") };
    let shown = demo.start().and_then(|()| demo.show(&interrupted));
    println!("\nremoving the cluster and all it made");
    let ended = check(Command::new(&demo.knarr).args(["reset", "--yes", "--data-dir"]).arg(&demo.data_dir));
    shown.and(ended)
}

impl Demo {
    fn kubeconfig(&self) -> PathBuf {
        self.data_dir.join("admin.kubeconfig")
    }

    fn kubectl(&self, line: &str) -> Command {
        println!("\n\x1b[1m$ kubectl {line}\x1b[0m");
        let mut kubectl = Command::new(self.tools.kubectl());
        kubectl.env("KUBECONFIG", self.kubeconfig()).current_dir(root()).args(line.split(' '));
        kubectl
    }

    fn start(&self) -> Result<()> {
        println!("\n\x1b[1m$ knarr up --detach\x1b[0m");
        let mut up = Command::new(&self.knarr);
        up.args(["up", "--detach", "--data-dir"]).arg(&self.data_dir);
        check(up.arg("--kubeconfig").arg(self.data_dir.join("demo.kubeconfig")))
    }

    fn show(&self, interrupted: &mpsc::Receiver<()>) -> Result<()> {
        check(&mut self.kubectl("get nodes"))?;
        check(&mut self.kubectl("apply -f examples/demo.yaml"))?;
        check(&mut self.kubectl("rollout status deployment/demo --timeout=60s"))?;
        check(&mut self.kubectl("get deployments,pods,services"))?;
        let node = output(
            &mut self.kubectl("get nodes -o jsonpath={.items[0].status.addresses[?(@.type==\"InternalIP\")].address}"),
        )?;
        let address = format!("{}:{NODE_PORT}", node.trim());
        println!("\n\x1b[1m$ curl http://{address}/\x1b[0m");
        let target: SocketAddr = address.parse().with_context(|| format!("{address:?} is no address"))?;
        print!("{}", get(target)?);
        self.update(target)?;
        check(&mut self.kubectl("rollout history deployment/demo"))?;
        println!("\nThe cluster is yours until Ctrl-C:\n");
        println!("  export KUBECONFIG={}", self.kubeconfig().display());
        println!("  {} get all", self.tools.kubectl().display());
        println!("  curl http://{address}/\n");
        let _ = interrupted.recv();
        Ok(())
    }

    /// Updates the app while requests come in, and counts who answered.
    fn update(&self, target: SocketAddr) -> Result<()> {
        check(&mut self.kubectl(&format!("set image deployment/demo {IMAGE}")))?;
        let mut rollout = self.kubectl("rollout status deployment/demo --timeout=60s").spawn()?;
        let (mut answers, mut failed) = (BTreeMap::<String, u32>::new(), 0);
        let started = Instant::now();
        loop {
            match get(target) {
                Ok(body) => {
                    let version = body.split_whitespace().next().unwrap_or("?").to_owned();
                    *answers.entry(version).or_default() += 1;
                }
                Err(error) => {
                    failed += 1;
                    eprintln!("a request failed: {error:#}");
                }
            }
            if let Some(status) = rollout.try_wait()? {
                if !status.success() {
                    bail!("the update did not complete");
                }
                break;
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        let total: u32 = answers.values().sum();
        println!("\nduring the update ({seconds:.1} s): {total} requests answered {answers:?}, {failed} failed");
        if failed > 0 {
            bail!("{failed} requests failed during the update");
        }
        Ok(())
    }
}

/// One plain HTTP request.
fn get(target: SocketAddr) -> Result<String> {
    let patience = Duration::from_secs(3);
    let mut stream = TcpStream::connect_timeout(&target, patience)?;
    stream.set_read_timeout(Some(patience))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let (head, body) = response.split_once("\r\n\r\n").context("no HTTP response")?;
    if !head.starts_with("HTTP/1.1 200") {
        bail!("{}", head.lines().next().unwrap_or_default());
    }
    Ok(body.to_owned())
}
