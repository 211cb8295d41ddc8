//! The state folder: keeps changes made over HTTP across restarts of the server.
//!
//! ```text
//! state/
//!   lock                       held by the server that uses the folder
//!   00000012.toml              a record: the state after the twelfth change
//!   00000013.toml
//!   vectors/00000013-calm.toml the vectors that records name, with their safetensors beside them
//! ```
//!
//! Each change writes the new vectors, then its own record, synced and renamed into place. The record with the highest
//! number is the current state. So if the process dies at any time, the folder has the state before the change or the
//! one after it. Older records are the history: at most [`MAX_RECORDS`], and only as many as keep the bytes that only
//! they need below [`MAX_HISTORY_BYTES`].

mod files;
mod record;
mod saved;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use steermap_maps::{VectorFile, atomic};
use tracing::warn;

use crate::lock::lock;
use crate::{SteeringError, SteeringSpec};
use files::{VECTORS, failed};
pub use record::{ModelRecord, StateRecord};
pub use saved::SavedState;

/// Most records that are kept, including the current one.
pub const MAX_RECORDS: usize = 100;

/// Most bytes of records and vectors that only the history uses.
pub const MAX_HISTORY_BYTES: u64 = 256 << 20;

const LOCK: &str = "lock";
/// A change to write.
pub struct StateChange<'a> {
    /// A description of the change.
    pub what: &'a str,
    /// Who made it.
    pub caller: &'a str,
    /// The uploaded vectors after it, by name.
    pub vectors: BTreeMap<&'a str, &'a Arc<VectorFile>>,
    /// The defaults that were set over HTTP, by model.
    pub defaults: BTreeMap<&'a str, SteeringSpec>,
}

/// A state folder that only this process uses.
pub struct StateFolder {
    path: PathBuf,
    /// The lock, held while the folder is open.
    _lock: File,
    /// Most bytes of the history.
    most_bytes: u64,
    kept: Mutex<FolderContents>,
}

/// The contents of the folder.
#[derive(Default)]
struct FolderContents {
    /// The records, oldest first, each with its size in bytes.
    records: VecDeque<(StateRecord, u64)>,
    /// The vectors of the last record, with their files.
    vectors: BTreeMap<String, (Arc<VectorFile>, String)>,
}

impl StateFolder {
    /// Opens the folder at `path`, or creates it in an existing parent, and removes partial files of a process that
    /// died while writing.
    ///
    /// # Errors
    ///
    /// The folder can't be created or written, another server uses it, or it has a record that can't be read.
    pub fn open(path: &Path) -> Result<Self, SteeringError> {
        let vectors = path.join(VECTORS);
        for folder in [path, &vectors] {
            match fs::create_dir(folder) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(failed(folder, error)),
                _ => {}
            }
        }
        let lock_path = path.join(LOCK);
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).open(&lock_path);
        let file = file.map_err(|error| failed(&lock_path, error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message = "is in use by another server: each server needs its own state folder";
                return Err(failed(path, message));
            }
            Err(TryLockError::Error(error)) => return Err(failed(&lock_path, error)),
        }
        let mut records = VecDeque::new();
        for (number, file) in numbered(path)? {
            records.push_back((StateRecord::read(&file, number)?, length(&file)));
        }
        let folder = Self {
            path: path.to_path_buf(),
            _lock: file,
            most_bytes: MAX_HISTORY_BYTES,
            kept: Mutex::new(FolderContents {
                records,
                vectors: BTreeMap::new(),
            }),
        };
        folder.sweep(&lock(&folder.kept));
        Ok(folder)
    }

    /// The current state of a folder that another process may be using; `None` if there is no record yet.
    ///
    /// # Errors
    ///
    /// A record or vector that can't be read.
    pub fn peek(path: &Path) -> Result<Option<SavedState>, SteeringError> {
        let Some((number, file)) = numbered(path)?.pop() else {
            return Ok(None);
        };
        StateRecord::read(&file, number)?.load(path, &file).map(Some)
    }

    /// The current state; `None` if there is no record yet.
    ///
    /// # Errors
    ///
    /// A vector that can't be read.
    pub fn latest(&self) -> Result<Option<SavedState>, SteeringError> {
        let mut kept = lock(&self.kept);
        let Some(record) = kept.records.back().map(|(record, _)| record.clone()) else {
            return Ok(None);
        };
        let saved = record.load(&self.path, &self.file(record.number))?;
        let with_file = |(name, vector): (&String, &Arc<VectorFile>)| {
            let file = record.vectors.get(name)?;
            Some((name.clone(), (vector.clone(), file.clone())))
        };
        kept.vectors = saved.vectors.iter().filter_map(with_file).collect();
        Ok(Some(saved))
    }

    /// The state after the change `number`.
    ///
    /// # Errors
    ///
    /// The record does not exist ([`SteeringError::NotFound`]), or a vector can't be read.
    pub fn at(&self, number: u64) -> Result<SavedState, SteeringError> {
        let record = {
            let kept = lock(&self.kept);
            let mut records = kept.records.iter().map(|(record, _)| record);
            records.find(|record| record.number == number).cloned()
        };
        let Some(record) = record else {
            return Err(SteeringError::NotFound {
                field: "number".to_string(),
                found: number.to_string(),
                expected: "the number of a state that the history has".to_string(),
            });
        };
        record.load(&self.path, &self.file(number))
    }

    /// The records, newest first.
    pub fn history(&self) -> Vec<StateRecord> {
        let kept = lock(&self.kept);
        kept.records.iter().rev().map(|(record, _)| record.clone()).collect()
    }

    /// The number of the current record; 0 if there is none.
    pub fn number(&self) -> u64 {
        lock(&self.kept).records.back().map_or(0, |(record, _)| record.number)
    }

    /// Writes `change`; its record is then the current state.
    ///
    /// # Errors
    ///
    /// The change can't be written. The state is then unchanged.
    pub fn commit(&self, change: &StateChange<'_>) -> Result<u64, SteeringError> {
        let mut kept = lock(&self.kept);
        let number = kept.records.back().map_or(0, |(record, _)| record.number) + 1;
        let mut vectors = BTreeMap::new();
        for (&name, &vector) in &change.vectors {
            let known = kept.vectors.get(name).filter(|(known, _)| Arc::ptr_eq(known, vector));
            let file = match known {
                Some((_, file)) => file.clone(),
                None => {
                    let file = format!("{number:08}-{name}.toml");
                    let path = self.path.join(VECTORS).join(&file);
                    vector.save(&path).map_err(|error| failed(&path, error))?;
                    file
                }
            };
            vectors.insert(name.to_string(), (vector.clone(), file));
        }
        let models = change.defaults.iter().map(|(model, spec)| ModelRecord {
            model: model.to_string(),
            spec: spec.clone(),
        });
        let record = StateRecord {
            number,
            time: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            change: change.what.to_string(),
            caller: change.caller.to_string(),
            vectors: vectors
                .iter()
                .map(|(name, (_, file))| (name.clone(), file.clone()))
                .collect(),
            defaults: models.collect(),
        };
        let file = self.file(number);
        let text = record.write().map_err(|message| failed(&file, message))?;
        atomic::write(&file, |file| file.write_all(text.as_bytes())).map_err(|error| failed(&file, error))?;
        kept.records.push_back((record, text.len() as u64));
        kept.vectors = vectors;
        if self.prune(&mut kept) {
            self.sweep(&kept);
        }
        Ok(number)
    }

    fn file(&self, number: u64) -> PathBuf {
        self.path.join(format!("{number:08}.toml"))
    }

    /// Drops the oldest records beyond the bounds of the history. Returns whether there were any.
    fn prune(&self, kept: &mut FolderContents) -> bool {
        let before = kept.records.len();
        while kept.records.len() > 1 && (kept.records.len() > MAX_RECORDS || self.history_bytes(kept) > self.most_bytes)
        {
            let Some((record, _)) = kept.records.pop_front() else {
                break;
            };
            let file = self.file(record.number);
            if let Err(error) = fs::remove_file(&file) {
                warn!("{}: can't be removed from the history: {error}", file.display());
            }
        }
        kept.records.len() < before
    }

    /// Bytes that only the records before the last need.
    fn history_bytes(&self, kept: &FolderContents) -> u64 {
        let Some((last, _)) = kept.records.back() else { return 0 };
        let older = kept.records.iter().take(kept.records.len() - 1);
        let records: u64 = older.clone().map(|(_, bytes)| bytes).sum();
        let holds: BTreeSet<&String> = last.vectors.values().collect();
        let vectors: BTreeSet<&String> = older.flat_map(|(record, _)| record.vectors.values()).collect();
        let bytes = |file: &&String| length(&self.path.join(VECTORS).join(file)) + self.tensor_bytes(file);
        records + vectors.difference(&holds).map(bytes).sum::<u64>()
    }

    /// Bytes of the tensors beside a vector's TOML file.
    fn tensor_bytes(&self, file: &str) -> u64 {
        let stem = format!("{}-", file.trim_end_matches(".toml"));
        let is_of = |name: &str| name.starts_with(&stem) && name.ends_with(".safetensors");
        let found = names(&self.path.join(VECTORS)).into_iter().find(|name| is_of(name));
        found.map_or(0, |name| length(&self.path.join(VECTORS).join(name)))
    }

    /// Removes the vectors that no record names, and partial files.
    fn sweep(&self, kept: &FolderContents) {
        let named: BTreeSet<&str> = kept
            .records
            .iter()
            .flat_map(|(record, _)| record.vectors.values())
            .map(|file| file.trim_end_matches(".toml"))
            .collect();
        let is_named = |name: &str| {
            // `00000013-calm.toml` and `00000013-calm-<16 digits>.safetensors`
            let stem = name.strip_suffix(".toml").or_else(|| {
                let stem = name.strip_suffix(".safetensors")?;
                stem.rsplit_once('-').map(|(stem, _)| stem)
            });
            stem.is_some_and(|stem| named.contains(stem))
        };
        let half_written = |name: &str| name.starts_with(".steermap-") && name.ends_with(".tmp");
        for name in names(&self.path).into_iter().filter(|name| half_written(name)) {
            let _ = fs::remove_file(self.path.join(name));
        }
        let vectors = self.path.join(VECTORS);
        for name in names(&vectors).into_iter().filter(|name| !is_named(name)) {
            let ours = [".toml", ".safetensors", ".tmp"].iter().any(|end| name.ends_with(end));
            if ours && let Err(error) = fs::remove_file(vectors.join(&name)) {
                warn!("{}: can't be removed: {error}", vectors.join(&name).display());
            }
        }
    }
}

/// Length of a file in bytes; 0 if it can't be read.
fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// The names of the files in a folder; none if it can't be read.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.collect()
}

/// The records in `folder`, oldest first.
fn numbered(folder: &Path) -> Result<Vec<(u64, PathBuf)>, SteeringError> {
    let number = |name: &str| {
        let digits = name.strip_suffix(".toml")?;
        let all_digits = digits.len() >= 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
        all_digits.then(|| digits.parse().ok()).flatten()
    };
    match fs::read_dir(folder) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(folder, error)),
    }
    let mut records: Vec<(u64, PathBuf)> = names(folder)
        .iter()
        .filter_map(|name| Some((number(name)?, folder.join(name))))
        .collect();
    records.sort();
    Ok(records)
}

#[cfg(test)]
mod tests;
