//! Debian's containerd with a configuration, directories, a socket and a pod network of its own. The set-up unpacked it
//! with runc and the CNI plugins; nothing of it is installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{
    command::{Running, run, start, succeed},
    eventually,
    image::{self, PAUSE},
};

/// The bridge that its plugins make, which they leave behind. No link of Knarr's has such a name.
pub const BRIDGE: &str = "cni-knarrtest";
/// The range of its pods.
pub const RANGE: &str = "10.88.0.";
/// What its shims and plugins write to, whatever they are told.
const FIXED: [&str; 2] = ["/run/containerd", "/var/lib/cni"];

pub struct Containerd {
    dir: tempfile::TempDir,
    root: PathBuf,
    process: Option<Running>,
    /// Directories that were not there before.
    made: Vec<&'static str>,
}

impl Containerd {
    /// Starts it from where the set-up unpacked it, with the images of the tests.
    pub fn start(root: &Path) -> Result<Self> {
        if !root.join("usr/bin/containerd").exists() {
            bail!("no containerd in {}: run `./x setup`", root.display());
        }
        let dir = tempfile::Builder::new().prefix("knarr-cd-").tempdir()?;
        let made = FIXED.into_iter().filter(|path| !Path::new(path).exists()).collect();
        for path in FIXED {
            fs::create_dir_all(path)?;
            succeed(Command::new("mount").args(["-t", "tmpfs", "tmpfs", path]))?;
        }
        let mut containerd = Self { dir, root: root.to_owned(), process: None, made };
        containerd.configure()?;
        containerd.spawn()?;
        let archive = containerd.dir.path().join("images.tar");
        image::write_busybox(&archive)?;
        containerd.ctr(&["images", "import", &archive.to_string_lossy()])?;
        Ok(containerd)
    }

    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.path("containerd.sock"))
    }

    /// Its own client, in Kubernetes' namespace.
    pub fn ctr(&self, args: &[&str]) -> Result<String> {
        let mut ctr = Command::new(self.root.join("usr/bin/ctr"));
        succeed(ctr.args(["--address", &self.path("containerd.sock"), "--namespace", "k8s.io"]).args(args))
    }

    /// Whether a container was made by the handler `other`, which notes what it runs in a place of its own.
    pub fn runs_by_other(&self, id: &str) -> bool {
        self.dir.path().join("runc-other/k8s.io").join(id).exists()
    }

    /// `kill -9`. Its shims and their containers go on.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("containerd does not run")?.kill().map(drop)
    }

    pub fn spawn(&mut self) -> Result<()> {
        let usr = self.root.join("usr");
        let path = format!("{0}/bin:{0}/sbin:/usr/sbin:/usr/bin:/sbin:/bin", usr.display());
        // Its log is a file: shims hold it open, too, and would keep whoever reads a pipe waiting.
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" --config \"$1\" >>\"$2\" 2>&1"]).arg(usr.join("bin/containerd"));
        command.args([self.path("config.toml"), self.path("log")]).env("PATH", path);
        self.process = Some(start(&mut command, "")?);
        eventually("containerd answers", || self.ctr(&["version"])).with_context(|| self.log())?;
        Ok(())
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }

    fn configure(&self) -> Result<()> {
        let dir = self.dir.path().display();
        let usr = self.root.join("usr");
        let usr = usr.display();
        let config = format!(
            r#"version = 2
root = "{dir}/root"
state = "{dir}/state"
[grpc]
address = "{dir}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "{dir}/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
disable_apparmor = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "{usr}/sbin/runc"
Root = "{dir}/runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.other]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.other.options]
BinaryName = "{usr}/sbin/runc"
Root = "{dir}/runc-other"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{usr}/lib/cni"
conf_dir = "{dir}/cni"
"#
        );
        fs::write(self.path("config.toml"), config)?;
        fs::create_dir(self.path("cni"))?;
        fs::write(self.dir.path().join("cni/10-test.conflist"), network(&self.path("addresses"), false, &[]))?;
        Ok(())
    }

    /// Ends it and removes what its plugins leave.
    pub fn finish(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        if let Some(process) = self.process.take() {
            process.kill()?;
        }
        // Where a test failed, its shims are still there; they name the socket.
        let socket = self.path("containerd.sock");
        let own = run(Command::new("sh").arg("-c").arg("grep -lsaF \"$0\" /proc/[0-9]*/cmdline").arg(&socket))?.stdout;
        for pid in own.lines().filter_map(|path| path.split('/').nth(2)) {
            let shim = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if shim.starts_with("containerd-shim") {
                run(Command::new("kill").args(["-9", pid]))?;
            }
        }
        run(Command::new("ip").args(["link", "delete", BRIDGE]))?;
        for path in FIXED {
            run(Command::new("umount").args(["-l", path]))?;
        }
        for path in self.made.drain(..) {
            // Somebody else may have put something there by now.
            let _ = fs::remove_dir(path);
        }
        Ok(())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// A network of a bridge, with addresses from one range, and what further plugins add to it.
pub fn network(addresses: &str, masquerade: bool, further: &[Value]) -> String {
    let bridge = json!({
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": true,
        "ipMasq": masquerade,
        "hairpinMode": true,
        "ipam": {
            "type": "host-local",
            "dataDir": addresses,
            "ranges": [[{"subnet": format!("{RANGE}0/24")}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    });
    let plugins: Vec<_> = [&[bridge], further].concat();
    json!({"cniVersion": "1.0.0", "name": "knarr-test", "plugins": plugins}).to_string()
}
