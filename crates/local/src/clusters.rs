//! The clusters of a host: a directory each, with one for each node in it.

use std::{
    fs::{self, DirBuilder, File},
    io,
    net::Ipv4Addr,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use crate::{ClusterRecord, LocalError, Node, NodeRecord, Range, Result, error::At, network, record, supervisor};

/// Where clusters are kept.
#[derive(Clone, Debug)]
pub struct Clusters {
    root: PathBuf,
    /// The control group that the program makes those of its pods in, by its data directory.
    pods_group: fn(&Path) -> PathBuf,
}

#[derive(Clone, Debug)]
pub struct Cluster {
    pub directory: PathBuf,
    pub record: ClusterRecord,
    pods_group: fn(&Path) -> PathBuf,
}

impl Clusters {
    pub fn at(root: PathBuf, pods_group: fn(&Path) -> PathBuf) -> Self {
        Self { root, pods_group }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn list(&self) -> Result<Vec<Cluster>> {
        directories(&self.root)?.into_iter().map(|name| self.open(name)).collect()
    }

    pub fn get(&self, name: &str) -> Result<Option<Cluster>> {
        if !self.root.join(name).is_dir() {
            return Ok(None);
        }
        self.open(name.to_owned()).map(Some)
    }

    /// A directory without a record is what is left of a cluster; it can be deleted.
    fn open(&self, name: String) -> Result<Cluster> {
        let directory = self.root.join(&name);
        let found = record::read(&directory.join(supervisor::CLUSTER_RECORD))?;
        let unknown = || ClusterRecord {
            name,
            range: "172.30.0.0/24".parse().unwrap_or_else(|_| unreachable!("a constant range")),
            bridge: String::new(),
            images: None,
            former_forwarding: None,
            kubeconfigs: Default::default(),
        };
        Ok(Cluster { directory, record: found.unwrap_or_else(unknown), pods_group: self.pods_group })
    }

    /// Makes a cluster without nodes, and its network.
    pub fn create(&self, name: &str, range: Option<Range>, images: Option<PathBuf>) -> Result<Cluster> {
        let _alone = self.lock()?;
        let directory = self.root.join(name);
        DirBuilder::new().mode(0o700).create(&directory).at("create", &directory)?;
        let (range, bridge) = network::choose(range)?;
        let record = ClusterRecord {
            name: name.into(),
            range,
            bridge,
            images,
            former_forwarding: None,
            kubeconfigs: Default::default(),
        };
        let mut cluster = Cluster { directory, record, pods_group: self.pods_group };
        // Noted before anything is made, so that what a crash leaves can be deleted.
        cluster.write()?;
        cluster.ensure_network()?;
        Ok(cluster)
    }

    /// Removes a cluster with everything that it made on this host.
    pub fn delete(&self, cluster: &Cluster) -> Result<()> {
        let _alone = self.lock()?;
        let nodes = cluster.nodes()?;
        let ended: Result<Vec<()>> = std::thread::scope(|scope| {
            let ends: Vec<_> = nodes.iter().map(|node| scope.spawn(|| node.remove())).collect();
            let join = |end: std::thread::ScopedJoinHandle<'_, Result<()>>| {
                end.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            ends.into_iter().map(join).collect()
        });
        ended?;
        network::remove(&cluster.record, &cluster.directory, |heir, former| self.inherit(heir, former))?;
        fs::remove_dir_all(&cluster.directory).at("remove", &cluster.directory)?;
        // Only where no other cluster is in it.
        let _ = fs::remove_dir(&self.root);
        Ok(())
    }

    /// Another cluster goes on needing what this one changed on the host, and puts it back in its turn.
    fn inherit(&self, heir: &Path, former: &str) -> Result<()> {
        let path = heir.join(supervisor::CLUSTER_RECORD);
        let Some(mut heir) = record::read::<ClusterRecord>(&path)? else { return Ok(()) };
        heir.former_forwarding.get_or_insert(former.to_owned());
        record::write(&path, &heir)
    }

    /// Held while ranges and names are chosen or given back, so that two commands do not choose the same.
    fn lock(&self) -> Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.root).at("create", &self.root)?;
        let root = File::open(&self.root).at("open", &self.root)?;
        root.lock().at("lock", &self.root)?;
        Ok(root)
    }
}

impl Cluster {
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// The nodes, by their addresses: the server first.
    pub fn nodes(&self) -> Result<Vec<Node>> {
        let nodes = directories(&self.directory)?.into_iter().map(|name| {
            let node = self.node(&name);
            Ok((node.record()?.map_or(Ipv4Addr::BROADCAST, |record| record.address), node))
        });
        let mut nodes = nodes.collect::<Result<Vec<_>>>()?;
        nodes.sort_by(|(a, left), (b, right)| (a, &left.name).cmp(&(b, &right.name)));
        Ok(nodes.into_iter().map(|(_, node)| node).collect())
    }

    /// The node of this name, whether it is there or not.
    pub fn node(&self, name: &str) -> Node {
        let directory = self.directory.join(name);
        let pods_group = (self.pods_group)(&directory.join(supervisor::DATA));
        Node { name: name.into(), directory, pods_group }
    }

    /// Makes a node without starting it. `arguments` says what is run in it, given its address and data directory.
    pub fn add_node(&self, name: &str, arguments: impl FnOnce(Ipv4Addr, &Path) -> Vec<String>) -> Result<Node> {
        let taken: Vec<Ipv4Addr> = self.nodes()?.iter().filter_map(|node| Some(node.record().ok()??.address)).collect();
        let mut free = (Range::FIRST_NODE..=Range::LAST_NODE).map(|last| self.record.range.at(last));
        let address = free.find(|address| !taken.contains(address));
        let address = address.ok_or_else(|| LocalError::Full { cluster: self.name().into() })?;
        let node = self.node(name);
        DirBuilder::new().mode(0o700).create(&node.directory).at("create", &node.directory)?;
        let data = node.data_dir();
        DirBuilder::new().mode(0o700).create(&data).at("create", &data)?;
        let record = NodeRecord { name: name.into(), address, arguments: arguments(address, &data) };
        record::write(&node.record_file(), &record)?;
        Ok(node)
    }

    /// Makes what is missing of the network on the host: all of it after the host was started again.
    pub fn ensure_network(&mut self) -> Result<()> {
        network::ensure(&mut self.record, &self.directory)?;
        self.write()
    }

    pub fn write(&self) -> Result<()> {
        record::write(&self.directory.join(supervisor::CLUSTER_RECORD), &self.record)
    }

    /// Whether nodes of this cluster find the names of the world.
    pub fn finds_name_servers() -> bool {
        network::name_servers().is_some()
    }
}

fn directories(path: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).at("list", path),
    };
    let directories = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut names: Vec<String> = directories.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}
