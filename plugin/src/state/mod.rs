//! The state folder: what was changed over HTTP and outlasts the server.
//!
//! ```text
//! state/
//!   lock                       held by the server that uses the folder
//!   00000012.toml              a record: all that held after the twelfth change
//!   00000013.toml
//!   vectors/00000013-calm.toml the vectors that records name, with their safetensors beside them
//! ```
//!
//! Each change writes the vectors that are new, then a record of its own, synced and renamed into place; the record with the
//! highest number is what holds. So whenever the process dies, the folder has the state before the change or the one after
//! it. Older records are the history: at most [`MAX_RECORDS`], and as few as it takes for what only they need to stay below
//! [`MAX_HISTORY_BYTES`].

mod record;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use steermap_maps::{VectorFile, atomic, read};
use tracing::warn;

use crate::steering::lock;
use crate::{SteeringError, SteeringSpec};
pub use record::{ModelRecord, Record};

/// Most records that are kept, the one that holds included.
pub const MAX_RECORDS: usize = 100;

/// Most bytes of records and vectors that only the history needs.
pub const MAX_HISTORY_BYTES: u64 = 256 << 20;

/// Most bytes of a record: several default specs at their limits fit.
const MAX_RECORD_BYTES: u64 = 64 << 20;

const LOCK: &str = "lock";
const VECTORS: &str = "vectors";

/// What outlasts the server.
#[derive(Clone, Default)]
pub struct Saved {
    /// The number of its record.
    pub number: u64,
    /// The record's file, for messages.
    pub path: PathBuf,
    /// When it was written, as RFC 3339 has it.
    pub time: String,
    /// The uploaded vectors, by name.
    pub vectors: BTreeMap<String, Arc<VectorFile>>,
    /// The defaults that were set over HTTP, by model; an empty spec for none.
    pub defaults: BTreeMap<String, SteeringSpec>,
}

/// A change that is to be written.
pub struct Change<'a> {
    /// What was done, in words.
    pub what: &'a str,
    /// Who asked for it.
    pub caller: &'a str,
    /// The uploaded vectors after it, by name.
    pub vectors: BTreeMap<&'a str, &'a Arc<VectorFile>>,
    /// The defaults that were set over HTTP, by model.
    pub defaults: BTreeMap<&'a str, SteeringSpec>,
}

/// A state folder, used by this process alone.
pub struct StateFolder {
    path: PathBuf,
    /// Locked for as long as it is open.
    _lock: File,
    /// Most bytes of the history.
    most_bytes: u64,
    kept: Mutex<Kept>,
}

/// What the folder has.
#[derive(Default)]
struct Kept {
    /// The records, the oldest first, each with its bytes.
    records: VecDeque<(Record, u64)>,
    /// The vectors of the last record, and the files that they are in.
    vectors: BTreeMap<String, (Arc<VectorFile>, String)>,
}

impl StateFolder {
    /// Opens the folder at `path`, which is made if it isn't there (its parent must be), and removes what a process left in it that
    /// died while it wrote.
    ///
    /// # Errors
    ///
    /// A folder that can't be made or written, that another server uses, or that has a record that can't be read.
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
                let message = "is in use by another server: each needs a state folder of its own";
                return Err(failed(path, message));
            }
            Err(TryLockError::Error(error)) => return Err(failed(&lock_path, error)),
        }
        let mut records = VecDeque::new();
        for (number, file) in numbered(path)? {
            records.push_back((Record::read(&file, number)?, length(&file)));
        }
        let folder = Self {
            path: path.to_path_buf(),
            _lock: file,
            most_bytes: MAX_HISTORY_BYTES,
            kept: Mutex::new(Kept {
                records,
                vectors: BTreeMap::new(),
            }),
        };
        folder.sweep(&lock(&folder.kept));
        Ok(folder)
    }

    /// What holds, from a folder that another process may be using. `None` where there is no record yet.
    ///
    /// # Errors
    ///
    /// A record or vector that can't be read.
    pub fn peek(path: &Path) -> Result<Option<Saved>, SteeringError> {
        let Some((number, file)) = numbered(path)?.pop() else {
            return Ok(None);
        };
        Record::read(&file, number)?.load(path, &file).map(Some)
    }

    /// What holds; `None` where there is no record yet.
    ///
    /// # Errors
    ///
    /// A vector that can't be read.
    pub fn latest(&self) -> Result<Option<Saved>, SteeringError> {
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

    /// What held after the change `number`.
    ///
    /// # Errors
    ///
    /// A record that is not there ([`SteeringError::NotFound`]), or a vector that can't be read.
    pub fn at(&self, number: u64) -> Result<Saved, SteeringError> {
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

    /// The records, the newest first.
    pub fn history(&self) -> Vec<Record> {
        let kept = lock(&self.kept);
        kept.records.iter().rev().map(|(record, _)| record.clone()).collect()
    }

    /// The number of the record that holds; 0 where there is none.
    pub fn number(&self) -> u64 {
        lock(&self.kept).records.back().map_or(0, |(record, _)| record.number)
    }

    /// Writes `change` down; its record is what holds from then on.
    ///
    /// # Errors
    ///
    /// What keeps it from being written; then the state is as it was.
    pub fn commit(&self, change: &Change<'_>) -> Result<u64, SteeringError> {
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
        let record = Record {
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

    /// Forgets the oldest records beyond the bounds of the history. Returns whether there were any.
    fn prune(&self, kept: &mut Kept) -> bool {
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

    /// Bytes of what only the records before the last need.
    fn history_bytes(&self, kept: &Kept) -> u64 {
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

    /// Removes the vectors that no record names, and what was left half written.
    fn sweep(&self, kept: &Kept) {
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

fn failed(path: &Path, why: impl ToString) -> SteeringError {
    SteeringError::State {
        path: path.to_path_buf(),
        message: why.to_string(),
    }
}

/// Length of a file in bytes; 0 where it can't be told.
fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// The names of what is in a folder; none where it can't be read.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.collect()
}

/// The records in `folder`, the oldest first.
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

/// Reads a record's text.
fn read_text(path: &Path) -> Result<String, SteeringError> {
    let bytes = read::whole(path, "a record of the state", MAX_RECORD_BYTES).map_err(SteeringError::ModelFiles)?;
    String::from_utf8(bytes).map_err(|_| failed(path, "found bytes that are not UTF-8, expected a record of the state"))
}

#[cfg(test)]
mod tests;
