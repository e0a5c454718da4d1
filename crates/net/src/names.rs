//! Names of kernel objects. All begin with `knarr`, so that a restart and a reset can find them; those that stand
//! for an object of the cluster end in a hash of its name, because a link's name holds fifteen bytes.

use std::path::Path;

use knarr_os::net::Mac;

/// The link that stands for the node in the pod network: it carries the gateway's and the DNS address.
pub const NODE_LINK: &str = "knarr0";
/// The link to nodes that are not on a link of the host's.
pub const TUNNEL_LINK: &str = "knarr-vx";
/// What the names of all links of ours begin with.
pub const LINK_PREFIX: &str = "knarr";
/// The nftables table.
pub const TABLE: &str = "knarr";
/// The link inside a pod.
pub const POD_LINK: &str = "eth0";

/// How many bytes of text a link can carry beside its name.
const ALIAS_BYTES: usize = 255;

/// Whose network this is, as written on [`NODE_LINK`]: the data directory, or what tells a very long one apart.
pub fn owner(data_dir: &Path) -> String {
    let path = data_dir.to_string_lossy();
    if path.len() <= ALIAS_BYTES { path.into_owned() } else { format!("{:016x}", stable_hash(path.as_bytes())) }
}

/// The node's end of a pod's link, such as `knarr-7f3k2m9q`.
pub fn pod_link(sandbox_id: &str) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let hash = stable_hash(sandbox_id.as_bytes());
    let digits = (0..8).map(|digit| char::from(ALPHABET[(hash >> (5 * digit)) as usize & 31]));
    "knarr-".chars().chain(digits).collect()
}

/// A locally administered hardware address that is always the same for the same name.
pub fn mac(name: &str) -> Mac {
    let [.., a, b, c, d, e] = stable_hash(name.as_bytes()).to_be_bytes();
    Mac([0x02, a, b, c, d, e])
}

/// FNV-1a with a final mix; stays the same between versions and machines, unlike the standard library's.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_stay() {
        let name = pod_link("3f1c0a7be0");
        assert_eq!(name.len(), 14, "{name} must fit IFNAMSIZ");
        assert_eq!(name, pod_link("3f1c0a7be0"));
        assert_ne!(name, pod_link("3f1c0a7be1"));
        assert_eq!(mac("a").0[0] & 3, 2, "unicast and locally administered");
    }
}
