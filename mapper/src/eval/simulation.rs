//! The verdicts in worlds whose truth is known: all that `mapper eval` does, but for the engine's answers, which are
//! made up.
//!
//! A world is linear. The axes of the target's stream shrink one by one, so that a few of them dominate, as in models.
//! A task is a readout, the direction that its propensity is read along; each of its items has a readout of its own
//! near that one, and items of a cluster share a part of what they are off by. The slope of an item under a unit
//! direction is their product. Vectors go through a real [`MapFile`], and controls are those of [`PreparedTask`].

use nalgebra::{DMatrix, DVector, SVector};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use residual_hooks::StreamInfo;
use steermap_maps::digest::sha256;
use steermap_maps::{
    AffineMap, FitReport, LayerPair, LayerVector, MapFile, MapHeader, ModelInfo, Numerics, OffsetRule, TokenPosition,
    VectorFile, VectorHeader,
};
use steermap_report::result::{
    ControlKind, HalfSamples, Outcome, Perplexity, Protocol, RandomCurves, Representation, SteeringKind, Summary,
    TaskResult,
};

use super::analysis::{self, Propensities};
use super::conclusion::{self, Effect, Effects};
use super::controls::{self, ControlSlopes};
use super::halves::DrawnVectors;
use super::layers::{LayerSlopes, layer_results};
use super::measure::{PreparedTask, ScaledDirection};
use super::protocol::{Draws, SteeredLayers, protocol};
use super::summary::summary;
use super::vectors::TaskVectors;
use super::verdict;
use crate::behaviour::Choices;
use crate::map::provenance;
use crate::statistics::{Resamples, half_sample_error, mean};
use crate::tasks::{self, ItemChoice, Task};

/// Width of both streams.
const WIDTH: usize = 24;
/// Blocks of both models.
const BLOCKS: usize = 8;
/// The only layer that the map reaches, one of the middle half.
const LAYER: usize = 4;
const TASKS: usize = 14;
/// Items of each half of a task, and the clusters that they are of.
const ITEMS: usize = 32;
const CLUSTERS: usize = 16;
/// What items are off their task's readout, beside a readout of about norm 1: as a cluster and each for itself.
const CLUSTER_NOISE: f64 = 0.35;
const ITEM_NOISE: f64 = 0.7;
/// What the source's vector is off the target's where the map carries all.
const MODEL_NOISE: f64 = 0.1;
const RESAMPLES: usize = 400;
/// As the command line has it.
const ISOTROPIC: usize = 20;
const CONTROL_ITEMS: usize = 16;
const HALVES: usize = 10;
const ALPHAS: [f64; 5] = [-0.2, -0.1, 0.0, 0.1, 0.2];
const STEPS: [f64; 2] = [-0.1, 0.1];

type Vector = SVector<f64, WIDTH>;

/// What comes out of the map.
#[derive(Clone, Copy, Debug)]
enum Carried {
    /// Vectors that have nothing to do with the tasks, through a map that has not either. What comes out of it lies
    /// along the target's dominant axes, as readouts do.
    Nothing,
    /// The next task's vector.
    Neighbour,
    /// The task's own vector, nearly.
    All,
    /// The task's own vector with half of what it has along the readout, at the same length: a retention of 0.5.
    Half,
}

#[derive(Clone, Copy, Debug)]
struct World {
    carried: Carried,
    /// An axis over the one before it: the smaller, the fewer dominate.
    falloff: f64,
    /// The share of their variance that all readouts have in common, 0 to 1.
    shared: f64,
    /// So many tasks, the first ones, have a readout of 0: their items have nothing in common that a vector could move.
    mute: usize,
    /// What a vector is off the readout, and one of half of the pairs off the vector.
    noise: f64,
}

/// Readouts are about as alike as random directions of six axes: of two tasks, 0.3 of the one's effect is the other's
/// too.
const WORLD: World = World {
    carried: Carried::All,
    falloff: 0.85,
    shared: 0.0,
    mute: 0,
    noise: 0.3,
};

/// A vector, and those of halves of its pairs.
#[derive(Clone)]
struct Found {
    whole: Vector,
    halves: Vec<Vector>,
}

impl Found {
    fn shifted(&self, shift: Vector) -> Self {
        Self {
            whole: self.whole + shift,
            halves: self.halves.iter().map(|half| half + shift).collect(),
        }
    }
}

/// A task as it is.
struct Truth {
    /// The items' readouts.
    finding: Vec<Vector>,
    measuring: Vec<Vector>,
    /// Found on the target.
    native: Found,
    /// Found on the source.
    found: Found,
}

/// Where a world's numbers come from.
struct Random {
    rng: ChaCha8Rng,
    /// How large each axis is; of norm 1.
    axes: Vector,
}

impl Random {
    fn new(falloff: f64, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // The controls' directions are of the first stream.
        rng.set_stream(1);
        Self {
            rng,
            axes: Vector::from_fn(|axis, _| falloff.powi(axis as i32)).normalize(),
        }
    }

    fn normal(&mut self) -> f64 {
        StandardNormal.sample(&mut self.rng)
    }

    /// About norm 1, all axes alike.
    fn even(&mut self) -> Vector {
        Vector::from_fn(|_, _| self.normal()) / (WIDTH as f64).sqrt()
    }

    /// About norm 1, mostly along the dominant axes.
    fn dominant(&mut self) -> Vector {
        let axes = self.axes;
        Vector::from_fn(|axis, _| axes[axis] * self.normal())
    }

    /// The readouts of a half's items.
    fn items(&mut self, readout: Vector) -> Vec<Vector> {
        let clusters: Vec<Vector> = (0..CLUSTERS).map(|_| self.dominant() * CLUSTER_NOISE).collect();
        let item = |item: usize| readout + clusters[item % CLUSTERS] + self.dominant() * ITEM_NOISE;
        (0..ITEMS).map(item).collect()
    }

    fn found(&mut self, whole: Vector, noise: f64) -> Found {
        let halves = (0..HALVES).map(|_| whole + self.even() * noise).collect();
        Found { whole, halves }
    }

    fn truths(&mut self, world: &World) -> Vec<Truth> {
        let common = self.dominant();
        let readouts: Vec<Vector> = (0..TASKS)
            .map(|task| {
                let readout = common * world.shared.sqrt() + self.dominant() * (1.0 - world.shared).sqrt();
                if task < world.mute { Vector::zeros() } else { readout }
            })
            .collect();
        let natives: Vec<Found> = readouts
            .iter()
            .map(|readout| {
                let whole = readout + self.even() * world.noise;
                self.found(whole, world.noise)
            })
            .collect();
        let truth = |(task, readout): (usize, &Vector)| {
            let native = natives[task].clone();
            let found = match world.carried {
                Carried::Nothing => {
                    let whole = self.even();
                    self.found(whole, world.noise)
                }
                Carried::Neighbour => natives[(task + 1) % TASKS].clone(),
                Carried::All => native.shifted(self.even() * MODEL_NOISE),
                Carried::Half => native.shifted(halved(&native.whole, readout) - native.whole),
            };
            Truth {
                finding: self.items(*readout),
                measuring: self.items(*readout),
                native,
                found,
            }
        };
        readouts.iter().enumerate().map(truth).collect()
    }

    /// The map's matrix.
    fn weight(&mut self, world: &World) -> DMatrix<f32> {
        let axes = self.axes;
        match world.carried {
            Carried::Nothing => DMatrix::from_fn(WIDTH, WIDTH, |row, _| (axes[row] * self.normal()) as f32),
            Carried::Neighbour | Carried::All | Carried::Half => DMatrix::identity(WIDTH, WIDTH),
        }
    }
}

/// `vector` with half of what it has along `readout`, as long as before.
fn halved(vector: &Vector, readout: &Vector) -> Vector {
    let unit = readout.normalize();
    let along = unit * vector.dot(&unit);
    let across = vector - along;
    let kept = along / 2.0;
    kept + across.normalize() * (vector.norm_squared() - kept.norm_squared()).sqrt()
}

fn narrow(vector: &Vector) -> Vec<f32> {
    vector.iter().map(|value| *value as f32).collect()
}

fn model(name: &str) -> ModelInfo {
    ModelInfo {
        model: name.to_string(),
        fingerprint: format!("sm1:{name}"),
        hidden_size: WIDTH,
        num_layers: BLOCKS,
    }
}

fn numerics() -> Numerics {
    Numerics {
        dtype: "f32".to_string(),
        quantization: None,
    }
}

fn vector(name: &str, direction: &Vector) -> VectorFile {
    let header = VectorHeader {
        concept: "simulated".to_string(),
        method: "simulated".to_string(),
        token_position: TokenPosition::Mean,
        pairs: ITEMS as u32,
        model: model(name),
        numerics: numerics(),
        provenance: provenance("simulated".to_string(), "none".to_string(), sha256(b"")),
    };
    let layer = LayerVector {
        layer: LAYER,
        direction: narrow(direction),
        mean_norm: 1.0,
        auroc: None,
        neutral: None,
    };
    VectorFile::new(header, vec![layer]).unwrap()
}

fn map_file(weight: DMatrix<f32>) -> MapFile {
    let header = MapHeader {
        source: model("source"),
        source_numerics: numerics(),
        target: model("target"),
        target_numerics: numerics(),
        positions: None,
        provenance: provenance("simulated".to_string(), "none".to_string(), sha256(b"")),
    };
    let pair = LayerPair {
        source_layers: vec![LAYER],
        target_layer: LAYER,
        map: AffineMap {
            weight,
            bias: DVector::zeros(WIDTH),
        }
        .into(),
        fit: FitReport {
            method: "simulated".to_string(),
            lambda: 0.0,
            rows: 1,
            validation_rows: 0,
            test_rows: 1,
            r2: 0.0,
            r2_median: 0.0,
            r2_mean_baseline: 0.0,
            r2_mean_baseline_median: 0.0,
            r2_identity_baseline: None,
            r2_identity_baseline_median: None,
            cosine: 0.0,
            source_mean_norms: vec![1.0],
            target_mean_norm: 1.0,
            r2_by_rank: Vec::new(),
        },
    };
    MapFile::new(header, vec![pair]).unwrap()
}

fn task(index: usize) -> Task {
    Task {
        name: format!("task-{index}"),
        description: String::new(),
        positive: "positive".to_string(),
        negative: "negative".to_string(),
        kind: tasks::ItemKind::Completion,
        position: TokenPosition::Mean,
        finding: Vec::new(),
        measuring: Vec::new(),
        pairs: None,
        generation: None,
        files: Vec::new(),
        sha256: String::new(),
        notes: Vec::new(),
    }
}

/// A task ready to be measured. [`Truth`] says what its items are; here they are tokens, which make the clusters.
fn prepare<'a>(task: &'a Task, truth: &Truth, map: &'a MapFile) -> PreparedTask<'a> {
    let choice = |item: usize| ItemChoice {
        item,
        prompt: vec![0],
        positive: (item % CLUSTERS) as u32,
        negative: CLUSTERS as u32,
    };
    let choices = Choices::new((0..ITEMS).map(choice).collect());
    let clusters = conclusion::clusters(task.kind, &choices);
    let found = vector("source", &truth.found.whole);
    let drawn = |found: &Found| DrawnVectors {
        halves: found.halves.iter().map(narrow).collect(),
        shuffled: Vec::new(),
    };
    PreparedTask {
        task,
        finding: choices.clone(),
        measuring: choices,
        clusters: clusters.clone(),
        finding_clusters: clusters,
        vectors: TaskVectors {
            mapped: map.apply(&found, OffsetRule::Linear, true).unwrap().layers,
            found,
            native: vector("target", &truth.native.whole),
        },
        drawn: drawn(&truth.found),
        native_drawn: drawn(&truth.native),
        map,
        offset: OffsetRule::Linear,
    }
}

/// By item: the slope under a direction. In place of the engine.
fn slopes(items: &[Vector], direction: &ScaledDirection) -> Vec<f64> {
    let slope = |readout: &Vector| -> f64 {
        let products = readout.iter().zip(&direction.unit);
        products.map(|(readout, unit)| readout * f64::from(*unit)).sum()
    };
    items.iter().map(slope).collect()
}

/// The slope of the mean propensity.
fn effect(items: &[Vector], direction: &ScaledDirection) -> f64 {
    mean(&slopes(items, direction))
}

/// Propensities of items with these slopes.
fn propensities(slopes: &[f64]) -> Propensities {
    let at = |alpha: &f64| slopes.iter().map(|slope| alpha * slope).collect();
    ALPHAS.iter().map(at).collect()
}

/// As `EvalJob::task`, as far as verdicts go.
fn measure(task: &PreparedTask<'_>, truth: &Truth, protocol: &Protocol, seed: u64) -> TaskResult {
    let layer = protocol.layer;
    let (native, mapped) = (task.native(layer).unwrap(), task.mapped(layer).unwrap());
    let finding_resamples = Resamples::clustered(RESAMPLES, &task.finding_clusters, seed);
    let resamples = Resamples::clustered(RESAMPLES, &task.clusters, seed);
    let isotropic: Vec<f64> = (0..ISOTROPIC)
        .map(|number| effect(&truth.finding, &task.random(layer, number, seed).unwrap()))
        .collect();
    let on_finding = slopes(&truth.finding, &native);
    let native_steers = controls::native_steers(&on_finding, &isotropic, protocol, (&finding_resamples, seed)).unwrap();

    let own = LayerSlopes {
        layer,
        native: slopes(&truth.measuring, &native),
        mapped: slopes(&truth.measuring, &mapped),
        direct: None,
    };
    let halves: Vec<f64> = task
        .halves(layer)
        .unwrap()
        .iter()
        .map(|[native, mapped]| effect(&truth.measuring, mapped) / effect(&truth.measuring, native))
        .collect();
    let standard_error = half_sample_error(mean(&own.mapped) / mean(&own.native), &halves).unwrap();
    let items = &truth.measuring[..protocol.control_items];
    let draws = task.mapped_random(layer, protocol.control_draws, seed).unwrap();
    let decisive = ControlSlopes {
        kind: ControlKind::MappedRandom,
        alphas: STEPS.to_vec(),
        items: items.len(),
        slopes: draws.iter().map(|draw| effect(items, draw)).collect(),
        native: effect(items, &native),
        mapped: effect(items, &mapped),
        propensities: None,
    };
    let (layers, band_retention) =
        layer_results(task, std::slice::from_ref(&own), protocol, &resamples, standard_error).unwrap();
    let curves = [(SteeringKind::Native, &own.native), (SteeringKind::Mapped, &own.mapped)]
        .map(|(kind, slopes)| analysis::curve(kind, &ALPHAS, propensities(slopes), &resamples).unwrap());
    let [native_slopes, mapped_slopes] =
        [0, 1].map(|curve: usize| analysis::item_slopes(&ALPHAS, &curves[curve].items).unwrap());
    // For what no verdict reads.
    let unread = native_steers.random;
    TaskResult {
        name: task.task.name.clone(),
        description: String::new(),
        positive: task.task.positive.clone(),
        negative: task.task.negative.clone(),
        kind: task.task.kind.to_string(),
        sha256: String::new(),
        pairs: ITEMS,
        position: String::new(),
        finding: task.finding.len(),
        measuring: task.measuring.len(),
        clusters: CLUSTERS,
        candidates: Vec::new(),
        layers,
        band_retention,
        best_layer: layer,
        source_layers: vec![LAYER],
        target_layer: layer,
        mean_norm: native.mean_norm,
        cosine: 0.0,
        random_cosines: unread,
        source_auroc: None,
        native_auroc: None,
        alphas: ALPHAS.to_vec(),
        unsteered: native_steers.slope,
        retention: analysis::retention(&native_slopes, &mapped_slopes, &resamples, standard_error),
        curves: curves.to_vec(),
        random: RandomCurves {
            alphas: Vec::new(),
            mean: Vec::new(),
            low: Vec::new(),
            high: Vec::new(),
            slopes: Vec::new(),
        },
        native_steers,
        half_samples: Some(HalfSamples {
            retention: halves,
            standard_error,
        }),
        controls: decisive.control(RESAMPLES, seed).into_iter().collect(),
        specificity: None,
        pearson: unread,
        item_pearson: unread,
        mse: unread,
        mse_probability: unread,
        perplexity: Perplexity {
            tokens: 0,
            unsteered: 1.0,
            alphas: Vec::new(),
            native: Vec::new(),
            mapped: Vec::new(),
        },
        side_effects: Vec::new(),
        generation: None,
        proposal: None,
        verdict: verdict::pending(),
    }
}

/// As `Bench::effects`.
fn effects(tasks: &[PreparedTask<'_>], truths: &[Truth], protocol: &Protocol) -> Effects {
    let row = |task: &PreparedTask<'_>| -> Vec<Effect> {
        let native = task.native(protocol.layer).unwrap();
        let mapped = task.mapped(protocol.layer).unwrap();
        let on = |truth: &Truth| {
            let items = &truth.measuring[..protocol.control_items];
            Effect {
                native: effect(items, &native),
                mapped: effect(items, &mapped),
            }
        };
        truths.iter().map(on).collect()
    };
    Effects {
        slopes: tasks.iter().map(row).collect(),
        alphas: STEPS,
    }
}

/// An evaluation of a world, with its verdicts.
struct Evaluated {
    tasks: Vec<TaskResult>,
    summary: Summary,
}

fn evaluate(world: &World, seed: u64) -> Evaluated {
    let mut random = Random::new(world.falloff, seed);
    let truths = random.truths(world);
    let map = map_file(random.weight(world));
    let stream = StreamInfo {
        num_layers: BLOCKS,
        hidden_size: WIDTH,
        last_block: true,
    };
    let draws = Draws {
        control: None,
        items: CONTROL_ITEMS,
        halves: HALVES,
    };
    let protocol = protocol(&SteeredLayers::Band, &map, &stream, TASKS, draws).unwrap();
    let files: Vec<Task> = (0..TASKS).map(task).collect();
    let prepared: Vec<PreparedTask<'_>> = files
        .iter()
        .zip(&truths)
        .map(|(task, truth)| prepare(task, truth, &map))
        .collect();
    let mut tasks: Vec<TaskResult> = prepared
        .iter()
        .zip(&truths)
        .map(|(task, truth)| measure(task, truth, &protocol, seed))
        .collect();
    let effects = effects(&prepared, &truths, &protocol);
    conclusion::conclude(&mut tasks, &effects, &protocol, RESAMPLES, seed);
    let representation = Representation {
        text: String::new(),
        text_sha256: String::new(),
        held_out: true,
        documents: 0,
        positions: 0,
        pairs: Vec::new(),
        cka: Vec::new(),
    };
    let summary = summary(&tasks, &representation, &protocol, RESAMPLES, seed);
    Evaluated { tasks, summary }
}

/// How many tasks have each outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outcomes {
    carried: usize,
    not_carried: usize,
    says_nothing: usize,
}

fn outcomes<'a>(tasks: impl IntoIterator<Item = &'a TaskResult>) -> Outcomes {
    let mut outcomes = Outcomes {
        carried: 0,
        not_carried: 0,
        says_nothing: 0,
    };
    for task in tasks {
        match task.verdict.outcome {
            Outcome::Carried => outcomes.carried += 1,
            Outcome::NotCarried => outcomes.not_carried += 1,
            Outcome::SaysNothing => outcomes.says_nothing += 1,
        }
    }
    outcomes
}

/// Evaluations of a world, all of their tasks, and what these come to. Shown in the output of a test that fails.
fn simulate(world: World, evaluations: u64) -> (Vec<Evaluated>, Vec<TaskResult>, Outcomes) {
    let evaluated: Vec<Evaluated> = (0..evaluations).map(|number| evaluate(&world, number)).collect();
    let tasks: Vec<TaskResult> = evaluated.iter().flat_map(|evaluated| evaluated.tasks.clone()).collect();
    let outcomes = outcomes(&tasks);
    println!("{world:?}: {outcomes:?}");
    (evaluated, tasks, outcomes)
}

/// Whether `part` is at most one in twenty of `all`.
fn rare(part: usize, all: usize) -> bool {
    20 * part <= all
}

#[test]
fn vectors_that_carry_nothing_are_not_carried() {
    // Two axes dominate what the map puts out and what the items read, so that anything out of the map moves them.
    let world = World {
        carried: Carried::Nothing,
        falloff: 0.5,
        ..WORLD
    };
    let (evaluated, tasks, outcomes) = simulate(world, 20);
    assert_eq!(tasks.len(), 280);
    assert!(tasks.iter().all(|task| task.decisive().unwrap().spread.count == 279));
    // At most one in twenty is asked for.
    assert_eq!(outcomes.carried, 0, "{outcomes:?}");
    // They are judged, not passed over.
    assert!(4 * outcomes.not_carried >= 3 * tasks.len(), "{outcomes:?}");
    // By retention alone more of them would pass.
    let within = tasks
        .iter()
        .filter(|task| task.retention.low > 0.5 && task.retention.high < 2.0);
    let within = within.count();
    println!("by retention alone: {within}");
    assert!(!rare(within, tasks.len()), "{within}");
    let maps = evaluated.iter().map(|evaluated| evaluated.summary.verdict.outcome);
    assert_eq!(maps.filter(|outcome| *outcome == Outcome::Carried).count(), 0);
}

#[test]
fn another_tasks_vector_is_not_carried() {
    let world = World {
        carried: Carried::Neighbour,
        ..WORLD
    };
    let (evaluated, tasks, outcomes) = simulate(world, 20);
    // At most one in twenty is asked for.
    assert_eq!(outcomes.carried, 0, "{outcomes:?}");
    assert!(4 * outcomes.not_carried >= 3 * tasks.len(), "{outcomes:?}");
    let maps = evaluated.iter().map(|evaluated| evaluated.summary.verdict.outcome);
    assert_eq!(maps.filter(|outcome| *outcome == Outcome::Carried).count(), 0);
}

/// A mean over the other tasks would let a fifth of them pass: the one task whose vector it is adds little to it.
#[test]
fn the_vector_of_a_task_that_is_much_alike_is_not_carried() {
    let world = World {
        carried: Carried::Neighbour,
        shared: 0.6,
        ..WORLD
    };
    let (_, _, outcomes) = simulate(world, 20);
    // At most one in twenty is asked for.
    assert_eq!(outcomes.carried, 0, "{outcomes:?}");
}

#[test]
fn a_map_that_carries_all_carries_every_task_whose_own_vector_steers() {
    let (evaluated, tasks, outcomes) = simulate(WORLD, 20);
    let steering: Vec<&TaskResult> = tasks.iter().filter(|task| task.native_steers.steers).collect();
    // Nearly all do.
    assert!(rare(tasks.len() - steering.len(), tasks.len()), "{}", steering.len());
    for task in &steering {
        assert_eq!(task.verdict.outcome, Outcome::Carried, "{}", task.verdict.sentence);
    }
    assert_eq!(outcomes.carried, steering.len());
    let mut maps = evaluated.iter().map(|evaluated| evaluated.summary.verdict.outcome);
    assert!(maps.all(|outcome| outcome == Outcome::Carried));
}

#[test]
fn tasks_whose_own_vector_does_not_steer_say_nothing() {
    let world = World { mute: 2, ..WORLD };
    let (evaluated, _, _) = simulate(world, 20);
    let of = |mute: bool| {
        let tasks = evaluated
            .iter()
            .flat_map(|evaluated| evaluated.tasks.iter().enumerate());
        outcomes(
            tasks
                .filter(|(index, _)| (*index < world.mute) == mute)
                .map(|(_, task)| task),
        )
    };
    let (mute, steering) = (of(true), of(false));
    println!("mute {mute:?}, the others {steering:?}");
    // A vector that moves nothing seems to steer now and then.
    assert!(mute.carried == 0 && rare(40 - mute.says_nothing, 40), "{mute:?}");
    assert!(rare(240 - steering.carried, 240), "{steering:?}");
}

/// Vectors that are mostly noise move their own task as random directions may: a map that carries all of them is not to
/// be blamed.
#[test]
fn vectors_that_hardly_steer_do_not_count_against_the_map() {
    let world = World { noise: 2.0, ..WORLD };
    let (_, tasks, outcomes) = simulate(world, 20);
    assert!(rare(outcomes.not_carried, tasks.len()), "{outcomes:?}");
    assert!(2 * outcomes.says_nothing > tasks.len(), "{outcomes:?}");
}

#[test]
fn a_retention_at_the_bound_is_not_carried() {
    let world = World {
        carried: Carried::Half,
        ..WORLD
    };
    let (_, tasks, outcomes) = simulate(world, 20);
    // Half of the intervals that miss the truth, one in twenty, would be above it.
    assert!(rare(outcomes.carried, tasks.len()), "{outcomes:?}");
    let missed = tasks.iter().filter(|task| {
        let retention = task.retention;
        retention.low > 0.5 || retention.high < 0.5
    });
    assert!(rare(missed.count(), tasks.len()));
}
