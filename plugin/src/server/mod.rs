//! The HTTP side: mistral.rs's own router with steering around it.
//!
//! | module | role |
//! | --- | --- |
//! | `requests` | the middleware: reads the `steering` field of a request, and reports the steering in the answer |
//! | `extension`, `usage`, `readout` | what is added to answers: a field of the usage block, and readouts |
//! | `sse`, `object` | server-sent events, and JSON objects whose other members stay byte for byte |
//! | `admin`, `upload`, `openapi` | the admin routes, the form of an upload, their description |
//! | `engine_doc` | the middleware that adds the `steering` field to mistral.rs's own description |
//! | `limits` | what a request may cost |
//! | `auth` | who may use the admin routes: the token, and the rule without one |
//! | `playground` | the playground's page, and the route it reads its state from |
//! | `refusal` | refusals, in the shape of OpenAI's errors |
//! | `errors` | the middleware that gives this shape to axum's own errors |
//! | `unread` | the middleware that reads the rest of a body before an error is answered |

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::{Router, middleware};

use crate::Steering;
use crate::config::{AdminOptions, Limits};
use refusal::Refusal;
use requests::Gate;

mod admin;
mod auth;
mod engine_doc;
mod errors;
mod extension;
mod limits;
mod object;
mod openapi;
mod playground;
mod readout;
mod refusal;
mod requests;
mod sse;
mod unread;
mod upload;
mod usage;

pub use requests::FINGERPRINT_HEADER;
pub(crate) use requests::is_event_stream;

/// The answer of a server that is unavailable: 503, with `message`.
pub(crate) fn unavailable(message: &str) -> impl IntoResponse + use<> {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message)
}

/// The same as the last events of a stream, with OpenAI's error code `code`.
pub(crate) fn unavailable_events(message: &str, code: &'static str) -> Bytes {
    let refusal = Refusal {
        code: Some(code),
        ..Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message)
    };
    format!("data: {}\n\ndata: [DONE]\n\n", refusal.to_json()).into()
}

/// Adds steering to mistral.rs's router.
///
/// `POST` on `/v1/chat/completions`, `/v1/completions` and `/v1/responses` takes a `steering` field. Their answers have
/// the header [`FINGERPRINT_HEADER`], and `limits` bounds what a request costs. The new routes are those under
/// `/v1/steering`, for whom `admin` allows, `/metrics` and `/api-doc/steering.json`, which are open, and the playground
/// if `with_playground`. mistral.rs's own routes that change what is served are restricted like the admin routes.
/// Errors have OpenAI's shape on all routes.
pub fn wrap(router: Router, steering: Steering, admin: AdminOptions, limits: Limits, with_playground: bool) -> Router {
    let gate = Gate::new(steering.clone(), limits, admin.clone());
    let router = router.layer(middleware::from_fn(engine_doc::with_steering));
    let steered = router.layer(middleware::from_fn_with_state(gate, requests::steer));
    let mut all = steered
        .merge(admin::router(steering.clone(), admin.clone()))
        .merge(openapi::router());
    if with_playground {
        all = all
            .layer(middleware::from_fn(playground::front))
            .merge(playground::router(steering, admin));
    }
    all.fallback(errors::no_such_route)
        .layer(middleware::from_fn(errors::shaped))
        .layer(middleware::from_fn(unread::read_to_end))
}

#[cfg(test)]
mod tests;
