//! The JSON Schema of steering specs, which ships as `steering.schema.json`.

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::request::RequestSteering;
use super::steering_spec::SteeringSpec;

/// The JSON Schema (draft 2020-12) of a [`RequestSteering`] or a [`SteeringSpec`]; each also has its schema under
/// `$defs`.
///
/// It covers less than [`SteeringSpec::validate`] checks: it does not say which keys exclude each other.
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().for_deserialize().into_generator();
    let any_of = [
        generator.subschema_for::<RequestSteering>(),
        generator.subschema_for::<SteeringSpec>(),
    ];
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "steermap steering",
        "description": "How a request or a model's default is steered: the `steering` field of a request \
                        (RequestSteering), or a default in the configuration file (SteeringSpec).",
        "anyOf": any_of,
        "$defs": generator.take_definitions(true),
    });
    unwrap_lines(&mut schema);
    schema
}

/// Joins the lines of each paragraph of the descriptions, which are the code's doc comments.
fn unwrap_lines(schema: &mut Value) {
    match schema {
        Value::Object(table) => {
            if let Some(Value::String(text)) = table.get_mut("description") {
                let paragraphs: Vec<String> = text.split("\n\n").map(|text| text.replace('\n', " ")).collect();
                *text = paragraphs.join("\n\n");
            }
            table.values_mut().for_each(unwrap_lines);
        }
        Value::Array(list) => list.iter_mut().for_each(unwrap_lines),
        _ => {}
    }
}
