//! Who may have which image: credentials of registries, and with which of them an image came here.

pub mod keyring;
pub mod records;

/// SHA-256 in digits.
fn hash(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The repository of an image in its full form, without tag and digest: `nginx:1` is `docker.io/library/nginx`.
pub fn repository(image: &str) -> String {
    let name = image.split('@').next().unwrap_or(image);
    let last = name.rfind('/').map_or(0, |at| at + 1);
    let name = name[last..].find(':').map_or(name, |at| &name[..last + at]);
    match name.split_once('/') {
        Some(("index.docker.io", rest)) => format!("docker.io/{rest}"),
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    }
}
