//! `mistralrs-steered` as a child process.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::programs::{binary, send_signal};

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    url: String,
    log: Arc<Log>,
}

impl Server {
    /// Writes `config` to `folder/mistralrs.toml` with a free port of this machine, starts the server with it, and
    /// waits until it listens.
    ///
    /// # Errors
    ///
    /// If the server ends before it listens; the error contains its output.
    pub fn start(folder: &Path, config: &str) -> Result<Self> {
        Self::start_with(folder, config, &[])
    }

    /// As [`start`](Self::start), with environment variables.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_with(folder: &Path, config: &str, environment: &[(&str, &str)]) -> Result<Self> {
        // The port was free a moment ago; another process could still take it.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let path = folder.join("mistralrs.toml");
        let text = serve_config(config, port);
        std::fs::write(&path, text).with_context(|| format!("{}", path.display()))?;
        let mut child = Command::new(binary("mistralrs-steered")?)
            .args(["serve", "--config"])
            .arg(&path)
            .env("NO_COLOR", "1")
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("mistralrs-steered could not be started")?;
        let mut output = BufReader::new(child.stdout.take().context("stdout")?);
        let errors = child.stderr.take().context("stderr")?;
        // `server` kills the process when dropped if it does not come to listen.
        let server = Self {
            child,
            url: format!("http://127.0.0.1:{port}"),
            log: Arc::default(),
        };
        let errors = keep(BufReader::new(errors), server.log.clone());
        let mut log = String::new();
        while !log.contains("Server listening") {
            if output.read_line(&mut log)? == 0 {
                let _ = errors.join();
                bail!("the server ended:\n{log}\n{}", server.log_since(0).1.concat());
            }
        }
        keep(output, server.log.clone());
        Ok(server)
    }

    /// Sends it a signal; see [`send_signal`].
    pub fn signal(&self, name: &str) {
        send_signal(&self.child, name);
    }

    /// The exit status, if the server ends by itself within `patience`.
    pub fn ended(&mut self, patience: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + patience;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().ok()? {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// Waits until the server has ended by itself.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn wait(mut self) -> Result<ExitStatus> {
        Ok(self.child.wait()?)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        let port = self.url.rsplit(':').next().and_then(|port| port.parse().ok());
        port.expect("made of a port")
    }

    /// Number of lines logged so far: on standard error, which has panics, and on standard output since the server
    /// began to listen.
    pub fn log_lines(&self) -> usize {
        self.log.lock().end()
    }

    /// Number of lines logged so far, and those kept from number `from` on.
    pub fn log_since(&self, from: usize) -> (usize, Vec<String>) {
        let lines = self.log.lock();
        let skip = from.saturating_sub(lines.first);
        (lines.end(), lines.lines.iter().skip(skip).cloned().collect())
    }

    /// The first result of `wanted` on a logged line from number `from` on, within `patience`. Only the last lines are
    /// kept, see [`MAX_LOG_LINES`].
    pub fn logged<T>(&self, from: usize, patience: Duration, wanted: impl Fn(&str) -> Option<T>) -> Option<T> {
        let end = Instant::now() + patience;
        let mut lines = self.log.lock();
        loop {
            let skip = from.saturating_sub(lines.first);
            if let Some(found) = lines.lines.iter().skip(skip).find_map(|line| wanted(line)) {
                return Some(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let waited = self.log.more.wait_timeout(lines, left);
            lines = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The server's address, without a trailing slash.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The status and the body of a GET.
    ///
    /// # Errors
    ///
    /// If the connection fails. An error status is returned, not an error.
    pub fn get(&self, route: &str) -> Result<(u16, String)> {
        read(agent().get(format!("{}{route}", self.url)).call())
    }

    /// The status and the body of a POST.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn post(&self, route: &str, body: &Value) -> Result<(u16, String)> {
        read(agent().post(format!("{}{route}", self.url)).send_json(body))
    }

    /// The greedy continuation of a text.
    ///
    /// # Errors
    ///
    /// If the status is not a success.
    pub fn complete(&self, model: &str, prompt: &str, max_tokens: usize) -> Result<String> {
        self.answer("/v1/completions", &greedy(model, prompt, max_tokens), "/choices/0/text")
    }

    /// As [`complete`](Self::complete), with a `steering` field.
    ///
    /// # Errors
    ///
    /// As [`complete`](Self::complete).
    pub fn complete_steered(&self, model: &str, prompt: &str, max_tokens: usize, steering: &Value) -> Result<String> {
        let mut body = greedy(model, prompt, max_tokens);
        body["steering"] = steering.clone();
        self.answer("/v1/completions", &body, "/choices/0/text")
    }

    /// The greedy answer to a user's message.
    ///
    /// # Errors
    ///
    /// As [`complete`](Self::complete).
    pub fn chat(&self, model: &str, message: &str, max_tokens: usize) -> Result<String> {
        let body = serde_json::json!({
            "model": model, "messages": [{"role": "user", "content": message}],
            "max_tokens": max_tokens, "temperature": 0.0, "top_k": 1,
        });
        self.answer("/v1/chat/completions", &body, "/choices/0/message/content")
    }

    fn answer(&self, route: &str, body: &Value, at: &str) -> Result<String> {
        let (status, text) = self.post(route, body)?;
        ensure!(
            status == 200,
            "{route}: found status {status}, expected a success: {text}"
        );
        let answer: Value = serde_json::from_str(&text)?;
        let text = answer.pointer(at).and_then(Value::as_str);
        Ok(text
            .with_context(|| format!("{route} answered without {at}"))?
            .to_string())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The body of a request for a greedy continuation.
fn greedy(model: &str, prompt: &str, max_tokens: usize) -> Value {
    serde_json::json!({
        "model": model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0.0, "top_k": 1,
    })
}

/// The tables that a playground needs to find vectors on the model in the folder `source`, and to keep them.
pub fn source_tables(source: &str) -> String {
    format!(
        "[steering.sources.small]\nmodel = {source:?}\ndtype = \"f32\"\ndevice = \"cpu\"\n\n\
         [steering.admin]\nopen_on_loopback = true\nuploads = true\n"
    )
}

/// A complete configuration file: `config` with a `[server]` section for `port` of this machine.
pub fn serve_config(config: &str, port: u16) -> String {
    format!("command = \"serve\"\n{config}\n[server]\nhost = \"127.0.0.1\"\nport = {port}\n")
}

/// Number of log lines kept: hours of the engine's figures, logged every few seconds.
pub const MAX_LOG_LINES: usize = 10_000;

/// The log of a server.
#[derive(Default)]
struct Log {
    lines: Mutex<LogLines>,
    more: Condvar,
}

#[derive(Default)]
struct LogLines {
    /// The number of the first line that is kept.
    first: usize,
    lines: VecDeque<String>,
}

impl LogLines {
    /// The number of the next line.
    fn end(&self) -> usize {
        self.first + self.lines.len()
    }
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, LogLines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps reading, whatever the bytes, so that the server never blocks on its log.
fn keep(mut output: impl BufRead + Send + 'static, log: Arc<Log>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            let text = String::from_utf8_lossy(&line).into_owned();
            line.clear();
            let mut kept = log.lock();
            if kept.lines.len() == MAX_LOG_LINES {
                kept.lines.pop_front();
                kept.first += 1;
            }
            kept.lines.push_back(text);
            log.more.notify_all();
        }
    })
}

/// The data of the events of a streamed answer.
pub fn event_data(stream: &str) -> impl Iterator<Item = &str> {
    stream.lines().filter_map(|line| line.strip_prefix("data: "))
}

/// An HTTP client for which an error status is an answer, not an error.
pub fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).build().into()
}

fn read(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<(u16, String)> {
    let mut answer = answer?;
    Ok((answer.status().as_u16(), answer.body_mut().read_to_string()?))
}
