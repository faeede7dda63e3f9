//! Changes of the file with the authorizers, taken over while the server runs.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::config;
use crate::{ApiServer, Inner};

/// How often a change was taken over, and how often it could not be.
#[derive(Debug, Default)]
pub(crate) struct Reloads {
    pub succeeded: AtomicU64,
    pub failed: AtomicU64,
}

/// Looks at the file every so often. One that is no good leaves everything as it is.
pub(crate) async fn run(inner: Weak<Inner>, path: PathBuf, every: Duration) {
    let Some(stop) = inner.upgrade().map(|inner| inner.stop.clone()) else { return };
    let mut known = text(&path);
    while stop.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
        let now = text(&path);
        if now == known {
            continue;
        }
        let Some(inner) = inner.upgrade() else { return };
        let server = ApiServer { inner: Arc::clone(&inner) };
        let authorizer = server.authorizer();
        let reload = now.as_deref().ok_or_else(|| "it can't be read".to_owned()).and_then(|text| {
            let modes = config::parse(&path, text).map_err(|error| error.to_string())?;
            authorizer.replace(&modes).map_err(|error| error.to_string())
        });
        let reloads = match reload {
            Ok(()) => {
                tracing::info!(path = %path.display(), "authorization configuration reloaded");
                &authorizer.reloads.succeeded
            }
            Err(error) => {
                tracing::error!(path = %path.display(), error, "the authorization configuration stays as it was");
                &authorizer.reloads.failed
            }
        };
        reloads.fetch_add(1, Ordering::Relaxed);
        known = now;
    }
}

fn text(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}
