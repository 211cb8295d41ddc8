//! Wrong requests of all kinds over HTTP: each is answered with the right status and a message that names what is
//! wrong, and the server keeps working.

use serde_json::{Value, json};
use steermap_examples::server::Server;
use steermap_examples::traffic::client::{Client, Reply, form, merged};
use steermap_examples::traffic::models::STORIES;
use steermap_examples::traffic::served::{Served, Settings};
use steermap_tests::project;

const TOKEN: &str = "a-token-for-the-admin-routes";
const PROMPT: &str = "In the garden, Tom saw the";

struct TestServer {
    server: Server,
    model: String,
    folder: tempfile::TempDir,
    failures: Vec<String>,
    cases: usize,
}

impl TestServer {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let served = Served::prepare(&project(""), folder.path()).unwrap();
        let admin = "token_env = \"STEERMAP_TEST_TOKEN\"\nuploads = true\nmax_upload_bytes = 65536\nmax_vectors = 6";
        let settings = Settings {
            admin: Some(admin.into()),
            ..Settings::default()
        };
        let environment = [("STEERMAP_TEST_TOKEN", TOKEN)];
        let config = format!("{}\n[steering.reading]\nstates = true\n", served.config(&settings));
        Self {
            server: Server::start_with(folder.path(), &config, &environment).unwrap(),
            model: served.model,
            folder,
            failures: Vec::new(),
            cases: 0,
        }
    }

    fn open(&self) -> Client {
        Client::new(self.server.url())
    }

    fn admin(&self) -> Client {
        self.open().with_token(TOKEN)
    }

    fn body(&self, more: &Value) -> Value {
        let body = json!({"model": self.model, "prompt": PROMPT, "max_tokens": 4, "temperature": 0.0});
        merged(&body, more)
    }

    /// The answer to a valid request.
    fn good(&self) -> String {
        let body = self.body(&json!({"steering": {"vectors": [{"vector": "one", "scale": 30.0}]}}));
        let reply = self.open().post("/v1/completions", &body).unwrap();
        reply.success().unwrap()["choices"][0]["text"]
            .as_str()
            .unwrap()
            .to_string()
    }

    /// Records whether a reply has one of these statuses and a message containing `says`.
    fn check(&mut self, what: &str, reply: &Reply, statuses: &[u16], says: &str) {
        self.cases += 1;
        let says_it = reply.body.to_lowercase().contains(&says.to_lowercase());
        if !statuses.contains(&reply.status) || !says_it {
            let told = format!(
                "{what}: status {}, expected {statuses:?} and {says:?}: {}",
                reply.status, reply.body
            );
            self.failures.push(told);
        }
        // A wrong request must neither change the answer to the next one nor end the server.
        if self.cases.is_multiple_of(5) {
            let good = self.good();
            assert!(!good.is_empty(), "after {what}");
        }
    }

    /// A completion with this field `steering`.
    fn steering(&mut self, field: &Value, says: &str) {
        let reply = self
            .open()
            .post("/v1/completions", &self.body(&json!({"steering": field})));
        self.check(&field.to_string(), &reply.unwrap(), &[400, 422], says);
    }

    /// A completion steered with this one vector.
    fn vector(&mut self, used: &Value, says: &str) {
        self.steering(&json!({"vectors": [used]}), says);
    }

    /// A completion steered with the vector `one` and these keys.
    fn one(&mut self, more: &Value, says: &str) {
        let used = merged(&json!({"vector": "one", "scale": 1.0}), more);
        self.vector(&used, says);
    }

    fn finish(self, at_least: usize) {
        assert!(self.cases >= at_least, "{} cases", self.cases);
        assert!(
            self.failures.is_empty(),
            "{} of {}:\n{}",
            self.failures.len(),
            self.cases,
            self.failures.join("\n")
        );
    }
}

#[test]
fn wrong_steering_is_refused_with_the_field_named() {
    let mut tested = TestServer::start();
    let good = tested.good();

    // The field itself.
    tested.steering(&json!("one"), "steering");
    tested.steering(&json!(3), "steering");
    tested.steering(&json!([]), "steering");
    tested.steering(&json!({"vectorz": []}), "vectorz");
    tested.steering(&json!({"vectors": {}}), "vectors");
    tested.steering(&json!({"vectors": ["one"]}), "vectors");
    tested.steering(&json!({"mode": "on", "vectors": []}), "mode");
    tested.steering(
        &json!({"mode": "off", "vectors": [{"vector": "one", "scale": 1.0}]}),
        "off",
    );
    tested.steering(&json!({"conflict": "maybe", "vectors": []}), "conflict");
    tested.steering(&json!({"norm": "keep", "vectors": []}), "norm");
    let twice = json!([{"vector": "one", "scale": 1.0}, {"vector": "two", "scale": 1.0}]);
    tested.steering(&json!({"conflict": "error", "vectors": twice}), "conflict");
    let many = vec![json!({"vector": "one", "scale": 1.0}); 33];
    tested.steering(&json!({"vectors": many}), "33");

    // Names.
    tested.vector(&json!({}), "vector");
    tested.vector(&json!({"vector": 7, "scale": 1.0}), "vector");
    for name in [
        "nobody",
        "../one",
        "/etc/passwd",
        "one\0",
        "",
        "one.toml/..",
        "öne",
        &"x".repeat(300),
    ] {
        tested.vector(&json!({"vector": name, "scale": 1.0}), "vector");
    }
    tested.one(&json!({"map": "sideways"}), "map");
    tested.one(&json!({"map": "../across"}), "map");
    tested.one(&json!({"map": "across"}), "vectors[0]");
    tested.vector(&json!({"vector": "mood", "scale": 1.0}), "vectors[0]");
    tested.one(&json!({"offset": "affine"}), "offset");
    tested.vector(
        &json!({"vector": "mood", "map": "across", "offset": "sideways", "scale": 1.0}),
        "offset",
    );

    // Scales.
    tested.vector(&json!({"vector": "one"}), "scale");
    tested.one(&json!({"scale": "4"}), "scale");
    tested.one(&json!({"scale": [4]}), "scale");
    tested.one(&json!({"scale": 1e39}), "scale");
    tested.one(&json!({"scale": -1e300}), "scale");
    tested.one(&json!({"relative_scale": 1.0}), "relative_scale");
    tested.vector(
        &json!({"vector": "one", "op": "ablate", "relative_scale": 1.0}),
        "relative_scale",
    );
    tested.one(&json!({"op": "multiply"}), "op");
    tested.one(&json!({"op": "ablate", "normalize": false}), "normalize");
    tested.one(&json!({"op": "set", "normalize": false}), "normalize");
    tested.vector(
        &json!({"vector": "one", "relative_scale": 1.0, "normalize": false}),
        "normalize",
    );
    tested.one(&json!({"normalize": "yes"}), "normalize");
    tested.one(&json!({"scales": 1.0}), "scales");

    // Layers.
    for layers in [
        json!([]),
        json!([8]),
        json!([-1]),
        json!([1, 1]),
        json!(["1"]),
        json!(1),
        json!([1.5]),
        json!([1u64 << 40]),
    ] {
        tested.one(&json!({"layers": layers}), "layers");
    }
    tested.vector(&json!({"vector": "three", "scale": 1.0, "layers": [0]}), "layers");

    // Selectors.
    tested.one(&json!({"apply": "all"}), "apply");
    tested.one(&json!({"apply": {}}), "apply");
    tested.one(&json!({"apply": {"prompt": "none", "generation": "none"}}), "apply");
    tested.one(&json!({"apply": {"promt": "all"}}), "promt");
    for (place, says) in [
        (json!("some"), "prompt"),
        (json!({}), "prompt"),
        (json!({"positions": []}), "positions"),
        (json!({"positions": [9999]}), "9999"),
        (json!({"positions": [-9999]}), "9999"),
        (json!({"positions": [0.5]}), "positions"),
        (json!({"positions": vec![0; 1025]}), "positions"),
        (json!({"windows": []}), "windows"),
        (json!({"windows": [[5, 5]]}), "windows"),
        (json!({"windows": [[5, 2]]}), "windows"),
        (json!({"windows": [[1, 2, 3]]}), "windows"),
        (json!({"windows": [[]]}), "windows"),
        (json!({"windows": [[100, 200]]}), "windows"),
        (json!({"windows": [3]}), "windows"),
        (json!({"tokens": []}), "tokens"),
        (json!({"tokens": [999_999_999], "required": true}), "tokens"),
        (json!({"tokens": ["not one token but many"]}), "tokens"),
        (json!({"tokens": [""]}), "tokens"),
        (json!({"tokens": [true]}), "tokens"),
        (json!({"positions": [0], "exclude_positions": [0]}), "prompt"),
        (json!({"exclude_windows": [[0]]}), "prompt"),
        (json!({"position": [0]}), "position"),
        (json!({"roles": []}), "roles"),
        (json!({"roles": "user"}), "roles"),
        (json!({"roles": ["boss"]}), "boss"),
        (json!({"roles": ["user", "tool", "user"]}), "roles[2]: found"),
        (json!({"roles": ["user"], "exclude_roles": ["user"]}), "prompt"),
        (json!({"roles": ["user"]}), "expected a chat"),
    ] {
        tested.one(&json!({"apply": {"prompt": place}}), says);
    }
    tested.one(&json!({"apply": {"generation": {"positions": [-2]}}}), "positions");
    tested.one(&json!({"apply": {"generation": {"windows": [[-3, -1]]}}}), "windows");
    tested.one(
        &json!({"apply": {"generation": {"roles": ["assistant"]}}}),
        "generation.roles",
    );
    tested.one(
        &json!({"apply": {"generation": {"exclude_roles": ["user"]}}}),
        "generation.exclude_roles",
    );

    // Conditions.
    let when = |more: &Value| merged(&json!({"vector": "one", "layer": 1, "above": 0.0}), more);
    tested.one(&json!({"when": "always"}), "when");
    tested.one(&json!({"when": {"vector": "one", "layer": 1}}), "above");
    tested.one(&json!({"when": {"vector": "one", "above": 0.0}}), "layer");
    tested.one(&json!({"when": when(&json!({"below": 0.0}))}), "below");
    tested.one(&json!({"when": when(&json!({"layer": 99}))}), "layer");
    tested.one(&json!({"when": when(&json!({"vector": "nobody"}))}), "nobody");
    tested.one(&json!({"when": when(&json!({"token": "first"}))}), "token");
    tested.one(&json!({"when": when(&json!({"above": 1e300}))}), "above");
    tested.one(&json!({"when": when(&json!({})), "apply": {"prompt": "all"}}), "prompt");

    // Other routes, streams, and routes that cannot be steered.
    let unknown = json!({"vectors": [{"vector": "nobody", "scale": 1.0}]});
    let chat = json!({"messages": [{"role": "user", "content": PROMPT}], "input": PROMPT, "steering": unknown});
    for route in ["/v1/chat/completions", "/v1/responses"] {
        for stream in [false, true] {
            let body = tested.body(&merged(&chat, &json!({"stream": stream})));
            let reply = tested.open().post(route, &body).unwrap();
            tested.check(&format!("{route}, streamed: {stream}"), &reply, &[400, 422], "nobody");
        }
    }
    let far = json!({"vectors": [{"vector": "one", "scale": 1.0, "apply": {"prompt": {"positions": [9999]}}}]});
    let body = tested.body(&json!({"steering": far, "stream": true}));
    let reply = tested.open().post("/v1/completions", &body).unwrap();
    tested.check("a clause that selects nothing, streamed", &reply, &[400, 422], "9999");
    let good_one = json!({"vectors": [{"vector": "one", "scale": 1.0}]});
    let body = tested.body(&json!({"input": PROMPT, "background": true, "steering": good_one}));
    let reply = tested.open().post("/v1/responses", &body).unwrap();
    tested.check("in the background", &reply, &[400, 422], "background");
    let reply = tested.open().post(
        "/v1/embeddings",
        &json!({"model": tested.model, "input": "x", "steering": good_one}),
    );
    tested.check("embeddings", &reply.unwrap(), &[400, 422], "steering");
    let reply = tested.open().post(
        "/v1/completions",
        &tested.body(&json!({"model": "nobody's", "steering": good_one})),
    );
    tested.check(
        "a model that is not served",
        &reply.unwrap(),
        &[400, 404, 422],
        "nobody's",
    );

    assert_eq!(tested.good(), good);
    tested.finish(90);
}

/// Wrong conditions, schedules, changes and readouts: each is a 422 with the path of the field.
#[test]
fn each_field_is_refused_with_its_path() {
    let mut tested = TestServer::start();
    let good = tested.good();
    let test = |more: &Value| {
        merged(
            &json!({"vector": "one", "layer": 1, "each": "token", "above": 0.0}),
            more,
        )
    };
    let when = |when: Value| json!({"vectors": [{"vector": "one", "scale": 1.0, "when": when}]});
    let schedule = |schedule: Value| json!({"vectors": [{"vector": "one", "scale": 1.0, "schedule": schedule}]});
    let readout = |more: &Value| json!({"readout": [merged(&json!({"vector": "one", "layer": 1}), more)]});
    let states = |more: &Value| json!({"states": merged(&json!({"layers": [1], "positions": "all"}), more)});
    let change = |change: Value| json!({"mode": "extend", "change": [change]});
    let deep = (0..9).fold(test(&json!({})), |inner, _| json!({"any": [inner]}));
    let cases = [
        (when(json!({"all": []})), "vectors[0].when.all: found []"),
        (when(json!({"any": 3})), "vectors[0].when.any: found integer `3`"),
        (
            when(json!({"any": [test(&json!({})), {}]})),
            "vectors[0].when.any[1]: found no key `vector`",
        ),
        (when(json!({"all": [test(&json!({}))], "any": []})), "vectors[0].when"),
        (
            when(json!({"all": [{"any": [test(&json!({"above": null}))]}]})),
            "vectors[0].when.all[0].any[0].above",
        ),
        (
            when(deep),
            "vectors[0].when.any[0].any[0].any[0].any[0].any[0].any[0].any[0].any[0].any: found 9 nested lists",
        ),
        (
            when(json!({"any": vec![test(&json!({})); 65]})),
            "vectors: found more than 64 tests",
        ),
        (when(test(&json!({"each": "word"}))), "vectors[0].when.each"),
        (when(test(&json!({"release": 1.0}))), "vectors[0].when.release: found 1"),
        (when(test(&json!({"release": "soon"}))), "vectors[0].when.release"),
        (when(test(&json!({"window": 0}))), "vectors[0].when.window: found 0"),
        (
            when(test(&json!({"window": 4097}))),
            "vectors[0].when.window: found 4097",
        ),
        (when(test(&json!({"window": -1}))), "vectors[0].when.window"),
        (when(test(&json!({"token": "mean"}))), "vectors[0].when.token"),
        (
            when(test(&json!({"each": "prompt", "window": 3}))),
            "vectors[0].when.window",
        ),
        (when(test(&json!({"map": "across"}))), "vectors[0].when"),
        (when(test(&json!({"vector": "nobody"}))), "vectors[0].when.vector"),
        (
            when(test(&json!({"vector": "three", "layer": 0}))),
            "vectors[0].when.layer: found 0",
        ),
        (
            json!({"vectors": [{"vector": "one", "scale": 1.0, "layers": [2], "when": test(&json!({"layer": 5}))}]}),
            "vectors[0].layers: found 2, expected 5 or later",
        ),
        (schedule(json!({})), "vectors[0].schedule.from: found no such key"),
        (schedule(json!([1, 0])), "vectors[0].schedule"),
        (schedule(json!({"from": 1, "to": 0})), "vectors[0].schedule.tokens"),
        (
            schedule(json!({"from": 1, "to": 0, "tokens": 0})),
            "vectors[0].schedule.tokens: found 0",
        ),
        (
            schedule(json!({"from": 1, "to": 0, "tokens": 2.5})),
            "vectors[0].schedule.tokens",
        ),
        (
            schedule(json!({"from": 2, "to": 0, "tokens": 3})),
            "vectors[0].schedule.from: found 2",
        ),
        (
            schedule(json!({"from": 1, "to": 0, "tokens": 3, "shape": "cubic"})),
            "vectors[0].schedule.shape",
        ),
        (
            schedule(json!({"factors": []})),
            "vectors[0].schedule.factors: found []",
        ),
        (
            schedule(json!({"factors": [0, "one"]})),
            "vectors[0].schedule.factors[1]",
        ),
        (schedule(json!({"factors": [0, 1e9]})), "vectors[0].schedule.factors[1]"),
        (
            schedule(json!({"factors": vec![0.5; 1025]})),
            "vectors[0].schedule.factors: found 1025",
        ),
        (schedule(json!({"factors": [1], "from": 0})), "vectors[0].schedule.from"),
        (
            schedule(json!({"factors": [1], "before": 0})),
            "vectors[0].schedule.before",
        ),
        (
            schedule(json!({"factors": [1, 0], "trigger": "not one token but many"})),
            "vectors[0].schedule.trigger",
        ),
        (
            schedule(json!({"factors": [1, 0], "every": 2})),
            "vectors[0].schedule.every",
        ),
        (json!({"readout": []}), "readout: found []"),
        (json!({"readout": {}}), "readout"),
        (
            json!({"readout": vec![json!({"vector": "one", "layer": 1}); 33]}),
            "readout: found 33 readouts",
        ),
        (
            readout(&json!({"vector": "nobody"})),
            "readout[0].vector: found \"nobody\"",
        ),
        (readout(&json!({"layer": 99})), "readout[0].layer: found 99"),
        (readout(&json!({"layer": "1"})), "readout[0].layer"),
        (readout(&json!({"of": "angle"})), "readout[0].of"),
        (readout(&json!({"phase": "middle"})), "readout[0].phase"),
        (readout(&json!({"map": "across"})), "readout[0].map"),
        (readout(&json!({"scale": 1})), "readout[0].scale: found the unknown key"),
        (
            json!({"readout": [{"vector": "mood", "layer": 4}]}),
            "readout[0].vector",
        ),
        (states(&json!({"layers": []})), "states.layers: found []"),
        (states(&json!({"layers": [1, 1]})), "states.layers: found 1 twice"),
        (states(&json!({"layers": "all"})), "states.layers"),
        (states(&json!({"positions": "some"})), "states.positions"),
        (states(&json!({"positions": []})), "states.positions: found []"),
        (states(&json!({"positions": [0.5]})), "states.positions[0]"),
        (states(&json!({"dtype": "f64"})), "states.dtype"),
        (
            change(json!({"vector": "one"})),
            "change[0]: found no other key than vector",
        ),
        (
            change(json!({"vector": "one", "scale": 1})),
            "change[0].vector: found \"one\", expected none",
        ),
        (change(json!({"scale": 1})), "change[0]: found no key `vector`"),
        (
            change(json!({"vector": "one", "drop": true, "layers": [1]})),
            "change[0].layers",
        ),
        (
            change(json!({"vector": "one", "scale": 1, "relative_scale": 1})),
            "change[0].relative_scale",
        ),
        (
            json!({"change": [{"vector": "one", "scale": 1}]}),
            "change: found changes",
        ),
        (json!({"mode": "off", "change": []}), "change: found this key"),
        (
            json!({"vectors": [{"vector": "one", "scale": 1, "apply": {"prompt": {"positions": [0], "required": true}}}]}),
            "vectors[0].apply.prompt.required",
        ),
        (
            json!({"vectors": [{"vector": "one", "scale": 1, "apply": {"generation": {"windows": [[-2, 4]]}}}]}),
            "vectors[0].apply.generation.windows[0]: found [-2, 4], expected -1",
        ),
    ];
    let number = cases.len();
    for (field, path) in cases {
        let reply = tested
            .open()
            .post("/v1/completions", &tested.body(&json!({"steering": field})))
            .unwrap();
        let path = format!("\"steering.{}", path.replace('"', "\\\""));
        tested.check(&field.to_string(), &reply, &[422], &path);
    }
    assert_eq!(tested.good(), good);
    tested.finish(number);
}

#[test]
fn broken_bodies_are_refused() {
    let mut tested = TestServer::start();
    let good = tested.good();
    let route = "/v1/completions";
    let whole = tested
        .body(&json!({"steering": {"vectors": [{"vector": "one", "scale": 1.0}]}}))
        .to_string();
    let send = |tested: &TestServer, body: &[u8]| tested.open().send("POST", route, "application/json", body).unwrap();
    for (what, body, says) in [
        ("NaN", whole.replace("1.0", "NaN").into_bytes(), ""),
        (
            "a number beyond a double",
            whole.replace("1.0", "1e999").into_bytes(),
            "",
        ),
        (
            "a number of a million digits",
            whole.replace("1.0", &"9".repeat(1_000_000)).into_bytes(),
            "",
        ),
        (
            "a body that ends early",
            whole.as_bytes()[..whole.len() - 9].to_vec(),
            "",
        ),
        (
            "bad UTF-8 in a name",
            whole
                .replace("\"one\"", "\"?\"")
                .into_bytes()
                .iter()
                .map(|&b| if b == b'?' { 0xff } else { b })
                .collect(),
            "",
        ),
        ("nothing", Vec::new(), ""),
        ("a list", b"[]".to_vec(), ""),
        (
            "deep nesting",
            whole.replace("1.0", &"[".repeat(100_000)).into_bytes(),
            "",
        ),
        (
            "a steering field that is there twice",
            whole
                .replacen('{', "{\"steering\": {\"mode\": \"off\"}, ", 1)
                .into_bytes(),
            "steering",
        ),
    ] {
        let reply = send(&tested, &body);
        tested.check(what, &reply, &[400, 413, 422], says);
    }
    let reply = tested
        .open()
        .send("POST", route, "text/plain", whole.as_bytes())
        .unwrap();
    tested.check("another content type", &reply, &[400, 415], "");
    assert_eq!(tested.good(), good);
    tested.finish(10);
}

#[test]
fn the_admin_routes_refuse_wrong_requests() {
    let mut tested = TestServer::start();
    let good = tested.good();
    let vectors = "/v1/steering/vectors";
    let default = json!({"spec": {"vectors": [{"vector": "one", "scale": 1.0}]}});

    // Without the token, or with a wrong one.
    for (who, client) in [
        ("nobody", tested.open()),
        ("another", tested.open().with_token("another")),
        ("a beginning", tested.open().with_token(&TOKEN[..5])),
        ("too much", tested.open().with_token(&format!("{TOKEN}."))),
    ] {
        let what = |route: &str| format!("{who} at {route}");
        tested.check(&what("describe"), &client.get("/v1/steering").unwrap(), &[401], "");
        tested.check(
            &what("default"),
            &client.put("/v1/steering/default", &default).unwrap(),
            &[401],
            "",
        );
        tested.check(
            &what("reload"),
            &client.post("/v1/steering/reload", &json!({})).unwrap(),
            &[401],
            "",
        );
        tested.check(
            &what("delete"),
            &client.delete(&format!("{vectors}/one")).unwrap(),
            &[401],
            "",
        );
        tested.check(
            &what("upload"),
            &client.post_form(vectors, &[("name", b"x")]).unwrap(),
            &[401],
            "",
        );
    }

    // Defaults.
    for (body, says) in [
        (json!({"model": "nobody's", "spec": null}), "model"),
        (json!({"spek": null}), "spek"),
        (
            json!({"spec": {"vectors": [{"vector": "nobody", "scale": 1.0}]}}),
            "nobody",
        ),
        (json!({"spec": {"vectors": [{"vector": "one"}]}}), "scale"),
        (json!({"spec": {"mode": "off"}}), "mode"),
        (json!([]), ""),
    ] {
        let reply = tested.admin().put("/v1/steering/default", &body).unwrap();
        tested.check(&format!("default {body}"), &reply, &[400, 404, 422], says);
    }

    // Uploads.
    let path = tested.folder.path().join("upload.toml");
    STORIES
        .random_vector(&project(""), 9, &[3])
        .unwrap()
        .save(&path)
        .unwrap();
    let toml = std::fs::read(&path).unwrap();
    let text = String::from_utf8(toml.clone()).unwrap();
    let file = text.split("file = \"").nth(1).unwrap().split('"').next().unwrap();
    let tensors = std::fs::read(tested.folder.path().join(file)).unwrap();
    let mut turned = tensors.clone();
    *turned.last_mut().unwrap() ^= 1;
    let elsewhere = text.replace(file, "../upload.safetensors").into_bytes();
    let narrower = text.replace("hidden_size = 160", "hidden_size = 161").into_bytes();
    let nobodys = text
        .replace("fingerprint = \"sm1:", "fingerprint = \"sm1:00")
        .into_bytes();
    let whole = |name: &'static [u8]| -> Vec<(&str, &[u8])> {
        vec![("name", name), ("toml", &toml), ("safetensors", &tensors)]
    };
    let large = vec![0u8; 100_000];
    type Form<'a> = Vec<(&'a str, &'a [u8])>;
    let forms: Vec<(&str, Form, &[u16], &str)> = vec![
        ("without a name", whole(b"x")[1..].to_vec(), &[400, 422], "name"),
        ("a path as a name", whole(b"../one"), &[400, 422], "name"),
        ("an empty name", whole(b""), &[400, 422], "name"),
        ("a name that is not UTF-8", whole(b"\xff\xfe"), &[400, 422], "name"),
        (
            "a name twice",
            [whole(b"x"), vec![("name", b"y" as &[u8])]].concat(),
            &[400, 422],
            "name",
        ),
        ("without tensors", whole(b"x")[..2].to_vec(), &[400, 422], "safetensors"),
        (
            "without TOML",
            vec![("name", b"x"), ("safetensors", &tensors)],
            &[400, 422],
            "toml",
        ),
        (
            "an unknown field",
            [whole(b"x"), vec![("pickle", b"y" as &[u8])]].concat(),
            &[400, 422],
            "pickle",
        ),
        (
            "GGUF and TOML",
            [whole(b"x"), vec![("gguf", b"GGUF" as &[u8])]].concat(),
            &[400, 422],
            "gguf",
        ),
        (
            "invalid GGUF",
            vec![("name", b"x"), ("gguf", b"GGUF\x03\0\0\0")],
            &[400, 422],
            "",
        ),
        (
            "invalid TOML",
            vec![("name", b"x"), ("toml", b"= ="), ("safetensors", &tensors)],
            &[400, 422],
            "",
        ),
        (
            "TOML that is not UTF-8",
            vec![("name", b"x"), ("toml", b"\xff"), ("safetensors", &tensors)],
            &[400, 422],
            "",
        ),
        (
            "a changed tensor",
            vec![("name", b"x"), ("toml", &toml), ("safetensors", &turned)],
            &[400, 422],
            "sha256",
        ),
        (
            "tensors elsewhere",
            vec![("name", b"x"), ("toml", &elsewhere), ("safetensors", &tensors)],
            &[400, 422],
            "file",
        ),
        (
            "another width",
            vec![("name", b"x"), ("toml", &narrower), ("safetensors", &tensors)],
            &[400, 422],
            "161",
        ),
        (
            "nobody's model",
            vec![("name", b"x"), ("toml", &nobodys), ("safetensors", &tensors)],
            &[400, 409, 422],
            "fingerprint",
        ),
        ("too large", vec![("name", b"x"), ("gguf", &large)], &[413], ""),
    ];
    for (what, fields, statuses, says) in forms {
        let reply = tested.admin().post_form(vectors, &fields).unwrap();
        tested.check(what, &reply, statuses, says);
    }
    let reply = tested.admin().post(vectors, &json!({"name": "x"})).unwrap();
    tested.check("JSON without a model", &reply, &[422], "body: found no key `model`");
    let reply = tested.admin().send("POST", vectors, "text/plain", b"{}").unwrap();
    tested.check("text instead of a form", &reply, &[415], "expected multipart/form-data");
    let (content_type, body) = form(&whole(b"x"));
    let reply = tested
        .admin()
        .send("POST", vectors, &content_type, &body[..body.len() - 40])
        .unwrap();
    tested.check("a form that ends early", &reply, &[400, 422], "");

    // Too many vectors: the configuration has four, and two more fit.
    for name in [b"five", b"six_"] {
        let fields = [("name", name as &[u8]), ("toml", &toml), ("safetensors", &tensors)];
        tested.admin().post_form(vectors, &fields).unwrap().success().unwrap();
    }
    let reply = tested.admin().post_form(vectors, &whole(b"seven")).unwrap();
    tested.check("one vector too many", &reply, &[409, 413, 422], "6");

    // Deletions.
    for (name, statuses) in [
        ("nobody", &[404u16][..]),
        ("..%2Fone", &[400, 404, 422]),
        ("%ff", &[400, 404, 422]),
    ] {
        let reply = tested.admin().delete(&format!("{vectors}/{name}")).unwrap();
        tested.check(&format!("delete {name}"), &reply, statuses, "");
    }

    // A configuration that cannot be loaded changes nothing.
    let config = tested.folder.path().join("mistralrs.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    for (from, to, says) in [
        ("\"one.toml\"", "\"gone.toml\"", "gone.toml"),
        ("[steering.maps]", "[steering.mapz]", "mapz"),
    ] {
        std::fs::write(&config, text.replace(from, to)).unwrap();
        let reply = tested.admin().post("/v1/steering/reload", &json!({})).unwrap();
        tested.check(&format!("reload with {to}"), &reply, &[400, 404, 409, 422], says);
    }
    assert_eq!(tested.good(), good);
    tested.finish(50);
}
