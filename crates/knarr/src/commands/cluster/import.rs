//! `knarr cluster import`: an image that was built here is on every node without a registry.

use anyhow::{Result, bail, ensure};

use super::{args::ImportArgs, launch, select};
use crate::{commands::image, datadir::DataDir, say::say};

/// On all nodes at once, on each one file after another. What went well on some nodes stays there.
pub async fn run(ImportArgs { files, cluster, place }: ImportArgs) -> Result<()> {
    for file in &files {
        ensure!(file.exists(), "there is no {}", file.display());
    }
    let nodes = select::cluster(&super::clusters(&place)?, cluster.as_deref())?.nodes()?;
    let mut complete = true;
    for file in files {
        let imports = launch::at_once(nodes.clone(), move |node| -> Result<Vec<String>> {
            Ok(image::open(&DataDir::at(&node.data_dir())?)?.import(&file)?)
        });
        let (mut names, mut count) = (Vec::new(), 0);
        for (node, imported) in nodes.iter().zip(imports.await) {
            match imported {
                Ok(imported) => (names, count) = (imported, count + 1),
                Err(error) => {
                    complete = false;
                    eprintln!("error: {}: {error:#}", node.name);
                }
            }
        }
        names.iter().for_each(|name| say!("imported {name} on {count} of {} nodes", nodes.len()));
    }
    if complete { Ok(()) } else { bail!("not every node has every image") }
}
