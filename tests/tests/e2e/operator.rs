//! What an operator relies on: permissions, shutdown, and messages.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use mistralrs::{ModelBuilder, ModelDType};
use serde_json::{Value, json};
use steermap_examples::server::{Server, event_data, serve_config};
use steermap_examples::traffic::client::Client;
use steermap_examples::traffic::served::{Served, Settings};
use steermap_plugin::serve::unwell;
use steermap_tests::run::{error_of, run};
use steermap_tests::{fixture, project};

pub const PATIENCE: Duration = Duration::from_secs(30);

/// mistral.rs's routes that change what is served, or inspect the machine.
pub const CONTROL: [&str; 6] = [
    "/v1/models/unload",
    "/v1/models/reload",
    "/re_isq",
    "/v1/models/tune",
    "/v1/system/doctor",
    "/v1/system/info",
];

/// A server of stories-3m, and the folder of its configuration.
pub struct TestServer {
    pub server: Server,
    pub model: String,
    pub folder: tempfile::TempDir,
}

/// Starts it with the lines `admin` of `[steering.admin]` and `more` at the end of its configuration.
pub fn start(admin: Option<&str>, more: &str, environment: &[(&str, &str)]) -> TestServer {
    let settings = Settings {
        admin: admin.map(str::to_string),
        ..Settings::default()
    };
    start_as(&settings, more, environment)
}

/// As [`start`], with a default spec.
pub fn start_with_default(scale: f64, admin: Option<&str>, more: &str) -> TestServer {
    let settings = Settings {
        admin: admin.map(str::to_string),
        default_scale: Some(scale),
        ..Settings::default()
    };
    start_as(&settings, more, &[])
}

/// Starts it with these settings, and `more` at the end of its configuration.
pub fn start_as(settings: &Settings, more: &str, environment: &[(&str, &str)]) -> TestServer {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::prepare(&project(""), folder.path()).unwrap();
    let config = format!("{}{more}", served.config(settings));
    TestServer {
        server: Server::start_with(folder.path(), &config, environment).unwrap(),
        model: served.model,
        folder,
    }
}

/// A server of a model whose context takes minutes to fill.
fn start_slow(more: &str) -> TestServer {
    let folder = tempfile::tempdir().unwrap();
    let model = project("models/smollm2-135m").display().to_string();
    let config = format!(
        "[[models]]\nkind = \"text\"\nmodel_id = \"{model}\"\ndtype = \"f32\"\ndevice = {{ cpu = true }}\n{more}"
    );
    TestServer {
        server: Server::start(folder.path(), &config).unwrap(),
        model,
        folder,
    }
}

impl TestServer {
    /// Starts a stream that takes longer than any of these tests, and returns it after its first event.
    fn long_stream(&self) -> BufReader<impl Read + use<>> {
        // (The bias excludes both tokens that end a text.)
        let body = json!({
            "model": self.model, "prompt": "Once", "max_tokens": 8000, "stream": true, "logit_bias": {"0": -100, "2": -100},
        });
        let response = ureq::post(format!("{}/v1/completions", self.server.url()))
            .send_json(&body)
            .unwrap();
        let mut events = BufReader::new(response.into_body().into_reader());
        let mut line = String::new();
        events.read_line(&mut line).unwrap();
        assert!(line.starts_with("data: {"), "{line}");
        events
    }
}

#[test]
fn signals_end_the_server_once_requests_have_ended() {
    for signal in ["TERM", "INT", "HUP"] {
        let mut tested = start(None, "", &[]);
        let (port, begin) = (tested.server.port(), Instant::now());
        tested.server.signal(signal);
        assert_eq!(tested.server.ended(PATIENCE).unwrap().code(), Some(0), "{signal}");
        assert!(begin.elapsed() < PATIENCE, "{signal}");
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    }
}

#[test]
fn streams_end_with_an_event_when_time_is_up() {
    let mut tested = start_slow("[steering.shutdown]\nseconds = 1\n");
    let mut events = tested.long_stream();
    let port = tested.server.port();
    tested.server.signal("TERM");
    let mut rest = String::new();
    events.read_to_string(&mut rest).unwrap();
    let last: Vec<&str> = event_data(&rest).collect();
    let [.., error, done] = last.as_slice() else {
        panic!("{rest}");
    };
    let error: Value = serde_json::from_str(error).unwrap();
    assert_eq!(
        (error["error"]["code"].as_str(), *done),
        (Some("server_stopping"), "[DONE]"),
        "{error}"
    );
    assert_eq!(tested.server.ended(PATIENCE).unwrap().code(), Some(0));
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut tested = start_slow("[steering.shutdown]\nseconds = 3000\n");
    let events = tested.long_stream();
    let from = tested.server.log_lines();
    tested.server.signal("INT");
    let stopping = tested
        .server
        .logged(0, PATIENCE, |line| line.contains("no longer listening").then_some(()));
    assert!(stopping.is_some(), "{:?}", tested.server.log_since(from));
    tested.server.signal("INT");
    assert_eq!(tested.server.ended(PATIENCE).unwrap().code(), Some(0));
    drop(events);
}

#[test]
fn a_port_in_use_is_reported_before_models_load() {
    let tested = start(None, "", &[]);
    let config = std::fs::read_to_string(tested.folder.path().join("mistralrs.toml")).unwrap();
    let second = tested.folder.path().join("second.toml");
    std::fs::write(&second, config).unwrap();
    let output = run("mistralrs-steered", &["serve", "--config", second.to_str().unwrap()]);
    let error = error_of(&output);
    let port = tested.server.port();
    assert!(
        error.contains(&format!("server: can't listen on 127.0.0.1:{port}")),
        "{error}"
    );
    assert!(!String::from_utf8_lossy(&output.stdout).contains("Model loaded"));
}

#[test]
fn without_a_token_nothing_is_open_unless_configured() {
    let tested = start(Some("uploads = true"), "", &[]);
    assert_eq!(tested.server.get("/v1/steering").unwrap().0, 404);
    let model = json!({"model_id": tested.model});
    for route in CONTROL {
        let from = tested.server.log_lines();
        assert_eq!(tested.server.post(route, &model).unwrap().0, 403, "{route}");
        let said = tested.server.logged(from, PATIENCE, |line| {
            (line.contains(route) && line.contains("caller=\"127.0.0.1:") && line.contains("403")).then_some(())
        });
        assert!(said.is_some(), "{:?}", tested.server.log_since(from));
    }
    assert_eq!(tested.server.get("/metrics").unwrap().0, 200);

    let open = start(Some("open_on_loopback = true"), "", &[]);
    assert_eq!(open.server.get("/v1/steering").unwrap().0, 200);
    let forwarded = ureq::get(format!("{}/v1/steering", open.server.url()))
        .header("x-forwarded-for", "192.0.2.7")
        .call();
    assert!(matches!(forwarded, Err(ureq::Error::StatusCode(403))), "{forwarded:?}");
    let change = json!({"model": open.model, "spec": null});
    let from = open.server.log_lines();
    let changed = ureq::put(format!("{}/v1/steering/default", open.server.url())).send_json(&change);
    assert!(changed.is_ok(), "{changed:?}");
    let said = open.server.logged(from, PATIENCE, |line| {
        (line.contains("PUT /v1/steering/default") && line.contains("caller=\"127.0.0.1:")).then_some(())
    });
    assert!(said.is_some(), "{:?}", open.server.log_since(from));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mistralrs.toml");
    let config = format!(
        "[[models]]\nkind = \"text\"\nmodel_id = \"{}\"\n[steering.admin]\nopen_on_loopback = true\n",
        fixture("tiny-llama").display()
    );
    std::fs::write(&path, serve_config(&config, 1).replace("127.0.0.1", "0.0.0.0")).unwrap();
    let error = error_of(&run(
        "mistralrs-steered",
        &["check", "--config", path.to_str().unwrap()],
    ));
    assert!(error.contains("steering.admin.open_on_loopback: found true"), "{error}");
}

#[test]
fn a_server_is_healthy_while_its_models_are_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let model = |name: &str| fixture(name).display().to_string();
    let entry = |name: &str| {
        let id = model(name);
        format!("[[models]]\nkind = \"text\"\nmodel_id = \"{id}\"\ndtype = \"f32\"\ndevice = {{ cpu = true }}\n")
    };
    let config = format!(
        "{}{}[steering.admin]\nopen_on_loopback = true\n",
        entry("tiny-llama"),
        entry("tiny-gemma2")
    );
    let server = Server::start(folder.path(), &config).unwrap();
    assert_eq!(server.get("/health").unwrap(), (200, "OK".to_string()));
    let gone = json!({"model_id": model("tiny-gemma2")});
    // A model that could not be loaded again stays, so the server stays healthy.
    let (_, answer) = server.post("/v1/models/unload", &gone).unwrap();
    assert!(answer.contains("no_loader_config"), "{answer}");
    assert_eq!(server.get("/health").unwrap(), (200, "OK".to_string()));
    assert_eq!(
        server.complete(&model("tiny-gemma2"), "hi", 2).map(|_| ()).ok(),
        Some(())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_unhealthy_once_a_model_is_unloaded() {
    let folder = fixture("tiny-llama").display().to_string();
    let builder = ModelBuilder::new(&folder).with_dtype(ModelDType::F32).with_force_cpu();
    let model = builder.build().await.unwrap();
    let engine = model.inner();
    assert_eq!(unwell(engine), None);
    tokio::task::block_in_place(|| engine.unload_model(&folder)).unwrap();
    let why = unwell(engine).expect("the model is gone");
    assert!(why.contains(&folder) && why.contains("nloaded"), "{why}");
}

#[test]
fn errors_have_no_backtrace() {
    let tested = start(None, "", &[("RUST_BACKTRACE", "1")]);
    let tool = json!({"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}});
    let mut body = json!({
        "model": tested.model,
        "messages": [{"role": "user", "content": "Tom saw a"}],
        "tools": [tool],
        "tool_choice": tool,
        "max_tokens": 4,
    });
    let expected = "Tool choice was required but no tools were called.";
    let client = Client::new(tested.server.url());
    let whole = client.post("/v1/chat/completions", &body).unwrap();
    assert_eq!((whole.status, whole.message().as_str()), (500, expected));
    body["stream"] = json!(true);
    let streamed = client.post("/v1/chat/completions", &body).unwrap();
    assert!(
        streamed.body.contains(expected) && !streamed.body.contains("candle"),
        "{}",
        streamed.body
    );
    let body = json!({"model": tested.model, "input": "Tom saw a", "tools": [tool], "tool_choice": tool, "max_output_tokens": 4});
    let response = client.post("/v1/responses", &body).unwrap();
    assert!(
        response.body.contains(expected) && !response.body.contains("candle"),
        "{}",
        response.body
    );
}

#[test]
fn the_log_has_no_escape_codes_without_a_terminal() {
    let tested = start(None, "", &[("NO_COLOR", "")]);
    // The request is refused, which is logged.
    let from = tested.server.log_lines();
    tested.server.post("/re_isq", &json!({})).unwrap();
    let refused = tested
        .server
        .logged(from, PATIENCE, |line| line.contains("/re_isq").then_some(()));
    assert!(refused.is_some(), "{:?}", tested.server.log_since(0));
    let (_, lines) = tested.server.log_since(0);
    assert!(lines.iter().all(|line| !line.contains('\u{1b}')), "{lines:?}");
    let version = run("mistralrs-steered", &["--version"]);
    assert!(String::from_utf8_lossy(&version.stdout).starts_with("mistralrs-steered "));
    let check = run("mistralrs-steered", &["check", "--config", "nowhere.toml"]);
    assert!(!error_of(&check).contains('\u{1b}'));
}
