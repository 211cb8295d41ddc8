//! The openai Python package as the client, where it is installed.

use std::process::Command;

use steermap_examples::server::Server;
use steermap_examples::traffic::served::{Served, Settings};
use steermap_tests::project;

#[test]
fn the_openai_package_steers_its_requests() {
    let python = std::env::var("STEERMAP_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let there = Command::new(&python).args(["-c", "import openai"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        eprintln!("not run: {python} has no package openai; STEERMAP_PYTHON names another interpreter");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let served = Served::prepare(&project(""), dir.path()).unwrap();
    let server = Server::start(dir.path(), &served.config(&Settings::default())).unwrap();
    let output = Command::new(&python)
        .arg(project("tests/openai_client.py"))
        .args([server.url(), &served.model, "one"])
        .output()
        .unwrap();
    let (text, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success() && text.trim() == "ok", "{text}{errors}");
}
