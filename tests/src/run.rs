//! Binaries of this workspace, run to their end.

use std::process::{Command, Output};

use steermap_examples::server::binary;

/// Runs a binary with `args`.
pub fn run(name: &str, args: &[&str]) -> Output {
    let path = binary(name).expect("run the tests with `cargo xtask test`");
    Command::new(path).args(args).output().unwrap()
}

/// What a run that had to fail printed.
pub fn error_of(output: &Output) -> String {
    assert!(
        !output.status.success(),
        "an error was expected: {}",
        String::from_utf8_lossy(&output.stdout)
    );
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!text.contains("panicked"), "{text}");
    text.trim().to_string()
}
