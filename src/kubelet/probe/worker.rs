//! One probe of one container.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Probe;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Kind, Outcome, Target, Verdict, exec, grpc, http, port, tcp};
use crate::events::Severity;

/// How soon a probe is tried again when nothing listens yet, doubling up to the period.
const FIRST_RETRY: Duration = Duration::from_millis(20);

/// A probe's parameters.
pub(super) struct Settings {
    probe: Probe,
    initial_delay: Duration,
    period: Duration,
    timeout: Duration,
    success_threshold: u32,
    failure_threshold: u32,
}

impl Settings {
    pub fn of(probe: &Probe) -> Self {
        let positive = |value: Option<i32>, default: u32| {
            value.and_then(|value| u32::try_from(value).ok()).filter(|value| *value > 0).unwrap_or(default)
        };
        let seconds = |value: Option<i32>, default| Duration::from_secs(positive(value, default).into());
        Self {
            probe: probe.clone(),
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            success_threshold: positive(probe.success_threshold, 1),
            failure_threshold: positive(probe.failure_threshold, 3),
        }
    }
}

/// Probes until the verdict is final (a startup probe's, or a failed liveness probe's) or the task is dropped.
pub(super) async fn run(target: Arc<Target>, kind: Kind, settings: Settings, verdicts: mpsc::Sender<Verdict>) {
    let age = Timestamp::now().duration_since(target.started_at);
    let age = Duration::try_from(age).unwrap_or_default();
    tokio::time::sleep(settings.initial_delay.saturating_sub(age)).await;
    // A container that has just started may not listen yet. Finding the port closed does not disturb it, so that can
    // be tried often; a container that has run for a while gets no such courtesy.
    let mut courtesy = kind != Kind::Liveness && age < settings.period;
    let mut verdict: Option<bool> = None;
    let mut streak = (true, 0);
    loop {
        let tick = Instant::now();
        let mut outcome = attempt(&target, &settings).await;
        let mut retry = FIRST_RETRY;
        while courtesy && matches!(outcome, Outcome::Refused(_)) && tick.elapsed() + retry < settings.period {
            tokio::time::sleep(retry).await;
            retry *= 2;
            outcome = attempt(&target, &settings).await;
        }
        courtesy = false;
        let healthy = outcome == Outcome::Success;
        if let Outcome::Failure(message) | Outcome::Refused(message) = outcome {
            report_failure(&target, kind, &message);
        }
        streak = if streak.0 == healthy { (healthy, streak.1 + 1) } else { (healthy, 1) };
        let threshold = if healthy { settings.success_threshold } else { settings.failure_threshold };
        if streak.1 >= threshold && verdict != Some(healthy) {
            verdict = Some(healthy);
            let container_id = target.container_id.clone();
            if verdicts.send(Verdict { container_id, kind, healthy }).await.is_err() {
                return;
            }
            match (kind, healthy) {
                (Kind::Startup, _) | (Kind::Liveness, false) => return,
                _ => {}
            }
        }
        tokio::time::sleep_until(tick + settings.period).await;
    }
}

fn report_failure(target: &Target, kind: Kind, message: &str) {
    let name = match kind {
        Kind::Startup => "Startup",
        Kind::Readiness => "Readiness",
        Kind::Liveness => "Liveness",
    };
    let field = Some(target.spec.field_path());
    let message = format!("{name} probe failed: {message}");
    target.ctx.recorder.pod(&target.pod, field, Severity::Warning, "Unhealthy", message);
}

async fn attempt(target: &Target, settings: &Settings) -> Outcome {
    let Settings { probe, timeout, .. } = settings;
    let container = &target.spec.container;
    if let Some(action) = &probe.exec {
        let command = action.command.clone().unwrap_or_default();
        return exec::probe(target.ctx.runtime.as_ref(), &target.container_id, command, *timeout).await;
    }
    if let Some(action) = &probe.http_get {
        return http::get(action, container, &target.host, *timeout).await;
    }
    if let Some(action) = &probe.tcp_socket {
        let host = action.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(&target.host);
        return match port::resolve(&action.port, container) {
            Some(port) => tcp::probe(host, port, *timeout).await,
            None => Outcome::Failure(format!("couldn't find port: {:?}", action.port)),
        };
    }
    if let Some(action) = &probe.grpc {
        let service = action.service.as_deref().unwrap_or_default();
        return match u16::try_from(action.port) {
            Ok(port) => grpc::probe(&target.host, port, service, *timeout).await,
            Err(_) => Outcome::Failure(format!("invalid port {}", action.port)),
        };
    }
    Outcome::Failure("missing probe handler".into())
}
