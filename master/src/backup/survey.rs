//! What a destination holds: for operators, and for whoever chooses what to restore.

use super::SourceError;
use super::objects::Objects;
use super::place::{read_header, read_manifest};
use cairn_core::backup::manifest::Manifest;
use cairn_core::backup::names::{Catalogue, Holdings, ImageName};
use cairn_core::backup::{History, chain};
use cairn_core::ids::{ClusterId, LogIndex};
use cairn_core::time::Timestamp;
use std::ops::ControlFlow;

/// Everything, in order.
#[derive(Debug)]
pub struct Survey {
    /// Each history of each cluster.
    pub lives: Vec<Life>,
}

/// One history of one cluster.
#[derive(Debug)]
pub struct Life {
    /// The cluster.
    pub cluster: ClusterId,
    /// The history.
    pub history: History,
    /// What stands there.
    pub holdings: Holdings,
    /// Complete images, oldest first.
    pub images: Vec<Image>,
}

/// A complete image and what follows it.
#[derive(Debug)]
pub struct Image {
    /// Its name.
    pub name: ImageName,
    /// What it says of itself, or why that cannot be read.
    pub manifest: Result<Manifest, String>,
    /// Last entry that can be restored from it.
    pub reach: LogIndex,
    /// Leader time of that entry, if that is known.
    pub until: Option<Timestamp>,
}

impl Life {
    /// The image from which one gets furthest.
    pub fn newest(&self) -> Option<&Image> {
        self.images.iter().max_by_key(|image| (image.reach, image.name))
    }
}

/// Looks at everything below a destination.
///
/// # Errors
/// It cannot be listed.
pub async fn survey(objects: &Objects) -> Result<Survey, SourceError> {
    let mut catalogue = Catalogue::default();
    let see = |name: &str, bytes| {
        catalogue.add(name, bytes);
        ControlFlow::Continue(())
    };
    objects.each("", None, see).await?;
    let mut lives = Vec::new();
    for (cluster, histories) in catalogue.clusters {
        for (history, holdings) in histories {
            let mut images = Vec::new();
            for &name in &holdings.images {
                images.push(image(objects, (cluster, history), &holdings, name).await);
            }
            lives.push(Life { cluster, history, holdings, images });
        }
    }
    Ok(Survey { lives })
}

async fn image(objects: &Objects, of: (ClusterId, History), holdings: &Holdings, name: ImageName) -> Image {
    let manifest = read_manifest(objects, of, name).await.map_err(|error| error.to_string());
    let chain = chain::follow(name, &holdings.shipments, None);
    let until = match chain.shipments.last() {
        Some(&last) => read_header(objects, of, last).await.ok().map(|header| header.time),
        None => manifest.as_ref().ok().map(|manifest| manifest.time),
    };
    Image { name, manifest, reach: chain.reach, until }
}
