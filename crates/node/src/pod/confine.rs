//! What this host confines containers with: found out once, when the agent starts.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use k8s_openapi::api::core::v1::{PodSpec, SeccompProfile, SecurityContext};
use knarr_cri::v1::{SecurityProfile, security_profile::ProfileType};

use super::security::SecurityError;

/// What every container may not see, or not write to, unless it asks for the unmasked `/proc`.
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Each processor tells here how hot it got, and so what its other users do.
const PROCESSORS: &str = "/sys/devices/system/cpu";

#[derive(Clone, Debug)]
pub struct Host {
    /// The folder that profiles of the type `Localhost` lie below.
    seccomp_dir: PathBuf,
    masked: Vec<String>,
    /// The kernel runs with AppArmor.
    apparmor: bool,
}

impl Host {
    pub fn look(data_dir: &Path) -> Self {
        let mut masked: Vec<String> = MASKED.map(str::to_owned).into();
        masked.extend(throttles(Path::new(PROCESSORS)));
        let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
        let apparmor = enabled.is_ok_and(|text| text.trim() == "Y");
        Self { seccomp_dir: data_dir.join("seccomp"), masked, apparmor }
    }

    /// Paths to hide and paths to write-protect.
    pub fn hidden(&self, own: &SecurityContext) -> (Vec<String>, Vec<String>) {
        match own.privileged == Some(true) || own.proc_mount.as_deref() == Some("Unmasked") {
            true => (Vec::new(), Vec::new()),
            false => (self.masked.clone(), READONLY.map(str::to_owned).into()),
        }
    }

    pub fn seccomp(&self, profile: Option<&SeccompProfile>) -> Result<SecurityProfile, SecurityError> {
        let of = |kind: ProfileType| SecurityProfile { profile_type: kind as i32, ..SecurityProfile::default() };
        let Some(profile) = profile else { return Ok(of(ProfileType::Unconfined)) };
        Ok(match profile.type_.as_str() {
            "RuntimeDefault" => of(ProfileType::RuntimeDefault),
            "Localhost" => {
                let name = profile.localhost_profile.as_deref().filter(|name| !name.is_empty());
                let name = Path::new(name.ok_or(SecurityError::NoSeccompProfile)?);
                // The API server has checked this; a manifest in a folder has passed nobody.
                if !name.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
                    return Err(SecurityError::SeccompProfile(name.display().to_string()));
                }
                let path = self.seccomp_dir.join(name).to_string_lossy().into_owned();
                SecurityProfile { localhost_ref: path, ..of(ProfileType::Localhost) }
            }
            _ => of(ProfileType::Unconfined),
        })
    }

    /// Why a pod that insists on AppArmor cannot run here.
    pub fn refuses(&self, spec: &PodSpec) -> Option<&'static str> {
        let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
        let own = containers.filter_map(|container| container.security_context.as_ref()?.app_armor_profile.as_ref());
        let whole = spec.security_context.iter().filter_map(|context| context.app_armor_profile.as_ref());
        let required = own.chain(whole).any(|profile| profile.type_ != "Unconfined");
        (required && !self.apparmor).then_some("Cannot enforce AppArmor: AppArmor is not enabled on the host")
    }
}

fn throttles(processors: &Path) -> Vec<String> {
    let numbered = |name: &str| {
        name.strip_prefix("cpu").is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    let entries = fs::read_dir(processors).into_iter().flatten().flatten();
    let own = entries.filter(|entry| entry.file_name().to_str().is_some_and(numbered));
    let paths = own.map(|entry| entry.path().join("thermal_throttle")).filter(|path| path.exists());
    paths.map(|path| path.to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{Value, from_value, json};

    use super::*;

    fn host(apparmor: bool) -> Host {
        Host { seccomp_dir: "/data/seccomp".into(), masked: vec!["/proc/kcore".to_owned()], apparmor }
    }

    #[test]
    fn only_processors_that_tell_of_their_heat_are_masked() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["cpu0/thermal_throttle", "cpu1", "cpufreq/thermal_throttle", "cpu/thermal_throttle"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        assert_eq!(throttles(dir.path()), [dir.path().join("cpu0/thermal_throttle").to_string_lossy()]);
        assert!(Host::look(dir.path()).masked.contains(&"/sys/devices/virtual/powercap".to_owned()));
    }

    #[test]
    fn the_unmasked_proc_is_for_those_who_ask() {
        for (context, masked) in [
            (json!({}), true),
            (json!({"procMount": "Default"}), true),
            (json!({"procMount": "Unmasked"}), false),
            (json!({"privileged": true}), false),
        ] {
            let (hidden, protected) = host(false).hidden(&from_value(context.clone()).unwrap());
            assert_eq!((hidden.is_empty(), protected.is_empty()), (!masked, !masked), "{context}");
        }
    }

    #[test]
    fn profiles_lie_below_their_folder() {
        let said = |profile: Value| {
            let profile: SeccompProfile = from_value(profile).unwrap();
            match host(false).seccomp(Some(&profile)) {
                Ok(profile) => format!("{:?} {}", profile.profile_type(), profile.localhost_ref),
                Err(error) => error.to_string(),
            }
        };
        for (profile, expected) in [
            (json!({"type": "RuntimeDefault"}), "RuntimeDefault "),
            (json!({"type": "Unconfined"}), "Unconfined "),
            (json!({"type": "Localhost", "localhostProfile": "a/b.json"}), "Localhost /data/seccomp/a/b.json"),
            (json!({"type": "Localhost"}), "localhostProfile must be set if seccompProfile type is Localhost."),
            (
                json!({"type": "Localhost", "localhostProfile": "../b"}),
                "localhostProfile \"../b\" must be a path below the node's seccomp folder",
            ),
            (
                json!({"type": "Localhost", "localhostProfile": "/b"}),
                "localhostProfile \"/b\" must be a path below the node's seccomp folder",
            ),
        ] {
            assert_eq!(said(profile.clone()), expected, "{profile}");
        }
        assert_eq!(host(false).seccomp(None).unwrap().profile_type(), ProfileType::Unconfined);
    }

    #[test]
    fn apparmor_is_not_passed_over_where_the_kernel_has_none() {
        let profile = |kind: &str| json!({"appArmorProfile": {"type": kind}});
        for (pod, container, required) in [
            (json!({}), json!({}), false),
            (profile("RuntimeDefault"), json!({}), true),
            (json!({}), profile("RuntimeDefault"), true),
            (json!({}), profile("Localhost"), true),
            (profile("Unconfined"), profile("Unconfined"), false),
        ] {
            let spec = json!({"securityContext": pod, "containers": [{"name": "a", "securityContext": container}]});
            let spec: PodSpec = from_value(spec).unwrap();
            assert_eq!(host(false).refuses(&spec).is_some(), required, "{spec:?}");
            assert_eq!(host(true).refuses(&spec), None);
        }
    }
}
