//! The playground in a browser, on a real server of the family. The tests are in `tests/playground`; `cargo xtask test`
//! installs their packages.

use std::process::Command;

use steermap_examples::traffic::client::Client;
use steermap_examples::traffic::served::Settings;
use steermap_tests::project;

use super::clients::installed;
use super::operator::{start, start_as};

const TOKEN: &str = "secret-token";

#[test]
fn the_playground_works_in_a_browser() {
    let source = project("examples/family/stories-260k").display().to_string();
    let settings = Settings {
        prefix_cache: true,
        admin: Some("token_env = \"STEERMAP_TEST_TOKEN\"\nuploads = true".to_string()),
        ..Settings::default()
    };
    let more = format!("[steering.sources.small]\nmodel = \"{source}\"\ndtype = \"f32\"\ndevice = \"cpu\"\n");
    let tested = start_as(&settings, &more, &[("STEERMAP_TEST_TOKEN", TOKEN)]);
    let open = start(Some("open_on_loopback = true\nuploads = true"), &more, &[]);
    let files = std::fs::read_dir(project("tests/playground")).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.to_string_lossy().ends_with(".test.mjs"));
    files.sort();
    let output = Command::new("node")
        .args(["--test", "--test-concurrency=1"])
        .args(files)
        .current_dir(installed("playground"))
        .env("STEERMAP_URL", tested.server.url())
        .env("STEERMAP_TOKEN", TOKEN)
        .env("STEERMAP_OPEN_URL", open.server.url())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{told}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_page_is_open_and_its_state_is_protected() {
    let closed = start(None, "", &[]);
    let local = Client::new(closed.server.url());
    let page = local.get("/playground").unwrap();
    assert!(
        page.status == 200 && page.body.contains("<!doctype html>"),
        "{}",
        page.body
    );
    let known = local.get("/playground/state").unwrap().success().unwrap();
    for key in ["token", "uploads", "files"] {
        assert_eq!(known[key], false, "{key}");
    }
    let names = known["steering"]["vectors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|vector| &vector["name"]);
    assert!(names.clone().any(|name| *name == "mood"), "{known}");
    let mood = known["steering"]["vectors"]
        .as_array()
        .unwrap()
        .iter()
        .find(|vector| vector["name"] == "mood");
    let layer = &mood.unwrap()["table"][0];
    assert!(
        layer["norm"].as_f64().unwrap() > 0.0
            && layer["mean_norm"].as_f64().unwrap() > 0.0
            && layer["auroc"].as_f64().unwrap() > 0.5,
        "{layer}"
    );
    assert_eq!(known["steering"]["models"][0]["chat"], true);
    let missing = local.get("/playground/nothing.js").unwrap();
    assert_eq!(
        (missing.status, missing.message().as_str()),
        (404, "there is no file \"nothing.js\" in the playground")
    );

    // Not open to pages of other origins, nor through a proxy.
    let ask = |route: &str, headers: &[(&str, &str)]| -> (u16, String) {
        let mut request = ureq::get(format!("{}{route}", closed.server.url()))
            .config()
            .http_status_as_error(false)
            .build();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut reply = request.call().unwrap();
        (reply.status().as_u16(), reply.body_mut().read_to_string().unwrap())
    };
    let own = closed.server.url().to_string();
    assert_eq!(
        ask(
            "/playground/state",
            &[("origin", &own), ("sec-fetch-site", "same-origin")]
        )
        .0,
        200
    );
    for headers in [
        [("origin", "http://evil.example")],
        [("origin", "null")],
        [("sec-fetch-site", "cross-site")],
        [("sec-fetch-site", "same-site")],
        [("x-forwarded-for", "10.0.0.1")],
        [("host", "evil.example")],
    ] {
        assert_eq!(ask("/playground/state", &headers).0, 403, "{headers:?}");
    }
    // Browsers get a page with a link to it; programs get mistral.rs's answer.
    let (status, front) = ask("/", &[("accept", "text/html,*/*")]);
    assert!(status == 200 && front.contains("href=\"/playground\""), "{front}");
    assert!(!ask("/", &[]).1.contains("playground"));

    let guarded = start(
        Some("token_env = \"STEERMAP_TEST_TOKEN\""),
        "",
        &[("STEERMAP_TEST_TOKEN", TOKEN)],
    );
    let without = Client::new(guarded.server.url());
    assert_eq!(without.get("/playground").unwrap().status, 200);
    assert_eq!(without.get("/playground/state").unwrap().status, 401);
    let with = Client::new(guarded.server.url()).with_token(TOKEN);
    assert_eq!(with.get("/playground/state").unwrap().success().unwrap()["token"], true);
}

#[test]
fn a_configuration_may_have_no_playground() {
    let tested = start(None, "[steering]\nplayground = false\n", &[]);
    let client = Client::new(tested.server.url());
    for route in ["/playground", "/playground/state", "/playground/main.js"] {
        let reply = client.get(route).unwrap();
        assert_eq!(reply.status, 404, "{route}: {}", reply.body);
    }
}
