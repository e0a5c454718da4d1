//! The kernel's security modules, as far as a container asks for them. What cannot be given is an error: a container
//! that was to be confined must not run without.

use std::{fs, path::Path};

use knarr_cri::v1::{LinuxContainerSecurityContext, security_profile::ProfileType};

use super::SpecError;

/// Which modules this host's kernel runs with.
#[derive(Clone, Copy, Debug)]
pub struct SecurityModules {
    apparmor: bool,
    selinux: bool,
}

impl SecurityModules {
    pub fn look() -> Self {
        let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
        Self {
            apparmor: enabled.is_ok_and(|text| text.trim() == "Y"),
            selinux: Path::new("/sys/fs/selinux/enforce").exists(),
        }
    }

    /// The profile to take on. One asked for by default would have to be loaded into the kernel first; on a host without
    /// AppArmor there is none to miss.
    pub fn apparmor(self, security: &LinuxContainerSecurityContext) -> Result<Option<String>, SpecError> {
        let Some(profile) = security.apparmor.as_ref().filter(|_| !security.privileged) else { return Ok(None) };
        match profile.profile_type() {
            ProfileType::Unconfined => Ok(None),
            ProfileType::RuntimeDefault if self.apparmor => Err(SpecError::DefaultAppArmor),
            ProfileType::RuntimeDefault => Ok(None),
            ProfileType::Localhost => {
                let name = profile.localhost_ref.strip_prefix("localhost/").unwrap_or(&profile.localhost_ref);
                let profile = name.to_owned();
                if self.apparmor { Ok(Some(profile)) } else { Err(SpecError::AppArmor { profile }) }
            }
        }
    }

    /// Labels mean nothing to a host without SELinux.
    pub fn check_labels(self, security: &LinuxContainerSecurityContext) -> Result<(), SpecError> {
        let labelled = security.selinux_options.as_ref().is_some_and(|options| {
            [&options.user, &options.role, &options.r#type, &options.level].iter().any(|part| !part.is_empty())
        });
        if self.selinux && labelled { Err(SpecError::SeLinux) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use knarr_cri::v1::{SeLinuxOption, SecurityProfile};

    use super::*;

    #[test]
    fn a_profile_is_taken_on_or_refused() {
        for (kind, privileged, with, without) in [
            (ProfileType::Unconfined, false, Ok(None), Ok(None)),
            (ProfileType::RuntimeDefault, false, Err("default AppArmor profile"), Ok(None)),
            (ProfileType::RuntimeDefault, true, Ok(None), Ok(None)),
            (ProfileType::Localhost, false, Ok(Some("own")), Err("without AppArmor")),
        ] {
            let profile = SecurityProfile { profile_type: kind.into(), localhost_ref: "localhost/own".to_owned() };
            let security = LinuxContainerSecurityContext { apparmor: Some(profile), privileged, ..Default::default() };
            for (apparmor, expected) in [(true, with), (false, without)] {
                let said = SecurityModules { apparmor, selinux: false }.apparmor(&security);
                match (said, expected) {
                    (Ok(profile), Ok(expected)) => assert_eq!(profile.as_deref(), expected, "{kind:?} {apparmor}"),
                    (Err(error), Err(why)) => assert!(error.to_string().contains(why), "{error}"),
                    (said, _) => panic!("{kind:?} {apparmor}: {said:?}"),
                }
            }
        }
    }

    #[test]
    fn labels_are_refused_where_they_would_count() {
        let options = |level: &str| SeLinuxOption { level: level.to_owned(), ..Default::default() };
        for (options, selinux, fits) in [
            (None, true, true),
            (Some(options("")), true, true),
            (Some(options("s0:c1")), false, true),
            (Some(options("s0:c1")), true, false),
        ] {
            let security = LinuxContainerSecurityContext { selinux_options: options, ..Default::default() };
            let modules = SecurityModules { apparmor: false, selinux };
            assert_eq!(modules.check_labels(&security).is_ok(), fits, "{security:?}");
        }
    }
}
