//! Measures whether features of a sparse autoencoder of the small embedded model steer the large one through a map:
//! `cargo xtask sae`.
//!
//! Trains the autoencoder on stories, finds for each concept the feature that separates its pairs, fits a map, and
//! measures steering with the mapped feature beside the native and the mapped mean-difference vectors and mapped random
//! directions. A map from features to states is fitted and measured as well.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use steermap_examples::autoencoder::{
    Activity, Autoencoder, AutoencoderQuality, FeatureLabel, FeatureMap, FeatureProtocol, FeatureReport,
    LabelledConcept, StateRows, StatesOrigin, Training, TrainingSplit, explained_variance, label, save,
};
use steermap_examples::exit_code;
use steermap_examples::family;
use steermap_mapper::activations::{CaptureJob, SHARD_BYTES};
use steermap_mapper::behaviour::Choices;
use steermap_mapper::capture::StreamCapture;
use steermap_mapper::collect::header::Shard;
use steermap_mapper::corpus::TextOptions;
use steermap_mapper::eval::halves::DrawnVectors;
use steermap_mapper::eval::measure::PreparedTask;
use steermap_mapper::eval::vectors::{self, FindOptions};
use steermap_mapper::eval::{Alphas, conclusion};
use steermap_mapper::layer_pairs::PairSelection;
use steermap_mapper::layers::LayerSelection;
use steermap_mapper::pairs::Pair;
use steermap_mapper::session::{ModelSource, Session};
use steermap_mapper::statistics::least_draws;
use steermap_mapper::steerer::Steerer;
use steermap_mapper::tasks::{Task, read_folder};
use steermap_mapper::vector::{DistinctPairs, Method};
use steermap_mapper::windows::WINDOW_BYTES;
use steermap_maps::activations::Activations;
use steermap_maps::{FloatDtype, LayerPair, MapFile, OffsetRule, VectorFile};
use steermap_plugin::foreign::sae;

#[derive(Parser)]
#[command(
    about = "Train a sparse autoencoder on the small embedded model, and steer the large one with its mapped features"
)]
struct Args {
    /// Folder for the corpus, the activations, the autoencoder, the map and the vectors
    #[arg(long, default_value = "target/sae")]
    work: PathBuf,
    /// The page to write
    #[arg(long, default_value = "examples/family/SAE.md")]
    out: PathBuf,
    /// Stories to train and fit on
    #[arg(long, default_value_t = 3000)]
    stories: usize,
    /// Seed of those stories (the models were trained on others)
    #[arg(long, default_value_t = 7)]
    stories_seed: u64,
    /// Features of the autoencoder
    #[arg(long, default_value_t = Training::default().features)]
    features: usize,
    /// The most features that are active in a state
    #[arg(long, default_value_t = Training::default().active)]
    active: usize,
    /// Steps of training
    #[arg(long, default_value_t = Training::default().steps)]
    steps: usize,
    /// Seed of training, of random directions and of resampling
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Alphas, as for `mapper eval`
    #[arg(long, default_value = "relative:-0.1:0.1:0.05", allow_hyphen_values = true)]
    alphas: Alphas,
}

const SOURCE: &str = family::SIZES[0];
const TARGET: &str = family::SIZES[2];
/// Middle layer of the source, as in `cargo xtask transfer`; fixed before anything was measured.
const SOURCE_LAYER: usize = 2;
/// Middle layer of the target; see [`SOURCE_LAYER`].
const TARGET_LAYER: usize = 4;
/// Halfway between chance and perfect separation, on pairs that did not choose the feature.
const LEAST_AUROC: f64 = 0.75;
/// Least number of random directions per concept.
const LEAST_DRAWS: usize = 99;
/// Significance level of the corrected p-values.
const LEVEL: f64 = 0.05;
const RESAMPLES: usize = 2000;
const OFFSET: OffsetRule = OffsetRule::Linear;

#[tokio::main]
async fn main() -> ExitCode {
    steermap_cpu::check();
    exit_code(run(Args::parse()).await)
}

async fn run(args: Args) -> Result<()> {
    std::fs::create_dir_all(args.work.join("vectors")).with_context(|| args.work.display().to_string())?;
    let corpus = args.work.join("stories.jsonl");
    family::write_corpus(&corpus, args.stories, args.stories_seed)?;
    println!(
        "1. The states of {SOURCE} after layer {SOURCE_LAYER}, over {} stories",
        args.stories
    );
    let activations = capture(&corpus, SOURCE, SOURCE_LAYER, &args.work.join("source")).await?;
    let states = TrainingSplit::read(&activations, SOURCE_LAYER)?;

    println!("2. Training on {} states", states.train.len());
    let training = Training {
        features: args.features,
        active: args.active,
        steps: args.steps,
        seed: args.seed,
        ..Training::default()
    };
    let autoencoder = training.run(&states.train, |step, idle| {
        println!("   step {step} of {}: {idle} features not active lately", args.steps);
    })?;
    let quality = AutoencoderQuality::of(&autoencoder, &states.held_out);
    println!(
        "   explains {:.1}% of the variance of {} held-out states; {:.1} features active in the mean, {} in none",
        100.0 * quality.explained_variance,
        quality.rows,
        quality.mean_active,
        quality.dead()
    );
    let folder = args.work.join("autoencoder");
    let origin = StatesOrigin {
        model: SOURCE.to_string(),
        layer: SOURCE_LAYER,
    };
    save(&autoencoder, &origin, &folder)?;

    println!("3. Fitting the map from {SOURCE} to {TARGET}, layers {SOURCE_LAYER} -> {TARGET_LAYER}");
    let layers = PairSelection::List(vec![(vec![SOURCE_LAYER], TARGET_LAYER)]);
    let out = args.work.join("map.toml");
    let map = family::fit(&corpus, (SOURCE, TARGET), layers, "sae", false, &out).await?;
    let pair = map.pairs().first().context("the map has no pair")?;
    let on_target = capture(&corpus, TARGET, TARGET_LAYER, &args.work.join("target")).await?;
    check_same_positions(&activations, &on_target)?;
    let target_states = TrainingSplit::read(&on_target, TARGET_LAYER)?;
    let feature_map = FeatureMap::fit(&autoencoder, &states, &target_states)?;
    let r2 = [feature_map.r2, r2_of(pair, &states, &target_states)?];
    println!(
        "   R² on the same held-out states: {:.3} from features, {:.3} from states",
        r2[0], r2[1]
    );

    println!("4. Vectors and features of the concepts");
    let tasks = read_folder(&family::tasks())?;
    let (source, target) = (
        Session::load(family::source(SOURCE)).await?,
        Session::load(family::source(TARGET)).await?,
    );
    let mut prepared = Vec::with_capacity(tasks.len());
    let mut without = Vec::new();
    for task in &tasks {
        let label = find_feature(&source, task, &autoencoder).await?;
        println!(
            "   {}: feature {}, active on {:?}, AUROC {:.3} on the pairs that did not choose it",
            task.name,
            label.feature,
            label.side.of(&task.positive, &task.negative),
            label.held_out
        );
        if label.held_out < LEAST_AUROC {
            without.push((task.name.clone(), label.held_out));
            continue;
        }
        let mapped = carry(&source, &map, &args.work, task, &label)?;
        let direct = feature_map.direction(label.feature);
        let (on_source, _) = Choices::of(&source, &task.measuring).await?;
        let task = prepare([&source, &target], &map, &args.work, task, args.seed).await?;
        prepared.push((task, on_source, label, mapped, direct));
    }

    println!("5. Steering {TARGET} after layer {TARGET_LAYER}");
    let protocol = FeatureProtocol {
        source_layer: SOURCE_LAYER,
        target_layer: TARGET_LAYER,
        alphas: args.alphas.clone(),
        draws: least_draws(tasks.len(), LEVEL).max(LEAST_DRAWS),
        resamples: RESAMPLES,
        seed: args.seed,
    };
    let steerers = [&Steerer::new(&source)?, &Steerer::new(&target)?];
    let mut measured = Vec::with_capacity(prepared.len());
    for (task, on_source, label, mapped, direct) in prepared {
        let concept = LabelledConcept {
            task: &task,
            on_source,
            label,
            mapped,
            direct,
        };
        let of = concept.measure(steerers, (&autoencoder, &quality), &protocol).await;
        let of = of.with_context(|| task.task.name.clone())?;
        println!(
            "   {}: retention {:.3} of the mean difference, {:.3} of feature {}, {:.3} of it from features to states",
            of.concept, of.mapped.value, of.feature.value, of.label.feature, of.direct.value
        );
        measured.push(of);
    }
    let page = FeatureReport {
        models: [SOURCE, TARGET],
        stories: (args.stories, args.stories_seed),
        training: &training,
        trained_on: states.train.len(),
        quality: &quality,
        r2,
        protocol: &protocol,
        least_auroc: LEAST_AUROC,
        measured: &measured,
        without: &without,
    };
    std::fs::write(&args.out, page.text()).with_context(|| args.out.display().to_string())?;
    println!("wrote {}", args.out.display());
    Ok(())
}

/// Captures a model's states after a layer over the corpus, as `mapper capture` does.
async fn capture(corpus: &Path, model: &str, layer: usize, out: &Path) -> Result<Activations> {
    // Activations of an earlier run may be of another corpus.
    if out.exists() {
        std::fs::remove_dir_all(out).with_context(|| out.display().to_string())?;
    }
    let job = CaptureJob {
        // The last bits of a text's states depend on the other texts in its pass, and the result of training depends on
        // every bit.
        model: ModelSource {
            batch: 1,
            ..family::source(model)
        },
        corpus: vec![corpus.to_path_buf()],
        text: TextOptions::default(),
        layers: LayerSelection::List(vec![layer]),
        out: out.to_path_buf(),
        dtype: FloatDtype::F32,
        window_bytes: WINDOW_BYTES,
        shard: Shard::default(),
        limit: None,
        shard_bytes: SHARD_BYTES,
        command: "sae".to_string(),
        progress: false,
    };
    ensure!(
        job.run(&AtomicBool::new(false)).await?.complete,
        "the capture was stopped"
    );
    Ok(Activations::open(out)?)
}

/// Checks that two models' states are of the same positions; these models share a tokenizer.
fn check_same_positions(source: &Activations, target: &Activations) -> Result<()> {
    let positions = |of: &Activations| -> Vec<([u8; 32], u64, u64)> {
        let windows = of.windows().iter();
        windows
            .map(|window| (window.document, window.start, window.tokens))
            .collect()
    };
    ensure!(
        positions(source) == positions(target),
        "{}, {}: found different windows or token counts, expected the same",
        source.folder().display(),
        target.folder().display()
    );
    Ok(())
}

/// Variance of the target's held-out states explained by the map between states, on the half on which the map from
/// features is measured.
fn r2_of(pair: &LayerPair, source: &TrainingSplit, target: &TrainingSplit) -> Result<f64> {
    let half = source.held_out.len() / 2;
    let measured = |rows: &StateRows| StateRows {
        width: rows.width,
        values: rows.values[half * rows.width..].to_vec(),
    };
    let predicted = pair.map.load()?.affine_rows(&measured(&source.held_out).values);
    Ok(explained_variance(&predicted, &measured(&target.held_out)))
}

/// Finds the feature that separates a task's pairs best.
async fn find_feature(session: &Session, task: &Task, autoencoder: &Autoencoder) -> Result<FeatureLabel> {
    let pairs = DistinctPairs::new(&task.pairs());
    let activities = activities(session, &pairs.pairs, autoencoder).await?;
    let (positive, negative): (Vec<_>, Vec<_>) = activities.into_iter().unzip();
    let found = label(&positive, &negative, &pairs.groups);
    found.with_context(|| {
        format!(
            "{}: found pairs that all share texts, expected at least two groups",
            task.name
        )
    })
}

/// Activities of the features in each pair's positive and negative text.
async fn activities(session: &Session, pairs: &[Pair], autoencoder: &Autoencoder) -> Result<Vec<(Activity, Activity)>> {
    let mut texts = Vec::with_capacity(2 * pairs.len());
    for pair in pairs {
        texts.push(session.tokenize(&pair.positive).await?);
        texts.push(session.tokenize(&pair.negative).await?);
    }
    let prompts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    let capture = Arc::new(StreamCapture::new(vec![SOURCE_LAYER]));
    let streams = session.streams(&capture, &prompts, || ()).await?;
    let mut activities = streams
        .into_iter()
        .flatten()
        .map(|states| Activity::of(autoencoder, &states.into_values()));
    Ok(std::iter::from_fn(|| activities.next().zip(activities.next())).collect())
}

/// Reads the feature as `mapper sae` does, saves its vector, and maps it as `mapper apply` does.
fn carry(session: &Session, map: &MapFile, work: &Path, task: &Task, label: &FeatureLabel) -> Result<Vec<f32>> {
    let feature = sae::Feature {
        index: label.feature,
        layer: None,
        concept: Some(label.side.of(&task.positive, &task.negative).clone()),
    };
    let vector: VectorFile = sae::load(&work.join("autoencoder"), &feature, session.info()?)?.vector;
    vector.save(&work.join("vectors").join(format!("{}.feature.toml", task.name)))?;
    let mapped = map.apply(&vector, OFFSET, true)?;
    let layer = mapped
        .layers
        .into_iter()
        .find(|layer| layer.target_layer == TARGET_LAYER);
    Ok(layer.context("the map does not reach the layer")?.direction)
}

/// Finds a task's mean-difference vectors on both models, as `mapper eval` does.
async fn prepare<'a>(
    [source, target]: [&Session; 2],
    map: &'a MapFile,
    work: &Path,
    task: &'a Task,
    seed: u64,
) -> Result<PreparedTask<'a>> {
    for (session, layer, native) in [(source, SOURCE_LAYER, false), (target, TARGET_LAYER, true)] {
        let finding = FindOptions {
            layers: vec![layer],
            drawn_layers: &[layer],
            method: Method::MeanDifference,
            halves: 0,
            seed,
            command: "sae",
        };
        vectors::find_and_save(session, task, &finding, &vectors::path(work, &task.name, native)).await?;
    }
    let (finding, _) = Choices::of(target, &task.finding).await?;
    let (measuring, _) = Choices::of(target, &task.measuring).await?;
    Ok(PreparedTask {
        clusters: conclusion::clusters(task.kind, &measuring),
        finding_clusters: conclusion::clusters(task.kind, &finding),
        finding,
        measuring,
        vectors: vectors::load(work, &task.name, map, OFFSET, true)?,
        drawn: DrawnVectors::default(),
        native_drawn: DrawnVectors::default(),
        map,
        offset: OFFSET,
        task,
    })
}
