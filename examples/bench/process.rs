//! Worker processes and what is said of their times.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result};

/// A worker process; killed when dropped.
struct Process {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Process {
    /// Starts a worker and waits until it has loaded its model.
    fn start(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{command:?}"))?;
        let requests = child.stdin.take().context("stdin")?;
        let answers = BufReader::new(child.stdout.take().context("stdout")?);
        let mut process = Self {
            child,
            requests,
            answers,
        };
        while process.line()? != "ready" {}
        Ok(process)
    }

    /// The seconds that a worker answers a line with.
    fn ask(&mut self, request: &str) -> Result<f64> {
        writeln!(self.requests, "{request}")?;
        let answer = self.line()?;
        answer
            .parse()
            .with_context(|| format!("{request:?} was answered with {answer:?}"))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        anyhow::ensure!(self.answers.read_line(&mut line)? > 0, "a worker ended");
        Ok(line.trim_end().to_string())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processes of one launch: two of the published engine, and this program's own worker.
pub struct Launch {
    published: [Process; 2],
    patched: Process,
}

impl Launch {
    /// Starts `stock` with `stock_args` twice, and this program's `worker` with `model`, first or last.
    pub fn start(stock: &Path, stock_args: &[&str], model: &str, patched_first: bool) -> Result<Self> {
        let published = || {
            let mut command = Command::new(stock);
            command.args(stock_args);
            Process::start(command)
        };
        let patched = || {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["worker", model]);
            Process::start(command)
        };
        if patched_first {
            let patched = patched()?;
            Ok(Self {
                patched,
                published: [published()?, published()?],
            })
        } else {
            Ok(Self {
                published: [published()?, published()?],
                patched: patched()?,
            })
        }
    }

    /// Seconds that `request` takes: the published engine, that engine again, then the patched one in each of `modes`.
    pub fn round<const N: usize>(&mut self, modes: &[&str], request: &str, turn: usize) -> Result<[f64; N]> {
        let mut seconds = [0.0; N];
        // Another order each time, so that none always follows the same other.
        for i in 0..N {
            let who = (turn + i) % N;
            seconds[who] = match who {
                0 | 1 => self.published[who].ask(request)?,
                _ => {
                    self.patched.ask(modes[who - 2])?;
                    self.patched.ask(request)?
                }
            };
        }
        Ok(seconds)
    }
}

/// First quartile, median and third quartile, by linear interpolation.
pub fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [0.25, 0.5, 0.75].map(|q| {
        let at = q * (values.len() - 1) as f64;
        let (low, high) = (values[at.floor() as usize], values[at.ceil() as usize]);
        low + (high - low) * at.fract()
    })
}
