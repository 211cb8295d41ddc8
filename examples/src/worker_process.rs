//! A worker process that answers each line of input with a line of output.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};

/// A worker; killed when dropped.
pub struct WorkerProcess {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl WorkerProcess {
    /// Starts a worker and waits for the line `ready`. Also returns the last line before it, which may be empty.
    ///
    /// # Errors
    ///
    /// If the command cannot be started, or ends first.
    pub fn start(mut command: Command) -> Result<(Self, String)> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{command:?}"))?;
        let requests = child.stdin.take().context("stdin")?;
        let answers = BufReader::new(child.stdout.take().context("stdout")?);
        let mut process = Self {
            child,
            requests,
            answers,
        };
        let mut said = String::new();
        loop {
            match process.line().with_context(|| format!("{command:?}"))? {
                line if line == "ready" => return Ok((process, said)),
                line => said = line,
            }
        }
    }

    /// Sends a line to the worker; returns its answer, a number of seconds.
    ///
    /// # Errors
    ///
    /// If the worker has ended, or its answer is not a number.
    pub fn ask(&mut self, request: &str) -> Result<f64> {
        writeln!(self.requests, "{request}")?;
        let answer = self.line()?;
        answer
            .parse()
            .with_context(|| format!("answer to {request:?}: found {answer:?}, expected a number"))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.answers.read_line(&mut line)? > 0, "a worker ended");
        Ok(line.trim_end().to_string())
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
