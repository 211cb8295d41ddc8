//! Minutes of mixed load: requests of every kind, a reload of the configuration every second, uploads and deletions of
//! vectors, and requests that must fail. Reports unexpected failures and the server's memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde::Serialize;
use serde_json::json;

use super::client::{Answer, Choice, Client, CompletionOutcome, CompletionRequest};
use super::compare::is_near_tie;
use super::exchanges::{Exchange, Exchanges};
use super::models::STORIES;
use super::served::{Served, Settings, Tolerance};
use super::storm::alone;
use crate::memory;
use crate::server::{Server, serve_config};

/// Settings of a run.
#[derive(Clone, Debug)]
pub struct LoadPlan {
    /// Duration.
    pub time: Duration,
    /// Number of concurrent requests.
    pub at_once: usize,
    /// Seed of all random choices.
    pub seed: u64,
    /// Whether the prefix cache is on.
    pub prefix_cache: bool,
}

/// Number of requests with known answers, sent repeatedly.
const KNOWN_REQUESTS: usize = 60;
/// One in this many requests is new. With a prefix cache none is, since mistral.rs never evicts from it on the CPU, so
/// it would grow with the texts.
const NEW_ONE_IN: usize = 4;
/// The two scales of the default spec, between which reloads alternate.
const SCALES: [f64; 2] = [136.0, -136.0];
/// One in this many reloads has a configuration that must be refused.
const BROKEN_ONE_IN: usize = 10;
/// Number of names that uploads use in turn.
const UPLOAD_NAMES: usize = 3;
/// Time between two reloads, and between two measurements of the memory.
const SECOND: Duration = Duration::from_secs(1);
/// Number of failures of each kind whose text is kept.
const MAX_FAILURES: usize = 10;

/// The report of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LoadReport {
    /// Duration in seconds.
    pub seconds: f64,
    /// Whether the prefix cache was on.
    pub prefix_cache: bool,
    /// Number of operations of each kind with the expected result.
    pub done: BTreeMap<&'static str, usize>,
    /// Number of operations with another result.
    pub failed: BTreeMap<&'static str, usize>,
    /// The first failures of each kind.
    pub failures: Vec<String>,
    /// Resident memory of the server, in MiB, once a second.
    pub memory: Vec<f64>,
    /// Mean and standard deviation of the memory, in MiB, in the middle third of the time.
    pub middle: Option<(f64, f64)>,
    /// The same in the last third.
    pub last: Option<(f64, f64)>,
}

impl LoadReport {
    /// Whether all results were as expected.
    pub fn is_right(&self) -> bool {
        self.failed.is_empty()
    }

    /// Growth of the memory from the middle to the last third, as a share of the former.
    pub fn growth(&self) -> Option<f64> {
        Some((self.last?.0 - self.middle?.0) / self.middle?.0)
    }

    /// A readable summary.
    pub fn describe(&self) -> String {
        let cache = if self.prefix_cache { "on" } else { "off" };
        let mut text = format!("{:.0} s, prefix cache {cache}\n", self.seconds);
        for (kind, count) in &self.done {
            let failed = self.failed.get(kind).copied().unwrap_or(0);
            text += &format!("  {kind:<34}{count:>8} as expected, {failed} not\n");
        }
        for failure in &self.failures {
            text += &format!("    {failure}\n");
        }
        if let (Some(middle), Some(last), Some(growth)) = (self.middle, self.last, self.growth()) {
            text += &memory::describe([middle, last], growth);
        }
        text
    }
}

/// State shared by all threads.
struct Load<'a> {
    server: &'a Server,
    served: &'a Served,
    known: &'a [Exchange],
    /// The answers to each known request under each of the two defaults.
    answers: &'a [Vec<Answer>; 2],
    fresh: Mutex<Exchanges>,
    prefix_cache: bool,
    asked: AtomicUsize,
    over: AtomicBool,
    report: Mutex<LoadReport>,
}

/// Runs the plan. `checkout` is the top folder of this project's checkout, `folder` an empty one.
///
/// # Errors
///
/// If the server does not start, or a known request is refused when it is sent alone.
pub fn run(plan: &LoadPlan, checkout: &Path, folder: &Path, mut tick: impl FnMut()) -> Result<LoadReport> {
    let served = Served::prepare(checkout, folder)?;
    let known: Vec<Exchange> = Exchanges::new(&served, plan.seed)?.take(KNOWN_REQUESTS).collect();
    let config = |scale| {
        served.config(&Settings {
            prefix_cache: plan.prefix_cache,
            default_scale: Some(scale),
            admin: Some("uploads = true\nopen_on_loopback = true".into()),
            ..Settings::default()
        })
    };
    let server = Server::start(folder, &config(SCALES[0]))?;
    let client = Client::new(server.url());
    let first = alone(server.url(), &known, || ())?;
    write_config(&served, &serve_config(&config(SCALES[1]), server.port()))?;
    client
        .post("/v1/steering/reload", &json!({}))?
        .success()
        .context("reload")?;
    let second = alone(server.url(), &known, || ())?;
    let load = Load {
        server: &server,
        served: &served,
        known: &known,
        answers: &[first, second],
        fresh: Mutex::new(Exchanges::new(&served, plan.seed.wrapping_add(1000))?),
        prefix_cache: plan.prefix_cache,
        asked: AtomicUsize::new(0),
        over: AtomicBool::new(false),
        report: Mutex::default(),
    };
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..plan.at_once {
            scope.spawn(|| load.until_over("a thread of requests", |client, _| load.request(client)));
        }
        scope.spawn(|| {
            load.until_over("the thread of reloads", |client, turn| {
                load.reload(client, turn, &config)
            })
        });
        scope.spawn(|| {
            load.until_over("the thread of uploads", |client, turn| {
                load.upload(client, turn, checkout)
            })
        });
        scope.spawn(|| load.until_over("the thread of refusals", |client, turn| load.refused(client, turn)));
        // Measures the memory once a second.
        while start.elapsed() < plan.time {
            std::thread::sleep(SECOND);
            if let (Ok(memory), Ok(mut report)) = (memory::resident(server.pid()), load.report.lock()) {
                report.memory.push(memory);
            }
            tick();
        }
        load.over.store(true, Ordering::Relaxed);
    });
    let mut report = load.report.into_inner().map_err(|_| anyhow!("a thread panicked"))?;
    report.seconds = start.elapsed().as_secs_f64();
    report.prefix_cache = plan.prefix_cache;
    if let Some([middle, last]) = memory::thirds(&report.memory) {
        (report.middle, report.last) = (Some(middle), Some(last));
    }
    Ok(report)
}

impl Load<'_> {
    /// Repeats `one` on a separate connection.
    fn until_over(&self, what: &'static str, mut one: impl FnMut(&Client, usize) -> Result<()>) {
        let client = Client::new(self.server.url());
        for turn in 0.. {
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            if let Err(error) = one(&client, turn) {
                self.count(what, Err(error));
            }
        }
    }

    fn count(&self, kind: &'static str, result: Result<()>) {
        let Ok(mut report) = self.report.lock() else { return };
        match result {
            Ok(()) => *report.done.entry(kind).or_default() += 1,
            Err(error) => {
                report.done.entry(kind).or_default();
                let failed = report.failed.entry(kind).or_default();
                *failed += 1;
                if *failed <= MAX_FAILURES {
                    report.failures.push(format!("{kind}: {error:#}"));
                }
            }
        }
    }

    /// Sends a request whose answer is known, or a new one.
    fn request(&self, client: &Client) -> Result<()> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        if !self.prefix_cache && number.is_multiple_of(NEW_ONE_IN) {
            let fresh = self.fresh.lock().map_err(|_| anyhow!("a thread panicked"))?.next();
            let fresh = fresh.context("the series is endless")?;
            let kind = if fresh.ask.cancel.is_some() {
                "new requests, some cancelled"
            } else {
                "new requests"
            };
            self.count(kind, accepted(client.complete(&fresh.ask)).map(drop));
            return Ok(());
        }
        let index = number % KNOWN_REQUESTS;
        let ask = &self.known[index].ask;
        let kind = match (ask.cancel, ask.stream) {
            (Some(_), _) => "known requests, cancelled",
            (None, true) => "known requests, streamed",
            (None, false) => "known requests",
        };
        let expected = [&self.answers[0][index], &self.answers[1][index]];
        self.count(
            kind,
            accepted(client.complete(ask)).and_then(|outcome| is_one_of(&outcome, &expected, ask)),
        );
        Ok(())
    }

    /// Writes another configuration and reloads it; sometimes one that must be refused and change nothing.
    fn reload(&self, client: &Client, turn: usize, config: &impl Fn(f64) -> String) -> Result<()> {
        std::thread::sleep(SECOND);
        let port = self.server.port();
        if turn % BROKEN_ONE_IN == BROKEN_ONE_IN - 1 {
            let broken = config(SCALES[0]).replace("\"three.toml\"", "\"no-such-file.toml\"");
            write_config(self.served, &serve_config(&broken, port))?;
            let before = client.get("/v1/steering")?.success()?;
            let reply = client.post("/v1/steering/reload", &json!({}))?;
            let unchanged = client.get("/v1/steering")?.success()?["defaults"] == before["defaults"];
            let right = (400..500).contains(&reply.status) && reply.message().contains("no-such-file") && unchanged;
            self.count(
                "reloads that must be refused",
                right
                    .then_some(())
                    .with_context(|| format!("{reply:?}, defaults unchanged: {unchanged}")),
            );
        } else {
            write_config(self.served, &serve_config(&config(SCALES[turn % 2]), port))?;
            let reply = client.post("/v1/steering/reload", &json!({}))?;
            self.count("reloads", reply.success().map(drop));
        }
        Ok(())
    }

    /// Uploads, uses and deletes a vector.
    fn upload(&self, client: &Client, turn: usize, checkout: &Path) -> Result<()> {
        let name = format!("uploaded-{}", turn % UPLOAD_NAMES);
        let folder = tempfile::tempdir()?;
        let path = folder.path().join(format!("{name}.toml"));
        STORIES
            .random_vector(checkout, (turn % UPLOAD_NAMES) as u64 + 100, &[3, 4])?
            .save(&path)?;
        let (toml, tensors) = (std::fs::read(&path)?, tensors(folder.path())?);
        let fields: [(&str, &[u8]); 3] = [("name", name.as_bytes()), ("toml", &toml), ("safetensors", &tensors)];
        let reply = client.post_form("/v1/steering/vectors", &fields)?;
        self.count("uploads", reply.success().map(drop));
        let ask = CompletionRequest {
            steering: Some(json!({"vectors": [{"vector": name, "scale": 20.0}]})),
            stream: false,
            cancel: None,
            ..self.known[turn % KNOWN_REQUESTS].ask.clone()
        };
        self.count(
            "requests with an uploaded vector",
            accepted(client.complete(&ask)).map(drop),
        );
        let reply = client.delete(&format!("/v1/steering/vectors/{name}"))?;
        self.count("deletions", reply.success().map(drop));
        let gone = client.complete(&ask)?;
        let refused = matches!(&gone, CompletionOutcome::Refused(status, message) if (400..500).contains(status) && message.contains(&name));
        self.count(
            "requests with a deleted vector",
            refused.then_some(()).with_context(|| format!("{gone:?}")),
        );
        Ok(())
    }

    /// Sends requests that must be refused.
    fn refused(&self, client: &Client, turn: usize) -> Result<()> {
        std::thread::sleep(SECOND / 4);
        let (steering, field) = [
            (json!({"vectors": [{"vector": "nobody", "scale": 1.0}]}), "nobody"),
            (
                json!({"vectors": [{"vector": "one", "scale": 1.0, "layers": [99]}]}),
                "99",
            ),
            (
                json!({"vectors": [{"vector": "one", "scale": 1.0, "apply": {"prompt": {"positions": [9999]}}}]}),
                "9999",
            ),
            (json!({"vectors": "one"}), "vectors"),
        ][turn % 4]
            .clone();
        let ask = CompletionRequest {
            steering: Some(steering),
            stream: turn.is_multiple_of(2),
            cancel: None,
            ..self.known[turn % KNOWN_REQUESTS].ask.clone()
        };
        let outcome = client.complete(&ask)?;
        let right = matches!(&outcome, CompletionOutcome::Refused(status, message) if (400..500).contains(status) && message.contains(field));
        self.count(
            "requests that must be refused",
            right.then_some(()).with_context(|| format!("{field}: {outcome:?}")),
        );
        Ok(())
    }
}

/// The bytes of the only safetensors file in a folder.
fn tensors(folder: &Path) -> Result<Vec<u8>> {
    let mut entries = std::fs::read_dir(folder)?
        .filter_map(Result::ok)
        .map(|entry| entry.path());
    let path = entries.find(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    Ok(std::fs::read(path.context("no tensors")?)?)
}

/// Replaces the server's configuration atomically.
fn write_config(served: &Served, text: &str) -> Result<()> {
    let (new, path) = (
        served.folder.join("mistralrs.toml.new"),
        served.folder.join("mistralrs.toml"),
    );
    std::fs::write(&new, text)?;
    Ok(std::fs::rename(new, path)?)
}

fn accepted(outcome: Result<CompletionOutcome>) -> Result<CompletionOutcome> {
    let outcome = outcome?;
    ensure!(!matches!(outcome, CompletionOutcome::Refused(..)), "{outcome:?}");
    Ok(outcome)
}

/// Checks that an answer is one of those, or diverges from one of them where two tokens are nearly equally likely.
fn is_one_of(outcome: &CompletionOutcome, expected: &[&Answer], ask: &CompletionRequest) -> Result<()> {
    let (answer, whole) = match outcome {
        CompletionOutcome::Whole(answer) => (answer, true),
        CompletionOutcome::Cut(answer) => (answer, false),
        CompletionOutcome::Refused(..) => return accepted(Ok(outcome.clone())).map(drop),
    };
    let fits = |alone: &&&Answer| {
        // All choices are greedy, so all are the same.
        let expected = &alone.first.tokens;
        answer.choices().all(|choice| {
            let tokens = &choice.tokens;
            let parted = expected
                .iter()
                .zip(tokens)
                .find(|(alone, token)| alone.text != token.text);
            match parted {
                Some((alone, _)) => is_near_tie(alone, Tolerance::F32),
                None if whole => expected.len() == tokens.len(),
                None => expected.len() >= tokens.len(),
            }
        })
    };
    let found = expected.iter().find(fits);
    found.map(drop).with_context(|| {
        let of = |choice: &Choice| choice.tokens.iter().map(|token| token.text.clone()).collect::<Vec<_>>();
        let texts = |answer: &Answer| answer.choices().map(of).collect::<Vec<_>>();
        let expected: Vec<_> = expected.iter().map(|answer| texts(answer)).collect();
        format!("found {:?}, expected one of {expected:?}: {ask:?}", texts(answer))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_lists_failures_and_growth() {
        let report = LoadReport {
            seconds: 9.0,
            done: BTreeMap::from([("reloads", 8)]),
            failed: BTreeMap::from([("reloads", 1)]),
            failures: vec!["reloads: no".into()],
            middle: Some((100.0, 1.0)),
            last: Some((102.0, 1.0)),
            ..LoadReport::default()
        };
        assert!(!report.is_right());
        let text = report.describe();
        assert!(
            text.contains("8 as expected, 1 not") && text.contains("+2.00%"),
            "{text}"
        );
        assert!(LoadReport::default().is_right() && LoadReport::default().growth().is_none());
    }
}
