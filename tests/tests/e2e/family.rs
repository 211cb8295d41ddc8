//! The embedded family: its data equal the generator's output, and a small model's vector steers a larger one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use steermap_examples::family;
use steermap_examples::slopes::{DirectionProbe, SlopeBench};
use steermap_examples::stories::{Concept, Story};
use steermap_fit::stats::Precision;
use steermap_fit::{RankChoice, RidgeChoice};
use steermap_mapper::behaviour::{Choices, cosine};
use steermap_mapper::collect::header::Shard;
use steermap_mapper::collect::rows::Rules;
use steermap_mapper::collect::side::SideSource;
use steermap_mapper::collect::{CollectJob, CollectOutcome, Collected};
use steermap_mapper::corpus::TextOptions;
use steermap_mapper::layer_pairs::PairSelection;
use steermap_mapper::layers::LayerSelection;
use steermap_mapper::map::{MapJob, fit_map};
use steermap_mapper::session::{ModelSource, Session};
use steermap_mapper::steerer::{LayerOffset, Steerer};
use steermap_mapper::tasks;
use steermap_mapper::vector::{Method, Sign, VectorJob};
use steermap_maps::{AffineMap, LinearMap, MapFile, OffsetRule, TokenPosition, VectorFile, fingerprint_folder};
use steermap_plugin::{Program, SteeringHook};
use steermap_tests::project;

fn in_project(path: &Path) -> PathBuf {
    project(path.to_str().expect("Unicode"))
}

async fn session(name: &str) -> Session {
    let source = ModelSource {
        model: in_project(&family::model(name)).to_str().unwrap().to_string(),
        ..family::source(name)
    };
    Session::load(source).await.unwrap()
}

fn job(source: &Session, target: &Session, stories: usize, pairs: PairSelection, dir: &Path) -> CollectJob {
    let corpus = dir.join("corpus.jsonl");
    family::write_corpus(&corpus, stories, 7).unwrap();
    CollectJob {
        source: SideSource::Model(source.source().clone()),
        target: SideSource::Model(target.source().clone()),
        corpus: vec![corpus],
        text: TextOptions::default(),
        pairs,
        rules: Rules::default(),
        precision: Precision::F64,
        held_out_rows: None,
        limit: None,
        shard: Shard::default(),
        checkpoint: dir.join("checkpoint.stats"),
        checkpoint_every: Duration::from_secs(600),
        fits: None,
        progress: false,
    }
}

async fn fit(source: &Session, target: &Session, stories: usize, pairs: PairSelection) -> (MapFile, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let job = job(source, target, stories, pairs, dir.path());
    let CollectOutcome::Whole(collected) = job.run_on(source, target, &AtomicBool::new(false)).await.unwrap() else {
        panic!("nobody stopped it");
    };
    let job = MapJob {
        out: dir.path().join("map.toml"),
        ridge: RidgeChoice::Auto,
        shape: RankChoice::Full.into(),
        command: "test".to_string(),
    };
    let (map, _) = fit_map(*collected, &job, |_| ()).unwrap();
    (map, dir)
}

/// No computed rows are lost, and none counts twice.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_keeps_the_texts_that_ran() {
    let model = session(family::SIZES[0]).await;
    let dir = tempfile::tempdir().unwrap();
    let job = job(&model, &model, 200, PairSelection::RelativeDepth, dir.path());
    let stopped = job.run_on(&model, &model, &AtomicBool::new(true)).await.unwrap();
    assert!(matches!(stopped, CollectOutcome::Stopped));
    let kept = Collected::load(&job.checkpoint).unwrap();
    let documents = kept.header.counts().documents;
    assert!(documents > 0 && documents < 200, "{documents}");
    assert!(kept.header.counts().rows > documents);
    let whole = job.run_on(&model, &model, &AtomicBool::new(false)).await.unwrap();
    let CollectOutcome::Whole(whole) = whole else {
        panic!("nobody stopped it")
    };
    std::fs::remove_file(&job.checkpoint).unwrap();
    let afresh = job.run_on(&model, &model, &AtomicBool::new(false)).await.unwrap();
    let CollectOutcome::Whole(afresh) = afresh else {
        panic!("nobody stopped it")
    };
    assert_eq!(whole.header.counts(), afresh.header.counts());
    assert_eq!(whole.header.counts().documents, 200);
}

async fn vector(session: &Session, concept: &str) -> VectorFile {
    let job = VectorJob {
        source: session.source().clone(),
        pairs: in_project(&family::pairs(concept)),
        concept: concept.to_string(),
        layers: LayerSelection::All,
        position: TokenPosition::Mean,
        method: Method::MeanDifference,
        sign: Sign::Mean,
        neutral: false,
        seed: 0,
        command: "test".to_string(),
        progress: false,
    };
    job.run_on(session).await.unwrap().vector
}

#[test]
fn pairs_items_and_tasks_equal_the_generators_output() {
    for concept in Concept::ALL {
        let read = |path: PathBuf| std::fs::read_to_string(in_project(&path)).unwrap();
        let pairs = steermap_examples::stories::pairs(concept, family::CUT, family::PAIRS.0, family::PAIRS.1);
        let made: String = pairs
            .iter()
            .map(|pair| serde_json::to_string(pair).unwrap() + "\n")
            .collect();
        assert_eq!(read(family::pairs(concept.name())), made, "{}", concept.name());
        let items = steermap_examples::stories::items(concept, family::ITEMS.0, family::ITEMS.1);
        let made: String = items
            .iter()
            .map(|item| serde_json::to_string(item).unwrap() + "\n")
            .collect();
        assert_eq!(read(family::items(concept.name())), made, "{}", concept.name());
        let task = toml::to_string(&steermap_examples::stories::task(concept)).unwrap();
        let committed = read(family::tasks().join(format!("{}.toml", concept.name())));
        assert_eq!(committed, task, "{}", concept.name());
    }
}

/// The loss of the embedded models, measured through the engine, is near the generator's entropy.
#[tokio::test(flavor = "multi_thread")]
async fn losses_are_near_the_generators_entropy() {
    for name in family::SIZES.into_iter().chain([family::OTHER_TOKENIZER]) {
        let session = session(name).await;
        let tokenizer = session.tokenizer().unwrap();
        let (mut loss, mut entropy) = (0.0, 0.0);
        for index in 0..20 {
            let story = Story::generate(2, index);
            let tokens = tokenizer.encode(story.text(), true).unwrap().get_ids().to_vec();
            // Measured on the prompts that end before each token, since the engine fails on raw logits of many requests
            // in a row.
            let prompts: Vec<&[u32]> = (1..tokens.len()).map(|end| &tokens[..end]).collect();
            let logits = session.next_token(&prompts, |_| None, |_, logits| Ok(logits.to_vec()));
            let logits = logits.await.unwrap();
            for (logits, &next) in logits.iter().zip(&tokens[1..]) {
                let top = logits.iter().fold(f32::MIN, |a, &b| a.max(b));
                let sum: f64 = logits.iter().map(|&x| f64::from(x - top).exp()).sum();
                loss += sum.ln() - f64::from(logits[next as usize] - top);
            }
            entropy += story.nats;
        }
        // The README's 55.3 to 59.1 nats a story against 55.4, less 2.5 for the first token where there is no BOS, and less
        // the end of the story, which is not counted here.
        let ratio = loss / entropy;
        assert!((0.9..1.15).contains(&ratio), "{name}: {loss} nats against {entropy}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_models_vector_steers_a_larger_one_and_a_broken_map_does_not() {
    let (source, target) = (session(family::SIZES[0]).await, session(family::SIZES[1]).await);
    let (map, _dir) = fit(&source, &target, 500, "3:5".parse().unwrap()).await;
    let pair = &map.pairs()[0];
    assert!(pair.fit.r2 > 0.5, "{}", pair.fit.r2);
    for concept in ["mood", "tense"] {
        let (found, native) = (vector(&source, concept).await, vector(&target, concept).await);
        let (found, native) = (found.direction(3).unwrap(), native.direction(5).unwrap());
        let task = tasks::read(&in_project(&family::items(concept))).unwrap();
        let (items, skipped) = Choices::of(&target, &task.measuring).await.unwrap();
        assert!(skipped.is_empty() && items.len() == 30);
        let bench = SlopeBench {
            session: &target,
            items: &items,
        };
        let map = pair.map.load().unwrap();
        let mapped = map.linear(found);
        // The same map with its rows rotated by one maps to no meaningful direction of the target.
        let AffineMap { weight, bias } = map.to_affine();
        let rows = weight.nrows();
        let broken = LinearMap::from(AffineMap {
            weight: nalgebra::DMatrix::from_fn(rows, weight.ncols(), |i, j| weight[((i + 1) % rows, j)]),
            bias,
        });
        let broken = broken.linear(found);
        let probe = |direction| DirectionProbe {
            layer: 5,
            mean_norm: pair.fit.target_mean_norm,
            direction,
        };
        let probes = [native, &mapped, &broken].map(probe);
        let slopes = bench.slopes(&probes, &[-0.1, 0.1]).await.unwrap();
        let [native_slope, retention, share] = [slopes[0], slopes[1] / slopes[0], slopes[2] / slopes[0]];
        assert!(native_slope > 0.0 && retention > 0.8, "{concept}: {slopes:?}");
        assert!(cosine(native, &mapped) > 0.8, "{concept}: {}", cosine(native, &mapped));
        assert!(share.abs() < 0.6, "{concept}: {share}");

        // Rows of one batch with different offsets equal what the plugin's hook makes of each alone.
        let alpha = 0.1 * pair.fit.target_mean_norm;
        let offset = LayerOffset::new(5, &steermap_mapper::behaviour::unit(&mapped).unwrap(), alpha);
        let steerer = Steerer::new(&target).unwrap();
        let together = items.propensities_under(&steerer, [None, Some(offset.clone())], || ());
        let together = together.await.unwrap();
        drop(steerer);
        let plain = items.propensities(&target).await.unwrap();
        let hook = SteeringHook::fixed(Program::adding([(5, offset.values)].into()));
        target.slot().install(Arc::new(hook)).unwrap();
        let steered = items.propensities(&target).await.unwrap();
        target.slot().remove();
        for (together, alone) in together.iter().zip([plain, steered]) {
            for (a, b) in together.iter().zip(&alone) {
                assert!((a - b).abs() < 1e-3, "{a} against {b}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_tokenizers_pair_where_their_tokens_end() {
    let (source, target) = (session(family::SIZES[0]).await, session(family::OTHER_TOKENIZER).await);
    let (map, _dir) = fit(&source, &target, 300, PairSelection::RelativeDepth).await;
    let positions = map.header().positions.clone().unwrap();
    // Words are one token on the left and often several on the right; the left has a BOS.
    assert!(positions.unmatched_target > positions.unmatched_source, "{positions:?}");
    assert_eq!(positions.special, 300);
    assert!(positions.paired > 5000, "{positions:?}");
    let best = map.pairs().iter().map(|pair| pair.fit.r2).fold(f64::MIN, f64::max);
    assert!(best > 0.3, "{best}");
    assert!(map.pairs().iter().all(|pair| pair.fit.r2_mean_baseline < 0.05));
}

#[test]
fn the_shipped_map_and_vector_are_of_the_embedded_models() {
    let map = MapFile::load(&project("maps/stories-260k--stories-3m.toml")).unwrap();
    let vector = VectorFile::load(&project("maps/stories-260k-mood.toml")).unwrap();
    let fingerprint = |name: &str| fingerprint_folder(&in_project(&family::model(name))).unwrap();
    assert_eq!(map.header().source.fingerprint, fingerprint("stories-260k"));
    assert_eq!(map.header().target.fingerprint, fingerprint("stories-3m"));
    let mapped = map.apply(&vector, OffsetRule::Linear, true).unwrap();
    assert_eq!(mapped.layers.len(), 1);
}
