//! Answers that refuse a request, in the shape of OpenAI's errors.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use steermap_extract::ExtractError;
use steermap_maps::ApplyError;

use crate::SteeringError;

/// A request that is not answered: `{"error": {"message", "type", "param", "code"}}`.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) message: String,
    /// The field of the request that is wrong.
    pub(super) param: Option<String>,
    /// OpenAI's name of the mistake.
    pub(super) code: Option<&'static str>,
    /// After how many seconds the same request may be answered.
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

    /// A value that can't be right: 422.
    pub(super) fn value(field: &str, found: impl AsRef<str>, expected: impl AsRef<str>) -> Self {
        let message = format!("{field}: found {}, expected {}", found.as_ref(), expected.as_ref());
        Self {
            param: Some(shortened(field.to_string())),
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, message)
        }
    }

    /// A body of another kind: 415.
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

/// What OpenAI calls errors of this status.
fn kind(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        status if status.is_client_error() => "invalid_request_error",
        _ => "server_error",
    }
}

/// A message that names a client's value may be as long as that: what is kept is where it is, and what was expected.
fn shortened(message: String) -> String {
    const MOST: usize = 1000;
    let count = message.chars().count();
    if count <= MOST {
        return message;
    }
    let start = message.chars().take(MOST / 2);
    let end = message.chars().skip(count - MOST / 2);
    start.chain("...".chars()).chain(end).collect()
}

impl Refusal {
    /// The refusal as OpenAI writes it.
    pub(super) fn to_json(&self) -> Value {
        json!({ "error": {
            "message": self.message, "type": kind(self.status), "param": self.param, "code": self.code,
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

/// The status of an answer that is refused for `error`.
///
/// 404 for what is not there, 409 for what does not go with what is there, 403 for what the operator doesn't allow, 500 for a
/// change that can't be written, a map whose weights can't be read or are broken and an engine that does not answer, 429 where
/// too many wait, else 422: all other mistakes that
/// steering finds are in what it was asked or configured to do.
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
