//! `/healthz`, `/livez` and `/readyz` with their named checks
//! (<https://kubernetes.io/docs/reference/using-api/health-checks/>).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Response, StatusCode};
use tokio::time::timeout;

use crate::request::Query;
use crate::{ApiServer, Body, response};

/// What the server knows of its own state.
#[derive(Debug, Default)]
pub struct Health {
    bootstrapped: AtomicBool,
    stopping: AtomicBool,
}

impl Health {
    /// Every object that a cluster must have is there.
    pub fn set_bootstrapped(&self) {
        self.bootstrapped.store(true, Ordering::Relaxed);
    }

    /// The server is about to stop: it is not ready for new clients any more.
    pub fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether `/readyz` says so, the datastore aside.
    pub fn is_ready(&self) -> bool {
        self.bootstrapped.load(Ordering::Relaxed) && !self.stopping.load(Ordering::Relaxed)
    }
}

/// How long the datastore may take to answer the `etcd` check.
const DATASTORE: Duration = Duration::from_secs(2);

/// Named checks; which endpoints they belong to, and what to tell who asks.
struct Check {
    name: &'static str,
    live: bool,
    passed: bool,
}

async fn checks(server: &ApiServer) -> Vec<Check> {
    let health = server.health();
    let datastore = timeout(DATASTORE, server.config().datastore.current_revision()).await;
    let bootstrapped = health.bootstrapped.load(Ordering::Relaxed);
    let check = |name, live, passed| Check { name, live, passed };
    vec![
        check("ping", true, true),
        check("log", true, true),
        check("etcd", true, matches!(datastore, Ok(Ok(_)))),
        check("informer-sync", false, bootstrapped),
        check("poststarthook/start-system-namespaces-controller", true, bootstrapped),
        check("poststarthook/rbac/bootstrap-roles", true, bootstrapped),
        check("poststarthook/scheduling/bootstrap-system-priority-classes", true, bootstrapped),
        check("poststarthook/priority-and-fairness-config-producer", true, bootstrapped),
        check("poststarthook/apiservice-registration-controller", true, bootstrapped),
        check("shutdown", false, !health.stopping.load(Ordering::Relaxed)),
    ]
}

/// Answers `/healthz`, `/livez`, `/readyz`, and one check each below them; `None` if `path` is no such path.
pub(crate) async fn handle(server: &ApiServer, path: &str, query: &Query) -> Option<Response<Body>> {
    let (endpoint, only) = match path.trim_start_matches('/').split_once('/') {
        Some((endpoint, only)) => (endpoint, Some(only.trim_end_matches('/')).filter(|only| !only.is_empty())),
        None => (path.trim_start_matches('/'), None),
    };
    if !matches!(endpoint, "healthz" | "livez" | "readyz") {
        return None;
    }
    let mut checks = checks(server).await;
    // A server that still starts is alive; one that does not get through it is restarted by its supervisor.
    if endpoint == "livez" || endpoint == "healthz" {
        checks.retain(|check| check.live);
    }
    if let Some(only) = only {
        return Some(match checks.iter().find(|check| check.name == only) {
            Some(check) if check.passed => text(StatusCode::OK, "ok".to_owned()),
            Some(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "internal server error: reason withheld\n".to_owned()),
            None => response::page_not_found(),
        });
    }
    let excluded: Vec<&str> = query.all("exclude").collect();
    let mut lines = String::new();
    let mut failed = false;
    for check in &checks {
        let line = if excluded.contains(&check.name) {
            format!("[+]{} excluded: ok\n", check.name)
        } else if check.passed {
            format!("[+]{} ok\n", check.name)
        } else {
            failed = true;
            format!("[-]{} failed: reason withheld\n", check.name)
        };
        lines.push_str(&line);
    }
    Some(if failed {
        text(StatusCode::INTERNAL_SERVER_ERROR, format!("{lines}{endpoint} check failed\n"))
    } else if query.get("verbose").is_some() {
        text(StatusCode::OK, format!("{lines}{endpoint} check passed\n"))
    } else {
        text(StatusCode::OK, "ok".to_owned())
    })
}

fn text(code: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    response
}
