//! What the service manager is told of the server.

use k3s_systemd::{Notification, Notifier};
use tokio_util::sync::CancellationToken;

/// systemd, or the launcher that passes it on; nobody elsewhere.
pub struct Readiness(Option<Notifier>);

impl Readiness {
    /// As the environment has it. The watchdog is fed from now on until `cancel`, by the same runtime as everything
    /// else: if that hangs, so does this. To be called in the runtime.
    pub fn announce(cancel: CancellationToken) -> Self {
        let notifier = match Notifier::from_env() {
            Ok(notifier) => notifier,
            Err(error) => {
                tracing::warn!(%error, "the service manager is not told when the server is ready");
                return Self(None);
            }
        };
        if let Some(interval) = notifier.watchdog_interval() {
            tokio::spawn(feed(interval, cancel));
        }
        let this = Self(Some(notifier));
        this.say(&[Notification::Status("starting".into())]);
        this
    }

    /// The server serves.
    pub fn ready(&self, status: String) {
        // A unit may have started this by a script. Rootless, the launcher names itself instead.
        let main = Notification::MainPid(std::process::id());
        self.say(&[Notification::Ready, main, Notification::Status(status)]);
    }

    /// The server reads its files anew. [`Self::ready`] follows.
    pub fn reloading(&self) {
        self.say(&[Notification::Reloading, Notification::Status("reloading".into())]);
    }

    /// The server is about to end.
    pub fn stopping(&self) {
        self.say(&[Notification::Stopping, Notification::Status("stopping; pods keep running".into())]);
    }

    fn say(&self, what: &[Notification]) {
        if let Some(Err(error)) = self.0.as_ref().map(|notifier| notifier.send(what)) {
            tracing::warn!(%error, "the service manager does not listen");
        }
    }
}

async fn feed(interval: std::time::Duration, cancel: CancellationToken) {
    let Ok(notifier) = Notifier::from_env() else { return };
    while cancel.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
        if let Err(error) = notifier.send(&[Notification::Watchdog]) {
            tracing::warn!(%error, "cannot feed the watchdog");
        }
    }
}
