//! The middleware that steers requests by the `steering` field of their body, around mistral.rs's own handlers.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body::{Frame, SizeHint};
use http_body_util::LengthLimitError;
use serde_json::json;
use tracing::{Instrument, Span, field, info_span};

use super::auth;
use super::extension::AnswerExtension;
use super::object::Object;
use super::readout::ReadoutWriter;
use super::refusal::{Refusal, status};
use super::sse::EventBody;
use crate::config::{AdminOptions, Limits};
use crate::metrics::{Reason, SteeringOutcome};
use crate::spec::json;
use crate::{RequestSteering, SteeredRequest, Steering, SteeringError};

/// The header with the fingerprint of an answer's steering, or `none`.
pub const FINGERPRINT_HEADER: HeaderName = HeaderName::from_static("x-steering-fingerprint");

/// The metrics label of a model name that steering doesn't know.
const OTHER_MODEL: &str = "other";

/// The routes that take the `steering` field.
const STEERED: [&str; 3] = ["/v1/chat/completions", "/v1/completions", "/v1/responses"];

/// The routes on which the field is an error.
const NOT_STEERED: [&str; 3] = ["/v1/embeddings", "/v1/images/generations", "/v1/audio/speech"];

/// mistral.rs's routes that change what is served, such as unloading a model, or inspect the machine.
const CONTROL: [&str; 6] = [
    "/re_isq",
    "/v1/models/unload",
    "/v1/models/reload",
    "/v1/models/tune",
    "/v1/system/doctor",
    "/v1/system/info",
];

/// Those of them after which a served model's weights may be others: they are quantised again, or read again.
const CHANGES_WEIGHTS: [&str; 3] = ["/re_isq", "/v1/models/unload", "/v1/models/reload"];

/// Bodies up to this size are parsed on the async worker, in well under a millisecond; larger ones on a blocking
/// thread.
const SMALL_BODY_BYTES: usize = 16 << 10;

/// The state of the middleware.
#[derive(Clone)]
pub(super) struct Gate {
    steering: Steering,
    limits: Limits,
    admin: Arc<AdminOptions>,
}

impl Gate {
    pub(super) fn new(steering: Steering, limits: Limits, admin: AdminOptions) -> Self {
        Self {
            steering,
            limits,
            admin: Arc::new(admin),
        }
    }

    /// Reads a body and checks it against the limits.
    ///
    /// # Errors
    ///
    /// As [`SteeringBody::read`], or a body that exceeds the limits.
    fn read(&self, body: &[u8]) -> Result<Option<SteeringBody>, (Option<String>, Refusal, Reason)> {
        let steering_body = SteeringBody::read(body).map_err(|(model, refusal)| (model, refusal, Reason::Field))?;
        let Some(object) = steering_body.as_ref().and_then(|_| Object::parse(body)) else {
            return Ok(steering_body);
        };
        let model = steering_body
            .as_ref()
            .and_then(|steering_body| steering_body.model.clone());
        let context = match self.steering.snapshot().model(model.as_deref()) {
            Ok(model) => model.context,
            Err(_) => None,
        };
        match self.limits.check(&object, context) {
            Ok(()) => Ok(steering_body),
            Err(refusal) => Err((model, refusal, Reason::Body)),
        }
    }
}

/// The middleware: removes the field from the body, steers the request, and reports the steering in the answer.
///
/// Bodies that are not a JSON object are passed on unchanged, for mistral.rs to answer; so are requests of all other
/// routes.
pub(super) async fn steer(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let steering = gate.steering.clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_string());
    let route = route.as_deref().unwrap_or_default();
    if CONTROL.contains(&route) {
        if let Some(refused) = auth::refused(&gate.admin, &request) {
            return refused;
        }
        let response = next.run(request).await;
        if CHANGES_WEIGHTS.contains(&route) && response.status().is_success() {
            steering.weights_changed();
        }
        return response;
    }
    let steered = STEERED.contains(&route);
    let concerned = steered || NOT_STEERED.contains(&route);
    if request.method() != Method::POST || !concerned || !is_json(request.headers()) {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    let body = match read_body(&parts.headers, body, gate.limits.body_bytes).await {
        Ok(body) => body,
        Err(refusal) => return refuse(&steering, None, refusal, Reason::Body),
    };
    let read = if body.len() <= SMALL_BODY_BYTES {
        gate.read(&body)
    } else {
        let (gate, body) = (gate.clone(), body.clone());
        let read = tokio::task::spawn_blocking(move || gate.read(&body));
        match read.await {
            Ok(read) => read,
            Err(stopped) => {
                let message = format!("the body could not be read: {stopped}");
                let refusal = Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message);
                return refuse(&steering, None, refusal, Reason::Body);
            }
        }
    };
    let steering_body = match read {
        Ok(Some(steering_body)) => steering_body,
        Ok(None) => return next.run(Request::from_parts(parts, Body::from(body))).await,
        Err((model, refusal, reason)) => return refuse(&steering, model.as_deref(), refusal, reason),
    };
    let model = steering_body.model.as_deref();
    let field = steering_body.steering.as_ref();
    if field.is_some() && !steered {
        let expected = format!("the field only on {}", STEERED.join(", "));
        let refusal = Refusal::value("steering", format!("the field on {route}"), expected);
        return refuse(&steering, model, refusal, Reason::Route);
    }
    if field.is_some() && steering_body.background {
        let refusal = Refusal::value(
            "steering",
            "the field beside \"background\": true",
            "no background: such a response runs in a separate task, which can't be steered per request",
        );
        return refuse(&steering, model, refusal, Reason::Background);
    }
    let body = match steering_body.rest {
        Some(rest) => {
            parts.headers.remove(TRANSFER_ENCODING);
            parts.headers.insert(CONTENT_LENGTH, rest.len().into());
            Bytes::from(rest)
        }
        None => body,
    };
    let request = Request::from_parts(parts, Body::from(body));
    if !steered {
        return next.run(request).await;
    }
    let has_field = field.is_some();
    match steering
        .prepare(steering_body.model.as_deref(), steering_body.steering)
        .await
    {
        Ok(steered) => run(&steering, steered, steering_body.choices, request, next).await,
        // mistral.rs refuses unknown models itself, with the list of those it has.
        Err(error) if !has_field && status(&error) == StatusCode::NOT_FOUND => {
            steering.metrics().request(OTHER_MODEL, SteeringOutcome::Unsteered);
            next.run(request).await
        }
        Err(error) => {
            let reason = match status(&error) {
                StatusCode::FORBIDDEN => Reason::Policy,
                StatusCode::NOT_FOUND => Reason::Unknown,
                StatusCode::CONFLICT => Reason::Conflict,
                StatusCode::TOO_MANY_REQUESTS => Reason::Busy,
                _ => Reason::Spec,
            };
            refuse(&steering, model, of_spec(&error), reason)
        }
    }
}

/// The refusal of a spec, or of the model that it is for.
pub(super) fn of_spec(error: &SteeringError) -> Refusal {
    match error {
        SteeringError::NotFound { field, .. } if field == "model" => Refusal {
            param: Some("model".to_string()),
            code: Some("model_not_found"),
            ..Refusal::new(StatusCode::NOT_FOUND, error.to_string())
        },
        SteeringError::Forbidden { .. } => Refusal {
            param: Some("steering".to_string()),
            code: Some("steering_not_allowed"),
            ..Refusal::new(StatusCode::FORBIDDEN, error.to_string())
        },
        // Too many requests wait, or the error is the server's.
        _ if status(error) == StatusCode::TOO_MANY_REQUESTS || status(error).is_server_error() => Refusal {
            param: Some("steering".to_string()),
            ..Refusal::from(error)
        },
        _ => Refusal {
            param: Some("steering".to_string()),
            ..Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
        },
    }
}

/// The parts of a request's body that concern steering.
struct SteeringBody {
    /// `None` for mistral.rs's default model.
    model: Option<String>,
    steering: Option<RequestSteering>,
    background: bool,
    /// How many answers each prompt gets.
    choices: usize,
    /// The body without the field; `None` if it has none.
    rest: Option<String>,
}

impl SteeringBody {
    /// `None` if the body is not a JSON object.
    ///
    /// # Errors
    ///
    /// The body is not UTF-8, or it has a `steering` field that is there twice or invalid, or whose model is not a
    /// string. With the model, if it is known.
    fn read(body: &[u8]) -> Result<Option<Self>, (Option<String>, Refusal)> {
        // mistral.rs's reader skips fields that it doesn't know without checking their bytes, so `steering` would be
        // lost.
        if let Err(error) = std::str::from_utf8(body) {
            let found = format!("bytes that are not UTF-8, from byte {} on", error.valid_up_to());
            return Err((
                None,
                Refusal::new(StatusCode::BAD_REQUEST, format!("body: found {found}, expected JSON")),
            ));
        }
        let Some(mut object) = Object::parse(body) else {
            return Ok(None);
        };
        let fields = object.take("steering");
        let written = object.get("model").unwrap_or("\"default\"");
        let name = serde_json::from_str::<String>(written);
        let steering_body = Self {
            model: name.as_ref().ok().cloned(),
            steering: None,
            background: object.get("background") == Some("true"),
            choices: object.get("n").and_then(|n| serde_json::from_str(n).ok()).unwrap_or(1),
            rest: None,
        };
        let field = match fields.as_slice() {
            [] => return Ok(Some(steering_body)),
            [field] => *field,
            _ => {
                let refusal = Refusal::value("steering", "the key twice", "it once");
                return Err((steering_body.model, refusal));
            }
        };
        if name.is_err() {
            return Err((None, Refusal::value("model", written, "a model's name")));
        }
        match json::read(field.as_bytes(), "steering") {
            Ok(steering) => Ok(Some(Self {
                steering: Some(steering),
                rest: Some(object.to_json()),
                ..steering_body
            })),
            Err(error) => {
                let refusal = Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error.message);
                Err((steering_body.model, refusal))
            }
        }
    }
}

/// Lets mistral.rs answer the request, steered, with `choices` answers to each prompt.
async fn run(steering: &Steering, steered: SteeredRequest, choices: usize, request: Request, next: Next) -> Response {
    let (model, fingerprint) = (steered.model().to_string(), steered.fingerprint().map(str::to_string));
    let span = info_span!(
        "steered_request",
        model,
        fingerprint = fingerprint.as_deref().unwrap_or("none"),
        request_id = field::Empty,
    );
    let outcome = match fingerprint {
        Some(_) => SteeringOutcome::Steered,
        None => SteeringOutcome::Unsteered,
    };
    let mut response = steered.scope(next.run(request)).instrument(span.clone()).await;
    let usage = fingerprint.as_ref().map(|fingerprint| {
        let mut extension = json!({ "fingerprint": fingerprint });
        for (key, layers) in [
            ("clamped_layers", steered.clamped()),
            ("late_layers", &steered.late_layers()),
        ] {
            if !layers.is_empty() {
                extension[key] = json!(layers);
            }
        }
        extension.to_string()
    });
    let extension = AnswerExtension {
        usage,
        readout: steered
            .readings()
            .map(|readings| ReadoutWriter::new(readings.clone(), choices)),
    };
    // The engine reports every failure as an error of the request.
    let refused = steered
        .prompt_error()
        .filter(|_| response.status() == StatusCode::BAD_REQUEST);
    if let Some(reason) = &refused {
        let refusal = Refusal {
            param: Some("steering".to_string()),
            ..Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, reason)
        };
        response = readable(refusal);
    }
    let header = match &fingerprint {
        Some(fingerprint) => HeaderValue::try_from(fingerprint).ok(),
        None => Some(HeaderValue::from_static("none")),
    };
    if let Some(header) = header {
        response.headers_mut().insert(FINGERPRINT_HEADER, header);
        let exposed = HeaderValue::from_name(FINGERPRINT_HEADER);
        response.headers_mut().append(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    if refused.is_some() {
        steering.metrics().refused(&model, Reason::Prompt);
        return response;
    }
    steering.metrics().request(&model, outcome);
    match extension {
        extension if response.status() == StatusCode::OK && !extension.is_empty() => {
            match body_format(response.headers()) {
                BodyFormat::Events => events(response, extension, steered, span),
                BodyFormat::Json => document(response, extension).await,
                BodyFormat::Other => guarded(response, steered, span),
            }
        }
        _ => guarded(response, steered, span),
    }
}

/// A streamed answer.
fn events(response: Response, extension: AnswerExtension, steered: SteeredRequest, span: Span) -> Response {
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, Body::new(EventBody::new(body, extension, (steered, span))))
}

/// An answer that is one JSON document. It is complete, so nothing of the request has to be kept.
async fn document(response: Response, mut extension: AnswerExtension) -> Response {
    let (mut parts, body) = response.into_parts();
    let bytes = match to_bytes(body, usize::MAX).await {
        Ok(bytes) => bytes,
        Err(error) => return Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    };
    let extended = extension.extended(&bytes);
    let body = match extended {
        Some(json) => Bytes::from(json),
        None => bytes,
    };
    parts.headers.insert(CONTENT_LENGTH, body.len().into());
    Response::from_parts(parts, Body::from(body))
}

/// The unchanged answer, with the request kept until it has ended.
fn guarded(response: Response, steered: SteeredRequest, span: Span) -> Response {
    response.map(|inner| {
        Body::new(GuardedBody {
            inner,
            _guard: (steered, span),
        })
    })
}

/// A body that keeps a guard until it is dropped.
struct GuardedBody<G> {
    inner: Body,
    _guard: G,
}

impl<G: Unpin> http_body::Body for GuardedBody<G> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Whether a body consists of server-sent events.
pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    matches!(body_format(headers), BodyFormat::Events)
}

enum BodyFormat {
    Json,
    Events,
    Other,
}

fn body_format(headers: &HeaderMap) -> BodyFormat {
    match media_type(headers).as_str() {
        "text/event-stream" => BodyFormat::Events,
        "application/json" => BodyFormat::Json,
        _ => BodyFormat::Other,
    }
}

/// Whether axum's `Json`, which mistral.rs reads bodies with, accepts this media type.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let media_type = media_type(headers);
    let subtype = media_type.strip_prefix("application/");
    subtype.is_some_and(|subtype| subtype == "json" || subtype.ends_with("+json"))
}

/// The media type of a body, in lower case and without parameters; empty if there is none.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default();
    media_type.trim().to_ascii_lowercase()
}

/// Reads a body of at most `limit` bytes.
///
/// # Errors
///
/// The body is larger (413), or the client doesn't send all of it (400).
pub(super) async fn read_body(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Refusal> {
    let too_large = || Refusal::too_large("body", limit);
    if stated_length(headers).is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    to_bytes(body, limit).await.map_err(|error| {
        let error = error.into_inner();
        if error.is::<LengthLimitError>() {
            return too_large();
        }
        Refusal::new(StatusCode::BAD_REQUEST, format!("body: can't be read: {error}"))
    })
}

/// The value of `Content-Length`.
pub(super) fn stated_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn refuse(steering: &Steering, model: Option<&str>, refusal: Refusal, reason: Reason) -> Response {
    // A label is a model name that steering knows, never the client's text.
    let model = steering
        .model_info(model)
        .map_or(OTHER_MODEL.to_string(), |info| info.model);
    steering.metrics().refused(&model, reason);
    readable(refusal)
}

/// A refusal that web pages of other origins can read, as they can mistral.rs's answers. mistral.rs's own CORS layer
/// lies further in and does not see this answer.
fn readable(refusal: Refusal) -> Response {
    let any = HeaderValue::from_static("*");
    ([(ACCESS_CONTROL_ALLOW_ORIGIN, any)], refusal).into_response()
}
