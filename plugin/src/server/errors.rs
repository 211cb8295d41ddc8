//! Errors that axum itself answers with, as plain text or without a body.

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::refusal::Refusal;
use super::requests::media_type;

/// The most bytes of such an answer that are read. It is usually one sentence.
const MOST_BYTES: usize = 64 << 10;

/// The answer to a request for a path without a route.
pub(super) async fn no_such_route(method: Method, uri: Uri) -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        format!("there is no route {method} {}", uri.path()),
    )
}

/// The middleware that gives OpenAI's shape to errors that are not JSON. Status and headers stay, with one exception:
/// axum's JSON reader answers 422 to a value of the wrong type, which is 400 with OpenAI.
pub(super) async fn shaped(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_string());
    let response = next.run(request).await;
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    if !is_error || media_type(response.headers()) == "application/json" {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let text = match to_bytes(body, MOST_BYTES).await {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => error.to_string(),
    };
    let message = match (status, text.is_empty()) {
        (_, false) => text,
        (StatusCode::METHOD_NOT_ALLOWED, true) => format!("{path} doesn't take {method}"),
        (_, true) => status.canonical_reason().unwrap_or("unknown error").to_string(),
    };
    if parts.status == StatusCode::UNPROCESSABLE_ENTITY {
        parts.status = StatusCode::BAD_REQUEST;
    }
    let (of_refusal, body) = Refusal::new(parts.status, message).into_response().into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    if let Some(content_type) = of_refusal.headers.get(CONTENT_TYPE) {
        parts.headers.insert(CONTENT_TYPE, content_type.clone());
    }
    Response::from_parts(parts, body)
}
