//! No request's steering affects another's answer, and the prefix cache shares exactly what may be shared.

use serde_json::{Value, json};
use steermap_examples::server::Server;
use steermap_examples::traffic::client::{Answer, Client, CompletionOutcome, CompletionRequest};
use steermap_examples::traffic::exchanges::STORIES_SEED;
use steermap_examples::traffic::isolation::{IsolationPlan, run};
use steermap_examples::traffic::prefix_cache::hits;
use steermap_examples::traffic::prompts::prompts;
use steermap_examples::traffic::served::{Served, Settings};
use steermap_tests::project;

/// Largest allowed change of a log probability by batching and cached prefixes, which change the order of float32 sums.
/// The report prints the largest observed change, for unsteered requests too.
const DEVIATION: f64 = 1e-3;

#[test]
fn a_thousand_requests_get_what_they_get_alone() {
    let dir = tempfile::tempdir().unwrap();
    let plan = IsolationPlan {
        requests: 1000,
        at_once: 64,
        seed: 1,
    };
    let report = run(&plan, &project(""), dir.path()).unwrap();
    let text = report.describe();
    println!("{text}");
    assert!(report.is_right(), "{text}");
    for storm in &report.storms {
        let (unsteered, steered) = (&storm.answers.unsteered, &storm.answers.steered);
        assert!(unsteered.whole > 200 && steered.whole > 400, "{text}");
        assert!(
            unsteered.cut + steered.cut + unsteered.nothing + steered.nothing > 50,
            "{text}"
        );
        assert!(storm.largest_batch > 1, "{text}");
        for kind in [unsteered, steered] {
            assert!(kind.largest_deviation <= DEVIATION, "{text}");
            // If most answers diverged at near ties, the comparison would prove nothing.
            assert!(kind.near_ties * 100 <= kind.whole, "{text}");
        }
        let cached = storm.prefix_cache != "off";
        assert_eq!(storm.hit_rate.is_some_and(|rate| rate > 0.02), cached, "{text}");
    }
}

/// Two servers with the same configuration, except that one has a prefix cache.
struct ServerPair {
    plain: Server,
    cached: Server,
    model: String,
    sent: usize,
    _folders: [tempfile::TempDir; 2],
}

impl ServerPair {
    fn start() -> Self {
        let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let served = folders
            .each_ref()
            .map(|dir| Served::prepare(&project(""), dir.path()).unwrap());
        let server = |index: usize, prefix_cache| {
            let settings = Settings {
                prefix_cache,
                ..Settings::default()
            };
            Server::start(&served[index].folder, &served[index].config(&settings)).unwrap()
        };
        Self {
            plain: server(0, false),
            cached: server(1, true),
            model: served[0].model.clone(),
            sent: 0,
            _folders: folders,
        }
    }

    /// Sends a request to both servers and compares the answers.
    fn ask(&mut self, prompt: &str, steering: &Value) -> Answer {
        let ask = CompletionRequest {
            steering: Some(steering.clone()),
            ..CompletionRequest::new(&self.model, prompt, 6)
        };
        let [plain, cached] =
            [&self.plain, &self.cached].map(|server| match Client::new(server.url()).complete(&ask).unwrap() {
                CompletionOutcome::Whole(answer) => answer,
                other => panic!("{ask:?}: {other:?}"),
            });
        self.sent += 1;
        assert_eq!(plain.fingerprint, cached.fingerprint, "{ask:?}");
        let tokens = [&plain, &cached].map(|answer| &answer.first.tokens);
        assert_eq!(tokens[0].len(), tokens[1].len(), "{ask:?}");
        for (plain, cached) in tokens[0].iter().zip(tokens[1]) {
            assert_eq!(plain.text, cached.text, "{ask:?}");
            assert!(
                (plain.logprob - cached.logprob).abs() <= DEVIATION,
                "{ask:?}: {plain:?}, with the cache {cached:?}"
            );
        }
        cached
    }

    /// Number of requests that have hit the cache so far.
    fn hits(&mut self) -> usize {
        let (model, client) = (&self.model, Client::new(self.cached.url()));
        let mut nudges = 0;
        // A different spec each time, so that it hits nothing.
        let hits = hits(&self.cached, self.sent, |nudge| {
            nudges = nudge;
            let scale = 1000 + self.sent + nudge;
            let steering = json!({"vectors": [{"vector": "one", "scale": scale}]});
            let body =
                json!({"model": model, "prompt": "The", "max_tokens": 2, "temperature": 0.0, "steering": steering});
            client.post("/v1/completions", &body)?.success().map(drop)
        });
        self.sent += nudges;
        hits.unwrap()
    }
}

#[test]
fn a_cached_prefix_is_shared_by_equal_states_alone() {
    let mut both = ServerPair::start();
    let folder = project("examples/family/stories-3m");
    let cut = |length| prompts(&folder, STORIES_SEED, length, 8).unwrap();
    // The prompts are of the same stories: each short one is the beginning of a long one.
    let (short, long) = (cut(12), cut(36));
    let stories: Vec<(&str, &str)> = short
        .iter()
        .filter_map(|short| {
            let long = long.iter().find(|long| long.tokens.starts_with(&short.tokens))?;
            Some((short.text.as_str(), long.text.as_str()))
        })
        .collect();
    let [a, b, c, d, e, ..] = stories[..] else {
        panic!("{stories:?}")
    };

    let off = json!({"mode": "off"});
    let steered = json!({"vectors": [{"vector": "one", "scale": 30.0}]});
    let otherwise = json!({"vectors": [{"vector": "one", "scale": 31.0}]});
    let spelled_out = json!({"mode": "replace", "norm": "free", "conflict": "sequential", "vectors": [
        {"scale": 30, "normalize": true, "op": "add", "vector": "one", "apply": {"generation": "all", "prompt": "all"}},
    ]});
    let generated = json!({"vectors": [{"vector": "two", "scale": 30.0, "apply": {"generation": "all"}}]});
    let last = json!({"vectors": [{"vector": "two", "scale": 30.0, "apply": {"prompt": {"positions": [-1]}}}]});

    // Nothing to share: steered after unsteered, one spec after another. (The first finds the special token of the run that
    // mistral.rs makes after loading.)
    let unsteered = both.ask(a.0, &off);
    let touched = both.ask(a.1, &steered);
    both.ask(b.0, &otherwise);
    assert_eq!(both.hits(), 1);
    // A prompt steered only at its last position shares everything before it: the special token with an unsteered
    // prompt, and with itself, for another last position, everything before that one.
    both.ask(c.0, &last);
    both.ask(c.1, &last);
    assert_eq!(both.hits(), 1 + 2);

    // Unsteered after unsteered, although a steered request had the same text; an equal spec in another notation;
    // steering of generated tokens only after unsteered, and the reverse.
    assert_ne!(both.ask(a.1, &off).first.tokens, touched.first.tokens);
    let first = both.ask(b.0, &steered);
    both.ask(b.1, &spelled_out);
    both.ask(d.0, &generated);
    both.ask(d.1, &off);
    both.ask(e.0, &off);
    both.ask(e.1, &generated);
    // A conversation that continues an answer, whose last token the engine has not computed yet.
    both.ask(&format!("{} {} Then", b.0, first.first.text), &steered);
    both.ask(&format!("{} {} Then", a.0, unsteered.first.text), &off);
    // Every request hits, since all prompts have at least the special token at their start in common. (None is the
    // beginning of a longer earlier one under the same spec: mistral.rs finds nothing for a prompt that is cached
    // completely.)
    assert_eq!(both.hits(), 1 + 2 + 9);
}
