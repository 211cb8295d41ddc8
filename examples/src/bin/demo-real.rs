//! A small model steers a large one on real English: `cargo xtask demo --real`.
//!
//! Three concepts are found on SmolLM2-135M-Instruct, carried through the map in maps/, and steer Gemma-3-270M, which
//! is of another family and has another tokenizer. Its propensities are measured, and it continues the same texts
//! unsteered, with a random vector of the small model through the same map, and with each concept. A fourth concept is
//! found while it serves, from pairs in the request.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use mistralrs::ModelDType;
use serde_json::{Value, json};
use steermap_examples::programs::{binary, run_to_end};
use steermap_examples::server::{Server, source_tables};
use steermap_examples::show::{columns, is_watched, playground};
use steermap_examples::{exit_code, random_files};
use steermap_mapper::behaviour::{Choices, unit};
use steermap_mapper::device::DeviceChoice;
use steermap_mapper::session::{ModelSource, Session};
use steermap_mapper::statistics::mean;
use steermap_mapper::steerer::{LayerOffset, Steerer};
use steermap_mapper::tasks::{self, Task};
use steermap_maps::{MapFile, MappedLayer, OffsetRule, VectorFile};

#[derive(Parser)]
#[command(about = "Find concepts on SmolLM2-135M-Instruct and steer Gemma-3-270M with them through a map")]
struct Args {
    /// Folder of the small model (`cargo xtask models smollm2-135m` makes it)
    #[arg(long, default_value = "models/smollm2-135m")]
    source: PathBuf,
    /// Folder of the large model (`cargo xtask models gemma3-270m` makes it)
    #[arg(long, default_value = "models/gemma3-270m")]
    target: PathBuf,
    /// The map between them
    #[arg(long, default_value = "maps/smollm2-135m--gemma3-270m.toml")]
    map: PathBuf,
    /// Where the vectors and the configuration file are written
    #[arg(long, default_value = "target/demo-real")]
    out: PathBuf,
    /// End after the answers, without serving the playground
    #[arg(long)]
    end: bool,
}

/// A concept that is found before serving, and its strength.
struct DemoConcept {
    /// Name of the task in [`TASKS`] with its pairs and items.
    name: &'static str,
    /// Length of the offset, in units of the stream's mean norm: the best strength of examples/real-models/README.md,
    /// or one next to it.
    strength: f64,
}

const TASKS: &str = "examples/tasks";
const CONCEPTS: [DemoConcept; 3] = [
    DemoConcept {
        name: "mood",
        strength: 0.06,
    },
    DemoConcept {
        name: "topic",
        strength: 0.04,
    },
    DemoConcept {
        name: "tense",
        strength: 0.04,
    },
];
/// The concept that is found while the model serves, from [`LIVE_PAIRS`] of its pairs.
const LIVE: DemoConcept = DemoConcept {
    name: "capitals",
    strength: 0.08,
};
const LIVE_PAIRS: usize = 16;
/// The layer at which the large model is steered: the middle of its depth, as in the report in examples/real-models.
const TARGET_LAYER: usize = 9;
/// Number of random vectors of the small model for comparison.
const RANDOM: u64 = 8;
/// How many of a task's texts the large model continues.
const PROMPTS: usize = 2;
const MAX_TOKENS: usize = 36;
/// Names in the configuration file.
const MAP: &str = "small-to-large";
const RANDOM_VECTOR: &str = "random";

/// A concept with its vector.
struct FoundConcept {
    concept: &'static DemoConcept,
    task: Task,
    vector: VectorFile,
}

#[tokio::main]
async fn main() -> ExitCode {
    steermap_cpu::check();
    exit_code(run(Args::parse()).await)
}

async fn run(args: Args) -> Result<()> {
    std::fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    let map = MapFile::load(&args.map)?;
    let source_layers = source_layers(&map)?;
    println!(
        "1. Finding {} concepts on {}, layer {source_layers:?}\n",
        CONCEPTS.len(),
        args.source.display()
    );
    let found = CONCEPTS
        .iter()
        .map(|concept| find(&args, concept, &source_layers))
        .collect::<Result<Vec<_>>>()?;
    measure(&args, &map, &found).await?;
    serve(&args, &found)
}

/// The source layers of the map's pair that reaches [`TARGET_LAYER`].
fn source_layers(map: &MapFile) -> Result<Vec<usize>> {
    let pair = map.pairs().iter().find(|pair| pair.target_layer == TARGET_LAYER);
    let pair = pair.with_context(|| format!("the map does not reach layer {TARGET_LAYER}"))?;
    Ok(pair.source_layers.clone())
}

fn task(name: &str) -> Result<Task> {
    tasks::read(&Path::new(TASKS).join(format!("{name}.toml")))
}

/// Runs `mapper vector` on the small model, as a user would, with the half of a task's items that is for finding.
fn find(args: &Args, concept: &'static DemoConcept, layers: &[usize]) -> Result<FoundConcept> {
    let task = task(concept.name)?;
    let lines: Result<Vec<String>, _> = task.pairs().iter().map(serde_json::to_string).collect();
    let pairs = args.out.join(format!("{}.pairs.jsonl", concept.name));
    std::fs::write(&pairs, lines?.join("\n") + "\n").with_context(|| pairs.display().to_string())?;
    let out = args.out.join(format!("{}.toml", concept.name));
    let layers: Vec<String> = layers.iter().map(usize::to_string).collect();
    let mut mapper = Command::new(binary("mapper")?);
    mapper
        .args([
            "vector",
            "--cpu",
            "--dtype",
            "f32",
            "--batch",
            "32",
            "--concept",
            &task.positive,
        ])
        .args(["--position", task.position.as_str(), "--layers", &layers.join(",")])
        .arg("--pairs")
        .arg(&pairs)
        .arg("--model")
        .arg(&args.source)
        .arg("--out")
        .arg(&out);
    run_to_end(&mut mapper)?;
    Ok(FoundConcept {
        concept,
        task,
        vector: VectorFile::load(&out)?,
    })
}

/// A vector of the small model, carried over to the layer that is steered.
fn mapped(map: &MapFile, vector: &VectorFile) -> Result<MappedLayer> {
    let mapped = map.apply(vector, OffsetRule::Linear, true)?;
    let layer = mapped
        .layers
        .into_iter()
        .find(|mapped| mapped.target_layer == TARGET_LAYER);
    layer.context("the map made no direction for the layer")
}

/// Prints how far each concept, its opposite and random vectors move the propensity of the large model.
async fn measure(args: &Args, map: &MapFile, found: &[FoundConcept]) -> Result<()> {
    let path = args.target.to_str().context("the model's path is not Unicode")?;
    let session = Session::load(ModelSource {
        dtype: ModelDType::F32,
        device: DeviceChoice::Cpu,
        ..ModelSource::new(path)
    })
    .await?;
    let steerer = Steerer::new(&session)?;
    println!(
        "\n2. Propensity on {}: logit of the one answer less that of the other, mean over the items in {TASKS} that found\n   \
         nothing; random: {RANDOM} random vectors of the small model through the same map, as long\n",
        args.target.display()
    );
    let title = "concept (and its opposite)";
    println!(
        "   {title:<32} {:>9} {:>9} {:>9}   random",
        "opposite", "unsteered", "concept"
    );
    for FoundConcept { concept, task, vector } in found {
        let (items, _) = Choices::of(&session, &task.measuring).await?;
        let direction = mapped(map, vector)?;
        let alpha = concept.strength * direction.mean_norm;
        let mut random = Vec::new();
        for seed in 0..RANDOM {
            random.push(mapped(map, &random_files::like(vector, seed)?)?.direction);
        }
        let offset = |direction: &[f32], alpha: f64| {
            let unit = unit(direction).context("the vector has no direction")?;
            anyhow::Ok(Some(LayerOffset::new(TARGET_LAYER, &unit, alpha)))
        };
        let mut offsets = vec![
            offset(&direction.direction, -alpha)?,
            None,
            offset(&direction.direction, alpha)?,
        ];
        for direction in &random {
            offsets.push(offset(direction, alpha)?);
        }
        let propensities = items.propensities_under(&steerer, offsets, || ()).await?;
        let means: Vec<f64> = propensities.iter().map(|items| mean(items)).collect();
        let (low, high) = means[3..].iter().fold((f64::MAX, f64::MIN), |(low, high), &mean| {
            (low.min(mean), high.max(mean))
        });
        println!(
            "   {:<32} {:>+9.2} {:>+9.2} {:>+9.2}   {low:+.2} to {high:+.2}",
            format!("{}: {} ({})", concept.name, task.positive, task.negative),
            means[0],
            means[1],
            means[2]
        );
    }
    Ok(())
}

/// Serves the large model with the small one as a source, and prints its continuations.
fn serve(args: &Args, found: &[FoundConcept]) -> Result<()> {
    random_files::like(&found[0].vector, 1)?.save(&args.out.join(format!("{RANDOM_VECTOR}.toml")))?;
    let vectors: String = CONCEPTS
        .iter()
        .map(|concept| concept.name)
        .chain([RANDOM_VECTOR])
        .map(|name| format!("{name} = \"{name}.toml\"\n"))
        .collect();
    let absolute = |path: &Path| Ok::<_, anyhow::Error>(std::path::absolute(path)?.display().to_string());
    let (target, source, map) = (absolute(&args.target)?, absolute(&args.source)?, absolute(&args.map)?);
    let steering = format!(
        "[steering.vectors]\n{vectors}\n[steering.maps]\n{MAP} = {map:?}\n\n{}",
        source_tables(&source)
    );
    println!(
        "\n3. Serving {} over HTTP, the small model beside it, with\n",
        args.target.display()
    );
    for line in steering.lines() {
        println!("{}", format!("       {line}").trim_end());
    }
    let config = format!(
        "[[models]]\nkind = \"auto\"\nmodel_id = {target:?}\ndtype = \"f32\"\ndevice = {{ cpu = true }}\n\n{steering}"
    );
    let server = Server::start(&args.out, &config)?;
    let steered = |vector: Value, strength: f64| json!({"vectors": [{"vector": vector, "map": MAP, "layers": [TARGET_LAYER], "relative_scale": strength}]});

    for FoundConcept { concept, task, .. } in found {
        println!("\n   {}, {} of the stream's mean norm", task.positive, concept.strength);
        for prompt in prompts(task)? {
            let settings = [
                json!({"mode": "off"}),
                steered(RANDOM_VECTOR.into(), concept.strength),
                steered(concept.name.into(), concept.strength),
            ];
            let texts = answers(&server, &target, &prompt, &settings)?;
            println!("\n   > {} ...", prompt.replace('\n', " "));
            let titles = ["unsteered", "random, mapped", task.positive.as_str()];
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            print!("{}", columns(&titles, &texts, 36));
        }
    }
    live(&server, &target, &steered)?;

    println!(
        "\nThe vectors and the configuration file are in {}.",
        args.out.display()
    );
    if args.end || !is_watched() {
        return Ok(());
    }
    let cards: Vec<Value> = CONCEPTS
        .iter()
        .enumerate()
        .map(|(index, concept)| {
            json!({
                "vector": concept.name, "label": concept.name, "map": MAP, "layers": [TARGET_LAYER],
                "unit": "relative", "amount": concept.strength, "on": index == 0,
            })
        })
        .collect();
    let prompt = prompts(&found[0].task)?.swap_remove(0);
    let settings = json!({"v": 1, "kind": "completion", "prompt": prompt, "temperature": 0, "cards": cards});
    playground(server, &settings)
}

/// The first of a task's texts to continue.
fn prompts(task: &Task) -> Result<Vec<String>> {
    let generation = task.generation.as_ref().context("the task has no texts to continue")?;
    let plain = generation.prompts.iter().filter_map(|text| match text {
        steermap_mapper::pairs::Text::Plain(text) => Some(text.clone()),
        steermap_mapper::pairs::Text::Chat(_) => None,
    });
    Ok(plain.take(PROMPTS).collect())
}

/// The greedy continuations of one text under several settings, requested concurrently.
fn answers(server: &Server, model: &str, prompt: &str, settings: &[Value]) -> Result<Vec<String>> {
    std::thread::scope(|scope| {
        let asked: Vec<_> = settings
            .iter()
            .map(|steering| scope.spawn(move || server.complete_steered(model, prompt, MAX_TOKENS, steering)))
            .collect();
        asked
            .into_iter()
            .map(|answer| answer.join().expect("a request does not panic"))
            .collect()
    })
}

/// Finds a concept through requests that contain its pairs, and prints how long the first of them takes.
fn live(server: &Server, model: &str, steered: &impl Fn(Value, f64) -> Value) -> Result<()> {
    let task = task(LIVE.name)?;
    let pairs: Vec<_> = task.pairs().into_iter().take(LIVE_PAIRS).collect();
    println!(
        "\n4. A concept that no file has: {}, found by the small model while the large one serves, from {LIVE_PAIRS} pairs in the\n   \
         request itself, {} of the stream's mean norm",
        task.positive, LIVE.strength
    );
    let vector = json!({"model": "small", "pairs": pairs, "position": task.position.as_str()});
    let steering = steered(vector, LIVE.strength);
    for prompt in prompts(&task)? {
        let begin = Instant::now();
        server.complete_steered(model, &prompt, 1, &steering)?;
        let first_token = begin.elapsed();
        let texts = answers(server, model, &prompt, &[json!({"mode": "off"}), steering.clone()])?;
        println!(
            "\n   > {prompt} ...     (first token after {:.2} s)",
            first_token.as_secs_f64()
        );
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        print!("{}", columns(&["unsteered", &task.positive], &texts, 48));
    }
    println!("\n   The second request got the vector from the cache.");
    Ok(())
}
