//! With which credentials images came to this node (KEP-2535, `pkg/kubelet/images/pullmanager`): an image that was pulled
//! with one pod's Secret is another pod's only with credentials of its own. What was there before, such as what was
//! imported, is everybody's (`NeverVerifyPreloadedImages`). The records are upstream's, one file an image.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use knarr_cri::v1::Image;
use serde::{Deserialize, Serialize};

use super::{keyring::Source, repository};
use crate::checkpoint::{read, write};

const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";

/// Secrets that one image is noted to have been seen with, beside the one it was pulled with.
const MAX_SECRETS: usize = 100;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pulled {
    kind: String,
    api_version: String,
    last_updated_time: Timestamp,
    image_ref: String,
    #[serde(default)]
    credential_mapping: BTreeMap<String, Access>,
}

/// Who may have a repository's image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Access {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kubernetes_secrets: Vec<Source>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    node_pods_accessible: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Intent {
    kind: String,
    api_version: String,
    image: String,
}

pub struct PullRecords {
    pulled: PathBuf,
    pulling: PathBuf,
    /// Pulls under way, by image; whoever changes files holds it.
    under_way: Mutex<HashMap<String, u32>>,
}

impl PullRecords {
    pub fn open(directory: &Path) -> io::Result<Self> {
        let (pulled, pulling) = (directory.join("pulled"), directory.join("pulling"));
        fs::create_dir_all(&pulled)?;
        fs::create_dir_all(&pulling)?;
        Ok(Self { pulled, pulling, under_way: Mutex::default() })
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that an image is about to be pulled: one that is there after a crash did not come from elsewhere.
    pub fn intend(&self, image: &str) -> io::Result<()> {
        let mut under_way = self.under_way();
        let intent =
            Intent { kind: "ImagePullIntent".into(), api_version: API_VERSION.into(), image: image.to_owned() };
        write(&self.pulling.join(file_name(image)), &intent)?;
        *under_way.entry(image.to_owned()).or_default() += 1;
        Ok(())
    }

    /// Notes what an image was pulled with; without a Secret every pod of the node may have it. Where that cannot be
    /// noted the intent stays, and credentials are asked for.
    pub fn pulled(&self, image: &str, image_ref: &str, source: Option<&Source>, now: Timestamp) {
        let access = match source {
            Some(source) => Access { kubernetes_secrets: vec![source.clone()], node_pods_accessible: false },
            None => Access { node_pods_accessible: true, ..Access::default() },
        };
        let mut under_way = self.under_way();
        match self.note(image, image_ref, Some(access), now) {
            Ok(()) => self.done(&mut under_way, image),
            Err(error) => tracing::error!(image, %error, "the credentials of a pull cannot be noted"),
        }
    }

    pub fn failed(&self, image: &str) {
        self.done(&mut self.under_way(), image);
    }

    fn done(&self, under_way: &mut HashMap<String, u32>, image: &str) {
        if let Some(count) = under_way.get_mut(image).filter(|count| **count > 1) {
            *count -= 1;
            return;
        }
        under_way.remove(image);
        remove(&self.pulling.join(file_name(image)));
    }

    /// Whether a pod with these Secrets has to pull an image although it is there.
    pub fn must_pull(&self, image: &str, image_ref: &str, secrets: &[Source], now: Timestamp) -> bool {
        let under_way = self.under_way();
        let record = match read::<Pulled>(&self.pulled.join(file_name(image_ref))) {
            Ok(Some(record)) => record,
            // Not by this node, and so everybody's.
            Ok(None) => return under_way.contains_key(image) || self.pulling.join(file_name(image)).exists(),
            Err(error) => {
                tracing::error!(image, %error, "the record of a pull cannot be read");
                return true;
            }
        };
        let Some(access) = record.credential_mapping.get(&repository(image)) else { return true };
        if access.node_pods_accessible {
            return false;
        }
        for (secret, known) in secrets.iter().flat_map(|s| access.kubernetes_secrets.iter().map(move |k| (s, k))) {
            let same_hash = !known.credential_hash.is_empty() && known.credential_hash == secret.credential_hash;
            let same_place = Source { credential_hash: String::new(), ..known.clone() }
                == Source { credential_hash: String::new(), ..secret.clone() };
            if !same_hash && !same_place {
                continue;
            }
            // The same Secret with other credentials, or the same credentials in another: good from now on, too.
            if known != secret && access.kubernetes_secrets.len() < MAX_SECRETS {
                let access = Access { kubernetes_secrets: vec![secret.clone()], node_pods_accessible: false };
                if let Err(error) = self.note(image, image_ref, Some(access), now) {
                    tracing::error!(image, %error, "credentials that were shown cannot be noted");
                }
            }
            return false;
        }
        true
    }

    /// Adds to what is known of an image; the caller holds the lock.
    fn note(&self, image: &str, image_ref: &str, access: Option<Access>, now: Timestamp) -> io::Result<()> {
        let path = self.pulled.join(file_name(image_ref));
        let known = read::<Pulled>(&path).unwrap_or_default();
        let mut record = known.clone().unwrap_or_else(|| Pulled {
            kind: "ImagePulledRecord".into(),
            api_version: API_VERSION.into(),
            last_updated_time: now,
            image_ref: image_ref.to_owned(),
            credential_mapping: BTreeMap::new(),
        });
        if let Some(access) = access {
            record.credential_mapping.entry(repository(image)).or_default().add(access);
        }
        if known.as_ref() == Some(&record) {
            return Ok(());
        }
        record.last_updated_time = now;
        write(&path, &record)
    }

    /// After a start: what was being pulled when the last agent ended and is there now was pulled with nobody knows
    /// what, and what is gone is forgotten.
    pub fn settle(&self, images: &[Image], now: Timestamp) {
        let under_way = self.under_way();
        for path in files(&self.pulling) {
            let Ok(Some(intent)) = read::<Intent>(&path) else { continue };
            if under_way.contains_key(&intent.image) {
                continue;
            }
            let wanted = full(&intent.image);
            let names =
                |image: &Image| image.repo_tags.iter().chain(&image.repo_digests).any(|name| full(name) == wanted);
            let noted = match images.iter().find(|image| names(image)) {
                Some(image) => self.note(&intent.image, &image.id, None, now),
                None => Ok(()),
            };
            if noted.is_ok() {
                remove(&path);
            }
        }
        drop(under_way);
        self.prune(images, now);
    }

    /// Forgets images that are gone, unless they came after the list was made.
    pub fn prune(&self, images: &[Image], listed: Timestamp) {
        let _under_way = self.under_way();
        for path in files(&self.pulled) {
            let Ok(Some(record)) = read::<Pulled>(&path) else { continue };
            if record.last_updated_time < listed && !images.iter().any(|image| image.id == record.image_ref) {
                remove(&path);
            }
        }
    }
}

impl Access {
    fn add(&mut self, other: Self) {
        if self.node_pods_accessible {
            return;
        }
        if other.node_pods_accessible {
            *self = other;
            return;
        }
        for secret in other.kubernetes_secrets {
            let place = |s: &Source| (s.uid.clone(), s.namespace.clone(), s.name.clone());
            match self.kubernetes_secrets.iter_mut().find(|known| place(known) == place(&secret)) {
                Some(known) => *known = secret,
                None => self.kubernetes_secrets.push(secret),
            }
        }
        self.kubernetes_secrets.sort();
    }
}

/// A name with its repository in full, to compare what a pod says with what the runtime says.
fn full(image: &str) -> String {
    let repository = repository(image);
    let rest = image.split_once('@').map(|(_, digest)| format!("@{digest}")).unwrap_or_else(|| {
        let last = image.rsplit('/').next().unwrap_or(image);
        format!(":{}", last.split_once(':').map_or("latest", |(_, tag)| tag))
    });
    repository + &rest
}

fn file_name(of: &str) -> String {
    format!("sha256-{}", super::hash(of))
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|e| e.file_name().to_string_lossy().starts_with("sha256-")).map(|e| e.path()).collect()
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::error!(path = %path.display(), %error, "a record of a pull cannot be removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: &str = "reg.io/a:1";
    const ID: &str = "sha256:id";

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn secret(name: &str, hash: &str) -> Source {
        Source { uid: name.into(), namespace: "ns".into(), name: name.into(), credential_hash: hash.into() }
    }

    fn records() -> (tempfile::TempDir, PullRecords) {
        let dir = tempfile::tempdir().unwrap();
        let records = PullRecords::open(dir.path()).unwrap();
        (dir, records)
    }

    fn pull(records: &PullRecords, source: Option<Source>) {
        records.intend(IMAGE).unwrap();
        records.pulled(IMAGE, ID, source.as_ref(), now());
    }

    #[test]
    fn who_may_have_an_image() {
        let must = |pulled_with: Option<Source>, image: &str, secrets: &[Source]| {
            let (_dir, records) = records();
            pull(&records, pulled_with);
            records.must_pull(image, ID, secrets, now())
        };
        let one = || Some(secret("one", "h1"));
        for (pulled_with, image, secrets, expected) in [
            (None, IMAGE, vec![], false),
            (one(), IMAGE, vec![], true),
            (one(), IMAGE, vec![secret("one", "h1")], false),
            (one(), "reg.io/a:2", vec![secret("one", "h1")], false),
            (one(), "reg.io/b:1", vec![secret("one", "h1")], true),
            (one(), IMAGE, vec![secret("one", "new password")], false),
            (one(), IMAGE, vec![secret("two", "h1")], false),
            (one(), IMAGE, vec![secret("two", "h2")], true),
            (one(), IMAGE, vec![secret("two", "h2"), secret("one", "h1")], false),
            (Some(secret("one", "")), IMAGE, vec![secret("two", "")], true),
        ] {
            assert_eq!(must(pulled_with.clone(), image, &secrets), expected, "{pulled_with:?} {image} {secrets:?}");
        }
        let (_dir, records) = records();
        assert!(!records.must_pull(IMAGE, ID, &[], now()), "what was there before is everybody's");
    }

    #[test]
    fn what_was_shown_is_good_later() {
        let (_dir, records) = records();
        pull(&records, Some(secret("one", "h1")));
        assert!(!records.must_pull(IMAGE, ID, &[secret("two", "h1")], now()));
        // Its Secret is known by now, and may change.
        assert!(!records.must_pull(IMAGE, ID, &[secret("two", "h3")], now()));
        assert!(!records.must_pull(IMAGE, ID, &[secret("one", "h1")], now()));
        pull(&records, None);
        assert!(!records.must_pull(IMAGE, ID, &[], now()));
    }

    #[test]
    fn a_pull_that_a_crash_cut_short_is_nobodys() {
        let (dir, records) = records();
        records.intend("nginx").unwrap();
        assert!(records.must_pull("nginx", ID, &[], now()));
        let again = PullRecords::open(dir.path()).unwrap();
        assert!(again.must_pull("nginx", ID, &[], now()));
        let image = |tag: &str| Image { id: ID.into(), repo_tags: vec![tag.into()], ..Image::default() };
        again.settle(&[image("docker.io/library/nginx:latest")], now());
        assert!(files(&again.pulling).is_empty());
        assert!(again.must_pull("nginx", ID, &[secret("one", "h1")], now()));
        // One that did not come to be leaves nothing.
        let (dir, records) = self::records();
        records.intend("nginx").unwrap();
        let again = PullRecords::open(dir.path()).unwrap();
        again.settle(&[], now());
        assert!(!again.must_pull("nginx", ID, &[], now()));
    }

    #[test]
    fn of_two_pulls_at_once_the_last_takes_the_intent_along() {
        let (_dir, records) = records();
        records.intend(IMAGE).unwrap();
        records.intend(IMAGE).unwrap();
        records.failed(IMAGE);
        assert!(records.must_pull(IMAGE, ID, &[], now()));
        records.failed(IMAGE);
        assert!(!records.must_pull(IMAGE, ID, &[], now()));
    }

    #[test]
    fn records_go_with_their_images() {
        let (_dir, records) = records();
        pull(&records, Some(secret("one", "h1")));
        records.prune(&[], now());
        assert_eq!(files(&records.pulled).len(), 1, "it came after the list");
        let later = now() + jiff::SignedDuration::from_secs(1);
        records.prune(&[Image { id: ID.into(), ..Image::default() }], later);
        assert_eq!(files(&records.pulled).len(), 1);
        records.prune(&[], later);
        assert!(files(&records.pulled).is_empty());
    }

    #[test]
    fn a_damaged_record_asks_for_credentials() {
        let (_dir, records) = records();
        pull(&records, None);
        fs::write(&files(&records.pulled)[0], "{").unwrap();
        assert!(records.must_pull(IMAGE, ID, &[secret("one", "h1")], now()));
    }
}
