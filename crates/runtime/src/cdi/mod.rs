//! Devices by the names that their vendors describe them under, in files on this host: which nodes, mounts and variables
//! a container gets with each. (<https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md>)

mod files;
mod format;
#[cfg(test)]
mod tests;

use std::{
    io,
    path::{Path, PathBuf},
};

use format::{DeviceNode, Edits, Mount};
use knarr_cri::v1::CdiDevice;
use knarr_os::mount::{DeviceKind, Propagation};

use crate::{
    shim::spec::{BindMount, Device},
    spec::devices,
};

/// Where such files are; what is in a later one counts.
pub const DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

#[derive(Debug, thiserror::Error)]
pub enum CdiError {
    #[error("unresolvable CDI devices {}", .0.join(", "))]
    Unknown(Vec<String>),
    #[error("CDI device {device} is described twice: in {first} and {second}")]
    Conflict { device: String, first: PathBuf, second: PathBuf },
    #[error("CDI device {device} asks for {what}, which this runtime does not do")]
    Unsupported { device: String, what: String },
    #[error("CDI device {device}: {path} cannot be used")]
    Node {
        device: String,
        path: String,
        #[source]
        source: io::Error,
    },
}

/// What a container gets with its devices.
#[derive(Debug, Default, PartialEq)]
pub struct Given {
    /// `NAME=value`
    pub env: Vec<String>,
    /// Each with what may be done with it: `r`, `w` and `m`.
    pub devices: Vec<(Device, String)>,
    pub mounts: Vec<BindMount>,
    pub groups: Vec<u32>,
}

/// Reads the files only where a container has such devices.
pub fn given(asked: &[CdiDevice], dirs: &[&Path]) -> Result<Given, CdiError> {
    let mut given = Given::default();
    if asked.is_empty() {
        return Ok(given);
    }
    let described = files::read(dirs)?;
    let unknown = asked.iter().map(|device| &device.name).filter(|name| !described.contains_key(*name));
    let unknown: Vec<String> = unknown.cloned().collect();
    if !unknown.is_empty() {
        return Err(CdiError::Unknown(unknown));
    }
    let mut files = Vec::new();
    for CdiDevice { name } in asked {
        let Some(device) = described.get(name) else { continue };
        // What a file says of all its devices counts once.
        if !files.contains(&&device.path) {
            files.push(&device.path);
            given.add(name, &device.common)?;
        }
        given.add(name, &device.own)?;
    }
    Ok(given)
}

impl Given {
    fn add(&mut self, device: &str, edits: &Edits) -> Result<(), CdiError> {
        let Edits { env, device_nodes, mounts, additional_gids, hooks, intel_rdt, net_devices } = edits;
        let unsupported = |what: &str| CdiError::Unsupported { device: device.to_owned(), what: what.to_owned() };
        // They are programs of the host, and none is run beside this one.
        if !hooks.is_empty() {
            return Err(unsupported("hooks"));
        }
        if intel_rdt.is_some() {
            return Err(unsupported("Intel RDT"));
        }
        if !net_devices.is_empty() {
            return Err(unsupported("network devices"));
        }
        self.env.extend(env.iter().cloned());
        for node in device_nodes {
            self.devices.extend(find(device, node)?);
        }
        for mount in mounts {
            self.mounts.push(bind(mount).map_err(|what| unsupported(&what))?);
        }
        let new = additional_gids.iter().filter(|gid| **gid != 0 && !self.groups.contains(gid));
        let new: Vec<u32> = new.copied().collect();
        self.groups.extend(new);
        Ok(())
    }
}

fn find(device: &str, node: &DeviceNode) -> Result<Vec<(Device, String)>, CdiError> {
    let DeviceNode { path, host_path, kind, major, minor, file_mode, permissions, uid, gid } = node;
    let permissions = permissions.clone().unwrap_or_else(|| "rwm".to_owned());
    let kind = match kind.as_deref() {
        None | Some("") => None,
        Some("c" | "u") => Some(DeviceKind::Character),
        Some("b") => Some(DeviceKind::Block),
        Some(other) => {
            let what = format!("a device node of the type {other:?}");
            return Err(CdiError::Unsupported { device: device.to_owned(), what });
        }
    };
    let mut found = match (kind, major, minor) {
        (Some(kind), Some(major), Some(minor)) => {
            let target = path.into();
            vec![Device { target, kind, major: *major, minor: *minor, mode: 0o666, uid: 0, gid: 0 }]
        }
        _ => {
            let host = host_path.as_ref().filter(|path| !path.is_empty()).unwrap_or(path);
            let failed = |source| CdiError::Node { device: device.to_owned(), path: host.clone(), source };
            devices::find(Path::new(host), Path::new(path)).map_err(failed)?
        }
    };
    for one in &mut found {
        one.mode = file_mode.map_or(one.mode, |mode| mode & 0o7777);
        one.uid = uid.unwrap_or(one.uid);
        one.gid = gid.unwrap_or(one.gid);
    }
    Ok(found.into_iter().map(|one| (one, permissions.clone())).collect())
}

/// An error is what cannot be done.
fn bind(mount: &Mount) -> Result<BindMount, String> {
    if !matches!(mount.kind.as_deref(), None | Some("" | "bind" | "none")) {
        return Err(format!("a mount of the type {:?}", mount.kind.as_deref().unwrap_or_default()));
    }
    let mut bind = BindMount::new(&mount.host_path, &mount.container_path);
    for option in &mount.options {
        match option.as_str() {
            "ro" => bind.readonly = true,
            "nosuid" => bind.nosuid = true,
            "noexec" => bind.noexec = true,
            "rslave" | "slave" => bind.propagation = Propagation::HostToContainer,
            "rshared" | "shared" => bind.propagation = Propagation::Bidirectional,
            // As it is in any case: no device works on a mount.
            "rw" | "bind" | "rbind" | "nodev" | "private" | "rprivate" | "suid" | "exec" => {}
            other => return Err(format!("the mount option {other:?}")),
        }
    }
    Ok(bind)
}
