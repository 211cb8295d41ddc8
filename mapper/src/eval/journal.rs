//! The journal of an evaluation: its measurements so far, so that it can be stopped and continued.
//!
//! A file of JSON lines: first the identity of the evaluation, then one line per unit of work. A unit whose line was
//! cut off by a crash is measured again.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The first line's `format`.
const FORMAT: &str = "steermap-eval-journal/1";

/// The evaluation was stopped; the measurements so far are in the journal.
#[derive(Debug, thiserror::Error)]
#[error("stopped; run the same command to continue")]
pub struct Stopped;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JournalHeader {
    format: String,
    identity: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JournalEntry {
    unit: String,
    value: Box<RawValue>,
}

/// The journal of an evaluation.
pub struct Journal {
    path: PathBuf,
    file: File,
    known: HashMap<String, Box<RawValue>>,
    stop: Arc<AtomicBool>,
}

impl Journal {
    /// Opens the journal at `path`, or creates it. `identity` is a hash over everything that decides the results. Once
    /// `stop` is set, no further unit is begun.
    ///
    /// # Errors
    ///
    /// The journal of another evaluation, or the operating system's error.
    pub fn open(path: &Path, identity: &str, stop: Arc<AtomicBool>) -> Result<Self> {
        let at = || path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(at),
        };
        // Text after the last line break was cut off by a crash.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut lines = text[..whole].lines();
        let mut known = HashMap::new();
        let head = lines.next().map(serde_json::from_str::<JournalHeader>);
        match &head {
            None => {}
            Some(Ok(head)) if head.format == FORMAT && head.identity == identity => {
                for (number, line) in lines.enumerate() {
                    let line: JournalEntry =
                        serde_json::from_str(line).with_context(|| format!("{}, line {}", at(), number + 2))?;
                    known.insert(line.unit, line.value);
                }
            }
            Some(_) => bail!(
                "{}: found the journal of another evaluation; delete it, or give another --out",
                at()
            ),
        }
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .with_context(at)?;
        file.set_len(whole as u64).with_context(at)?;
        if head.is_none() {
            let (format, identity) = (FORMAT.to_string(), identity.to_string());
            writeln!(file, "{}", serde_json::to_string(&JournalHeader { format, identity })?).with_context(at)?;
        }
        Ok(Self {
            path: path.to_path_buf(),
            file,
            known,
            stop,
        })
    }

    /// Number of units in the journal.
    pub fn recorded(&self) -> usize {
        self.known.len()
    }

    /// The value of a unit: from the journal, or by running `work`.
    ///
    /// # Errors
    ///
    /// [`Stopped`] instead of the work, the error of the work, or the operating system's.
    pub async fn unit<T>(&mut self, unit: &str, work: impl Future<Output = Result<T>>) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
    {
        if let Some(value) = self.known.get(unit) {
            return serde_json::from_str(value.get()).with_context(|| format!("{}: {unit}", self.path.display()));
        }
        if self.stop.load(Ordering::Relaxed) {
            return Err(Stopped.into());
        }
        let value = serde_json::value::to_raw_value(&work.await?)?;
        let line = JournalEntry {
            unit: unit.to_string(),
            value,
        };
        let written = writeln!(self.file, "{}", serde_json::to_string(&line)?).and_then(|()| self.file.sync_data());
        written.with_context(|| self.path.display().to_string())?;
        // Read back, so that a number is the same whether it comes from the journal or was measured now.
        let value = serde_json::from_str(line.value.get())?;
        self.known.insert(line.unit, line.value);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn never() -> Arc<AtomicBool> {
        Arc::default()
    }

    #[tokio::test]
    async fn what_is_known_is_not_measured_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::open(&path, "a", never()).unwrap();
        assert_eq!(
            journal.unit("x", async { Ok(vec![0.1f64, 2.0]) }).await.unwrap(),
            [0.1, 2.0]
        );
        drop(journal);
        // A line that was cut off.
        let mut text = std::fs::read_to_string(&path).unwrap();
        text += "{\"unit\":\"y\",\"val";
        std::fs::write(&path, text).unwrap();
        let mut journal = Journal::open(&path, "a", never()).unwrap();
        assert_eq!(journal.recorded(), 1);
        let again = async { bail!("must not run") };
        assert_eq!(journal.unit::<Vec<f64>>("x", again).await.unwrap(), [0.1, 2.0]);
        assert_eq!(journal.unit("y", async { Ok(7u32) }).await.unwrap(), 7);
        drop(journal);
        let journal = Journal::open(&path, "a", never()).unwrap();
        assert_eq!(journal.recorded(), 2);
    }

    #[tokio::test]
    async fn a_stop_keeps_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let stop = never();
        let mut journal = Journal::open(&path, "a", stop.clone()).unwrap();
        journal.unit("x", async { Ok(1) }).await.unwrap();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(journal.unit("x", async { Ok(2) }).await.unwrap(), 1);
        let error = journal.unit("y", async { Ok(2) }).await.unwrap_err();
        assert!(error.is::<Stopped>());
    }

    #[test]
    fn another_evaluations_journal_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        drop(Journal::open(&path, "a", never()).unwrap());
        for (identity, text) in [("b", None), ("a", Some("not json\n"))] {
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            let error = Journal::open(&path, identity, never()).err().unwrap().to_string();
            assert!(error.contains("another evaluation"), "{error}");
        }
    }
}
