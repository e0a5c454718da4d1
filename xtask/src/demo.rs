//! `./x demo`: a cluster, an app on it, and a rolling update under load; Ctrl-C ends all of it.

mod load;

use std::{
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
};

use anyhow::{Context, Result, bail};

use crate::{
    run::{binary, check, is_root, output, root, step},
    setup::{self, Tools},
};

const NODE_PORT: u16 = 30088;
const IMAGE: &str = "web=knarr.local/demo:v2";

struct Demo {
    knarr: PathBuf,
    tools: Tools,
    data_dir: PathBuf,
    interrupted: mpsc::Receiver<()>,
}

pub fn run() -> Result<()> {
    if !is_root()? {
        bail!("the demo runs containers and needs root: `sudo ./x demo`");
    }
    let tools = step("set-up", setup::for_demo)?;
    let knarr = step("build", binary)?;
    let (interrupt, interrupted) = mpsc::channel();
    ctrlc::set_handler(move || {
        let _ = interrupt.send(());
    })?;
    let demo = Demo { knarr, tools, data_dir: setup::cache().join("demo"), interrupted };
    if demo.data_dir.exists() {
        println!("\na demo of before did not end; removing what it left");
        demo.reset()?;
    }
    let shown = demo.show();
    println!("\nremoving the cluster and all it made");
    demo.reset()?;
    match shown {
        // Whoever ends the demo half-way ends its programs with it, and is not to blame for what they say.
        Err(_) if demo.was_interrupted() => Ok(()),
        shown => shown,
    }
}

/// Ctrl-C reaches every program of the terminal; those that must not stop half-way are none of it.
fn uninterrupted(command: &mut Command) -> &mut Command {
    command.process_group(0)
}

fn curl(target: SocketAddr) -> Result<()> {
    println!("\n\x1b[1m$ curl http://{target}/\x1b[0m");
    print!("{}", load::get(target)?);
    Ok(())
}

impl Demo {
    fn kubeconfig(&self) -> PathBuf {
        self.data_dir.with_extension("kubeconfig")
    }

    /// A program's line as a user would type it, and the program to run.
    fn typed(program: &Path, line: &str) -> Command {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        println!("\n\x1b[1m$ {name} {line}\x1b[0m");
        let mut command = Command::new(program);
        command.current_dir(root()).args(line.split(' '));
        command
    }

    fn kubectl(&self, line: &str) -> Command {
        let mut kubectl = Self::typed(&self.tools.kubectl, line);
        kubectl.env("KUBECONFIG", self.kubeconfig());
        kubectl
    }

    fn reset(&self) -> Result<()> {
        let mut reset = Command::new(&self.knarr);
        check(uninterrupted(&mut reset).args(["reset", "--yes", "--data-dir"]).arg(&self.data_dir))
    }

    fn was_interrupted(&self) -> bool {
        self.interrupted.try_recv().is_ok()
    }

    fn show(&self) -> Result<()> {
        let mut up = Self::typed(&self.knarr, "up --detach");
        check(uninterrupted(&mut up).arg("--data-dir").arg(&self.data_dir).arg("--kubeconfig").arg(self.kubeconfig()))?;
        if self.was_interrupted() {
            return Ok(());
        }
        check(&mut self.kubectl("get nodes -o wide"))?;
        check(&mut self.kubectl("apply -f examples/demo.yaml"))?;
        check(&mut self.kubectl("rollout status deployment/demo --timeout=60s"))?;
        check(&mut self.kubectl("get deployments,pods,services -o wide"))?;
        let target = self.target()?;
        curl(target)?;
        self.update(target)?;
        curl(target)?;
        check(&mut self.kubectl("rollout history deployment/demo"))?;
        let on_path = setup::on_path("kubectl").as_ref() == Some(&self.tools.kubectl);
        let kubectl = if on_path { "kubectl".into() } else { self.tools.kubectl.display().to_string() };
        println!("\nThe cluster is yours until Ctrl-C. In another terminal:\n");
        println!("  export KUBECONFIG={}", self.kubeconfig().display());
        println!("  {kubectl} get all --all-namespaces");
        println!("  {kubectl} logs deployment/demo --follow");
        println!("  {kubectl} scale deployment/demo --replicas=10");
        println!("  {kubectl} rollout undo deployment/demo");
        println!("  curl http://{target}/\n");
        let _ = self.interrupted.recv();
        Ok(())
    }

    /// Where the app is reached: a port of the node.
    fn target(&self) -> Result<SocketAddr> {
        let path = r#"jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}"#;
        let mut kubectl = Command::new(&self.tools.kubectl);
        let node = output(kubectl.env("KUBECONFIG", self.kubeconfig()).args(["get", "nodes", "-o", path]))?;
        let address = format!("{}:{NODE_PORT}", node.trim());
        address.parse().with_context(|| format!("{address:?} is no address"))
    }

    /// Updates the app while requests come in, and shows who answers them.
    fn update(&self, target: SocketAddr) -> Result<()> {
        println!("\nNow an update, while requests come in one after another:");
        check(&mut self.kubectl(&format!("set image deployment/demo {IMAGE}")))?;
        let mut rollout = self.kubectl("rollout status deployment/demo --timeout=60s");
        let mut rollout = rollout.stdout(Stdio::null()).spawn()?;
        let tally = load::until(target, || Ok(rollout.try_wait()?.is_some()))?;
        if !rollout.wait()?.success() {
            bail!("the update did not complete");
        }
        println!("\n{tally}");
        if tally.failed > 0 {
            bail!("{} requests failed during the update", tally.failed);
        }
        Ok(())
    }
}
