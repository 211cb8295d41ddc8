//! Text under a key of JSON objects.

use std::fmt;

use anyhow::{Context, Result, bail};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::length::check_length;
use crate::records::Records;

/// Maximum number of keys that a message lists.
const SHOWN_KEYS: usize = 20;

/// The texts of a file of records.
#[derive(Debug)]
pub struct KeyedTexts {
    records: Records,
    key: String,
}

impl KeyedTexts {
    /// The texts under `key`.
    pub fn new(records: Records, key: &str) -> Self {
        Self {
            records,
            key: key.into(),
        }
    }

    /// The next record's text, empty for null; `None` at the file's end.
    ///
    /// # Errors
    ///
    /// An error in the file, a record that is not an object, a record without the key or with something other than a
    /// string under it; the message names file and line.
    pub fn next_text(&mut self) -> Result<Option<String>> {
        let Some(record) = self.records.next_record()? else {
            return Ok(None);
        };
        let TextAndKeys { text, keys } = record.parse_seed(TextOf(&self.key))?;
        let Some(text) = text else {
            bail!(
                "{}: found no key {:?} among {}, expected a text under it; --text-key names another",
                record.at(),
                self.key,
                listed(&keys)
            );
        };
        let text = text.unwrap_or_default();
        check_length(text.len()).with_context(|| record.at())?;
        Ok(Some(text))
    }

    /// The records.
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// The rest of the records.
    pub fn into_records(self) -> Records {
        self.records
    }
}

/// Names in quotes, as many as fit in a message.
pub(super) fn listed(names: &[String]) -> String {
    let mut quoted: Vec<String> = names.iter().take(SHOWN_KEYS).map(|name| format!("{name:?}")).collect();
    if names.len() > SHOWN_KEYS {
        quoted.push("..".into());
    }
    if quoted.is_empty() {
        return "none".into();
    }
    quoted.join(", ")
}

/// Reads an object for the text under one key.
struct TextOf<'a>(&'a str);

/// An object's text, and the names of its other keys.
struct TextAndKeys {
    /// The text or null under the key; `None` if the key is missing.
    text: Option<Option<String>>,
    /// The other keys, only as many as a message needs.
    keys: Vec<String>,
}

impl<'de> DeserializeSeed<'de> for TextOf<'_> {
    type Value = TextAndKeys;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<TextAndKeys, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TextOf<'_> {
    type Value = TextAndKeys;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with a text under {:?}", self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<TextAndKeys, A::Error> {
        let (mut text, mut keys) = (None, Vec::new());
        while let Some(key) = entries.next_key::<String>()? {
            if key != self.0 {
                entries.next_value::<IgnoredAny>()?;
                if keys.len() <= SHOWN_KEYS {
                    keys.push(key);
                }
            } else if text.replace(entries.next_value_seed(TextUnder(self.0))?).is_some() {
                return Err(A::Error::custom(format_args!("{key}: found twice, expected once")));
            }
        }
        Ok(TextAndKeys { text, keys })
    }
}

/// Reads a text or null; the key is for messages.
struct TextUnder<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for TextUnder<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<String>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TextUnder<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a string under {:?}", self.0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Option<String>, E> {
        Ok(Some(text.into()))
    }

    fn visit_unit<E: Error>(self) -> Result<Option<String>, E> {
        Ok(None)
    }
}
