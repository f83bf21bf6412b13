//! Operator endpoints, plain HTTP, loopback by default.
//!
//! - `/livez`: the process serves; never fails for lack of a quorum or of disk.
//! - `/readyz`: named checks, one a line; 503 while one fails that the node needs, `[-]`; `[!]` is for operators and fails nothing.
//! - `/status`: facts as JSON.
//! - `/metrics`: Prometheus text.
//!
//! Nothing here changes anything: a backup is asked for on the control socket, see [`crate::control`].
//!
//! Promises: at most [`MAX_CONNECTIONS`] connections at once, each for one request and [`DEADLINE`] at most; when all places are taken
//! the oldest silent one gives way. `/status` and `/metrics` answer only requests whose `Host` is an IP address, `localhost` or a
//! name of `listen.http_names`. An answer never blocks a runtime thread, and at most 4 are made at once.

mod host;
mod serve;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub use serve::{DEADLINE, MAX_CONNECTIONS, serve};

/// One named check of `/readyz`.
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// `Ok`, or what is missing.
    pub result: Result<(), String>,
    /// Whether the node is not ready while it fails.
    pub needed: bool,
}

impl Check {
    /// A node is not ready while this fails.
    pub fn needed(name: &'static str, result: Result<(), String>) -> Self {
        Self { name, result, needed: true }
    }

    /// Somebody should see to it, but the node works.
    pub fn advisory(name: &'static str, result: Result<(), String>) -> Self {
        Self { name, result, needed: false }
    }
}

/// Where the answers come from. Called on threads that may block.
pub trait Operator: Send + Sync + 'static {
    /// All checks.
    fn ready(&self) -> Vec<Check>;
    /// Facts.
    fn status(&self) -> serde_json::Value;
    /// Prometheus text.
    fn metrics(&self) -> String;
}

/// Binds the endpoint.
///
/// # Errors
/// One sentence naming the address and the remedy.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::AddrInUse => "another process has it: stop that one, or set listen.http in node.toml",
            std::io::ErrorKind::AddrNotAvailable => "this machine has no such address: set listen.http in node.toml",
            std::io::ErrorKind::PermissionDenied => "ports below 1024 need privileges: set listen.http in node.toml",
            _ => "set listen.http in node.toml to an address of this machine",
        };
        format!("cannot listen for operators on {address}: {error}; {remedy}")
    })
}

/// Answers that are made at once.
const ANSWERS: usize = 4;

fn router(operator: Arc<dyn Operator>, names: &[String]) -> Router {
    let (ready, status, metrics) = (operator.clone(), operator.clone(), operator);
    let (places, names) = (Arc::new(Semaphore::new(ANSWERS)), Arc::<[String]>::from(names));
    let (for_ready, for_status, for_metrics) = (places.clone(), places.clone(), places);
    let facts = Router::new()
        .route("/status", get(move || answer(for_status, move || json(&status.status()))))
        .route("/metrics", get(move || answer(for_metrics, move || prometheus(metrics.metrics()))))
        .layer(middleware::from_fn(move |request: Request, next: Next| ours(names.clone(), request, next)));
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(move || answer(for_ready, move || render(&ready.ready()))))
        .merge(facts)
        .fallback(|| async { (StatusCode::NOT_FOUND, "there is /livez, /readyz, /status and /metrics\n") })
}

/// Refuses facts to whoever means another host.
async fn ours(names: Arc<[String]>, request: Request, next: Next) -> Response {
    if host::is_ours(request.headers(), &names) {
        return next.run(request).await;
    }
    let text = "the request's one Host must be an IP address, localhost, or a name listed in listen.http_names\n";
    (StatusCode::MISDIRECTED_REQUEST, text).into_response()
}

/// Asks on a thread that may block: the database has locks of its own. Never more than [`ANSWERS`] of them.
async fn answer<T: IntoResponse + Send + 'static>(
    places: Arc<Semaphore>,
    ask: impl FnOnce() -> T + Send + 'static,
) -> Response {
    // Never closed.
    let place = places.acquire_owned().await;
    let asked = tokio::task::spawn_blocking(move || {
        let answer = ask();
        drop(place);
        answer
    });
    match asked.await {
        Ok(answer) => answer.into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("no answer: {error}\n")).into_response(),
    }
}

fn json(value: &serde_json::Value) -> impl IntoResponse + use<> {
    ([(header::CONTENT_TYPE, "application/json")], format!("{value:#}\n"))
}

fn prometheus(text: String) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

fn render(checks: &[Check]) -> impl IntoResponse + use<> {
    let mut text = String::new();
    for check in checks {
        match &check.result {
            Ok(()) => text.push_str(&format!("[+] {} ok\n", check.name)),
            Err(missing) if check.needed => text.push_str(&format!("[-] {} {missing}\n", check.name)),
            Err(advice) => text.push_str(&format!("[!] {} {advice}\n", check.name)),
        }
    }
    let code = match checks.iter().all(|check| check.result.is_ok() || !check.needed) {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, text)
}

#[cfg(test)]
mod tests;
