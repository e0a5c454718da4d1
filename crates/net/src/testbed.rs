//! A node and its pods in network namespaces of their own: the kernel is the real one, the host's own namespace
//! is never touched.

use std::{
    fs,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use knarr_cri::{NetworkRequest, PortMapping};
use knarr_os::net::{
    LinkConfig, Links, Mac, Route,
    netns::{in_namespace, in_new_namespace},
};

use crate::{
    Config, Overlay,
    base::{Base, Ranges},
    pods::PodNetworkHandle,
};

/// For a connection, which kernels make among themselves.
const CONNECT: Duration = Duration::from_secs(2);
/// For an answer; on a busy machine whoever gives it may have to wait for its turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a test in a network namespace that stands for a node. Says so and fails where the rights are missing: a
/// test of the network that did not touch the kernel has shown nothing.
pub fn on_node(test: impl FnOnce() + Send) {
    in_new_namespace(|| {
        let links = Links::open().expect("netlink");
        links.set_up(links.get("lo").unwrap().index).unwrap();
        // The kernel sends few "unreachable" messages a second to a peer; these tests provoke many.
        knarr_os::net::sysctl::write("ipv4/icmp_ratemask", "0").unwrap();
        test();
    })
    .expect("these tests make network namespaces; run them as root");
}

/// The base of a node's network, with its records in a directory of its own.
pub struct Node {
    pub config: Config,
    pub base: Base,
    pub dir: tempfile::TempDir,
}

impl Node {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::new(dir.path(), "node-a", NODE_IP.into());
        let base = Base::set_up(&config).unwrap_or_else(|error| panic!("{error:?}"));
        let range = |text: &str| text.parse().unwrap();
        base.adopt(Ranges { node: range("10.244.0.0/24"), cluster: config.cluster_cidr }).unwrap();
        Self { config, base, dir }
    }
}

/// A wire that machines hang on.
pub struct Wire(Space);

impl Wire {
    pub fn new() -> Self {
        let space = Space::new();
        space.links().add_bridge("wire", Mac([2, 9, 0, 0, 0, 1]), 1500).unwrap();
        Self(space)
    }

    /// Plugs a machine in, with an address in a /24.
    pub fn plug(&self, machine: &Space, link: &str, ip: Ipv4Addr) {
        let (switch, [a, b, c, d]) = (self.0.links(), ip.octets());
        let port = format!("port-{c}-{d}");
        let here = LinkConfig { name: &port, mac: Mac([2, 9, a, b, c, d]), mtu: 1500 };
        let there = LinkConfig { name: link, mac: Mac([2, 8, a, b, c, d]), mtu: 1500 };
        switch.add_veth(here, there, &machine.file).unwrap();
        let (port, wire) = (switch.get(&port).unwrap().index, switch.get("wire").unwrap().index);
        switch.change(|changes| changes.set_master(port, wire)).unwrap();
        let links = machine.links();
        let link = links.get(link).unwrap().index;
        links.change(|changes| changes.set_up(link)).unwrap();
        links.change(|changes| changes.add_address(link, ip.into(), 24)).unwrap();
    }
}

/// One of several nodes, in a namespace of its own.
pub struct Machine {
    pub space: Space,
    pub config: Config,
    pub base: Arc<Base>,
    pub network: PodNetworkHandle,
    _dir: tempfile::TempDir,
}

impl Machine {
    /// A node on a wire, with the routes and the pod range that are given.
    pub fn new(name: &str, wire: &Wire, ip: Ipv4Addr, router: Option<Ipv4Addr>, range: &str, overlay: Overlay) -> Self {
        let (space, dir) = (Space::new(), tempfile::tempdir().unwrap());
        space.up();
        wire.plug(&space, "eth0", ip);
        if let Some(router) = router {
            space.route_by("eth0", router);
        }
        let config = Config { overlay, ..Config::new(dir.path(), name, ip.into()) };
        let base = space.run(|| {
            let base = Base::set_up(&config).unwrap_or_else(|error| panic!("{error:?}"));
            base.adopt(Ranges { node: range.parse().unwrap(), cluster: config.cluster_cidr }).unwrap();
            Arc::new(base)
        });
        let network = PodNetworkHandle(base.pods.clone());
        Self { space, config, base, network, _dir: dir }
    }

    /// Attaches a namespace to this node's network and serves on a port in it.
    pub fn pod(&self, name: &str, port: u16) -> (Space, Ipv4Addr) {
        self.space.run(|| pod(&self.network, name, port, Vec::new()))
    }
}

pub const NODE_IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const CLIENT_IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);

/// A network namespace held open by a file, as a sandbox has one (or a machine on the node's network).
pub struct Space {
    file: PathBuf,
    /// Dropping it ends the thread that keeps the namespace.
    _keeper: mpsc::Sender<()>,
}

impl Space {
    pub fn new() -> Self {
        let (keeper, wait) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            in_new_namespace(move || {
                let id = fs::read_link("/proc/thread-self").unwrap();
                tell.send(Path::new("/proc").join(id).join("ns/net")).unwrap();
                let _ = wait.recv();
            })
        });
        Self { file: told.recv().unwrap(), _keeper: keeper }
    }

    /// A machine beside the node, on a wire to it.
    pub fn outside() -> Self {
        let space = Self::new();
        let links = Links::open().unwrap();
        let here = LinkConfig { name: "uplink", mac: Mac([2, 0, 0, 0, 0, 1]), mtu: 1400 };
        let there = LinkConfig { name: "eth0", mac: Mac([2, 0, 0, 0, 0, 2]), mtu: 1400 };
        links.add_veth(here, there, &space.file).unwrap();
        let uplink = links.get("uplink").unwrap().index;
        let default = |link, gateway: Ipv4Addr| Route {
            gateway: Some(gateway.into()),
            ..Route::new(Ipv4Addr::UNSPECIFIED.into(), 0, link)
        };
        links.change(|c| c.add_address(uplink, NODE_IP.into(), 24)).unwrap();
        links.change(|c| c.set_route(&default(uplink, CLIENT_IP))).unwrap();
        let inside = Links::open_in(&space.file).unwrap();
        let eth0 = inside.get("eth0").unwrap().index;
        let lo = inside.get("lo").unwrap().index;
        inside.change(|c| [lo, eth0].map(|link| c.set_up(link)).into_iter().collect()).unwrap();
        inside.change(|c| c.add_address(eth0, CLIENT_IP.into(), 24)).unwrap();
        space
    }

    /// Takes the loopback link up.
    pub fn up(&self) {
        let links = self.links();
        links.set_up(links.get("lo").unwrap().index).unwrap();
    }

    /// Sends everything that is not for a neighbour to a router.
    pub fn route_by(&self, link: &str, router: Ipv4Addr) {
        let links = self.links();
        let link = links.get(link).unwrap().index;
        let any = Route { gateway: Some(router.into()), ..Route::new(Ipv4Addr::UNSPECIFIED.into(), 0, link) };
        links.change(|changes| changes.set_route(&any)).unwrap();
    }

    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        in_namespace(&self.file, work).unwrap()
    }

    pub fn links(&self) -> Links {
        Links::open_in(&self.file).unwrap()
    }

    pub fn request(&self, sandbox: &str) -> NetworkRequest {
        NetworkRequest {
            sandbox_id: sandbox.into(),
            namespace: "default".into(),
            name: sandbox.into(),
            uid: sandbox.into(),
            netns: self.file.clone(),
            port_mappings: Vec::new(),
        }
    }

    /// Serves TCP and UDP on a port: answers each connection (or datagram) with `NAME PEER`.
    pub fn serve(&self, name: &str, port: u16) {
        let name = name.to_owned();
        self.run(move || serve_here(&name, port));
    }
}

/// Serves in the calling thread's namespace, until the process ends.
pub fn serve_here(name: &str, port: u16) {
    let any = (Ipv4Addr::UNSPECIFIED, port);
    let (tcp, udp) = (TcpListener::bind(any).unwrap(), UdpSocket::bind(any).unwrap());
    let (for_tcp, for_udp) = (name.to_owned(), name.to_owned());
    thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            let peer = stream.peer_addr().unwrap().ip();
            let name = for_tcp.clone();
            thread::spawn(move || {
                let _ = stream.write_all(format!("{name} {peer}\n").as_bytes());
                // Echoes for as long as the client talks.
                let mut buffer = [0; 64];
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    let _ = stream.write_all(&buffer[..length]);
                }
            });
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(format!("{for_udp} {}", peer.ip()).as_bytes(), peer);
        }
    });
}

/// Who answered, and whom it saw.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Answer {
    pub name: String,
    pub peer: IpAddr,
}

fn parse(text: &str) -> Answer {
    let (name, peer) = text.trim().split_once(' ').unwrap_or_else(|| panic!("odd answer {text:?}"));
    Answer { name: name.into(), peer: peer.parse().unwrap() }
}

pub fn ask_tcp(to: (Ipv4Addr, u16)) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from(to), CONNECT)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = [0; 64];
    let length = stream.read(&mut buffer)?;
    Ok(parse(&String::from_utf8_lossy(&buffer[..length])))
}

/// A connection that is kept; the answer has been read.
pub fn connect(to: (Ipv4Addr, u16)) -> (Answer, TcpStream) {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from(to), CONNECT).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 64];
    let length = stream.read(&mut buffer).unwrap();
    (parse(&String::from_utf8_lossy(&buffer[..length])), stream)
}

/// Sends so many bytes to a server that echoes, and waits for all of them.
pub fn echo(stream: &mut TcpStream, bytes: usize) {
    let mut writer = stream.try_clone().unwrap();
    let sender = thread::spawn(move || writer.write_all(&vec![7; bytes]).unwrap());
    stream.read_exact(&mut vec![0; bytes]).unwrap();
    sender.join().unwrap();
}

pub fn ask_udp(to: (Ipv4Addr, u16)) -> std::io::Result<Answer> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    ask_udp_from(&socket, to)
}

pub fn ask_udp_from(socket: &UdpSocket, to: (Ipv4Addr, u16)) -> std::io::Result<Answer> {
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(to)?;
    socket.send(b"?")?;
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer)?;
    Ok(parse(&String::from_utf8_lossy(&buffer[..length])))
}

/// Attaches a namespace to the node's network and serves on a port in it.
pub fn pod(network: &PodNetworkHandle, name: &str, port: u16, mappings: Vec<PortMapping>) -> (Space, Ipv4Addr) {
    let space = Space::new();
    let request = NetworkRequest { port_mappings: mappings, ..space.request(name) };
    let address = block_on(knarr_cri::PodNetwork::add(network, &request)).unwrap_or_else(|error| panic!("{error:?}"));
    let [IpAddr::V4(ip)] = address.ips[..] else { panic!("{address:?}") };
    space.serve(name, port);
    (space, ip)
}

/// Runs a future on a runtime whose threads are of the calling thread's network namespace.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// The file of the calling thread's network namespace, for those who have to come back.
pub fn here() -> PathBuf {
    let id = fs::read_link("/proc/thread-self").unwrap();
    Path::new("/proc").join(id).join("ns/net")
}
