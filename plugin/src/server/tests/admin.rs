use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::json;

use super::testing::{TOKEN, json_request, local, post_json, send, server, steering, upload, vector_files, with_token};
use crate::config::AdminOptions;
use crate::gguf;

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

fn with(mut request: Request<Body>, header: &'static str, value: &str) -> Request<Body> {
    request.headers_mut().append(header, value.parse().unwrap());
    request
}

#[tokio::test]
async fn the_admin_routes_need_the_token_wherever_they_are() {
    let steering = steering();
    for open_on_loopback in [true, false] {
        let server = server(
            &steering,
            AdminOptions {
                open_on_loopback,
                ..with_token()
            },
        );
        let right = format!("Bearer {TOKEN}");
        for value in [right.as_str(), "bearer s3cret", "BEARER  s3cret "] {
            let answer = send(&server, with(get("/v1/steering"), "authorization", value)).await;
            assert_eq!(answer.status, StatusCode::OK, "{value}");
        }
        for (values, found) in [
            (vec![], "nothing"),
            (vec!["Bearer wrong"], "another token"),
            (vec!["Bearer "], "another token"),
            (vec!["Bearer s3cret2"], "another token"),
            (vec!["Bearer s3cre"], "another token"),
            (vec!["s3cret"], "another scheme"),
            (vec!["Basic czNjcmV0"], "another scheme"),
            (vec![right.as_str(), right.as_str()], "the header twice"),
        ] {
            for (method, path) in [
                ("GET", "/v1/steering"),
                ("PUT", "/v1/steering/default"),
                ("POST", "/v1/steering/vectors"),
                ("DELETE", "/v1/steering/vectors/happy"),
                ("POST", "/v1/steering/reload"),
                ("GET", "/v1/steering/schema"),
            ] {
                let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
                let request = values
                    .iter()
                    .fold(request, |request, value| with(request, "authorization", value));
                let answer = send(&server, request).await;
                assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path} {values:?}");
                assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"steering\""));
                assert!(
                    answer.message().starts_with(&format!("authorization: found {found}")),
                    "{}",
                    answer.text
                );
                assert!(!answer.text.contains("s3cret"));
            }
        }
    }
    assert!(steering.snapshot().library.get("happy").is_some());
}

#[tokio::test]
async fn without_a_token_they_answer_programs_on_this_machine_alone() {
    let steering = steering();
    let open = server(&steering, local());
    for request in [
        get("/v1/steering"),
        with(get("/v1/steering"), "host", "localhost:1234"),
        with(get("/v1/steering"), "host", "127.0.0.1"),
        with(get("/v1/steering"), "host", "[::1]:1234"),
        get("http://localhost:1234/v1/steering"),
    ] {
        assert_eq!(send(&open, request).await.status, StatusCode::OK);
    }
    for request in [
        with(get("/v1/steering"), "origin", "http://example.org"),
        with(get("/v1/steering"), "host", "example.org"),
        with(get("/v1/steering"), "host", "a b"),
        with(get("/v1/steering"), "x-forwarded-for", "192.0.2.1"),
        with(get("/v1/steering"), "forwarded", "for=192.0.2.1"),
        get("http://example.org/v1/steering"),
    ] {
        let answer = send(&open, request).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert!(answer.message().contains("steering.admin.token_env"), "{}", answer.text);
    }
    let closed = server(
        &steering,
        AdminOptions {
            open_on_loopback: false,
            ..local()
        },
    );
    let answer = send(&closed, with(get("/v1/steering"), "authorization", "Bearer s3cret")).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.message(), "there is no route GET /v1/steering");
}

#[tokio::test]
async fn counters_and_description_are_open_and_the_engines_routes_stay() {
    let server = server(&steering(), AdminOptions::default());
    let metrics = send(&server, get("/metrics")).await;
    assert_eq!(metrics.status, StatusCode::OK);
    assert!(
        metrics
            .header("content-type")
            .unwrap()
            .starts_with("application/openmetrics-text")
    );
    assert!(metrics.text.contains("steering_vectors 2"), "{}", metrics.text);
    let document = send(&server, get("/api-doc/steering.json")).await;
    assert!(document.json()["paths"]["/v1/steering"].is_object());
    assert_eq!(send(&server, get("/health")).await.text, "OK");
    assert_eq!(
        send(&server, get("/v1/steering/nothing")).await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn the_default_is_set_and_taken_back() {
    let steering = steering();
    let server = server(&steering, local());
    let body = r#"{"model":"tiny","spec":{"vectors":[{"vector":"happy","scale":2}]}}"#;
    let answer = send(&server, json_request("PUT", "/v1/steering/default", body)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(answer.json()["default"]["spec"]["vectors"][0]["vector"], "happy");
    let used = Request::delete("/v1/steering/vectors/happy")
        .body(Body::empty())
        .unwrap();
    assert_eq!(send(&server, used).await.status, StatusCode::CONFLICT);
    let answer = send(&server, json_request("PUT", "/v1/steering/default", r#"{"spec":null}"#)).await;
    assert_eq!(
        (answer.status, &answer.json()["default"]),
        (StatusCode::OK, &json!(null))
    );
    let free = Request::delete("/v1/steering/vectors/happy")
        .body(Body::empty())
        .unwrap();
    let answer = send(&server, free).await;
    assert_eq!(
        (answer.status, answer.json()),
        (StatusCode::OK, json!({ "vector": "happy", "deleted": true }))
    );
}

#[tokio::test]
async fn vectors_are_uploaded_used_and_limited_in_number() {
    let steering = steering();
    let server = server(&steering, local());
    let (toml, tensors) = vector_files();
    let files = [
        ("name", &b"glad"[..]),
        ("toml", toml.as_bytes()),
        ("safetensors", &tensors),
    ];
    let answer = send(&server, upload(&files)).await;
    assert_eq!(
        (answer.status, answer.json()),
        (
            StatusCode::OK,
            json!({ "vector": "glad", "layers": [1, 2], "replaced": false })
        ),
        "{}",
        answer.text
    );
    let body = r#"{"steering":{"vectors":[{"vector":"glad","scale":1}]}}"#;
    assert_eq!(post_json(&server, "/v1/completions", body).await.status, StatusCode::OK);

    // There is room for three: a fourth is refused, one of the same name is not.
    let control = gguf::tests::good();
    let answer = send(
        &server,
        upload(&[("gguf", &control[..]), ("model", b"tiny"), ("name", b"mad")]),
    )
    .await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert!(answer.message().contains("max_vectors"), "{}", answer.text);
    let answer = send(&server, upload(&[("gguf", &control[..]), ("name", b"glad")])).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
}

#[tokio::test]
async fn uploads_are_off_unless_allowed() {
    let server = server(
        &steering(),
        AdminOptions {
            uploads: false,
            ..local()
        },
    );
    let control = gguf::tests::good();
    let answer = send(&server, upload(&[("gguf", &control[..]), ("name", b"mad")])).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(answer.message().contains("steering.admin.uploads"), "{}", answer.text);
}

#[tokio::test]
async fn the_schema_is_served_and_reloads_are_counted() {
    let steering = steering();
    let server = server(&steering, local());
    let schema = send(&server, get("/v1/steering/schema")).await;
    assert!(schema.json()["$defs"]["RequestSteering"].is_object());
    let reload = Request::post("/v1/steering/reload").body(Body::empty()).unwrap();
    // This server has no configuration file.
    let answer = send(&server, reload).await;
    assert_eq!(answer.status, StatusCode::CONFLICT, "{}", answer.text);
    let text = steering.metrics().render();
    assert!(text.contains("steering_reloads_total{result=\"refused\"} 1"), "{text}");
}
