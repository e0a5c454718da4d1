//! Names of images, as people and pods write them.

use super::{ImageError, Result};

/// The full form of a name: `nginx` is `docker.io/library/nginx:latest`, as everywhere.
pub fn normalise(name: &str) -> Result<String> {
    let bad = |reason: &str| ImageError::Name { name: name.to_owned(), reason: reason.to_owned() };
    let (rest, digest) = match name.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (name, None),
    };
    if digest.is_some_and(|d| !is_digest(d)) {
        return Err(bad("what follows @ is not a digest like sha256:..."));
    }
    // A colon after the last slash starts a tag, one before it a port.
    let slash = rest.rfind('/').map_or(0, |at| at + 1);
    let (path, tag) = match rest[slash..].rfind(':') {
        Some(at) => (&rest[..slash + at], Some(&rest[slash + at + 1..])),
        None => (rest, None),
    };
    let first = path.split('/').next().unwrap_or_default();
    let has_registry = path.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    let full = match (has_registry, path.contains('/')) {
        (true, _) => path.replacen("index.docker.io/", "docker.io/", 1),
        (false, true) => format!("docker.io/{path}"),
        (false, false) => format!("docker.io/library/{path}"),
    };
    let (registry, repository) = full.split_once('/').unwrap_or_default();
    let host_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    if !registry.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[') || !registry.chars().all(host_char) {
        return Err(bad("a registry is a host's name or address, with a port or without"));
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-' | '/');
    if repository.is_empty() || !repository.chars().all(plain) || repository.split('/').any(str::is_empty) {
        return Err(bad("a repository is made of lowercase letters, digits, and ._-/ between them"));
    }
    let tag_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if tag.is_some_and(|t| t.is_empty() || t.len() > 128 || !t.chars().all(tag_char)) {
        return Err(bad("a tag is made of letters, digits, and ._-"));
    }
    Ok(match (digest, tag) {
        // With a digest the tag says nothing more.
        (Some(digest), _) => format!("{full}@{digest}"),
        (None, tag) => format!("{full}:{}", tag.unwrap_or("latest")),
    })
}

/// What a full name asks its repository for: a tag or a digest.
pub fn tag_or_digest(full: &str) -> &str {
    full.get(repository(full).len() + 1..).unwrap_or("latest")
}

/// The repository of a full name, without tag and digest.
pub fn repository(full: &str) -> &str {
    let path = full.split('@').next().unwrap_or(full);
    match path.rfind(':') {
        Some(at) if !path[at..].contains('/') => &path[..at],
        _ => path,
    }
}

pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_their_full_form() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (name, expected) in [
            ("nginx", Some("docker.io/library/nginx:latest")),
            ("nginx:1.27", Some("docker.io/library/nginx:1.27")),
            ("bitnami/redis", Some("docker.io/bitnami/redis:latest")),
            ("knarr.local/demo:v1", Some("knarr.local/demo:v1")),
            ("localhost:5000/a/b", Some("localhost:5000/a/b:latest")),
            ("localhost/a:t", Some("localhost/a:t")),
            ("index.docker.io/library/x:1", Some("docker.io/library/x:1")),
            ("[::1]:5000/a:t", Some("[::1]:5000/a:t")),
            ("../a", None),
            ("reg.io%2f/a", None),
            ("Upper", None),
            ("a//b", None),
            ("", None),
            ("a:", None),
            ("a@sha256:short", None),
            ("a:b c", None),
        ] {
            assert_eq!(normalise(name).ok().as_deref(), expected, "{name}");
        }
        assert_eq!(normalise(&format!("nginx:1@{digest}")).unwrap(), format!("docker.io/library/nginx@{digest}"));
    }

    #[test]
    fn repositories_lose_tag_and_digest() {
        for (full, expected) in [("r:5000/a/b:t", "r:5000/a/b"), ("r:5000/a", "r:5000/a"), ("r/a@sha256:x", "r/a")] {
            assert_eq!(repository(full), expected);
        }
    }
}
