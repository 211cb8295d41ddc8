//! Refusals of requests, in the shape of OpenAI's errors.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use steermap_extract::ExtractError;
use steermap_maps::ApplyError;

use crate::SteeringError;

/// A refusal of a request: `{"error": {"message", "type", "param", "code"}}`.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) message: String,
    /// The field of the request that is wrong.
    pub(super) param: Option<String>,
    /// OpenAI's code of the error.
    pub(super) code: Option<&'static str>,
    /// After how many seconds the client may try again.
    pub(super) retry_after: Option<u64>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let message = shortened(message.into());
        Self {
            status,
            message,
            param: None,
            code: None,
            retry_after: None,
        }
    }

    /// An invalid value: 422.
    pub(super) fn value(field: &str, found: impl AsRef<str>, expected: impl AsRef<str>) -> Self {
        let message = format!("{field}: found {}, expected {}", found.as_ref(), expected.as_ref());
        Self {
            param: Some(shortened(field.to_string())),
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, message)
        }
    }

    /// A body of another media type: 415.
    pub(super) fn content_type(found: &str, expected: &str) -> Self {
        let message = format!("content-type: found {found:?}, expected {expected}");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
    }

    /// A body of more than `limit` bytes: 413.
    pub(super) fn too_large(field: &str, limit: usize) -> Self {
        let message = format!("{field}: found more than {limit} bytes, expected at most {limit}");
        Self {
            param: Some(field.to_string()),
            ..Self::new(StatusCode::PAYLOAD_TOO_LARGE, message)
        }
    }
}

/// OpenAI's `type` of errors with this status.
fn error_type(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        status if status.is_client_error() => "invalid_request_error",
        _ => "server_error",
    }
}

/// Cuts the middle out of a long message. A client's value in it may be of any length; the field stands at the start
/// and what was expected at the end.
fn shortened(message: String) -> String {
    const MAX_CHARS: usize = 1000;
    let count = message.chars().count();
    if count <= MAX_CHARS {
        return message;
    }
    let start = message.chars().take(MAX_CHARS / 2);
    let end = message.chars().skip(count - MAX_CHARS / 2);
    start.chain("...".chars()).chain(end).collect()
}

impl Refusal {
    /// The refusal as OpenAI writes it.
    pub(super) fn to_json(&self) -> Value {
        json!({ "error": {
            "message": self.message, "type": error_type(self.status), "param": self.param, "code": self.code,
        }})
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.to_json())).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<&SteeringError> for Refusal {
    fn from(error: &SteeringError) -> Self {
        let refusal = Self::new(status(error), error.to_string());
        match error {
            SteeringError::Busy { seconds, .. } => Self {
                code: Some("rate_limit_exceeded"),
                retry_after: Some(*seconds),
                ..refusal
            },
            _ => refusal,
        }
    }
}

impl From<SteeringError> for Refusal {
    fn from(error: SteeringError) -> Self {
        (&error).into()
    }
}

/// The status of a refusal for `error`.
///
/// 404 for what does not exist, 409 for a conflict with what exists, 403 for what the operator does not allow, 429 if
/// too many requests wait, 500 if a change can't be written, a map's weights can't be read or are broken, or the engine
/// does not answer. Else 422: all other errors are in the request or the configuration.
pub(super) fn status(error: &SteeringError) -> StatusCode {
    match error {
        SteeringError::In { reason, .. } => status(reason),
        SteeringError::NotFound { .. } | SteeringError::NoModel { .. } => StatusCode::NOT_FOUND,
        SteeringError::Conflict { .. } => StatusCode::CONFLICT,
        SteeringError::Forbidden { .. } => StatusCode::FORBIDDEN,
        SteeringError::Busy { .. } => StatusCode::TOO_MANY_REQUESTS,
        SteeringError::State { .. }
        | SteeringError::Find {
            reason: ExtractError::Engine(_),
            ..
        }
        | SteeringError::Apply {
            reason: ApplyError::Weights { .. },
            ..
        } => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut_out_of_messages() {
        let refusal = Refusal::value("steering", "ä".repeat(1 << 20), "a map");
        assert_eq!(refusal.message.chars().count(), 1003);
        assert!(refusal.message.starts_with("steering: found ä") && refusal.message.ends_with("ä, expected a map"));
        assert_eq!(Refusal::value("a", "b", "c").message, "a: found b, expected c");
    }

    #[test]
    fn errors_have_the_status_of_their_cause() {
        let missing = || SteeringError::NotFound {
            field: "name".into(),
            found: "\"x\"".into(),
            expected: "a name".into(),
        };
        let within = SteeringError::In {
            path: "a.toml".into(),
            reason: Box::new(missing()),
        };
        assert_eq!(status(&missing()), StatusCode::NOT_FOUND);
        assert_eq!(status(&within), StatusCode::NOT_FOUND);
        assert_eq!(
            status(&SteeringError::value("a", "b", "c")),
            StatusCode::UNPROCESSABLE_ENTITY
        );
    }
}
