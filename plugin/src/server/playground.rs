//! The playground: a page for trying steering, and the route it reads its state from.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, VARY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use super::admin::{JsonAnswer, blocking};
use super::auth;
use super::refusal::Refusal;
use crate::Steering;
use crate::config::AdminOptions;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/playground/", $name)))),*]
    };
}

/// The page: HTML, style and modules, by name.
const FILES: &[(&str, &str)] = files![
    "advanced.js",
    "answers.js",
    "api.js",
    "card.js",
    "cards.js",
    "chart.js",
    "check.js",
    "dom.js",
    "errors.js",
    "find.js",
    "format.js",
    "header.js",
    "index.html",
    "layers.js",
    "main.js",
    "prompt.js",
    "propensity.js",
    "see.js",
    "sets.js",
    "settings.js",
    "snippets.js",
    "spec.js",
    "sse.js",
    "store.js",
    "style.css",
    "take.js",
    "token.js",
    "tokens.js",
    "vector-files.js",
];

/// The content security policy: the page runs, shows and requests only what this server sends.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; style-src 'self'; script-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What a browser gets at `/`.
const FRONT: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>mistralrs-steered</title>\
                     <meta name=\"viewport\" content=\"width=device-width\"><h1>mistralrs-steered</h1><ul>\
                     <li><a href=\"/playground\">Playground</a>: steer the model and see the effect\
                     <li><a href=\"/docs/\">mistral.rs's routes</a>\
                     <li><a href=\"/api-doc/steering.json\">Steering's routes</a> (OpenAPI)\
                     <li><a href=\"/metrics\">Metrics</a></ul></html>";

#[derive(Clone)]
struct Playground {
    steering: Steering,
    options: Arc<AdminOptions>,
}

/// The page and its files, open to all, and the route it reads its state from, behind the token if one is set.
pub(super) fn router(steering: Steering, options: AdminOptions) -> Router {
    let options = Arc::new(options);
    let guarded = Router::new()
        .route("/playground/state", get(state))
        .route_layer(middleware::from_fn_with_state(options.clone(), auth::require_for_pages));
    guarded
        .route("/playground", get(page))
        .route("/playground/", get(async || Redirect::permanent("/playground")))
        .route("/playground/{file}", get(file))
        .with_state(Playground { steering, options })
}

/// The middleware of `/`, where mistral.rs answers that it is running: a browser gets links.
pub(super) async fn front(request: Request, next: Next) -> Response {
    let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let browses = accept.is_some_and(|accept| accept.contains("text/html"));
    match request.uri().path() {
        "/" if request.method() == Method::GET && browses => guarded(([(VARY, "accept")], Html(FRONT)).into_response()),
        _ => next.run(request).await,
    }
}

/// Models, vectors, maps and defaults, and what requests may ask for.
async fn state(State(playground): State<Playground>) -> JsonAnswer {
    let Playground { steering, options } = playground;
    let open = options.token.is_some() || options.open_on_loopback;
    let described = {
        let steering = steering.clone();
        blocking(move || Ok::<_, Refusal>(steering.describe())).await?
    };
    Ok(Json(json!({
        "token": options.token.is_some(),
        "files": open,
        "uploads": open && options.uploads,
        "requests": { "pairs": steering.live().is_some_and(|live| live.takes_pairs()) },
        "steering": described.0,
    })))
}

async fn page() -> Response {
    asset("index.html")
}

async fn file(Path(name): Path<String>) -> Response {
    asset(&name)
}

/// A file of the page.
fn asset(name: &str) -> Response {
    let kind = match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        _ => "text/plain; charset=utf-8",
    };
    match FILES.iter().find(|(file, _)| *file == name) {
        Some((_, text)) => guarded(([(CONTENT_TYPE, kind)], *text).into_response()),
        None => Refusal::new(
            StatusCode::NOT_FOUND,
            format!("there is no file {name:?} in the playground"),
        )
        .into_response(),
    }
}

/// An answer for a browser, with the headers that restrict its use.
fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Another version of the server may have other files under the same names.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn all_files_of_the_page_are_served() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("playground");
        let there = std::fs::read_dir(folder).unwrap();
        let there: BTreeSet<_> = there
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let served: BTreeSet<_> = FILES.iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(served, there);
        assert_eq!(served.len(), FILES.len());
        // What one names, another is.
        for (name, text) in FILES {
            for part in text.split("/playground/").skip(1) {
                let named: String = part
                    .chars()
                    .take_while(|c| c.is_ascii_alphanumeric() || "._-".contains(*c))
                    .collect();
                assert!(named == "state" || served.contains(&named), "{name}: {named}");
            }
        }
    }
}
