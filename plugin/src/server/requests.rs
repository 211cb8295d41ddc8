//! Steering of a request: the `steering` field of its body, around mistral.rs's own handlers.

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

use super::auth::{self, AdminOptions};
use super::limits::Limits;
use super::object::{self, Object};
use super::readout::ReadoutWriter;
use super::refusal::{Refusal, status};
use super::said::Said;
use super::sse::EventBody;
use crate::metrics::{Outcome, Reason};
use crate::{RequestSteering, SteeredRequest, Steering, SteeringError};

/// The header that says what an answer was steered with: the fingerprint, or `none`.
pub const FINGERPRINT_HEADER: HeaderName = HeaderName::from_static("x-steering-fingerprint");

/// The label of a model that the request names and steering doesn't know.
const OTHER_MODEL: &str = "other";

/// Where the `steering` field is for.
const STEERED: [&str; 3] = ["/v1/chat/completions", "/v1/completions", "/v1/responses"];

/// Where it is a mistake.
const NOT_STEERED: [&str; 3] = ["/v1/embeddings", "/v1/images/generations", "/v1/audio/speech"];

/// mistral.rs's routes that change what is served, or look at the machine: anybody could take the model away.
const CONTROL: [&str; 6] = [
    "/re_isq",
    "/v1/models/unload",
    "/v1/models/reload",
    "/v1/models/tune",
    "/v1/system/doctor",
    "/v1/system/info",
];

/// Bodies up to this size are read where they arrive, which takes well under a millisecond; larger ones leave the async
/// worker.
const SMALL_BODY_BYTES: usize = 16 << 10;

/// What the middleware needs.
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

    /// Reads a body and checks what it asks for against the limits.
    ///
    /// # Errors
    ///
    /// As [`Asked::read`], or a body that asks for more than it may.
    fn read(&self, body: &[u8]) -> Result<Option<Asked>, (Option<String>, Refusal, Reason)> {
        let asked = Asked::read(body).map_err(|(model, refusal)| (model, refusal, Reason::Field))?;
        let Some(object) = asked.as_ref().and_then(|_| Object::parse(body)) else {
            return Ok(asked);
        };
        let model = asked.as_ref().and_then(|asked| asked.model.clone());
        let context = match self.steering.snapshot().model(model.as_deref()) {
            Ok(model) => model.context,
            Err(_) => None,
        };
        match self.limits.check(&object, context) {
            Ok(()) => Ok(asked),
            Err(refusal) => Err((model, refusal, Reason::Body)),
        }
    }
}

/// The middleware: takes the field out of the body, steers the request, and says so in the answer.
///
/// Bodies that are no JSON object are handed on untouched, for mistral.rs to answer; so are all other routes.
pub(super) async fn steer(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let steering = gate.steering.clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_string());
    let route = route.as_deref().unwrap_or_default();
    if CONTROL.contains(&route)
        && let Some(refused) = auth::refused(&gate.admin, &request)
    {
        return refused;
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
    let asked = match read {
        Ok(Some(asked)) => asked,
        Ok(None) => return next.run(Request::from_parts(parts, Body::from(body))).await,
        Err((model, refusal, reason)) => return refuse(&steering, model.as_deref(), refusal, reason),
    };
    let model = asked.model.as_deref();
    let field = asked.steering.as_ref();
    if field.is_some() && !steered {
        let expected = format!("it on {}", STEERED.join(", "));
        let refusal = Refusal::value("steering", format!("the field on {route}"), expected);
        return refuse(&steering, model, refusal, Reason::Route);
    }
    if field.is_some() && asked.background {
        let refusal = Refusal::value(
            "steering",
            "the field beside \"background\": true",
            "no background, since a task of its own runs such a response, which can't be steered per request",
        );
        return refuse(&steering, model, refusal, Reason::Background);
    }
    let body = match asked.rest {
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
    match steering.prepare(asked.model.as_deref(), asked.steering).await {
        Ok(steered) => run(&steering, steered, asked.choices, request, next).await,
        // mistral.rs knows best which models there are, and says so.
        Err(error) if !has_field && status(&error) == StatusCode::NOT_FOUND => {
            steering.metrics().request(OTHER_MODEL, Outcome::Unsteered);
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

/// Why a spec, or the model that it is for, is refused.
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
        // Too many that wait, or what is no fault of the request.
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

/// What a body asks for, as far as it concerns steering.
struct Asked {
    /// `None` for mistral.rs's default model.
    model: Option<String>,
    steering: Option<RequestSteering>,
    background: bool,
    /// How many answers each prompt is to have.
    choices: usize,
    /// The body without the field; `None` if it has none.
    rest: Option<String>,
}

impl Asked {
    /// `None` if the body is no JSON object.
    ///
    /// # Errors
    ///
    /// A body that is no UTF-8, or a `steering` field that is there twice, is none, or stands beside a model that is no
    /// name. With the model, where it is known.
    fn read(body: &[u8]) -> Result<Option<Self>, (Option<String>, Refusal)> {
        // mistral.rs's reader skips fields that it doesn't know without looking at their bytes: `steering` would be lost.
        if let Err(error) = std::str::from_utf8(body) {
            let found = format!("bytes that are no UTF-8, from byte {} on", error.valid_up_to());
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
        let model = name.as_ref().ok().filter(|name| *name != "default").cloned();
        let asked = Self {
            model,
            steering: None,
            background: object.get("background") == Some("true"),
            choices: object.get("n").and_then(|n| serde_json::from_str(n).ok()).unwrap_or(1),
            rest: None,
        };
        let field = match fields.as_slice() {
            [] => return Ok(Some(asked)),
            [field] => *field,
            _ => {
                let refusal = Refusal::value("steering", "the key twice", "it once");
                return Err((asked.model, refusal));
            }
        };
        if name.is_err() {
            return Err((None, Refusal::value("model", written, "a model's name")));
        }
        match object::read(field.as_bytes(), "steering") {
            Ok(steering) => Ok(Some(Self {
                steering: Some(steering),
                rest: Some(object.to_json()),
                ..asked
            })),
            Err(mistake) => {
                let refusal = Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, mistake.message);
                Err((asked.model, refusal))
            }
        }
    }
}

/// Has mistral.rs answer the request, steered, with `choices` answers to each prompt.
async fn run(steering: &Steering, steered: SteeredRequest, choices: usize, request: Request, next: Next) -> Response {
    let (model, fingerprint) = (steered.model().to_string(), steered.fingerprint().map(str::to_string));
    let span = info_span!(
        "steered_request",
        model,
        fingerprint = fingerprint.as_deref().unwrap_or("none"),
        request_id = field::Empty,
    );
    let outcome = match fingerprint {
        Some(_) => Outcome::Steered,
        None => Outcome::Unsteered,
    };
    let mut response = steered.scope(next.run(request)).instrument(span.clone()).await;
    let usage = fingerprint.as_ref().map(|fingerprint| {
        let mut said = json!({ "fingerprint": fingerprint });
        for (key, layers) in [
            ("clamped_layers", steered.clamped()),
            ("late_layers", &steered.late_layers()),
        ] {
            if !layers.is_empty() {
                said[key] = json!(layers);
            }
        }
        said.to_string()
    });
    let said = Said {
        usage,
        readout: steered
            .readings()
            .map(|readings| ReadoutWriter::new(readings.clone(), choices)),
    };
    // The engine says that the request is wrong, whatever is wrong with it.
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
    match said {
        said if response.status() == StatusCode::OK && !said.is_nothing() => match kind(response.headers()) {
            Kind::Events => events(response, said, steered, span),
            Kind::Json => document(response, said).await,
            Kind::Other => guarded(response, steered, span),
        },
        _ => guarded(response, steered, span),
    }
}

/// A streamed answer.
fn events(response: Response, said: Said, steered: SteeredRequest, span: Span) -> Response {
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, Body::new(EventBody::new(body, said, (steered, span))))
}

/// An answer that is one JSON document. It is complete, so nothing of the request need be kept for it.
async fn document(response: Response, mut said: Said) -> Response {
    let (mut parts, body) = response.into_parts();
    let bytes = match to_bytes(body, usize::MAX).await {
        Ok(bytes) => bytes,
        Err(error) => return Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    };
    let extended = said.extended(&bytes);
    let body = match extended {
        Some(json) => Bytes::from(json),
        None => bytes,
    };
    parts.headers.insert(CONTENT_LENGTH, body.len().into());
    Response::from_parts(parts, Body::from(body))
}

/// An answer as it is, with the request kept until it has ended.
fn guarded(response: Response, steered: SteeredRequest, span: Span) -> Response {
    response.map(|inner| {
        Body::new(Guarded {
            inner,
            _guard: (steered, span),
        })
    })
}

/// A body that keeps something until it is dropped.
struct Guarded<G> {
    inner: Body,
    _guard: G,
}

impl<G: Unpin> http_body::Body for Guarded<G> {
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

/// Whether a body is one of server-sent events.
pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    matches!(kind(headers), Kind::Events)
}

enum Kind {
    Json,
    Events,
    Other,
}

fn kind(headers: &HeaderMap) -> Kind {
    match media_type(headers).as_str() {
        "text/event-stream" => Kind::Events,
        "application/json" => Kind::Json,
        _ => Kind::Other,
    }
}

/// Whether axum's `Json`, which reads the bodies in mistral.rs, takes such a body for JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let media_type = media_type(headers);
    let subtype = media_type.strip_prefix("application/");
    subtype.is_some_and(|subtype| subtype == "json" || subtype.ends_with("+json"))
}

/// The media type of a body, in lower case and without parameters; empty if it isn't said.
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
/// A body that is larger (413), or that the client doesn't send whole (400).
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

/// What `Content-Length` says.
pub(super) fn stated_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn refuse(steering: &Steering, model: Option<&str>, refusal: Refusal, reason: Reason) -> Response {
    // A label is a name that steering knows, never the client's text.
    let model = steering
        .model_info(model)
        .map_or(OTHER_MODEL.to_string(), |info| info.model);
    steering.metrics().refused(&model, reason);
    readable(refusal)
}

/// A refusal that web pages can read, as they can all answers of mistral.rs's routes: its rule for them is inside.
fn readable(refusal: Refusal) -> Response {
    let any = HeaderValue::from_static("*");
    ([(ACCESS_CONTROL_ALLOW_ORIGIN, any)], refusal).into_response()
}
