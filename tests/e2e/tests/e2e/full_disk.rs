//! A data directory on a disk that fills up.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail, ensure};
use knarr_e2e::{
    Cluster,
    command::{run, succeed},
    eventually,
};

use crate::Alone;

pub fn tests() -> Vec<(&'static str, Alone)> {
    vec![("a_full_disk_refuses_writes_and_loses_nothing", refuses_writes_and_loses_nothing)]
}

const MIB: u64 = 1 << 20;

/// A small disk, and a file that takes what is left of it.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        succeed(Command::new("mount").args(["-t", "tmpfs", "-o", "size=2g", "tmpfs"]).arg(dir.path()))?;
        Ok(Self(dir))
    }

    /// Leaves so much of it free, so that not much memory is needed to fill it.
    fn shrink(&self, leave_bytes: u64) -> Result<()> {
        let used = succeed(Command::new("df").args(["--output=used", "-B1"]).arg(self.path()))?;
        let used: u64 = used.lines().last().unwrap_or_default().trim().parse()?;
        let size = format!("remount,size={}", used + leave_bytes);
        succeed(Command::new("mount").args(["-o", &size]).arg(self.path())).map(drop)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    fn free_bytes(&self) -> Result<u64> {
        let said = succeed(Command::new("df").args(["--output=avail", "-B1"]).arg(self.path()))?;
        Ok(said.lines().last().unwrap_or_default().trim().parse()?)
    }

    fn fill(&self, leave_bytes: u64) -> Result<()> {
        let mut filler = File::options().create(true).append(true).open(self.filler())?;
        let most = self.free_bytes()?.saturating_sub(leave_bytes);
        match filler.write_all(&vec![0; usize::try_from(most)?]) {
            Err(error) if error.kind() != ErrorKind::StorageFull => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn empty(&self) -> Result<()> {
        Ok(fs::remove_file(self.filler())?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg("--lazy").arg(self.path()));
    }
}

fn configmaps(cluster: &Cluster, ns: &str) -> Result<Vec<String>> {
    let names = cluster.kubectl(&format!("get configmaps -n {ns} -o jsonpath={{.items[*].metadata.name}}"))?;
    Ok(names.split(' ').filter(|name| *name != "kube-root-ca.crt").map(str::to_owned).collect())
}

fn refused(cluster: &Cluster, line: &str) -> Result<()> {
    let said = cluster.kubectl_fails(&format!("{line} -v=6"))?;
    ensure!(said.contains("503 Service Unavailable"), "{said}");
    ensure!(said.contains(": the disk that holds ") && said.contains(" is full ("), "{said}");
    ensure!(said.contains(": nothing was written; make room there and try again"), "{said}");
    Ok(())
}

fn refuses_writes_and_loses_nothing() -> Result<()> {
    let disk = Disk::new()?;
    let mut cluster = Cluster::new_in(disk.path())?;
    cluster.start()?;
    disk.shrink(64 * MIB)?;
    let ns = cluster.namespace("full")?;
    let create = |name: &str| format!("create configmap {name} -n {ns} --from-literal=a=b");
    for name in ["one", "two"] {
        cluster.kubectl(&create(name))?;
    }
    let log = tempfile::NamedTempFile::new()?;
    let watch = ["get", "configmaps", "-n", &ns, "--watch-only", "--output-watch-events"];
    let mut watch = cluster.kubectl_command(&watch).stdout(log.reopen()?).spawn()?;

    disk.fill(8 * MIB)?;
    refused(&cluster, &create("refused"))?;
    refused(&cluster, &format!("label configmap one -n {ns} a=b"))?;
    ensure!(configmaps(&cluster, &ns)? == ["one", "two"], "reads go on");
    ensure!(cluster.kubectl("get --raw /readyz")? == "ok", "a server that reads is ready");
    cluster.kubectl(&format!("delete configmap one -n {ns}"))?;
    disk.empty()?;
    cluster.kubectl(&create("three"))?;

    disk.fill(0)?;
    refused(&cluster, &create("refused"))?;
    refused(&cluster, &format!("delete configmap two -n {ns}"))?;
    ensure!(configmaps(&cluster, &ns)? == ["three", "two"], "reads go on");
    disk.empty()?;
    cluster.kubectl(&create("four"))?;
    let seen = eventually("the watch goes on", || {
        let seen = fs::read_to_string(log.path())?;
        if seen.contains("four") { Ok(seen) } else { bail!("{seen}") }
    });
    watch.kill()?;
    watch.wait()?;
    let seen = seen?;
    for (event, times) in [("DELETED", 1), ("three", 1), ("refused", 0)] {
        ensure!(seen.matches(event).count() == times, "{event}: {seen}");
    }

    disk.fill(0)?;
    refused(&cluster, &create("refused"))?;
    let said = cluster.kill()?;
    // A start needs no room, only the first write does.
    cluster.spawn()?;
    eventually("a server on a full disk answers", || cluster.kubectl("get --raw /readyz"))?;
    ensure!(configmaps(&cluster, &ns)? == ["four", "three", "two"], "reads go on");
    refused(&cluster, &create("refused"))?;
    disk.empty()?;
    cluster.wait_ready()?;
    cluster.kubectl(&create("five"))?;
    let once = |text: &str| said.all().matches(text).count();
    let (refuses, takes) = (once("the store refuses writes"), once("the store takes writes again"));
    ensure!((refuses, takes) == (3, 2), "said {refuses} and {takes} times:\n{}", said.all());
    ensure!(!said.all().contains("panicked"), "{}", said.all());
    Ok(())
}
