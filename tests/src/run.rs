//! Binaries of this workspace, run to their end.

use std::process::{Child, Command, Output};

use steermap_examples::server::{binary, send_signal};

/// Runs a binary with `args`.
pub fn run(name: &str, args: &[&str]) -> Output {
    let path = binary(name).expect("run the tests with `cargo xtask test`");
    Command::new(path).args(args).output().unwrap()
}

/// Stops a run as Ctrl-C does; what it printed to standard error, once it has ended as a command that was stopped.
pub fn interrupted(child: Child) -> String {
    send_signal(&child, "INT");
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{text}");
    text
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

/// How many tokens of prompts were steered, as a server's metrics say.
pub fn steered_prompt_tokens(metrics: &str) -> u64 {
    let mut lines = metrics.lines();
    let line = lines.find(|line| line.starts_with("steering_tokens_total{phase=\"prompt\"}"));
    line.unwrap().split_whitespace().last().unwrap().parse().unwrap()
}
