//! Adds steering to mistral.rs's OpenAPI document: the `steering` field, the answers, and the shape of errors.

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::openapi::{spec_ref, spec_schemas};
use super::requests::FINGERPRINT_HEADER;

/// The path of mistral.rs's document.
const PATH: &str = "/api-doc/openapi.json";

/// The most bytes of the document that are read: twenty times its present size.
const MOST_BYTES: usize = 2 << 20;

/// The steered routes, the schemas of their bodies, and those of their answers.
const STEERED: [(&str, &str, &str); 3] = [
    ("/v1/chat/completions", "ChatCompletionRequest", "ChatCompletion"),
    ("/v1/completions", "CompletionRequest", "Completion"),
    ("/v1/responses", "OpenResponsesCreateRequest", "Response"),
];

/// The middleware that adds steering to the document.
pub(super) async fn with_steering(request: Request, next: Next) -> Response {
    let is_document = request.uri().path() == PATH;
    let response = next.run(request).await;
    if !is_document || response.status() != StatusCode::OK {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, MOST_BYTES).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    match serde_json::from_slice(&bytes) {
        Ok(mut document) => {
            add_steering(&mut document);
            let headers: HeaderMap = std::mem::take(&mut parts.headers);
            let mut response = Json(document).into_response();
            let kept = headers.into_iter().filter_map(|(name, value)| Some((name?, value)));
            for (name, value) in kept.filter(|(name, _)| *name != CONTENT_LENGTH) {
                response.headers_mut().insert(name, value);
            }
            response
        }
        // Not a JSON document: pass it on unchanged.
        Err(_) => Response::from_parts(parts, Body::from(bytes)),
    }
}

fn add_steering(document: &mut Value) {
    if let Some(schemas) = object_at(document, "/components/schemas") {
        schemas.extend(spec_schemas());
        schemas.extend(answers());
        for (_, body, _) in STEERED {
            let field = json!({ "description": "How the request is steered.", "allOf": [spec_ref("RequestSteering")] });
            let properties = schemas.get_mut(body).and_then(|schema| schema.get_mut("properties"));
            if let Some(properties) = properties.and_then(Value::as_object_mut) {
                properties.insert("steering".to_string(), field);
            }
        }
    }
    let Some(paths) = object_at(document, "/paths") else {
        return;
    };
    for (path, methods) in paths.iter_mut() {
        let Some(methods) = methods.as_object_mut() else {
            continue;
        };
        for (method, operation) in methods.iter_mut() {
            let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else {
                continue;
            };
            let steered = STEERED
                .iter()
                .find(|(steered, _, _)| steered == path && method == "post");
            if let Some((_, _, answer)) = steered {
                responses.insert("200".to_string(), success(answer));
            }
            for (range, whose) in [
                ("4XX", "What is wrong with the request"),
                ("5XX", "What went wrong in the server"),
            ] {
                let content = json!({ "application/json": { "schema": reference("Error") } });
                responses.insert(range.to_string(), json!({ "description": whose, "content": content }));
            }
        }
    }
}

fn object_at<'a>(document: &'a mut Value, at: &str) -> Option<&'a mut Map<String, Value>> {
    document.pointer_mut(at)?.as_object_mut()
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/Steering.{schema}") })
}

/// The answer of a steered route.
fn success(answer: &str) -> Value {
    let header = json!({ "description": "The fingerprint of the answer's steering, or `none`.", "schema": { "type": "string" } });
    json!({
        "description": "The answer, whole or, with `\"stream\": true`, as events",
        "headers": { FINGERPRINT_HEADER.as_str(): header },
        "content": {
            "application/json": { "schema": reference(answer) },
            "text/event-stream": {},
        },
    })
}

/// The schemas of answers and errors.
fn answers() -> Map<String, Value> {
    let count = json!({ "type": "integer", "minimum": 0 });
    let steering = json!({
        "type": "object",
        "description": "Present in a steered answer",
        "required": ["fingerprint"],
        "properties": {
            "fingerprint": { "type": "string", "description": "Equal for equal steering" },
            "clamped_layers": {
                "type": "array", "items": count, "description": "The layers at which the operator's bound reduced scales",
            },
            "late_layers": {
                "type": "array", "items": count,
                "description": "The layers at which the first generated token is not steered, since a condition is decided at a later layer",
            },
        },
    });
    let usage = |counts: [&str; 3]| {
        let mut properties: Map<String, Value> = counts.iter().map(|name| (name.to_string(), count.clone())).collect();
        properties.insert("steering".to_string(), steering.clone());
        json!({ "type": "object", "required": counts, "properties": properties })
    };
    let choice = |content: &str| {
        json!({ "type": "array", "items": {
            "type": "object",
            "required": ["index", "finish_reason", content],
            "properties": { "readout": reference("Readout") },
        } })
    };
    let completion = |kind: &str, content: &str| {
        json!({
            "type": "object",
            "required": ["id", "object", "created", "model", "choices", "usage"],
            "properties": {
                "id": { "type": "string" },
                "object": { "const": kind },
                "created": count,
                "model": { "type": "string" },
                "choices": choice(content),
                "usage": usage(["prompt_tokens", "completion_tokens", "total_tokens"]),
            },
        })
    };
    let response = json!({
        "type": "object",
        "required": ["id", "object", "created_at", "model", "status", "output"],
        "properties": {
            "id": { "type": "string" },
            "object": { "const": "response" },
            "model": { "type": "string" },
            "status": { "enum": ["completed", "incomplete", "failed", "in_progress", "queued", "cancelled"] },
            "output": { "type": "array" },
            "readout": reference("Readout"),
            "usage": { "anyOf": [usage(["input_tokens", "output_tokens", "total_tokens"]), { "type": "null" }] },
        },
    });
    let text = json!({ "type": ["string", "null"] });
    let error = json!({
        "type": "object",
        "required": ["error"],
        "properties": { "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": { "message": { "type": "string" }, "type": { "type": "string" }, "param": text, "code": text },
        } },
    });
    let named = [
        ("ChatCompletion", completion("chat.completion", "message")),
        ("Completion", completion("text_completion", "text")),
        ("Response", response),
        ("Readout", super::readout::schema()),
        ("Error", error),
    ];
    named
        .into_iter()
        .map(|(name, schema)| (format!("Steering.{name}"), schema))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::openapi::tests::assert_references_resolve;

    #[test]
    fn routes_get_the_field_their_answers_and_errors() {
        let operation = || json!({ "responses": { "200": { "description": "" } } });
        let mut document = json!({
            "paths": {
                "/v1/chat/completions": { "post": operation() },
                "/v1/models": { "get": operation() },
            },
            "components": { "schemas": { "ChatCompletionRequest": { "properties": { "model": {} } } } },
        });
        add_steering(&mut document);
        let schemas = &document["components"]["schemas"];
        let field = &schemas["ChatCompletionRequest"]["properties"]["steering"]["allOf"][0]["$ref"];
        assert_eq!(field, "#/components/schemas/Steering.RequestSteering");
        assert!(schemas["Steering.RequestSteering"]["properties"]["vectors"].is_object());
        let chat = &document["paths"]["/v1/chat/completions"]["post"]["responses"];
        let schema = &chat["200"]["content"]["application/json"]["schema"]["$ref"];
        assert_eq!(schema, "#/components/schemas/Steering.ChatCompletion");
        assert!(chat["200"]["headers"]["x-steering-fingerprint"].is_object());
        let models = &document["paths"]["/v1/models"]["get"]["responses"];
        assert_eq!(models["200"], json!({ "description": "" }));
        assert_eq!(
            models["4XX"]["content"]["application/json"]["schema"]["$ref"],
            "#/components/schemas/Steering.Error"
        );
        assert_references_resolve(&document);
    }
}
