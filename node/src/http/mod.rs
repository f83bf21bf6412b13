//! Operator endpoints, plain HTTP, loopback by default.
//!
//! - `/livez`: the process serves; never fails for lack of a quorum or of disk.
//! - `/readyz`: named checks, one a line; 503 while one fails that the node needs, `[-]`; `[!]` is for operators and fails nothing.
//! - `/status`: facts as JSON.
//! - `/metrics`: Prometheus text.
//! - `POST /backup` with `{"output": "/absolute/path"}`: has the node copy its data there, see [`crate::backup`]. Only where the
//!   endpoint listens on loopback, and only for requests that name its address as their host and JSON as their type: no web page
//!   can send those.
//!
//! Promises: at most [`MAX_CONNECTIONS`] connections at once, the others wait in the kernel; whoever does not finish a
//! request, or does not read its answer, is closed in bounded time. An answer never blocks a runtime thread.

mod backup;
mod serve;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;

pub use serve::{MAX_CONNECTIONS, serve};

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
    /// Copies the data to a directory; one sentence where that fails.
    fn backup(&self, output: PathBuf) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;
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

fn router(operator: Arc<dyn Operator>, address: SocketAddr) -> Router {
    let (ready, status, metrics) = (operator.clone(), operator.clone(), operator.clone());
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(move || answer(move || render(&ready.ready()))))
        .route("/status", get(move || answer(move || json(&status.status()))))
        .route("/metrics", get(move || answer(move || prometheus(metrics.metrics()))))
        .route(
            "/backup",
            post(move |headers, body| async move { backup::answer(&*operator, address, &headers, &body).await }),
        )
        .fallback(|| async {
            (StatusCode::NOT_FOUND, "there is /livez, /readyz, /status, /metrics and POST /backup\n")
        })
}

/// Asks on a thread that may block: the database has locks of its own.
async fn answer<T: IntoResponse + Send + 'static>(ask: impl FnOnce() -> T + Send + 'static) -> Response {
    match tokio::task::spawn_blocking(ask).await {
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
