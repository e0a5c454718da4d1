//! What a pod's volume asks of a driver, and how a driver is asked. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, SecretReference, Volume},
    storage::v1::CSIDriver,
};
use knarr_api::volume as rules;
use knarr_client::meta;
use knarr_csi::messages::{AccessMode, AccessType, Capabilities, Mode, MountVolume, Nothing, VolumeCapability};

use super::CsiError;

type Map = BTreeMap<String, String>;

/// One volume of one pod.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// In the pod.
    pub volume: String,
    /// As folders and events name it: the PersistentVolume, or the volume in the pod.
    pub name: String,
    pub driver: String,
    pub handle: String,
    pub read_only: bool,
    /// Pods get the device itself, not files on it.
    pub is_device: bool,
    pub fs_type: String,
    pub mount_options: Vec<String>,
    /// The first decides how the driver is to mount it.
    pub access_modes: Vec<String>,
    pub attributes: Map,
    pub stage_secret: Option<SecretReference>,
    pub publish_secret: Option<SecretReference>,
    /// Namespace and name of its claim; a volume without one lives and ends with its pod.
    pub claim: Option<(String, String)>,
}

/// What is done to bring a volume to a pod, in this order.
#[derive(Clone, Copy)]
pub enum Step {
    Attach,
    Stage,
    Publish,
}

impl Wish {
    /// `None` where the volume is of another kind.
    pub fn of_claim(
        name: &str,
        claim: &PersistentVolumeClaim,
        volume: &PersistentVolume,
        read_only: bool,
    ) -> Option<Self> {
        let spec = volume.spec.as_ref()?;
        let source = spec.csi.clone()?;
        Some(Self {
            volume: name.to_owned(),
            name: meta::name(&volume.metadata).to_owned(),
            driver: source.driver,
            handle: source.volume_handle,
            read_only: read_only || source.read_only == Some(true),
            is_device: rules::is_device(volume),
            fs_type: source.fs_type.unwrap_or_default(),
            mount_options: spec.mount_options.clone().unwrap_or_default(),
            access_modes: spec.access_modes.clone().unwrap_or_default(),
            attributes: source.volume_attributes.unwrap_or_default(),
            stage_secret: source.node_stage_secret_ref,
            publish_secret: source.node_publish_secret_ref,
            claim: Some((meta::namespace(&claim.metadata).to_owned(), meta::name(&claim.metadata).to_owned())),
        })
    }

    pub fn inline(pod: &Pod, volume: &Volume) -> Option<Self> {
        let source = volume.csi.clone()?;
        let namespace = pod.metadata.namespace.clone();
        Some(Self {
            volume: volume.name.clone(),
            name: volume.name.clone(),
            driver: source.driver,
            handle: format!("csi-{}", rules::digest(&format!("{}{}", meta::uid(&pod.metadata), volume.name))),
            read_only: source.read_only == Some(true),
            fs_type: source.fs_type.unwrap_or_default(),
            access_modes: vec!["ReadWriteOnce".to_owned()],
            attributes: source.volume_attributes.unwrap_or_default(),
            publish_secret: source
                .node_publish_secret_ref
                .map(|secret| SecretReference { name: Some(secret.name), namespace }),
            ..Self::default()
        })
    }

    /// Why it is not here, and what was being done, in the words of events.
    pub fn fails(&self, step: Step) -> impl Fn(String) -> CsiError + Copy {
        let operation = match (step, self.is_device) {
            (Step::Attach, false) => "MountVolume.WaitForAttach",
            (Step::Attach, true) => "MapVolume.WaitForAttach",
            (Step::Stage, false) => "MountVolume.MountDevice",
            (Step::Stage, true) => "MapVolume.SetUpDevice",
            (Step::Publish, false) => "MountVolume.SetUp",
            (Step::Publish, true) => "MapVolume.MapPodDevice",
        };
        move |cause| CsiError::new(operation, &self.name, cause)
    }

    pub fn is_persistent(&self) -> bool {
        self.claim.is_some()
    }

    /// The volumes that a driver is for are either of those that claims are bound to, or of pods alone, or both.
    pub fn check_mode(&self, driver: Option<&CSIDriver>) -> Result<(), String> {
        let wanted = if self.is_persistent() { "Persistent" } else { "Ephemeral" };
        let modes = driver.and_then(|driver| driver.spec.volume_lifecycle_modes.clone()).unwrap_or_default();
        let modes = if modes.is_empty() { vec!["Persistent".to_owned()] } else { modes };
        if modes.iter().any(|mode| mode == wanted) {
            return Ok(());
        }
        let name = &self.driver;
        Err(format!("volume mode {wanted:?} not supported by driver {name} (only supports {modes:?})"))
    }

    /// Whether a controller has to attach it to the node first. A driver that nobody describes is taken to want that.
    pub fn is_attached(&self, driver: Option<&CSIDriver>) -> bool {
        self.is_persistent() && driver.is_none_or(|driver| driver.spec.attach_required != Some(false))
    }

    pub fn capability(&self, can: Capabilities, group: Option<i64>) -> VolumeCapability {
        let mode = match (self.access_modes.first().map_or("ReadWriteOnce", String::as_str), can.counts_writers) {
            ("ReadOnlyMany", _) => Mode::MultiNodeReaderOnly,
            ("ReadWriteMany", _) => Mode::MultiNodeMultiWriter,
            ("ReadWriteOncePod", true) => Mode::SingleNodeSingleWriter,
            (_, true) => Mode::SingleNodeMultiWriter,
            _ => Mode::SingleNodeWriter,
        };
        let group = group.filter(|_| can.mounts_for_group);
        let mounted = || MountVolume {
            fs_type: self.fs_type.clone(),
            mount_flags: self.mount_options.clone(),
            volume_mount_group: group.map(|group| group.to_string()).unwrap_or_default(),
        };
        let access = if self.is_device { AccessType::Block(Nothing {}) } else { AccessType::Mount(mounted()) };
        VolumeCapability { access_mode: Some(AccessMode { mode: mode as i32 }), access_type: Some(access) }
    }

    /// Whether its files are given to the pod's group by the node.
    pub fn is_given(&self, driver: Option<&CSIDriver>, can: Capabilities) -> bool {
        let policy = driver.and_then(|driver| driver.spec.fs_group_policy.as_deref());
        let by_policy = match policy.unwrap_or("ReadWriteOnceWithFSType") {
            "None" => false,
            "File" => true,
            _ => {
                let once = |mode: &String| mode == "ReadWriteOnce" || mode == "ReadWriteOncePod";
                !self.fs_type.is_empty() && self.access_modes.iter().any(once)
            }
        };
        by_policy && !self.is_device && !self.read_only && !can.mounts_for_group
    }

    /// What the driver is told of the volume, and of the pod where it asks for that.
    pub fn context(&self, pod: &Pod, driver: Option<&CSIDriver>) -> Map {
        let mut context = self.attributes.clone();
        if driver.is_some_and(|driver| driver.spec.pod_info_on_mount == Some(true)) {
            let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
            let about = [
                ("pod.name", meta::name(&pod.metadata).to_owned()),
                ("pod.namespace", meta::namespace(&pod.metadata).to_owned()),
                ("pod.uid", meta::uid(&pod.metadata).to_owned()),
                ("serviceAccount.name", account.unwrap_or_default()),
                ("ephemeral", (!self.is_persistent()).to_string()),
            ];
            context.extend(about.map(|(key, value)| (format!("csi.storage.k8s.io/{key}"), value)));
        }
        context
    }
}
