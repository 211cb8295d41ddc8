//! Sliding-window attention past its window, against Hugging Face transformers (tests/fixtures/make_windows.py): in one
//! pass, step by step, in batches, from cached prefixes, and through the server.

use std::sync::Arc;

use mistralrs::ModelDType;
use residual_hooks::Phase;
use steermap_examples::server::Server;
use steermap_mapper::device::DeviceChoice;
use steermap_mapper::session::{ModelSource, Session};
use steermap_tests::cached::{caching, generate};
use steermap_tests::fixture;
use steermap_tests::hooks::Recorder;
use steermap_tests::reference::{Reference, assert_close_within, assert_rows_close_within};
use tokio::task::JoinSet;

/// In units of a row's largest value. Positions reach 290, and float32 has a precision of 3e-5 for a rotary angle of
/// 290: changing the last bit of the rotary frequencies moves transformers' own values by up to 1.1e-5. A window that
/// is wrong by one position moves logits by more than 5e-3 at the compared positions that it affects.
const TOLERANCE: f32 = 3e-5;

/// A text several times as long as the model's window, and continuations of its beginnings.
struct Windows {
    model: &'static str,
    reference: Reference,
    window: usize,
    text: Vec<u32>,
    /// The lengths of the beginnings that have a continuation.
    starts: Vec<usize>,
    /// Length of a continuation.
    generated: usize,
}

/// A request: the prompt is the first `start` tokens of the text and the first `given` tokens of their continuation,
/// and the answer is `count` more tokens.
#[derive(Clone, Copy, Debug)]
struct WindowRequest {
    start: usize,
    given: usize,
    count: usize,
}

impl Windows {
    fn load(model: &'static str) -> Self {
        let reference = Reference::load(&format!("windows-{model}"));
        let numbers = |name: &str| -> Vec<usize> { reference.tokens(name).iter().map(|&n| n as usize).collect() };
        let (window, starts) = (numbers("window")[0], numbers("starts"));
        Self {
            model,
            window,
            text: reference.tokens("tokens"),
            generated: reference.tokens(&format!("gen.{}.tokens", starts[0])).len(),
            starts,
            reference,
        }
    }

    /// A beginning of the text, with its whole continuation as the answer.
    fn whole(&self, start: usize) -> WindowRequest {
        WindowRequest {
            start,
            given: 0,
            count: self.generated,
        }
    }

    fn prompt(&self, ask: WindowRequest) -> Vec<u32> {
        let continuation = self.reference.tokens(&format!("gen.{}.tokens", ask.start));
        [&self.text[..ask.start], &continuation[..ask.given]].concat()
    }

    fn answer(&self, ask: WindowRequest) -> String {
        let continuation = self.reference.tokens(&format!("gen.{}.tokens", ask.start));
        let text = string(&continuation[ask.given..ask.given + ask.count]);
        // The engine trims its answers.
        text.trim_start().to_string()
    }

    fn check(&self, ask: WindowRequest, (text, steps): &(String, Vec<Vec<f32>>)) {
        let what = format!("{} {ask:?}", self.model);
        let logits = self.reference.rows(&format!("gen.{}.logits", ask.start));
        let expected = &logits[ask.given..ask.given + ask.count];
        assert_rows_close_within(TOLERANCE, steps, expected, &what);
        assert_eq!(*text, self.answer(ask), "{what}");
    }

    /// Prompts that extend, shorten and repeat earlier ones, on both sides of the window and across it.
    fn asks(&self) -> Vec<WindowRequest> {
        let ask = |start, given, count| WindowRequest { start, given, count };
        let starts = || self.starts.iter().copied();
        let mut asks = Vec::new();
        // Each prompt continues the cached one before; after one generated token only the prompt is cached.
        asks.extend(starts().map(|start| ask(start, 0, 1)));
        // Each is shorter than the cached one.
        asks.extend(starts().rev().map(|start| self.whole(start)));
        asks.extend(starts().flat_map(|start| [self.whole(start); 2]));
        // The next turn of a conversation: the prompt contains the answer before and continues.
        asks.extend(starts().flat_map(|start| [ask(start, 0, 8), ask(start, 11, self.generated - 11)]));
        asks
    }
}

/// The text of tokens, which are bytes.
fn string(tokens: &[u32]) -> String {
    let character = |&token: &u32| char::from(u8::try_from(token).expect("no special token"));
    tokens.iter().map(character).collect()
}

async fn session(model: &str) -> Session {
    let source = ModelSource {
        dtype: ModelDType::F32,
        device: DeviceChoice::Cpu,
        ..ModelSource::new(fixture(model).to_str().unwrap())
    };
    Session::load(source).await.unwrap()
}

/// States of every layer, and logits, of the whole text in one pass.
async fn in_one_pass(model: &'static str) {
    let windows = Windows::load(model);
    let session = session(model).await;
    let layers = session.slot().stream().unwrap().num_layers;
    let recorder = Recorder::new(layers);
    session.slot().install(recorder.clone()).unwrap();
    let logits = session.prompt_logits(&windows.text).await.unwrap();
    let seen = recorder.take();
    let positions = windows.reference.tokens("positions");
    let compare = |found: &[Vec<f32>], name: &str| {
        let expected = windows.reference.rows(name);
        for (&position, expected) in positions.iter().zip(&expected) {
            let what = format!("{model} {name}, position {position}");
            assert_close_within(TOLERANCE, &found[position as usize], expected, &what);
        }
    };
    for layer in 0..layers {
        let states = seen.first(seen.last_request(), layer, windows.text.len());
        compare(&states, &format!("h.{layer}"));
    }
    compare(&logits, "logits");
}

/// Generation that begins before the window is full, when it is full, and after.
async fn step_by_step(model: &'static str) {
    let windows = Windows::load(model);
    let session = session(model).await;
    for &start in &windows.starts {
        let ask = windows.whole(start);
        let answer = session.generate(&windows.prompt(ask), ask.count).await.unwrap();
        windows.check(ask, &answer);
    }
}

/// Models whose sequences are decoded in one batch for all lengths; with others, short sequences catch up first.
const PADDED: [&str; 4] = ["tiny-gemma2", "tiny-gemma3", "tiny-mistral", "tiny-qwen2"];

/// Several sequences at a time. Prompts of one length and different texts are one batch, in the prompt and in
/// generation. Prompts of different lengths are one batch in generation only, with the shorter ones padded.
async fn in_batches(model: &'static str) {
    let windows = Windows::load(model);
    let session = Arc::new(session(model).await);
    let recorder = Recorder::new(1);
    session.slot().install(recorder.clone()).unwrap();
    let mut groups = vec![windows.starts.iter().map(|&start| windows.whole(start)).collect()];
    for &length in &windows.starts {
        let begun = windows.starts.iter().filter(|&&start| start <= length);
        let ask = |&start: &usize| WindowRequest {
            start,
            given: length - start,
            count: (windows.generated + start).saturating_sub(length),
        };
        groups.push(begun.map(ask).filter(|ask| ask.count > 0).collect::<Vec<_>>());
    }
    for asks in groups {
        let mut running = JoinSet::new();
        for ask in asks {
            let (session, prompt) = (session.clone(), windows.prompt(ask));
            running.spawn(async move { (ask, session.generate(&prompt, ask.count).await.unwrap()) });
        }
        while let Some(done) = running.join_next().await {
            let (ask, answer) = done.unwrap();
            windows.check(ask, &answer);
        }
    }
    let passes = recorder.take().passes;
    for phase in [Phase::Prompt, Phase::Generation] {
        let far = |rows: &Vec<residual_hooks::Row>| {
            rows.len() > 1 && rows[0].phase == phase && rows[0].start + rows[0].tokens() > windows.window
        };
        assert!(passes.iter().any(far), "{model}: no batch past the window ({phase:?})");
    }
    let unequal = |rows: &Vec<residual_hooks::Row>| {
        rows[0].phase == Phase::Generation && rows.iter().any(|row| row.start != rows[0].start)
    };
    let padded = passes.iter().any(unequal);
    assert_eq!(
        padded,
        PADDED.contains(&model),
        "{model}: sequences of several lengths in one batch"
    );
}

/// Prompts that continue from cached prefixes of others.
async fn from_cached_prefixes(model: &'static str) {
    let windows = Windows::load(model);
    let engine = caching(&fixture(model)).await;
    let recorder = Recorder::new(1);
    let slot = steermap_plugin::attach::slot(engine.inner(), None).unwrap();
    slot.install(recorder.clone()).unwrap();
    for ask in windows.asks() {
        let answer = generate(&engine, windows.prompt(ask), ask.count).await;
        windows.check(ask, &answer);
    }
    let passes = recorder.take().passes;
    let far = |row: &residual_hooks::Row| row.phase == Phase::Prompt && row.start > windows.window && row.tokens() > 1;
    assert!(
        passes.iter().flatten().any(far),
        "{model}: no prompt continued a prefix longer than the window"
    );
}

/// The same prompts as text, over HTTP; then all beginnings at once.
fn through_the_server(model: &'static str) {
    let windows = Windows::load(model);
    let dir = tempfile::tempdir().unwrap();
    let folder = fixture(model).to_str().unwrap().to_string();
    // mistral.rs loads all Gemma 3 models as multimodal ones.
    let kind = if model == "tiny-gemma3" { "multimodal" } else { "text" };
    let config = format!(
        "[runtime]\nprefix_cache_n = 16\n\
         [[models]]\nkind = \"{kind}\"\nmodel_id = \"{folder}\"\ndtype = \"f32\"\ndevice = {{ cpu = true }}\n"
    );
    let server = Server::start(dir.path(), &config).unwrap();
    let check = |ask: WindowRequest| {
        let prompt = string(&windows.prompt(ask));
        let text = server.complete(&folder, &prompt, ask.count).unwrap();
        assert_eq!(text, windows.answer(ask), "{model} {ask:?}");
    };
    for ask in windows.asks() {
        check(ask);
    }
    let check = &check;
    std::thread::scope(|scope| {
        for &start in &windows.starts {
            let ask = windows.whole(start);
            scope.spawn(move || check(ask));
        }
    });
}

macro_rules! past_the_window {
    ($($name:ident = $model:literal;)*) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread")]
            async fn in_one_pass() {
                super::in_one_pass($model).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn step_by_step() {
                super::step_by_step($model).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn in_batches() {
                super::in_batches($model).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn from_cached_prefixes() {
                super::from_cached_prefixes($model).await;
            }

            #[test]
            fn through_the_server() {
                super::through_the_server($model);
            }
        }
    )*};
}

// Windows in every second layer; in all but the last of six; in all; in all; in the last two of four.
past_the_window! {
    gemma2 = "tiny-gemma2";
    gpt_oss = "tiny-gpt-oss";
    gemma3 = "tiny-gemma3";
    mistral = "tiny-mistral";
    phi3 = "tiny-phi3";
    qwen2 = "tiny-qwen2";
}
