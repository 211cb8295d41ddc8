//! The operator's limits apply to all requests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use steermap_examples::traffic::client::{Client, Reply};
use steermap_maps::VectorFile;
use steermap_tests::run::{error_of, run};

use super::operator::{TestServer, start, start_with_default};

const BOUND: &str = "[[steering.bounds]]\nmax_relative_scale = 0.5\n";

fn ask(tested: &TestServer, steering: Option<&Value>) -> Reply {
    let mut body = json!({"model": tested.model, "prompt": "Once upon a time", "max_tokens": 4, "temperature": 0});
    if let Some(steering) = steering {
        body["steering"] = steering.clone();
    }
    let client = Client::new(tested.server.url());
    client.post("/v1/completions", &body).unwrap()
}

fn refused(reply: &Reply, status: u16, message: &str) {
    assert_eq!(reply.status, status, "{}", reply.body);
    let error = reply.json().unwrap()["error"].take();
    assert!(error["message"].as_str().unwrap().contains(message), "{error}");
    let kind = if status == 403 {
        "permission_error"
    } else {
        "invalid_request_error"
    };
    assert_eq!(
        (error["type"].as_str(), error["param"].as_str()),
        (Some(kind), Some("steering")),
        "{error}"
    );
}

fn vectors(scales: &[f64]) -> Value {
    let vectors = scales
        .iter()
        .map(|scale| json!({"vector": "one", "relative_scale": scale, "layers": [3]}));
    json!(vectors.collect::<Vec<_>>())
}

#[test]
fn a_default_is_binding_with_per_request_off() {
    let tested = start_with_default(9.0, None, "[steering]\nper_request = \"off\"\n");
    let default = ask(&tested, None);
    assert_eq!(default.status, 200, "{}", default.body);
    assert_ne!(default.fingerprint.as_deref(), Some("none"));
    for steering in [
        json!({"mode": "off"}),
        json!({"vectors": vectors(&[0.1])}),
        json!({"mode": "extend", "vectors": vectors(&[0.1])}),
    ] {
        refused(
            &ask(&tested, Some(&steering)),
            403,
            "steering: found the field, expected no such field",
        );
    }
    let code = ask(&tested, Some(&json!({"mode": "off"}))).json().unwrap()["error"]["code"].take();
    assert_eq!(code, "steering_not_allowed");
    let (_, metrics) = tested.server.get("/metrics").unwrap();
    assert!(
        metrics.contains("steering_refusals_total{reason=\"policy\"} 4"),
        "{metrics}"
    );
}

#[test]
fn requests_may_extend_but_not_replace_with_per_request_extend() {
    let tested = start_with_default(
        9.0,
        Some("open_on_loopback = true"),
        "[steering]\nper_request = \"extend\"\n",
    );
    let extended = ask(&tested, Some(&json!({"mode": "extend", "vectors": vectors(&[0.1])})));
    assert_eq!(extended.status, 200, "{}", extended.body);
    assert_ne!(extended.fingerprint, ask(&tested, None).fingerprint);
    for steering in [json!({"mode": "off"}), json!({"vectors": vectors(&[0.1])})] {
        refused(&ask(&tested, Some(&steering)), 403, "steering.mode: found");
    }
    let other_norm = json!({"mode": "extend", "vectors": vectors(&[0.1]), "norm": "preserve"});
    refused(
        &ask(&tested, Some(&other_norm)),
        403,
        "steering.norm: found \"preserve\", expected \"free\"",
    );
    let (_, described) = tested.server.get("/v1/steering").unwrap();
    let described: Value = serde_json::from_str(&described).unwrap();
    assert_eq!(described["per_request"], "extend");

    // The operator changes the rule, without a restart.
    let path = tested.folder.path().join("mistralrs.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replace("\"extend\"", "\"replace\"")).unwrap();
    assert_eq!(tested.server.post("/v1/steering/reload", &json!({})).unwrap().0, 200);
    assert_eq!(
        ask(&tested, Some(&json!({"mode": "off"}))).fingerprint.as_deref(),
        Some("none")
    );
}

#[test]
fn small_vectors_do_not_evade_the_bound() {
    let tested = start(None, BOUND, &[]);
    let one = json!({"vectors": vectors(&[0.5])});
    assert_eq!(ask(&tested, Some(&one)).status, 200);
    let many = json!({"vectors": vectors(&[0.02; 26])});
    let message = "steering.vectors[25].relative_scale: found 0.02, with which the offsets at layer 3 add up to 0.520";
    refused(&ask(&tested, Some(&many)), 422, message);
    let absolute = json!({"vectors": [{"vector": "one", "scale": 51, "layers": [3]}]});
    refused(&ask(&tested, Some(&absolute)), 422, "vectors[0].scale: found 51");
}

#[test]
fn clamped_steering_is_reported_and_equals_the_bound() {
    let tested = start(None, &format!("{BOUND}excess = \"clamp\"\n"), &[]);
    let most = ask(&tested, Some(&json!({"vectors": vectors(&[0.5])})));
    assert_eq!(most.json().unwrap()["usage"]["steering"]["clamped_layers"], Value::Null);
    let clamped = ask(&tested, Some(&json!({"vectors": vectors(&[40.0])})));
    assert_eq!(clamped.fingerprint, most.fingerprint);
    let (clamped, most) = (clamped.json().unwrap(), most.json().unwrap());
    assert_eq!(clamped["usage"]["steering"]["clamped_layers"], json!([3]));
    assert_eq!(clamped["choices"][0]["text"], most["choices"][0]["text"]);
    let set = json!({"vectors": [{"vector": "one", "op": "set", "scale": 1, "layers": [3]}]});
    refused(&ask(&tested, Some(&set)), 422, "max_relative_scale");
}

#[test]
fn a_default_beyond_its_own_bound_is_an_error() {
    let tested = start_with_default(9.0, None, BOUND);
    let path = tested.folder.path().join("mistralrs.toml");
    let config = std::fs::read_to_string(&path)
        .unwrap()
        .replace("scale = 9.0", "scale = 900.0");
    std::fs::write(&path, config).unwrap();
    let error = error_of(&run(
        "mistralrs-steered",
        &["check", "--config", path.to_str().unwrap()],
    ));
    assert!(
        error.contains("steering.defaults[0].vectors[0].scale: found 900"),
        "{error}"
    );
    assert!(error.contains("max_relative_scale"), "{error}");
}

#[test]
fn suspicious_settings_are_warned_about() {
    let tested = start(None, "", &[]);
    let path = tested.folder.path().join("typo.toml");
    let config = std::fs::read_to_string(tested.folder.path().join("mistralrs.toml")).unwrap();
    std::fs::write(&path, config.replace("\nhost = ", "\nhots = ")).unwrap();
    let check = run("mistralrs-steered", &["check", "--config", path.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(check.status.success());
    assert!(
        said.contains("warning: server.hots: mistral.rs does not know this key"),
        "{said}"
    );
    assert!(said.contains("did you mean `host`?"), "{said}");
    assert!(
        said.contains("warning: server.host: \"0.0.0.0\" lets other machines reach the server"),
        "{said}"
    );
    // The server warns too, before it finds the port in use.
    let serve = run("mistralrs-steered", &["serve", "--config", path.to_str().unwrap()]);
    let log = String::from_utf8_lossy(&serve.stdout);
    assert!(log.contains("WARN") && log.contains("server.hots"), "{log}");
    assert!(log.contains("\"0.0.0.0\" lets other machines"), "{log}");
}

#[test]
fn requests_may_contain_vectors_if_allowed() {
    let tested = start(Some("open_on_loopback = true"), "[steering]\ninline = true\n", &[]);
    let file = VectorFile::load(&tested.folder.path().join("one.toml")).unwrap();
    let values: Vec<u8> = file
        .direction(3)
        .unwrap()
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let brought = json!({"layer": 3, "f32": STANDARD.encode(&values)});
    let own = json!({"vectors": [{"vector": brought, "scale": 60}]});
    let named = json!({"vectors": [{"vector": "one", "scale": 60, "layers": [3]}]});
    let (own, named) = (ask(&tested, Some(&own)), ask(&tested, Some(&named)));
    assert_eq!(
        (own.status, &own.fingerprint),
        (200, &named.fingerprint),
        "{}",
        own.body
    );
    let text = |reply: &Reply| reply.json().unwrap()["choices"][0]["text"].clone();
    assert_eq!(text(&own), text(&named));
    let short = json!({"vectors": [{"vector": {"layer": 3, "f32": "AAAA"}, "scale": 60}]});
    refused(
        &ask(&tested, Some(&short)),
        422,
        "steering.vectors[0].vector.f32: found 3 bytes",
    );

    let closed = start(None, "", &[]);
    let own = json!({"vectors": [{"vector": "one", "scale": 1}, {"vector": brought, "scale": 60}]});
    refused(
        &ask(&closed, Some(&own)),
        403,
        "steering.vectors[1].vector: found an inline vector",
    );
}
