//! Several rows in one forward pass.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use mistralrs::ModelDType;
use mistralrs::core::text_models_inputs_processor::{FlashParams, ModelInputs};
use mistralrs::core::{DeviceMapSetting, NormalLoaderBuilder, NormalLoaderType, NormalSpecificConfig, TokenSource};
use residual_hooks::{Phase, Row};
use steermap_mapper::device::DeviceChoice;
use steermap_mapper::session::{ModelSource, Session};
use steermap_tests::hooks::Recorder;
use steermap_tests::reference::{Reference, assert_rows_close};
use steermap_tests::{fixture, project};

/// One forward pass over prompts of unequal length, padded on the right, as the engine's paged attention batches them.
#[tokio::test(flavor = "multi_thread")]
async fn a_padded_batch_of_unequal_prompts() {
    let reference = Reference::load("tiny-llama");
    let layers = reference.num_layers();
    let prompts = reference.prompts();
    let longest = prompts.iter().map(Vec::len).max().unwrap();
    let all: BTreeMap<usize, Vec<f32>> = (0..layers)
        .map(|layer| (layer, reference.vector(&format!("vector.{layer}"))))
        .collect();

    for (name, add) in [("", BTreeMap::new()), ("all.", all)] {
        // A fresh pipeline, so that its KV cache is empty.
        let model = fixture("tiny-llama").to_str().unwrap().to_string();
        let loader = NormalLoaderBuilder::new(NormalSpecificConfig::default(), None, None, Some(model), false, None)
            .build(Some(NormalLoaderType::Llama))
            .unwrap();
        let pipeline = loader
            .load_model_from_hf(
                None,
                TokenSource::None,
                &ModelDType::F32,
                &Device::Cpu,
                true,
                DeviceMapSetting::dummy(),
                None,
                None,
            )
            .unwrap();
        let mut pipeline = pipeline.lock().await;
        let slot = pipeline.get_metadata().residual_hooks.clone();
        let recorder = Recorder::adding(layers, add);
        slot.install(recorder.clone()).unwrap();

        let mut padded = Vec::new();
        for prompt in &prompts {
            padded.extend(prompt);
            padded.extend(vec![0u32; longest - prompt.len()]);
        }
        let inputs = ModelInputs {
            input_ids: Tensor::from_vec(padded, (prompts.len(), longest), &Device::Cpu).unwrap(),
            input_ids_full: None,
            seqlen_offsets: vec![0; prompts.len()],
            seqlen_offsets_full: None,
            context_lens: vec![(0, longest); prompts.len()],
            position_ids: vec![longest; prompts.len()],
            paged_attn_meta: None,
            flash_meta: FlashParams::empty(true),
            flash_meta_full: None,
        };
        let rows = || {
            let row = |(request, prompt): (usize, &Vec<u32>)| Row::prompt(request, prompt.clone());
            prompts.iter().enumerate().map(row).collect()
        };
        slot.scope(rows, || pipeline.forward_inputs(Box::new(inputs), true))
            .unwrap();

        let seen = recorder.take();
        for i in 0..prompts.len() {
            for layer in 0..layers {
                let states = seen.first(i, layer, prompts[i].len());
                let what = format!("padded {name}row {i}, layer {layer}");
                assert_rows_close(&states, &reference.rows(&format!("p{i}.{name}h.{layer}")), &what);
                if name.is_empty() {
                    let batch = reference.tensor(&format!("batch.h.{layer}"));
                    let row: Vec<Vec<f32>> = batch.get(i).unwrap().to_vec2().unwrap();
                    assert_rows_close(&states, &row[..prompts[i].len()], &what);
                }
            }
        }
    }
}

/// Many concurrent requests: the engine batches prompts of equal length, and every state equals that of the prompt
/// alone.
#[tokio::test(flavor = "multi_thread")]
async fn requests_at_once_keep_their_own_states() {
    let reference = Reference::load("tiny-llama");
    let layers = reference.num_layers();
    let source = ModelSource {
        dtype: ModelDType::F32,
        device: DeviceChoice::Cpu,
        ..ModelSource::new(fixture("tiny-llama").to_str().unwrap())
    };
    let session = Session::load(source).await.unwrap();
    let recorder = Recorder::new(layers);
    session.slot().install(recorder.clone()).unwrap();
    // Each prompt five times: alternating, and in a row.
    let prompts = reference.prompts();
    let which: Vec<usize> = (0..15).map(|i| i % 3).chain((0..15).map(|i| i / 5)).collect();
    let mixed: Vec<&[u32]> = which.iter().map(|&i| prompts[i].as_slice()).collect();
    let ids = session.prefill(&mixed, || ()).await.unwrap();
    let seen = recorder.take();
    for (i, id) in ids.iter().enumerate() {
        for layer in 0..layers {
            let states = seen.first(*id, layer, mixed[i].len());
            let what = format!("request {i}, layer {layer}");
            assert_rows_close(&states, &reference.rows(&format!("p{}.h.{layer}", which[i])), &what);
        }
        let first = &seen.rows(*id)[0];
        assert!(first.phase == Phase::Prompt && first.start == 0 && first.tokens() == mixed[i].len());
    }
    assert!(
        seen.passes.iter().any(|rows| rows.len() > 1),
        "the engine never ran a batch"
    );
}

/// A burst of requests to an idle engine must not run more sequences at once than allowed.
#[tokio::test(flavor = "multi_thread")]
async fn no_more_sequences_at_once_than_allowed() {
    let reference = Reference::load("tiny-llama");
    let source = ModelSource {
        dtype: ModelDType::F32,
        device: DeviceChoice::Cpu,
        batch: 4,
        ..ModelSource::new(fixture("tiny-llama").to_str().unwrap())
    };
    let session = std::sync::Arc::new(Session::load(source).await.unwrap());
    let recorder = Recorder::new(1);
    session.slot().install(recorder.clone()).unwrap();
    let prompt = reference.prompts()[0].clone();
    let mut running = tokio::task::JoinSet::new();
    for tokens in [1, 1, 1, 5].into_iter().cycle().take(64) {
        let (session, prompt) = (session.clone(), prompt.clone());
        running.spawn(async move { session.generate(&prompt, tokens).await.unwrap() });
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
    let most = recorder.take().passes.iter().map(Vec::len).max();
    assert_eq!(most, Some(4));
}

/// stories-3m in float32, or quantised in place.
async fn stories(isq: Option<&str>) -> Arc<Session> {
    let source = ModelSource {
        dtype: ModelDType::F32,
        device: DeviceChoice::Cpu,
        isq: isq.map(str::to_string),
        ..ModelSource::new(project("examples/family/stories-3m").to_str().unwrap())
    };
    Arc::new(Session::load(source).await.unwrap())
}

/// The greedy texts of all prompts, requested concurrently.
async fn together(session: &Arc<Session>, prompts: &[Vec<u32>], tokens: usize) -> Vec<String> {
    let asked: Vec<_> = prompts
        .iter()
        .map(|prompt| {
            let (session, prompt) = (session.clone(), prompt.clone());
            tokio::spawn(async move { session.generate(&prompt, tokens).await.unwrap().0 })
        })
        .collect();
    let mut texts = Vec::new();
    for text in asked {
        texts.push(text.await.unwrap());
    }
    texts
}

/// Prompts of similar length run in one forward pass, the shorter ones padded. Each has bitwise the same states and
/// continuation as alone.
#[tokio::test(flavor = "multi_thread")]
async fn prompts_of_similar_length_share_a_pass() {
    let session = stories(None).await;
    let layers = session.slot().stream().unwrap().num_layers;
    let recorder = Recorder::new(layers);
    session.slot().install(recorder.clone()).unwrap();
    let prompts: Vec<Vec<u32>> = (0..12u32)
        .map(|i| (0..20 + i % 6).map(|j| 5 + (37 * i + 11 * j) % 1000).collect())
        .collect();
    let mut alone = Vec::new();
    for prompt in &prompts {
        let answer = session.generate(prompt, 10).await.unwrap();
        let seen = recorder.take();
        let states: Vec<_> = (0..layers)
            .map(|layer| seen.first(seen.last_request(), layer, prompt.len()))
            .collect();
        alone.push((answer, states));
    }
    let slices: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    let ids = session.prefill(&slices, || ()).await.unwrap();
    let seen = recorder.take();
    let padded = |rows: &&Vec<Row>| rows.iter().any(|row| row.tokens() != rows[0].tokens());
    assert!(seen.passes.iter().any(|rows| padded(&rows)), "no pass was padded");
    for ((id, prompt), (_, states)) in ids.iter().zip(&prompts).zip(&alone) {
        for (layer, states) in states.iter().enumerate() {
            assert!(
                seen.first(*id, layer, prompt.len()) == *states,
                "{prompt:?}, layer {layer}"
            );
        }
    }
    let texts = together(&session, &prompts, 10).await;
    for ((alone, _), text) in alone.into_iter().zip(texts) {
        assert_eq!(alone.0, text);
    }
}

/// Quantised in place: each prompt has the same text as alone, whatever runs with it, and nearly the same as in
/// float32.
#[tokio::test(flavor = "multi_thread")]
async fn quantized_models_answer_in_a_batch_as_alone() {
    let prompts: Vec<Vec<u32>> = (0..9u32)
        .map(|i| (0..5 + i % 4).map(|j| 5 + (37 * i + 11 * j) % 1000).collect())
        .collect();
    let full = stories(None).await;
    for (isq, near) in [
        ("q8_0", 0.05),
        ("q5_0", 0.4),
        ("q5_1", 0.4),
        ("q4_0", 0.8),
        ("q4_1", 0.8),
    ] {
        let session = stories(Some(isq)).await;
        let mut alone = Vec::new();
        for prompt in &prompts {
            alone.push(session.generate(prompt, 12).await.unwrap());
            let (a, b) = (
                session.prompt_logits(prompt).await.unwrap(),
                full.prompt_logits(prompt).await.unwrap(),
            );
            let (a, b) = (a.concat(), b.concat());
            let rms = |of: &mut dyn Iterator<Item = f32>| (of.map(|x| x * x).sum::<f32>() / a.len() as f32).sqrt();
            let (off, size) = (
                rms(&mut a.iter().zip(&b).map(|(a, b)| a - b)),
                rms(&mut b.iter().copied()),
            );
            assert!(off < near * size, "{isq}: logits are off by {off} of {size}");
        }
        let texts = together(&session, &prompts, 12).await;
        for (alone, text) in alone.into_iter().zip(texts) {
            assert_eq!(alone.0, text, "{isq}");
        }
    }
}
