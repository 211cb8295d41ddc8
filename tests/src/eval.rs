//! `mapper eval` on the embedded family: tasks made from its concepts, intact and broken maps, and the results of an
//! independent computation (tests/fixtures/make_eval_reference.py).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use nalgebra::DVector;
use serde::Deserialize;
use steermap_examples::{family, programs::binary};
use steermap_maps::{
    AffineMap, FitReport, LayerPair, MapFile, MapHeader, ModelInfo, Numerics, Provenance, fingerprint_folder,
};
use steermap_report::result::{Evaluation, SteeringKind};

use crate::{fixture, project};

/// A map from stories-260k, layer 3, to stories-3m, layer 7, its last.
pub const MAP: &str = "tests/fixtures/stories-260k--stories-3m.toml";

/// The contents of the fixture `eval-reference.json`.
#[derive(Deserialize)]
pub struct EvalReference {
    /// Mean norm of the target's stream at the steered layer.
    pub mean_norm: f64,
    /// Alphas in units of the mean norm.
    pub alphas: Vec<f64>,
    /// Documents of neutral text.
    pub documents: Vec<String>,
    /// Quality of the map on the documents.
    pub representation: RepresentationReference,
    /// Perplexity of the documents.
    pub perplexity: PerplexityReference,
    /// Random directions of norm 1.
    pub random_directions: Vec<Vec<f32>>,
    /// Results by task name.
    pub tasks: BTreeMap<String, TaskReference>,
    /// Greedy continuations.
    pub generation: GenerationReference,
    /// Results for broken maps.
    pub broken: BrokenReference,
}

/// Quality of the map on states.
#[derive(Deserialize)]
pub struct RepresentationReference {
    /// Number of rows.
    pub positions: usize,
    /// R² over all dimensions.
    pub r2: f64,
    /// The same for the map applied to the source's layer 0 instead of 3.
    pub r2_wrong_layer: f64,
    /// Quantiles of the R² of single dimensions.
    pub r2_quantiles: [f64; 5],
    /// Mean cosine of predicted and true states.
    pub cosine: f64,
    /// `[source layer][target layer]`
    pub cka: Vec<Vec<f64>>,
}

/// Perplexity without steering.
#[derive(Deserialize)]
pub struct PerplexityReference {
    /// Number of predicted tokens.
    pub tokens: usize,
    /// Perplexity.
    pub unsteered: f64,
}

/// Values by alpha.
#[derive(Deserialize)]
pub struct TwoCurves {
    /// With the native vector.
    pub native: Vec<f64>,
    /// With the mapped vector.
    pub mapped: Vec<f64>,
}

/// Values `[alpha][item]`.
#[derive(Deserialize)]
pub struct TwoGrids {
    /// With the native vector.
    pub native: Vec<Vec<f64>>,
    /// With the mapped vector.
    pub mapped: Vec<Vec<f64>>,
}

/// Results of one task.
#[derive(Deserialize)]
pub struct TaskReference {
    /// Cosine of the mapped and the native vector.
    pub cosine: f64,
    /// Mean propensity.
    pub unsteered: f64,
    /// `native` and `mapped`.
    pub curves: BTreeMap<String, CurveReference>,
    /// Mean propensities of the finding half.
    pub finding: TwoCurves,
    /// Ratio of the slopes.
    pub retention: f64,
    /// By item.
    pub pearson: ItemsReference,
    /// By alpha other than 0, over items.
    pub item_pearson: ItemsReference,
    /// By item.
    pub mse: ItemsReference,
    /// By item.
    pub mse_probability: ItemsReference,
    /// By random direction.
    pub random_slopes: Vec<f64>,
    /// Perplexity of the documents.
    pub perplexity: TwoCurves,
    /// Propensities of the other task's measuring half.
    pub other: TwoGrids,
}

/// Propensities against alpha.
#[derive(Deserialize)]
pub struct CurveReference {
    /// Slope of the means.
    pub slope: f64,
    /// Mean by alpha.
    pub mean: Vec<f64>,
    /// `[alpha][item]`
    pub items: Vec<Vec<f64>>,
}

/// Statistics of a value per item.
#[derive(Deserialize)]
pub struct ItemsReference {
    /// Number of items.
    pub count: usize,
    /// Mean.
    pub mean: f64,
    /// Sample standard deviation.
    pub deviation: f64,
}

/// Greedy continuations of one task.
#[derive(Deserialize)]
pub struct GenerationReference {
    /// The task.
    pub task: String,
    /// Its prompts.
    pub prompts: Vec<String>,
    /// Texts by prompt, vector and alpha.
    pub texts: Vec<TextReference>,
}

/// A greedy continuation.
#[derive(Deserialize)]
pub struct TextReference {
    /// Index of the prompt.
    pub prompt: usize,
    /// The vector.
    pub kind: SteeringKind,
    /// 0 if unsteered.
    pub alpha: f64,
    /// The continuation.
    pub text: String,
    /// Least difference of the two highest logits at any step.
    pub margin: f64,
    /// Perplexity after its prompt, without steering.
    pub perplexity: f64,
    /// Share of repeated runs of three tokens.
    pub repetition: f64,
    /// See docs/src/evaluation.md.
    pub fluency: f64,
    /// See docs/src/evaluation.md.
    pub answers: f64,
}

/// The fixture's map and broken ones, over the alphas -0.1, 0 and 0.1, by task.
#[derive(Deserialize)]
pub struct BrokenReference {
    /// The intact map.
    pub whole: BTreeMap<String, MappedSteering>,
    /// The map with its rows shuffled.
    pub shuffled: BTreeMap<String, MappedSteering>,
    /// Row `i` of the shuffled map is row `shuffled_rows[i]` of the intact one.
    pub shuffled_rows: Vec<usize>,
    /// The map applied to the source's layer 0 instead of 3.
    pub wrong_layer: BTreeMap<String, MappedSteering>,
}

/// Steering with a vector through a map.
#[derive(Deserialize)]
pub struct MappedSteering {
    /// Ratio of slopes.
    pub retention: f64,
    /// Cosine with the native vector.
    pub cosine: f64,
}

impl EvalReference {
    /// Reads the fixture.
    pub fn load() -> Self {
        let bytes = std::fs::read(fixture("eval-reference.json")).expect("the fixture is there");
        serde_json::from_slice(&bytes).expect("the fixture is such a file")
    }
}

/// Writes the task `name` of a concept into `folder`; `more` is appended to its TOML file.
pub fn write_task(folder: &Path, name: &str, more: &str) {
    let text = format!(
        "format = \"steermap-task/1\"\ndescription = \"the concept {name}\"\npositive = \"positive\"\n\
         negative = \"negative\"\nkind = \"completion\"\nitems = \"{name}.jsonl\"\npairs = \"{name}.pairs.jsonl\"\n\
         position = \"mean\"\n{more}"
    );
    std::fs::create_dir_all(folder).expect("the folder can be made");
    std::fs::write(folder.join(format!("{name}.toml")), text).expect("the folder can be written");
    for (from, to) in [
        (family::items(name), format!("{name}.jsonl")),
        (family::pairs(name), format!("{name}.pairs.jsonl")),
    ] {
        let from = project(from.to_str().expect("Unicode"));
        std::fs::copy(from, folder.join(to)).expect("the concept is there");
    }
}

/// Writes documents as JSON lines.
pub fn write_text(path: &Path, documents: &[String]) {
    family::write_documents(path, documents.iter().cloned()).expect("the folder can be written");
}

/// `mapper eval` of `folder/tasks` and `folder/text.jsonl` into `folder/report`, in float32 on the CPU, run from `folder`.
pub fn eval(folder: &Path, map: &Path, source: &str, target: &str, more: &[&str]) -> Command {
    let mut command = Command::new(binary("mapper").expect("run the tests with `cargo xtask test`"));
    command
        .current_dir(folder)
        .args([
            "eval",
            "--cpu",
            "--dtype",
            "f32",
            "--tasks",
            "tasks",
            "--text",
            "text.jsonl",
        ])
        .args(["--out", "report", "--map"])
        .arg(map)
        .arg("--source")
        .arg(model(source))
        .arg("--target")
        .arg(model(target))
        .args(more);
    command
}

/// The report that [`eval`] wrote, if any.
pub fn report(folder: &Path) -> Option<Evaluation> {
    let bytes = std::fs::read(folder.join("report").join("report.json")).ok()?;
    Some(serde_json::from_slice(&bytes).expect("report.json is an evaluation"))
}

/// Saves the fixture's map with its pair and the pair's map changed by `change`.
pub fn changed(path: &Path, change: impl FnOnce(&mut LayerPair, &mut AffineMap)) {
    let map = MapFile::load(&project(MAP)).expect("the map is there");
    let mut pair = map.pairs()[0].clone();
    let mut of_pair = pair.map.load().expect("the weights are there").to_affine();
    change(&mut pair, &mut of_pair);
    pair.map = of_pair.into();
    let map = MapFile::new(map.header().clone(), vec![pair]).expect("still a map");
    map.save(path).expect("the folder can be written");
}

/// Saves the identity from stories-260k to itself at all layers.
pub fn identity(path: &Path) {
    const NAME: &str = "stories-260k";
    // Mean norms of the stream after each block, precise enough for alphas of the usual size.
    const MEAN_NORMS: [f64; 4] = [55.0, 75.0, 100.0, 144.0];
    let info = ModelInfo {
        model: NAME.to_string(),
        fingerprint: fingerprint_folder(&model(NAME)).expect("the model is there"),
        hidden_size: 64,
        num_layers: MEAN_NORMS.len(),
    };
    let numerics = Numerics {
        dtype: "f32".to_string(),
        quantization: None,
    };
    let header = MapHeader {
        source: info.clone(),
        source_numerics: numerics.clone(),
        target: info,
        target_numerics: numerics,
        positions: None,
        provenance: Provenance {
            tool: "test".to_string(),
            date: "2026-01-01T00:00:00Z".to_string(),
            command: "test".to_string(),
            seed: None,
            corpus: "none".to_string(),
            corpus_sha256: "0".repeat(64),
        },
    };
    let pair = |(layer, &norm): (usize, &f64)| LayerPair {
        source_layers: vec![layer],
        target_layer: layer,
        map: AffineMap {
            weight: nalgebra::DMatrix::identity(64, 64),
            bias: DVector::zeros(64),
        }
        .into(),
        fit: FitReport {
            method: "identity".to_string(),
            lambda: 0.0,
            rows: 1,
            validation_rows: 0,
            test_rows: 1,
            r2: 1.0,
            r2_median: 1.0,
            r2_mean_baseline: 0.0,
            r2_mean_baseline_median: 0.0,
            r2_identity_baseline: Some(1.0),
            r2_identity_baseline_median: Some(1.0),
            cosine: 1.0,
            source_mean_norms: vec![norm],
            target_mean_norm: norm,
            r2_by_rank: Vec::new(),
        },
    };
    let map = MapFile::new(header, MEAN_NORMS.iter().enumerate().map(pair).collect()).expect("a map");
    map.save(path).expect("the folder can be written");
}

/// The absolute path of a model of the family, since runs have other working folders.
pub fn model(name: &str) -> PathBuf {
    let folder = project(family::model(name).to_str().expect("Unicode"));
    folder.canonicalize().expect("the model is there")
}
