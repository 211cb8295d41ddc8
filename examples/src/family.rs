//! Paths of the embedded models and their concepts.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mistralrs::ModelDType;
use steermap_fit::stats::Precision;
use steermap_fit::{RankChoice, RidgeChoice};
use steermap_mapper::collect::header::Shard;
use steermap_mapper::collect::rows::Rules;
use steermap_mapper::collect::side::SideSource;
use steermap_mapper::collect::{CollectJob, CollectOutcome};
use steermap_mapper::corpus::TextOptions;
use steermap_mapper::device::DeviceChoice;
use steermap_mapper::layer_pairs::PairSelection;
use steermap_mapper::map::{MapJob, fit_map};
use steermap_mapper::session::ModelSource;
use steermap_maps::MapFile;

use crate::stories::{PairEnd, Story};

/// Folder of the family, relative to the top of the checkout.
pub const FOLDER: &str = "examples/family";

/// The models that share a tokenizer, by size.
pub const SIZES: [&str; 3] = ["stories-260k", "stories-800k", "stories-3m"];

/// The model with a different tokenizer.
pub const OTHER_TOKENIZER: &str = "stories-400k-b";

/// The concepts.
pub const CONCEPTS: [&str; 7] = ["mood", "topic", "register", "tense", "gender", "time", "voice"];

/// Number and seed of a concept's pairs, and where their two sides end.
pub const PAIRS: (usize, u64) = (128, 3);
/// See [`PAIRS`].
pub const CUT: PairEnd = PairEnd::Word;
/// Number and seed of a concept's items.
pub const ITEMS: (usize, u64) = (60, 4);

/// A model's folder.
pub fn model(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

/// The concepts as tasks.
pub fn tasks() -> PathBuf {
    Path::new(FOLDER).join("concepts")
}

/// Pairs of a concept, from which its vector is found.
pub fn pairs(concept: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("concepts/{concept}.pairs.jsonl"))
}

/// Items of a concept, on which its vector's effect is measured.
pub fn items(concept: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("concepts/{concept}.items.jsonl"))
}

/// A model of the family as it is loaded: in float32, on the CPU.
pub fn source(name: &str) -> ModelSource {
    ModelSource {
        dtype: ModelDType::F32,
        device: DeviceChoice::Cpu,
        batch: 64,
        ..ModelSource::new(model(name).to_string_lossy())
    }
}

/// Fits the map from one of these models to another on `corpus`, as `mapper fit` does, and writes it to `out`.
/// `command` is the command in its provenance.
///
/// # Errors
///
/// If the corpus cannot be read, a model cannot run, or the map cannot be written.
pub async fn fit(
    corpus: &Path,
    (source_model, target_model): (&str, &str),
    pairs: PairSelection,
    command: &str,
    progress: bool,
    out: &Path,
) -> Result<MapFile> {
    let job = CollectJob {
        source: SideSource::Model(source(source_model)),
        target: SideSource::Model(source(target_model)),
        corpus: vec![corpus.to_path_buf()],
        text: TextOptions::default(),
        pairs,
        rules: Rules::default(),
        precision: Precision::F64,
        held_out_rows: None,
        limit: None,
        shard: Shard::default(),
        checkpoint: out.with_extension("checkpoint.stats"),
        checkpoint_every: Duration::from_secs(60),
        fits: None,
        progress,
    };
    let CollectOutcome::Whole(collected) = job.run(&AtomicBool::new(false)).await? else {
        bail!("the run was stopped");
    };
    let map = MapJob {
        out: out.to_path_buf(),
        ridge: RidgeChoice::Auto,
        shape: RankChoice::Full.into(),
        command: command.to_string(),
    };
    let (map, _) = fit_map(*collected, &map, |_| ())?;
    std::fs::remove_file(&job.checkpoint).with_context(|| job.checkpoint.display().to_string())?;
    Ok(map)
}

/// Writes `count` stories of `seed` to `path`, as `stories corpus` does.
///
/// # Errors
///
/// If the file cannot be written.
pub fn write_corpus(path: &Path, count: usize, seed: u64) -> Result<()> {
    write_documents(path, (0..count as u64).map(|index| Story::generate(seed, index).text()))
}

/// Writes documents to `path` as JSON lines.
///
/// # Errors
///
/// If the file cannot be written.
pub fn write_documents(path: &Path, texts: impl IntoIterator<Item = String>) -> Result<()> {
    let lines = texts
        .into_iter()
        .map(|text| serde_json::json!({"text": text}).to_string() + "\n");
    std::fs::write(path, lines.collect::<String>()).with_context(|| path.display().to_string())
}
