//! The router under test, and what stands for mistral.rs in it.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::DefaultBodyLimit;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use futures::stream;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::Library;
use crate::compile::Target;
use crate::config::{AdminOptions, AdminToken, Limits};
use crate::gguf;
use crate::server::wrap;
use crate::steering::{Model, Snapshot, Steering};

/// The message of a spec that does not fit the prompt, as the engine gives it.
pub(super) const PROMPT_ERROR: &str =
    "steering.vectors[0].apply.prompt.positions[0]: found 40, expected one of the prompt's 12 positions";

/// The token of [`with_token`].
pub(super) const TOKEN: &str = "s3cret";

/// A stream of a chat completion.
pub(super) const CHAT_STREAM: &str = "data: {\"choices\":[{\"finish_reason\":null}],\"usage\":null}\n\n: \n\n\
    data: {\"choices\":[{\"finish_reason\":\"stop\"}],\"usage\":{\"total_tokens\":3,\"avg\":1.50}}\n\ndata: [DONE]\n\n";

/// Streams of `/v1/responses`.
pub(super) const RESPONSES_STREAM: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{}}\n\n\
    event: response.completed\n\
    data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"total_tokens\":3}}}\n\ndata: [DONE]\n\n";

/// A server of the model `tiny`, 4 layers of width 3, with the vectors `happy` and `sad`.
pub(super) fn steering() -> Steering {
    let info = gguf::tests::model(3, 4);
    let model = Model {
        id: info.model.clone(),
        names: Vec::new(),
        target: Target {
            model: info.model.clone(),
            hidden_size: info.hidden_size,
            num_layers: info.num_layers,
            fingerprint: Some(info.fingerprint.clone()),
            dtype: None,
        },
        layers: (0..info.num_layers).collect(),
        chat: false,
        architecture: None,
        tokenizer: None,
        texts: Arc::new(crate::token_texts::TokenTexts::new(None)),
        context: None,
        refusal: None,
        bound: None,
        default: None,
        configured: None,
        overridden: false,
    };
    let snapshot = Snapshot::new(Library::default(), vec![model], Some(info.model.clone()));
    let steering = Steering::with_snapshot(snapshot, None, None, None);
    for name in ["happy", "sad"] {
        let vector = gguf::read(&gguf::tests::good(), name, info.clone()).unwrap();
        steering.insert_vector(name, vector, 10, 1 << 20).unwrap();
    }
    steering
}

/// Admin routes for programs on this machine, uploads allowed.
pub(super) fn local() -> AdminOptions {
    AdminOptions {
        open_on_loopback: true,
        uploads: true,
        max_upload_bytes: 1 << 16,
        max_vectors: 3,
        ..AdminOptions::default()
    }
}

/// Admin routes for whoever has [`TOKEN`].
pub(super) fn with_token() -> AdminOptions {
    AdminOptions {
        token: Some(AdminToken::new(TOKEN, "test").unwrap()),
        open_on_loopback: false,
        ..local()
    }
}

/// The whole server.
pub(super) fn server(steering: &Steering, admin: AdminOptions) -> Router {
    let engine = Router::new()
        .route("/v1/chat/completions", post(answer).get(async || "listed"))
        .route("/v1/completions", post(answer))
        .route("/v1/responses", post(answer))
        .route("/v1/embeddings", post(answer))
        .route("/v1/images/generations", post(answer))
        .route("/v1/audio/speech", post(answer))
        .route("/v1/models/status", post(answer))
        .route("/v1/models/unload", post(answer))
        .route("/re_isq", post(answer))
        .route("/health", get(async || "OK"))
        .layer(Extension(steering.clone()))
        .layer(DefaultBodyLimit::max(50 << 20));
    wrap(engine, steering.clone(), admin, Limits::default(), true)
}

/// Answers with the body it got, and under which steering, in the shapes of mistral.rs.
async fn answer(Extension(steering): Extension<Steering>, headers: HeaderMap, body: Bytes) -> Response {
    let admitted = steering.admit_as_the_engine_does(&[1; 12]);
    let scope = match &admitted {
        None => "outside".to_string(),
        Some(Ok(program)) => program.as_ref().map_or("none".to_string(), |p| p.fingerprint.clone()),
        Some(Err(reason)) => reason.clone(),
    };
    let text = String::from_utf8_lossy(&body).into_owned();
    let asks = |what: &str| text.contains(what);
    if let Some(Err(reason)) = admitted {
        assert_eq!(reason, PROMPT_ERROR);
        let error = json!({ "message": PROMPT_ERROR, "type": "invalid_request_error", "param": null, "code": null });
        return (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response();
    }
    let mut response = match asks("\"stream\":true") {
        true if asks("input") => events(RESPONSES_STREAM),
        true => events(CHAT_STREAM),
        false => {
            let length = headers
                .get("content-length")
                .map(|length| length.to_str().unwrap().to_string());
            let usage = json!({ "total_tokens": 3 });
            Json(json!({ "echo": text, "length": length, "logprob": -0.1, "usage": usage })).into_response()
        }
    };
    response.headers_mut().insert("x-scope", scope.parse().unwrap());
    response
}

/// A stream that comes in pieces of five bytes.
fn events(text: &str) -> Response {
    let pieces: Vec<Result<Bytes, Infallible>> = text
        .as_bytes()
        .chunks(5)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    (
        [(CONTENT_TYPE, "text/event-stream")],
        Body::from_stream(stream::iter(pieces)),
    )
        .into_response()
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// What an error says.
    pub(super) fn message(&self) -> String {
        let json = self.json();
        assert_eq!(json.as_object().map(|object| object.len()), Some(1), "{}", self.text);
        let members = ["message", "type", "param", "code"];
        let error = json["error"].as_object().unwrap_or_else(|| panic!("{}", self.text));
        assert!(error.keys().eq(members), "{}", self.text);
        error["message"]
            .as_str()
            .unwrap_or_else(|| panic!("{}", self.text))
            .to_string()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// Sends a request and reads the whole answer.
pub(super) async fn send(server: &Router, request: Request<Body>) -> Answer {
    let response = server.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    Answer {
        status: parts.status,
        headers: parts.headers,
        text: String::from_utf8(bytes.to_vec()).unwrap(),
    }
}

/// Posts JSON.
pub(super) async fn post_json(server: &Router, path: &str, body: impl Into<Body>) -> Answer {
    send(server, json_request("POST", path, body)).await
}

/// A request with a JSON body.
pub(super) fn json_request(method: &str, path: &str, body: impl Into<Body>) -> Request<Body> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(CONTENT_TYPE, "application/json");
    request.body(body.into()).unwrap()
}

/// A form, with its content type.
pub(super) fn form(fields: &[(&str, &[u8])]) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (name, value) in fields {
        // The file name is one that no server should ever use.
        let head = format!("--XX\r\ncontent-disposition: form-data; name=\"{name}\"; filename=\"../../evil\"\r\n\r\n");
        body.extend(head.as_bytes());
        body.extend(*value);
        body.extend(b"\r\n");
    }
    body.extend(b"--XX--\r\n");
    ("multipart/form-data; boundary=XX".to_string(), body)
}

/// An upload.
pub(super) fn upload(fields: &[(&str, &[u8])]) -> Request<Body> {
    let (content_type, body) = form(fields);
    let request = Request::post("/v1/steering/vectors").header(CONTENT_TYPE, content_type);
    request.body(body.into()).unwrap()
}

/// A vector file for `tiny`: the TOML and the tensors.
pub(super) fn vector_files() -> (String, Vec<u8>) {
    let vector = gguf::read(&gguf::tests::good(), "glad", gguf::tests::model(3, 4)).unwrap();
    let parts = vector.to_parts("glad").unwrap();
    (parts.toml, parts.tensors)
}
