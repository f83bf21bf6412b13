//! Operator endpoints, plain HTTP, loopback by default.
//!
//! - `/livez`: the process serves; never fails for lack of a quorum or of disk.
//! - `/readyz`: named checks, one a line; 503 while one fails.
//! - `/status`: facts as JSON.
//! - `/metrics`: Prometheus text.
//! - `POST /backup` with `{"output": "/absolute/path"}`: has the node copy its data there, see [`crate::backup`]. Only where the
//!   endpoint listens on loopback, and only for requests that name its address as their host and JSON as their type: no web page
//!   can send those.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
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
    /// Copies the data to a directory; one sentence where that fails.
    fn backup(&self, output: PathBuf) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;
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
    let address = listener.local_addr()?;
    let (ready, status, metrics, copies) = (operator.clone(), operator.clone(), operator.clone(), operator);
    let json = |value: serde_json::Value| ([(header::CONTENT_TYPE, "application/json")], format!("{value:#}\n"));
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(move || async move { render(&ready.ready()) }))
        .route("/status", get(move || async move { json(status.status()) }))
        .route(
            "/metrics",
            get(move || async move { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.metrics()) }),
        )
        .route(
            "/backup",
            post(
                move |headers: HeaderMap, body: Bytes| async move { backup(&*copies, address, &headers, &body).await },
            ),
        );
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

async fn backup(operator: &dyn Operator, address: SocketAddr, headers: &HeaderMap, body: &Bytes) -> Response {
    let answer = |code: StatusCode, facts: Value| {
        (code, [(header::CONTENT_TYPE, "application/json")], format!("{facts:#}\n")).into_response()
    };
    let refuse = |code, why: &str| answer(code, json!({ "error": why }));
    let is = |name: header::HeaderName, value: &str| headers.get(name).is_some_and(|found| found == value);
    if !address.ip().is_loopback() {
        return refuse(StatusCode::FORBIDDEN, "backups are only made where listen.http is a loopback address");
    }
    if !is(header::HOST, &address.to_string()) || !is(header::CONTENT_TYPE, "application/json") {
        return refuse(
            StatusCode::FORBIDDEN,
            "the request must name the endpoint's address as its host, and JSON as its type",
        );
    }
    let facts: Value = serde_json::from_slice(body).unwrap_or_default();
    let Some(output) = facts["output"].as_str().map(PathBuf::from) else {
        return refuse(StatusCode::BAD_REQUEST, "the body must be {\"output\": \"/absolute/path\"}");
    };
    match operator.backup(output.clone()).await {
        Ok(()) => answer(StatusCode::OK, json!({ "backup": output.display().to_string() })),
        Err(why) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &why),
    }
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
