//! A TOML file and the safetensors file that it names, read and written as one unit.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{FileError, Problem};
use crate::{atomic, digest, read};

/// The most bytes a TOML file may have: 1 MiB. One with 500 layers takes 100 KB; this keeps a wrong path (say, to a
/// model) from being read into memory as text.
pub const MAX_TOML_BYTES: u64 = 1 << 20;

/// The most bytes a safetensors file may have: 2 GiB. It's read into memory whole, to be hashed and checked before
/// anything is believed. Vectors for 100 layers of 16,384 take 7 MB; a map between two streams of 16,384 takes 1 GiB.
pub const MAX_WEIGHTS_BYTES: u64 = 2 << 30;

/// How many hex digits of the tensors' SHA-256 go into their file's name. 64 bits, so that no two versions of a file
/// share a name by accident.
const DIGITS_IN_NAME: usize = 16;

const EXTENSION: &str = ".safetensors";

/// The `[weights]` table: which safetensors file belongs to a TOML file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Weights {
    file: String,
    sha256: String,
}

impl Weights {
    /// Names some tensors after a TOML file (without its `.toml`) and their own content.
    fn of(stem: &str, tensors: &[u8]) -> Self {
        let sha256 = digest::sha256(tensors);
        Self {
            file: format!("{stem}-{}{EXTENSION}", &sha256[..DIGITS_IN_NAME]),
            sha256,
        }
    }

    /// Reads the tensors' bytes, if they are the ones meant. Gives their path too.
    pub(crate) fn read(&self, toml: &Path) -> Result<(PathBuf, Vec<u8>), FileError> {
        let bare = self.file.len() > EXTENSION.len() && self.file.ends_with(EXTENSION) && is_plain(&self.file);
        if !bare {
            return Err(Problem::WeightsName {
                found: self.file.clone(),
            }
            .within(toml));
        }
        digest::check("weights.sha256", &self.sha256).map_err(|problem| problem.within(toml))?;
        let path = toml.with_file_name(&self.file);
        let bytes = read::whole(
            &path,
            "the safetensors file that weights.file of the TOML file names",
            MAX_WEIGHTS_BYTES,
        )?;
        let found = digest::sha256(&bytes);
        if found != self.sha256 {
            return Err(Problem::Sha256 {
                found,
                expected: self.sha256.clone(),
            }
            .within(&path));
        }
        Ok((path, bytes))
    }
}

/// Reads a TOML file of one kind. `format` is what its key of that name must say.
pub(crate) fn read_toml<T: DeserializeOwned>(path: &Path, format: &'static str) -> Result<T, FileError> {
    read_toml_after(path, format, |_| Ok(()))
}

/// As [`read_toml`], with a check of the text that comes after the one of `format` and before any key is judged.
pub(crate) fn read_toml_after<T: DeserializeOwned>(
    path: &Path,
    format: &'static str,
    check: impl FnOnce(&str) -> Result<(), Problem>,
) -> Result<T, FileError> {
    let bytes = read_bytes(path)?;
    parse_toml(&bytes, format, check).map_err(|problem| problem.within(path))
}

/// What the key `format` of a TOML file says, whatever else is in it.
pub(crate) fn read_format(path: &Path) -> Result<Option<toml::Value>, FileError> {
    let bytes = read_bytes(path)?;
    let format = text(&bytes).and_then(parse_format);
    format.map_err(|problem| problem.within(path))
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, FileError> {
    stem_of(path)?;
    read::whole(path, "the TOML file", MAX_TOML_BYTES)
}

fn text(bytes: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(bytes).map_err(|error| Problem::NotText {
        valid_up_to: error.valid_up_to(),
    })
}

/// Read before all else: of a file of another kind, its kind is what is wrong, not its keys.
fn parse_format(text: &str) -> Result<Option<toml::Value>, Problem> {
    #[derive(Deserialize)]
    struct Head {
        format: Option<toml::Value>,
    }

    let head: Head = toml::from_str(text).map_err(toml_problem)?;
    Ok(head.format)
}

fn parse_toml<T: DeserializeOwned>(
    bytes: &[u8],
    format: &'static str,
    check: impl FnOnce(&str) -> Result<(), Problem>,
) -> Result<T, Problem> {
    let text = text(bytes)?;
    check_format(parse_format(text)?, format)?;
    check(text)?;
    toml::from_str(text).map_err(toml_problem)
}

fn check_format(found: Option<toml::Value>, expected: &'static str) -> Result<(), Problem> {
    let text = found.as_ref().and_then(toml::Value::as_str).unwrap_or_default();
    if text == expected {
        return Ok(());
    }
    let hint = match kind(text) {
        found if found.is_some() && found == kind(expected) => OTHER_VERSION,
        Some("steermap-map") => ": this is a map file",
        Some("steermap-vector") => ": this is a vector file",
        _ => "",
    };
    let found = spell(found);
    Err(Problem::Format { found, expected, hint })
}

/// What to say of a `format` that is none of those known.
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

/// A value as the TOML file has it.
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

/// Writes a TOML file and its tensors so that, whenever anyone looks, `path` is all old or all new.
///
/// The tensors' file is named by its content, `NAME-<first 16 digits of its sha256>.safetensors`, so new tensors never
/// take the place of old ones. They are written (and synced) first, under a name that nothing refers to yet. The
/// rename of the new TOML file to `path` is then the single moment of change: before it the old TOML file names the old
/// tensors, after it the new one names the new, and both are there. With a fixed name for the tensors there would be
/// two renames, and between them an old TOML file beside new tensors: a pair that no longer loads.
///
/// Afterwards the old tensors are deleted, if this function gave them their name and no other TOML file in the folder
/// mentions them. A crash before that leaves them behind, and one before the rename leaves the new ones behind; either
/// is harmless, as nothing names them. An error leaves nothing behind.
///
/// Readers need no lock, though one that read the old TOML file just before may find its tensors gone
/// ([`FileError::Missing`]); reading again helps. Two writers of the same `path` must take turns.
pub(crate) fn save<T: Serialize>(
    path: &Path,
    tensors: &[u8],
    table: impl FnOnce(Weights) -> T,
) -> Result<(), FileError> {
    let staged = Staged::new(path, tensors, table)?;
    let replaced = named_by(path);
    let existed = staged.weights.exists();
    staged.write_tensors(tensors)?;
    if let Err(error) = staged.commit(path) {
        if !existed {
            let _ = fs::remove_file(&staged.weights);
        }
        return Err(error);
    }
    if let Some(old) = replaced {
        remove_replaced(path, &old, &staged.weights);
    }
    Ok(())
}

/// All that is about to be written, checked before anything is. Its methods are the steps of [`save`].
struct Staged {
    /// Where the tensors go.
    weights: PathBuf,
    /// The TOML file's content.
    text: String,
}

impl Staged {
    fn new<T: Serialize>(path: &Path, tensors: &[u8], table: impl FnOnce(Weights) -> T) -> Result<Self, FileError> {
        let weights = Weights::of(stem_of(path)?, tensors);
        let weights_path = path.with_file_name(&weights.file);
        read::check_length(&weights_path, tensors.len() as u64, MAX_WEIGHTS_BYTES)?;
        let text = toml::to_string(&table(weights)).map_err(|error| {
            Problem::Toml {
                message: error.to_string(),
            }
            .within(path)
        })?;
        read::check_length(path, text.len() as u64, MAX_TOML_BYTES)?;
        Ok(Self {
            weights: weights_path,
            text,
        })
    }

    fn write_tensors(&self, tensors: &[u8]) -> Result<(), FileError> {
        atomic::write(&self.weights, |file| file.write_all(tensors))
            .map_err(|error| FileError::write(&self.weights, error))
    }

    fn commit(&self, path: &Path) -> Result<(), FileError> {
        atomic::write(path, |file| file.write_all(self.text.as_bytes())).map_err(|error| FileError::write(path, error))
    }
}

/// The tensors' file that a TOML file names now, if there is such a TOML file. It need not be valid otherwise.
fn named_by(path: &Path) -> Option<String> {
    #[derive(Deserialize)]
    struct Table {
        weights: File,
    }
    #[derive(Deserialize)]
    struct File {
        file: String,
    }

    let bytes = read::whole(path, "the TOML file", MAX_TOML_BYTES).ok()?;
    let table: Table = toml::from_str(std::str::from_utf8(&bytes).ok()?).ok()?;
    Some(table.weights.file)
}

/// Deletes the tensors that `path` named before, if they are [`save`]'s own and of no more use to anyone.
fn remove_replaced(path: &Path, old: &str, new: &Path) {
    let ours = stem_of(path).is_ok_and(|stem| is_generated(stem, old));
    let old_path = path.with_file_name(old);
    if ours && old_path != new && !mentioned_by_another(path, old) {
        // It's only in the way; failing to remove it harms nothing.
        let _ = fs::remove_file(old_path);
    }
}

/// Whether [`Weights::of`] could have given this name.
fn is_generated(stem: &str, name: &str) -> bool {
    name.strip_prefix(stem)
        .and_then(|rest| rest.strip_prefix('-')?.strip_suffix(EXTENSION))
        .is_some_and(|digits| digits.len() == DIGITS_IN_NAME && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// Whether a TOML file beside `path` mentions `name`: someone may have copied a TOML file without its tensors. What
/// can't be read counts as a mention.
fn mentioned_by_another(path: &Path, name: &str) -> bool {
    let mentions = |entry: std::io::Result<fs::DirEntry>| {
        let Ok(entry) = entry else { return true };
        let other = entry.path();
        if other.extension() != path.extension() || other.file_name() == path.file_name() {
            return false;
        }
        match read::whole(&other, "a TOML file", MAX_TOML_BYTES) {
            Ok(bytes) => bytes.windows(name.len()).any(|window| window == name.as_bytes()),
            Err(FileError::NotAFile { .. } | FileError::TooLarge { .. }) => false,
            Err(_) => true,
        }
    };
    fs::read_dir(atomic::folder_of(path)).map_or(true, |mut entries| entries.any(mentions))
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

/// Whether a name can only mean a file in the same folder, on whatever system.
fn is_plain(name: &str) -> bool {
    !name.starts_with('.') && !name.contains(|letter: char| matches!(letter, '/' | '\\' | ':') || letter.is_control())
}

#[cfg(test)]
mod tests;
