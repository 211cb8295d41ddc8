//! No request harms another: each known way to do so is tried on the real server, beside ordinary requests.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use steermap_examples::memory::resident;
use steermap_examples::server::{Server, agent, event_data};
use steermap_examples::traffic::served::{Served, Settings};
use steermap_tests::{fixture, project, with_keys};
use tempfile::TempDir;

use crate::operator::CONTROL;

/// A server of stories-3m with its vectors, and the name of the model.
struct TestServer {
    server: Server,
    model: String,
    _folder: TempDir,
}

impl TestServer {
    fn start(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let served = Served::prepare(&project(""), folder.path()).unwrap();
        let settings = Settings {
            prefix_cache: true,
            ..Settings::default()
        };
        let config = format!("{}{more}", served.config(&settings));
        Self {
            server: Server::start(folder.path(), &config).unwrap(),
            model: served.model,
            _folder: folder,
        }
    }

    /// The answer to a completion of `body`.
    fn ask(&self, body: Value) -> (u16, String) {
        let mut body = body;
        body["model"] = json!(self.model);
        self.server.post("/v1/completions", &body).unwrap()
    }

    /// The text of a greedy answer.
    fn text(&self, prompt: &str, max_tokens: usize) -> String {
        let (status, body) = self.ask(json!({"prompt": prompt, "max_tokens": max_tokens, "temperature": 0}));
        assert_eq!(status, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        answer["choices"][0]["text"].as_str().unwrap().to_string()
    }

    fn panicked(&self) -> bool {
        let said = |line: &str| (line.contains("panicked") || line.contains("rebooting")).then_some(());
        self.server.logged(0, Duration::ZERO, said).is_some()
    }
}

/// Sends all requests concurrently, and returns the answers in their order.
fn together(tested: &TestServer, bodies: Vec<Value>) -> Vec<(u16, String)> {
    std::thread::scope(|scope| {
        let asked: Vec<_> = bodies
            .into_iter()
            .map(|body| scope.spawn(|| tested.ask(body)))
            .collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    })
}

/// Prompts of one length, so that they run in one batch.
fn prompts() -> Vec<String> {
    let names = [
        "Tim", "Sam", "Ben", "Max", "Tom", "Lily", "Anna", "Mia", "Sue", "Jack", "Bob", "Amy", "Kim", "Joe", "Ann",
    ];
    let names = names
        .iter()
        .map(|name| format!("One day {name} went to the park with a red ball and saw a big dog."));
    names.collect()
}

#[test]
fn a_failing_row_fails_alone_and_leaves_nothing_in_the_cache() {
    let tested = TestServer::start("");
    let prompts = prompts();
    let alone: Vec<String> = prompts.iter().map(|prompt| tested.text(prompt, 40)).collect();
    let body = |prompt: &String| json!({"prompt": prompt, "max_tokens": 40, "temperature": 0});
    let bad = |extra: Value| {
        with_keys(
            json!({"prompt": prompts[0], "max_tokens": 40, "temperature": 1.0}),
            &extra,
        )
    };
    for hostile in [
        bad(json!({"repetition_penalty": 1e-38})),
        bad(json!({"repetition_penalty": 1e-38, "temperature": 0})),
        bad(json!({"dry_multiplier": 3e38, "dry_base": 3e38, "repetition_penalty": 1e-38, "stream": true})),
    ] {
        let mut bodies: Vec<Value> = prompts.iter().map(body).collect();
        bodies.insert(7, hostile.clone());
        let mut answers = together(&tested, bodies);
        let (status, refusal) = answers.remove(7);
        assert!(
            status == 500 || (status == 200 && refusal.contains("data: ")),
            "{hostile}: {status} {refusal}"
        );
        assert!(refusal.contains("can't be sampled from"), "{hostile}: {refusal}");
        for ((status, answer), expected) in answers.iter().zip(&alone) {
            assert_eq!(*status, 200, "{answer}");
            let answer: Value = serde_json::from_str(answer).unwrap();
            assert_eq!(
                answer["choices"][0]["text"].as_str().unwrap(),
                expected,
                "beside {hostile}"
            );
        }
    }
    // Continuations of those texts equal those on a server that never saw them.
    let clean = TestServer::start("");
    for (prompt, answer) in prompts.iter().zip(&alone) {
        let longer = format!("{prompt}{answer} Then they");
        assert_eq!(tested.text(&longer, 24), clean.text(&longer, 24));
    }
    assert!(!tested.panicked());
}

#[test]
fn steering_that_the_model_cannot_hold_is_refused_before_it_runs() {
    let tested = TestServer::start("");
    for (vector, field) in [
        (json!({"vector": "one", "op": "ablate", "scale": 3e38}), "scale"),
        (json!({"vector": "one", "scale": 3e30}), "scale"),
        (json!({"vector": "one", "relative_scale": 1e18}), "relative_scale"),
    ] {
        let body = json!({"prompt": "One day", "max_tokens": 4, "steering": {"vectors": [vector]}});
        let (status, answer) = tested.ask(body);
        assert_eq!(status, 422, "{answer}");
        assert!(
            answer.contains(&format!("steering.vectors[0].{field}: found")),
            "{answer}"
        );
    }
}

#[test]
fn stop_strings_are_found_in_invalid_utf8() {
    let tested = TestServer::start("");
    let stops = ["q", "é", "z"];
    let body = |seed: usize| {
        let stop = stops[seed % 3];
        json!({
            "prompt": format!("Story {seed}:"), "max_tokens": 60, "temperature": 100, "stream": seed % 2 == 1,
            "stop": [stop, "ing"],
        })
    };
    for round in 0..10 {
        let answers = together(&tested, (0..16).map(|i| body(round * 16 + i)).collect());
        for (number, (status, answer)) in answers.iter().enumerate() {
            assert_eq!(*status, 200, "{answer}");
            let stop = stops[(round * 16 + number) % 3];
            let text = match number % 2 {
                0 => serde_json::from_str::<Value>(answer).unwrap()["choices"][0]["text"]
                    .as_str()
                    .unwrap()
                    .to_string(),
                _ => streamed(answer),
            };
            assert!(!text.contains(stop) && !text.contains("ing"), "{stop}: {text}");
        }
    }
    assert!(!tested.panicked());
}

/// The text of a streamed completion, which must be complete.
fn streamed(events: &str) -> String {
    let data: Vec<&str> = event_data(events).collect();
    assert_eq!(data.last(), Some(&"[DONE]"), "{events}");
    let chunks: Vec<Value> = data[..data.len() - 1]
        .iter()
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    let choices = || chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap());
    assert_eq!(
        choices().filter(|choice| !choice["finish_reason"].is_null()).count(),
        1,
        "{events}"
    );
    choices().map(|choice| choice["text"].as_str().unwrap()).collect()
}

#[test]
fn a_stop_string_never_leaks_into_a_stream() {
    let tested = TestServer::start("");
    let prompt = "One day Tim went to the park. He saw a big dog.";
    let whole = tested.text(prompt, 40);
    // Each piece of the answer as a stop string: streamed and whole answers are equal and end before it.
    let words: Vec<&str> = whole.split_whitespace().collect();
    for pair in words.windows(2).take(12) {
        let stop = format!("{} {}", pair[0], pair[1]);
        let body = |stream: bool| json!({"prompt": prompt, "max_tokens": 40, "temperature": 0, "stop": [stop], "stream": stream});
        let (_, answer) = tested.ask(body(false));
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let text = answer["choices"][0]["text"].as_str().unwrap();
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
        assert_eq!(Some(text), whole.split(&stop).next());
        assert_eq!(streamed(&tested.ask(body(true)).1), text);
    }
}

#[test]
fn several_choices_stream_to_their_end() {
    let tested = TestServer::start("");
    for seed in 0..6 {
        let body = json!({
            "prompt": format!("Story {seed}:"), "max_tokens": 30, "temperature": 1.5, "n": 3, "stream": true,
        });
        let (status, events) = tested.ask(body);
        assert_eq!(status, 200, "{events}");
        let data: Vec<&str> = event_data(&events).collect();
        assert_eq!(data.last(), Some(&"[DONE]"), "{events}");
        let mut ended: Vec<u64> = Vec::new();
        for chunk in &data[..data.len() - 1] {
            let chunk: Value = serde_json::from_str(chunk).unwrap();
            let choices = chunk["choices"].as_array().unwrap();
            ended.extend(
                choices
                    .iter()
                    .filter(|c| !c["finish_reason"].is_null())
                    .map(|c| c["index"].as_u64().unwrap()),
            );
        }
        ended.sort_unstable();
        assert_eq!(ended, [0, 1, 2], "{events}");
    }
}

#[test]
fn a_generation_ends_with_the_context() {
    let tested = TestServer::start("");
    // The context is 512 tokens.
    let prompt = "The big dog ran. ".repeat(60);
    let body = json!({"prompt": prompt, "max_tokens": 2000, "temperature": 0});
    let (status, answer) = tested.ask(body);
    assert_eq!(status, 200, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["total_tokens"], 512, "{answer}");
}

#[test]
fn memory_does_not_grow_with_what_one_request_asks_for() {
    let tested = TestServer::start("");
    let prompt = "The big dog ran to the red ball and sat. ".repeat(30);
    let mut state = 7u64;
    let mut random = move |below: u64| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) % below
    };
    let mut ask = |number: u64| {
        let vectors: Vec<Value> = (0..32)
            .map(|i| {
                let positions: Vec<u64> = (0..120).map(|_| random(300)).collect();
                let (op, vector) = (["add", "ablate"][i % 2], ["one", "two", "three"][i % 3]);
                json!({
                    "vector": vector, "op": op, "scale": 0.001 * (number * 32 + i as u64) as f64,
                    "apply": {"prompt": {"positions": positions}},
                })
            })
            .collect();
        let body = json!({
            "prompt": prompt, "max_tokens": 2, "temperature": 0, "steering": {"vectors": vectors, "mode": "replace"},
        });
        let (status, answer) = tested.ask(body);
        assert_eq!(status, 200, "{answer}");
    };
    // The first requests fill the shared caches and the allocator's arenas.
    (0..24).for_each(&mut ask);
    let before = resident(tested.server.pid()).unwrap();
    (24..64).for_each(&mut ask);
    let after = resident(tested.server.pid()).unwrap();
    assert!(
        after - before < 60.0,
        "{before} MiB before, {after} after 40 fresh specs"
    );
}

#[test]
fn requests_that_cost_too_much_are_refused_at_once() {
    let tested = TestServer::start("[steering.limits]\nchoices = 8\n");
    let begin = Instant::now();
    let (status, answer) = tested.ask(json!({"prompt": "One day", "max_tokens": 4, "n": 400}));
    assert_eq!(
        (status, answer.contains("n: found 400, expected at most 8")),
        (422, true),
        "{answer}"
    );
    let (status, answer) = tested.ask(json!({"prompt": "One day ".repeat(2_500_000), "max_tokens": 4}));
    assert_eq!(
        (status, answer.contains("prompt: found more than 65536 bytes")),
        (413, true),
        "{answer}"
    );
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    // A grammar that nests beyond its compiler's stack is answered, and the engine keeps running.
    let chain: String = (0..900).map(|i| format!("r{i}: r{}\n", i + 1)).collect();
    let grammar = format!("start: r0\n{chain}r900: \"a\"\n");
    let body = json!({"prompt": "One day", "max_tokens": 4, "grammar": {"type": "lark", "value": grammar}});
    let (status, answer) = tested.ask(body);
    // (All words begin with a space, so that none of them causes an error of this request.)
    assert!([200, 400, 500].contains(&status), "{status} {answer}");
    let large = "a".repeat(300 << 10);
    let body = json!({"prompt": "One day", "max_tokens": 4, "grammar": {"type": "regex", "value": large}});
    let (status, answer) = tested.ask(body);
    assert!(
        status == 400 && answer.contains("at most are taken"),
        "{status} {answer}"
    );
    tested.text("One day", 4);
}

#[test]
fn tokenizing_a_long_prompt_delays_no_other_request() {
    let tested = TestServer::start("[steering.limits]\nprompt_bytes = 40000000\n");
    tested.text("One day", 4);
    let url = tested.server.url().to_string();
    for (route, key) in [("/v1/completions", "prompt"), ("/v1/chat/completions", "messages")] {
        // 10 MB. It is too long for the model, which is detected after tokenizing.
        let text = "Once upon a time there was a ship. ".repeat(300_000);
        let value = match key {
            "prompt" => json!(text),
            _ => json!([{"role": "user", "content": text}]),
        };
        let body = json!({"model": tested.model, key: value, "max_tokens": 4});
        let (answered, answer) = std::sync::mpsc::channel();
        let url = url.clone();
        let begin = Instant::now();
        let long = std::thread::spawn(move || {
            let agent = agent();
            let status = agent.post(format!("{url}{route}")).send_json(&body).unwrap().status();
            answered.send((status.as_u16(), begin.elapsed())).unwrap();
        });
        let mut longest = Duration::ZERO;
        let mut count = 0;
        let (status, took) = loop {
            let begin = Instant::now();
            tested.text("One day", 1);
            longest = longest.max(begin.elapsed());
            count += 1;
            if let Ok(answer) = answer.try_recv() {
                break answer;
            }
        };
        long.join().unwrap();
        assert_eq!(status, 400);
        assert!(
            count > 3 && longest < took / 3,
            "{count} answers, the longest after {longest:?} of {took:?}"
        );
    }
}

#[test]
fn a_grammar_that_the_model_cannot_write_is_a_request_error() {
    let tested = TestServer::start("");
    // The vocabulary of stories-3m has no braces.
    for body in [
        json!({"prompt": "One day", "max_tokens": 8, "grammar": {"type": "regex", "value": "\\{+"}}),
        json!({"prompt": "One day", "max_tokens": 8, "grammar": {"type": "json_schema", "value": {"type": "object"}}}),
        json!({"prompt": "One day", "max_tokens": 8, "grammar": {"type": "regex", "value": "\\x08"}}),
    ] {
        let (status, answer) = tested.ask(body.clone());
        assert_eq!(status, 400, "{body}: {answer}");
        assert!(
            answer.contains("can't be met with the tokens of this model"),
            "{answer}"
        );
        assert!(!answer.contains("<state>"), "{answer}");
    }
    tested.text("One day", 4);
}

#[test]
fn no_request_can_unload_the_model() {
    // Web pages may not use these routes, even if programs on this machine may.
    let tested = TestServer::start("[steering.admin]\nopen_on_loopback = true\n");
    let model = json!({"model_id": tested.model});
    for route in CONTROL {
        let origin = [("origin", "http://example.org")];
        let (status, answer) = post_with(&tested.server, route, &model, &origin);
        assert_eq!(status, 403, "{route}: {answer}");
    }
    // Authorized clients are told that this model cannot be loaded again, and it stays.
    let (_, answer) = tested.server.post("/v1/models/unload", &model).unwrap();
    assert!(answer.contains("no_loader_config"), "{answer}");
    tested.text("One day", 4);
}

fn post_with(server: &Server, route: &str, body: &Value, headers: &[(&str, &str)]) -> (u16, String) {
    let agent = agent();
    let mut request = agent.post(format!("{}{route}", server.url()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut response = request.send_json(body).unwrap();
    (
        response.status().as_u16(),
        response.body_mut().read_to_string().unwrap(),
    )
}

#[test]
fn float16_overflow_is_refused_and_a_preserved_norm_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let model = fixture("tiny-llama");
    steermap_tests::vectors::save_reference_vector("tiny-llama", folder.path());
    let config = format!(
        "[[models]]\nkind = \"text\"\nmodel_id = \"{}\"\ndtype = \"f16\"\ndevice = {{ cpu = true }}\n\
         [steering.vectors]\ntest = \"test.toml\"\n",
        model.display()
    );
    let server = Server::start(folder.path(), &config).unwrap();
    let ask = |norm: &str| {
        let steering = json!({"vectors": [{"vector": "test", "scale": 1e6}], "norm": norm});
        let body = json!({
            "model": model.display().to_string(), "prompt": "Hello", "max_tokens": 4, "temperature": 0, "steering": steering,
        });
        server.post("/v1/completions", &body).unwrap()
    };
    let (status, answer) = ask("free");
    assert_eq!(status, 422, "{answer}");
    assert!(
        answer.contains("at most 65504, since the model runs in float16"),
        "{answer}"
    );
    let (status, answer) = ask("preserve");
    assert_eq!(status, 200, "{answer}");
}
