//! Image garbage collection: when the disk fills, images that no container uses go, least recently used first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k3s_cri::{Error, Image};
use k8s_openapi::api::core::v1::{Node, Pod};
use tokio::time::Instant;

use crate::context::Context;
use crate::events::Severity;
use crate::pod::spec;

/// How often images are looked at (ImageGCPeriod).
const PERIOD: Duration = Duration::from_secs(300);
/// An image that came a moment ago may be about to be used (imageMinimumGCAge).
const MIN_AGE: Duration = Duration::from_secs(120);

/// When to begin and when to stop, in percent of the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageGcThresholds {
    /// imageGCHighThresholdPercent
    pub high: u64,
    /// imageGCLowThresholdPercent
    pub low: u64,
}

impl Default for ImageGcThresholds {
    fn default() -> Self {
        Self { high: 85, low: 80 }
    }
}

/// What is known of an image beyond what the runtime says.
#[derive(Debug, Clone, Copy)]
struct Seen {
    detected: Instant,
    used: Option<Instant>,
}

/// The images of this node, as they were seen.
#[derive(Debug, Default)]
struct Known(BTreeMap<String, Seen>);

impl Known {
    /// Takes note of what is there and of what runs.
    fn observe(&mut self, images: &[Image], in_use: &BTreeSet<String>, now: Instant) {
        self.0.retain(|id, _| images.iter().any(|image| image.id == *id));
        for image in images {
            let seen = self.0.entry(image.id.clone()).or_insert(Seen { detected: now, used: None });
            if in_use.contains(&image.id) {
                seen.used = Some(now);
            }
        }
    }

    /// What may go, in the order in which it goes.
    fn candidates<'a>(&self, images: &'a [Image], in_use: &BTreeSet<String>, now: Instant) -> Vec<&'a Image> {
        let seen = |image: &Image| self.0.get(&image.id).copied();
        let mut free: Vec<_> = images
            .iter()
            .filter(|image| !image.pinned && !in_use.contains(&image.id))
            .filter_map(|image| Some((seen(image)?, image)))
            .filter(|(seen, _)| now.duration_since(seen.detected) >= MIN_AGE)
            .collect();
        free.sort_by_key(|(seen, _)| (seen.used, seen.detected));
        free.into_iter().map(|(_, image)| image).collect()
    }
}

/// How many bytes must go; 0 below the high threshold.
fn bytes_to_free(capacity: u64, available: u64, thresholds: ImageGcThresholds) -> u64 {
    if capacity == 0 || 100 - available.min(capacity) * 100 / capacity < thresholds.high {
        return 0;
    }
    (capacity / 100 * (100 - thresholds.low)).saturating_sub(available)
}

/// Collects for ever.
pub(crate) async fn run(ctx: &Context) {
    let mut known = Known::default();
    loop {
        if let Err(error) = collect(ctx, &mut known).await {
            tracing::warn!(error, "image garbage collection failed");
            ctx.recorder.node(&node(ctx), Severity::Warning, "ImageGCFailed", error);
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// Images that pods have as volumes.
fn volumes_of(pods: &[Arc<Pod>]) -> BTreeSet<String> {
    let lasting = pods.iter().filter(|pod| !spec::has_ended(pod));
    let volumes = lasting.flat_map(|pod| pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()));
    volumes.filter_map(|volume| volume.image.as_ref()?.reference.clone()).collect()
}

fn node(ctx: &Context) -> Node {
    let mut node = Node::default();
    node.metadata.name = Some(ctx.config.node_name.clone());
    node
}

async fn collect(ctx: &Context, known: &mut Known) -> Result<(), String> {
    let text = |error: Error| error.to_string();
    let images = ctx.images.list_images().await.map_err(text)?;
    let containers = ctx.runtime.list_containers().await.map_err(text)?;
    let mut in_use: BTreeSet<String> = containers.into_iter().map(|container| container.image_id).collect();
    for reference in volumes_of(&ctx.pods.list()) {
        if let Ok(Some(image)) = ctx.images.image_status(&reference).await {
            in_use.insert(image.id);
        }
    }
    let now = Instant::now();
    known.observe(&images, &in_use, now);
    let mountpoint = ctx.images.image_fs_info().await.map_err(text)?.mountpoint;
    let (capacity, available) = space(&mountpoint).map_err(|error| format!("{}: {error}", mountpoint.display()))?;
    let wanted = bytes_to_free(capacity, available, ctx.config.image_gc);
    if wanted == 0 {
        return Ok(());
    }
    tracing::info!(wanted, "the disk of images is full beyond the high threshold; removing unused images");
    let mut freed = 0;
    for image in known.candidates(&images, &in_use, now) {
        if freed >= wanted {
            break;
        }
        match ctx.images.remove_image(&image.id).await {
            Ok(()) => freed += image.size,
            Err(error) => tracing::warn!(image = image.id, %error, "cannot remove image"),
        }
    }
    if freed < wanted {
        let message = format!(
            "Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, but only found \
             {freed} bytes eligible to free."
        );
        ctx.recorder.node(&node(ctx), Severity::Warning, "FreeDiskSpaceFailed", message.clone());
        return Err(message);
    }
    Ok(())
}

/// Bytes of a file system: all of it, and what an ordinary user may still take.
fn space(path: &Path) -> nix::Result<(u64, u64)> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    Ok((stat.blocks() * stat.fragment_size(), stat.blocks_available() * stat.fragment_size()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str, pinned: bool) -> Image {
        Image {
            id: id.into(),
            repo_tags: Vec::new(),
            repo_digests: Vec::new(),
            size: 1,
            uid: None,
            username: String::new(),
            pinned,
        }
    }

    #[test]
    fn collection_begins_at_the_high_and_ends_at_the_low_threshold() {
        let thresholds = ImageGcThresholds::default();
        assert_eq!(bytes_to_free(1000, 160, thresholds), 0, "84 percent are in use");
        assert_eq!(bytes_to_free(1000, 150, thresholds), 50, "85 percent are in use");
        assert_eq!(bytes_to_free(1000, 0, thresholds), 200);
        assert_eq!(bytes_to_free(0, 0, thresholds), 0);
    }

    #[test]
    fn the_least_recently_used_go_first_and_some_never() {
        let images = [
            image("used", false),
            image("pinned", true),
            image("early", false),
            image("late", false),
            image("never", false),
        ];
        let (mut known, none) = (Known::default(), BTreeSet::new());
        let uses = |id: &str| BTreeSet::from([id.to_owned(), "used".to_owned()]);
        let mut now = Instant::now();
        for id in ["early", "late"] {
            known.observe(&images, &uses(id), now);
            now += Duration::from_secs(300);
        }
        let fresh = [&images[..], &[image("fresh", false)]].concat();
        known.observe(&fresh, &none, now);
        let order: Vec<&str> =
            known.candidates(&fresh, &uses("nothing"), now).into_iter().map(|image| image.id.as_str()).collect();
        assert_eq!(order, ["never", "early", "late"]);
    }
}
