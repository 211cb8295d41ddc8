//! Texts to run through a model, and contrastive pairs of texts.

use std::fmt::{self, Display, Formatter};

use schemars::JsonSchema;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::ensure;
use crate::{ExtractError, from_table};

/// Bytes that each message counts in addition to its text.
const MESSAGE_BYTES: usize = 32;

/// Most characters of a text that error messages show.
const SHOWN: usize = 60;

/// A text to run through a model.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Text {
    /// A plain text.
    Plain(String),
    /// Messages that go through the model's chat template.
    Chat(Vec<Message>),
}

/// One message of a chat.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Message {
    /// `system`, `user` or `assistant`, as far as the model's template knows them.
    pub role: String,
    /// The text of the message.
    pub content: String,
}

from_table!(Message, "a message: a table of role and content");

/// Two texts that differ in one concept.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Pair {
    /// The text with the concept.
    pub positive: Text,
    /// The text without the concept, or with its opposite.
    pub negative: Text,
}

from_table!(Pair, "a pair: a table of positive and negative");

impl<'de> Deserialize<'de> for Text {
    // By hand: the error of a derived untagged enum does not say what was found.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text;

            fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or a list of messages with role and content")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text::Plain(text.to_string()))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Text, E> {
                Ok(Text::Plain(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, messages: A) -> Result<Text, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(messages)).map(Text::Chat)
            }
        }

        deserializer.deserialize_any(TextVisitor)
    }
}

/// Displays a text; a chat as `role: text` lines.
impl Display for Text {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => f.write_str(text),
            Self::Chat(messages) => {
                let lines = messages
                    .iter()
                    .map(|message| format!("{}: {}", message.role, message.content));
                f.write_str(&lines.collect::<Vec<_>>().join("\n"))
            }
        }
    }
}

impl Text {
    /// Bytes of the text, with a minimum for each message.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Plain(text) => text.len(),
            Self::Chat(messages) => {
                let messages = messages.iter();
                messages
                    .map(|one| MESSAGE_BYTES + one.role.len() + one.content.len())
                    .sum()
            }
        }
    }

    fn is_blank(&self) -> bool {
        match self {
            Self::Plain(text) => text.trim().is_empty(),
            Self::Chat(messages) => messages.is_empty(),
        }
    }
}

impl Pair {
    /// Checks that the texts are not blank and not equal.
    ///
    /// # Errors
    ///
    /// [`ExtractError::Input`]
    pub fn check(&self) -> Result<(), ExtractError> {
        for (side, text) in [("positive", &self.positive), ("negative", &self.negative)] {
            ensure!(!text.is_blank(), "{side}: found nothing, expected a text");
        }
        ensure!(
            self.positive != self.negative,
            "positive and negative are the same text"
        );
        Ok(())
    }
}

/// The beginning of a text in quotation marks, for messages.
pub fn quoted(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}
