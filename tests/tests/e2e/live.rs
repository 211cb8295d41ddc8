//! Vectors found from pairs while the server runs: the same as `mapper vector` finds, while other requests continue.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Barrier;

use serde_json::{Value, json};
use steermap_examples::traffic::client::{Client, CompletionOutcome, CompletionRequest, Reply};
use steermap_mapper::pairs::read_pairs;
use steermap_maps::VectorFile;
use steermap_tests::maps::printed;
use steermap_tests::run::{error_of, run};
use steermap_tests::{project, with_keys};

use super::operator::{TestServer, start, start_with_default};

const ADMIN: &str = "open_on_loopback = true\nuploads = true";

/// The sources of a configuration: the smallest model of the family; `more` is appended.
fn source(more: &str) -> String {
    let model = project("examples/family/stories-260k").display().to_string();
    format!("\n[steering.sources.small]\nmodel = {model:?}\ndtype = \"f32\"\ndevice = \"cpu\"\n{more}")
}

fn pairs_of(concept: &str) -> Vec<Value> {
    let path = project(&format!("examples/family/concepts/{concept}.pairs.jsonl"));
    let pairs = read_pairs(&path).unwrap();
    pairs.iter().map(|pair| serde_json::to_value(pair).unwrap()).collect()
}

fn find(client: &Client, body: &Value) -> Value {
    let reply = client.post("/v1/steering/vectors", body).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.json().unwrap()
}

/// A vector's two files, downloaded from the server.
fn downloaded(client: &Client, name: &str, folder: &Path) -> (VectorFile, PathBuf, Vec<u8>) {
    let (file, toml) = client.download(&format!("/v1/steering/vectors/{name}")).unwrap();
    let path = folder.join(file.unwrap());
    std::fs::write(&path, toml).unwrap();
    let (file, tensors) = client
        .download(&format!("/v1/steering/vectors/{name}?format=safetensors"))
        .unwrap();
    let tensors_path = folder.join(file.unwrap());
    std::fs::write(&tensors_path, &tensors).unwrap();
    (VectorFile::load(&path).unwrap(), tensors_path, tensors)
}

/// `mapper vector` on a model of the family, one text at a time.
fn mapper(model: &str, pairs: &[Value], more: &[&str], folder: &Path) -> (VectorFile, String) {
    let (file, out) = (folder.join("pairs.jsonl"), folder.join("mapper.toml"));
    let lines: Vec<String> = pairs.iter().map(Value::to_string).collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let model = project(&format!("examples/family/{model}"));
    let [model, file, out_text] = [&model, &file, &out].map(|path| path.to_str().unwrap());
    let fixed = [
        "vector",
        "--model",
        model,
        "--pairs",
        file,
        "--concept",
        "glad",
        "--out",
        out_text,
        "--cpu",
        "--dtype",
        "f32",
        "--batch",
        "1",
    ];
    let output = run("mapper", &[&fixed, more].concat());
    assert!(output.status.success(), "{}", error_of(&output));
    (VectorFile::load(&out).unwrap(), printed(&output))
}

#[test]
fn a_vector_found_on_a_source_equals_the_mappers_bitwise() {
    let tested = start(Some(ADMIN), &source(""), &[]);
    let client = Client::new(tested.server.url());
    // One pair occurs twice.
    let mut pairs = pairs_of("mood")[..40].to_vec();
    pairs.push(pairs[3].clone());
    for (number, (more, keys)) in [
        (vec!["--no-neutral"], json!({})),
        (vec!["--position", "mean"], json!({"position": "mean", "neutral": true})),
        (
            vec![
                "--method",
                "logistic",
                "--position",
                "answer",
                "--layers",
                "1-2",
                "--no-neutral",
            ],
            json!({"method": "logistic", "position": "answer", "layers": "1-2"}),
        ),
        (
            vec![
                "--method",
                "lat",
                "--seed",
                "7",
                "--sign",
                "vote",
                "--position",
                "mean",
                "--no-neutral",
            ],
            json!({"method": "lat", "seed": 7, "sign": "vote", "position": "mean"}),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let folder = tempfile::tempdir().unwrap();
        let (expected, table) = mapper("stories-260k", &pairs, &more, folder.path());
        let name = format!("glad-{number}");
        let body = with_keys(
            json!({"name": name, "concept": "glad", "model": "small", "pairs": pairs}),
            &keys,
        );
        let answer = find(&client, &body);
        let (found, _, tensors) = downloaded(&client, &name, folder.path());
        // Tensors, norms, mean norms and areas.
        assert_eq!(found.layers(), expected.layers(), "{more:?}");
        let spread = found
            .layers()
            .iter()
            .all(|layer| layer.neutral.is_some_and(|neutral| neutral.std > 0.0));
        assert_eq!(spread, keys.get("neutral").is_some());
        let own = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let own = own.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("mapper-"));
        let own: Vec<PathBuf> = own.collect();
        assert_eq!(std::fs::read(&own[0]).unwrap(), tensors);
        let (a, b) = (found.header(), expected.header());
        assert_eq!(
            (&a.concept, &a.method, a.token_position, a.pairs, &a.model, &a.numerics),
            (&b.concept, &b.method, b.token_position, b.pairs, &b.model, &b.numerics)
        );
        // The answer has the figures that the mapper prints.
        let told = &answer["found"];
        assert_eq!((&told["pairs"], &told["repeats"]), (&json!(40), &json!(1)), "{told}");
        for (layer, line) in told["layers"].as_array().unwrap().iter().zip(table.lines().skip(2)) {
            let number = |key: &str| layer[key].as_f64().unwrap();
            let row = format!(
                "{:>5} {:>10.3} {:>15.3} {:>7.3} {:>16.3} {:>16}",
                number("layer"),
                number("norm"),
                number("mean_norm"),
                number("ratio"),
                number("auroc"),
                format!(
                    "{:.3} to {:.3}",
                    layer["interval"][0].as_f64().unwrap(),
                    layer["interval"][1].as_f64().unwrap()
                )
            );
            assert_eq!(row, line);
        }
        let proposed = told["proposed"][0].as_u64().unwrap();
        assert!(table.contains(&format!("proposed: layer {proposed} ")), "{table}");
    }
    let described = client.get("/v1/steering").unwrap().success().unwrap();
    assert_eq!(described["sources"][0]["source"], "small", "{described}");
    // A source does not answer requests.
    let models = client.get("/v1/models").unwrap().success().unwrap();
    assert!(!models.to_string().contains("260k"), "{models}");
    let refused = client.post(
        "/v1/completions",
        &json!({"model": "small", "prompt": "Once", "max_tokens": 1}),
    );
    assert_eq!(refused.unwrap().status, 404);
}

fn ask(model: &str, prompt: &str, steering: Option<Value>) -> CompletionRequest {
    CompletionRequest {
        steering,
        ..CompletionRequest::new(model, prompt, 40)
    }
}

fn text(client: &Client, ask: &CompletionRequest) -> (String, Option<String>) {
    match client.complete(ask).unwrap() {
        CompletionOutcome::Whole(answer) => (answer.first.text, answer.fingerprint),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_served_model_is_read_beside_its_requests_and_without_its_default() {
    let tested = start_with_default(60.0, Some(ADMIN), &source(""));
    let TestServer { model, .. } = &tested;
    let client = Client::new(tested.server.url());
    let folder = tempfile::tempdir().unwrap();
    let pairs = &pairs_of("topic")[..24];
    let (expected, _) = mapper("stories-3m", pairs, &["--position", "mean"], folder.path());
    let asks = [
        ask(model, "Now, Mia", None),
        ask(model, "Tom and his dog", Some(json!({"mode": "off"}))),
        ask(
            model,
            "Once",
            Some(json!({"vectors": [{"vector": "two", "scale": 30.0}]})),
        ),
    ];
    let alone: Vec<_> = asks.iter().map(|ask| text(&client, ask)).collect();
    assert_eq!(alone.iter().map(|(text, _)| text).collect::<BTreeSet<_>>().len(), 3);
    let barrier = Barrier::new(asks.len() + 1);
    std::thread::scope(|scope| {
        for (ask, alone) in asks.iter().zip(&alone) {
            let (client, barrier) = (Client::new(tested.server.url()), &barrier);
            scope.spawn(move || {
                barrier.wait();
                for _ in 0..6 {
                    assert_eq!(text(&client, ask), *alone);
                }
            });
        }
        barrier.wait();
        // As in every request, `default` is the default model.
        let body = json!({"name": "sea", "concept": "glad", "model": "default", "pairs": pairs, "position": "mean"});
        find(&client, &body);
    });
    let (found, ..) = downloaded(&client, "sea", folder.path());
    assert_eq!(found.layers().len(), 8);
    for (found, expected) in found.layers().iter().zip(expected.layers()) {
        let difference = found.direction.iter().zip(&expected.direction);
        let difference = difference.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
        assert!(
            difference < 1e-4 * expected.norm(),
            "layer {}: {difference}",
            found.layer
        );
        assert!((found.mean_norm / expected.mean_norm - 1.0).abs() < 1e-5);
    }
    // The prefix cache has nothing that changes an answer.
    assert_eq!(asks.iter().map(|ask| text(&client, ask)).collect::<Vec<_>>(), alone);
}

#[test]
fn pairs_in_a_request_steer_as_the_vector_that_they_find() {
    let tested = start(Some(ADMIN), &source(""), &[]);
    let client = Client::new(tested.server.url());
    let pairs = &pairs_of("mood")[..16];
    let inline = json!({"model": "small", "pairs": pairs, "position": "mean"});
    let used =
        |vector: Value| json!({"vectors": [{"vector": vector, "map": "across", "relative_scale": 0.4, "layers": [4]}]});
    let live = text(&client, &ask(&tested.model, "Now, Mia", Some(used(inline.clone()))));
    assert!(live.1.as_deref().is_some_and(|fingerprint| fingerprint != "none"));
    assert_ne!(live.0, text(&client, &ask(&tested.model, "Now, Mia", None)).0);
    find(
        &client,
        &json!({"name": "glad", "model": "small", "pairs": pairs, "position": "mean"}),
    );
    assert_eq!(
        text(&client, &ask(&tested.model, "Now, Mia", Some(used(json!("glad"))))),
        live
    );
    // Found once for all equal requests, whatever their notation.
    for _ in 0..3 {
        let steering = Some(used(inline.clone()));
        assert_eq!(text(&client, &ask(&tested.model, "Now, Mia", steering)), live);
    }
    let metrics = client.get("/metrics").unwrap().body;
    for line in [
        "steering_found_cache_total{result=\"hit\"} 3",
        "steering_found_cache_total{result=\"miss\"} 2",
        "steering_find_seconds_count 2",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} is not in\n{metrics}"
        );
    }
    // Found natively on the served model.
    let own = json!({"model": tested.model, "pairs": pairs, "position": "mean"});
    let own = json!({"vectors": [{"vector": own, "relative_scale": 0.4, "layers": [4]}]});
    let native = text(&client, &ask(&tested.model, "Now, Mia", Some(own)));
    assert!(native.1.is_some() && native.1 != live.1);
}

#[test]
fn a_model_whose_weights_are_quantised_again_is_read_anew() {
    let tested = start(Some(ADMIN), &source(""), &[]);
    let client = Client::new(tested.server.url());
    let folder = tempfile::tempdir().unwrap();
    let pairs = &pairs_of("mood")[..8];
    let found = |model: &str, name: &str| {
        find(
            &client,
            &json!({"name": name, "model": model, "pairs": pairs, "position": "mean"}),
        );
        downloaded(&client, name, folder.path()).0
    };
    let requantise = |kind: &str| client.post("/re_isq", &json!({ "ggml_type": kind })).unwrap();
    let (before, small) = (found(&tested.model, "before"), found("small", "small-before"));

    let refused = requantise("q9");
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert!(refused.message().contains("q9"), "{}", refused.body);
    assert_eq!(found(&tested.model, "same").layers(), before.layers());

    let taken = requantise("q4_0");
    assert_eq!(taken.status, 200, "{}", taken.body);
    let after = found(&tested.model, "after");
    for (after, before) in after.layers().iter().zip(before.layers()) {
        let difference = after.direction.iter().zip(&before.direction);
        let difference = difference.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt() / before.norm();
        assert!(
            difference > 1e-3 && difference < 0.3,
            "layer {}: {difference}",
            after.layer
        );
    }
    assert_eq!(found("small", "small-after").layers(), small.layers());
    let metrics = client.get("/metrics").unwrap().body;
    for line in [
        "steering_found_cache_total{result=\"hit\"} 2",
        "steering_found_cache_total{result=\"miss\"} 3",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} is not in\n{metrics}"
        );
    }
}

#[test]
fn a_full_queue_says_when_to_come_again_and_requests_go_on() {
    let tested = start(Some(ADMIN), &source("[steering.live]\nqueue_bytes = 1\n"), &[]);
    let alone = text(&Client::new(tested.server.url()), &ask(&tested.model, "Now, Mia", None));
    let concepts = ["mood", "topic", "register", "tense", "gender", "time", "voice"];
    let barrier = Barrier::new(concepts.len() + 1);
    let replies: Vec<Reply> = std::thread::scope(|scope| {
        let finding = concepts.map(|concept| {
            let (client, barrier) = (Client::new(tested.server.url()), &barrier);
            let body = json!({"name": format!("found-{concept}"), "model": "small", "pairs": pairs_of(concept), "method": "logistic"});
            scope.spawn(move || {
                barrier.wait();
                client.post("/v1/steering/vectors", &body).unwrap()
            })
        });
        let client = Client::new(tested.server.url());
        barrier.wait();
        for _ in 0..10 {
            assert_eq!(text(&client, &ask(&tested.model, "Now, Mia", None)), alone);
        }
        finding.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let refused: Vec<&Reply> = replies.iter().filter(|reply| reply.status != 200).collect();
    assert!(!refused.is_empty() && refused.len() < concepts.len());
    for reply in refused {
        assert_eq!(reply.status, 429, "{}", reply.body);
        assert!(reply.retry_after.is_some_and(|seconds| seconds >= 1), "{reply:?}");
        assert!(reply.message().starts_with("pairs: found no room"), "{}", reply.body);
        let code = reply.json().unwrap()["error"]["code"].clone();
        assert_eq!(code, "rate_limit_exceeded");
    }
}

#[test]
fn invalid_pairs_and_options_are_refused() {
    let more = "[steering.live]\nrequest_bytes = 4000\nrequest_tokens = 800\n";
    let tested = start(Some(ADMIN), &source(more), &[]);
    let client = Client::new(tested.server.url());
    let pairs = &pairs_of("mood")[..2];
    let with = |keys: Value| with_keys(json!({"name": "x", "model": "small", "pairs": pairs}), &keys);
    let pair = |positive: Value, negative: Value| json!([{"positive": positive, "negative": negative}, pairs[0]]);
    let of_pairs = |positive: Value, negative: Value| with(json!({"pairs": pair(positive, negative)}));
    for (body, status, message) in [
        (json!({}), 422, "name: found nothing, expected the vector's name"),
        (json!({"name": "x"}), 422, "body: found no key `model`, expected one"),
        (
            json!({"name": "x", "model": "small"}),
            422,
            "body: found no key `pairs`, expected one",
        ),
        (with(json!({"name": "a b"})), 422, "name: found the name \"a b\""),
        (
            with(json!({"name": 3})),
            422,
            "name: found integer `3`, expected a string",
        ),
        (
            with(json!({"concept": " "})),
            422,
            "concept: found 1 bytes, expected a text",
        ),
        (with(json!({"nam": "x"})), 422, "nam: found the unknown key `nam`"),
        (
            with(json!({"model": "large"})),
            404,
            "model: found \"large\", expected a source or a served model: small, ",
        ),
        (
            with(json!({"pairs": []})),
            422,
            "pairs: found 0 pairs, expected at least two",
        ),
        (
            with(json!({"pairs": [pairs[0], pairs[0]]})),
            422,
            "pairs: found 2 pairs that are all the same",
        ),
        (
            with(json!({"pairs": [["a", "b"], ["c", "d"]]})),
            422,
            "pairs[0]: found a list, expected a pair",
        ),
        (
            of_pairs(json!(3), json!("b")),
            422,
            "pairs[0].positive: found integer `3`, expected a text, or a list of messages",
        ),
        (
            of_pairs(json!(" "), json!("b")),
            422,
            "pairs[0]: positive: found nothing, expected a text",
        ),
        (
            of_pairs(json!("b"), json!("b")),
            422,
            "pairs[0]: positive and negative are the same text",
        ),
        (of_pairs(json!("x".repeat(5000)), json!("b")), 422, "pairs: found 5"),
        (
            of_pairs(json!("q ".repeat(900)), json!("b")),
            422,
            "pairs: pair 1: found a text of ",
        ),
        (
            of_pairs(json!("q ".repeat(220)), json!("z ".repeat(220))),
            422,
            "pairs: found ",
        ),
        (
            with(json!({"method": "pca"})),
            422,
            "method: found `pca`, expected one of `mean-difference`",
        ),
        (
            with(json!({"position": "first"})),
            422,
            "position: found `first`, expected one of `last`, `mean`, `answer`",
        ),
        (
            with(json!({"sign": "vote"})),
            422,
            "sign: found vote with the method mean-difference",
        ),
        (with(json!({"seed": -1})), 422, "seed: found integer `-1`"),
        (with(json!({"seed": u64::MAX})), 422, "seed: found 18446744073709551615"),
        (
            with(json!({"layers": "9"})),
            422,
            "layers: found 9, expected 0 to 3, the model's layers",
        ),
        (with(json!({"layers": []})), 422, "layers: found 0, expected \"all\""),
        (with(json!({"layers": "3-1"})), 422, "layers: found string \"3-1\""),
        (
            with(json!({"layers": "0-9999,".repeat(1000)})),
            422,
            "layers: found string \"0-9999,",
        ),
        (
            of_pairs(json!(vec![json!({"role": "", "content": ""}); 200]), json!("b")),
            422,
            "pairs: found 6",
        ),
        (
            json!({"name": "x", "model": "small", "position": "answer", "pairs": pair(json!("Now, Mia"), json!("Now"))}),
            422,
            "pairs: pair 1: the tokens of one text are a prefix of the other's",
        ),
    ] {
        let reply = client.post("/v1/steering/vectors", &body).unwrap();
        assert_eq!(reply.status, status, "{body}: {}", reply.body);
        let found = reply.message();
        assert!(found.starts_with(message), "found {found:?}, expected {message:?}");
    }
    // The same in a request, with the path of the field.
    let used = |vector: Value| json!({"model": "default", "prompt": "Once", "steering": {"vectors": [{"vector": vector, "scale": 1.0}]}});
    let at = "steering.vectors[0].vector";
    for (vector, message) in [
        (json!({}), format!("{at}: found no key `layer`, expected one")),
        (
            json!({"model": "small"}),
            format!("{at}: found no key `pairs`, expected one"),
        ),
        (
            json!({"model": "small", "pairs": pairs, "layer": 1}),
            format!("{at}.layer: found the unknown key `layer`"),
        ),
        (
            json!({"layer": 1, "pairs": pairs}),
            format!("{at}.pairs: found the unknown key `pairs`"),
        ),
        (
            json!({"model": "small", "pairs": pair(json!("a"), json!([{"role": "user"}]))}),
            format!("{at}.pairs[0].negative[0]: found no key `content`, expected one"),
        ),
        (
            json!({"model": "none", "pairs": pairs}),
            format!("{at}.model: found \"none\", expected a source or a served model"),
        ),
        (
            json!({"model": "small", "pairs": pairs, "layers": [7]}),
            format!("{at}.layers: found 7, expected 0 to 3"),
        ),
        (
            json!({"model": "small", "pairs": pairs, "sign": "vote"}),
            format!("{at}.sign: found vote with the method"),
        ),
        (
            json!({"model": "small", "pairs": pairs}),
            format!("{at} \"(pairs)\": model.hidden_size: found 64 (made for \"stories-260k\")"),
        ),
    ] {
        let reply = client.post("/v1/completions", &used(vector.clone())).unwrap();
        assert_eq!(reply.status, 422, "{vector}: {}", reply.body);
        let found = reply.message();
        assert!(found.starts_with(&message), "found {found:?}, expected {message:?}");
    }
    // The limits are those of all pairs of a request.
    let both = |first: Value, second: Value| {
        let used = |pairs: Value| json!({"vector": {"model": "small", "pairs": pairs}, "map": "across", "scale": 1, "layers": [4]});
        let vectors = [used(first), used(second)];
        client
            .post(
                "/v1/completions",
                &json!({"model": "default", "prompt": "Once", "max_tokens": 1, "steering": {"vectors": vectors}}),
            )
            .unwrap()
    };
    let long = |at: &str| pair(json!(format!("{at}{}", "x".repeat(1500))), json!("b"));
    let many = |at: &str| pair(json!(format!("{at}{}", "q ".repeat(150))), json!("z ".repeat(150)));
    // (Equal pairs count once, and those that are cached not at all.)
    assert_eq!(both(many("a "), many("a ")).status, 200);
    for (first, second, message) in [
        (
            long("a"),
            long("b"),
            "bytes of texts in the request's pairs, expected at most 4000",
        ),
        (
            many("c "),
            many("d "),
            "in the request's other pairs, expected at most 800",
        ),
    ] {
        let reply = both(first, second);
        let found = reply.message();
        assert_eq!(reply.status, 422, "{found}");
        assert!(
            found.starts_with("steering.vectors[1].vector.pairs: found ") && found.contains(message),
            "{found}"
        );
    }
    // Errors that can be detected beforehand are reported before a vector is found.
    let found = || {
        client
            .get("/metrics")
            .unwrap()
            .body
            .lines()
            .find(|line| line.starts_with("steering_find_seconds_count"))
            .unwrap()
            .to_string()
    };
    let before = found();
    let good = json!({"model": "small", "pairs": pairs});
    for (steering, message) in [
        (
            json!({"mode": "off", "vectors": [{"vector": good, "scale": 1}]}),
            "steering.vectors: found this key",
        ),
        (
            json!({"vectors": [{"vector": good}]}),
            "steering.vectors[0].scale: found neither",
        ),
        (
            json!({"vectors": [{"vector": good, "scale": 1, "map": "none"}]}),
            "steering.vectors[0].map: found \"none\"",
        ),
        (
            json!({"vectors": vec![json!({"vector": good, "scale": 1}); 33]}),
            "steering.vectors: found 33 vectors",
        ),
    ] {
        let reply = client
            .post(
                "/v1/completions",
                &json!({"model": "default", "prompt": "Once", "steering": steering}),
            )
            .unwrap();
        assert!(
            reply.status == 422 && reply.message().starts_with(message),
            "{}",
            reply.body
        );
    }
    assert_eq!(found(), before);
    // Pairs are refused in a default, since it would be found again at each start.
    let spec =
        json!({"spec": {"vectors": [{"vector": {"model": "small", "pairs": pairs}, "map": "across", "scale": 1.0}]}});
    let reply = client.put("/v1/steering/default", &spec).unwrap();
    assert!(
        reply.status == 422 && reply.message().contains("only requests may have pairs"),
        "{}",
        reply.body
    );
    for (route, status) in [
        ("none", 404),
        ("a%20b", 422),
        ("x?format=zip", 422),
        ("x?layers=1", 422),
    ] {
        let reply = client.get(&format!("/v1/steering/vectors/{route}")).unwrap();
        assert_eq!(reply.status, status, "{route}: {}", reply.body);
    }
}

#[test]
fn vectors_that_the_operator_does_not_allow_are_not_found() {
    let pairs = &pairs_of("mood")[..2];
    let inline = json!({"model": "default", "prompt": "Once", "max_tokens": 1,
        "steering": {"vectors": [{"vector": {"model": "small", "pairs": pairs}, "map": "across", "scale": 1.0}]}});
    let closed = start(
        Some("open_on_loopback = true"),
        &source("[steering.live]\nrequests = false\n"),
        &[],
    );
    let client = Client::new(closed.server.url());
    let reply = client.post("/v1/completions", &inline).unwrap();
    assert_eq!(reply.status, 403, "{}", reply.body);
    assert!(
        reply.message().contains("steering.live.requests is false"),
        "{}",
        reply.body
    );
    let body = json!({"name": "x", "model": "small", "pairs": pairs});
    assert_eq!(client.post("/v1/steering/vectors", &body).unwrap().status, 403);
    // Without a source, requests are refused too, unless the configuration allows them.
    let none = start(Some(ADMIN), "", &[]);
    let client = Client::new(none.server.url());
    assert_eq!(client.post("/v1/completions", &inline).unwrap().status, 403);
    // Clients that may upload can use a served model.
    let body = json!({"name": "x", "model": none.model, "pairs": pairs});
    assert_eq!(client.post("/v1/steering/vectors", &body).unwrap().status, 200);
    // A missing source is reported before anything is loaded.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mistralrs.toml");
    let model = project("examples/family/stories-3m").display().to_string();
    let config = format!(
        "command = \"serve\"\n[[models]]\nkind = \"text\"\nmodel_id = {model:?}\n[steering.sources.small]\nmodel = \"./nowhere\"\n"
    );
    std::fs::write(&path, config).unwrap();
    for command in ["check", "serve"] {
        let output = run("mistralrs-steered", &[command, "--config", path.to_str().unwrap()]);
        let error = error_of(&output);
        assert!(
            error.contains("steering.sources.small: model: found \"./nowhere\", which is not a folder"),
            "{error}"
        );
    }
}

#[test]
fn a_bound_uses_the_operators_norms() {
    // The vectors of the configuration state a mean norm of 100 after each block; the norm measured on pairs is larger.
    let bound = "[[steering.bounds]]\nmax_relative_scale = 0.5\n";
    let tested = start(Some(ADMIN), &source(bound), &[]);
    let client = Client::new(tested.server.url());
    let vector = json!({"model": tested.model, "pairs": &pairs_of("mood")[..4], "position": "mean"});
    let with = |scale: f64| {
        let steering = json!({"vectors": [{"vector": vector, "relative_scale": scale, "layers": [6]}]});
        let body = json!({"model": "default", "prompt": "Once", "max_tokens": 1, "steering": steering});
        client.post("/v1/completions", &body).unwrap()
    };
    let refused = with(0.4);
    assert!(
        refused.status == 422 && refused.message().contains("the server's max_relative_scale"),
        "{}",
        refused.body
    );
    assert_eq!(with(0.1).status, 200);
}

#[test]
fn a_dry_run_reports_what_a_request_would_do() {
    let tested = start_with_default(60.0, None, &source(""));
    let client = Client::new(tested.server.url());
    let check = |body: Value| client.post("/v1/steering/check", &body).unwrap();
    let used =
        json!({"vector": "two", "relative_scale": 0.2, "layers": "3-9", "apply": {"prompt": {"positions": [0, -1]}}});
    let steering = json!({"mode": "extend", "vectors": [used]});
    let told = check(json!({"steering": steering, "prompt": "Now, Mia goes"}))
        .success()
        .unwrap();
    assert_eq!(told["layers"], json!([3, 4, 6]), "{told}");
    // The default's vector is not reported.
    assert_eq!(told["vectors"].as_array().unwrap().len(), 1, "{told}");
    let vector = &told["vectors"][0];
    assert_eq!(
        (&vector["vector"], &vector["op"], &vector["generation"]),
        (&json!("two"), &json!("add"), &json!("none"))
    );
    let layer = &vector["layers"][0];
    assert!((layer["relative"].as_f64().unwrap() - 0.2).abs() < 1e-6, "{told}");
    let tokens = told["prompt_tokens"].as_u64().unwrap();
    assert_eq!(vector["positions"], format!("0,{}", tokens - 1));
    assert_eq!(told["refused"], Value::Null);
    let ask = |prompt: &str| {
        let body = json!({"model": "default", "prompt": prompt, "max_tokens": 1, "steering": steering});
        client.post("/v1/completions", &body).unwrap()
    };
    assert_eq!(
        ask("Now, Mia goes").fingerprint.as_deref(),
        told["fingerprint"].as_str()
    );
    // It is refused for the same reasons as a request; reasons that lie in the prompt are reported.
    let bad = check(json!({"steering": {"vectors": [{"vector": "none", "scale": 1}]}}));
    assert_eq!(
        (bad.status, bad.message().as_str()),
        (
            422,
            "steering.vectors[0].vector: found \"none\", expected a vector's name"
        )
    );
    let beyond = json!({"vectors": [{"vector": "two", "scale": 1, "apply": {"prompt": {"positions": [77]}}}]});
    let told = check(json!({"steering": beyond, "prompt": "Once"})).success().unwrap();
    assert!(
        told["refused"]
            .as_str()
            .unwrap()
            .starts_with("steering.vectors[0].apply.prompt.positions[0]: found 77"),
        "{told}"
    );
    let long = check(json!({"steering": {"mode": "off"}, "prompt": "so ".repeat(2000)}))
        .success()
        .unwrap();
    assert!(
        long["refused"].as_str().unwrap().contains("512, the model's context"),
        "{long}"
    );
    assert_eq!(
        check(json!({"steering": {"mode": "off"}, "prompt": "so ".repeat(9000)})).status,
        413
    );
    assert_eq!(
        check(json!({"steering": {"mode": "off"}, "model": "other"})).status,
        404
    );
}
