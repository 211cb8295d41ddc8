//! The JSON objects of a file of records, field by field, with their places for messages.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value};
use steermap_extract::text::quoted;

use crate::pairs::Text;
use crate::records;

/// The fields of one object of a file.
pub(super) struct Fields {
    /// File and place, for messages.
    pub at: String,
    fields: Map<String, Value>,
}

impl Fields {
    /// Takes a field that must be a text for a model, and not blank.
    pub fn text(&mut self, field: &str) -> Result<Text> {
        let expected = "a string or a list of {\"role\", \"content\"}";
        let value = self.required(field, expected)?;
        let wrong = format!("{}: {field}: found {}, expected {expected}", self.at, shown(&value));
        let text: Text = serde_json::from_value(value).map_err(|_| anyhow!(wrong))?;
        let blank = match &text {
            Text::Plain(text) => text.trim().is_empty(),
            Text::Chat(messages) => messages.is_empty(),
        };
        ensure!(!blank, "{}: {field}: found nothing in it, expected {expected}", self.at);
        Ok(text)
    }

    /// Takes a field that must be a string.
    pub fn string(&mut self, field: &str) -> Result<String> {
        match self.required(field, "a string")? {
            Value::String(text) => Ok(text),
            other => bail!("{}: {field}: found {}, expected a string", self.at, shown(&other)),
        }
    }

    /// Takes a field that may be absent.
    pub fn optional(&mut self, field: &str) -> Option<Value> {
        self.fields.remove(field)
    }

    /// Checks that all fields were taken. `known` are their names.
    pub fn finish(&self, known: &[&str]) -> Result<()> {
        match self.fields.keys().next() {
            None => Ok(()),
            Some(key) => bail!(
                "{}: {key}: found an unknown key, expected {}",
                self.at,
                known.join(", ")
            ),
        }
    }

    fn required(&mut self, field: &str, expected: &str) -> Result<Value> {
        let at = &self.at;
        self.fields
            .remove(field)
            .with_context(|| format!("{at}: {field}: found no such key, expected {expected}"))
    }
}

/// Reads a file of JSON objects: JSON lines or one list. At least one.
pub(super) fn read(path: &Path) -> Result<Vec<Fields>> {
    let mut objects = Vec::new();
    records::for_each(path, |record| {
        let UniqueKeys(fields) = record.parse()?;
        objects.push(Fields {
            at: record.at(),
            fields,
        });
        Ok(())
    })?;
    ensure!(
        !objects.is_empty(),
        "{}: found no item, expected at least two for each half",
        path.display()
    );
    Ok(objects)
}

/// A short form of a value, for messages.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
        other => other.to_string(),
    }
}

/// A JSON object without repeated keys.
struct UniqueKeys(Map<String, Value>);

impl<'de> Deserialize<'de> for UniqueKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = UniqueKeys;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<UniqueKeys, A::Error> {
        let mut fields = Map::new();
        while let Some((key, value)) = entries.next_entry::<String, Value>()? {
            if fields.contains_key(&key) {
                return Err(A::Error::custom(format_args!("{key}: found twice, expected once")));
            }
            fields.insert(key, value);
        }
        Ok(UniqueKeys(fields))
    }
}
