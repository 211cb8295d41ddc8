//! The entries of `[steering.vectors]`: vector files, and files of other programs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use steermap_maps::ModelInfo;

use crate::foreign::{ENDINGS, Format, ReadOptions};
use crate::{Library, SteeringError};

/// The path of a vector and, if its file does not state it, its model.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSource {
    /// The vector file (`.toml`), or another program's: see [`Format`].
    pub path: PathBuf,
    /// For another program's file: the `model_id` of the model that the vector was found on.
    pub control_of: Option<String>,
    /// How another program's file is read.
    pub options: ReadOptions,
}

/// The vectors of a configuration, by name.
pub struct VectorSources(pub BTreeMap<String, VectorSource>);

/// A path; or a table with a path and, for another program's file, the model, the layer of its one vector, and the
/// pattern of its tensors' names: `{ file = "happy.pt", model = "a/one", layer = 13, key = "happy.{}" }`.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorEntry {
    file: PathBuf,
    model: Option<String>,
    layer: Option<usize>,
    key: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VectorEntryTable {
    file: PathBuf,
    model: Option<String>,
    layer: Option<usize>,
    key: Option<String>,
}

impl<'de> Deserialize<'de> for VectorEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PathOrTable;

        impl<'de> Visitor<'de> for PathOrTable {
            type Value = VectorEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path, or a table of file, model, layer and key")
            }

            fn visit_str<E: Error>(self, file: &str) -> Result<VectorEntry, E> {
                Ok(VectorEntry {
                    file: file.into(),
                    model: None,
                    layer: None,
                    key: None,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<VectorEntry, A::Error> {
                let VectorEntryTable {
                    file,
                    model,
                    layer,
                    key,
                } = VectorEntryTable::deserialize(MapAccessDeserializer::new(map))?;
                Ok(VectorEntry {
                    file,
                    model,
                    layer,
                    key,
                })
            }
        }

        deserializer.deserialize_any(PathOrTable)
    }
}

impl VectorSources {
    /// Resolves paths relative to `folder`, and determines the model of each file of another program; `models` are the
    /// served models.
    ///
    /// # Errors
    ///
    /// The model of another program's file is ambiguous or not served; or a vector file, which states its own model and
    /// layers, has a model, a layer or a key.
    pub fn resolve(
        entries: BTreeMap<String, VectorEntry>,
        folder: &Path,
        models: &[&str],
    ) -> Result<Self, SteeringError> {
        let source = |(name, entry): (String, VectorEntry)| {
            let source = entry.resolve(&name, folder, models)?;
            Ok((name, source))
        };
        entries.into_iter().map(source).collect::<Result<_, _>>().map(Self)
    }

    /// Loads the vector files.
    ///
    /// # Errors
    ///
    /// As [`Library::load`].
    pub fn load(&self, library: &mut Library) -> Result<(), SteeringError> {
        for (name, source) in self.0.iter().filter(|(_, source)| source.control_of.is_none()) {
            library.load(name, &source.path)?;
        }
        Ok(())
    }

    /// Loads the other programs' files of the model `model_id` of the configuration, described by `info` and, if known,
    /// `architecture`. Notes on them are logged as warnings.
    ///
    /// # Errors
    ///
    /// As [`Library::load_foreign`].
    pub fn load_control(
        &self,
        library: &mut Library,
        model_id: &str,
        info: &ModelInfo,
        architecture: Option<&str>,
    ) -> Result<(), SteeringError> {
        let of_model = |source: &VectorSource| source.control_of.as_deref() == Some(model_id);
        for (name, source) in self.0.iter().filter(|(_, source)| of_model(source)) {
            for note in library.load_foreign(name, &source.path, info.clone(), architecture, &source.options)? {
                tracing::warn!("steering.vectors.{name}: {}: {note}", source.path.display());
            }
        }
        Ok(())
    }

    /// Whether there are other programs' files of that model.
    pub fn has_control_of(&self, model_id: &str) -> bool {
        let mut sources = self.0.values();
        sources.any(|source| source.control_of.as_deref() == Some(model_id))
    }
}

impl VectorEntry {
    fn resolve(self, name: &str, folder: &Path, models: &[&str]) -> Result<VectorSource, SteeringError> {
        let path = folder.join(&self.file);
        let field = |key: &str| format!("steering.vectors.{name}.{key}");
        let wrong = |found: String, expected: String| Err(SteeringError::value(field("model"), found, expected));
        let is_foreign = Format::of(&path).is_some();
        let of_foreign = [
            ("layer", self.layer.map(|layer| layer.to_string())),
            ("key", self.key.as_ref().map(|key| format!("{key:?}"))),
        ];
        if let Some((key, Some(found))) = of_foreign.into_iter().find(|(_, found)| !is_foreign && found.is_some()) {
            let expected =
                format!("none: a vector file states its layers (this key is for files that end in {ENDINGS})");
            return Err(SteeringError::value(field(key), found, expected));
        }
        let control_of = match (is_foreign, self.model) {
            (false, None) => None,
            (false, Some(model)) => {
                return wrong(format!("{model:?}"), "none: a vector file states its model".to_string());
            }
            (true, Some(model)) if models.contains(&model.as_str()) => Some(model),
            (true, Some(model)) => {
                return wrong(
                    format!("{model:?}"),
                    format!("a model_id of [[models]]: {}", models.join(", ")),
                );
            }
            (true, None) => match models {
                [only] => Some(only.to_string()),
                several => {
                    return wrong(
                        "nothing".to_string(),
                        format!(
                            "one of the {} models, as in {{ file = {:?}, model = {:?} }}",
                            several.len(),
                            self.file.display().to_string(),
                            several.first().copied().unwrap_or_default()
                        ),
                    );
                }
            },
        };
        let options = ReadOptions {
            layer: self.layer,
            key: self.key,
            shift: 0,
        };
        Ok(VectorSource {
            path,
            control_of,
            options,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(entry: &str, models: &[&str]) -> Result<VectorSource, String> {
        #[derive(Deserialize)]
        struct File {
            v: VectorEntry,
        }
        let File { v } = toml::from_str(&format!("v = {entry}")).map_err(|error| error.to_string())?;
        v.resolve("v", Path::new("folder"), models)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_control_vector_is_of_a_served_model() {
        let source = |path: &str, control_of: Option<&str>| VectorSource {
            path: Path::new("folder").join(path),
            control_of: control_of.map(String::from),
            options: ReadOptions::default(),
        };
        assert_eq!(resolve("\"a.toml\"", &["x/1", "x/2"]), Ok(source("a.toml", None)));
        assert_eq!(resolve("{ file = \"a.toml\" }", &["x/1"]), Ok(source("a.toml", None)));
        assert_eq!(resolve("\"a.gguf\"", &["x/1"]), Ok(source("a.gguf", Some("x/1"))));
        assert_eq!(
            resolve("{ file = \"a.gguf\", model = \"x/2\" }", &["x/1", "x/2"]),
            Ok(source("a.gguf", Some("x/2")))
        );
        assert_eq!(resolve("\"a.npz\"", &["x/1"]), Ok(source("a.npz", Some("x/1"))));
        let options = ReadOptions {
            layer: Some(13),
            key: Some("happy.{}".to_string()),
            shift: 0,
        };
        assert_eq!(
            resolve("{ file = \"a.pt\", layer = 13, key = \"happy.{}\" }", &["x/1"]),
            Ok(VectorSource {
                options,
                ..source("a.pt", Some("x/1"))
            })
        );
    }

    #[test]
    fn mistakes_name_the_field() {
        for (entry, models, message) in [
            (
                "\"a.gguf\"",
                ["x/1", "x/2"].as_slice(),
                "steering.vectors.v.model: found nothing, expected one of the 2 models, as in { file = \"a.gguf\", model = \"x/1\" }",
            ),
            (
                "{ file = \"a.gguf\", model = \"y\" }",
                &["x/1"],
                "steering.vectors.v.model: found \"y\", expected a model_id of [[models]]: x/1",
            ),
            (
                "{ file = \"a.toml\", model = \"x/1\" }",
                &["x/1"],
                "steering.vectors.v.model: found \"x/1\", expected none: a vector file states its model",
            ),
            (
                "7",
                &["x/1"],
                "expected a path, or a table of file, model, layer and key",
            ),
            (
                "{ file = \"a.toml\", layer = 3 }",
                &["x/1"],
                "steering.vectors.v.layer: found 3, expected none: a vector file states its layers",
            ),
            (
                "{ file = \"a.toml\", key = \"a.{}\" }",
                &["x/1"],
                "steering.vectors.v.key: found \"a.{}\", expected none",
            ),
            (
                "{ file = \"a.pt\", layer = -1 }",
                &["x/1"],
                "invalid value: integer `-1`",
            ),
            (
                "{ file = \"a.gguf\", modle = \"x/1\" }",
                &["x/1"],
                "unknown field `modle`",
            ),
            ("{ model = \"x/1\" }", &["x/1"], "missing field `file`"),
        ] {
            let found = resolve(entry, models).unwrap_err();
            assert!(found.contains(message), "{entry}: {found}");
        }
    }
}
