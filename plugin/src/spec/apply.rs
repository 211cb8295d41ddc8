//! Where a vector acts: on which tokens of the prompt, and on which generated ones.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::absent::is_default;
use super::limits::MAX_ENTRIES;

/// The tokens that a vector acts on. An absent phase means `none`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Apply {
    /// Tokens of the prompt. Positions count from its first token, negative ones from its end: -1 is its last token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<Where>,
    /// Generated tokens. Position 0 is the first generated token, when the model reads it. Steering a token changes the
    /// choice of the next one, so -1 is the prompt's last token, from whose state the first generated token is chosen.
    /// `"all"` and a table without positions, windows and tokens include it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Where>,
}

steermap_extract::from_table!(Apply, "a table of prompt and generation");

impl Apply {
    /// Acts on the prompt alone.
    pub fn prompt(tokens: impl Into<Where>) -> Self {
        Self {
            prompt: Some(tokens.into()),
            generation: None,
        }
    }

    /// Acts on generated tokens alone.
    pub fn generation(tokens: impl Into<Where>) -> Self {
        Self {
            prompt: None,
            generation: Some(tokens.into()),
        }
    }
}

/// Which tokens of one phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Where {
    /// All of them: `"all"`.
    All,
    /// None of them: `"none"`.
    None,
    /// The tokens that a table selects.
    Only(Selection),
}

impl Where {
    /// Whether these generated tokens include the prompt's last one, from whose state the first generated token is
    /// chosen.
    pub fn reaches_back(&self) -> bool {
        let selection = match self {
            Self::All => return true,
            Self::None => return false,
            Self::Only(selection) => selection,
        };
        let last = |positions: &Option<Vec<i64>>, windows: &Option<Vec<Window>>| {
            let mut positions = positions.iter().flatten();
            positions.any(|position| *position == -1) || windows.iter().flatten().any(|window| window.start == -1)
        };
        let unlisted = !selection.includes_some();
        (unlisted || last(&selection.positions, &selection.windows))
            && !last(&selection.exclude_positions, &selection.exclude_windows)
    }

    /// These generated tokens without the prompt's last one.
    pub fn generated(&self) -> Self {
        let Self::Only(selection) = self else {
            return self.clone();
        };
        let positions = |list: &Option<Vec<i64>>| {
            let list = list.iter().flatten().copied().filter(|position| *position >= 0);
            Some(list.collect::<Vec<_>>()).filter(|list| !list.is_empty())
        };
        let windows = |list: &Option<Vec<Window>>| {
            let list = list.iter().flatten().filter(|window| window.end != Some(0));
            let list = list.map(|window| Window {
                start: window.start.max(0),
                ..*window
            });
            Some(list.collect::<Vec<_>>()).filter(|list| !list.is_empty())
        };
        let generated = Selection {
            positions: positions(&selection.positions),
            windows: windows(&selection.windows),
            exclude_positions: positions(&selection.exclude_positions),
            exclude_windows: windows(&selection.exclude_windows),
            ..selection.clone()
        };
        if selection.includes_some() && !generated.includes_some() {
            Self::None
        } else {
            Self::Only(generated)
        }
    }
}

impl Selection {
    /// Whether there is a list of included tokens; without one, all tokens are included.
    fn includes_some(&self) -> bool {
        self.positions.is_some() || self.windows.is_some() || self.tokens.is_some() || self.roles.is_some()
    }
}

impl From<Selection> for Where {
    fn from(selection: Selection) -> Self {
        Self::Only(selection)
    }
}

/// Which tokens of one phase: those in any of the lists `positions`, `windows`, `tokens` and `roles` (all tokens if
/// none of these is given), except those in any of the lists `exclude_positions`, `exclude_windows`, `exclude_tokens`
/// and `exclude_roles`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Selection {
    /// Tokens at these positions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_ENTRIES))]
    pub positions: Option<Vec<i64>>,
    /// Tokens at positions in these windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_ENTRIES))]
    pub windows: Option<Vec<Window>>,
    /// These tokens, wherever they stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_ENTRIES))]
    pub tokens: Option<Vec<TokenRef>>,
    /// Excludes the tokens at these positions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_ENTRIES))]
    pub exclude_positions: Option<Vec<i64>>,
    /// Excludes the tokens at positions in these windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_ENTRIES))]
    pub exclude_windows: Option<Vec<Window>>,
    /// Excludes these tokens; in the generation, it excludes generated tokens only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_ENTRIES))]
    pub exclude_tokens: Option<Vec<TokenRef>>,
    /// In the prompt of a chat: the texts of the messages with these roles, without what the chat template writes
    /// around them. An assistant's text includes the position before it, from whose state its first token is chosen. So
    /// `"assistant"` steers an answer in the history at the same tokens as `apply.generation = "all"` did while it was
    /// generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_ENTRIES))]
    pub roles: Option<Vec<Role>>,
    /// In the prompt: excludes the texts of the messages with these roles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_ENTRIES))]
    pub exclude_roles: Option<Vec<Role>>,
    /// In the prompt: whether a request is refused if its prompt has none of `tokens`, or no message of `roles`.
    /// Absent: false.
    #[serde(default, skip_serializing_if = "is_default")]
    pub required: bool,
}

steermap_extract::from_table!(Selection, "a table of positions, windows, tokens and roles");

/// The role of a message in a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The operator's instructions.
    System,
    /// The same as `system`, in newer clients.
    Developer,
    /// The user's messages.
    User,
    /// The model's answers.
    Assistant,
    /// The results of tools.
    Tool,
}

impl Role {
    /// The role's name in a chat.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// Positions from `start` to just before `end`, or to the last; negative bounds count from the prompt's end. Written
/// `[start, end]` or `[start]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first position.
    pub start: i64,
    /// The position after the last; `None`: there is no end.
    pub end: Option<i64>,
}

/// A token, by its id in the model's vocabulary or by its text, which must be one token of the model's tokenizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenRef {
    /// Its id.
    Id(u32),
    /// Its text, including spaces.
    Text(String),
}

impl Serialize for Where {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::None => serializer.serialize_str("none"),
            Self::Only(selection) => selection.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Where {
    // By hand, like the next two: the error of a derived untagged enum does not say what is wrong in a table.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WhereVisitor;

        impl<'de> Visitor<'de> for WhereVisitor {
            type Value = Where;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"all\", \"none\" or a table of positions, windows, tokens and roles")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Where, E> {
                match text {
                    "all" => Ok(Where::All),
                    "none" => Ok(Where::None),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Where, A::Error> {
                Selection::deserialize(MapAccessDeserializer::new(map)).map(Where::Only)
            }
        }

        deserializer.deserialize_any(WhereVisitor)
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(std::iter::once(self.start).chain(self.end))
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WindowVisitor;

        impl<'de> Visitor<'de> for WindowVisitor {
            type Value = Window;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a window of positions: [start, end] or [start]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut bounds: A) -> Result<Window, A::Error> {
                let Some(start) = bounds.next_element()? else {
                    return Err(de::Error::invalid_length(0, &self));
                };
                let end = bounds.next_element()?;
                if end.is_some() && bounds.next_element::<de::IgnoredAny>()?.is_some() {
                    return Err(de::Error::invalid_length(3, &self));
                }
                Ok(Window { start, end })
            }
        }

        deserializer.deserialize_seq(WindowVisitor)
    }
}

impl Serialize for TokenRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Id(id) => serializer.serialize_u32(*id),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for TokenRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TokenVisitor;

        impl Visitor<'_> for TokenVisitor {
            type Value = TokenRef;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a token's id (0 to {}) or its text", u32::MAX)
            }

            fn visit_u64<E: de::Error>(self, id: u64) -> Result<TokenRef, E> {
                let id = u32::try_from(id).map_err(|_| E::invalid_value(Unexpected::Unsigned(id), &self))?;
                Ok(TokenRef::Id(id))
            }

            fn visit_i64<E: de::Error>(self, id: i64) -> Result<TokenRef, E> {
                let id = u32::try_from(id).map_err(|_| E::invalid_value(Unexpected::Signed(id), &self))?;
                Ok(TokenRef::Id(id))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<TokenRef, E> {
                Ok(TokenRef::Text(text.to_string()))
            }
        }

        deserializer.deserialize_any(TokenVisitor)
    }
}

impl JsonSchema for Where {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Where".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Which tokens of one phase: all, none, or those that a table selects.",
            "anyOf": [
                { "type": "string", "enum": ["all", "none"] },
                generator.subschema_for::<Selection>(),
            ],
        })
    }
}

impl JsonSchema for Window {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Window".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Positions from the first number to just before the second, or to the last if there is one \
                            number alone; negative bounds count from the prompt's end.",
            "type": "array",
            "items": generator.subschema_for::<i64>(),
            "minItems": 1,
            "maxItems": 2,
        })
    }
}

impl JsonSchema for TokenRef {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TokenRef".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A token: its id in the model's vocabulary, or its text, which must be one token of the \
                            model's tokenizer.",
            "anyOf": [
                generator.subschema_for::<u32>(),
                { "type": "string", "minLength": 1 },
            ],
        })
    }
}
