//! A file of any kind.

use std::path::Path;

use crate::describe;
use crate::error::FileError;
use crate::map::MapFile;
use crate::store;
use crate::vector::VectorFile;

/// Any of steermap's files.
#[derive(Debug, Clone)]
pub enum AnyFile {
    /// A map from one model's residual stream to another's.
    Map(MapFile),
    /// Steering vectors of one model.
    Vector(VectorFile),
}

impl AnyFile {
    /// Reads a file of any kind and checks it, without a map's weights. `path` is that of the TOML file.
    ///
    /// # Errors
    ///
    /// [`FileError::Invalid`] with [`Problem::UnknownFormat`](crate::Problem::UnknownFormat) if it's none of these
    /// kinds; otherwise as [`MapFile::load`] or [`VectorFile::load`].
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let format = store::read_format(path)?;
        match format.as_ref().and_then(|format| format.as_str()) {
            Some(MapFile::FORMAT | MapFile::FORMAT_1) => MapFile::load(path).map(Self::Map),
            Some(VectorFile::FORMAT) => VectorFile::load(path).map(Self::Vector),
            _ => Err(store::unknown_format(format).within(path)),
        }
    }

    /// Reads and checks a map's weights, which [`load`](Self::load) doesn't.
    ///
    /// # Errors
    ///
    /// As [`MapFile::verify`].
    pub fn verify(&self) -> Result<(), FileError> {
        match self {
            Self::Map(map) => map.verify(),
            Self::Vector(_) => Ok(()),
        }
    }

    /// The file's contents as text: see [`describe`].
    pub fn describe(&self) -> String {
        match self {
            Self::Map(map) => describe::map(map),
            Self::Vector(vector) => describe::vector(vector),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::error::Problem;
    use crate::testing::{Saved, map_header, model, pair, provenance};
    use crate::{LayerVector, TokenPosition, VectorHeader};

    fn map() -> MapFile {
        MapFile::new(map_header(), vec![pair(&[14], 11)]).unwrap()
    }

    fn vector() -> VectorFile {
        let header = VectorHeader {
            concept: "happy".into(),
            method: "mean-difference".into(),
            token_position: TokenPosition::Last,
            pairs: 64,
            model: model("small", 3, 30),
            numerics: map_header().source_numerics,
            provenance: provenance(),
        };
        let layer = LayerVector {
            layer: 3,
            direction: vec![1.0; 3],
            mean_norm: 2.0,
            auroc: None,
            neutral: None,
        };
        VectorFile::new(header, vec![layer]).unwrap()
    }

    #[test]
    fn each_kind_is_known() {
        let saved = Saved::new(|path| map().save(path));
        let file = AnyFile::load(&saved.path).unwrap();
        assert_eq!(file.describe(), describe::map(&MapFile::load(&saved.path).unwrap()));
        file.verify().unwrap();
        let saved = Saved::new(|path| vector().save(path));
        let file = AnyFile::load(&saved.path).unwrap();
        assert!(matches!(&file, AnyFile::Vector(found) if *found == vector()));
        assert_eq!(file.describe(), describe::vector(&vector()));
        file.verify().unwrap();
    }

    #[test]
    fn a_broken_file_is_judged_by_its_kind() {
        let saved = Saved::new(|path| map().save(path));
        saved.replace("outliers = 31", "outliers = 31\nsurprise = 1");
        let problem = saved.problem(AnyFile::load(&saved.path), &saved.path);
        assert!(matches!(problem, Problem::UnknownKey { .. }), "{problem}");
        let saved = Saved::new(|path| vector().save(path));
        fs::write(saved.weights(), b"spoilt").unwrap();
        let problem = saved.problem(AnyFile::load(&saved.path), &saved.weights());
        assert!(matches!(problem, Problem::Sha256 { .. }), "{problem}");
    }

    /// Loading a map reads none of its weights; verifying it reads all.
    #[test]
    fn spoilt_weights_of_a_map_are_found_by_verifying() {
        let saved = Saved::new(|path| map().save(path));
        let mut bytes = fs::read(saved.weights()).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(saved.weights(), bytes).unwrap();
        let file = AnyFile::load(&saved.path).unwrap();
        let problem = saved.problem(file.verify(), &saved.weights());
        assert!(matches!(problem, Problem::Sha256 { .. }), "{problem}");
    }

    #[test]
    fn what_is_neither_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        let message = |text: &[u8]| {
            fs::write(&path, text).unwrap();
            AnyFile::load(&path).unwrap_err().to_string()
        };
        let expected = |found: &str, hint: &str| {
            format!(
                "{}: format: found {found}, expected \"{}\", \"{}\" or \"{}\"{hint}",
                path.display(),
                MapFile::FORMAT,
                MapFile::FORMAT_1,
                VectorFile::FORMAT
            )
        };
        let version = ": it was written by a version of steermap that this one can't read";
        assert_eq!(message(b""), expected("nothing", ""));
        assert_eq!(message(b"command = 'serve'"), expected("nothing", ""));
        assert_eq!(message(b"format = 7"), expected("7", ""));
        assert_eq!(message(b"format = 'gguf'"), expected("\"gguf\"", ""));
        assert_eq!(message(b"format = 'steermap-map'"), expected("\"steermap-map\"", ""));
        for format in ["steermap-map/3", "steermap-vector/0"] {
            let text = format!("format = \"{format}\"\nsurprise = 1");
            assert_eq!(message(text.as_bytes()), expected(&format!("\"{format}\""), version));
        }
        assert!(message(b"format = ").contains("TOML parse error"));
        assert!(message(b"\xff").contains("invalid UTF-8"));

        let missing = AnyFile::load(&folder.path().join("no.toml"));
        assert!(matches!(missing, Err(FileError::Missing { .. })));
        let tensors = AnyFile::load(&folder.path().join("x.safetensors"));
        assert!(matches!(tensors, Err(FileError::Name { .. })));
    }
}
