//! Every architecture that mistral.rs loads, as a tiny model with random weights, against Hugging Face transformers
//! (tests/fixtures/architectures): states of every layer, logits, and both under added vectors.
//!
//! `matrix.toml` there has a row for each architecture. Its models are tested here, one test each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use mistralrs::ModelDType;
use residual_hooks::Phase;
use steermap_mapper::device::DeviceChoice;
use steermap_mapper::session::{ModelSource, Session};
use steermap_plugin::{Program, SteeringHook};
use steermap_tests::cached::{caching, generate};
use steermap_tests::hooks::Recorder;
use steermap_tests::reference::{Reference, assert_close_within, assert_rows_close_within};
use steermap_tests::{copy_of, fixture, project};
use tempfile::TempDir;

/// In units of a row's largest value: sums in another order, through blocks that amplify them. Changing the embedding by
/// a millionth moves the logits of these models by up to 1e-4; a block that is steered at the wrong place, by 2e-2.
const TOLERANCE: f32 = 5e-5;

/// A model of tests/fixtures/architectures, with a tokenizer.
struct Tiny {
    name: &'static str,
    reference: Reference,
    folder: PathBuf,
    _kept: TempDir,
}

impl Tiny {
    fn load(name: &'static str) -> Self {
        let models = fixture("architectures");
        let kept = tempfile::tempdir().unwrap();
        let folder = copy_of(&models.join(name), kept.path());
        if !folder.join("tokenizer.json").exists() {
            for entry in std::fs::read_dir(models.join("tokenizer")).unwrap() {
                let entry = entry.unwrap();
                std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
            }
        }
        let references = folder.join("references.safetensors");
        let reference = Reference::read(&references);
        std::fs::remove_file(references).unwrap();
        Self {
            name,
            reference,
            folder,
            _kept: kept,
        }
    }

    fn is_gguf(&self) -> bool {
        self.folder.join("model.gguf").exists()
    }

    async fn session(&self) -> Session {
        let folder = self.folder.to_str().unwrap();
        let gguf = self.is_gguf();
        let source = ModelSource {
            dtype: ModelDType::F32,
            device: DeviceChoice::Cpu,
            gguf: gguf.then(|| "model.gguf".to_string()),
            tok_model_id: gguf.then(|| folder.to_string()),
            ..ModelSource::new(folder)
        };
        Session::load(source).await.unwrap()
    }

    fn numbers(&self, name: &str) -> Vec<usize> {
        self.reference.tokens(name).iter().map(|&n| n as usize).collect()
    }

    /// Compares rows of all positions with those that the references have.
    fn compare(&self, found: &[Vec<f32>], name: &str) {
        let expected = self.reference.rows(name);
        for (position, expected) in self.numbers("positions").into_iter().zip(&expected) {
            let what = format!("{} {name}, position {position}", self.name);
            assert_close_within(TOLERANCE, &found[position], expected, &what);
        }
    }

    /// The logits of a greedy continuation of the text's first `start` tokens.
    fn steps(&self, steered: &str, start: usize) -> Vec<Vec<f32>> {
        self.reference.rows(&format!("{steered}gen.{start}.logits"))
    }

    /// Continues the beginnings of the text, all at once.
    async fn continue_all(&self, session: &Session, steered: &str) {
        let text = self.reference.tokens("tokens");
        let mut starts = self.numbers("starts");
        // Two of the same length are a batch in every architecture.
        starts.push(starts[0]);
        let generated = self.steps(steered, starts[0]).len();
        let waiting = starts.iter().map(|&start| session.generate(&text[..start], generated));
        let answers = futures::future::join_all(waiting).await;
        for (start, answer) in starts.into_iter().zip(answers) {
            let what = format!("{} {steered}continuation of {start} tokens", self.name);
            assert_rows_close_within(TOLERANCE, &answer.unwrap().1, &self.steps(steered, start), &what);
        }
    }
}

/// Compares all references of `name` with the model in the engine.
async fn agrees_with_transformers(name: &'static str) {
    let tiny = Tiny::load(name);
    let (layers, text) = (tiny.reference.num_layers(), tiny.reference.tokens("tokens"));
    let session = tiny.session().await;
    let stream = session.slot().stream().unwrap();
    assert_eq!(
        (stream.num_layers, stream.last_block),
        (layers, true),
        "{name}: layers, and whether the last can be steered"
    );

    // As it is: one pass, and token by token.
    let recorder = Recorder::new(layers);
    session.slot().install(recorder.clone()).unwrap();
    let logits = session.prompt_logits(&text).await.unwrap();
    let seen = recorder.take();
    for layer in 0..layers {
        let states = seen.first(seen.last_request(), layer, text.len());
        tiny.compare(&states, &format!("h.{layer}"));
    }
    tiny.compare(&logits, "logits");
    tiny.continue_all(&session, "").await;
    let passes = recorder.take().passes;
    let together = |rows: &Vec<residual_hooks::Row>| rows.len() > 1 && rows[0].phase == Phase::Generation;
    assert!(passes.iter().any(together), "{name}: no batch");

    // Steered after the last block alone, then after every block.
    for (steered, first) in [("last.", layers - 1), ("steered.", 0)] {
        let vectors: BTreeMap<usize, Vec<f32>> = (first..layers)
            .map(|layer| (layer, tiny.reference.vector(&format!("vector.{layer}"))))
            .collect();
        let hook = SteeringHook::fixed(Program::adding(vectors));
        session.slot().install(Arc::new(hook)).unwrap();
        let logits = session.prompt_logits(&text).await.unwrap();
        tiny.compare(&logits, &format!("{steered}logits"));
    }
    tiny.continue_all(&session, "steered.").await;
}

/// Prompts that begin with earlier ones, with the prefix cache.
async fn continues_cached_prefixes(name: &'static str) {
    let tiny = Tiny::load(name);
    let text = tiny.reference.tokens("tokens");
    let engine = caching(&tiny.folder).await;
    let last = tiny.reference.rows("logits").pop().unwrap();
    for &start in &tiny.numbers("starts") {
        for round in 0..2 {
            let expected = tiny.steps("", start);
            let (_, steps) = generate(&engine, text[..start].to_vec(), expected.len()).await;
            let what = format!("{name}: {start} tokens, round {round}");
            assert_rows_close_within(TOLERANCE, &steps, &expected, &what);
        }
        // The next turn of a conversation: the prompt has the answer before, and goes on.
        let expected = tiny.steps("", start);
        let picked = tiny.reference.tokens(&format!("gen.{start}.tokens"));
        let prompt = [&text[..start], &picked[..5]].concat();
        let (_, steps) = generate(&engine, prompt, expected.len() - 5).await;
        let what = format!("{name}: {start} tokens and 5 of the answer");
        assert_rows_close_within(TOLERANCE, &steps, &expected[5..], &what);
        // Another continuation of the same beginning.
        let (_, steps) = generate(&engine, text.clone(), 1).await;
        assert_close_within(
            TOLERANCE,
            &steps[0],
            &last,
            &format!("{name}: the whole text after {start} tokens"),
        );
    }
}

macro_rules! models {
    ($($name:ident = $folder:literal;)*) => {
        const TESTED: &[&str] = &[$($folder),*];
        $(
            mod $name {
                #[tokio::test(flavor = "multi_thread")]
                async fn agrees_with_transformers() {
                    super::agrees_with_transformers($folder).await;
                }

                #[tokio::test(flavor = "multi_thread")]
                async fn continues_cached_prefixes() {
                    super::continues_cached_prefixes($folder).await;
                }
            }
        )*
    };
}

macro_rules! gguf_models {
    ($($name:ident = $folder:literal;)*) => {
        const GGUF_TESTED: &[&str] = &[$($folder),*];
        $(
            mod $name {
                #[tokio::test(flavor = "multi_thread")]
                async fn agrees_with_transformers() {
                    super::agrees_with_transformers($folder).await;
                }
            }
        )*
    };
}

models! {
    deepseek_v2 = "deepseek-v2";
    deepseek_v2_lite = "deepseek-v2-lite";
    deepseek_v3 = "deepseek-v3";
    gemma = "gemma";
    gemma4 = "gemma4";
    gemma4_moe = "gemma4-moe";
    glm4 = "glm4";
    glm4_moe = "glm4-moe";
    glm4_moe_lite = "glm4-moe-lite";
    glm4_moe_plain = "glm4-moe-plain";
    granite_hybrid = "granite-hybrid";
    granite_hybrid_moe = "granite-hybrid-moe";
    idefics2 = "idefics2";
    idefics3 = "idefics3";
    llama3 = "llama3";
    llama4 = "llama4";
    llama4_short = "llama4-short";
    llava = "llava";
    llava_mistral = "llava-mistral";
    llava_next = "llava-next";
    ministral3 = "ministral3";
    mistral = "mistral";
    mistral3 = "mistral3";
    mixtral = "mixtral";
    mixtral_window = "mixtral-window";
    mllama = "mllama";
    phi_3_5_moe = "phi-3.5-moe";
    phi_3_5_moe_plain = "phi-3.5-moe-plain";
    phi2 = "phi2";
    phi3_long = "phi3-long";
    phi3_short = "phi3-short";
    qwen2_tied = "qwen2-tied";
    qwen2_vl = "qwen2-vl";
    qwen2_5_vl = "qwen2.5-vl";
    qwen3 = "qwen3";
    qwen3_moe = "qwen3-moe";
    qwen3_moe_window = "qwen3-moe-window";
    qwen3_next = "qwen3-next";
    qwen3_vl = "qwen3-vl";
    qwen3_vl_moe = "qwen3-vl-moe";
    qwen3_5 = "qwen3.5";
    qwen3_5_moe = "qwen3.5-moe";
    smollm3 = "smollm3";
    starcoder2 = "starcoder2";
    voxtral = "voxtral";
}

gguf_models! {
    gguf_llama3 = "gguf-llama3";
    gguf_ministral3 = "gguf-ministral3";
    gguf_mistral = "gguf-mistral";
    gguf_mistral3 = "gguf-mistral3";
    gguf_mixtral = "gguf-mixtral";
    gguf_phi2 = "gguf-phi2";
    gguf_phi2_split = "gguf-phi2-split";
    gguf_phi3 = "gguf-phi3";
    gguf_phi3_short = "gguf-phi3-short";
    gguf_phi4 = "gguf-phi4";
    gguf_phi4_mini = "gguf-phi4-mini";
    gguf_qwen2 = "gguf-qwen2";
    gguf_qwen3 = "gguf-qwen3";
    gguf_qwen3_moe = "gguf-qwen3-moe";
    gguf_starcoder2 = "gguf-starcoder2";
}

/// tests/fixtures/architectures/matrix.toml, as far as it is checked here. `cargo xtask docs` makes tables of it.
#[derive(serde::Deserialize)]
struct Matrix {
    text: Vec<Row>,
    gguf: Vec<Row>,
    multimodal: Vec<Row>,
}

#[derive(serde::Deserialize)]
struct Row {
    architectures: Vec<String>,
    #[serde(default)]
    models: Vec<String>,
}

fn engine(file: &str) -> String {
    let core = project("plugin/engine/prepared-by-cargo-xtask-engine/mistralrs-core/src");
    std::fs::read_to_string(core.join(file)).unwrap()
}

/// The names that `from_causal_lm_name` of a loader knows.
fn loaded_by(file: &str) -> BTreeSet<String> {
    let source = engine(file);
    let (_, rest) = source.split_once("pub fn from_causal_lm_name").unwrap();
    let (body, _) = rest.split_once("other =>").unwrap();
    body.split('"').skip(1).step_by(2).map(str::to_string).collect()
}

/// The architectures of GGUF files that the pipeline can run.
fn loaded_from_gguf() -> BTreeSet<String> {
    let source = engine("pipeline/gguf.rs");
    let names = source.split("GGUFArchitecture::").skip(1);
    let name = |rest: &str| {
        rest.split(|c: char| !c.is_alphanumeric())
            .next()
            .unwrap()
            .to_lowercase()
    };
    names.map(name).filter(|name| name != "from").collect()
}

#[test]
fn each_architecture_that_the_engine_loads_has_a_row() {
    let text = std::fs::read_to_string(fixture("architectures/matrix.toml")).unwrap();
    let matrix: Matrix = toml::from_str(&text).unwrap();
    let names = |rows: &[Row]| -> Vec<String> {
        let mut names: Vec<String> = rows.iter().flat_map(|row| row.architectures.clone()).collect();
        names.sort();
        names
    };
    let sorted = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>();
    assert_eq!(
        names(&matrix.text),
        sorted(loaded_by("pipeline/loaders/normal_loaders.rs"))
    );
    assert_eq!(names(&matrix.gguf), sorted(loaded_from_gguf()));
    let multimodal = "pipeline/loaders/multimodal_loaders.rs";
    assert_eq!(names(&matrix.multimodal), sorted(loaded_by(multimodal)));

    let rows = || matrix.text.iter().chain(&matrix.gguf).chain(&matrix.multimodal);
    let named: BTreeSet<&str> = rows().flat_map(|row| &row.models).map(String::as_str).collect();
    let tested: BTreeSet<&str> = TESTED.iter().chain(GGUF_TESTED).copied().collect();
    assert_eq!(named, tested, "the models of the matrix, and those that are tested");
    let entries = std::fs::read_dir(fixture("architectures")).unwrap();
    let folders: BTreeSet<String> = entries
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("references.safetensors").exists())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert!(folders.iter().map(String::as_str).eq(tested), "{folders:?}");
}
