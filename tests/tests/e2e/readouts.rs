//! Readouts of the stream: equal to transformers' values, whatever else runs, for every form of answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use half::f16;
use mistralrs::ModelDType;
use serde_json::{Value, json};
use steermap_examples::server::event_data;
use steermap_examples::traffic::client::{Client, merged};
use steermap_mapper::device::DeviceChoice;
use steermap_mapper::session::{ModelSource, Session};
use steermap_plugin::spec::{ReadPhase, Readout, ReadoutMeasure, StateDtype, StatePositions, States};
use steermap_plugin::{Library, RequestSteering, Steering, VectorUse};
use steermap_tests::fixture;
use steermap_tests::reference::{Reference, assert_close_within, assert_rows_close_within};
use steermap_tests::vectors::reference_vector;
use tokio::task::JoinSet;

use super::operator::{TestServer, start, start_with_default};

/// In units of the largest value of a sequence. In these units transformers' passes with and without a cache differ by
/// up to 5e-6.
const TOLERANCE: f32 = 3e-5;

const PROMPT: &str = "Once upon a time there was a little girl named Lily.";

/// A request for all readouts: projections and cosines at every layer, and the states after layers 1 and 2.
fn all_of(layers: usize, steered: bool) -> RequestSteering {
    let readout = |layer: usize, of: ReadoutMeasure| Readout {
        of,
        ..Readout::projection("test", layer)
    };
    let readouts = (0..layers).flat_map(|layer| {
        [
            readout(layer, ReadoutMeasure::Projection),
            readout(layer, ReadoutMeasure::Cosine),
        ]
    });
    let base = if steered {
        RequestSteering::from(VectorUse::new("test", 1.0).unnormalized().at_layers([1]))
    } else {
        RequestSteering::default()
    };
    RequestSteering {
        readout: Some(readouts.collect()),
        states: Some(States {
            layers: vec![1, 2],
            positions: StatePositions::Phase(ReadPhase::Both),
            dtype: StateDtype::F32,
        }),
        ..base
    }
}

/// Compares readouts of prompts of three lengths, unsteered and steered, several of each at once: padded in the prompt,
/// batched in generation.
async fn readouts_of(model: &str) {
    let (reference, read) = (
        Reference::load(model),
        Arc::new(Reference::load(&format!("readouts-{model}"))),
    );
    let source = ModelSource {
        dtype: ModelDType::F32,
        device: DeviceChoice::Cpu,
        ..ModelSource::new(fixture(model).to_str().unwrap())
    };
    let session = Arc::new(Session::load(source).await.unwrap());
    let mut library = Library::default();
    library.insert("test", reference_vector(model)).unwrap();
    let steering = Steering::new(session.model().inner(), library).unwrap();
    let layers = reference.num_layers();
    // For some architectures the stream after the last block cannot be read.
    let seen = match steering.request(None, Some(&all_of(layers, false))) {
        Ok(_) => layers,
        Err(_) => layers - 1,
    };
    let mut running = JoinSet::new();
    for _ in 0..3 {
        for (index, prompt) in reference.prompts().into_iter().enumerate() {
            for steered in [false, true] {
                let request = steering.request(None, Some(&all_of(seen, steered))).unwrap();
                let (session, read, prompt) = (session.clone(), read.clone(), prompt.clone());
                running.spawn(async move {
                    request.scope(session.generate(&prompt, 8)).await.unwrap();
                    let name = format!("p{index}.{}", if steered { "one." } else { "" });
                    let reader = request.readings().unwrap().of_choice(0, 1).unwrap();
                    let chunk = reader.take_chunk();
                    let tokens = read.tokens(&format!("{name}tokens"));
                    // The last token is never fed to the model.
                    assert_eq!(chunk.ids, tokens[..tokens.len() - 1], "{name}");
                    assert_eq!((chunk.first, chunk.truncated), (0, false));
                    for layer in 0..seen {
                        for (offset, of) in ["projection", "cosine"].into_iter().enumerate() {
                            let what = format!("{name}{of}.{layer}");
                            let found = &chunk.values[2 * layer + offset];
                            assert_close_within(TOLERANCE, found, &read.vector(&what), &what);
                        }
                    }
                    for (layer, (positions, values)) in [1, 2].into_iter().zip(&chunk.states) {
                        let what = format!("{name}states.{layer}");
                        let expected = read.rows(&what);
                        assert_eq!(*positions, (0..expected.len()).collect::<Vec<_>>());
                        let rows: Vec<Vec<f32>> = values.chunks(expected[0].len()).map(<[f32]>::to_vec).collect();
                        assert_rows_close_within(TOLERANCE, &rows, &expected, &what);
                    }
                });
            }
        }
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readouts_of_llama_equal_transformers() {
    readouts_of("tiny-llama").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readouts_of_gemma_equal_transformers() {
    readouts_of("tiny-gemma3").await;
}

/// Readouts of three vectors of the server. The second is read at generated tokens only, the third through a map.
fn readouts() -> Value {
    json!([
        {"vector": "one", "layer": 3},
        {"vector": "two", "layer": 4, "of": "cosine", "phase": "generation"},
        {"vector": "mood", "map": "across", "layer": 4, "phase": "prompt"},
    ])
}

fn ask(tested: &TestServer, more: &Value) -> Value {
    let body = json!({"model": tested.model, "prompt": PROMPT, "max_tokens": 12, "temperature": 0.0, "seed": 1});
    let reply = Client::new(tested.server.url())
        .post("/v1/completions", &merged(&body, more))
        .unwrap();
    reply.success().unwrap()
}

/// The events of a streamed answer.
fn events(tested: &TestServer, route: &str, body: &Value) -> Vec<Value> {
    let reply = Client::new(tested.server.url())
        .post(route, &merged(body, &json!({"stream": true})))
        .unwrap();
    assert_eq!(reply.status, 200, "{}", reply.body);
    event_data(&reply.body)
        .filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

fn tokens(readout: &Value) -> Vec<Value> {
    readout["tokens"].as_array().cloned().unwrap_or_default()
}

#[test]
fn each_token_is_reported_with_its_text_and_place() {
    let tested = start(None, "", &[]);
    let answer = ask(&tested, &json!({"steering": {"readout": readouts()}}));
    let choice = &answer["choices"][0];
    let told = tokens(&choice["readout"]);
    let (prompt, generated): (Vec<&Value>, Vec<&Value>) = told.iter().partition(|token| token["phase"] == "prompt");
    assert_eq!(prompt.len() as u64, answer["usage"]["prompt_tokens"].as_u64().unwrap());
    assert_eq!(
        generated.len() as u64 + 1,
        answer["usage"]["completion_tokens"].as_u64().unwrap()
    );
    for (position, token) in told.iter().enumerate() {
        assert_eq!(token["position"], position);
        let [first, second, third] = [0, 1, 2].map(|index| token["values"][index].as_f64());
        let in_prompt = token["phase"] == "prompt";
        assert!(
            first.is_some() && second.is_some() != in_prompt && third.is_some() == in_prompt,
            "{token}"
        );
        assert!(second.is_none_or(|cosine| cosine.abs() <= 1.0));
    }
    // The texts join to the prompt and to the answer, and state their place in them.
    for (tokens, whole) in [(prompt, PROMPT), (generated, choice["text"].as_str().unwrap())] {
        let text: String = tokens.iter().map(|token| token["token"].as_str().unwrap()).collect();
        for token in &tokens {
            let [start, end] = [0, 1].map(|index| token["bytes"][index].as_u64().unwrap() as usize);
            assert_eq!(&text[start..end], token["token"].as_str().unwrap());
        }
        let text = text.trim_start_matches("<s>").trim_start();
        assert!(
            text == whole || whole.trim_start().starts_with(text),
            "{text:?}, {whole:?}"
        );
    }
    // Readouts without steering do not change the answer.
    let plain = ask(&tested, &json!({}));
    assert_eq!(plain["choices"][0]["text"], choice["text"]);
    assert!(plain["choices"][0].get("readout").is_none() && answer["usage"].get("steering").is_none());
}

#[test]
fn a_stream_sends_each_number_once_and_early() {
    let tested = start(None, "", &[]);
    // Long, so that on any machine some of it is sent before the rest is known. (The bias excludes both tokens that end
    // a text.)
    let more = json!({"max_tokens": 300, "logit_bias": {"0": -100, "2": -100}, "steering": {"readout": readouts()}});
    let whole = ask(&tested, &more);
    let body = json!({"model": tested.model, "prompt": PROMPT, "temperature": 0.0});
    let events = events(&tested, "/v1/completions", &merged(&body, &more));
    let told: Vec<Vec<Value>> = events
        .iter()
        .map(|event| tokens(&event["choices"][0]["readout"]))
        .collect();
    assert_eq!(told.concat(), tokens(&whole["choices"][0]["readout"]));
    // The prompt comes with the first event, then a token at a time.
    let prompt = whole["usage"]["prompt_tokens"].as_u64().unwrap() as usize;
    assert!(told[0].len() >= prompt);
    assert!(told.iter().filter(|told| !told.is_empty()).count() > 3, "{told:?}");
}

#[test]
fn chats_responses_and_several_answers_are_distinguished() {
    let tested = start(None, "", &[]);
    let client = Client::new(tested.server.url());
    let readout = json!({"readout": [{"vector": "one", "layer": 3}]});
    let steered = json!({"vectors": [{"vector": "two", "scale": 20.0, "layers": [1]}], "readout": readout["readout"]});

    // Several prompts, and several answers to each.
    let prompts = [PROMPT, "The dog ran to the", "A big red ball"];
    let several = ask(&tested, &json!({"prompt": prompts, "n": 2, "steering": readout}));
    let choices = several["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 6);
    for choice in choices {
        let prompt = prompts[choice["index"].as_u64().unwrap() as usize / 2];
        let alone = ask(&tested, &json!({"prompt": prompt, "steering": readout}));
        let (found, expected) = (tokens(&choice["readout"]), tokens(&alone["choices"][0]["readout"]));
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(
                (&found["token"], &found["position"]),
                (&expected["token"], &expected["position"])
            );
            let [a, b] = [found, expected].map(|token| token["values"][0].as_f64().unwrap());
            assert!((a - b).abs() < 1e-3, "{a} {b}");
        }
    }

    let chat = json!({"model": tested.model, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 6,
        "temperature": 0.0, "steering": steered});
    let whole = client.post("/v1/chat/completions", &chat).unwrap().success().unwrap();
    let expected = tokens(&whole["choices"][0]["readout"]);
    assert!(expected.len() > 10);
    let told: Vec<Vec<Value>> = events(&tested, "/v1/chat/completions", &chat)
        .iter()
        .map(|event| tokens(&event["choices"][0]["readout"]))
        .collect();
    assert_eq!(told.concat(), expected);

    let response = json!({"model": tested.model, "input": PROMPT, "max_output_tokens": 6, "temperature": 0.0,
        "steering": steered});
    let whole = client.post("/v1/responses", &response).unwrap().success().unwrap();
    let expected = tokens(&whole["readout"]);
    assert!(expected.len() > 10, "{whole}");
    let events = events(&tested, "/v1/responses", &response);
    let told = events.iter().map(|event| {
        let at = if event["response"].is_object() {
            &event["response"]["readout"]
        } else {
            &event["readout"]
        };
        tokens(at)
    });
    assert_eq!(told.collect::<Vec<_>>().concat(), expected);
}

/// A prefix cache holds keys and values, not states. A cached prompt is computed again if it is read, and not if only
/// generated tokens are read.
#[test]
fn cached_prompts_are_read_too() {
    let settings = "";
    let tested = start_with_default(20.0, None, settings);
    let long = format!("{PROMPT} She liked to play in the park with her dog");
    let generated = json!([{"vector": "one", "layer": 3, "phase": "generation"}]);
    let read = |prompt: &str, readouts: &Value| {
        let answer = ask(&tested, &json!({"prompt": prompt, "steering": {"readout": readouts}}));
        tokens(&answer["choices"][0]["readout"])
    };
    let first = read(&long, &readouts());
    // Now the cache has it, twice.
    for _ in 0..2 {
        let again = read(&long, &readouts());
        assert_eq!(again.len(), first.len());
        for (a, b) in again.iter().zip(&first) {
            for (a, b) in a["values"]
                .as_array()
                .unwrap()
                .iter()
                .zip(b["values"].as_array().unwrap())
            {
                assert_eq!(a.is_null(), b.is_null());
                assert!(
                    (a.as_f64().unwrap_or(0.0) - b.as_f64().unwrap_or(0.0)).abs() < 1e-3,
                    "{a} {b}"
                );
            }
        }
        let rest = read(&long, &generated);
        let expected: Vec<&Value> = first.iter().filter(|token| token["phase"] == "generation").collect();
        assert_eq!(rest.len(), expected.len());
        for (a, b) in rest.iter().zip(expected) {
            assert_eq!(a["position"], b["position"]);
            assert!((a["values"][0].as_f64().unwrap() - b["values"][0].as_f64().unwrap()).abs() < 1e-3);
        }
    }
}

fn floats(states: &Value, dtype: &str) -> Vec<f32> {
    let bytes = STANDARD.decode(states[dtype].as_str().unwrap()).unwrap();
    match dtype {
        "f32" => bytes.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)).collect(),
        _ => bytes
            .as_chunks()
            .0
            .iter()
            .map(|x| f16::from_le_bytes(*x).to_f32())
            .collect(),
    }
}

#[test]
fn states_are_sent_if_allowed_and_within_the_byte_limit() {
    let tested = start(None, "\n[steering.reading]\nstates = true\nbytes = 20000\n", &[]);
    let states = |positions: Value, dtype: &str| json!({"layers": [3, 5], "positions": positions, "dtype": dtype});
    let asked = |states: Value| {
        let answer = ask(
            &tested,
            &json!({"steering": {"states": states, "readout": [{"vector": "one", "layer": 3}]}}),
        );
        answer["choices"][0]["readout"].clone()
    };
    let readout = asked(states(json!([0, -1]), "f32"));
    let prompt = readout["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|token| token["phase"] == "prompt")
        .count();
    let of_layer: BTreeMap<u64, Value> = readout["states"]
        .as_array()
        .unwrap()
        .iter()
        .map(|states| (states["layer"].as_u64().unwrap(), states.clone()))
        .collect();
    assert_eq!(of_layer.keys().copied().collect::<Vec<_>>(), [3, 5]);
    assert_eq!(of_layer[&3]["positions"], json!([0, prompt - 1]));
    let width = of_layer[&3]["shape"][1].as_u64().unwrap() as usize;
    let values = floats(&of_layer[&3], "f32");
    assert_eq!(values.len(), 2 * width);
    // Half as many bytes, and equal up to half precision.
    let halves = floats(&asked(states(json!([0, -1]), "f16"))["states"][0], "f16");
    assert!(
        values
            .iter()
            .zip(&halves)
            .all(|(a, b)| (a - b).abs() <= 1e-3 * (1.0 + a.abs()))
    );
    assert!(readout.get("truncated").is_none());
    // A state takes some hundred bytes, so not all fit, and this is reported.
    let all = asked(states(json!("all"), "f32"));
    assert_eq!(all["truncated"], true);
    let rows: u64 = all["states"]
        .as_array()
        .unwrap()
        .iter()
        .map(|states| states["shape"][0].as_u64().unwrap())
        .sum();
    assert!(rows * width as u64 * 4 <= 20_000 && rows > 2, "{rows}");
    // In a stream too they come once.
    let body = json!({"model": tested.model, "prompt": PROMPT, "max_tokens": 200, "temperature": 0.0,
        "logit_bias": {"0": -100, "2": -100}, "steering": {"readout": [{"vector": "one", "layer": 3}],
        "states": states(json!("all"), "f32")}});
    let told = events(&tested, "/v1/completions", &body);
    let told = told
        .iter()
        .filter(|event| event["choices"][0]["readout"]["truncated"] == true);
    assert!(told.count() >= 1);
    // A position beyond the prompt.
    let body = json!({"model": tested.model, "prompt": PROMPT, "max_tokens": 2,
        "steering": {"states": states(json!([99]), "f32")}});
    let refused = Client::new(tested.server.url()).post("/v1/completions", &body).unwrap();
    assert_eq!(refused.status, 422);
    assert!(
        refused
            .message()
            .starts_with("steering.states.positions[0]: found 99, expected one of the prompt's")
    );

    let closed = start(None, "", &[]);
    let body = merged(&body, &json!({"steering": {"states": states(json!([0]), "f32")}}));
    let refused = Client::new(closed.server.url()).post("/v1/completions", &body).unwrap();
    assert_eq!(
        (refused.status, refused.message().as_str()),
        (
            403,
            "steering.states: found states, expected no such key: the server's reading.states is false"
        )
    );
}
