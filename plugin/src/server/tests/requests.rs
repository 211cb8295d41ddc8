use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode};
use axum::response::IntoResponse;
use axum::routing::post;
use futures::{StreamExt, stream};
use http_body_util::BodyExt;
use residual_hooks::current_mark;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

use super::testing::{
    CHAT_STREAM, PROMPT_ERROR, RESPONSES_STREAM, json_request, local, post_json, send, server, steering,
};
use crate::config::Limits;
use crate::server::wrap;

const FIELD: &str = r#""steering":{"vectors":[{"vector":"happy","scale":2}]}"#;

#[tokio::test]
async fn the_field_is_taken_out_and_the_rest_is_byte_for_byte() {
    let server = server(&steering(), local());
    let rest = [
        r#""model" : "tiny""#,
        r#""temperature":0.10000000000000000555"#,
        r#""messages":[ {"content":"\u00e4\n"} ]"#,
    ];
    for path in ["/v1/chat/completions", "/v1/completions", "/v1/responses"] {
        for at in 0..=rest.len() {
            let mut members = rest.to_vec();
            members.insert(at, FIELD);
            let answer = post_json(&server, path, format!("{{{}}}", members.join(","))).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
            // Between members white space may go; within a value nothing changes.
            let expected = format!("{{{}}}", rest.join(",")).replace("\"model\" : ", "\"model\":");
            let json = answer.json();
            assert_eq!(json["echo"], expected);
            assert_eq!(json["length"], expected.len().to_string());
            let fingerprint = answer.header("x-steering-fingerprint").unwrap();
            assert_eq!(fingerprint.len(), 64);
            assert_eq!(answer.header("x-scope"), Some(fingerprint));
            assert_eq!(
                json["usage"],
                json!({ "total_tokens": 3, "steering": { "fingerprint": fingerprint } })
            );
            assert_eq!(
                answer.header("content-length"),
                Some(answer.text.len().to_string().as_str())
            );
        }
    }
}

#[tokio::test]
async fn without_the_field_nothing_is_touched() {
    let server = server(&steering(), local());
    for body in [
        r#"{ "model": "tiny", "x": 1.0 }"#,
        r#"{"x":"steering"}"#,
        "[1]",
        "{",
        "",
        "null",
        "\"steering\"",
    ] {
        let answer = post_json(&server, "/v1/chat/completions", body).await;
        assert_eq!((answer.status, &answer.json()["echo"]), (StatusCode::OK, &json!(body)));
        let steered = body.starts_with('{') && body.len() > 1;
        assert_eq!(
            answer.header("x-steering-fingerprint"),
            steered.then_some("none"),
            "{body}"
        );
        assert_eq!(answer.json()["usage"], json!({ "total_tokens": 3 }));
    }
    // Not JSON, or not a route of ours, or not a body: handed on, field and all.
    let body = format!("{{{FIELD}}}");
    let plain = Request::post("/v1/chat/completions")
        .body(Body::from(body.clone()))
        .unwrap();
    assert_eq!(send(&server, plain).await.json()["echo"], body);
    let other = post_json(&server, "/v1/models/status", body.clone()).await;
    assert_eq!(
        (other.json()["echo"].as_str(), other.header("x-steering-fingerprint")),
        (Some(&*body), None)
    );
    let listed = Request::get("/v1/chat/completions").body(Body::empty()).unwrap();
    assert_eq!(send(&server, listed).await.text, "listed");
}

#[tokio::test]
async fn a_default_steers_and_off_switches_it_off() {
    let steering = steering();
    let server = server(&steering, local());
    let spec = serde_json::from_str(r#"{"vectors":[{"vector":"sad","scale":1}]}"#).unwrap();
    steering.set_default(None, Some(spec)).unwrap();
    let plain = post_json(&server, "/v1/completions", "{}").await;
    assert_eq!(plain.header("x-steering-fingerprint").unwrap().len(), 64);
    let off = post_json(&server, "/v1/completions", r#"{"steering":{"mode":"off"}}"#).await;
    assert_eq!(off.header("x-steering-fingerprint"), Some("none"));
    assert_eq!(off.json()["echo"], "{}");
}

#[tokio::test]
async fn a_model_that_is_not_there_is_left_to_the_engine_unless_it_is_to_be_steered() {
    let server = server(&steering(), local());
    let answer = post_json(&server, "/v1/completions", r#"{"model":"other"}"#).await;
    assert_eq!(
        (answer.status, answer.header("x-scope")),
        (StatusCode::OK, Some("outside"))
    );
    let answer = post_json(&server, "/v1/completions", format!(r#"{{"model":"other",{FIELD}}}"#)).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.json()["error"]["code"], "model_not_found");
    assert_eq!(answer.message(), "model: found \"other\", expected one of tiny");
}

#[tokio::test]
async fn streams_say_it_in_their_usage_block() {
    let server = server(&steering(), local());
    for (path, prompt, stream, usage) in [
        ("/v1/chat/completions", "", CHAT_STREAM, "\"avg\":1.50"),
        (
            "/v1/responses",
            "\"input\":\"\",",
            RESPONSES_STREAM,
            "\"total_tokens\":3",
        ),
    ] {
        for apply in ["", r#","apply":{"prompt":{"positions":[1]}}"#] {
            let body = format!(
                r#"{{"stream":true,{prompt}"steering":{{"vectors":[{{"vector":"happy","scale":1{apply}}}]}}}}"#
            );
            let answer = post_json(&server, path, body).await;
            let fingerprint = answer.header("x-steering-fingerprint").unwrap();
            let extended = format!("{usage},\"steering\":{{\"fingerprint\":\"{fingerprint}\"}}");
            assert_eq!(answer.text, stream.replace(usage, &extended));
        }
        let plain = post_json(&server, path, format!("{{{prompt}\"stream\":true}}")).await;
        assert_eq!(
            (plain.text.as_str(), plain.header("x-steering-fingerprint")),
            (stream, Some("none"))
        );
    }
}

#[tokio::test]
async fn a_spec_that_does_not_fit_the_prompt_is_refused_streaming_or_not() {
    let steering = steering();
    let server = server(&steering, local());
    let spec = r#""steering":{"vectors":[{"vector":"happy","scale":1,"apply":{"prompt":{"positions":[40]}}}]}"#;
    for body in [
        format!(r#"{{"prompt":40,{spec}}}"#),
        format!(r#"{{"prompt":40,"stream":true,{spec}}}"#),
        format!(r#"{{"input":40,"stream":true,{spec}}}"#),
    ] {
        let answer = post_json(&server, "/v1/responses", body.clone()).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        assert_eq!(answer.message(), PROMPT_ERROR);
    }
    let text = steering.metrics().render();
    assert!(text.contains("steering_refusals_total{reason=\"prompt\"} 3"), "{text}");
    assert!(
        text.contains("steering_requests_total{model=\"tiny\",outcome=\"refused\"} 3"),
        "{text}"
    );
    assert!(!text.contains("outcome=\"steered\""), "{text}");
}

#[tokio::test]
async fn a_request_is_kept_until_its_stream_ends_or_is_dropped() {
    for (field, ended) in [(FIELD, true), (FIELD, false), ("\"x\":1", true), ("\"x\":1", false)] {
        let (weak, mut weaks) = tokio::sync::mpsc::unbounded_channel();
        let (events, receiver) = tokio::sync::mpsc::unbounded_channel::<Bytes>();
        let receiver = std::sync::Mutex::new(Some(receiver));
        let handler = async move || {
            weak.send(Arc::downgrade(&current_mark().unwrap())).unwrap();
            let receiver = receiver.lock().unwrap().take().unwrap();
            let source = stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
            let body = Body::from_stream(Box::pin(source.map(Ok::<_, std::convert::Infallible>)));
            ([("content-type", "text/event-stream")], body).into_response()
        };
        let handler = std::sync::Arc::new(handler);
        let engine = Router::new().route("/v1/completions", post(async move || handler().await));
        let server = wrap(engine, steering(), local(), Limits::default(), true);
        let response = server
            .oneshot(json_request("POST", "/v1/completions", format!("{{{field}}}")))
            .await
            .unwrap();
        let mut body = response.into_body();
        let alive = weaks.recv().await.unwrap();
        assert!(alive.upgrade().is_some());
        events.send("data: 1\n\n".into()).unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "data: 1\n\n");
        assert!(alive.upgrade().is_some());
        if ended {
            drop(events);
            assert!(body.frame().await.is_none());
        }
        drop(body);
        assert!(alive.upgrade().is_none());
    }
}

#[tokio::test]
async fn web_pages_can_read_refusals_and_the_header() {
    let server = server(&steering(), local());
    let refused = post_json(&server, "/v1/completions", r#"{"steering":1}"#).await;
    assert_eq!(refused.header("access-control-allow-origin"), Some("*"));
    let answered = post_json(&server, "/v1/completions", "{}").await;
    assert_eq!(
        answered.header("access-control-expose-headers"),
        Some("x-steering-fingerprint")
    );
}

#[tokio::test]
async fn requests_are_counted() {
    let steering = steering();
    let server = server(&steering, local());
    post_json(&server, "/v1/completions", "{}").await;
    post_json(&server, "/v1/completions", format!("{{{FIELD}}}")).await;
    post_json(&server, "/v1/completions", format!("{{{FIELD},\"stream\":true}}")).await;
    post_json(&server, "/v1/completions", r#"{"model":"evil\"label"}"#).await;
    post_json(&server, "/v1/completions", r#"{"steering":1,"model":"evil"}"#).await;
    post_json(&server, "/v1/embeddings", format!("{{{FIELD}}}")).await;
    let text = steering.metrics().render();
    for line in [
        "steering_requests_total{model=\"tiny\",outcome=\"steered\"} 2",
        "steering_requests_total{model=\"tiny\",outcome=\"unsteered\"} 1",
        "steering_requests_total{model=\"other\",outcome=\"unsteered\"} 1",
        "steering_requests_total{model=\"other\",outcome=\"refused\"} 1",
        "steering_requests_total{model=\"tiny\",outcome=\"refused\"} 1",
        "steering_refusals_total{reason=\"field\"} 1",
        "steering_refusals_total{reason=\"route\"} 1",
        "steering_vector_requests_total{vector=\"happy\"} 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("evil"), "{text}");
}

#[tokio::test]
async fn bodies_are_whole_on_the_wire() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = server(&steering(), local());
    tokio::spawn(async move { axum::serve(listener, server).await });
    let plain = format!("{{\"prompt\":\"x\",{FIELD}}}");
    let streamed = format!("{{\"stream\":true,{FIELD}}}");
    for body in [&plain, &streamed] {
        let stated = format!("content-length: {}\r\n\r\n{body}", body.len());
        let (a, b) = body.split_at(9);
        let chunked = format!(
            "transfer-encoding: chunked\r\n\r\n{:x}\r\n{a}\r\n{:x}\r\n{b}\r\n0\r\n\r\n",
            a.len(),
            b.len()
        );
        for rest in [stated, chunked] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let head =
                "POST /v1/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n";
            stream.write_all(format!("{head}{rest}").as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            assert!(answer.contains("\"steering\":{\"fingerprint\":\""), "{answer}");
            if body == &plain {
                assert!(
                    answer.contains("\"length\":\"14\"") && answer.contains(r#""echo":"{\"prompt\":\"x\"}""#),
                    "{answer}"
                );
                let (head, text) = answer.split_once("\r\n\r\n").unwrap();
                assert!(head.contains(&format!("content-length: {}", text.len())), "{answer}");
            } else {
                assert!(answer.contains("data: [DONE]"), "{answer}");
            }
        }
    }
}

/// A client that sends all of its body before it reads the answer, as many do, reads the error and no reset connection.
#[tokio::test]
async fn a_refused_body_is_read_to_its_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = server(&steering(), local());
    tokio::spawn(async move { axum::serve(listener, server).await });
    let bytes = 24 << 20;
    let large = vec![b'x'; bytes];
    for route in ["/v1/steering/vectors", "/v1/steering/reload", "/v1/nowhere"] {
        let head = format!(
            "POST {route} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: multipart/form-data; boundary=b\r\ncontent-length: {bytes}\r\n"
        );
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
        stream
            .write_all(&large)
            .await
            .unwrap_or_else(|error| panic!("{route}: {error}"));
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .await
            .unwrap_or_else(|error| panic!("{route}: {error}"));
        assert!(answer.starts_with("HTTP/1.1 4"), "{route}: {answer}");
        assert!(answer.contains("\"error\":{"), "{route}: {answer}");

        // Nobody asks for a body that waits to be asked for.
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(format!("{head}expect: 100-continue\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 4"), "{route}: {answer}");
    }
}
