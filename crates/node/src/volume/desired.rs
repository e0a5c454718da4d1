//! What each volume of a pod should hold: a pure function of the pod and of what it refers to.

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Pod, Volume, VolumeProjection};

use super::{
    Tokens, VolumeError,
    claims::{Place, Places},
    trust, volume_path,
};
use crate::pod::{
    downward::{self, Facts},
    qos,
    references::Snapshot,
};

/// One volume.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Desired {
    pub name: String,
    pub path: PathBuf,
    pub content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// A directory for the pod's own use, on disk or, with a size, in memory.
    Empty { memory: Option<MemorySize> },
    /// Something of the host's, which must be of this type (empty: unchecked).
    Host { kind: String },
    /// What a claim's volume is made of, or what a driver mounted, somewhere else on this node; the volume's folder has
    /// a link to it.
    Claimed(Place),
    /// An image, which the runtime keeps and mounts.
    Image,
    /// Files that are replaced together.
    Files { files: BTreeMap<String, FileContent>, memory: bool },
}

/// In bytes; 0 leaves the limit to the kernel.
pub type MemorySize = u64;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileContent {
    pub bytes: Vec<u8>,
    pub mode: u32,
    /// Who may read it besides root, where the file is not for everyone.
    pub owner: Option<u32>,
}

impl Desired {
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

/// The folder name of the volume's kind; `None` for kinds this node cannot provide.
pub fn plugin(volume: &Volume) -> Option<&'static str> {
    match () {
        () if volume.empty_dir.is_some() => Some("empty-dir"),
        () if volume.config_map.is_some() => Some("configmap"),
        () if volume.secret.is_some() => Some("secret"),
        () if volume.projected.is_some() => Some("projected"),
        () if volume.downward_api.is_some() => Some("downward-api"),
        () if volume.host_path.is_some() => Some("host-path"),
        () if volume.image.is_some() => Some("image"),
        () if super::is_elsewhere(volume) => Some("claim"),
        () => None,
    }
}

/// Each volume as it should be, or why it cannot be: what one lacks is nothing to the others.
pub fn all(
    facts: Facts<'_>,
    snapshot: &Snapshot,
    tokens: &Tokens,
    places: &Places,
    dir: &Path,
) -> Vec<Result<Desired, VolumeError>> {
    let volumes = facts.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let build = Builder { facts, snapshot, tokens, places, dir };
    volumes.map(|volume| build.one(volume)).collect()
}

struct Builder<'a> {
    facts: Facts<'a>,
    snapshot: &'a Snapshot,
    tokens: &'a Tokens,
    places: &'a Places,
    dir: &'a Path,
}

/// The cause of a failure, still without the volume's name.
type Cause = String;
type Files = BTreeMap<String, FileContent>;

impl Builder<'_> {
    fn one(&self, volume: &Volume) -> Result<Desired, VolumeError> {
        let failed = |cause: Cause| VolumeError::SetUp { volume: volume.name.clone(), cause };
        let Some(plugin) = plugin(volume) else {
            return Err(failed(format!("{} volumes are not supported by this node", unsupported_kind(volume))));
        };
        let content = self.content(volume).map_err(failed)?;
        let path = match &volume.host_path {
            Some(source) => PathBuf::from(&source.path),
            None => volume_path(self.dir, plugin, &volume.name),
        };
        Ok(Desired { name: volume.name.clone(), path, content })
    }

    fn content(&self, volume: &Volume) -> Result<Content, Cause> {
        if let Some(source) = &volume.empty_dir {
            let memory = match source.medium.as_deref().unwrap_or_default() {
                "" => false,
                "Memory" => true,
                medium if medium.starts_with("HugePages") => {
                    let why = "is not supported: this node has no huge pages to give";
                    return Err(format!("emptyDir medium {medium:?} {why}"));
                }
                medium => return Err(format!("unknown storage medium {medium:?}")),
            };
            let limit = source.size_limit.clone().map(|limit| BTreeMap::from([("size".to_owned(), limit)]));
            let size = u64::try_from(qos::whole(limit.as_ref(), "size")).unwrap_or(0);
            return Ok(Content::Empty { memory: memory.then_some(size) });
        }
        if let Some(source) = &volume.host_path {
            return Ok(Content::Host { kind: source.type_.clone().unwrap_or_default() });
        }
        if volume.image.is_some() {
            return Ok(Content::Image);
        }
        if super::is_elsewhere(volume) {
            let place = self.places.get(&volume.name).ok_or("its claim was not looked up yet")?;
            return Ok(Content::Claimed(place.clone()));
        }
        let mut files = Files::new();
        if let Some(source) = &volume.config_map {
            let (mode, optional) = (mode(source.default_mode), source.optional == Some(true));
            self.config_map(&source.name, source.items.as_deref(), mode, optional, &mut files)?;
        } else if let Some(source) = &volume.secret {
            let (mode, optional) = (mode(source.default_mode), source.optional == Some(true));
            let name = source.secret_name.as_deref().unwrap_or_default();
            self.secret(name, source.items.as_deref(), mode, optional, &mut files)?;
            return Ok(Content::Files { files, memory: true });
        } else if let Some(source) = &volume.downward_api {
            self.downward(source.items.as_deref().unwrap_or(&[]), mode(source.default_mode), &mut files)?;
        } else if let Some(source) = &volume.projected {
            for projection in source.sources.iter().flatten() {
                self.projection(projection, mode(source.default_mode), &mut files)?;
            }
            return Ok(Content::Files { files, memory: true });
        }
        Ok(Content::Files { files, memory: false })
    }

    fn projection(&self, source: &VolumeProjection, mode: u32, files: &mut Files) -> Result<(), Cause> {
        if let Some(map) = &source.config_map {
            self.config_map(&map.name, map.items.as_deref(), mode, map.optional == Some(true), files)
        } else if let Some(secret) = &source.secret {
            self.secret(&secret.name, secret.items.as_deref(), mode, secret.optional == Some(true), files)
        } else if let Some(downward) = &source.downward_api {
            self.downward(downward.items.as_deref().unwrap_or(&[]), mode, files)
        } else if let Some(token) = &source.service_account_token {
            let text =
                self.tokens.get(token).ok_or_else(|| "the service account token was not issued yet".to_owned())?;
            // Without a group that all of the pod's users share, the token is for the user that the pod runs as.
            let (owner, mode) = own_access(self.facts.pod, mode);
            insert(files, &token.path, FileContent { bytes: text.as_bytes().to_vec(), mode, owner })
        } else if let Some(bundle) = &source.cluster_trust_bundle {
            let bytes = trust::anchors(bundle, self.snapshot.trust_bundles.as_deref())?;
            let (owner, mode) = own_access(self.facts.pod, mode);
            insert(files, &bundle.path, FileContent { bytes, mode, owner })
        } else {
            Err("this kind of projection is not supported by this node".to_owned())
        }
    }

    fn config_map(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        mode: u32,
        optional: bool,
        files: &mut Files,
    ) -> Result<(), Cause> {
        let Some(map) = self.snapshot.config_map(name).map_err(|error| error.to_string())? else {
            return if optional { Ok(()) } else { Err(format!("configmap {name:?} not found")) };
        };
        let text = map.data.iter().flatten().map(|(key, value)| (key.as_str(), value.as_bytes()));
        let binary = map.binary_data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice()));
        keys(text.chain(binary).collect(), items, mode, optional, "configmap", files)
    }

    fn secret(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        mode: u32,
        optional: bool,
        files: &mut Files,
    ) -> Result<(), Cause> {
        let Some(secret) = self.snapshot.secret(name).map_err(|error| error.to_string())? else {
            return if optional { Ok(()) } else { Err(format!("secret {name:?} not found")) };
        };
        let data = secret.data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice()));
        keys(data.collect(), items, mode, optional, "secret", files)
    }

    fn downward(&self, items: &[DownwardAPIVolumeFile], mode: u32, files: &mut Files) -> Result<(), Cause> {
        for item in items {
            let text = if let Some(field) = &item.field_ref {
                downward::field(self.facts, field)
            } else if let Some(resource) = &item.resource_field_ref {
                downward::resource(self.facts, "", resource)
            } else {
                continue;
            };
            let bytes = text.map_err(|error| error.to_string())?.into_bytes();
            let mode = item.mode.map_or(mode, |own| self::mode(Some(own)));
            insert(files, &item.path, FileContent { bytes, mode, owner: None })?;
        }
        Ok(())
    }
}

/// Each key as a file of its own name, or the listed keys under the listed paths.
fn keys(
    data: BTreeMap<&str, &[u8]>,
    items: Option<&[KeyToPath]>,
    mode: u32,
    optional: bool,
    kind: &str,
    files: &mut Files,
) -> Result<(), Cause> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        for (key, bytes) in data {
            insert(files, key, FileContent { bytes: bytes.to_vec(), mode, owner: None })?;
        }
        return Ok(());
    };
    for item in items {
        match data.get(item.key.as_str()) {
            Some(bytes) => {
                let mode = item.mode.map_or(mode, |own| self::mode(Some(own)));
                insert(files, &item.path, FileContent { bytes: bytes.to_vec(), mode, owner: None })?;
            }
            None if optional => {}
            None => return Err(format!("references non-existent {kind} key: {}", item.key)),
        }
    }
    Ok(())
}

/// A path inside the volume may go down but never up or out: the content comes from other people's objects.
fn insert(files: &mut Files, path: &str, file: FileContent) -> Result<(), Cause> {
    use std::path::Component;
    let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if path.is_empty() || !inside || path.starts_with("..") {
        return Err(format!("invalid path {path:?}: must be relative and may not contain '..'"));
    }
    files.insert(path.to_owned(), file);
    Ok(())
}

fn mode(mode: Option<i32>) -> u32 {
    mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(0o644) & 0o7777
}

/// What is made for a pod is for its own user only, where all containers run as the same one and no group is shared.
fn own_access(pod: &Pod, mode: u32) -> (Option<u32>, u32) {
    let Some(spec) = &pod.spec else { return (None, mode) };
    let context = spec.security_context.as_ref();
    if context.and_then(|context| context.fs_group).is_some() {
        return (None, 0o600);
    }
    let default = context.and_then(|context| context.run_as_user);
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let mut users = containers
        .map(|container| container.security_context.as_ref().and_then(|context| context.run_as_user).or(default));
    let first = users.next().flatten();
    if first.is_some() && users.all(|user| user == first) {
        return (first.and_then(|user| u32::try_from(user).ok()), 0o600);
    }
    (None, mode)
}

fn unsupported_kind(volume: &Volume) -> String {
    // The only field besides `name` says what it is.
    let value = k8s_openapi::serde_json::to_value(volume).unwrap_or_default();
    let kind = value.as_object().and_then(|map| map.keys().find(|key| *key != "name").cloned());
    kind.unwrap_or_else(|| "unknown".to_owned())
}
