//! On what condition a vector is used.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::first_key::WithFirst;
use super::validate::finite;
use super::{VectorRef, is_default};
use crate::SteeringError;
use crate::library::check_name;

/// Most tests in one spec: each is a product of the state with a direction and, if it is decided token by token, one at every
/// token.
pub const MAX_TESTS: usize = 64;

/// How deep conditions may lie in each other.
pub const MAX_DEPTH: usize = 8;

/// The longest window of a test, in tokens.
pub const MAX_WINDOW: usize = 4096;

/// A condition: a test, `{"all": [..]}` of several or `{"any": [..]}` of them.
#[derive(Clone, Debug, PartialEq)]
pub enum When {
    /// The state passes a test.
    Test(Box<Test>),
    /// All of these hold.
    All(Vec<When>),
    /// One of these holds at least.
    Any(Vec<When>),
}

/// Whether a state has a component along a vector's unit direction that is above or below a threshold. The state is the one
/// that the layer's own steering is yet to be done to; what earlier layers did is in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Test {
    /// The vector: its name in the library or, where the operator allows it, its numbers or pairs to find it from.
    pub vector: VectorRef,
    /// Name of the map that carries it to the served model, by its linear part; absent: it is native.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<String>,
    /// The layer whose state is looked at, 0-based.
    pub layer: usize,
    /// How often it is decided. Absent: `prompt`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub each: Each,
    /// Which state of the prompt, if it is decided once. Absent: `last`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub token: TokenState,
    /// Passed if the component is greater than this. Either this or `below`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    /// Passed if the component is less than this. Either this or `above`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
    /// With `each = "token"`: once passed, the test stays so until the component is less than this (with `above`) or greater
    /// (with `below`). Absent: the threshold itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<f64>,
    /// With `each = "token"`: it is the mean of the components of so many tokens, up to this one, that is compared. Absent: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MAX_WINDOW))]
    pub window: Option<usize>,
}

steermap_extract::from_table!(Test, "a condition: a table");

/// How often a test is decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Each {
    /// Once for a sequence, from its prompt.
    #[default]
    Prompt,
    /// At every token of prompt and generation, for what is done to this token from the test's layer on.
    Token,
}

/// Which state of the prompt a test looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TokenState {
    /// That of its last token.
    #[default]
    Last,
    /// The mean over all its tokens.
    Mean,
}

impl Test {
    /// Whether the last prompt token's state at `layer` has a component along `vector` greater than `threshold`.
    pub fn above(vector: impl Into<VectorRef>, layer: usize, threshold: f64) -> Self {
        Self {
            vector: vector.into(),
            map: None,
            layer,
            each: Each::Prompt,
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

    /// The same of the mean over the prompt's tokens.
    pub fn mean(mut self) -> Self {
        self.token = TokenState::Mean;
        self
    }

    /// The same of each token.
    pub fn each_token(mut self) -> Self {
        self.each = Each::Token;
        self
    }

    /// The same with the vector carried over by the map `map`.
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
        if self.each == Each::Prompt {
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
                "no such key; window takes a mean",
            ));
        }
        if let Some(release) = self.release {
            finite(&field("release"), release)?;
            if (above && release > threshold) || (!above && release < threshold) {
                let expected = match above {
                    true => format!("{threshold} at most, which is above"),
                    false => format!("{threshold} at least, which is below"),
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

    /// How many tests it has; beyond `most` it is not counted on.
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

    /// All its tests, each with its path; `at` is that of the condition.
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

    /// The vectors of its tests, in the same order, to be changed.
    pub(super) fn vectors_mut<'a>(&'a mut self, all: &mut Vec<&'a mut VectorRef>) {
        match self {
            Self::Test(test) => all.push(&mut test.vector),
            Self::All(parts) | Self::Any(parts) => parts.iter_mut().for_each(|part| part.vectors_mut(all)),
        }
    }

    /// Whether any of it is decided once for the sequence: then it is known for generated tokens alone.
    pub fn waits_for_the_prompt(&self) -> bool {
        self.tests().iter().any(|test| test.each == Each::Prompt)
    }

    /// Checks what can be checked without vectors or a model. `at` is where it stands, for messages.
    ///
    /// # Errors
    ///
    /// A name that no vector or map can have, a number that is not a finite 32-bit one, keys that are missing or exclude each
    /// other, an empty list, or conditions that lie too deep in each other.
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
            return Err(SteeringError::value(at, "[]", "one condition at least"));
        }
        if depth > MAX_DEPTH {
            let expected = format!("at most {MAX_DEPTH}");
            return Err(SteeringError::value(
                at,
                format!("{depth} lists in each other"),
                expected,
            ));
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
    // By hand: derived for an untagged enum, the error would not say what was wrong in a table.
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
                        "found the key {key:?} beside it, expected it alone"
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
            "description": "A condition: a test, all of several or any of them.",
            "anyOf": [generator.subschema_for::<Test>(), list("all"), list("any")],
        })
    }
}
