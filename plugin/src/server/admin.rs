//! The admin routes: what there is to steer with, and changes to it while the server runs.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Path, Query, Request, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router, middleware};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use steermap_extract::Text;
use steermap_maps::VectorPart;
use utoipa::ToSchema;

use super::auth::{self, Caller};
use super::object::Object;
use super::refusal::Refusal;
use super::requests::{is_json, media_type, of_spec, read_body, stated_length};
use super::upload::Upload;
use crate::config::AdminOptions;
use crate::name::check_name;
use crate::spec::{PairsVector, json};
use crate::{Metrics, RequestSteering, Steering, SteeringError, SteeringSpec, spec};

/// The most bytes of a default spec. A spec whose lists are all at their limits fits.
const MAX_SPEC_BYTES: usize = 4 << 20;

/// The most bytes of a body that asks for a vector to be found. `request_bytes` bounds the texts in it.
const MAX_FIND_BYTES: usize = 16 << 20;

/// The most bytes of a prompt in a dry run. The engine tokenises it ahead of other work, though no answer is generated.
const MAX_CHECKED_PROMPT_BYTES: usize = 16 << 10;

/// The most bytes of a vector's concept.
const MAX_CONCEPT_BYTES: usize = 1024;

#[derive(Clone)]
pub(super) struct Admin {
    steering: Steering,
    options: Arc<AdminOptions>,
}

/// The admin routes, behind the token if one is set, else only if they are open on loopback; and the routes that are
/// open to all: the dry run (of what requests may ask for in any case) and the counters.
pub(super) fn router(steering: Steering, options: AdminOptions) -> Router {
    let options = Arc::new(options);
    let admin = Admin {
        steering,
        options: options.clone(),
    };
    let guarded = Router::new()
        .route("/v1/steering", get(describe))
        .route("/v1/steering/default", put(set_default))
        .route("/v1/steering/vectors", post(insert_vector))
        .route("/v1/steering/vectors/{name}", get(read_vector).delete(remove_vector))
        .route("/v1/steering/reload", post(reload))
        .route("/v1/steering/history", get(history))
        .route("/v1/steering/restore", post(restore))
        .route("/v1/steering/schema", get(schema))
        .route_layer(middleware::from_fn_with_state(options.clone(), auth::require))
        .layer(DefaultBodyLimit::max(options.max_upload_bytes));
    let open = Router::new()
        .route("/v1/steering/check", post(check))
        .route("/metrics", get(metrics));
    // Nobody could use the admin routes, so they are not mounted.
    let closed = options.token.is_none() && !options.open_on_loopback;
    let all = if closed { open } else { guarded.merge(open) };
    all.with_state(admin)
}

pub(super) type JsonAnswer = Result<Json<Value>, Refusal>;

/// Lists the models, vectors, maps and default specs, with their fingerprints.
#[utoipa::path(
    get,
    path = "/v1/steering",
    tag = "Steering",
    responses((status = 200, description = "Models, vectors, maps and defaults", body = Object)),
    security(("bearer" = []))
)]
pub(super) async fn describe(State(admin): State<Admin>) -> JsonAnswer {
    blocking(move || Ok::<_, Refusal>(admin.steering.describe())).await
}

/// The body of `PUT /v1/steering/default`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DefaultBody {
    /// The model whose default is set; may be absent if there is only one.
    #[schema(nullable = false)]
    model: Option<String>,
    /// The spec; `null` for none. The key is required.
    #[serde(deserialize_with = "null_or_value")]
    #[schema(value_type = Option<Object>, required = true)]
    spec: Option<SteeringSpec>,
}

/// An `Option` whose key can't be left out.
fn null_or_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SteeringSpec>, D::Error> {
    Option::deserialize(deserializer)
}

/// Changes the default spec of a model for all later requests. It holds until a reload or the next change. With a state
/// folder it survives a restart of the server.
#[utoipa::path(
    put,
    path = "/v1/steering/default",
    tag = "Steering",
    request_body = DefaultBody,
    responses(
        (status = 200, description = "The model's new default", body = Object),
        (status = 400, description = "The body is not JSON", body = Message),
        (status = 404, description = "No such model", body = Message),
        (status = 422, description = "The spec is invalid, or does not fit the model", body = Message),
    ),
    security(("bearer" = []))
)]
pub(super) async fn set_default(
    State(admin): State<Admin>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> JsonAnswer {
    let DefaultBody { model, spec } = read_json(&headers, body).await?;
    let steering = admin.steering.on_behalf_of(&caller.0);
    blocking(move || steering.set_default(model.as_deref(), spec)).await
}

/// Reads a body of JSON.
async fn read_json<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<T, Refusal> {
    if !is_json(headers) {
        return Err(Refusal::content_type(&media_type(headers), "application/json"));
    }
    let body = read_body(headers, body, MAX_SPEC_BYTES).await?;
    json::read(&body, "").map_err(refuse)
}

/// The form of `POST /v1/steering/vectors`: `name`, and either `toml` and `safetensors`, or `gguf`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes a form, which is read field by field")]
pub(super) struct VectorForm {
    /// The name that requests use: letters, digits, `.`, `_` and `-`. A vector of that name is replaced.
    name: String,
    /// A vector file.
    #[schema(nullable = false)]
    toml: Option<String>,
    /// Its tensors.
    #[schema(value_type = Option<String>, format = Binary, nullable = false)]
    safetensors: Option<Vec<u8>>,
    /// A control vector of llama.cpp or repeng.
    #[schema(value_type = Option<String>, format = Binary, nullable = false)]
    gguf: Option<Vec<u8>>,
    /// The served model that the GGUF file's vector was found on; may be absent if there is only one.
    #[schema(nullable = false)]
    model: Option<String>,
}

/// The JSON body of `POST /v1/steering/vectors`, which finds a vector from pairs.
#[derive(ToSchema)]
pub(super) struct FindBody {
    /// The name that requests use: letters, digits, `.`, `_` and `-`. A vector of that name is replaced.
    name: String,
    /// What the vector stands for; absent: the name.
    #[schema(nullable = false)]
    concept: Option<String>,
    /// The keys of a vector that is found from pairs, beside `name` and `concept`.
    #[schema(value_type = Object)]
    vector: PairsVector,
}

impl FindBody {
    fn read(body: &[u8]) -> Result<Self, Refusal> {
        // If the body is not an object or has a key twice, the reader's message is used.
        let Some(mut object) = Object::parse(body) else {
            return Err(json::read::<PairsVector>(body, "")
                .map_or_else(refuse, |_| Refusal::value("body", "no object", "an object")));
        };
        let mut text = |key: &'static str| match object.take(key).as_slice() {
            [] => Ok(None),
            [written] => json::read::<String>(written.as_bytes(), key).map(Some).map_err(refuse),
            _ => Err(Refusal::value(key, "the key twice", "it once")),
        };
        let (name, concept) = (text("name")?, text("concept")?);
        let Some(name) = name else {
            return Err(Refusal::value("name", "nothing", "the vector's name"));
        };
        check_name("name", &name)?;
        if let Some(concept) = &concept
            && (concept.trim().is_empty() || concept.len() > MAX_CONCEPT_BYTES)
        {
            let expected =
                format!("a text of 1 to {MAX_CONCEPT_BYTES} bytes that is not only white space, or no such key");
            return Err(Refusal::value("concept", format!("{} bytes", concept.len()), expected));
        }
        let vector = json::read(object.to_json().as_bytes(), "").map_err(refuse)?;
        Ok(Self { name, concept, vector })
    }
}

/// Refuses a body: 400 if it is not JSON, else 422.
fn refuse(error: json::JsonError) -> Refusal {
    let status = if error.malformed {
        StatusCode::BAD_REQUEST
    } else {
        StatusCode::UNPROCESSABLE_ENTITY
    };
    Refusal::new(status, error.message)
}

/// Adds a vector, or replaces the one of that name, for all later requests. The vector comes from files, or is found
/// from pairs. It stays until it is deleted, also after a reload. With a state folder it survives a restart of the
/// server.
#[utoipa::path(
    post,
    path = "/v1/steering/vectors",
    tag = "Steering",
    request_body(
        content(
            (VectorForm = "multipart/form-data"),
            (FindBody = "application/json"),
        ),
    ),
    responses(
        (status = 200, description = "The vector's layers; if it was found from pairs, how good it is at each; notes on a GGUF file, if there are any", body = Object),
        (status = 400, description = "The form is broken, or the body is not JSON", body = Message),
        (status = 403, description = "Uploads are off", body = Message),
        (status = 404, description = "No such model", body = Message),
        (status = 409, description = "A default spec would no longer fit, or there are too many vectors", body = Message),
        (status = 413, description = "The upload is too large", body = Message),
        (status = 415, description = "Neither a form nor JSON", body = Message),
        (status = 422, description = "A file is invalid, or no vector can be found from the pairs", body = Message),
        (status = 429, description = "Too many vectors are waiting to be found; Retry-After says when to try again", body = Message),
    ),
    security(("bearer" = []))
)]
pub(super) async fn insert_vector(State(admin): State<Admin>, caller: Caller, request: Request) -> JsonAnswer {
    let AdminOptions {
        uploads,
        max_upload_bytes: limit,
        max_vectors,
        max_vectors_bytes,
        ..
    } = *admin.options;
    if !uploads {
        let message = "uploads: found steering.admin.uploads = false, expected true in the configuration";
        return Err(Refusal::new(StatusCode::FORBIDDEN, message));
    }
    if is_json(request.headers()) {
        let (parts, body) = request.into_parts();
        let body = read_body(&parts.headers, body, MAX_FIND_BYTES.min(limit)).await?;
        let FindBody { name, concept, vector } = FindBody::read(&body)?;
        let steering = admin.steering.on_behalf_of(&caller.0);
        let found = steering.find_vector(&name, concept, vector, max_vectors, max_vectors_bytes);
        return Ok(Json(found.await?));
    }
    let media_type = media_type(request.headers());
    if media_type != "multipart/form-data" {
        return Err(Refusal::content_type(
            &media_type,
            "multipart/form-data, or application/json",
        ));
    }
    if stated_length(request.headers()).is_some_and(|length| length > limit as u64) {
        return Err(Refusal::too_large("body", limit));
    }
    let form = Multipart::from_request(request, &()).await.map_err(|rejection| {
        let message = format!(
            "content-type: found {:?}, expected multipart/form-data with a boundary",
            rejection.body_text()
        );
        Refusal::new(rejection.status(), message)
    })?;
    let form = Upload::read(form, limit).await?.check()?;
    let steering = admin.steering.on_behalf_of(&caller.0);
    blocking(move || -> Result<Value, Refusal> {
        let name = form.name.clone();
        let (vector, notes) = form.vector(&steering)?;
        let mut answer = steering.insert_vector(&name, vector, max_vectors, max_vectors_bytes)?;
        if !notes.is_empty() {
            answer["notes"] = json!(notes);
        }
        Ok(answer)
    })
    .await
}

/// The file of a vector that `?format=` names; the TOML if the parameter is absent.
fn vector_part(query: &HashMap<String, String>) -> Result<VectorPart, Refusal> {
    if let Some(other) = query.keys().find(|key| *key != "format") {
        return Err(Refusal::value("query", format!("{other:?}"), "no parameter but format"));
    }
    match query.get("format").map(String::as_str) {
        None | Some("toml") => Ok(VectorPart::Toml),
        Some("safetensors") => Ok(VectorPart::Safetensors),
        Some(other) => Err(Refusal::value("format", format!("{other:?}"), "toml or safetensors")),
    }
}

/// Downloads a file of a vector: its TOML, or the tensors that it names, under `Content-Disposition`'s file name.
#[utoipa::path(
    get,
    path = "/v1/steering/vectors/{name}",
    tag = "Steering",
    params(
        ("name" = String, Path, description = "The vector's name"),
        ("format" = Option<String>, Query, description = "toml (the default) or safetensors"),
    ),
    responses(
        (status = 200, description = "The file", content_type = "application/octet-stream", body = Vec<u8>),
        (status = 404, description = "No such vector", body = Message),
        (status = 422, description = "The name or the format is invalid, or the vector can't be written in this format", body = Message),
    ),
    security(("bearer" = []))
)]
pub(super) async fn read_vector(
    State(admin): State<Admin>,
    name: Result<Path<String>, PathRejection>,
    query: Result<Query<HashMap<String, String>>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Path(name) = name.map_err(|_| Refusal::value("name", "a path that is not UTF-8", "a vector's name"))?;
    check_name("name", &name)?;
    let Query(query) =
        query.map_err(|_| Refusal::value("query", "a malformed query", "format=toml or format=safetensors"))?;
    let part = vector_part(&query)?;
    let steering = admin.steering.clone();
    let reading = tokio::task::spawn_blocking(move || -> Result<(String, &str, Vec<u8>), SteeringError> {
        let parts = steering.vector_parts(&name)?;
        Ok(match part {
            VectorPart::Toml => (format!("{name}.toml"), "application/toml", parts.toml.into_bytes()),
            VectorPart::Safetensors => (parts.tensors_name, "application/octet-stream", parts.tensors),
        })
    });
    let (file, media_type, bytes) = reading.await.map_err(|error| {
        Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the vector could not be read: {error}"),
        )
    })??;
    // Names have no characters that need quoting.
    let disposition = format!("attachment; filename=\"{file}\"");
    Ok((
        [
            (CONTENT_TYPE, media_type.to_string()),
            (CONTENT_DISPOSITION, disposition),
        ],
        bytes,
    )
        .into_response())
}

/// Removes a vector for all later requests.
#[utoipa::path(
    delete,
    path = "/v1/steering/vectors/{name}",
    tag = "Steering",
    params(("name" = String, Path, description = "The vector's name")),
    responses(
        (status = 200, description = "The vectors that remain", body = Object),
        (status = 404, description = "No such vector", body = Message),
        (status = 409, description = "A default spec uses it", body = Message),
        (status = 422, description = "The name is invalid", body = Message),
    ),
    security(("bearer" = []))
)]
pub(super) async fn remove_vector(
    State(admin): State<Admin>,
    caller: Caller,
    name: Result<Path<String>, PathRejection>,
) -> JsonAnswer {
    let Path(name) = name.map_err(|_| Refusal::value("name", "a path that is not UTF-8", "a vector's name"))?;
    check_name("name", &name)?;
    let steering = admin.steering.on_behalf_of(&caller.0);
    blocking(move || steering.remove_vector(&name)).await
}

/// Reads the configuration file again, with its vectors, maps, default specs and bounds. If it is wrong, nothing
/// changes.
/// Uploaded vectors stay. Defaults that were set over HTTP are discarded; the answer has them under `discarded`.
#[utoipa::path(
    post,
    path = "/v1/steering/reload",
    tag = "Steering",
    responses(
        (status = 200, description = "The models, vectors, maps and defaults after the change", body = Object),
        (status = 409, description = "A change that needs a restart", body = Message),
        (status = 422, description = "The configuration is wrong; nothing has changed", body = Message),
    ),
    security(("bearer" = []))
)]
pub(super) async fn reload(State(admin): State<Admin>, caller: Caller) -> JsonAnswer {
    let steering = admin.steering.on_behalf_of(&caller.0);
    let answer = blocking(move || steering.reload()).await;
    admin.steering.metrics().reload(answer.is_ok());
    answer
}

/// Lists the states of the state folder, newest first: when each was saved, what was changed, by whom, and what it
/// holds.
#[utoipa::path(
    get,
    path = "/v1/steering/history",
    tag = "Steering",
    responses(
        (status = 200, description = "The states that are kept", body = Object),
        (status = 409, description = "There is no state folder", body = Message),
    ),
    security(("bearer" = []))
)]
pub(super) async fn history(State(admin): State<Admin>) -> JsonAnswer {
    blocking(move || admin.steering.history()).await
}

/// The body of `POST /v1/steering/restore`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RestoreBody {
    /// The number of the state, as in the history.
    number: u64,
}

/// Restores an earlier state: its uploaded vectors, and the defaults that had been set over HTTP.
#[utoipa::path(
    post,
    path = "/v1/steering/restore",
    tag = "Steering",
    request_body = RestoreBody,
    responses(
        (status = 200, description = "The models, vectors, maps and defaults after the change", body = Object),
        (status = 400, description = "The body is not JSON", body = Message),
        (status = 404, description = "No such state", body = Message),
        (status = 409, description = "There is no state folder, or the state does not fit the configuration", body = Message),
        (status = 422, description = "The number is invalid, or a default of that state does not compile now", body = Message),
    ),
    security(("bearer" = []))
)]
pub(super) async fn restore(State(admin): State<Admin>, caller: Caller, headers: HeaderMap, body: Body) -> JsonAnswer {
    let RestoreBody { number } = read_json(&headers, body).await?;
    let steering = admin.steering.on_behalf_of(&caller.0);
    blocking(move || steering.restore(number)).await
}

/// The body of `POST /v1/steering/check`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckBody {
    /// The model; may be absent if there is only one.
    #[schema(nullable = false)]
    model: Option<String>,
    /// The `steering` field of a request.
    #[schema(value_type = Object)]
    steering: RequestSteering,
    /// The prompt, as a text or as the messages of a chat; absent: what depends on the prompt is not checked.
    #[schema(value_type = Object, nullable = false)]
    prompt: Option<Text>,
}

/// A dry run: what a `steering` field would do, without a request. Answers with the layers, the length of each offset
/// and of the stream, the positions of the prompt that are steered, the fingerprint, and what is wrong with the prompt,
/// if anything.
#[utoipa::path(
    post,
    path = "/v1/steering/check",
    tag = "Steering",
    request_body = CheckBody,
    responses(
        (status = 200, description = "What the field would do", body = Object),
        (status = 400, description = "The body is not JSON", body = Message),
        (status = 403, description = "Requests may not use this", body = Message),
        (status = 404, description = "No such model", body = Message),
        (status = 422, description = "The spec is invalid, or does not fit the model", body = Message),
        (status = 429, description = "The field has pairs, and too many vectors are waiting to be found", body = Message),
    ),
)]
pub(super) async fn check(State(admin): State<Admin>, headers: HeaderMap, body: Body) -> JsonAnswer {
    let CheckBody {
        model,
        steering,
        prompt,
    } = read_json(&headers, body).await?;
    let most = MAX_CHECKED_PROMPT_BYTES;
    if prompt.as_ref().is_some_and(|prompt| prompt.bytes() > most) {
        return Err(Refusal::too_large("prompt", most));
    }
    admin
        .steering
        .dry_run(model, steering, prompt)
        .await
        .map(Json)
        .map_err(|error| match &error {
            SteeringError::Find { field, .. } if field == "prompt" => Refusal {
                param: Some(field.clone()),
                ..Refusal::from(&error)
            },
            _ => of_spec(&error),
        })
}

/// The JSON schema of a spec and of a request's `steering` field.
#[utoipa::path(
    get,
    path = "/v1/steering/schema",
    tag = "Steering",
    responses((status = 200, description = "A JSON schema", body = Object)),
    security(("bearer" = []))
)]
pub(super) async fn schema() -> Json<Value> {
    Json(spec::schema())
}

/// The counters, for Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "Steering",
    responses((status = 200, description = "OpenMetrics text", content_type = "application/openmetrics-text", body = String))
)]
pub(super) async fn metrics(State(admin): State<Admin>) -> Response {
    (
        [(CONTENT_TYPE, Metrics::CONTENT_TYPE)],
        admin.steering.metrics().render(),
    )
        .into_response()
}

/// An error, in OpenAI's shape.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `Refusal` writes")]
pub(super) struct Message {
    error: MessageBody,
}

/// The content of an error.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `Refusal` writes")]
pub(super) struct MessageBody {
    /// The field, what was found, and what was expected.
    message: String,
    /// OpenAI's type of the error.
    r#type: String,
    /// The field.
    param: Option<String>,
    /// OpenAI's code of the error.
    code: Option<String>,
}

/// Runs work that reads files or compiles specs on a blocking thread, so that no other request waits for it.
pub(super) async fn blocking<E: Into<Refusal> + Send + 'static>(
    work: impl FnOnce() -> Result<Value, E> + Send + 'static,
) -> JsonAnswer {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer.map(Json).map_err(Into::into),
        Err(error) => Err(Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the change was not made: {error}"),
        )),
    }
}
