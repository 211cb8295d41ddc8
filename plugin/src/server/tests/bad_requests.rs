use axum::body::{Body, Bytes};
use axum::http::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use futures::stream;

use super::testing::{json_request, local, post_json, send, server, steering, upload, vector_files};
use crate::gguf;

/// A request, the status it must get, and a part of the message.
type Case = (&'static str, Request<Body>, u16, &'static str);

fn completion(body: impl Into<Body>) -> Request<Body> {
    json_request("POST", "/v1/completions", body)
}

/// A request with this `steering` field.
fn steered(field: &str) -> Request<Body> {
    completion(format!(r#"{{"model":"tiny","prompt":"x","steering":{field}}}"#))
}

/// A request with one use of a vector.
fn using(used: &str) -> Request<Body> {
    steered(&format!(r#"{{"vectors":[{used}]}}"#))
}

fn put(body: impl Into<Body>) -> Request<Body> {
    json_request("PUT", "/v1/steering/default", body)
}

fn remove(name: &str) -> Request<Body> {
    let path = format!("/v1/steering/vectors/{name}");
    Request::delete(path).body(Body::empty()).unwrap()
}

fn raw(method: &str, path: &str, content_type: &str, body: impl Into<Body>) -> Request<Body> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(CONTENT_TYPE, content_type);
    request.body(body.into()).unwrap()
}

/// A body without a stated length.
fn streamed(bytes: usize) -> Body {
    let piece = Bytes::from(vec![b' '; 1 << 20]);
    let pieces = (0..bytes.div_ceil(piece.len())).map(move |_| Ok::<_, std::convert::Infallible>(piece.clone()));
    Body::from_stream(stream::iter(pieces))
}

fn of_requests() -> Vec<Case> {
    let mut stated = completion(r#"{"prompt":"x"}"#);
    stated.headers_mut().insert(CONTENT_LENGTH, "52428801".parse().unwrap());
    let elsewhere = |path: &str| json_request("POST", path, r#"{"input":"x","steering":{"mode":"off"}}"#);
    vec![
        ("a number", steered("3"), 422, "steering: found integer `3`"),
        ("null", steered("null"), 422, "steering: found null"),
        ("a text", steered("\"happy\""), 422, "steering: found string \"happy\""),
        (
            "a path as text",
            steered("\"../../etc/passwd\""),
            422,
            "steering: found string",
        ),
        ("true", steered("true"), 422, "steering: found boolean `true`"),
        (
            "twice",
            completion(r#"{"steering":{"mode":"off"},"steering":{}}"#),
            422,
            "steering: found the key twice",
        ),
        ("empty", steered("{}"), 422, "steering.vectors: found no such key"),
        (
            "an unknown key",
            steered(r#"{"vectors":[],"vectorz":1}"#),
            422,
            "steering.vectorz: found the unknown key",
        ),
        (
            "a key twice",
            steered(r#"{"vectors":[],"vectors":[]}"#),
            422,
            "`vectors` twice",
        ),
        (
            "no list",
            steered(r#"{"vectors":{"vector":"happy"}}"#),
            422,
            "steering.vectors: found an object",
        ),
        (
            "a mode that is none",
            steered(r#"{"mode":"on"}"#),
            422,
            "steering.mode: found `on`",
        ),
        (
            "off with more",
            steered(r#"{"mode":"off","vectors":[]}"#),
            422,
            "steering.vectors: found this key beside",
        ),
        (
            "a conflict that is none",
            steered(r#"{"vectors":[],"conflict":"last"}"#),
            422,
            "steering.conflict: found `last`",
        ),
        (
            "a norm that is none",
            steered(r#"{"vectors":[],"norm":2}"#),
            422,
            "steering.norm: found",
        ),
        (
            "an unknown key inside",
            using(r#"{"vector":"happy","scale":1,"alpha":2}"#),
            422,
            "steering.vectors[0].alpha",
        ),
        (
            "no vector",
            using(r#"{"scale":1}"#),
            422,
            "steering.vectors[0]: found no key `vector`",
        ),
        (
            "no scale",
            using(r#"{"vector":"happy"}"#),
            422,
            "steering.vectors[0].scale: found",
        ),
        (
            "a scale of text",
            using(r#"{"vector":"happy","scale":"4"}"#),
            422,
            "steering.vectors[0].scale: found string \"4\"",
        ),
        (
            "a huge scale",
            using(r#"{"vector":"happy","scale":1e300}"#),
            422,
            "steering.vectors[0].scale: found",
        ),
        (
            "a scale beyond all",
            using(r#"{"vector":"happy","scale":1e999}"#),
            422,
            "steering.vectors[0].scale: found a number out of range",
        ),
        (
            "a layer below 0",
            using(r#"{"vector":"happy","scale":1,"layers":[-1]}"#),
            422,
            "steering.vectors[0].layers[0]",
        ),
        (
            "a layer and a half",
            using(r#"{"vector":"happy","scale":1,"layers":[1.5]}"#),
            422,
            "steering.vectors[0].layers[0]",
        ),
        (
            "no layers",
            using(r#"{"vector":"happy","scale":1,"layers":[]}"#),
            422,
            "steering.vectors[0].layers: found []",
        ),
        (
            "an op that is none",
            using(r#"{"vector":"happy","scale":1,"op":"cap"}"#),
            422,
            "steering.vectors[0].op",
        ),
        (
            "a vector that is not there",
            using(r#"{"vector":"mad","scale":1}"#),
            422,
            "steering.vectors[0].vector: found \"mad\"",
        ),
        (
            "a path as name",
            using(r#"{"vector":"../happy","scale":1}"#),
            422,
            "steering.vectors[0].vector: found",
        ),
        (
            "a number as name",
            using(r#"{"vector":7,"scale":1}"#),
            422,
            "steering.vectors[0].vector: found integer `7`",
        ),
        (
            "no model beside it",
            completion(r#"{"model":7,"steering":{"mode":"off"}}"#),
            422,
            "model: found 7",
        ),
        (
            "a model that is not there",
            completion(r#"{"model":"b","steering":{"mode":"off"}}"#),
            404,
            "model: found \"b\"",
        ),
        (
            "in the background",
            json_request(
                "POST",
                "/v1/responses",
                r#"{"input":"x","background":true,"steering":{"mode":"off"}}"#,
            ),
            422,
            "steering: found the field beside \"background\": true",
        ),
        (
            "with embeddings",
            elsewhere("/v1/embeddings"),
            422,
            "found the field on /v1/embeddings, expected the field only on /v1/chat",
        ),
        (
            "with images",
            elsewhere("/v1/images/generations"),
            422,
            "found the field on /v1/images/generations",
        ),
        (
            "with speech",
            elsewhere("/v1/audio/speech"),
            422,
            "found the field on /v1/audio/speech",
        ),
        (
            "a body said to be too large",
            stated,
            413,
            "body: found more than 52428800 bytes",
        ),
        (
            "a body that is too large",
            completion(streamed((50 << 20) + 1)),
            413,
            "body: found more than 52428800 bytes",
        ),
    ]
}

fn of_defaults() -> Vec<Case> {
    let spec = |spec: &str| put(format!(r#"{{"spec":{spec}}}"#));
    let form = "application/x-www-form-urlencoded";
    vec![
        (
            "another type",
            raw("PUT", "/v1/steering/default", form, "spec=1"),
            415,
            "content-type: found",
        ),
        (
            "no type",
            raw("PUT", "/v1/steering/default", "", "{}"),
            415,
            "expected application/json",
        ),
        ("nothing", put(""), 400, "body: found malformed JSON"),
        ("cut JSON", put(r#"{"spec":{"#), 400, "found malformed JSON"),
        (
            "bad UTF-8",
            put(&b"{\"spec\":null,\"model\":\"\xff\"}"[..]),
            400,
            "model: found malformed JSON",
        ),
        ("no object", put("[]"), 422, "body: found"),
        ("no spec", put(r#"{"model":"tiny"}"#), 422, "body: found no key `spec`"),
        (
            "an unknown key",
            put(r#"{"spec":null,"default":1}"#),
            422,
            "default: found the unknown key",
        ),
        ("a spec that is none", spec("3"), 422, "spec: found integer `3`"),
        (
            "an unknown key inside",
            spec(r#"{"mode":"off"}"#),
            422,
            "spec.mode: found the unknown key",
        ),
        (
            "a path of a vector",
            spec(r#"{"vectors":[{"vector":"a/b","scale":1}]}"#),
            422,
            "spec.vectors[0].vector",
        ),
        (
            "no such vector",
            spec(r#"{"vectors":[{"vector":"mad","scale":1}]}"#),
            404,
            "spec.vectors[0].vector: found \"mad\"",
        ),
        (
            "no such model",
            put(r#"{"model":"b","spec":null}"#),
            404,
            "model: found \"b\"",
        ),
        (
            "a model that is none",
            put(r#"{"model":1,"spec":null}"#),
            422,
            "model: found integer `1`",
        ),
        (
            "too large",
            put(streamed((4 << 20) + 1)),
            413,
            "body: found more than 4194304 bytes",
        ),
    ]
}

fn of_names() -> Vec<Case> {
    vec![
        ("no such vector", remove("mad"), 404, "name: found \"mad\""),
        (
            "a path",
            remove("..%2F..%2Fhappy"),
            422,
            "name: found the name \"../../happy\"",
        ),
        ("a dot", remove("%2E%2E"), 422, "name: found the name \"..\""),
        ("a null byte", remove("happy%00"), 422, "name: found the name"),
        ("bad UTF-8", remove("%FF"), 422, "name: found a path that is not UTF-8"),
        ("long", remove(&"x".repeat(65)), 422, "expected 1 to 64"),
    ]
}

fn of_uploads() -> Vec<Case> {
    let control = gguf::tests::good();
    let (toml, tensors) = vector_files();
    let name = ("name", &b"mad"[..]);
    let files = |toml: &str, tensors: &[u8]| upload(&[name, ("toml", toml.as_bytes()), ("safetensors", tensors)]);
    let gguf = |bytes: &[u8]| upload(&[name, ("gguf", bytes)]);
    let named = |value: &[u8]| upload(&[("name", value), ("gguf", &control)]);
    let file = toml.lines().find(|line| line.starts_with("file = ")).unwrap();
    let other_file = |file_name: &str| toml.replace(file, &format!("file = {file_name:?}"));
    let large = vec![0; 1 << 16];
    let path = "/v1/steering/vectors";
    vec![
        (
            "text",
            raw("POST", path, "text/plain", "{}"),
            415,
            "expected multipart/form-data, or application/json",
        ),
        (
            "no JSON",
            raw("POST", path, "application/json", "{"),
            400,
            "body: found malformed JSON",
        ),
        (
            "a list",
            raw("POST", path, "application/json", "[]"),
            422,
            "body: found a list, expected a table of model and pairs",
        ),
        (
            "JSON without a name",
            raw("POST", path, "application/json", "{}"),
            422,
            "name: found nothing, expected the vector's name",
        ),
        (
            "a name twice",
            raw("POST", path, "application/json", r#"{"name": "a", "name": "b"}"#),
            422,
            "name: found the key twice, expected it once",
        ),
        (
            "pairs where none are found from",
            raw(
                "POST",
                path,
                "application/json",
                r#"{"name": "a", "model": "m", "pairs": [{"positive": "a", "negative": "b"}]}"#,
            ),
            403,
            "pairs: found pairs, expected a vector's name: this server finds no vectors",
        ),
        (
            "no boundary",
            raw("POST", path, "multipart/form-data", "x"),
            400,
            "with a boundary",
        ),
        (
            "no form",
            raw("POST", path, "multipart/form-data; boundary=X", "x"),
            400,
            "body: found a broken form",
        ),
        ("an empty form", upload(&[]), 422, "name: found nothing"),
        ("no name", upload(&[("gguf", &control)]), 422, "name: found nothing"),
        ("no file", upload(&[name]), 422, "toml: found nothing"),
        (
            "a path as name",
            named(b"../mad"),
            422,
            "name: found the name \"../mad\"",
        ),
        ("an absolute name", named(b"/tmp/mad"), 422, "name: found the name"),
        ("a hidden name", named(b".mad"), 422, "name: found the name"),
        ("an empty name", named(b""), 422, "name: found the name \"\""),
        ("a name with a null", named(b"a\0b"), 422, "name: found the name"),
        (
            "a name of no UTF-8",
            named(b"\xff"),
            422,
            "name: found bytes that are not UTF-8",
        ),
        ("a long name", named(&[b'x'; 65]), 422, "expected 1 to 64"),
        (
            "a name without end",
            named(&[b'x'; 2000]),
            413,
            "name: found more than 1024 bytes",
        ),
        (
            "an unknown field",
            upload(&[name, ("path", b"/etc/passwd")]),
            422,
            "form: found the field \"path\"",
        ),
        (
            "a field twice",
            upload(&[name, name]),
            422,
            "name: found the field twice",
        ),
        (
            "both kinds",
            upload(&[name, ("gguf", &control), ("toml", b"x")]),
            422,
            "gguf: found this field beside",
        ),
        (
            "TOML alone",
            upload(&[name, ("toml", toml.as_bytes())]),
            422,
            "safetensors: found nothing",
        ),
        (
            "tensors alone",
            upload(&[name, ("safetensors", &tensors)]),
            422,
            "toml: found nothing",
        ),
        (
            "a model beside TOML",
            upload(&[
                name,
                ("toml", toml.as_bytes()),
                ("safetensors", &tensors),
                ("model", b"tiny"),
            ]),
            422,
            "model: found this field beside toml",
        ),
        (
            "no such model",
            upload(&[name, ("gguf", &control), ("model", b"b")]),
            404,
            "model: found \"b\"",
        ),
        ("too large", gguf(&large), 413, "body: found more than 65536 bytes"),
        ("no TOML", files("][", &tensors), 422, "toml: "),
        (
            "TOML of no UTF-8",
            upload(&[name, ("toml", b"\xff"), ("safetensors", &tensors)]),
            422,
            "toml: found invalid UTF-8",
        ),
        (
            "another TOML",
            files("format = \"steermap-map/1\"", &tensors),
            422,
            "toml: format: found",
        ),
        (
            "an unknown key",
            files(&format!("extra = 1\n{toml}"), &tensors),
            422,
            "toml: ",
        ),
        (
            "tensors elsewhere",
            files(&other_file("../x.safetensors"), &tensors),
            422,
            "toml: weights.file: found",
        ),
        (
            "tensors at an absolute path",
            files(&other_file("/tmp/x.safetensors"), &tensors),
            422,
            "toml: weights.file",
        ),
        (
            "tensors under a very long name",
            files(&other_file(&format!("{}.safetensors", "x".repeat(300))), &tensors),
            422,
            "toml: weights.file: found a name of 312 bytes, expected at most 255 bytes",
        ),
        (
            "other tensors",
            files(&toml, &tensors[..tensors.len() - 1]),
            422,
            "safetensors: weights.sha256",
        ),
        ("no tensors", files(&toml, b""), 422, "safetensors: weights.sha256"),
        ("no GGUF", gguf(b"PK"), 422, "gguf: magic: found 2 bytes left"),
        (
            "a cut GGUF",
            gguf(&control[..control.len() - 1]),
            422,
            "gguf: direction.1: found",
        ),
        (
            "another GGUF",
            gguf(&b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"[..]),
            422,
            "gguf: general.architecture",
        ),
    ]
}

#[tokio::test]
async fn bad_requests_are_refused_by_name_and_do_no_harm() {
    let steering = steering();
    let server = server(&steering, local());
    let cases: Vec<Case> = [of_requests(), of_defaults(), of_names(), of_uploads()]
        .into_iter()
        .flatten()
        .collect();
    assert!(cases.len() >= 80, "{} cases", cases.len());
    for (case, request, status, expected) in cases {
        let answer = send(&server, request).await;
        assert_eq!(answer.status.as_u16(), status, "{case}: {}", answer.text);
        let message = answer.message();
        assert!(message.contains(expected), "{case}: {message}");
        // No path of this machine, and no answer that says nothing.
        assert!(
            !message.is_empty() && !message.contains(".tmp") && !message.contains("vector.toml"),
            "{case}: {message}"
        );
        let good = post_json(&server, "/v1/completions", r#"{"prompt":"x"}"#).await;
        assert_eq!(
            (good.status.as_u16(), good.header("x-scope")),
            (200, Some("none")),
            "after {case}"
        );
    }
    let snapshot = steering.snapshot();
    let names: Vec<&str> = snapshot.library.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["happy", "sad"]);
    assert!(snapshot.models.values().all(|model| model.default.is_none()));
}
