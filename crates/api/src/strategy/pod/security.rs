use serde_json::Value;

use crate::{
    field::{FieldError, FieldPath},
    strategy::{check, rules::Errors},
    value::{is_empty, is_set, items, text, truth},
};

const LARGEST_ID: i64 = 0xffff_ffff;

/// A container's `securityContext`, in a pod that has users of its own or the host's.
pub(super) fn container(context: &Value, host_users: bool, path: &FieldPath<'_>, errors: &mut Errors) {
    if context.is_null() {
        return;
    }
    ids(context, &["runAsUser", "runAsGroup"], path, errors);
    profiles(context, path, errors);
    check::optional_one_of(&context["procMount"], &["Default", "Unmasked"], &path.child("procMount"), errors);
    if host_users && context["procMount"] == "Unmasked" {
        let why = "`hostUsers` must be false to use `Unmasked`";
        errors.push(FieldError::invalid(&path.child("procMount"), "Unmasked", why));
    }
    if context["allowPrivilegeEscalation"] == false {
        if truth(&context["privileged"]) {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(FieldError::invalid(path, context.clone(), why));
        }
        if items(&context["capabilities"]["add"]).iter().any(|capability| capability == "CAP_SYS_ADMIN") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(FieldError::invalid(path, context.clone(), why));
        }
    }
}

/// The pod's `securityContext`, and the host namespaces that it goes together with.
pub(super) fn pod(spec: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    if truth(&spec["shareProcessNamespace"]) && truth(&spec["hostPID"]) {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(&path.child("shareProcessNamespace"), true, why));
    }
    let context = &spec["securityContext"];
    if context.is_null() {
        return;
    }
    ids(context, &["runAsUser", "runAsGroup", "fsGroup"], path, errors);
    let list = path.child("supplementalGroups");
    for (i, group) in items(&context["supplementalGroups"]).iter().enumerate() {
        check::in_range(group, 0, LARGEST_ID, &list.index(i), errors);
    }
    profiles(context, path, errors);
    let change = "fsGroupChangePolicy";
    check::optional_one_of(&context[change], &["OnRootMismatch", "Always"], &path.child(change), errors);
    let policy = "supplementalGroupsPolicy";
    check::optional_one_of(&context[policy], &["Merge", "Strict"], &path.child(policy), errors);
    let labels = "seLinuxChangePolicy";
    check::optional_one_of(&context[labels], &["MountOption", "Recursive"], &path.child(labels), errors);
    sysctls(&context["sysctls"], &path.child("sysctls"), errors);
}

/// What a pod cannot have of the host when its users are not the host's.
pub(super) fn host_users(spec: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    if spec["hostUsers"] != false {
        return;
    }
    let why = "when `hostUsers` is false";
    for field in ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|field| truth(&spec[*field])) {
        errors.push(FieldError::forbidden(&path.child(field), why));
    }
    for field in ["initContainers", "containers"] {
        let list = path.child(field);
        for (i, _) in items(&spec[field]).iter().enumerate().filter(|(_, one)| !is_empty(&one["volumeDevices"])) {
            errors.push(FieldError::forbidden(&list.index(i).child("volumeDevices"), why));
        }
    }
}

fn ids(context: &Value, keys: &[&str], path: &FieldPath<'_>, errors: &mut Errors) {
    for key in keys {
        check::in_range(&context[*key], 0, LARGEST_ID, &path.child(key), errors);
    }
}

fn profiles(context: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    for (key, what) in [("seccompProfile", "seccomp type"), ("appArmorProfile", "AppArmor type")] {
        let profile = &context[key];
        if profile.is_null() {
            continue;
        }
        let path = path.child(key);
        check::one_of(&profile["type"], &["Localhost", "RuntimeDefault", "Unconfined"], &path.child("type"), errors);
        let local = &profile["localhostProfile"];
        let local_path = path.child("localhostProfile");
        match (profile["type"] == "Localhost", is_set(local)) {
            (true, true) if key == "seccompProfile" => check::descending_path(text(local), &local_path, errors),
            (true, false) => {
                errors.push(FieldError::required(&local_path, format!("must be set when {what} is Localhost")));
            }
            (false, true) => {
                let why = format!("can only be set when {what} is Localhost");
                errors.push(FieldError::invalid(&local_path, local.clone(), why));
            }
            _ => {}
        }
    }
}

fn sysctls(list: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let mut taken: Vec<&str> = Vec::new();
    for (i, sysctl) in items(list).iter().enumerate() {
        let path = path.index(i);
        let path = path.child("name");
        let name = text(&sysctl["name"]);
        if is_empty(&sysctl["name"]) {
            errors.push(FieldError::required(&path, ""));
        } else if name.len() > 253 || !name.split(['.', '/']).all(is_sysctl_part) {
            let why = "must have at most 253 characters and match regex \
                       ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.push(FieldError::invalid(&path, name, why));
        } else if taken.contains(&name) {
            errors.push(FieldError::duplicate(&path, name));
        }
        taken.push(name);
    }
}

fn is_sysctl_part(part: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    bytes.first().is_some_and(|byte| plain(*byte))
        && bytes.last().is_some_and(|byte| plain(*byte))
        && bytes.iter().all(|byte| plain(*byte) || b"-_".contains(byte))
}
