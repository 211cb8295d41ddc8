//! A TOML file and the safetensors files that it names, read and written as one unit.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::error::{FileError, Problem};
use crate::{atomic, digest, read};

/// Maximum number of bytes of a vector's TOML file: 1 MiB. A file with 500 layers takes 100 KB; the limit keeps a wrong
/// path (to a model, for example) from being read into memory as text.
pub const MAX_TOML_BYTES: u64 = 1 << 20;

/// Maximum number of bytes of a map's TOML file: 32 MiB. A pair takes 1 KB, or 2 KB with its quality at 20 ranks; all
/// 10,080 pairs of models of 80 and 126 layers take 20 MB.
pub const MAX_MAP_TOML_BYTES: u64 = 32 << 20;

/// Maximum number of bytes of the tensors of a vector or a control vector: 2 GiB. They are read into memory as a whole,
/// to be hashed and checked before use. Vectors for 100 layers of 16,384 take 7 MB. Maps have no such limit, since they
/// aren't read as a whole.
pub const MAX_WEIGHTS_BYTES: u64 = 2 << 30;

/// How many hex digits of the tensors' SHA-256 are in their file's name: 64 bits, so that two versions of a file don't
/// share a name by accident.
const DIGITS_IN_NAME: usize = 16;

const EXTENSION: &str = ".safetensors";

/// Longest name of a tensor file in bytes; file systems have no longer ones.
const MAX_FILE_NAME: usize = 255;

/// The `[weights]` table: which safetensors file belongs to a TOML file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Weights {
    file: String,
    sha256: String,
}

/// The role of a tensor file, in error messages.
pub(crate) const WEIGHTS_ROLE: &str = "the safetensors file that weights.file of the TOML file names";

impl Weights {
    /// Names tensors of this hash after a TOML file (without its `.toml`) and their own content.
    fn of(stem: &str, sha256: String) -> Self {
        Self {
            file: format!("{stem}-{}{EXTENSION}", &sha256[..DIGITS_IN_NAME]),
            sha256,
        }
    }

    /// The file's name, as the TOML file states it.
    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    /// The file's hash, as the TOML file states it.
    pub(crate) fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Checks the name and the spelling of the hash.
    pub(crate) fn check(&self) -> Result<(), Problem> {
        let bare = self.file.len() > EXTENSION.len() && self.file.ends_with(EXTENSION) && is_plain(&self.file);
        if !bare {
            return Err(Problem::WeightsName {
                found: self.file.clone(),
            });
        }
        if self.file.len() > MAX_FILE_NAME {
            let found = format!("a name of {} bytes", self.file.len());
            return Err(Problem::value("weights.file", found, "at most 255 bytes"));
        }
        digest::check("weights.sha256", &self.sha256)
    }

    /// Checks that these are the tensors that the TOML file was written with.
    pub(crate) fn check_hash(&self, tensors: &[u8]) -> Result<(), Problem> {
        let found = digest::sha256(tensors);
        if found != self.sha256 {
            return Err(Problem::Sha256 {
                found,
                expected: self.sha256.clone(),
            });
        }
        Ok(())
    }

    /// The path of the tensors, after a check of the table.
    pub(crate) fn path(&self, toml: &Path) -> Result<PathBuf, FileError> {
        self.check().map_err(|problem| problem.within(toml))?;
        Ok(toml.with_file_name(&self.file))
    }

    /// Reads the tensors' bytes and checks their hash. Returns their path too.
    pub(crate) fn read(&self, toml: &Path) -> Result<(PathBuf, Vec<u8>), FileError> {
        let path = self.path(toml)?;
        let bytes = read::whole(&path, WEIGHTS_ROLE, MAX_WEIGHTS_BYTES)?;
        self.check_hash(&bytes).map_err(|problem| problem.within(&path))?;
        Ok((path, bytes))
    }
}

/// Reads a vector's TOML file. `format` is the required value of that key.
pub(crate) fn read_toml<T: DeserializeOwned>(path: &Path, format: &'static str) -> Result<T, FileError> {
    let bytes = read_bytes(path, MAX_TOML_BYTES)?;
    parse_toml(&bytes, format).map_err(|problem| problem.within(path))
}

/// The value of the key `format` of a TOML file of any kind. The rest of the file isn't checked.
pub(crate) fn read_format(path: &Path) -> Result<Option<toml::Value>, FileError> {
    let bytes = read_bytes(path, MAX_MAP_TOML_BYTES)?;
    let format = text(&bytes).and_then(parse_format);
    format.map_err(|problem| problem.within(path))
}

/// The bytes of a TOML file, at most `limit`.
pub(crate) fn read_bytes(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    stem_of(path)?;
    read::whole(path, "the TOML file", limit)
}

/// The text of a TOML file.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(bytes).map_err(|error| Problem::NotText {
        valid_up_to: error.valid_up_to(),
    })
}

/// Reads the format first, so that a file of another kind is reported as such and not for its keys.
pub(crate) fn parse_format(text: &str) -> Result<Option<toml::Value>, Problem> {
    #[derive(Deserialize)]
    struct Head {
        format: Option<toml::Value>,
    }

    let head: Head = parse(text)?;
    Ok(head.format)
}

/// Parses a TOML text; the error says where it is wrong.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    toml::from_str(text).map_err(toml_problem)
}

/// Parses a vector's TOML file. `format` is the required value of that key.
pub(crate) fn parse_toml<T: DeserializeOwned>(bytes: &[u8], format: &'static str) -> Result<T, Problem> {
    let text = text(bytes)?;
    let found = parse_format(text)?;
    if found.as_ref().and_then(toml::Value::as_str) != Some(format) {
        return Err(wrong_format(found, format));
    }
    parse(text)
}

/// The problem of a `format` that isn't the expected one.
pub(crate) fn wrong_format(found: Option<toml::Value>, expected: &'static str) -> Problem {
    let text = found.as_ref().and_then(toml::Value::as_str).unwrap_or_default();
    let hint = match kind(text) {
        found if found.is_some() && found == kind(expected) => OTHER_VERSION,
        Some("steermap-map") => ": this is a map file",
        Some("steermap-vector") => ": this is a vector file",
        _ => "",
    };
    let found = spell(found);
    Problem::Format { found, expected, hint }
}

/// The problem of an unknown `format`.
pub(crate) fn unknown_format(found: Option<toml::Value>) -> Problem {
    let text = found.as_ref().and_then(toml::Value::as_str).unwrap_or_default();
    let hint = match kind(text) {
        Some("steermap-map" | "steermap-vector") => OTHER_VERSION,
        _ => "",
    };
    let found = spell(found);
    Problem::UnknownFormat { found, hint }
}

/// The end of a message about a file of a known kind.
const OTHER_VERSION: &str = ": it was written by a version of steermap that this one can't read";

/// `KIND` of `KIND/VERSION`.
fn kind(format: &str) -> Option<&str> {
    format.split_once('/').map(|(kind, _)| kind)
}

/// A value as it is in the TOML file.
fn spell(value: Option<toml::Value>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |value| value.to_string())
}

fn toml_problem(error: toml::de::Error) -> Problem {
    let message = error.to_string().trim_end().to_owned();
    if error.message().starts_with("unknown field") {
        Problem::UnknownKey { message }
    } else {
        Problem::Toml { message }
    }
}

/// Makes the content of a vector's TOML file at `path`. `table` makes its table from how the tensors are listed, which
/// is returned too.
pub(crate) fn encode<T: Serialize>(
    path: &Path,
    tensors: &[u8],
    table: impl FnOnce(Weights) -> T,
) -> Result<(Weights, String), FileError> {
    let weights = Weights::of(stem_of(path)?, digest::sha256(tensors));
    let weights_path = path.with_file_name(&weights.file);
    read::check_length(&weights_path, tensors.len() as u64, MAX_WEIGHTS_BYTES)?;
    let text = to_text(path, &table(weights.clone()), MAX_TOML_BYTES)?;
    Ok((weights, text))
}

/// Writes a vector's TOML file and its tensors with [`Replacement`]. `table` is as in [`encode`].
pub(crate) fn save<T: Serialize>(
    path: &Path,
    tensors: &[u8],
    table: impl FnOnce(Weights) -> T,
) -> Result<(), FileError> {
    let (weights, text) = encode(path, tensors, table)?;
    let mut replacement = Replacement::new(path)?;
    let mut temporary = replacement.temporary()?;
    let written = temporary.write_all(tensors);
    written.map_err(|error| FileError::write(&path.with_file_name(&weights.file), error))?;
    replacement.place(temporary, &weights)?;
    replacement.commit(&text)
}

/// A TOML file's content, at most `limit` bytes.
pub(crate) fn to_text<T: Serialize>(path: &Path, table: &T, limit: u64) -> Result<String, FileError> {
    let text = toml::to_string(table).map_err(|error| {
        Problem::Toml {
            message: error.to_string(),
        }
        .within(path)
    })?;
    read::check_length(path, text.len() as u64, limit)?;
    Ok(text)
}

/// Replaces a TOML file and its tensor files atomically: at any moment, the TOML file's path stands for the whole old
/// version or the whole new one.
///
/// A tensor file is named by its content, `NAME-<first 16 digits of its sha256>.safetensors`, so new tensors never
/// replace old ones. They are written and synced first, under names that nothing refers to yet. Renaming the new TOML
/// file to its path is then the single step of change: before it the old TOML file names the old tensors, after it the
/// new one names the new tensors, and both exist. With fixed names for the tensors there would be several renames, and
/// between them an old TOML file beside new tensors, which doesn't load.
///
/// Afterwards the old tensors are deleted, if their name is of that form and no other TOML file in the folder mentions
/// them. A crash before that leaves old tensors behind, and a crash before the rename leaves new ones behind; both are
/// harmless, since nothing names them. When a replacement is dropped without [`commit`](Self::commit), the tensors that
/// it has placed are removed.
///
/// Readers need no lock, but a reader of the old TOML file may find its tensors gone ([`FileError::Missing`]); reading
/// again succeeds. Two writers of the same path must not run at the same time.
#[derive(Debug)]
pub(crate) struct Replacement {
    /// The TOML file's.
    path: PathBuf,
    stem: String,
    /// Names of the tensors' files that are in place.
    placed: Vec<String>,
    /// Those of them that are new, to be removed if the TOML file isn't written.
    added: Vec<PathBuf>,
}

impl Replacement {
    /// Of the TOML file at `path`. Nothing is written yet.
    pub(crate) fn new(path: &Path) -> Result<Self, FileError> {
        Ok(Self {
            path: path.to_owned(),
            stem: stem_of(path)?.to_owned(),
            placed: Vec::new(),
            added: Vec::new(),
        })
    }

    /// A file for tensors, to be filled and then [placed](Self::place). It is removed if it is dropped before that.
    pub(crate) fn temporary(&self) -> Result<NamedTempFile, FileError> {
        atomic::stage(&self.path).map_err(|error| FileError::write(&self.path, error))
    }

    /// How a file of tensors with this hash will be listed.
    pub(crate) fn weights(&self, sha256: String) -> Weights {
        Weights::of(&self.stem, sha256)
    }

    /// Puts a file of tensors in place.
    pub(crate) fn place(&mut self, tensors: NamedTempFile, weights: &Weights) -> Result<(), FileError> {
        let path = self.path.with_file_name(&weights.file);
        let existed = path.exists();
        atomic::commit(tensors, &path).map_err(|error| FileError::write(&path, error))?;
        self.placed.push(weights.file.clone());
        if !existed {
            self.added.push(path);
        }
        Ok(())
    }

    /// Writes the TOML file, which names the tensors that were placed, and removes the tensors that it named before.
    pub(crate) fn commit(mut self, text: &str) -> Result<(), FileError> {
        let replaced = named_by(&self.path);
        atomic::write_bytes(&self.path, text.as_bytes()).map_err(|error| FileError::write(&self.path, error))?;
        self.added.clear();
        let unused = replaced
            .into_iter()
            .filter(|old| is_generated(&self.stem, old) && !self.placed.contains(old));
        for old in not_mentioned(&self.path, unused.collect()) {
            // An unused file is harmless, so a failure to remove it is ignored.
            let _ = fs::remove_file(self.path.with_file_name(old));
        }
        Ok(())
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        for path in &self.added {
            let _ = fs::remove_file(path);
        }
    }
}

/// The tensor files that a TOML file names, if it exists. The rest of the file may be invalid.
fn named_by(path: &Path) -> Vec<String> {
    #[derive(Deserialize)]
    struct WeightsOnly {
        weights: WeightsTables,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum WeightsTables {
        One(FileKey),
        Several(Vec<FileKey>),
    }
    #[derive(Deserialize)]
    struct FileKey {
        file: String,
    }

    let read = || -> Option<WeightsOnly> {
        let bytes = read::whole(path, "the TOML file", MAX_MAP_TOML_BYTES).ok()?;
        toml::from_str(std::str::from_utf8(&bytes).ok()?).ok()
    };
    match read().map(|table| table.weights) {
        None => Vec::new(),
        Some(WeightsTables::One(file)) => vec![file.file],
        Some(WeightsTables::Several(files)) => files.into_iter().map(|file| file.file).collect(),
    }
}

/// Whether this name has the form that [`Weights::of`] gives.
fn is_generated(stem: &str, name: &str) -> bool {
    name.strip_prefix(stem)
        .and_then(|rest| rest.strip_prefix('-')?.strip_suffix(EXTENSION))
        .is_some_and(|digits| digits.len() == DIGITS_IN_NAME && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// Those of `names` that no other TOML file in the folder of `path` mentions, since a TOML file may have been copied
/// without its tensors. A file that can't be read counts as mentioning all of them.
fn not_mentioned(path: &Path, mut names: Vec<String>) -> Vec<String> {
    if names.is_empty() {
        return names;
    }
    let Ok(entries) = fs::read_dir(atomic::folder_of(path)) else {
        return Vec::new();
    };
    for entry in entries {
        let Ok(entry) = entry else { return Vec::new() };
        let other = entry.path();
        if other.extension() != path.extension() || other.file_name() == path.file_name() {
            continue;
        }
        match read::whole(&other, "a TOML file", MAX_MAP_TOML_BYTES) {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                names.retain(|name| !text.contains(name));
            }
            Err(FileError::NotAFile { .. } | FileError::TooLarge { .. }) => {}
            Err(_) => return Vec::new(),
        }
    }
    names
}

/// The bare path `stem`.toml.
pub(crate) fn bare_path(stem: &str) -> Result<PathBuf, FileError> {
    let path = PathBuf::from(format!("{stem}.toml"));
    if stem_of(&path)? == stem {
        Ok(path)
    } else {
        let why = "expected a name without a folder";
        Err(FileError::Name { path, why })
    }
}

/// `NAME` of `NAME.toml`.
fn stem_of(path: &Path) -> Result<&str, FileError> {
    let wrong = |why| FileError::Name {
        path: path.to_owned(),
        why,
    };
    if path.extension().is_none_or(|extension| extension != "toml") {
        return Err(wrong("expected the path of a TOML file, ending in .toml"));
    }
    path.file_stem().and_then(|stem| stem.to_str()).filter(|stem| is_plain(stem)).ok_or_else(|| {
        wrong("expected a file name in UTF-8, without backslash, colon or control characters, not starting with a dot")
    })
}

/// Whether a name means a file in the same folder on every operating system.
fn is_plain(name: &str) -> bool {
    !name.starts_with('.') && !name.contains(|letter: char| matches!(letter, '/' | '\\' | ':') || letter.is_control())
}

#[cfg(test)]
mod tests;
