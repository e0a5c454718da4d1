//! The dependency graph that is written down, against the one that Cargo sees.

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        fs,
    };

    use serde_json::Value;

    use crate::run::{cargo, output, root};

    type Graph = BTreeMap<String, BTreeSet<String>>;

    fn written() -> Graph {
        let text = fs::read_to_string(root().join("docs/dependencies.txt")).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        lines
            .map(|line| {
                let (name, uses) = line.split_once(':').expect("name: what it uses");
                (name.to_owned(), uses.split_whitespace().map(str::to_owned).collect())
            })
            .collect()
    }

    fn actual() -> Graph {
        let metadata = output(cargo().args(["metadata", "--no-deps", "--format-version", "1"])).unwrap();
        let metadata: Value = serde_json::from_str(&metadata).unwrap();
        let packages = metadata["packages"].as_array().unwrap();
        let ours = |dependency: &&Value| dependency["path"].is_string() && dependency["kind"] != "dev";
        packages
            .iter()
            .map(|package| {
                let uses = package["dependencies"].as_array().unwrap().iter().filter(ours);
                let uses = uses.map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect();
                (package["name"].as_str().unwrap().to_owned(), uses)
            })
            .collect()
    }

    #[test]
    fn the_crates_depend_on_each_other_as_written() {
        assert_eq!(actual(), written(), "left: Cargo.toml files, right: docs/dependencies.txt");
    }

    #[test]
    fn unsafe_code_is_in_os_alone() {
        for entry in fs::read_dir(root().join("crates")).unwrap() {
            let manifest = entry.unwrap().path().join("Cargo.toml");
            let text = fs::read_to_string(&manifest).unwrap();
            let inherits = text.contains("[lints]\nworkspace = true");
            let is_os = manifest.parent().unwrap().ends_with("os");
            assert!(inherits || is_os, "{} does not inherit the workspace's lints", manifest.display());
        }
    }
}
