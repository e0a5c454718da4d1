//! Who a process runs as: an image's `USER`, Kubernetes' overrides, and the container's own user database.

use std::{fs, path::Path};

use super::{
    error::SetupError,
    spec::{Identity, UserSpec},
};

/// One line of `/etc/passwd`.
struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// Looks a user up. Also gives the home directory, for `HOME`.
pub fn resolve(root: &Path, spec: &UserSpec) -> Result<(Identity, Option<String>), SetupError> {
    let passwd = fs::read_to_string(root.join("etc/passwd")).unwrap_or_default();
    let group = fs::read_to_string(root.join("etc/group")).unwrap_or_default();
    resolve_in(&passwd, &group, spec)
}

fn resolve_in(passwd: &str, groups: &str, spec: &UserSpec) -> Result<(Identity, Option<String>), SetupError> {
    let (user_part, group_part) = match spec.user.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (spec.user.as_str(), None),
    };
    let user_part = if user_part.is_empty() { "0" } else { user_part };
    let numeric = user_part.parse::<u32>().ok();
    // A name that is a number is taken as a name first, as Docker does.
    let entry = users(passwd)
        .find(|u| u.name == user_part)
        .or_else(|| numeric.and_then(|uid| users(passwd).find(|u| u.uid == uid)));
    let uid = match (&entry, numeric) {
        (Some(entry), _) => entry.uid,
        (None, Some(uid)) => uid,
        (None, None) => return Err(SetupError::NoUser { name: user_part.to_owned() }),
    };
    let gid = match (spec.group, group_part.filter(|g| !g.is_empty())) {
        (Some(gid), _) => gid,
        (None, Some(name)) => group_id(groups, name)?,
        (None, None) => entry.as_ref().map_or(0, |e| e.gid),
    };
    let mut all = vec![gid];
    // An explicit group in the image's USER means that group alone.
    if let (true, Some(entry), None) = (spec.merge_groups, &entry, group_part) {
        all.extend(memberships(groups, entry.name));
    }
    all.extend(&spec.supplemental);
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|g| seen.insert(*g));
    let home = entry.map(|e| e.home.to_owned()).filter(|h| !h.is_empty());
    Ok((Identity { uid, gid, groups: all }, home))
}

fn users(passwd: &str) -> impl Iterator<Item = User<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|n| !n.is_empty() && !n.starts_with('#'))?;
        let (_password, uid, gid) = (fields.next()?, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(User { name, uid, gid, home: fields.nth(1).unwrap_or("") })
    })
}

/// (name, gid, members) of each line of `/etc/group`.
fn groups_of(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|n| !n.is_empty())?;
        let (_password, gid) = (fields.next()?, fields.next()?.parse().ok()?);
        Some((name, gid, fields.next().unwrap_or("")))
    })
}

fn group_id(groups: &str, name: &str) -> Result<u32, SetupError> {
    let named = groups_of(groups).find(|(n, ..)| *n == name).map(|(_, gid, _)| gid);
    named.or_else(|| name.parse().ok()).ok_or_else(|| SetupError::NoGroup { name: name.to_owned() })
}

fn memberships<'a>(groups: &'a str, user: &'a str) -> impl Iterator<Item = u32> + 'a {
    groups_of(groups).filter(move |(_, _, members)| members.split(',').any(|m| m == user)).map(|(_, gid, _)| gid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102:web:/var/www:/bin/false\n1001:x:7:8::/seven:\n";
    const GROUP: &str = "root:x:0:\nwww:x:102:\nextra:x:200:web,other\nmore:x:201:web\n";

    fn check(user: &str, group: Option<u32>, extra: &[u32], merge: bool, expected: Option<(u32, u32, &[u32])>) {
        let spec = UserSpec { user: user.into(), group, supplemental: extra.to_vec(), merge_groups: merge };
        let got = resolve_in(PASSWD, GROUP, &spec).ok().map(|(id, _)| (id.uid, id.gid, id.groups));
        assert_eq!(got, expected.map(|(u, g, gs)| (u, g, gs.to_vec())), "{spec:?}");
    }

    #[test]
    fn users_are_found_as_images_and_pods_name_them() {
        check("", None, &[], true, Some((0, 0, &[0])));
        check("web", None, &[], true, Some((101, 102, &[102, 200, 201])));
        check("web", None, &[300], false, Some((101, 102, &[102, 300])));
        check("101", None, &[], true, Some((101, 102, &[102, 200, 201])));
        check("web:root", None, &[], true, Some((101, 0, &[0])));
        check("web", Some(9), &[9, 10], true, Some((101, 9, &[9, 200, 201, 10])));
        check("5000", None, &[], true, Some((5000, 0, &[0])));
        check("5000:6000", None, &[], true, Some((5000, 6000, &[6000])));
        check("1001", None, &[], true, Some((7, 8, &[8])));
        check("nobody", None, &[], true, None);
        check("web:nogroup", None, &[], true, None);
    }

    #[test]
    fn home_comes_from_the_user_database() {
        let spec = UserSpec { user: "web".into(), ..UserSpec::default() };
        assert_eq!(resolve_in(PASSWD, GROUP, &spec).unwrap().1.as_deref(), Some("/var/www"));
    }
}
