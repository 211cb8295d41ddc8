//! Requests with different steering in one batch, through the SDK.

use mistralrs::ModelDType;
use mistralrs::core::{
    MultiModalFeature, NormalRequest, Request, RequestMessage, Response, SamplingParams, block_features,
    compute_block_hashes,
};
use residual_hooks::Admission;
use steermap_mapper::device::DeviceChoice;
use steermap_mapper::pairs::{Message, Text};
use steermap_mapper::session::{ModelSource, Session};
use steermap_plugin::spec::{Apply, Selection, Test, When, Where, Window};
use steermap_plugin::{Library, RequestSteering, Steering, VectorUse};
use steermap_tests::reference::{Reference, assert_rows_close};
use steermap_tests::run::steered_prompt_tokens;
use steermap_tests::vectors::reference_vector;
use steermap_tests::{change_json, copy_of, fixture, project};
use tokio::task::JoinSet;

async fn load() -> Session {
    let source = ModelSource {
        dtype: ModelDType::F32,
        device: DeviceChoice::Cpu,
        ..ModelSource::new(fixture("tiny-llama").to_str().unwrap())
    };
    Session::load(source).await.unwrap()
}

fn library() -> Library {
    let mut library = Library::default();
    library.insert("test", reference_vector("tiny-llama")).unwrap();
    library
}

fn asked(used: VectorUse) -> RequestSteering {
    used.into()
}

/// The unnormalised vector, added after these layers.
fn at(layers: impl IntoIterator<Item = usize>) -> VectorUse {
    VectorUse::new("test", 1.0).unnormalized().at_layers(layers)
}

/// Unsteered requests and three kinds of steered ones at once, each prompt several times: the logits of every step
/// equal transformers' for the same steering alone.
#[tokio::test(flavor = "multi_thread")]
async fn requests_of_one_batch_are_steered_independently() {
    let reference = std::sync::Arc::new(Reference::load("tiny-llama"));
    let session = std::sync::Arc::new(load().await);
    let steering = Steering::new(session.model().inner(), library()).unwrap();
    let layers = reference.num_layers();
    let scenarios = [
        ("gen.logits", None),
        ("one.gen.logits", Some(at([1]))),
        ("last.gen.logits", Some(at([layers - 1]))),
        ("all.gen.logits", Some(at(0..layers))),
    ];
    let mut running = JoinSet::new();
    for round in 0..3 {
        for (name, used) in &scenarios {
            for (i, prompt) in reference.prompts().into_iter().enumerate() {
                let field = used.clone().map(asked);
                let request = steering.request(None, field.as_ref()).unwrap();
                let (session, reference, name) = (session.clone(), reference.clone(), name.to_string());
                running.spawn(async move {
                    let (_, steps) = request.scope(session.generate(&prompt, 8)).await.unwrap();
                    let what = format!("round {round}, p{i}.{name}");
                    assert_rows_close(&steps, &reference.rows(&format!("p{i}.{name}")), &what);
                });
            }
        }
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
    let counted = steering.metrics().render();
    assert!(
        counted.contains("steering_vector_requests_total{vector=\"test\"} 27"),
        "{counted}"
    );
    // Of nine requests of each kind three are equal for each prompt: compiled once, then found in the cache twice.
    assert!(
        counted.contains("steering_program_cache_total{result=\"miss\"} 3"),
        "{counted}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn defaults_are_replaced_extended_and_switched_off() {
    let reference = Reference::load("tiny-llama");
    let session = load().await;
    let steering = Steering::new(session.model().inner(), library()).unwrap();
    let prompt = reference.prompts().remove(1);
    let answer = async |field: Option<RequestSteering>| {
        let request = steering.request(None, field.as_ref()).unwrap();
        request.scope(session.generate(&prompt, 8)).await.unwrap().1
    };
    let expect = |steps: &[Vec<f32>], name: &str, what: &str| {
        assert_rows_close(steps, &reference.rows(&format!("p1.{name}")), what);
    };
    expect(&answer(None).await, "gen.logits", "no default yet");
    steering.set_default(None, Some(at([1]).into())).unwrap();
    expect(&answer(None).await, "one.gen.logits", "the default");
    // Requests without a mark get the default too.
    expect(
        &session.generate(&prompt, 8).await.unwrap().1,
        "one.gen.logits",
        "outside a scope",
    );
    let last = reference.num_layers() - 1;
    expect(&answer(Some(asked(at([last])))).await, "last.gen.logits", "replaced");
    expect(&answer(Some(RequestSteering::off())).await, "gen.logits", "off");
    let others: Vec<usize> = (0..=last).filter(|layer| *layer != 1).collect();
    expect(
        &answer(Some(RequestSteering::extend(vec![at(others)]))).await,
        "all.gen.logits",
        "extended",
    );

    // An admitted request keeps its steering.
    let before = steering.request(None, None).unwrap();
    steering.set_default(None, None).unwrap();
    expect(
        &before.scope(session.generate(&prompt, 8)).await.unwrap().1,
        "one.gen.logits",
        "admitted before",
    );
    expect(&answer(None).await, "gen.logits", "taken away");
    assert_eq!(
        before.fingerprint(),
        steering.request(None, Some(&asked(at([1])))).unwrap().fingerprint()
    );

    // A request runs with its steering even if the handle that prepared it was dropped.
    let given_up = steering.request(None, Some(&asked(at([1])))).unwrap();
    let sender = given_up
        .scope(async { session.model().inner().get_sender(None).unwrap() })
        .await;
    drop(given_up);
    let (answers, mut received) = tokio::sync::mpsc::channel(1);
    let message = RequestMessage::CompletionTokens(prompt.clone());
    let sampling = SamplingParams {
        max_len: Some(8),
        ..SamplingParams::deterministic()
    };
    let request = NormalRequest::new_simple(message, sampling, answers, 0, None, None);
    sender.send(Request::Normal(Box::new(request))).await.unwrap();
    // The sender keeps it alive.
    let Some(Response::CompletionDone(done)) = received.recv().await else {
        panic!("a completion was expected");
    };
    let again = steering.request(None, Some(&asked(at([1])))).unwrap();
    let expected = again.scope(session.generate(&prompt, 8)).await.unwrap().0;
    assert_eq!(done.choices[0].text, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_decide_after_the_prompt() {
    let reference = Reference::load("tiny-llama");
    let session = load().await;
    let steering = Steering::new(session.model().inner(), library()).unwrap();
    let prompt = reference.prompts().remove(2);
    let answer = async |used: VectorUse| {
        let request = steering.request(None, Some(&asked(used))).unwrap();
        request.scope(session.generate(&prompt, 8)).await.unwrap().1
    };
    // From the first generated token on, and from the choice of the second on.
    let generated = answer(at([2]).apply(Apply::generation(Where::All))).await;
    let second = Selection {
        windows: Some(vec![Window { start: 0, end: None }]),
        ..Selection::default()
    };
    let from_the_second = answer(at([2]).apply(Apply::generation(second))).await;
    let plain = reference.rows("p2.gen.logits");
    assert_rows_close(&from_the_second[..1], &plain[..1], "the prompt is as it was");
    // The same as steering the prompt's last token too.
    let last = Selection {
        positions: Some(vec![-1]),
        ..Selection::default()
    };
    let both = Apply {
        prompt: Some(last.into()),
        generation: Some(Where::All),
    };
    assert_rows_close(
        &generated,
        &answer(at([2]).apply(both)).await,
        "from the first token on",
    );
    assert!(generated[0].iter().zip(&plain[0]).any(|(a, b)| (a - b).abs() > 0.01));

    // Transformers' states determine on which side of a threshold the prompt is.
    let states = reference.rows("p2.h.1");
    let direction = reference.vector("vector.1");
    let norm = direction.iter().map(|x| x * x).sum::<f32>().sqrt();
    let along = |state: &[f32]| state.iter().zip(&direction).map(|(h, v)| h * v).sum::<f32>() / norm;
    let last = f64::from(along(states.last().unwrap()));
    let mean = f64::from(states.iter().map(|state| along(state)).sum::<f32>() / states.len() as f32);
    for (of_mean, value) in [(false, last), (true, mean)] {
        for (above, threshold, met) in [
            (true, value - 0.01, true),
            (true, value + 0.01, false),
            (false, value - 0.01, false),
            (false, value + 0.01, true),
        ] {
            let test = if above {
                Test::above("test", 1, threshold)
            } else {
                Test::below("test", 1, threshold)
            };
            let when = When::from(if of_mean { test.mean() } else { test });
            let steps = answer(at([2]).when(when)).await;
            let expected = if met { &generated } else { &plain };
            assert_rows_close(&steps, expected, &format!("mean {of_mean}, above {above}, met {met}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_steering_leaves_a_model_that_serves_unsteered() {
    let reference = Reference::load("tiny-llama");
    let session = load().await;
    let prompt = reference.prompts().remove(1);
    let steering = Steering::new(session.model().inner(), library()).unwrap();
    steering.set_default(None, Some(at([1]).into())).unwrap();
    let request = steering.request(None, Some(&asked(at([1])))).unwrap();
    drop(steering);
    // A prepared request is steered all the same, every time it is sent.
    for _ in 0..100 {
        let steered = request.scope(session.generate(&prompt, 2)).await.unwrap().1;
        assert_rows_close(&steered, &reference.rows("p1.one.gen.logits")[..2], "prepared before");
    }
    drop(request);
    let plain = session.generate(&prompt, 8).await.unwrap().1;
    assert_rows_close(&plain, &reference.rows("p1.gen.logits"), "dropped");
    // Another steering replaces it.
    let steering = Steering::new(session.model().inner(), library()).unwrap();
    let request = steering.request(None, Some(&asked(at([1])))).unwrap();
    let steered = request.scope(session.generate(&prompt, 8)).await.unwrap().1;
    assert_rows_close(&steered, &reference.rows("p1.one.gen.logits"), "steered anew");
}

/// Prefix caching as in a server: the number of computed prompt tokens shows what each request shares.
#[tokio::test(flavor = "multi_thread")]
async fn prefixes_are_shared_as_far_as_steering_allows() {
    let reference = Reference::load("tiny-llama");
    let model = mistralrs::ModelBuilder::new(fixture("tiny-llama").to_str().unwrap())
        .with_dtype(ModelDType::F32)
        .with_force_cpu()
        .with_prefix_cache_n(Some(16))
        .build()
        .await
        .unwrap();
    let steering = Steering::new(model.inner(), library()).unwrap();
    let steered_prompt_tokens = || steered_prompt_tokens(&steering.metrics().render());
    let complete = async |used: Option<VectorUse>, tokens: &[u32]| {
        let field = used.map_or(RequestSteering::off(), asked);
        let request = steering.request(None, Some(&field)).unwrap();
        let send = async {
            let (sender, mut answers) = tokio::sync::mpsc::channel(1);
            let sampling = SamplingParams {
                max_len: Some(6),
                ..SamplingParams::deterministic()
            };
            let message = RequestMessage::CompletionTokens(tokens.to_vec());
            let request = NormalRequest::new_simple(message, sampling, sender, 0, None, None);
            let engine = model.inner().get_sender(None).unwrap();
            engine.send(Request::Normal(Box::new(request))).await.unwrap();
            match answers.recv().await {
                Some(Response::CompletionDone(done)) => done.choices[0].text.clone(),
                Some(Response::ValidationError(error)) => panic!("{error}"),
                _ => panic!("a completion was expected"),
            }
        };
        let before = steered_prompt_tokens();
        let text = request.scope(send).await;
        (text, steered_prompt_tokens() - before)
    };
    let prompt = reference.prompts().remove(2);
    let longer = [prompt.as_slice(), &prompt[..3]].concat();
    let long = longer.len() as u64;
    let solo = load().await;
    let alone = Steering::new(solo.model().inner(), library()).unwrap();
    let expected = async |used: Option<VectorUse>, tokens: &[u32]| {
        let field = used.map_or(RequestSteering::off(), asked);
        let request = alone.request(None, Some(&field)).unwrap();
        request.scope(solo.generate(tokens, 6)).await.unwrap().0
    };

    // Steered everywhere: nothing from the unsteered prefix, all of an equal one's.
    complete(None, &prompt).await;
    let (text, computed) = complete(Some(at([1])), &longer).await;
    assert_eq!((text, computed), (expected(Some(at([1])), &longer).await, long));
    let further = [longer.as_slice(), &prompt[..2]].concat();
    let (text, computed) = complete(Some(at([1])), &further).await;
    assert_eq!((text, computed), (expected(Some(at([1])), &further).await, 2));
    // Counted from the end of the prompt: only the last token is steered, and no prefix of another length is used.
    let last = || {
        at([1]).apply(Apply::prompt(Where::Only(
            serde_json::from_str(r#"{"windows": [[-2]]}"#).unwrap(),
        )))
    };
    for tokens in [&prompt, &longer, &further, &longer] {
        let (text, _) = complete(Some(last()), tokens).await;
        assert_eq!(text, expected(Some(last()), tokens).await);
    }
    // Generated tokens from the choice of the first on: the prompt's last token is steered, which is computed again.
    let generated = || at([2]).apply(Apply::generation(Where::All));
    let (text, computed) = complete(Some(generated()), &longer).await;
    assert_eq!((text, computed), (expected(Some(generated()), &longer).await, 1));
    // From the second on: the unsteered prompt is shared in both directions, the generated tokens in neither.
    let second = || Where::Only(serde_json::from_str(r#"{"windows": [[0]]}"#).unwrap());
    let generated = || at([2]).apply(Apply::generation(second()));
    let (text, computed) = complete(Some(generated()), &longer).await;
    assert_eq!((text, computed), (expected(Some(generated()), &longer).await, 0));
    let (text, _) = complete(None, &further).await;
    assert_eq!(text, expected(None, &further).await);
}

/// Paged attention finds blocks by their hashes: requests with equal salts share them, others do not, and blocks with
/// generated tokens of other steering are not shared.
#[test]
fn block_hashes_follow_the_admission() {
    let tokens: Vec<u32> = (0..16).collect();
    let hashes = |admission: &Admission, id| {
        let image = MultiModalFeature {
            identifier: "img:1".into(),
            offset: 0,
            length: 2,
        };
        let features = block_features(&[image], admission, id);
        compute_block_hashes(&tokens, 4, &features, &[])
    };
    let plain = Admission::default();
    let salts = |salts: &[(usize, u64)]| Admission {
        salts: salts.into(),
        ..Admission::default()
    };
    let salted = |salt| salts(&[(0, salt)]);
    let prompt_only = Admission {
        own_from: Some(8),
        ..Admission::default()
    };
    let unread = Admission {
        read_cache: false,
        ..Admission::default()
    };
    assert_eq!(hashes(&plain, 1), hashes(&plain, 2));
    assert_eq!(hashes(&salted(5), 1), hashes(&salted(5), 2));
    assert!(
        hashes(&salted(5), 1)
            .iter()
            .zip(hashes(&salted(6), 1))
            .all(|(a, b)| *a != b)
    );
    assert!(
        hashes(&salted(5), 1)
            .iter()
            .zip(hashes(&plain, 1))
            .all(|(a, b)| *a != b)
    );
    // The prompt's two blocks are the unsteered ones; later blocks belong to this sequence alone.
    assert_eq!(hashes(&prompt_only, 1)[..2], hashes(&plain, 1)[..2]);
    assert!(
        hashes(&prompt_only, 1)[2..]
            .iter()
            .zip(&hashes(&prompt_only, 2)[2..])
            .all(|(a, b)| a != b)
    );
    assert!(
        hashes(&prompt_only, 1)[2..]
            .iter()
            .zip(&hashes(&plain, 1)[2..])
            .all(|(a, b)| a != b)
    );
    assert!(hashes(&unread, 1).iter().zip(hashes(&unread, 2)).all(|(a, b)| *a != b));
    // A hook that changes nothing before position 9 shares the two blocks before it.
    let from = salts(&[(9, 5)]);
    assert_eq!(hashes(&from, 1)[..2], hashes(&plain, 1)[..2]);
    assert_ne!(hashes(&from, 1)[2], hashes(&plain, 1)[2]);
    // The beginning and end of a change count within a block as well.
    let all = [&[(9, 5)][..], &[(10, 5)], &[(9, 5), (10, 0)], &[(9, 5), (11, 0)]];
    let thirds: std::collections::HashSet<_> = all.iter().map(|list| hashes(&salts(list), 1)[2]).collect();
    assert_eq!(thirds.len(), all.len());
    // A continued conversation shares the blocks before its steering differs.
    let more = salts(&[(9, 5), (10, 0), (13, 5)]);
    assert_eq!(hashes(&more, 1)[..3], hashes(&salts(&[(9, 5), (10, 0)]), 2)[..3]);
    assert_ne!(hashes(&more, 1)[3], hashes(&salts(&[(9, 5), (10, 0)]), 2)[3]);
    // A change that begins within an image counts from the image's first token on.
    assert_ne!(hashes(&salts(&[(1, 5)]), 1)[0], hashes(&plain, 1)[0]);
    // The image itself counts, however often something changes within it.
    let changes: Vec<(usize, u64)> = (1..100).map(|from| (from, from as u64 % 2)).collect();
    let of_image = |name: &str| {
        let image = MultiModalFeature {
            identifier: name.into(),
            offset: 0,
            length: 100,
        };
        let features = block_features(&[image], &salts(&changes), 1);
        compute_block_hashes(&[7; 128], 32, &features, &[])
    };
    assert!(of_image("img:1").iter().zip(of_image("img:2")).all(|(a, b)| *a != b));
}

/// Many chat templates write the BOS token that the tokenizer adds too; models were trained with one.
#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_writes_bos_gets_no_second_one() {
    let plain = project("examples/family/stories-3m");
    let dir = tempfile::tempdir().unwrap();
    let writes = copy_of(&plain, dir.path());
    change_json(&writes.join("tokenizer_config.json"), |config| {
        let template = config["chat_template"].as_str().unwrap();
        config["chat_template"] = format!("{{{{ bos_token }}}}{template}").into();
    });
    let chat = Text::Chat(vec![Message {
        role: "user".to_string(),
        content: "Once there was a cat.".to_string(),
    }]);
    let mut tokens = Vec::new();
    for model in [&plain, &writes] {
        let source = ModelSource {
            dtype: ModelDType::F32,
            device: DeviceChoice::Cpu,
            ..ModelSource::new(model.to_str().unwrap())
        };
        let session = Session::load(source).await.unwrap();
        tokens.push(session.tokenize(&chat).await.unwrap());
    }
    assert_eq!(tokens[0], tokens[1]);
    assert_eq!(
        tokens[0].iter().filter(|token| **token == 0).count(),
        1,
        "{:?}",
        tokens[0]
    );
}
