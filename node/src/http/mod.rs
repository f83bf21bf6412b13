//! Operator endpoints, plain HTTP, loopback by default.
//!
//! - `/livez`: the process serves; never fails for lack of a quorum or of disk.
//! - `/readyz`: named checks, one a line; 503 while one fails.
//! - `/status`: facts as JSON.
//! - `/metrics`: Prometheus text.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// One named check of `/readyz`.
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// `Ok`, or what is missing.
    pub result: Result<(), String>,
}

/// Where the answers come from.
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
/// One sentence naming the address.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| {
        format!("cannot listen on {address} (listen.http): {error}; choose another port or stop what uses it")
    })
}

/// Serves until `shutdown` is cancelled.
///
/// # Errors
/// What the socket said.
pub async fn serve(
    listener: TcpListener,
    operator: Arc<dyn Operator>,
    shutdown: CancellationToken,
) -> Result<(), std::io::Error> {
    let (ready, status, metrics) = (operator.clone(), operator.clone(), operator);
    let json = |value: serde_json::Value| ([(header::CONTENT_TYPE, "application/json")], format!("{value:#}\n"));
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(move || async move { render(&ready.ready()) }))
        .route("/status", get(move || async move { json(status.status()) }))
        .route(
            "/metrics",
            get(move || async move { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.metrics()) }),
        );
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

fn render(checks: &[Check]) -> impl IntoResponse + use<> {
    let mut text = String::new();
    for check in checks {
        match &check.result {
            Ok(()) => text.push_str(&format!("[+] {} ok\n", check.name)),
            Err(missing) => text.push_str(&format!("[-] {} {missing}\n", check.name)),
        }
    }
    let code = match checks.iter().all(|check| check.result.is_ok()) {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, text)
}
