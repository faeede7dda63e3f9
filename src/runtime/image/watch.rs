//! Importing archives as they appear in the images directory.

use std::sync::Weak;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;

use crate::{Runtime, descriptor};

/// Watches the directory until the runtime is gone or the task is aborted.
pub(crate) async fn watch(runtime: Weak<Runtime>, directory: std::path::PathBuf) {
    if let Err(error) = run(runtime, &directory).await {
        tracing::warn!(directory = %directory.display(), %error, "cannot watch for new images");
    }
}

async fn run(runtime: Weak<Runtime>, directory: &std::path::Path) -> std::io::Result<()> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    // A file is whole when its writer closes it or moves it here.
    inotify.add_watch(directory, AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO)?;
    let watched = descriptor::register(inotify.into())?;
    let mut buffer = vec![0; 4096];
    loop {
        watched.async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut buffer[..])?)).await?;
        let Some(runtime) = runtime.upgrade() else { return Ok(()) };
        runtime.import_images().await;
    }
}
