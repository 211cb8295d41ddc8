//! `mapper eval --judge`: the requests to a judge and the handling of its answers, over real HTTP.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use steermap_report::result::{Evaluation, GeneratedText, Generation, SteeringKind};
use steermap_tests::eval::{MAP, eval, report, write_task, write_text};
use steermap_tests::maps::printed;
use steermap_tests::project;

/// A received request.
struct Received {
    route: String,
    key: Option<String>,
    body: Value,
}

/// A server that answers each request with the status and body returned by a function of its index, from 0, and of the
/// request.
struct Server {
    url: String,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Server {
    fn start(answer: impl Fn(usize, &Received) -> (u16, String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let received = Arc::new(Mutex::new(Vec::new()));
        let (all, answer) = (received.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (all, answer) = (all.clone(), answer.clone());
                std::thread::spawn(move || serve(stream, &all, &*answer));
            }
        });
        Self { url, received }
    }
}

/// Answers one request and closes.
fn serve(
    mut stream: TcpStream,
    all: &Mutex<Vec<Received>>,
    answer: &(impl Fn(usize, &Received) -> (u16, String) + ?Sized),
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        lines.push(line.trim_end().to_string());
    }
    // A connection that was opened and closed without a request.
    if lines.is_empty() {
        return;
    }
    let header = |name: &str| {
        let found = lines.iter().filter_map(|line| line.split_once(": "));
        let mut found = found.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.to_string())
    };
    let length = header("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let request = Received {
        route: lines[0].clone(),
        key: header("authorization"),
        body: serde_json::from_slice(&body).unwrap(),
    };
    let (status, body) = {
        let mut all = all.lock().unwrap();
        let answered = answer(all.len(), &request);
        all.push(request);
        answered
    };
    // The client may be gone if the test stopped it.
    let _ = write!(
        stream,
        "HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\nretry-after: 0\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
}

/// An answer in OpenAI's shape.
fn says(content: &str) -> (u16, String) {
    let body = json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}]});
    (200, body.to_string())
}

fn scores(concept: u8) -> (u16, String) {
    says(&json!({"concept": concept, "fluency": 1, "answers": 2}).to_string())
}

/// The question in a request to the judge.
fn question(request: &Received) -> Value {
    let content = request.body["messages"][1]["content"].as_str().unwrap();
    serde_json::from_str(content).unwrap()
}

/// A folder with one task of two prompts.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let generation = "[generation]\nprompts = [\"The moonlit star of the lighthouse was\", \"With the bucket in her bag, Emma\"]\n\
                      [generation.rule]\nkind = \"length\"\nwords = 4\n";
    write_task(&dir.path().join("tasks"), "mood", generation);
    write_text(&dir.path().join("text.jsonl"), &["The sun was warm.".to_string()]);
    dir
}

/// A short evaluation that asks a judge.
fn judged(folder: &Path, url: &str) -> Command {
    let map = project(MAP).canonicalize().unwrap();
    let more = [
        "--layers=7",
        "--unseen-text",
        "--alphas=relative:-0.2:0.2:0.1",
        "--text-alphas=1",
        "--max-tokens=6",
        "--control-draws=2",
        "--control-items=2",
        "--half-samples=0",
        "--random=2",
        "--random-alphas=2",
        "--items=4",
        "--positions=4",
        "--resamples=100",
        "--judge-model=a-judge",
        "--judge",
        url,
    ];
    let mut command = eval(folder, &map, "stories-260k", "stories-3m", &more);
    command
        .env_remove("OPENAI_API_KEY")
        .env("STEERMAP_JUDGE_KEY", "the-key");
    command
}

fn generation(evaluation: &Evaluation) -> &Generation {
    evaluation.tasks[0].generation.as_ref().unwrap()
}

/// Number of texts: unsteered, asked for in the prompt, native, mapped and control vectors at one strength, with two
/// texts for each of two prompts.
const TEXTS: usize = 5 * 2 * 2;

#[test]
fn a_judge_scores_every_text_by_the_rubric() {
    let dir = folder();
    let server = Server::start(|_, request| {
        scores(2 * u8::from(question(request)["text"].as_str().unwrap().len().is_multiple_of(2)))
    });
    let shown = printed(&judged(dir.path(), &server.url).output().unwrap());
    assert!(shown.contains("by the judge"), "{shown}");
    let found = report(dir.path()).unwrap();
    let judge = found.run.judge.as_ref().unwrap();
    assert_eq!(
        (judge.url.as_str(), judge.model.as_str()),
        (format!("{}/chat/completions", server.url).as_str(), "a-judge")
    );

    let received = server.received.lock().unwrap();
    assert_eq!(received.len(), TEXTS);
    for request in &*received {
        assert_eq!(request.route, "POST /v1/chat/completions HTTP/1.1");
        assert_eq!(request.key.as_deref(), Some("Bearer the-key"));
        assert_eq!(
            (&request.body["model"], &request.body["temperature"]),
            (&json!("a-judge"), &json!(0))
        );
        assert_eq!(request.body["messages"][0]["content"], judge.rubric);
        assert_eq!(request.body["response_format"]["type"], "json_schema");
        assert_eq!(question(request)["concept"], "positive (the concept mood)");
    }
    let texts = &generation(&found).texts;
    assert_eq!(texts.len(), TEXTS);
    for text in texts {
        let asked = received.iter().map(question);
        let mut of_prompt = asked.filter(|asked| asked["prompt"] == generation(&found).prompts[text.prompt].text);
        assert!(of_prompt.any(|asked| asked["text"] == text.text), "{text:?}");
        let judged = text.judged.unwrap();
        let concept = 2 * u8::from(text.text.len().is_multiple_of(2));
        assert_eq!((judged.concept, judged.fluency, judged.answers), (concept, 1, 2));
        // 3 / (1 / 1 + 1 / 0.5 + 1 / 1), with scores of 0 to 2 halved.
        let expected = if concept == 0 { 0.0 } else { 0.75 };
        assert!((judged.score - expected).abs() < 1e-12);
    }
    for chosen in &generation(&found).chosen {
        let measuring = |text: &&GeneratedText| {
            (text.kind, text.alpha) == (chosen.kind, chosen.alpha) && !generation(&found).prompts[text.prompt].finding
        };
        let scores: Vec<f64> = texts
            .iter()
            .filter(measuring)
            .map(|text| text.judged.unwrap().score)
            .collect();
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        assert!((chosen.judged.unwrap().value - mean).abs() < 1e-12, "{:?}", chosen.kind);
    }
    let kinds: Vec<SteeringKind> = generation(&found).chosen.iter().map(|chosen| chosen.kind).collect();
    assert_eq!(
        kinds,
        [
            SteeringKind::Unsteered,
            SteeringKind::Native,
            SteeringKind::Mapped,
            SteeringKind::MappedRandom,
            SteeringKind::Prompted
        ]
    );
    for file in ["report.json", "report.html"] {
        let written = std::fs::read_to_string(dir.path().join("report").join(file)).unwrap();
        assert!(!written.contains("the-key"), "{file}");
    }
}

#[test]
fn a_judge_that_is_busy_or_answers_otherwise_is_asked_again() {
    let dir = folder();
    // The judge does not support response_format, and is busy and then down at the first request for a text. It wraps
    // the scores for one prompt in prose, and never gives scores for the other.
    let asked = Mutex::new(HashMap::new());
    let server = Server::start(move |_, request| {
        if request.body.get("response_format").is_some() {
            let told = json!({"error": {"message": "response_format is not supported"}});
            return (400, told.to_string());
        }
        let question = question(request);
        let mut asked = asked.lock().unwrap();
        let times = asked.entry(question["text"].to_string()).or_insert(0);
        *times += 1;
        match *times {
            1 => (429, String::new()),
            2 => (503, "down".to_string()),
            _ if question["prompt"] == "With the bucket in her bag, Emma" => says("I would rather not say."),
            _ => says("Well: {\"concept\": 1, \"fluency\": 2, \"answers\": 2} is what I think."),
        }
    });
    printed(&judged(dir.path(), &server.url).output().unwrap());
    let found = report(dir.path()).unwrap();
    let unjudged = generation(&found)
        .texts
        .iter()
        .filter(|text| text.judged.is_none())
        .count();
    assert_eq!(unjudged, TEXTS / 2);
    let note =
        format!("the judge gave no scores for {unjudged} of {TEXTS} texts: the means of its scores leave them out");
    assert!(found.notes.contains(&note), "{:?}", found.notes);
    assert!(
        generation(&found)
            .texts
            .iter()
            .filter(|text| text.prompt == 0)
            .all(|text| text.judged.unwrap().concept == 1)
    );
}

#[test]
fn a_judge_that_refuses_ends_the_run_and_nothing_is_lost() {
    let dir = folder();
    let server = Server::start(|_, request| match request.key.as_deref() {
        Some("Bearer the-key") => scores(1),
        _ => (
            401,
            json!({"error": {"message": "Incorrect API key provided"}}).to_string(),
        ),
    });
    let refused = judged(dir.path(), &server.url)
        .env("STEERMAP_JUDGE_KEY", "another")
        .output()
        .unwrap();
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && report(dir.path()).is_none(), "{told}");
    assert!(
        told.contains("judge: ") && told.contains("401") && told.contains("Incorrect API key provided"),
        "{told}"
    );
    assert!(!told.contains("another") && !told.contains("panicked"), "{told}");
    let journal = dir.path().join("report").join("eval.journal");
    let before = std::fs::read_to_string(&journal).unwrap();
    assert!(before.contains("mood/texts/1/nats"), "{before}");
    // The rest was measured before the judge was asked, and another judge gets the same texts. It refuses one of them,
    // with a format and without, after it has answered others.
    let refused = Mutex::new(None);
    let other = Server::start(move |_, request| {
        let question = question(request);
        let mut refused = refused.lock().unwrap();
        if question["prompt"] == "With the bucket in her bag, Emma" && refused.is_none() {
            *refused = Some(question["text"].clone());
        }
        if refused.as_ref() == Some(&question["text"]) {
            (413, "too long".to_string())
        } else {
            scores(1)
        }
    });
    printed(&judged(dir.path(), &other.url).output().unwrap());
    let found = report(dir.path()).unwrap();
    let texts = &generation(&found).texts;
    let unjudged = texts.iter().filter(|text| text.judged.is_none()).count();
    assert!((1..TEXTS / 2).contains(&unjudged), "{unjudged}");
    assert!(
        found
            .notes
            .iter()
            .any(|note| note.starts_with(&format!("the judge gave no scores for {unjudged} of")))
    );
}

#[test]
fn a_missing_or_incomplete_judge_is_refused() {
    let dir = folder();
    for (url, words) in [
        (
            "localhost:1234",
            "judge: found \"localhost:1234\", expected the address",
        ),
        (
            "http://127.0.0.1:1/v1",
            "judge: http://127.0.0.1:1/v1/chat/completions: ",
        ),
    ] {
        let output = judged(dir.path(), url).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && told.contains(words), "{url}: {told}");
    }
    // One option without the other.
    let map = project(MAP).canonicalize().unwrap();
    let output = eval(
        dir.path(),
        &map,
        "stories-260k",
        "stories-3m",
        &["--judge", "http://h/v1"],
    )
    .output()
    .unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("--judge-model"));
}
