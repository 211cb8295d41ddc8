//! Describes types of other crates in the schema.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// Describes [`steermap_maps::OffsetRule`] in the schema.
#[derive(JsonSchema)]
#[schemars(
    rename = "OffsetRule",
    rename_all = "lowercase",
    description = "How a map carries a vector over."
)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) enum OffsetRuleSchema {
    /// `A v`: a vector is a difference of states, so it moves by the map's linear part.
    Linear,
    /// `A v + p`, as in the paper.
    Affine,
}

/// Describes [`steermap_maps::TokenPosition`] in the schema.
#[derive(JsonSchema)]
#[schemars(
    rename = "TokenPosition",
    rename_all = "lowercase",
    description = "Which states of a text are compared."
)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) enum TokenPositionSchema {
    /// The state of the last token.
    Last,
    /// The mean of the states of all tokens but the first.
    Mean,
    /// The state of the first token in which the two texts of a pair differ.
    Answer,
}

/// Describes [`steermap_extract::LayerSelection`] in the schema.
pub(super) struct LayerSelectionSchema;

impl JsonSchema for LayerSelectionSchema {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "LayerSelection".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Layers, 0-based: \"all\", ranges such as \"3,5-9\", or a list of numbers.",
            "anyOf": [
                { "type": "string", "minLength": 1 },
                { "type": "array", "items": generator.subschema_for::<usize>(), "minItems": 1 },
            ],
        })
    }
}
