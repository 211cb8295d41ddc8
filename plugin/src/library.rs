//! Vectors and maps by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use steermap_maps::{LayerVector, MAX_WEIGHTS_BYTES, MapFile, ModelInfo, VectorFile, read};

use crate::SteeringError;
use crate::directions::{DirectionCache, Identity};
use crate::foreign::{self, ENDINGS, Format, ReadOptions};
use crate::name::{check_name, quoted};
use crate::spec::{FoundVector, InlineVector, VectorRef};
use crate::target::Target;

/// The vectors and maps that specs can name. Clones share them, and their directions.
#[derive(Clone, Default)]
pub struct Library {
    vectors: BTreeMap<String, Named<VectorFile>>,
    maps: BTreeMap<String, Named<MapFile>>,
    directions: Arc<DirectionCache>,
}

/// The file of a name.
#[derive(Clone)]
pub(crate) struct Named<T> {
    /// Unique among all files of the library and its clones, even those of the same name.
    pub(crate) id: Identity,
    pub(crate) file: Arc<T>,
    /// Where it was read, for messages; `None` if it was passed in or uploaded.
    pub(crate) path: Option<PathBuf>,
}

pub(crate) fn not_found(field: String, name: &str, expected: &str) -> SteeringError {
    SteeringError::NotFound {
        field,
        found: quoted(name),
        expected: expected.to_string(),
    }
}

/// The inline vector of a spec, as a vector file of `model`.
fn inline_file(
    inline: &InlineVector,
    model: ModelInfo,
    mean_norm: f64,
    at: &str,
) -> Result<Named<VectorFile>, SteeringError> {
    let values = inline.values(at)?;
    let wrong = |field: &str, found: String, expected: String| {
        Err(SteeringError::value(format!("{at}.{field}"), found, expected))
    };
    if inline.layer >= model.num_layers {
        let expected = format!(
            "a layer of {:?}: 0 to {}",
            model.model,
            model.num_layers.saturating_sub(1)
        );
        return wrong("layer", inline.layer.to_string(), expected);
    }
    if values.len() != model.hidden_size {
        let expected = format!("{}, the width of {:?}", model.hidden_size, model.model);
        return wrong("f32", format!("{} numbers", values.len()), expected);
    }
    let mut hash = Sha256::new();
    hash.update((inline.layer as u64).to_le_bytes());
    values.iter().for_each(|value| hash.update(value.to_le_bytes()));
    let id = Identity::Content(hash.finalize().into());
    let header = foreign::unknown_origin("inline", "unknown", model, "unknown", b"");
    let layer = LayerVector {
        layer: inline.layer,
        direction: values,
        mean_norm,
        auroc: None,
        neutral: None,
    };
    let file = match VectorFile::new(header, vec![layer]) {
        Ok(file) => Arc::new(file),
        Err(problem) => {
            return wrong(
                "f32",
                problem.to_string(),
                "finite numbers that are not all 0".to_string(),
            );
        }
    };
    Ok(Named { id, file, path: None })
}

/// The vector without its measured separation of pairs. A request thus gets the same vector whether or not another
/// request has had the separation measured.
fn unmeasured(vector: &VectorFile) -> VectorFile {
    let layers = vector.layers().iter().map(|layer| LayerVector {
        auroc: None,
        ..layer.clone()
    });
    // A valid vector stays valid without its measurements.
    VectorFile::new(vector.header().clone(), layers.collect()).unwrap_or_else(|_| vector.clone())
}

impl<T> Named<T> {
    /// ` in FILE` if there is a file, for messages.
    pub(crate) fn in_file(&self) -> String {
        self.path
            .as_ref()
            .map_or(String::new(), |path| format!(" in {}", path.display()))
    }
}

impl Library {
    /// Loads the vector file at `path` as `name`.
    ///
    /// # Errors
    ///
    /// As [`insert`](Self::insert), or the file is invalid.
    pub fn load(&mut self, name: &str, path: impl AsRef<Path>) -> Result<(), SteeringError> {
        check_name("vectors", name)?;
        let path = path.as_ref();
        let vector = VectorFile::load(path).map_err(|reason| SteeringError::File {
            field: format!("vectors.{name}"),
            reason,
        })?;
        self.insert_vector(name, Arc::new(vector), Some(path))
    }

    /// Loads another program's file at `path` as `name`: a native vector of `model`, which the file does not state.
    /// Returns notes for the operator, one line each, such as a hint at another `architecture` than the model's.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load), or the file has an unknown ending.
    pub fn load_foreign(
        &mut self,
        name: &str,
        path: impl AsRef<Path>,
        model: ModelInfo,
        architecture: Option<&str>,
        options: &ReadOptions,
    ) -> Result<Vec<String>, SteeringError> {
        check_name("vectors", name)?;
        let (path, field) = (path.as_ref(), format!("vectors.{name}"));
        let Some(format) = Format::of(path) else {
            return Err(SteeringError::value(
                field,
                path.display().to_string(),
                format!("a file that ends in {ENDINGS}"),
            ));
        };
        let bytes = match read::whole(path, "the vector of another program", MAX_WEIGHTS_BYTES) {
            Ok(bytes) => bytes,
            Err(reason) => return Err(SteeringError::File { field, reason }),
        };
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let read = foreign::read(format, &bytes, &file, name, model, options);
        let read = read.map_err(|reason| SteeringError::ControlVector {
            field,
            path: path.to_path_buf(),
            reason: Box::new(reason),
        })?;
        let notes = read.notes(architecture);
        self.insert(name, read.vector)?;
        Ok(notes)
    }

    /// Loads the map file at `path` as `name`. Its weights are read when a spec needs them, pair by pair.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn load_map(&mut self, name: &str, path: impl AsRef<Path>) -> Result<(), SteeringError> {
        check_name("maps", name)?;
        let path = path.as_ref();
        let map = MapFile::load(path).map_err(|reason| SteeringError::File {
            field: format!("maps.{name}"),
            reason,
        })?;
        self.insert_map_of(name, map, Some(path))
    }

    /// Adds `vector` as `name`, replacing one of that name.
    ///
    /// # Errors
    ///
    /// The name is empty, longer than 64 bytes, or has characters other than letters, digits, `.`, `_` and `-`.
    pub fn insert(&mut self, name: &str, vector: VectorFile) -> Result<(), SteeringError> {
        self.insert_shared(name, Arc::new(vector))
    }

    /// As [`insert`](Self::insert), for a vector that is shared with another library.
    ///
    /// # Errors
    ///
    /// As [`insert`](Self::insert).
    pub fn insert_shared(&mut self, name: &str, vector: Arc<VectorFile>) -> Result<(), SteeringError> {
        self.insert_vector(name, vector, None)
    }

    fn insert_vector(&mut self, name: &str, vector: Arc<VectorFile>, path: Option<&Path>) -> Result<(), SteeringError> {
        check_name("vectors", name)?;
        let named = Named {
            id: self.directions.id(),
            file: vector,
            path: path.map(Path::to_path_buf),
        };
        self.vectors.insert(name.to_string(), named);
        Ok(())
    }

    /// Removes the vector of that name, if there is one.
    pub fn remove(&mut self, name: &str) {
        self.vectors.remove(name);
    }

    /// Adds `map` as `name`, replacing one of that name.
    ///
    /// # Errors
    ///
    /// As [`insert`](Self::insert).
    pub fn insert_map(&mut self, name: &str, map: MapFile) -> Result<(), SteeringError> {
        self.insert_map_of(name, map, None)
    }

    fn insert_map_of(&mut self, name: &str, map: MapFile, path: Option<&Path>) -> Result<(), SteeringError> {
        check_name("maps", name)?;
        let named = Named {
            id: self.directions.id(),
            file: Arc::new(map),
            path: path.map(Path::to_path_buf),
        };
        self.maps.insert(name.to_string(), named);
        Ok(())
    }

    /// The vector of that name.
    pub fn get(&self, name: &str) -> Option<&VectorFile> {
        self.vectors.get(name).map(|named| named.file.as_ref())
    }

    /// The vector of that name, to be shared.
    pub fn shared(&self, name: &str) -> Option<&Arc<VectorFile>> {
        self.vectors.get(name).map(|named| &named.file)
    }

    /// The map of that name.
    pub fn map(&self, name: &str) -> Option<&MapFile> {
        self.maps.get(name).map(|named| named.file.as_ref())
    }

    /// All maps, by name.
    pub fn maps(&self) -> impl Iterator<Item = (&str, &MapFile)> {
        self.maps.iter().map(|(name, map)| (name.as_str(), map.file.as_ref()))
    }

    /// All vectors, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &VectorFile)> {
        self.vectors
            .iter()
            .map(|(name, vector)| (name.as_str(), vector.file.as_ref()))
    }

    /// The mean norm of the target's stream after block `layer`: the smallest that a native vector of the target or a
    /// map to it states, if any does.
    pub(crate) fn mean_norm(&self, target: &Target, layer: usize) -> Option<f64> {
        let native = self.iter().filter(|(_, vector)| target.is(vector.model()));
        let native = native.filter_map(|(_, vector)| Some(vector.layer(layer)?.mean_norm));
        let maps = self.maps().filter(|(_, map)| target.is(&map.header().target));
        let mapped = maps.flat_map(|(_, map)| map.pairs());
        let mapped = mapped
            .filter(|pair| pair.target_layer == layer)
            .map(|pair| pair.fit.target_mean_norm);
        native.chain(mapped).filter(|norm| *norm > 0.0).min_by(f64::total_cmp)
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Named<VectorFile>> {
        self.vectors.get(name)
    }

    /// The vector of a reference. An inline vector belongs to the target or, with `map`, to the map's source model, and
    /// gets the mean norm that is known there. `at` is the path of the table with the reference, for messages.
    ///
    /// # Errors
    ///
    /// The vector or map does not exist, or the numbers are not a vector of that model.
    pub(crate) fn resolve(
        &self,
        vector: &VectorRef,
        map: Option<&str>,
        target: &Target,
        at: &str,
    ) -> Result<Named<VectorFile>, SteeringError> {
        let inline = match vector {
            VectorRef::Name(name) => {
                let named = self.named(name).cloned();
                return named.ok_or_else(|| not_found(format!("{at}.vector"), name, "a vector's name"));
            }
            VectorRef::Inline(inline) => inline,
            VectorRef::Found(FoundVector { key, found }) => {
                return Ok(Named {
                    id: Identity::Content(Sha256::digest(key).into()),
                    file: Arc::new(unmeasured(&found.vector)),
                    path: None,
                });
            }
            VectorRef::Pairs(_) => {
                let expected = "a vector's name: only requests may have pairs; POST /v1/steering/vectors finds a vector and gives it a name";
                return Err(SteeringError::value(format!("{at}.vector"), "pairs", expected));
            }
        };
        let model = match map.map(|name| (name, self.named_map(name))) {
            None => target.info(),
            Some((_, Some(map))) => map.file.header().source.clone(),
            Some((name, None)) => return Err(not_found(format!("{at}.map"), name, "a map's name")),
        };
        let native = map.is_none();
        let mean_norm = if native {
            self.mean_norm(target, inline.layer)
        } else {
            None
        };
        inline_file(inline, model, mean_norm.unwrap_or_default(), &format!("{at}.vector"))
    }

    pub(crate) fn named_map(&self, name: &str) -> Option<&Named<MapFile>> {
        self.maps.get(name)
    }

    /// The directions of the vectors and maps.
    pub(crate) fn directions(&self) -> &DirectionCache {
        &self.directions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_vector_is_read_as_one_of_the_model() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("happy.gguf");
        std::fs::write(&path, crate::foreign::gguf::tests::good()).unwrap();
        let mut library = Library::default();
        let model = crate::foreign::gguf::tests::model(3, 4);
        let options = ReadOptions::default();
        let mut load = |architecture| library.load_foreign("happy", &path, model.clone(), architecture, &options);
        assert_eq!(load(None).unwrap(), [""; 0]);
        assert_eq!(load(Some("llama")).unwrap(), [""; 0]);
        assert!(load(Some("gemma3")).unwrap()[0].starts_with("controlvector.model_hint: found \"llama\""));
        assert_eq!(library.get("happy").unwrap().model(), &model);
        std::fs::write(&path, "GGUX").unwrap();
        let error = library
            .load_foreign("happy", &path, model, None, &options)
            .unwrap_err()
            .to_string();
        let expected = format!("vectors.happy: {}: magic: found", path.display());
        assert!(error.starts_with(&expected), "{error}");
    }

    #[test]
    fn a_missing_file_names_its_field() {
        let error = Library::default()
            .load("happy", "nowhere.toml")
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("vectors.happy: nowhere.toml"), "{error}");
        let error = Library::default()
            .load_map("m", "nowhere.toml")
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("maps.m: nowhere.toml"), "{error}");
        let model = crate::foreign::gguf::tests::model(3, 4);
        let options = ReadOptions::default();
        let error = Library::default().load_foreign("happy", "nowhere.gguf", model.clone(), None, &options);
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("vectors.happy: nowhere.gguf"), "{error}");
        let error = Library::default().load_foreign("happy", "nowhere.txt", model, None, &options);
        let error = error.unwrap_err().to_string();
        assert!(
            error.starts_with("vectors.happy: found nowhere.txt, expected a file that ends in .gguf"),
            "{error}"
        );
    }
}
