//! The OpenAPI description of the admin routes.

use serde_json::{Value, json};
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
        admin::remove_vector,
        admin::reload,
        admin::schema,
        admin::metrics
    ),
    components(schemas(admin::DefaultBody, admin::VectorForm, admin::Message)),
    modifiers(&Bearer),
    tags((name = "Steering", description = "What there is to steer with, and changes to it while the server runs"))
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

/// Where the schema stands by itself, which its own references start from.
const SCHEMA_ID: &str = "/v1/steering/schema";

/// The description, with the schema of specs in it.
pub(super) fn document() -> Value {
    // Serialising it can't fail: all its keys are strings. `null` would be seen at once in the test below.
    let mut document = serde_json::to_value(Routes::openapi()).unwrap_or_default();
    let mut schema = spec::schema();
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("$id".to_string(), SCHEMA_ID.into());
    }
    if let Some(schemas) = document
        .pointer_mut("/components/schemas")
        .and_then(Value::as_object_mut)
    {
        schemas.insert("Steering".to_string(), schema);
    }
    if let Some(spec) = document.pointer_mut("/components/schemas/DefaultBody/properties/spec") {
        *spec = json!({
            "description": "The spec; null for none.",
            "anyOf": [{ "$ref": format!("{SCHEMA_ID}#/$defs/SteeringSpec") }, { "type": "null" }],
        });
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_has_every_route_and_the_schema() {
        let document = document();
        for (path, method) in [
            ("/v1/steering", "get"),
            ("/v1/steering/default", "put"),
            ("/v1/steering/vectors", "post"),
            ("/v1/steering/vectors/{name}", "delete"),
            ("/v1/steering/reload", "post"),
            ("/v1/steering/schema", "get"),
            ("/metrics", "get"),
        ] {
            assert!(document["paths"][path][method].is_object(), "{method} {path}");
        }
        assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
        assert!(document["paths"]["/v1/steering"]["get"]["security"][0]["bearer"].is_array());
        assert!(document["components"]["schemas"]["Steering"]["$defs"]["SteeringSpec"].is_object());
        let spec = &document["components"]["schemas"]["DefaultBody"]["properties"]["spec"];
        assert_eq!(spec["anyOf"][0]["$ref"], "/v1/steering/schema#/$defs/SteeringSpec");
    }
}
