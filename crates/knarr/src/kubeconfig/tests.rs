use std::{fs, os::unix::fs::MetadataExt};

use super::*;

fn admin(server: &str) -> Admin<'static> {
    Admin { name: NAME, server: server.into(), ca_pem: "CA", certificate_pem: "CERT", key_pem: "KEY" }
}

fn merged(before: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    fs::write(&path, before).unwrap();
    merge_into(&path, &admin("https://127.0.0.1:6443")).unwrap();
    fs::read_to_string(&path).unwrap()
}

#[test]
fn what_is_there_is_kept() {
    let before = "apiVersion: v1\nkind: Config\ncurrent-context: work\npreferences: {colors: true}\n\
        clusters:\n- name: work\n  cluster: {server: 'https://work'}\nusers: null\ncontexts: []\n";
    let after: Value = serde_yaml::from_str(&merged(before)).unwrap();
    assert_eq!(after["current-context"], "work");
    assert_eq!(after["preferences"]["colors"], true);
    assert_eq!(after["clusters"][0]["name"], "work");
    assert_eq!(after["clusters"][1]["cluster"]["server"], "https://127.0.0.1:6443");
    assert_eq!(after["users"][0]["user"]["client-key-data"], "S0VZ");
}

#[test]
fn merging_twice_renews_and_removing_restores() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".kube/config");
    merge_into(&path, &admin("https://old")).unwrap();
    merge_into(&path, &admin("https://new")).unwrap();
    let config: Value = serde_yaml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(config["clusters"].as_sequence().unwrap().len(), 1);
    assert_eq!(config["clusters"][0]["cluster"]["server"], "https://new");
    assert_eq!(config["current-context"], NAME);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let own = dir.path().join("admin");
    let foreign = Admin { ca_pem: "ANOTHER", ..admin("https://new") };
    write_admin(&own, &foreign).unwrap();
    remove_from(&path, &own).unwrap();
    let config: Value = serde_yaml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(config["clusters"].as_sequence().unwrap().len(), 1, "another cluster's context was removed");
    write_admin(&own, &admin("https://new")).unwrap();
    remove_from(&path, &own).unwrap();
    assert!(!path.exists(), "{}", fs::read_to_string(&path).unwrap());
}

#[test]
fn clusters_of_other_names_live_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let (path, own, copy) = (dir.path().join("config"), dir.path().join("own"), dir.path().join("copy"));
    merge_into(&path, &admin("https://one")).unwrap();
    write_admin(&own, &Admin { ca_pem: "OTHER", ..admin("https://127.0.0.1") }).unwrap();
    let credentials = Credentials::read(&own).unwrap();
    let second = credentials.admin("knarr-two", "https://two".into());
    assert!(!merge_into(&path, &second).unwrap(), "the current context was changed");
    let config: Value = serde_yaml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(config["contexts"][1]["context"]["user"], "knarr-two");
    assert_eq!(config["clusters"][1]["cluster"]["server"], "https://two");
    write_admin(&copy, &second).unwrap();
    remove_from(&path, &copy).unwrap();
    let config: Value = serde_yaml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(config["contexts"].as_sequence().unwrap().len(), 1);
    assert_eq!(config["contexts"][0]["name"], NAME);
}

#[test]
fn a_file_that_is_no_kubeconfig_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    for broken in ["- a\n- b\n", "clusters: {a: 1}\n", "a: [\n"] {
        fs::write(&path, broken).unwrap();
        let refused = merge_into(&path, &admin("https://x")).unwrap_err().to_string();
        assert!(refused.contains("left as it is"), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), broken);
    }
}

/// What somebody wrote by hand is given back as it was, to the letter.
#[test]
fn comments_and_layout_stay() {
    let rows = [
        "# mine\napiVersion: v1\nkind: Config\ncurrent-context: work # the office\nclusters:\n# the office\n- cluster:\n    \
         certificate-authority: /etc/ca.pem\n    server: \"https://work\"\n  name: work\n\n# people\nusers:\n  - name: me\n    \
         user: {token: '0123'}\ncontexts:\n- {name: work, context: {cluster: work, user: me}}\n# the end\n",
        "kind: Config\napiVersion: v1\ncurrent-context: work\ncontexts: []\nusers: []\nclusters: []\nother: 1\n",
    ];
    let dir = tempfile::tempdir().unwrap();
    let (path, own) = (dir.path().join("config"), dir.path().join("admin"));
    write_admin(&own, &admin("https://k")).unwrap();
    for before in rows {
        fs::write(&path, before).unwrap();
        for server in ["https://j", "https://k"] {
            assert!(!merge_into(&path, &admin(server)).unwrap());
        }
        let merged = fs::read_to_string(&path).unwrap();
        for line in before.lines().filter(|line| !line.ends_with("[]")) {
            assert!(merged.lines().any(|kept| kept == line), "{line:?} is gone:\n{merged}");
        }
        assert_eq!(merged.matches("server: https://").count(), 1, "{merged}");
        remove_from(&path, &own).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), before);
    }
}

/// Where the layout is not known, the meaning stays at least.
#[test]
fn flow_style_is_merged_too() {
    let after = merged("{apiVersion: v1, clusters: [{name: a, cluster: {server: s}}], current-context: ''}");
    let after: Value = serde_yaml::from_str(&after).unwrap();
    assert_eq!((&after["clusters"][0]["name"], &after["clusters"][1]["name"]), (&"a".into(), &NAME.into()));
    assert_eq!(after["current-context"], NAME);
}

#[test]
fn another_program_is_not_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    fs::write(dir.path().join("config.lock"), "").unwrap();
    let refused = merge_into(&path, &admin("https://x")).unwrap_err().to_string();
    assert!(refused.contains("config.lock"), "{refused}");
    fs::remove_file(dir.path().join("config.lock")).unwrap();
    merge_into(&path, &admin("https://x")).unwrap();
    assert!(!dir.path().join("config.lock").exists());
}
