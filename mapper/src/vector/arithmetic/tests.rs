use steermap_maps::digest::sha256;
use steermap_maps::{ModelInfo, Numerics, TokenPosition};

use super::*;

fn named(name: &str, layers: &[(usize, [f32; 3])]) -> NamedVector {
    let header = VectorHeader {
        concept: name.to_string(),
        method: "mean-difference".to_string(),
        token_position: TokenPosition::Last,
        pairs: 8,
        model: ModelInfo {
            model: "tiny".to_string(),
            fingerprint: "sm1:00".to_string(),
            hidden_size: 3,
            num_layers: 9,
        },
        numerics: Numerics {
            dtype: "f32".to_string(),
            quantization: None,
        },
        provenance: provenance("test".to_string(), format!("{name}.jsonl"), sha256(b"")),
    };
    let layers = layers.iter().map(|(layer, direction)| LayerVector {
        layer: *layer,
        direction: direction.to_vec(),
        mean_norm: 40.0,
        auroc: Some(0.9),
        neutral: None,
    });
    NamedVector {
        name: name.to_string(),
        file: format!("{name}.toml"),
        sha256: sha256(name.as_bytes()),
        vector: VectorFile::new(header, layers.collect()).unwrap(),
    }
}

/// The same with another header.
fn with(mut named: NamedVector, change: impl FnOnce(&mut VectorHeader)) -> NamedVector {
    let mut header = named.vector.header().clone();
    change(&mut header);
    named.vector = VectorFile::new(header, named.vector.layers().to_vec()).unwrap();
    named
}

fn happy() -> NamedVector {
    named(
        "happy",
        &[(2, [4.0, 0.0, 0.0]), (3, [2.0, 2.0, 1.0]), (5, [1.0, 0.0, 0.0])],
    )
}

fn calm() -> NamedVector {
    named(
        "calm",
        &[(2, [0.0, 3.0, 4.0]), (3, [0.0, 0.0, 2.0]), (8, [1.0, 0.0, 0.0])],
    )
}

fn combine(terms: Vec<(f64, NamedVector)>, orthogonal_to: Vec<NamedVector>) -> Combination {
    Combination {
        terms,
        orthogonal_to,
        normalize: false,
        check_fingerprints: true,
        concept: None,
        command: "mapper combine".to_string(),
    }
}

fn error(combination: &Combination) -> String {
    format!("{:#}", combination.run().unwrap_err())
}

#[test]
fn sums_by_hand() {
    let combination = combine(vec![(0.5, happy()), (-1.0, calm())], Vec::new());
    let Combined { vector, notes } = combination.run().unwrap();
    let layers: Vec<usize> = vector.layers().iter().map(|layer| layer.layer).collect();
    assert_eq!(layers, [2, 3]);
    assert_eq!(vector.direction(2).unwrap(), [2.0, -3.0, -4.0]);
    assert_eq!(vector.direction(3).unwrap(), [1.0, 1.0, -1.5]);
    assert_eq!(notes, ["left out because not all vectors have them: layers 5, 8"]);
    let header = vector.header();
    assert_eq!(header.concept, "0.5*happy - calm");
    assert_eq!(header.method, "0.5*happy - calm (of mean-difference)");
    assert_eq!((header.pairs, header.provenance.seed), (16, None));
    assert_eq!(header.provenance.corpus, "happy.toml + calm.toml");
    let hashes = format!("{}\n{}", sha256(b"happy"), sha256(b"calm"));
    assert_eq!(header.provenance.corpus_sha256, sha256(hashes.as_bytes()));
    let layer = vector.layer(2).unwrap();
    assert_eq!((layer.mean_norm, layer.auroc), (40.0, None));
    let alone = combine(vec![(2.0, happy())], Vec::new()).run().unwrap().vector;
    assert_eq!(alone.header().provenance.corpus_sha256, sha256(b"happy"));
    assert_eq!(alone.direction(5).unwrap(), [2.0, 0.0, 0.0]);
}

#[test]
fn terms_at_norm_1() {
    let combination = Combination {
        normalize: true,
        concept: Some("both".to_string()),
        ..combine(vec![(-2.0, happy()), (5.0, calm())], Vec::new())
    };
    let vector = combination.run().unwrap().vector;
    assert_eq!(vector.direction(2).unwrap(), [-2.0, 3.0, 4.0]);
    assert_eq!(vector.header().concept, "both");
    assert_eq!(
        vector.header().method,
        "-2*happy + 5*calm, each at norm 1 (of mean-difference)"
    );
}

#[test]
fn what_is_orthogonal_to_others() {
    // Two that are neither orthogonal nor of norm 1, and one in their span.
    let plane =
        |name: &str, direction: [f32; 3]| with(named(name, &[(3, direction)]), |h| h.method = "lat".to_string());
    let (a, b, c) = (
        plane("a", [3.0, 0.0, 0.0]),
        plane("b", [1.0, 1.0, 0.0]),
        plane("c", [5.0, -2.0, 0.0]),
    );
    let combination = combine(vec![(1.0, happy())], vec![a.clone(), b.clone(), c]);
    let vector = combination.run().unwrap().vector;
    let direction = vector.direction(3).unwrap();
    assert!(direction[0].abs() < 1e-6 && direction[1].abs() < 1e-6, "{direction:?}");
    assert_eq!(direction[2], 1.0);
    assert_eq!(
        vector.header().method,
        "happy, orthogonal to a, b, c (of lat; mean-difference)"
    );
    // numpy: h - (h.c / c.c) c with h = (2, 2, 1), c = (1, 1, 0) is (0, 0, 1).
    let one = combine(vec![(1.0, happy())], vec![b]).run().unwrap().vector;
    assert!((one.direction(3).unwrap()[2] - 1.0).abs() < 1e-6 && one.direction(3).unwrap()[0].abs() < 1e-6);
    let third = plane("third", [0.0, 1.0, 7.0]);
    let everything = combine(
        vec![(1.0, happy())],
        vec![a.clone(), plane("b", [1.0, 1.0, 0.0]), third],
    );
    assert!(error(&everything).contains("layer 3: found a sum in the span of a, b, third"));
    assert!(error(&combine(vec![(1.0, a.clone())], vec![a])).contains("in the span of a"));
}

#[test]
fn nearly_dependent_directions_are_removed_whole() {
    let (a, b) = ([1.0, 1e-4, 0.0], [1.0, 0.0, 1e-4]);
    let (a, b) = (named("a", &[(3, a)]), named("b", &[(3, b)]));
    let combined = combine(vec![(1.0, happy())], vec![a.clone(), b.clone()]).run().unwrap();
    let wide =
        |vector: &VectorFile| -> Vec<f64> { vector.direction(3).unwrap().iter().map(|&x| f64::from(x)).collect() };
    let direction = wide(&combined.vector);
    for other in [a, b] {
        let other = wide(&other.vector);
        let cosine = dot(&direction, &other) / norm(&direction) / norm(&other);
        assert!(cosine.abs() < 1e-6, "{cosine}");
    }
}

#[test]
fn sums_of_nothing_are_refused() {
    assert!(error(&combine(Vec::new(), Vec::new())).contains("found no vector"));
    let cancelled = combine(vec![(1.0, happy()), (-1.0, happy())], Vec::new());
    assert!(
        error(&cancelled).contains("layer 2: found a sum of norm 0.000e0"),
        "{}",
        error(&cancelled)
    );
    let third = 1.0 / 3.0;
    let rounded = combine(
        vec![(1.0, happy()), (-third, happy()), (-2.0 * third, happy())],
        Vec::new(),
    );
    assert!(error(&rounded).contains("cancel"));
    let elsewhere = combine(vec![(1.0, happy()), (1.0, named("odd", &[(7, [1.0; 3])]))], Vec::new());
    let message = error(&elsewhere);
    assert!(message.contains("happy.toml has 2, 3, 5, odd.toml has 7"), "{message}");
    assert!(error(&combine(vec![(1e38, happy()), (1e39, calm())], Vec::new())).contains("finite numbers"));
}

#[test]
fn vectors_of_other_models_are_refused() {
    let message = |other: NamedVector| error(&combine(vec![(1.0, happy()), (1.0, other.clone())], Vec::new()));
    let fingerprint = with(calm(), |header| header.model.fingerprint = "sm1:11".to_string());
    let found = message(fingerprint.clone());
    assert!(
        found.starts_with("calm.toml: model.fingerprint: found sm1:11 (tiny), expected sm1:00"),
        "{found}"
    );
    assert!(error(&combine(vec![(1.0, happy())], vec![fingerprint.clone()])).contains("sm1:11"));
    let layers = with(calm(), |header| header.model.num_layers = 30);
    assert_eq!(
        message(layers),
        "calm.toml: model.num_layers: found 30, expected 9, that of happy.toml"
    );
    let ignored = Combination {
        check_fingerprints: false,
        ..combine(vec![(1.0, happy()), (1.0, fingerprint)], Vec::new())
    };
    assert_eq!(ignored.run().unwrap().vector.model().fingerprint, "sm1:00");
}

#[test]
fn what_is_taken_from_the_first_is_said() {
    let mut other = with(calm(), |header| {
        header.token_position = TokenPosition::Mean;
        header.numerics.dtype = "bf16".to_string();
    });
    let louder = other.vector.layers().iter().map(|layer| LayerVector {
        mean_norm: if layer.layer == 3 { 44.1 } else { 43.9 },
        ..layer.clone()
    });
    other.vector = VectorFile::new(other.vector.header().clone(), louder.collect()).unwrap();
    let Combined { vector, notes } = combine(vec![(1.0, happy()), (1.0, other)], Vec::new()).run().unwrap();
    assert_eq!(vector.header().token_position, TokenPosition::Last);
    assert_eq!(vector.header().numerics.dtype, "f32");
    assert_eq!(vector.layer(3).unwrap().mean_norm, 40.0);
    assert_eq!(notes.len(), 4, "{notes:?}");
    assert!(notes[1].contains("calm.toml was found at token position mean"));
    assert!(notes[2].contains("numerics"));
    assert!(notes[3].ends_with("which the result states: layers 3"), "{}", notes[3]);
}

#[test]
fn terms_as_people_write_them() {
    let term = |text: &str| text.parse::<Term>().map(|term| (term.factor, term.path));
    assert_eq!(term("happy.toml").unwrap(), (1.0, PathBuf::from("happy.toml")));
    assert_eq!(
        term("-0.5*a/happy.toml").unwrap(),
        (-0.5, PathBuf::from("a/happy.toml"))
    );
    assert_eq!(term("2 * happy.toml").unwrap(), (2.0, PathBuf::from("happy.toml")));
    for bad in [
        "",
        "x*happy.toml",
        "0*happy.toml",
        "inf*happy.toml",
        "nan*a",
        "2*",
        "-happy.toml",
        "--normalise",
        "*a",
    ] {
        assert!(term(bad).unwrap_err().to_string().contains("FACTOR*FILE"), "{bad}");
    }
}

#[test]
fn files_are_read_under_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("very-happy.toml");
    happy().vector.save(&path).unwrap();
    let read = NamedVector::load(&path).unwrap();
    assert_eq!(
        (read.name.as_str(), read.file.as_str()),
        ("very-happy", "very-happy.toml")
    );
    assert_eq!(read.sha256, sha256_file(&path).unwrap());
    assert_eq!(read.vector, happy().vector);
    let missing = NamedVector::load(&folder.path().join("no.toml")).unwrap_err();
    assert!(missing.to_string().contains("no.toml"));
}
