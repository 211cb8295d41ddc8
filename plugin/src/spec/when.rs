//! The condition on which a vector acts.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::absent::is_default;
use super::first_key::WithFirst;
use super::number::finite;
use super::vector_ref::VectorRef;
use crate::SteeringError;
use crate::name::check_name;

/// Most tests in one spec. Each test costs a product of the state with a direction, at every token if it is decided
/// token by token.
pub const MAX_TESTS: usize = 64;

/// How deep conditions may be nested.
pub const MAX_DEPTH: usize = 8;

/// The longest window of a test, in tokens.
pub const MAX_WINDOW: usize = 4096;

/// A condition: a test, or `{"all": [..]}` or `{"any": [..]}` of several conditions.
#[derive(Clone, Debug, PartialEq)]
pub enum When {
    /// The state passes a test.
    Test(Box<Test>),
    /// All of these hold.
    All(Vec<When>),
    /// At least one of these holds.
    Any(Vec<When>),
}

/// Whether the component of a state along a vector's unit direction is above or below a threshold. The state is taken
/// before the layer's own steering and after that of earlier layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Test {
    /// The vector: its name in the library or, if the operator allows it, its numbers or pairs to find it from.
    pub vector: VectorRef,
    /// Name of the map that carries the vector to the served model, by its linear part; absent: the vector is native.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<String>,
    /// The layer whose state is tested, 0-based.
    pub layer: usize,
    /// How often the test is decided. Absent: `prompt`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub each: DecisionFrequency,
    /// Which state of the prompt is tested, if the test is decided once. Absent: `last`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub token: TokenState,
    /// The test passes if the component is greater than this. Excludes `below`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    /// The test passes if the component is less than this. Excludes `above`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
    /// With `each = "token"`: a test that has passed keeps passing until the component is less than this (with `above`)
    /// or greater (with `below`). Absent: the threshold itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<f64>,
    /// With `each = "token"`: the number of tokens, up to the present one, whose components' mean is compared. Absent:
    /// 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MAX_WINDOW))]
    pub window: Option<usize>,
}

steermap_extract::from_table!(Test, "a condition: a table");

/// How often a test is decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "Each", rename_all = "lowercase")]
pub enum DecisionFrequency {
    /// Once per sequence, from its prompt.
    #[default]
    Prompt,
    /// At every token of prompt and generation, for the steering of that token from the test's layer on.
    Token,
}

/// Which state of the prompt a test reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TokenState {
    /// The state of its last token.
    #[default]
    Last,
    /// The mean over all its tokens' states.
    Mean,
}

impl Test {
    /// Whether the last prompt token's state at `layer` has a component along `vector` greater than `threshold`.
    pub fn above(vector: impl Into<VectorRef>, layer: usize, threshold: f64) -> Self {
        Self {
            vector: vector.into(),
            map: None,
            layer,
            each: DecisionFrequency::Prompt,
            token: TokenState::Last,
            above: Some(threshold),
            below: None,
            release: None,
            window: None,
        }
    }

    /// Whether the last prompt token's state at `layer` has a component along `vector` less than `threshold`.
    pub fn below(vector: impl Into<VectorRef>, layer: usize, threshold: f64) -> Self {
        Self {
            above: None,
            below: Some(threshold),
            ..Self::above(vector, layer, threshold)
        }
    }

    /// The same for the mean over the prompt's tokens.
    pub fn mean(mut self) -> Self {
        self.token = TokenState::Mean;
        self
    }

    /// The same for each token.
    pub fn each_token(mut self) -> Self {
        self.each = DecisionFrequency::Token;
        self
    }

    /// The same, with the vector carried over by the map `map`.
    pub fn through(mut self, map: impl Into<String>) -> Self {
        self.map = Some(map.into());
        self
    }

    fn validate(&self, at: &str) -> Result<(), SteeringError> {
        let field = |name: &str| format!("{at}.{name}");
        self.vector.validate(&field("vector"))?;
        if let Some(map) = &self.map {
            check_name(&field("map"), map)?;
        }
        let (threshold, above) = match (self.above, self.below) {
            (Some(threshold), None) => (threshold, true),
            (None, Some(threshold)) => (threshold, false),
            (Some(_), Some(_)) => {
                return Err(SteeringError::value(field("below"), "both", "either above or below"));
            }
            (None, None) => return Err(SteeringError::value(field("above"), "neither", "above or below")),
        };
        finite(&field(if above { "above" } else { "below" }), threshold)?;
        if self.each == DecisionFrequency::Prompt {
            for (name, there) in [("release", self.release.is_some()), ("window", self.window.is_some())] {
                if there {
                    let found = "this key of a test that is decided once";
                    return Err(SteeringError::value(field(name), found, "each = \"token\" beside it"));
                }
            }
            return Ok(());
        }
        if self.token != TokenState::default() {
            let found = "\"mean\" beside each = \"token\"";
            return Err(SteeringError::value(
                field("token"),
                found,
                "no such key; use window for a mean",
            ));
        }
        if let Some(release) = self.release {
            finite(&field("release"), release)?;
            if (above && release > threshold) || (!above && release < threshold) {
                let expected = if above {
                    format!("at most {threshold}, the value of above")
                } else {
                    format!("at least {threshold}, the value of below")
                };
                return Err(SteeringError::value(field("release"), release.to_string(), expected));
            }
        }
        match self.window {
            Some(window) if !(1..=MAX_WINDOW).contains(&window) => Err(SteeringError::value(
                field("window"),
                window.to_string(),
                format!("1 to {MAX_WINDOW}"),
            )),
            _ => Ok(()),
        }
    }
}

impl When {
    /// As [`Test::above`].
    pub fn above(vector: impl Into<VectorRef>, layer: usize, threshold: f64) -> Self {
        Test::above(vector, layer, threshold).into()
    }

    /// As [`Test::below`].
    pub fn below(vector: impl Into<VectorRef>, layer: usize, threshold: f64) -> Self {
        Test::below(vector, layer, threshold).into()
    }

    /// All its tests, in the order in which they are written.
    pub fn tests(&self) -> Vec<&Test> {
        match self {
            Self::Test(test) => vec![test],
            Self::All(parts) | Self::Any(parts) => parts.iter().flat_map(Self::tests).collect(),
        }
    }

    /// The number of its tests; counting stops beyond `most`.
    pub(super) fn count(&self, most: usize) -> usize {
        let (Self::All(parts) | Self::Any(parts)) = self else {
            return 1;
        };
        let mut count = 0;
        for part in parts {
            if count > most {
                break;
            }
            count += part.count(most - count.min(most));
        }
        count
    }

    /// All its tests, each with its path; `at` is the path of the condition.
    pub(crate) fn tests_at(&self, at: &str) -> Vec<(String, &Test)> {
        let (name, parts) = match self {
            Self::Test(test) => return vec![(at.to_string(), test)],
            Self::All(parts) => ("all", parts),
            Self::Any(parts) => ("any", parts),
        };
        let parts = parts.iter().enumerate();
        parts
            .flat_map(|(index, part)| part.tests_at(&format!("{at}.{name}[{index}]")))
            .collect()
    }

    /// The vectors of its tests, mutable, in the same order.
    pub(super) fn vectors_mut<'a>(&'a mut self, all: &mut Vec<&'a mut VectorRef>) {
        match self {
            Self::Test(test) => all.push(&mut test.vector),
            Self::All(parts) | Self::Any(parts) => parts.iter_mut().for_each(|part| part.vectors_mut(all)),
        }
    }

    /// Whether any test is decided once per sequence; the condition is then known only for generated tokens.
    pub fn waits_for_the_prompt(&self) -> bool {
        self.tests().iter().any(|test| test.each == DecisionFrequency::Prompt)
    }

    /// Checks what can be checked without vectors or a model. `at` is the path of the condition, for messages.
    ///
    /// # Errors
    ///
    /// A name that no vector or map can have, a number that is not finite as f32, keys that are missing or exclude each
    /// other, an empty list, or conditions that are nested too deep.
    pub(super) fn validate(&self, at: &str) -> Result<(), SteeringError> {
        self.validate_within(at, 1)
    }

    fn validate_within(&self, at: &str, depth: usize) -> Result<(), SteeringError> {
        let (name, parts) = match self {
            Self::Test(test) => return test.validate(at),
            Self::All(parts) => ("all", parts),
            Self::Any(parts) => ("any", parts),
        };
        let at = format!("{at}.{name}");
        if parts.is_empty() {
            return Err(SteeringError::value(at, "[]", "at least one condition"));
        }
        if depth > MAX_DEPTH {
            let expected = format!("at most {MAX_DEPTH}");
            return Err(SteeringError::value(at, format!("{depth} nested lists"), expected));
        }
        let mut parts = parts.iter().enumerate();
        parts.try_for_each(|(index, part)| part.validate_within(&format!("{at}[{index}]"), depth + 1))
    }
}

impl From<Test> for When {
    fn from(test: Test) -> Self {
        Self::Test(Box::new(test))
    }
}

impl Serialize for When {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (name, parts) = match self {
            Self::Test(test) => return test.serialize(serializer),
            Self::All(parts) => ("all", parts),
            Self::Any(parts) => ("any", parts),
        };
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(name, parts)?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for When {
    // By hand: the error of a derived untagged enum does not say what is wrong in a table.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WhenVisitor;

        impl<'de> Visitor<'de> for WhenVisitor {
            type Value = When;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a condition: a table of a test, or of all or any")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<When, A::Error> {
                let first = map.next_key::<String>()?;
                let list: fn(Vec<When>) -> When = match first.as_deref() {
                    Some("all") => When::All,
                    Some("any") => When::Any,
                    _ => {
                        let rest = WithFirst::new(first, map);
                        let test = Test::deserialize(MapAccessDeserializer::new(rest))?;
                        return Ok(test.into());
                    }
                };
                let parts = map.next_value()?;
                match map.next_key::<String>()? {
                    Some(key) => Err(de::Error::custom(format!(
                        "found the key {key:?} beside all or any, expected no other key"
                    ))),
                    None => Ok(list(parts)),
                }
            }
        }

        deserializer.deserialize_map(WhenVisitor)
    }
}

impl JsonSchema for When {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "When".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let parts = json_schema!({ "type": "array", "items": generator.subschema_for::<When>(), "minItems": 1 });
        let list = |name: &str| {
            json_schema!({
                "type": "object",
                "properties": { (name): parts },
                "required": [name],
                "additionalProperties": false,
            })
        };
        json_schema!({
            "description": "A condition: a test, or all or any of several conditions.",
            "anyOf": [generator.subschema_for::<Test>(), list("all"), list("any")],
        })
    }
}
