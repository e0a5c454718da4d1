//! An etcd of a test's own, on loopback and in a temporary directory, which can be killed and started again.

#![allow(clippy::disallowed_methods)] // it is another program, and these are tests

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use knarr_store::{EtcdStore, Store, etcd::EtcdConfig};

/// Names the program; `./x test` sets it, so that nothing is skipped there.
pub const PROGRAM: &str = "KNARR_TEST_ETCD";
/// A busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program; `None` where nobody said which.
pub fn program() -> Option<PathBuf> {
    std::env::var_os(PROGRAM).map(PathBuf::from)
}

pub struct Etcd {
    program: PathBuf,
    dir: tempfile::TempDir,
    ports: [u16; 2],
    child: Option<Child>,
}

impl Etcd {
    pub fn new(program: PathBuf) -> Self {
        assert!(program.exists(), "{} is missing: run `./x setup`", program.display());
        // Both are held until both are known, so that they differ.
        let held = [0; 2].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = held.map(|listener| listener.local_addr().unwrap().port());
        let mut etcd = Self { program, dir: tempfile::tempdir().unwrap(), ports, child: None };
        etcd.start();
        etcd
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0])
    }

    /// A store over it; what is written by other prefixes is not in it.
    pub fn store(&self, own: &'static str, there: &'static str) -> EtcdStore {
        let config = EtcdConfig { endpoints: vec![self.endpoint()], ..EtcdConfig::default() };
        EtcdStore::open(&config, own, there).unwrap()
    }

    pub fn start(&mut self) {
        let [client, peer] = self.ports.map(|port| format!("http://127.0.0.1:{port}"));
        let log = std::fs::File::create(self.dir.path().join("log")).unwrap();
        let child = Command::new(&self.program)
            .arg("--data-dir")
            .arg(self.dir.path().join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub async fn wait(&self) {
        let store = self.store("", "/");
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = store.revision().await {
            assert!(Instant::now() < deadline, "etcd does not answer: {error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}
