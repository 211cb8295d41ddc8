//! Changes over HTTP survive the server, completely, however it ends.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use steermap_examples::server::Server;
use steermap_examples::traffic::client::Client;
use steermap_examples::traffic::models::STORIES;
use steermap_maps::VectorFile;
use steermap_plugin::state::{SavedState, StateFolder};
use steermap_tests::project;
use steermap_tests::run::{error_of, run};

use super::operator::{PATIENCE, TestServer, start};

const ADMIN: &str = "open_on_loopback = true\nuploads = true\nstate = \"state\"";

/// A vector that identifies its seed.
fn vector(seed: u64) -> VectorFile {
    STORIES.random_vector(&project(""), seed, &[3, 4]).unwrap()
}

fn upload(client: &Client, name: &str, vector: &VectorFile) -> u16 {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.toml");
    vector.save(&path).unwrap();
    let files = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let tensors = files.filter(|path| path.extension().is_some_and(|end| end == "safetensors"));
    let tensors = std::fs::read(tensors.last().unwrap()).unwrap();
    let toml = std::fs::read(&path).unwrap();
    let fields: [(&str, &[u8]); 3] = [("name", name.as_bytes()), ("toml", &toml), ("safetensors", &tensors)];
    // A killed server gives no answer.
    client
        .post_form("/v1/steering/vectors", &fields)
        .map_or(0, |reply| reply.status)
}

fn default_body(scale: f64) -> Value {
    json!({"spec": {"vectors": [{"vector": "one", "scale": scale, "layers": [2]}]}})
}

fn ask(client: &Client, steering: Option<&Value>) -> (u16, Option<String>) {
    let mut body = json!({"model": "default", "prompt": "Once", "max_tokens": 2});
    if let Some(steering) = steering {
        body["steering"] = steering.clone();
    }
    let reply = client.post("/v1/completions", &body).unwrap();
    (reply.status, reply.fingerprint)
}

/// Kills the server and starts it again.
fn again(tested: TestServer) -> TestServer {
    let TestServer { server, model, folder } = tested;
    drop(server);
    let config = std::fs::read_to_string(folder.path().join("mistralrs.toml")).unwrap();
    // Without the parts that `Server` adds.
    let config = config.trim_start_matches("command = \"serve\"\n");
    let (config, _) = config.split_once("\n[server]").unwrap();
    let server = Server::start(folder.path(), config).unwrap();
    TestServer { server, model, folder }
}

#[test]
fn uploads_and_defaults_survive() {
    let tested = start(Some(ADMIN), "", &[]);
    let client = Client::new(tested.server.url());
    let uses = json!({"vectors": [{"vector": "calm", "scale": 20.0}]});
    assert_eq!(ask(&client, Some(&uses)).0, 422);
    assert_eq!(upload(&client, "calm", &vector(5)), 200);
    assert_eq!(
        client.put("/v1/steering/default", &default_body(30.0)).unwrap().status,
        200
    );
    let (steered, by_default) = (ask(&client, Some(&uses)), ask(&client, None));
    assert!(steered.0 == 200 && by_default.1.as_deref() != Some("none"));

    let tested = again(tested);
    let client = Client::new(tested.server.url());
    assert_eq!(
        (ask(&client, Some(&uses)), ask(&client, None)),
        (steered.clone(), by_default.clone())
    );
    let path = tested.folder.path().join("mistralrs.toml");
    let check = run("mistralrs-steered", &["check", "--config", path.to_str().unwrap()]);
    let report = String::from_utf8_lossy(&check.stdout);
    assert!(
        report.contains("a default that was set over HTTP with one at layers 2"),
        "{report}"
    );
    assert!(report.contains("uploaded vectors: calm"), "{report}");

    // A reload returns to the file's default, and reports what it discards.
    let reloaded = client
        .post("/v1/steering/reload", &json!({}))
        .unwrap()
        .success()
        .unwrap();
    let discarded = &reloaded["discarded"]["defaults"][0];
    assert_eq!(discarded["default"]["spec"]["vectors"][0]["scale"], 30.0, "{reloaded}");
    assert_eq!(ask(&client, None).1.as_deref(), Some("none"));
    assert_eq!(ask(&client, Some(&uses)), steered);

    let tested = again(tested);
    let client = Client::new(tested.server.url());
    assert_eq!(ask(&client, None).1.as_deref(), Some("none"));
    let history = client.get("/v1/steering/history").unwrap().success().unwrap();
    let states = history["states"].as_array().unwrap();
    let words: Vec<&str> = states.iter().map(|state| state["change"].as_str().unwrap()).collect();
    assert_eq!(
        words,
        [
            "the configuration was read again",
            "the default was set",
            "the vector \"calm\" was uploaded"
        ]
    );
    assert!(
        states
            .iter()
            .all(|state| state["caller"].as_str().unwrap().starts_with("127.0.0.1:")),
        "{history}"
    );
    let back = client.post("/v1/steering/restore", &json!({"number": 2})).unwrap();
    assert_eq!(back.status, 200, "{}", back.body);
    assert_eq!((ask(&client, Some(&uses)), ask(&client, None)), (steered, by_default));
    assert_eq!(
        client
            .post("/v1/steering/restore", &json!({"number": 77}))
            .unwrap()
            .status,
        404
    );
    // Back to before the vector.
    let first = client.post("/v1/steering/restore", &json!({"number": 1})).unwrap();
    assert_eq!(first.status, 200, "{}", first.body);
    assert_eq!(client.delete("/v1/steering/vectors/calm").unwrap().status, 200);
    assert_eq!(ask(&client, Some(&uses)).0, 422);
    let tested = again(tested);
    assert_eq!(ask(&Client::new(tested.server.url()), Some(&uses)).0, 422);
}

#[test]
fn without_a_state_folder_changes_end_with_the_server_and_this_is_reported() {
    let tested = start(Some("open_on_loopback = true\nuploads = true"), "", &[]);
    let client = Client::new(tested.server.url());
    assert_eq!(upload(&client, "calm", &vector(5)), 200);
    let described = client.get("/v1/steering").unwrap().success().unwrap();
    assert_eq!(described["state"], Value::Null);
    let history = client.get("/v1/steering/history").unwrap();
    assert_eq!(history.status, 409, "{}", history.body);
    let tested = again(tested);
    let uses = json!({"vectors": [{"vector": "calm", "scale": 20.0}]});
    assert_eq!(ask(&Client::new(tested.server.url()), Some(&uses)).0, 422);
}

#[test]
fn metrics_of_a_deleted_vector_do_not_return() {
    let tested = start(Some(ADMIN), "", &[]);
    let client = Client::new(tested.server.url());
    assert_eq!(upload(&client, "calm", &vector(5)), 200);
    let uses = json!({"model": tested.model, "prompt": "Once", "max_tokens": 400, "stream": true,
                      "logit_bias": {"0": -100, "2": -100}, "steering": {"vectors": [{"vector": "calm", "scale": 1.0}]}});
    let begun = ureq::post(format!("{}/v1/completions", tested.server.url()))
        .send_json(&uses)
        .unwrap();
    let metrics = || client.get("/metrics").unwrap().body;
    assert!(metrics().contains("vector=\"calm\""), "{}", metrics());
    assert_eq!(client.delete("/v1/steering/vectors/calm").unwrap().status, 200);
    // The running request continues unchanged and is counted.
    let answer = begun.into_body().read_to_string().unwrap();
    assert!(answer.ends_with("data: [DONE]\n\n"), "{answer}");
    assert!(!metrics().contains("vector=\"calm\""), "{}", metrics());
    assert!(metrics().contains("vector=\"one\""), "{}", metrics());
}

#[test]
fn two_servers_do_not_share_a_state_folder() {
    let tested = start(Some(ADMIN), "", &[]);
    let path = tested.folder.path().join("mistralrs.toml");
    let second = tested.folder.path().join("second.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let port = format!("port = {}", tested.server.port());
    std::fs::write(&second, config.replace(&port, "port = 0")).unwrap();
    let error = error_of(&run(
        "mistralrs-steered",
        &["serve", "--config", second.to_str().unwrap()],
    ));
    assert!(error.contains("in use by another server"), "{error}");
    assert!(
        error.contains(&tested.folder.path().join("state").display().to_string()),
        "{error}"
    );
    // `check` only reads, so it is allowed.
    assert!(
        run("mistralrs-steered", &["check", "--config", path.to_str().unwrap()])
            .status
            .success()
    );
}

#[test]
fn a_state_that_no_longer_fits_the_configuration_is_refused() {
    let tested = start(Some(ADMIN), "", &[]);
    let client = Client::new(tested.server.url());
    assert_eq!(
        client.put("/v1/steering/default", &default_body(30.0)).unwrap().status,
        200
    );
    assert_eq!(upload(&client, "calm", &vector(5)), 200);
    let path = tested.folder.path().join("mistralrs.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let check = |config: String| {
        std::fs::write(&path, config).unwrap();
        error_of(&run(
            "mistralrs-steered",
            &["check", "--config", path.to_str().unwrap()],
        ))
    };
    // The vector of the default is gone.
    let error = check(config.replace("one = \"one.toml\"\n", ""));
    assert!(
        error.contains("00000002.toml: defaults[0].spec.vectors[0].vector: found \"one\""),
        "{error}"
    );
    // The configuration has a vector with the name of the uploaded one.
    let error = check(config.replace("one = \"one.toml\"\n", "one = \"one.toml\"\ncalm = \"two.toml\"\n"));
    assert!(
        error.contains("00000002.toml: vectors.calm: found an uploaded vector"),
        "{error}"
    );
    // A truncated record, which no server of ours leaves.
    let record = tested.folder.path().join("state/00000002.toml");
    let text = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, &text[..text.len() / 2]).unwrap();
    let error = check(config);
    assert!(error.contains("00000002.toml"), "{error}");
}

/// The number of the last change in effect. Change `n` uploads `vector(n)` if `n` is odd, and sets a default with the
/// scale `n` if it is even. Fails if the state is not that after one of the changes.
fn last_change(saved: &SavedState) -> u64 {
    let default = saved.defaults.values().next();
    let scale = default.map_or(0.0, |spec| spec.vectors[0].scale.unwrap()) as u64;
    let seed = saved.vectors.get("calm").map_or(0, |vector| {
        let concept = &vector.header().concept;
        concept.rsplit(' ').next().unwrap().parse().unwrap()
    });
    if seed > 0 {
        assert_eq!(saved.vectors["calm"].layers(), vector(seed).layers());
    }
    let last = seed.max(scale);
    let before = seed.min(scale);
    assert_eq!(
        before,
        last.saturating_sub(1),
        "a default of {scale} beside a vector of {seed}"
    );
    last
}

fn peek(folder: &Path) -> u64 {
    let saved = StateFolder::peek(&folder.join("state")).unwrap().unwrap_or_default();
    last_change(&saved)
}

#[test]
fn a_server_that_is_killed_leaves_the_state_before_a_change_or_after_it() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut tested = start(Some(ADMIN), "", &[]);
    let mut holds = 0;
    for _ in 0..8 {
        let (acknowledged, said) = mpsc::channel();
        let url = tested.server.url().to_string();
        let first = holds + 1;
        let changing = std::thread::spawn(move || {
            let client = Client::new(&url).with_patience(PATIENCE);
            for number in first.. {
                let status = match number % 2 {
                    1 => upload(&client, "calm", &vector(number)),
                    _ => {
                        let reply = client.put("/v1/steering/default", &default_body(number as f64));
                        reply.map_or(0, |reply| reply.status)
                    }
                };
                if status != 200 || acknowledged.send(number).is_err() {
                    return status;
                }
            }
            0
        });
        // Some changes, and a part of the next one, which takes some milliseconds.
        let wanted = holds + rng.random_range(1..4);
        let mut last = holds;
        while last < wanted {
            last = said.recv_timeout(PATIENCE).expect("changes are answered");
        }
        let until = std::time::Instant::now() + Duration::from_micros(rng.random_range(0..12_000));
        while std::time::Instant::now() < until {
            std::hint::spin_loop();
        }
        tested.server.signal("KILL");
        assert!(tested.server.ended(PATIENCE).is_some());
        assert_eq!(changing.join().unwrap(), 0);
        last = said.try_iter().last().unwrap_or(last);
        holds = peek(tested.folder.path());
        assert!(
            holds == last || holds == last + 1,
            "{last} was acknowledged, {holds} is in effect"
        );
        tested = again(tested);
        let described = Client::new(tested.server.url())
            .get("/v1/steering")
            .unwrap()
            .success()
            .unwrap();
        assert_eq!(described["state"], holds, "{described}");
    }
}
