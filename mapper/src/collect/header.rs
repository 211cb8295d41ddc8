//! The header of statistics: models, rules and text, compared before statistics are merged or continued.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail, ensure};
use residual_hooks::StreamInfo;
use serde::{Deserialize, Serialize};
use steermap_fit::stats::file::{FORMAT, FORMAT_1};
use steermap_maps::{ModelInfo, Numerics};

use super::rows::{Counts, Rules};
use crate::corpus::CorpusFile;

/// The models, rules and text that statistics were collected from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatisticsHeader {
    /// The kind and version of file.
    pub format: String,
    /// Name and version of the tool.
    pub tool: String,
    /// The model whose states are mapped.
    pub source: SideHeader,
    /// The model whose states they are mapped to.
    pub target: SideHeader,
    /// Which positions count.
    pub rules: Rules,
    /// The parts of the text: one after a run, several after a merge.
    pub parts: Vec<CorpusPart>,
}

/// One of the two models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SideHeader {
    /// Id or folder name.
    pub model: String,
    /// Fingerprint of the weights and the tokenizer.
    pub fingerprint: String,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Number of decoder blocks.
    pub num_layers: usize,
    /// Dtype of the stream; `unknown` before the first text has run.
    pub dtype: String,
    /// The weights' quantisation.
    pub quantization: Option<String>,
}

/// A part of the text, and how much of it has been read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusPart {
    /// The files.
    pub corpus: Vec<CorpusFile>,
    /// Which of their documents.
    pub shard: Shard,
    /// Maximum number of paired positions.
    pub limit: Option<u64>,
    /// Windows read so far.
    #[serde(default)]
    pub windows: u64,
    /// SHA-256 over the windows read so far. A continued run reads them again and compares. Empty in version 1.
    #[serde(default)]
    pub read: String,
    /// Counts so far.
    pub counts: Counts,
    /// Whether all of it has been read.
    pub complete: bool,
}

/// Every `count`-th document, from the `index`-th on: document `i` belongs to shard `i % count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// From 0.
    pub index: usize,
    /// One at least.
    pub count: usize,
}

impl Default for Shard {
    /// All documents.
    fn default() -> Self {
        Self { index: 0, count: 1 }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || anyhow!("found {text:?}, expected INDEX/COUNT with INDEX from 0 to below COUNT, such as 0/16");
        let (index, count) = text.split_once('/').ok_or_else(wrong)?;
        let shard = Self {
            index: index.parse().map_err(|_| wrong())?,
            count: count.parse().map_err(|_| wrong())?,
        };
        ensure!(shard.index < shard.count, wrong());
        Ok(shard)
    }
}

impl SideHeader {
    /// From the tables of a file.
    pub fn new(info: ModelInfo, numerics: Numerics) -> Self {
        let ModelInfo {
            model,
            fingerprint,
            hidden_size,
            num_layers,
        } = info;
        Self {
            model,
            fingerprint,
            hidden_size,
            num_layers,
            dtype: numerics.dtype,
            quantization: numerics.quantization,
        }
    }

    /// The model, for files.
    pub fn info(&self) -> ModelInfo {
        ModelInfo {
            model: self.model.clone(),
            fingerprint: self.fingerprint.clone(),
            hidden_size: self.hidden_size,
            num_layers: self.num_layers,
        }
    }

    /// The numerics that it ran at.
    pub fn numerics(&self) -> Numerics {
        Numerics {
            dtype: self.dtype.clone(),
            quantization: self.quantization.clone(),
        }
    }

    /// The stream's sizes, as if all its layers could be seen.
    pub fn stream(&self) -> StreamInfo {
        StreamInfo {
            num_layers: self.num_layers,
            hidden_size: self.hidden_size,
            last_block: true,
        }
    }

    /// Compares what all runs of one model share. The name may differ with the folder that it was loaded from, and the
    /// dtype is unknown before the model has run.
    fn compare(&self, other: &Self, side: &str) -> Result<()> {
        let differ = |field: &str, a: &dyn std::fmt::Display, b: &dyn std::fmt::Display| {
            anyhow!("{side}.{field}: found {a}, expected {b} as in the other")
        };
        if self.fingerprint != other.fingerprint {
            return Err(differ("fingerprint", &self.fingerprint, &other.fingerprint));
        }
        if self.quantization != other.quantization {
            let name = |side: &Self| side.quantization.clone().unwrap_or_else(|| "none".to_string());
            return Err(differ("quantization", &name(self), &name(other)));
        }
        let known = |side: &Self| side.dtype != UNKNOWN_DTYPE;
        if self.dtype != other.dtype && known(self) && known(other) {
            return Err(differ("dtype", &self.dtype, &other.dtype));
        }
        Ok(())
    }
}

/// [`SideHeader::dtype`] before the model has run.
pub const UNKNOWN_DTYPE: &str = "unknown";

impl StatisticsHeader {
    /// Reads the header stored with statistics.
    ///
    /// # Errors
    ///
    /// Another kind or version of file, or a key that is missing, unknown or wrong.
    pub fn from_json(value: serde_json::Value) -> Result<Self> {
        let found = value.get("format").cloned().unwrap_or_default();
        ensure!(
            found == FORMAT || found == FORMAT_1,
            "format: found {found}, expected {FORMAT:?} or {FORMAT_1:?}"
        );
        serde_json::from_value(value).context("header")
    }

    /// Counts of all parts.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.parts.iter().for_each(|part| counts.add(&part.counts));
        counts
    }

    /// All files of all parts, each once.
    pub fn corpus(&self) -> Vec<CorpusFile> {
        let mut files: Vec<CorpusFile> = Vec::new();
        for file in self.parts.iter().flat_map(|part| &part.corpus) {
            if !files.contains(file) {
                files.push(file.clone());
            }
        }
        files
    }

    /// Checks that `job` may continue statistics with this header, provided that the text read so far is the same. File
    /// names, text after that, and the limit may differ.
    ///
    /// # Errors
    ///
    /// Names the first difference.
    pub fn resumes(&self, job: &Self) -> Result<()> {
        self.same_models(job)?;
        ensure!(
            self.parts.len() == 1,
            "parts: found merged statistics, expected those of one run"
        );
        let (found, expected) = (&self.parts[0].shard, &job.parts[0].shard);
        ensure!(found == expected, "shard: found {found}, expected {expected}");
        Ok(())
    }

    /// Adds the parts of `other`, whose statistics are added to those of `self`.
    ///
    /// # Errors
    ///
    /// Other models or rules, an incomplete part, or a part that is already included.
    pub fn merge(&mut self, other: Self) -> Result<()> {
        self.same_models(&other)?;
        self.parts.extend(other.parts);
        self.check_parts()
    }

    /// Checks that every part has been read to its end and that no document is counted twice.
    ///
    /// # Errors
    ///
    /// Names the first part for which this doesn't hold.
    pub fn check_parts(&self) -> Result<()> {
        let mut seen: BTreeMap<&str, (&[CorpusFile], usize, BTreeSet<usize>)> = BTreeMap::new();
        for part in &self.parts {
            let CorpusPart { corpus, shard, .. } = part;
            let name = format!("{}, shard {}/{}", names(corpus), shard.index, shard.count);
            ensure!(
                part.complete,
                "{name}: found the statistics of an unfinished run, expected those of a finished one: run the same command \
                 again"
            );
            for file in corpus {
                let first = || (corpus.as_slice(), shard.count, BTreeSet::new());
                let (files, count, indices) = seen.entry(&file.sha256).or_insert_with(first);
                // Documents are numbered over all files, so only shards of the same files and count are sure to be
                // disjoint.
                if *files != corpus.as_slice() || *count != shard.count || !indices.insert(shard.index) {
                    bail!("{name}: found documents that are also in another part, expected every document once");
                }
            }
        }
        Ok(())
    }

    /// The missing shards of texts of which other shards are included, in words; `None` if none are missing.
    pub fn missing_shards(&self) -> Option<String> {
        let mut there: BTreeMap<(String, usize), BTreeSet<usize>> = BTreeMap::new();
        for part in &self.parts {
            let shards = there.entry((names(&part.corpus), part.shard.count)).or_default();
            shards.insert(part.shard.index);
        }
        let missing = there.iter().flat_map(|((corpus, count), there)| {
            let indices = (0..*count).filter(|index| !there.contains(index));
            let shards: Vec<String> = indices.map(|index| format!("{index}/{count}")).collect();
            (!shards.is_empty()).then(|| format!("shards {} of {corpus} are", shards.join(", ")))
        });
        let missing: Vec<String> = missing.collect();
        (!missing.is_empty()).then(|| missing.join("; "))
    }

    fn same_models(&self, other: &Self) -> Result<()> {
        self.source.compare(&other.source, "source")?;
        self.target.compare(&other.target, "target")?;
        ensure!(
            self.rules == other.rules,
            "rules: found {}, expected {} as in the other",
            self.rules.describe(),
            other.rules.describe()
        );
        Ok(())
    }
}

fn names(files: &[CorpusFile]) -> String {
    let names: Vec<String> = files
        .iter()
        .map(|file| format!("{} ({})", file.name, &file.sha256[..8]))
        .collect();
    names.join(" + ")
}

#[cfg(test)]
mod tests {
    use super::super::rows::WindowRule;
    use super::*;

    fn header(shard: &str, complete: bool) -> StatisticsHeader {
        let side = |name: &str| SideHeader {
            model: name.into(),
            fingerprint: format!("sm1:{name}"),
            hidden_size: 4,
            num_layers: 3,
            dtype: "f32".into(),
            quantization: None,
        };
        StatisticsHeader {
            format: FORMAT.into(),
            tool: "mapper".into(),
            source: side("a"),
            target: side("b"),
            rules: Rules::default(),
            parts: vec![CorpusPart {
                corpus: vec![CorpusFile {
                    name: "text".into(),
                    sha256: "0".repeat(64),
                }],
                shard: shard.parse().unwrap(),
                limit: None,
                windows: 0,
                read: String::new(),
                counts: Counts {
                    documents: 3,
                    ..Counts::default()
                },
                complete,
            }],
        }
    }

    #[test]
    fn json_round_trip_and_other_formats() {
        let header = header("0/2", true);
        let json = serde_json::to_value(&header).unwrap();
        assert_eq!(StatisticsHeader::from_json(json.clone()).unwrap(), header);
        let mut other = json.clone();
        other["format"] = "steermap-stats/9".into();
        assert!(
            StatisticsHeader::from_json(other)
                .unwrap_err()
                .to_string()
                .contains("steermap-stats/9")
        );
        let mut other = json;
        other["more"] = 1.into();
        assert!(StatisticsHeader::from_json(other).is_err());
        assert!(StatisticsHeader::from_json(serde_json::Value::Null).is_err());
    }

    #[test]
    fn shards_add_up_once() {
        let mut all = header("0/2", true);
        assert_eq!(all.missing_shards().unwrap(), "shards 1/2 of text (00000000) are");
        all.merge(header("1/2", true)).unwrap();
        assert_eq!(all.missing_shards(), None);
        assert_eq!(all.counts().documents, 6);
        assert_eq!(all.corpus().len(), 1);
        let twice = all.clone().merge(header("1/2", true)).unwrap_err().to_string();
        assert!(
            twice.contains("shard 1/2: found documents that are also in another part"),
            "{twice}"
        );
        let whole = header("0/2", true).merge(header("0/1", true)).unwrap_err().to_string();
        assert!(whole.contains("also in another part"), "{whole}");
        let open = header("0/2", true).merge(header("1/2", false)).unwrap_err().to_string();
        assert!(open.contains("an unfinished run"), "{open}");
    }

    #[test]
    fn other_models_rules_or_text_are_refused() {
        let job = header("0/2", false);
        assert!(header("0/2", true).resumes(&job).is_ok());
        let error = |change: &dyn Fn(&mut StatisticsHeader)| {
            let mut other = header("0/2", true);
            change(&mut other);
            other.resumes(&job).unwrap_err().to_string()
        };
        assert!(error(&|h| h.source.fingerprint = "sm1:x".into()).starts_with("source.fingerprint"));
        assert!(error(&|h| h.target.quantization = Some("q8_0".into())).starts_with("target.quantization"));
        assert!(error(&|h| h.target.dtype = "bf16".into()).starts_with("target.dtype"));
        assert!(error(&|h| h.rules.window = WindowRule::SourceTokens(7)).starts_with("rules: found first position"));
        // What was read is compared by whoever goes on.
        let mut corrected = header("0/2", true);
        corrected.parts[0].corpus[0].sha256 = "1".repeat(64);
        corrected.parts[0].limit = Some(7);
        assert!(corrected.resumes(&job).is_ok());
        assert!(error(&|h| h.parts[0].shard.index = 1).starts_with("shard"));
        // A run that has not begun does not know its dtype.
        let mut fresh = job.clone();
        fresh.target.dtype = UNKNOWN_DTYPE.into();
        assert!(header("0/2", true).resumes(&fresh).is_ok());
    }

    #[test]
    fn shards_are_read() {
        assert_eq!("3/16".parse::<Shard>().unwrap(), Shard { index: 3, count: 16 });
        for text in ["", "3", "3/", "/3", "3/3", "-1/2", "a/b", "0/0"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }
}
