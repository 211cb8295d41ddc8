//! The admin routes: what there is to steer with, and changes to it while the server runs.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Path, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router, middleware};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use utoipa::ToSchema;

use super::auth::{self, AdminOptions, Caller};
use super::object;
use super::openapi;
use super::refusal::Refusal;
use super::requests::{is_json, media_type, read_body, stated_length};
use super::upload::Upload;
use crate::library::check_name;
use crate::{Metrics, Steering, SteeringSpec, spec};

/// The most bytes of a default spec: the lists of one at their limits fit.
const MAX_SPEC_BYTES: usize = 4 << 20;

#[derive(Clone)]
pub(super) struct Admin {
    steering: Steering,
    options: Arc<AdminOptions>,
}

/// The admin routes, behind the token, where there is one or they are open on loopback; and the two that are open to all: the
/// counters and the description of these routes.
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
        .route("/v1/steering/vectors/{name}", delete(remove_vector))
        .route("/v1/steering/reload", post(reload))
        .route("/v1/steering/history", get(history))
        .route("/v1/steering/restore", post(restore))
        .route("/v1/steering/schema", get(schema))
        .route_layer(middleware::from_fn_with_state(options.clone(), auth::require))
        .layer(DefaultBodyLimit::max(options.max_upload_bytes));
    let open = Router::new()
        .route("/metrics", get(metrics))
        .route("/api-doc/steering.json", get(api_doc));
    // Nobody could use them, so nobody is told that they are there.
    let closed = options.token.is_none() && !options.open_on_loopback;
    let all = if closed { open } else { guarded.merge(open) };
    all.with_state(admin)
}

type Answer = Result<Json<Value>, Refusal>;

/// What there is to steer with: models, vectors, maps and default specs, with their fingerprints.
#[utoipa::path(
    get,
    path = "/v1/steering",
    tag = "Steering",
    responses((status = 200, description = "Models, vectors, maps and defaults", body = Object)),
    security(("bearer" = []))
)]
pub(super) async fn describe(State(admin): State<Admin>) -> Answer {
    blocking(move || Ok::<_, Refusal>(admin.steering.describe())).await
}

/// The body of `PUT /v1/steering/default`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DefaultBody {
    /// The model whose default it is; may be absent if there is only one.
    #[schema(nullable = false)]
    model: Option<String>,
    /// The spec; `null` for none. The key must be there.
    #[serde(deserialize_with = "null_or_value")]
    #[schema(value_type = Option<Object>, required = true)]
    spec: Option<SteeringSpec>,
}

/// An `Option` whose key can't be left out.
fn null_or_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SteeringSpec>, D::Error> {
    Option::deserialize(deserializer)
}

/// Changes the default spec of a model, for the requests that come after. It holds until a reload or another change; with a
/// state folder also after the server has ended, else not.
#[utoipa::path(
    put,
    path = "/v1/steering/default",
    tag = "Steering",
    request_body = DefaultBody,
    responses(
        (status = 200, description = "The model's new default", body = Object),
        (status = 400, description = "No JSON", body = Message),
        (status = 404, description = "No such model", body = Message),
        (status = 422, description = "A spec that can't be right, or does not fit the model", body = Message),
    ),
    security(("bearer" = []))
)]
pub(super) async fn set_default(State(admin): State<Admin>, caller: Caller, headers: HeaderMap, body: Body) -> Answer {
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
    object::read(&body, "").map_err(|mistake| {
        let status = if mistake.malformed {
            StatusCode::BAD_REQUEST
        } else {
            StatusCode::UNPROCESSABLE_ENTITY
        };
        Refusal::new(status, mistake.message)
    })
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

/// Adds a vector, or replaces the one of that name, for the requests that come after. It stays until it is deleted, over a
/// reload too; with a state folder also after the server has ended, else not.
#[utoipa::path(
    post,
    path = "/v1/steering/vectors",
    tag = "Steering",
    request_body(content = VectorForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "The vector, as described by GET /v1/steering", body = Object),
        (status = 400, description = "A broken form", body = Message),
        (status = 403, description = "Uploads are off", body = Message),
        (status = 404, description = "No such model", body = Message),
        (status = 409, description = "A default spec would no longer fit, or there are too many vectors", body = Message),
        (status = 413, description = "The upload is too large", body = Message),
        (status = 415, description = "No form", body = Message),
        (status = 422, description = "A file that is not what it should be", body = Message),
    ),
    security(("bearer" = []))
)]
pub(super) async fn insert_vector(State(admin): State<Admin>, caller: Caller, request: Request) -> Answer {
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
    let media_type = media_type(request.headers());
    if media_type != "multipart/form-data" {
        return Err(Refusal::content_type(&media_type, "multipart/form-data"));
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
        let vector = form.vector(&steering)?;
        Ok(steering.insert_vector(&name, vector, max_vectors, max_vectors_bytes)?)
    })
    .await
}

/// Removes a vector, for the requests that come after.
#[utoipa::path(
    delete,
    path = "/v1/steering/vectors/{name}",
    tag = "Steering",
    params(("name" = String, Path, description = "The vector's name")),
    responses(
        (status = 200, description = "What is left", body = Object),
        (status = 404, description = "No such vector", body = Message),
        (status = 409, description = "A default spec uses it", body = Message),
        (status = 422, description = "No name", body = Message),
    ),
    security(("bearer" = []))
)]
pub(super) async fn remove_vector(
    State(admin): State<Admin>,
    caller: Caller,
    name: Result<Path<String>, PathRejection>,
) -> Answer {
    let Path(name) = name.map_err(|_| Refusal::value("name", "a path that is no UTF-8", "a vector's name"))?;
    check_name("name", &name)?;
    let steering = admin.steering.on_behalf_of(&caller.0);
    blocking(move || steering.remove_vector(&name)).await
}

/// Reads the configuration file again, with its vectors, maps, default specs and bounds. One that is wrong changes nothing.
/// Uploaded vectors stay. Defaults that were set over HTTP are discarded; the answer has them under `discarded`.
#[utoipa::path(
    post,
    path = "/v1/steering/reload",
    tag = "Steering",
    responses(
        (status = 200, description = "What there is now", body = Object),
        (status = 409, description = "A change that needs a restart", body = Message),
        (status = 422, description = "What is wrong; nothing has changed", body = Message),
    ),
    security(("bearer" = []))
)]
pub(super) async fn reload(State(admin): State<Admin>, caller: Caller) -> Answer {
    let steering = admin.steering.on_behalf_of(&caller.0);
    let answer = blocking(move || steering.reload()).await;
    admin.steering.metrics().reload(answer.is_ok());
    answer
}

/// The states of the state folder, the newest first: when, what was changed, by whom, and what held then.
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
pub(super) async fn history(State(admin): State<Admin>) -> Answer {
    blocking(move || admin.steering.history()).await
}

/// The body of `POST /v1/steering/restore`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RestoreBody {
    /// The number of the state, as in the history.
    number: u64,
}

/// Goes back to an earlier state: its uploaded vectors, and the defaults that had been set over HTTP.
#[utoipa::path(
    post,
    path = "/v1/steering/restore",
    tag = "Steering",
    request_body = RestoreBody,
    responses(
        (status = 200, description = "What there is now", body = Object),
        (status = 400, description = "No JSON", body = Message),
        (status = 404, description = "No such state", body = Message),
        (status = 409, description = "There is no state folder, or the state doesn't go with the configuration", body = Message),
        (status = 422, description = "No number, or a default of then that doesn't compile now", body = Message),
    ),
    security(("bearer" = []))
)]
pub(super) async fn restore(State(admin): State<Admin>, caller: Caller, headers: HeaderMap, body: Body) -> Answer {
    let RestoreBody { number } = read_json(&headers, body).await?;
    let steering = admin.steering.on_behalf_of(&caller.0);
    blocking(move || steering.restore(number)).await
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

async fn api_doc() -> Json<Value> {
    Json(openapi::document())
}

/// An error, in OpenAI's shape.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `Refusal` writes")]
pub(super) struct Message {
    error: MessageBody,
}

/// What an error says.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `Refusal` writes")]
pub(super) struct MessageBody {
    /// The field, what was found, and what was expected.
    message: String,
    /// OpenAI's name of such errors.
    r#type: String,
    /// The field.
    param: Option<String>,
    /// OpenAI's name of the mistake.
    code: Option<String>,
}

/// Runs what reads files or compiles specs where no other request waits for it.
async fn blocking<E: Into<Refusal> + Send + 'static>(
    work: impl FnOnce() -> Result<Value, E> + Send + 'static,
) -> Answer {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer.map(Json).map_err(Into::into),
        Err(error) => Err(Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the change was not made: {error}"),
        )),
    }
}
