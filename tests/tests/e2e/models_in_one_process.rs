//! A hook belongs to one loaded model. A failing hook fails its requests and nothing else.

use std::sync::Arc;

use mistralrs::ModelDType;
use steermap_mapper::device::DeviceChoice;
use steermap_mapper::session::{ModelSource, Session};
use steermap_plugin::{Library, SteeringSpec, VectorUse, attach};
use steermap_tests::fixture;
use steermap_tests::hooks::{Failing, Recorder};
use steermap_tests::reference::{Reference, assert_rows_close};
use steermap_tests::vectors::reference_vector;

async fn load(name: &str) -> Session {
    let model = fixture(name);
    let source = ModelSource {
        dtype: ModelDType::F32,
        device: DeviceChoice::Cpu,
        ..ModelSource::new(model.to_str().unwrap())
    };
    Session::load(source).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_models_never_see_each_others_hooks() {
    let (llama, gemma) = (Reference::load("tiny-llama"), Reference::load("tiny-gemma2"));
    // Two loaded one after the other, and two at the same time.
    let first = load("tiny-llama").await;
    let second = load("tiny-gemma2").await;
    let (third, fourth) = tokio::join!(load("tiny-llama"), load("tiny-gemma2"));

    let recorders = [first.slot(), second.slot()].map(|slot| {
        let recorder = Recorder::new(4);
        slot.install(recorder.clone()).unwrap();
        recorder
    });
    let mut library = Library::default();
    library.insert("test", reference_vector("tiny-llama")).unwrap();
    let spec: SteeringSpec = VectorUse::new("test", 1.0).unnormalized().at_layers([1]).into();
    attach(third.model().inner(), None, &spec, &library).unwrap();

    // All four generate at once.
    let (p, q) = (&llama.prompts()[1], &gemma.prompts()[1]);
    let (a, b, c, d) = tokio::join!(
        first.generate(p, 8),
        second.generate(q, 8),
        third.generate(p, 8),
        fourth.generate(q, 8)
    );
    assert_rows_close(&a.unwrap().1, &llama.rows("p1.gen.logits"), "recorded llama");
    assert_rows_close(&b.unwrap().1, &gemma.rows("p1.gen.logits"), "recorded gemma");
    assert_rows_close(&c.unwrap().1, &llama.rows("p1.one.gen.logits"), "steered llama");
    assert_rows_close(&d.unwrap().1, &gemma.rows("p1.gen.logits"), "gemma without a hook");

    for (recorder, reference, what) in [(&recorders[0], &llama, "llama"), (&recorders[1], &gemma, "gemma")] {
        let seen = recorder.take();
        let expected = reference.rows("p1.h.2");
        let states = seen.first(seen.last_request(), 2, expected.len());
        assert_rows_close(&states, &expected, what);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_hook_fails_its_request_and_the_engine_keeps_running() {
    let reference = Reference::load("tiny-llama");
    let session = load("tiny-llama").await;
    let prompt = &reference.prompts()[0];
    session.slot().install(Arc::new(Failing)).unwrap();
    for _ in 0..2 {
        let error = session.generate(prompt, 8).await.unwrap_err().to_string();
        assert!(error.contains("this hook always fails"), "{error}");
    }
    session.slot().remove();
    let (_, steps) = session.generate(prompt, 8).await.unwrap();
    assert_rows_close(&steps, &reference.rows("p0.gen.logits"), "after the failures");
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_of_another_model_are_refused() {
    let session = load("tiny-gemma3").await;
    let mut library = Library::default();
    library.insert("test", reference_vector("tiny-llama")).unwrap();
    let engine = session.model().inner();
    let refuse = |spec: SteeringSpec| attach(engine, None, &spec, &library).unwrap_err().to_string();
    let sizes = refuse(VectorUse::new("test", 1.0).into());
    assert!(
        sizes.contains("num_layers: found 4") && sizes.contains("expected 6"),
        "{sizes}"
    );
    let unknown = refuse(VectorUse::new("tset", 1.0).into());
    assert!(unknown.contains("vectors[0].vector: found \"tset\""), "{unknown}");
    assert!(!session.slot().is_installed());

    let session = load("tiny-llama").await;
    let engine = session.model().inner();
    let spec = VectorUse::new("test", 1.0).at_layers([1, 9]).into();
    let layer = attach(engine, None, &spec, &library).unwrap_err().to_string();
    assert!(
        layer.contains("vectors[0].layers: found 9") && layer.contains("0-3"),
        "{layer}"
    );
    let missing = attach(engine, Some("nobody"), &spec, &library).unwrap_err().to_string();
    assert!(missing.contains("nobody"), "{missing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn prefixes_are_shared_only_between_equal_steering() {
    use mistralrs::core::{NormalRequest, Request, RequestMessage, Response, SamplingParams};

    // With prefix caching, as in a server and unlike in `Session`.
    let reference = Reference::load("tiny-llama");
    let model = mistralrs::ModelBuilder::new(fixture("tiny-llama").to_str().unwrap())
        .with_dtype(ModelDType::F32)
        .with_force_cpu()
        .with_prefix_cache_n(Some(16))
        .build()
        .await
        .unwrap();
    let engine = model.inner();
    let complete = async |tokens: &[u32]| {
        let (sender, mut answers) = tokio::sync::mpsc::channel(1);
        let sampling = SamplingParams {
            max_len: Some(8),
            ..SamplingParams::deterministic()
        };
        let message = RequestMessage::CompletionTokens(tokens.to_vec());
        let request = NormalRequest::new_simple(message, sampling, sender, engine.next_request_id(), None, None);
        engine
            .get_sender(None)
            .unwrap()
            .send(Request::Normal(Box::new(request)))
            .await
            .unwrap();
        match answers.recv().await {
            Some(Response::CompletionDone(done)) => done.choices[0].text.clone(),
            _ => panic!("a completion was expected"),
        }
    };
    let alone = load("tiny-llama").await;
    let prompt = reference.prompts()[2].clone();
    let longer = [prompt.as_slice(), &prompt[..3]].concat();
    let slot = steermap_plugin::attach::slot(engine, None).unwrap();
    let mut library = Library::default();
    library.insert("test", reference_vector("tiny-llama")).unwrap();
    let spec: SteeringSpec = VectorUse::new("test", 1.0).unnormalized().into();

    // An unsteered prefix is in the cache when a longer prompt is steered, and the reverse.
    complete(&prompt).await;
    attach(engine, None, &spec, &library).unwrap();
    attach(alone.model().inner(), None, &spec, &library).unwrap();
    let steered = alone.generate(&longer, 8).await.unwrap().0;
    assert_eq!(
        complete(&longer).await,
        steered,
        "with an unsteered prefix in the cache"
    );
    assert_eq!(complete(&prompt).await, alone.generate(&prompt, 8).await.unwrap().0);
    alone.slot().remove();
    let unsteered = alone.generate(&longer, 8).await.unwrap().0;
    assert_ne!(steered, unsteered);

    // A hook that changes nothing shares the unsteered prefix: only the new tokens are computed.
    let recorder = Recorder::new(4);
    slot.install(recorder.clone()).unwrap();
    assert_eq!(complete(&longer).await, unsteered, "with steered prefixes in the cache");
    let first = recorder.take().passes[0][0].clone();
    assert_eq!(
        (first.start, first.tokens(), first.prompt_len),
        (prompt.len(), 3, longer.len())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_unloaded_comes_back_steered() {
    let reference = Reference::load("tiny-llama");
    let session = load("tiny-llama").await;
    let engine = session.model().inner();
    let mut library = Library::default();
    library.insert("test", reference_vector("tiny-llama")).unwrap();
    let spec: SteeringSpec = VectorUse::new("test", 1.0).unnormalized().at_layers([1]).into();
    attach(engine, None, &spec, &library).unwrap();
    let name = engine.list_models().unwrap().remove(0);
    engine.unload_model(&name).unwrap();
    assert!(!engine.is_model_loaded(&name).unwrap());
    engine.reload_model(&name).await.unwrap();
    engine.set_default_model_id(&name).unwrap();
    let (_, steps) = session.generate(&reference.prompts()[1], 8).await.unwrap();
    assert_rows_close(&steps, &reference.rows("p1.one.gen.logits"), "after a reload");
}
