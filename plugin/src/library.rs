//! Vectors by name.

use std::collections::BTreeMap;
use std::path::Path;

use steermap_maps::VectorFile;

use crate::SteeringError;

/// Longest name of a vector: long enough to describe it, short enough for a log line.
const MAX_NAME: usize = 64;

/// The vectors that specs can name.
#[derive(Clone, Default)]
pub struct VectorLibrary {
    vectors: BTreeMap<String, VectorFile>,
}

impl VectorLibrary {
    /// Loads the vector file at `path` as `name`.
    ///
    /// # Errors
    ///
    /// As [`insert`](Self::insert), or a file that is not what it should be.
    pub fn load(&mut self, name: &str, path: impl AsRef<Path>) -> Result<(), SteeringError> {
        check_name(name)?;
        let vector = VectorFile::load(path.as_ref()).map_err(|source| SteeringError::Vector {
            field: format!("vectors.{name}"),
            source,
        })?;
        self.vectors.insert(name.to_string(), vector);
        Ok(())
    }

    /// Adds `vector` as `name`, in place of one of that name.
    ///
    /// # Errors
    ///
    /// A name that is empty, longer than 64 bytes, or of other characters than letters, digits, `.`, `_` and `-`.
    pub fn insert(&mut self, name: &str, vector: VectorFile) -> Result<(), SteeringError> {
        check_name(name)?;
        self.vectors.insert(name.to_string(), vector);
        Ok(())
    }

    /// The vector of that name.
    pub fn get(&self, name: &str) -> Option<&VectorFile> {
        self.vectors.get(name)
    }

    /// All vectors, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &VectorFile)> {
        self.vectors.iter().map(|(name, vector)| (name.as_str(), vector))
    }
}

fn check_name(name: &str) -> Result<(), SteeringError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(plain) || name.starts_with('.') {
        return Err(SteeringError::value(
            "vectors",
            format!("the name {name:?}"),
            format!("1 to {MAX_NAME} letters, digits, `.`, `_` and `-`, not starting with a dot"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for name in ["happy", "happy-2.v_1", "7"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "a/b", "..", ".hidden", "a b", "ä", &"x".repeat(65)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_missing_file_names_its_field() {
        let error = VectorLibrary::default()
            .load("happy", "nowhere.toml")
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("vectors.happy: nowhere.toml"), "{error}");
    }
}
