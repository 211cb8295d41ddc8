//! OpenAI's own clients, from the registries: `cargo xtask test` installs them.

use std::path::PathBuf;
use std::process::Command;

use steermap_examples::server::Server;
use steermap_examples::traffic::served::{Served, Settings};
use steermap_tests::project;

/// A model with a chat template that can write any text.
const CHATS: &str = "models/smollm2-135m";

/// Folder in which `cargo xtask test` installs packages of one kind.
pub fn installed(kind: &str) -> PathBuf {
    let folder = project("target/clients").join(kind);
    assert!(
        folder.join("installed").exists(),
        "{} does not exist: `cargo xtask test` installs it",
        folder.display()
    );
    folder
}

/// The interpreter with the packages of `tests/clients/requirements.txt`.
pub fn python() -> PathBuf {
    let name = if cfg!(windows) {
        "Scripts/python.exe"
    } else {
        "bin/python"
    };
    installed("python").join(name)
}

#[test]
fn the_official_clients_work() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::prepare(&project(""), dir.path()).unwrap();
    let chats = project(CHATS).display().to_string();
    let config = served.config(&Settings::default()).replacen(
        "[steering.maps]",
        &format!("[[models]]\nkind = \"text\"\nmodel_id = \"{chats}\"\ndtype = \"f32\"\ndevice = {{ cpu = true }}\n[steering.maps]"),
        1,
    );
    let server = Server::start(dir.path(), &config).unwrap();
    let mut suites = [Command::new(python()), Command::new("node")];
    suites[0].arg(project("tests/clients/suite.py"));
    suites[1]
        .arg(project("tests/clients/suite.mjs"))
        .current_dir(installed("node"));
    let running = suites.map(|mut suite| {
        suite
            .args([server.url(), &served.model, &chats, "one"])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{suite:?}: {error}"))
    });
    for suite in running {
        let output = suite.wait_with_output().unwrap();
        let (text, errors) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success() && text.trim().ends_with("ok"), "{text}{errors}");
    }
}
