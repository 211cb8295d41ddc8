//! The seam against Hugging Face transformers: states of every layer, and logits under added vectors.

use std::collections::BTreeMap;
use std::sync::Arc;

use mistralrs::ModelDType;
use residual_hooks::Phase;
use steermap_mapper::device::DeviceChoice;
use steermap_mapper::session::{ModelSource, Session};
use steermap_plugin::{Library, Program, SteeringHook, SteeringSpec, VectorUse, attach};
use steermap_tests::fixture;
use steermap_tests::hooks::Recorder;
use steermap_tests::reference::{Reference, assert_close, assert_rows_close};
use steermap_tests::vectors::reference_vector;

fn source(name: &str) -> ModelSource {
    ModelSource {
        dtype: ModelDType::F32,
        device: DeviceChoice::Cpu,
        ..ModelSource::new(fixture(name).to_str().unwrap())
    }
}

fn gguf() -> ModelSource {
    ModelSource {
        gguf: Some("tiny-llama.gguf".to_string()),
        tok_model_id: Some(fixture("tiny-llama").to_str().unwrap().to_string()),
        ..source("")
    }
}

/// Compares all references of `model` with `source` in the engine.
async fn agrees_with_transformers(model: &str, source: ModelSource) {
    let reference = Reference::load(model);
    let layers = reference.num_layers();
    let session = Session::load(source).await.unwrap();
    assert_eq!(session.slot().stream().unwrap().num_layers, layers);
    let recorder = Recorder::new(layers);
    session.slot().install(recorder.clone()).unwrap();

    for (i, prompt) in reference.prompts().iter().enumerate() {
        let logits = session.prompt_logits(prompt).await.unwrap();
        assert_rows_close(
            &logits,
            &reference.rows(&format!("p{i}.logits")),
            &format!("{model} p{i} logits"),
        );
        let seen = recorder.take();
        let request = seen.last_request();
        assert_eq!(seen.rows(request)[0].tokens(), prompt.len());
        for layer in 0..layers {
            let states = seen.first(request, layer, prompt.len());
            let what = format!("{model} p{i} layer {layer}");
            assert_rows_close(&states, &reference.rows(&format!("p{i}.h.{layer}")), &what);
        }

        // Generation with the KV cache: one token per pass.
        let (_, steps) = session.generate(prompt, 8).await.unwrap();
        assert_rows_close(
            &steps,
            &reference.rows(&format!("p{i}.gen.logits")),
            &format!("{model} p{i} steps"),
        );
        let seen = recorder.take();
        let request = seen.last_request();
        let rows = seen.rows(request);
        assert_eq!(rows.len(), 8);
        assert!(rows[0].phase == Phase::Prompt && rows[1..].iter().all(|row| row.phase == Phase::Generation));
        assert!(rows.iter().all(|row| row.prompt_len == prompt.len()));
        for layer in 0..layers {
            let generated = seen.from(request, layer, prompt.len());
            let expected = reference.rows(&format!("p{i}.gen.h.{layer}"));
            let what = format!("{model} p{i} generated, layer {layer}");
            assert_eq!(generated.len(), 7, "the eighth token is not fed back");
            assert_rows_close(&generated, &expected, &what);
        }
    }

    // Vectors added at one layer, at the last, and at all, in the prompt and in generation.
    for (scenario, at) in [
        ("one", vec![1]),
        ("last", vec![layers - 1]),
        ("all", (0..layers).collect()),
    ] {
        let vectors: BTreeMap<usize, Vec<f32>> = at
            .into_iter()
            .map(|layer| (layer, reference.vector(&format!("vector.{layer}"))))
            .collect();
        let hook = SteeringHook::fixed(Program::adding(vectors.clone()));
        session.slot().install(Arc::new(hook)).unwrap();
        for (i, prompt) in reference.prompts().iter().enumerate() {
            let what = format!("{model} p{i} {scenario}");
            let logits = session.prompt_logits(prompt).await.unwrap();
            assert_rows_close(&logits, &reference.rows(&format!("p{i}.{scenario}.logits")), &what);
            let (_, steps) = session.generate(prompt, 8).await.unwrap();
            assert_rows_close(&steps, &reference.rows(&format!("p{i}.{scenario}.gen.logits")), &what);
        }
        if scenario == "all" {
            let recorder = Recorder::adding(layers, vectors);
            session.slot().install(recorder.clone()).unwrap();
            for (i, prompt) in reference.prompts().iter().enumerate() {
                session.prompt_logits(prompt).await.unwrap();
                let seen = recorder.take();
                for layer in 0..layers {
                    let states = seen.first(seen.last_request(), layer, prompt.len());
                    let what = format!("{model} p{i} all, layer {layer}");
                    assert_rows_close(&states, &reference.rows(&format!("p{i}.all.h.{layer}")), &what);
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn llama() {
    agrees_with_transformers("tiny-llama", source("tiny-llama")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn llama_in_gguf() {
    agrees_with_transformers("tiny-llama", gguf()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gemma2_with_post_norms() {
    agrees_with_transformers("tiny-gemma2", source("tiny-gemma2")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gemma3_with_post_norms() {
    agrees_with_transformers("tiny-gemma3", source("tiny-gemma3")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spec_equals_adding_the_vector() {
    let reference = Reference::load("tiny-llama");
    let session = Session::load(source("tiny-llama")).await.unwrap();
    let mut library = Library::default();
    library.insert("test", reference_vector("tiny-llama")).unwrap();
    let engine = session.model().inner();
    let prompt = &reference.prompts()[2];
    let expected = reference.rows("p2.one.gen.logits");

    // The unnormalised vector, and the normalised one times its norm, are the same offset.
    let norm = reference_vector("tiny-llama").layer(1).unwrap().norm();
    for used in [
        VectorUse::new("test", 1.0).unnormalized().at_layers([1]),
        VectorUse::new("test", norm).at_layers([1]),
    ] {
        attach(engine, None, &used.into(), &library).unwrap();
        let (_, steps) = session.generate(prompt, 8).await.unwrap();
        assert_rows_close(&steps, &expected, "steered by a spec");
    }

    // Two uses at one layer add up; without `layers`, all layers of the file are steered.
    let half = VectorUse::new("test", 0.5).unnormalized();
    let spec = SteeringSpec::from(vec![half.clone(), half]);
    attach(engine, None, &spec, &library).unwrap();
    let (_, steps) = session.generate(prompt, 8).await.unwrap();
    assert_rows_close(&steps, &reference.rows("p2.all.gen.logits"), "two halves at all layers");

    steermap_plugin::detach(engine, None).unwrap();
    let (_, steps) = session.generate(prompt, 8).await.unwrap();
    assert_close(&steps[7], &reference.rows("p2.gen.logits")[7], "detached");
}
