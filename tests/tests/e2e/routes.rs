//! Which routes are open to whom: the table in docs/serving.md, made by asking each route of a real server.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::Value;
use steermap_examples::traffic::client::Client;
use steermap_tests::project;

use super::operator::{Tested, start};

const TOKEN: &str = "s3cret";

/// The routes that mistral.rs's own server has, as its source says.
fn engine_routes() -> Vec<(String, String)> {
    let file =
        "plugin/engine/prepared-by-cargo-xtask-engine/mistralrs-server-core/src/mistralrs_server_router_builder.rs";
    let source = std::fs::read_to_string(project(file)).unwrap();
    let (_, router) = source.split_once("let router = Router::new()").unwrap();
    let (router, _) = router.split_once(".layer(").unwrap();
    let mut routes = Vec::new();
    for route in router.split(".route(").skip(1) {
        let path = route.split('"').nth(1).unwrap();
        for method in ["get", "post", "put", "delete"] {
            if route.contains(&format!("{method}(")) {
                routes.push((method.to_uppercase(), path.to_string()));
            }
        }
    }
    assert!(routes.len() > 15, "{routes:?}");
    // Those of its description, which it has beside them.
    for path in ["/docs/", "/api-doc/openapi.json"] {
        routes.push(("GET".to_string(), path.to_string()));
    }
    routes
}

/// Ours, as their description says, and those that are beside it.
fn own_routes(client: &Client) -> Vec<(String, String)> {
    let document = client.get("/api-doc/steering.json").unwrap().success().unwrap();
    let beside = [
        "/api-doc/steering.json",
        "/playground",
        "/playground/main.js",
        "/playground/state",
    ];
    let mut routes: Vec<_> = beside.map(|path| ("GET".to_string(), path.to_string())).into();
    for (path, methods) in document["paths"].as_object().unwrap() {
        routes.extend(
            methods
                .as_object()
                .unwrap()
                .keys()
                .map(|method| (method.to_uppercase(), path.clone())),
        );
    }
    routes
}

/// What becomes of a request that any of those who may ask would get an answer to, if only what is wrong with it.
fn outcome(client: &Client, method: &str, path: &str) -> &'static str {
    let path = path.replace("{response_id}", "none").replace("{name}", "none");
    let reply = match method {
        "GET" => client.get(&path),
        "DELETE" => client.delete(&path),
        _ => client.send(method, &path, "application/json", b"{}"),
    };
    let reply = reply.unwrap();
    match reply.status {
        401 | 403 => "refused",
        404 if reply.message().starts_with("there is no route") => "not there",
        _ => "open",
    }
}

fn table(servers: &[(&str, Client)], routes: &BTreeSet<(String, String)>) -> String {
    let names: Vec<&str> = servers.iter().map(|(name, _)| *name).collect();
    let mut table = format!(
        "| route | {} |\n|{}\n",
        names.join(" | "),
        " --- |".repeat(names.len() + 1)
    );
    let mut rows: Vec<(Vec<&str>, String)> = Vec::new();
    for (path, method) in routes {
        let outcomes = servers
            .iter()
            .map(|(_, client)| outcome(client, method, path))
            .collect();
        let route = format!("`{method} {path}`");
        match rows.iter_mut().find(|(known, _)| *known == outcomes) {
            Some((_, routes)) => *routes += &format!(", {route}"),
            None => rows.push((outcomes, route)),
        }
    }
    for (outcomes, routes) in rows {
        writeln!(table, "| {routes} | {} |", outcomes.join(" | ")).unwrap();
    }
    table
}

#[test]
fn the_documentation_says_which_routes_are_open_to_whom() {
    let closed = start(None, "", &[]);
    let local = start(Some("open_on_loopback = true\nuploads = true"), "", &[]);
    let token = start(
        Some("token_env = \"STEERMAP_TEST_TOKEN\"\nuploads = true"),
        "",
        &[("STEERMAP_TEST_TOKEN", TOKEN)],
    );
    let client = |tested: &Tested| Client::new(tested.server.url());
    let servers = [
        ("nothing configured", client(&closed)),
        ("`open_on_loopback`, from this machine", client(&local)),
        ("a token, without it", client(&token)),
        ("a token, with it", client(&token).with_token(TOKEN)),
    ];
    let all = engine_routes().into_iter().chain(own_routes(&servers[1].1));
    let routes: BTreeSet<(String, String)> = all.map(|(method, path)| (path, method)).collect();
    let expected = table(&servers, &routes);
    let page = std::fs::read_to_string(project("docs/serving.md")).unwrap();
    let found = page
        .split("<!-- routes -->\n")
        .nth(1)
        .and_then(|rest| rest.split("<!-- /routes -->").next());
    assert_eq!(found, Some(expected.as_str()), "docs/serving.md must have:\n{expected}");
    // What is open with nothing configured leaves the server as it was.
    let described: Value = servers[3].1.get("/v1/steering").unwrap().success().unwrap();
    assert_eq!(described["models"].as_array().unwrap().len(), 1);
}
