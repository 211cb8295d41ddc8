//! Finds keys of mistral.rs's own tables that it doesn't know and silently ignores.
//!
//! The known keys come from the types that mistral.rs reads the tables into: serde names the fields of a struct before
//! it reads one.

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Error as _, IntoDeserializer, Visitor};
use serde::{Deserializer, forward_to_deserialize_any};

/// The least similarity (Jaro's measure, 0 to 1) at which a key counts as a misspelling of another. clap uses the same.
const SIMILAR: f64 = 0.7;

/// A sentence for each key of `document` and its tables that `T` does not know, except for the keys in `known` at the
/// top.
pub fn of<T: DeserializeOwned>(document: &toml::Table, known: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    walk::<T>(document, &mut Vec::new(), known, &mut found);
    found
}

/// One step down from a table.
#[derive(Clone, Debug)]
enum PathStep {
    Key(String),
    Index(usize),
}

fn walk<T: DeserializeOwned>(table: &toml::Table, path: &mut Vec<PathStep>, known: &[&str], found: &mut Vec<String>) {
    // Not a struct: any key is allowed.
    let Some(fields) = fields_at::<T>(path) else { return };
    for (key, value) in table {
        if known.contains(&key.as_str()) {
            continue;
        }
        if !fields.contains(&key.as_str()) {
            found.push(sentence(&spelled(path, key), key, fields));
            continue;
        }
        path.push(PathStep::Key(key.clone()));
        match value {
            toml::Value::Table(table) => walk::<T>(table, path, &[], found),
            toml::Value::Array(values) => {
                for (index, value) in values.iter().enumerate() {
                    path.push(PathStep::Index(index));
                    if let toml::Value::Table(table) = value {
                        walk::<T>(table, path, &[], found);
                    }
                    path.pop();
                }
            }
            _ => {}
        }
        path.pop();
    }
}

fn spelled(path: &[PathStep], key: &str) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            PathStep::Key(key) => text += &format!("{}{key}", if text.is_empty() { "" } else { "." }),
            PathStep::Index(index) => text += &format!("[{index}]"),
        }
    }
    format!("{text}{}{key}", if text.is_empty() { "" } else { "." })
}

fn sentence(path: &str, key: &str, fields: &[&str]) -> String {
    let similar = fields.iter().map(|field| (strsim::jaro(key, field), field));
    let nearest = similar
        .filter(|(similar, _)| *similar > SIMILAR)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let meant = match nearest {
        Some((_, field)) => format!("; did you mean `{field}`?"),
        None => format!("; it knows {}", fields.join(", ")),
    };
    format!("{path}: mistral.rs does not know this key and ignores it{meant}")
}

/// The fields of the struct that `T` has at `path`; `None` if there is no struct.
fn fields_at<T: DeserializeOwned>(path: &[PathStep]) -> Option<&'static [&'static str]> {
    let mut found = None;
    // Deserialization always fails, whether or not the fields were found.
    let _ = T::deserialize(Probe {
        path,
        found: &mut found,
    });
    found
}

/// A deserializer that follows a path and records the fields of the struct at its end.
struct Probe<'a> {
    path: &'a [PathStep],
    found: &'a mut Option<&'static [&'static str]>,
}

type Error = serde::de::value::Error;

impl<'de> IntoDeserializer<'de, Error> for Probe<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.path {
            [] => Err(Error::custom("the end of the path")),
            [PathStep::Key(key), rest @ ..] => {
                let next = Probe {
                    path: rest,
                    found: self.found,
                };
                visitor.visit_map(MapDeserializer::new(std::iter::once((key.as_str(), next))))
            }
            [PathStep::Index(_), rest @ ..] => {
                let next = Probe {
                    path: rest,
                    found: self.found,
                };
                visitor.visit_seq(SeqDeserializer::new(std::iter::once(next)))
            }
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.path.is_empty() {
            *self.found = Some(fields);
            return Err(Error::custom("found"));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use mistralrs_cli::ServeConfig;

    use super::*;

    fn found(text: &str) -> Vec<String> {
        of::<ServeConfig>(&text.parse().unwrap(), &["command", "steering"])
    }

    #[test]
    fn what_mistral_rs_knows_is_not_named() {
        let text = "command = \"serve\"\ndefault_model_id = \"a\"\n[steering]\nanything = 1\n[global]\nseed = 1\n\
                    [server]\nport = 1\nhost = \"a\"\nui = true\n[paged_attn]\nmode = \"off\"\n[runtime]\nmax_seqs = 1\n\
                    [[models]]\nkind = \"text\"\nmodel_id = \"a\"\ndtype = \"f32\"\n[models.format]\nquantized_file = \"x\"\n\
                    [models.device]\ncpu = true\n[models.quantization]\nin_situ_quant = \"q8_0\"\n";
        assert_eq!(found(text), Vec::<String>::new());
    }

    #[test]
    fn others_are_named_with_the_nearest_name() {
        let text = "comand = \"serve\"\n[server]\nhots = \"127.0.0.1\"\nq = 1\n[[models]]\nkind = \"text\"\n\
                    [[models]]\nmodel_idd = \"a\"\n[models.device]\ncpus = true\n";
        let found = found(text);
        let starts = [
            "comand: mistral.rs does not know this key and ignores it",
            "server.hots: mistral.rs does not know this key and ignores it; did you mean `host`?",
            "server.q: mistral.rs does not know this key and ignores it; it knows port, host,",
            "models[1].model_idd: mistral.rs does not know this key and ignores it; did you mean `model_id`?",
            "models[1].device.cpus: mistral.rs does not know this key and ignores it; did you mean `cpu`?",
        ];
        for start in starts {
            assert!(
                found.iter().any(|sentence| sentence.starts_with(start)),
                "{start}: {found:?}"
            );
        }
        assert_eq!(found.len(), starts.len(), "{found:?}");
    }
}
