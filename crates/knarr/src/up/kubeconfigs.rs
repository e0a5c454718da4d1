//! The files by which people are the cluster's administrator.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use anyhow::Result;
use knarr_apiserver::pki::Leaf;

use crate::kubeconfig::{self, Admin};

pub struct Kubeconfigs {
    /// The administrator's own.
    own: PathBuf,
    /// Where the context is merged into, if anywhere.
    user: Option<PathBuf>,
    server: String,
    ca_pem: String,
    /// The certificate that the files have.
    written: Mutex<String>,
}

impl Kubeconfigs {
    pub fn new(own: PathBuf, user: Option<PathBuf>, port: u16, ca_pem: &str) -> Self {
        // From this machine.
        let server = format!("https://127.0.0.1:{port}");
        Self { own, user, server, ca_pem: ca_pem.to_owned(), written: Mutex::default() }
    }

    /// Writes the administrator's own file and merges it into the user's; gives the command to type next.
    pub fn write(&self, admin: &Leaf) -> Result<String> {
        kubeconfig::write_admin(&self.own, &self.admin(admin))?;
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = admin.certificate_pem.clone();
        let by_own_file = format!("kubectl --kubeconfig {} get nodes", self.own.display());
        let Some(path) = &self.user else { return Ok(by_own_file) };
        let context = match kubeconfig::merge_into(path, &self.admin(admin)) {
            Ok(true) => "",
            Ok(false) => " --context knarr",
            // The cluster is fine without it, and the administrator's own file is there.
            Err(error) => return Ok(format!("{by_own_file}\n\nnote: {error:#}")),
        };
        if kubeconfig::default_path().as_ref() == Some(path) {
            return Ok(format!("kubectl{context} get nodes"));
        }
        Ok(format!("kubectl --kubeconfig {}{context} get nodes", path.display()))
    }

    /// Brings the files up to a certificate that was renewed while the cluster runs. What cannot be written now is
    /// written with the next call.
    pub fn renew(&self, admin: &Leaf) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if *written == admin.certificate_pem {
            return;
        }
        let renew = || -> Result<()> {
            kubeconfig::write_admin(&self.own, &self.admin(admin))?;
            self.user.iter().try_for_each(|path| kubeconfig::renew_in(path, &self.admin(admin)))
        };
        match renew() {
            Ok(()) => *written = admin.certificate_pem.clone(),
            Err(error) => tracing::warn!("the administrator's new certificate is not in every kubeconfig: {error:#}"),
        }
    }

    fn admin<'a>(&'a self, admin: &'a Leaf) -> Admin<'a> {
        Admin {
            name: kubeconfig::NAME,
            server: self.server.clone(),
            ca_pem: &self.ca_pem,
            certificate_pem: &admin.certificate_pem,
            key_pem: &admin.key_pem,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use base64::{Engine, engine::general_purpose::STANDARD};

    use super::*;

    fn leaf(name: &str) -> Leaf {
        Leaf { certificate_pem: name.to_owned(), key_pem: format!("{name}'s key") }
    }

    fn has(path: &Path, name: &str) -> bool {
        fs::read_to_string(path).unwrap().contains(&STANDARD.encode(name))
    }

    #[test]
    fn files_get_the_new_certificate_where_the_cluster_is_in_them_still() {
        let dir = tempfile::tempdir().unwrap();
        let (own, user) = (dir.path().join("own"), dir.path().join("user"));
        let files = Kubeconfigs::new(own.clone(), Some(user.clone()), 6443, "CA");
        files.write(&leaf("first")).unwrap();
        files.renew(&leaf("first"));
        assert!(has(&own, "first") && has(&user, "first"));
        files.renew(&leaf("second"));
        assert!(has(&own, "second") && has(&user, "second"));
        assert!(!has(&own, "first") && !has(&user, "first"));
        let without = "current-context: work\n";
        fs::write(&user, without).unwrap();
        files.renew(&leaf("third"));
        assert!(has(&own, "third"));
        assert_eq!(fs::read_to_string(&user).unwrap(), without, "whoever took the context out did so on purpose");
        fs::remove_file(&user).unwrap();
        files.renew(&leaf("fourth"));
        assert!(!user.exists());
    }

    #[test]
    fn what_could_not_be_written_is_written_later() {
        let dir = tempfile::tempdir().unwrap();
        let (own, user) = (dir.path().join("own"), dir.path().join("user"));
        let files = Kubeconfigs::new(own.clone(), Some(user.clone()), 6443, "CA");
        files.write(&leaf("first")).unwrap();
        let good = fs::read_to_string(&user).unwrap();
        fs::write(&user, ": [").unwrap();
        files.renew(&leaf("second"));
        fs::write(&user, good).unwrap();
        files.renew(&leaf("second"));
        assert!(has(&user, "second"));
    }
}
