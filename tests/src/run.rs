//! Runs binaries of this workspace to their end.

use std::process::{Child, Command, Output};

use steermap_examples::programs::{binary, send_signal};

/// Runs a binary with `args`.
pub fn run(name: &str, args: &[&str]) -> Output {
    let path = binary(name).expect("run the tests with `cargo xtask test`");
    Command::new(path).args(args).output().unwrap()
}

/// Stops a run as Ctrl-C does, checks that it ends with the status of an interrupted command, and returns its standard
/// error.
pub fn interrupted(child: Child) -> String {
    send_signal(&child, "INT");
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{text}");
    text
}

/// The error output of a run that must fail.
pub fn error_of(output: &Output) -> String {
    assert!(
        !output.status.success(),
        "expected an error: {}",
        String::from_utf8_lossy(&output.stdout)
    );
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!text.contains("panicked"), "{text}");
    text.trim().to_string()
}

/// Number of steered prompt tokens in a server's metrics.
pub fn steered_prompt_tokens(metrics: &str) -> u64 {
    let mut lines = metrics.lines();
    let line = lines.find(|line| line.starts_with("steering_tokens_total{phase=\"prompt\"}"));
    line.unwrap().split_whitespace().last().unwrap().parse().unwrap()
}
