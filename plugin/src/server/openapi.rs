//! The OpenAPI description of the admin routes.

use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::admin;
use crate::spec;

#[derive(OpenApi)]
#[openapi(
    info(title = "steermap", description = "Steering of the models that this mistral.rs server serves."),
    paths(
        admin::describe,
        admin::set_default,
        admin::insert_vector,
        admin::read_vector,
        admin::remove_vector,
        admin::reload,
        admin::history,
        admin::restore,
        admin::check,
        admin::schema,
        admin::metrics
    ),
    components(schemas(
        admin::CheckBody,
        admin::DefaultBody,
        admin::FindBody,
        admin::RestoreBody,
        admin::VectorForm,
        admin::Message
    )),
    modifiers(&Bearer),
    tags((name = "Steering", description = "Vectors, maps and default specs, and changes to them while the server runs"))
)]
struct Routes;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, doc: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = doc.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

/// The route of the description, which is open to all.
pub(super) fn router() -> Router {
    Router::new().route("/api-doc/steering.json", get(async || Json(document())))
}

/// The description, with the schemas of specs in it.
fn document() -> Value {
    // Serialising can't fail, since all keys are strings. The test below would see a `null`.
    let mut document = serde_json::to_value(Routes::openapi()).unwrap_or_default();
    if let Some(schemas) = document
        .pointer_mut("/components/schemas")
        .and_then(Value::as_object_mut)
    {
        schemas.extend(spec_schemas());
    }
    if let Some(spec) = document.pointer_mut("/components/schemas/DefaultBody/properties/spec") {
        *spec = json!({
            "description": "The spec; null for none.",
            "anyOf": [spec_ref("SteeringSpec"), { "type": "null" }],
        });
    }
    if let Some(steering) = document.pointer_mut("/components/schemas/CheckBody/properties/steering") {
        *steering = spec_ref("RequestSteering");
    }
    if let Some(prompt) = document.pointer_mut("/components/schemas/CheckBody/properties/prompt") {
        *prompt = spec_ref("Text");
    }
    // `name` and `concept` stand beside the keys of the vector.
    if let Some(body) = document.pointer_mut("/components/schemas/FindBody")
        && let Some(mut table) = document_of_pairs()
    {
        if let (Some(own), Some(keys)) = (body.get_mut("properties").map(Value::take), table.get_mut("properties")) {
            for key in ["name", "concept"] {
                keys[key] = own[key].clone();
            }
        }
        if let Some(required) = table.get_mut("required").and_then(Value::as_array_mut) {
            required.push("name".into());
        }
        *body = table;
    }
    for operation in operations(&mut document) {
        let guarded = operation.contains_key("security");
        let has_body = operation.contains_key("requestBody");
        let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else {
            continue;
        };
        let mut add = |status: &str, why: &str| {
            let content = json!({ "application/json": { "schema": { "$ref": "#/components/schemas/Message" } } });
            let response = json!({ "description": why, "content": content });
            responses.entry(status).or_insert(response);
        };
        if guarded {
            add("401", "The token is missing or wrong");
            add("403", "This caller may not use the route");
            add(
                "500",
                "The change could not be written to the state folder; nothing has changed",
            );
        }
        if has_body {
            add("400", "The body can't be read");
            add("413", "The body is too large");
            add("415", "The body has another type");
        }
    }
    document
}

/// The schema of a vector that is found from pairs.
fn document_of_pairs() -> Option<Value> {
    spec_schemas().remove("Steering.PairsVector")
}

/// The operations of a document.
fn operations(document: &mut Value) -> impl Iterator<Item = &mut Map<String, Value>> {
    let paths = document.get_mut("paths").and_then(Value::as_object_mut);
    let methods = paths.into_iter().flat_map(|paths| paths.values_mut());
    let methods = methods.filter_map(Value::as_object_mut);
    let operations = methods.flat_map(|methods| methods.values_mut());
    operations.filter_map(Value::as_object_mut)
}

/// The schemas of specs, by the names that they have among a document's components.
pub(super) fn spec_schemas() -> Map<String, Value> {
    let mut schema = spec::schema();
    rename_references(&mut schema);
    let definitions = schema.get_mut("$defs").map(Value::take);
    let Some(Value::Object(definitions)) = definitions else {
        return Map::new();
    };
    let named = definitions.into_iter();
    named
        .map(|(name, schema)| (format!("Steering.{name}"), schema))
        .collect()
}

/// A reference to the schema `name` of specs.
pub(super) fn spec_ref(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/Steering.{name}") })
}

/// Rewrites references to `#/$defs/NAME` as [`spec_ref`] writes them.
fn rename_references(schema: &mut Value) {
    match schema {
        Value::Object(table) => {
            for (key, value) in table.iter_mut() {
                match value.as_str().and_then(|text| text.strip_prefix("#/$defs/")) {
                    Some(name) if key == "$ref" => *value = format!("#/components/schemas/Steering.{name}").into(),
                    _ => rename_references(value),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(rename_references),
        _ => {}
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Checks that every reference of a document leads somewhere in it.
    pub(in crate::server) fn assert_references_resolve(document: &Value) {
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }

    #[test]
    fn the_description_has_every_route_and_the_schema() {
        let document = document();
        for (path, method) in [
            ("/v1/steering", "get"),
            ("/v1/steering/default", "put"),
            ("/v1/steering/vectors", "post"),
            ("/v1/steering/vectors/{name}", "get"),
            ("/v1/steering/vectors/{name}", "delete"),
            ("/v1/steering/reload", "post"),
            ("/v1/steering/history", "get"),
            ("/v1/steering/restore", "post"),
            ("/v1/steering/check", "post"),
            ("/v1/steering/schema", "get"),
            ("/metrics", "get"),
        ] {
            assert!(document["paths"][path][method].is_object(), "{method} {path}");
        }
        assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
        assert!(document["paths"]["/v1/steering"]["get"]["security"][0]["bearer"].is_array());
        let spec = &document["components"]["schemas"]["DefaultBody"]["properties"]["spec"];
        assert_eq!(spec["anyOf"][0]["$ref"], "#/components/schemas/Steering.SteeringSpec");
        assert_references_resolve(&document);
        assert!(document["paths"]["/v1/steering/default"]["put"]["responses"]["415"].is_object());
        assert!(document["paths"]["/metrics"]["get"]["responses"]["401"].is_null());
    }
}
