//! `POST /backup`: who may ask for a copy of the data, and what is answered.

use std::net::SocketAddr;
use std::path::PathBuf;

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Operator;

/// Makes the backup and says how that went.
pub(super) async fn answer(
    operator: &dyn Operator,
    address: SocketAddr,
    headers: &HeaderMap,
    body: &Bytes,
) -> Response {
    let reply = |code: StatusCode, facts: Value| {
        (code, [(header::CONTENT_TYPE, "application/json")], format!("{facts:#}\n")).into_response()
    };
    let refuse = |code, why: &str| reply(code, json!({ "error": why }));
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
        Ok(()) => reply(StatusCode::OK, json!({ "backup": output.display().to_string() })),
        Err(why) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &why),
    }
}
