//! A test for every check, a round trip, and a fuzzer that knows what a right answer is.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::digest;
use crate::offset::OffsetRule;
use crate::testing::{self, Random};

fn header() -> VectorHeader {
    VectorHeader {
        concept: "happy".into(),
        method: "mean-difference".into(),
        token_position: TokenPosition::Last,
        pairs: 64,
        model: ModelInfo {
            model: "tiny".into(),
            fingerprint: "sm1:00".into(),
            hidden_size: 4,
            num_layers: 30,
        },
        numerics: Numerics {
            dtype: "f32".into(),
            quantization: Some("q4_1".into()),
        },
        provenance: testing::provenance(),
    }
}

fn layer(layer: usize) -> LayerVector {
    let direction = vec![1.5, -2.0, f32::MIN_POSITIVE, layer as f32];
    LayerVector {
        layer,
        direction,
        mean_norm: 40.25,
        auroc: Some(0.9),
        neutral: Some(Spread { mean: -1.5, std: 2.25 }),
    }
}

fn sample() -> VectorFile {
    VectorFile::new(header(), vec![layer(11), layer(2), layer(9)]).unwrap()
}

/// A saved [`sample`] to be spoilt.
struct Saved(testing::Saved);

impl std::ops::Deref for Saved {
    type Target = testing::Saved;

    fn deref(&self) -> &testing::Saved {
        &self.0
    }
}

impl Saved {
    fn new() -> Self {
        Self::of(&sample())
    }

    fn of(file: &VectorFile) -> Self {
        Self(testing::Saved::new(|path| file.save(path)))
    }

    fn table(&self) -> VectorTable {
        toml::from_str(&self.text()).unwrap()
    }

    /// As [`testing::Saved::forge`], from names and values.
    fn forge_tensors(&self, tensors: &[(&str, &[f32])]) {
        let tensors = tensors
            .iter()
            .map(|(name, values)| ((*name).to_owned(), TensorToWrite::f32(vec![values.len()], values)));
        self.forge(&tensors::encode(tensors).unwrap());
    }

    fn load(&self) -> Result<VectorFile, FileError> {
        VectorFile::load(&self.path)
    }

    fn toml_problem(&self) -> Problem {
        self.problem(self.load(), &self.path)
    }

    fn tensor_problem(&self) -> Problem {
        self.problem(self.load(), &self.weights())
    }
}

/// The problem in a TOML file after one replacement.
fn after(old: &str, new: &str) -> Problem {
    let saved = Saved::new();
    saved.replace(old, new);
    saved.toml_problem()
}

/// The problem in a safetensors file with these tensors.
fn with(tensors: &[(&str, &[f32])]) -> Problem {
    let saved = Saved::new();
    saved.forge_tensors(tensors);
    saved.tensor_problem()
}

const V2: (&str, &[f32]) = ("layer.2", &[1.5, -2.0, f32::MIN_POSITIVE, 2.0]);
const V9: (&str, &[f32]) = ("layer.9", &[1.5, -2.0, f32::MIN_POSITIVE, 9.0]);
const V11: (&str, &[f32]) = ("layer.11", &[1.5, -2.0, f32::MIN_POSITIVE, 11.0]);

#[test]
fn round_trip() {
    let saved = Saved::new();
    let file = saved.load().unwrap();
    assert_eq!(file, sample());
    file.save(&saved.path).unwrap();
    assert_eq!(saved.load().unwrap(), file);
    // Without what may be absent.
    let mut header = header();
    header.numerics.quantization = None;
    header.provenance.seed = None;
    // And with text that TOML must quote with care.
    header.concept = "'\"\"\"\u{1}\\ \r\n[weights] 喜".into();
    let file = VectorFile::new(
        header,
        vec![LayerVector {
            auroc: None,
            neutral: None,
            ..layer(0)
        }],
    )
    .unwrap();
    file.save(&saved.path).unwrap();
    assert_eq!(saved.load().unwrap(), file);
    for key in ["quantization", "seed", "auroc"] {
        assert!(!saved.text().contains(key));
    }
}

#[test]
fn accessors() {
    let file = sample();
    assert_eq!(file.header(), &header());
    assert_eq!(file.model().hidden_size, 4);
    assert_eq!(
        file.layers().iter().map(|layer| layer.layer).collect::<Vec<_>>(),
        [2, 9, 11]
    );
    assert_eq!(file.direction(9), Some(V9.1));
    assert_eq!(file.layer(11), Some(&layer(11)));
    assert_eq!(file.direction(3), None);
    let vector = LayerVector {
        direction: vec![3.0, 0.0, -4.0, 0.0],
        ..layer(0)
    };
    assert_eq!(vector.norm(), 5.0);
    assert_eq!(vector.unit(), [0.6, 0.0, -0.8, 0.0]);
    // Sums of squares that f32 can't hold.
    for size in [f32::MAX, 1e-44] {
        let vector = LayerVector {
            direction: vec![size, -size, size, size],
            ..layer(0)
        };
        assert_eq!(vector.unit(), [0.5, -0.5, 0.5, 0.5]);
    }
}

#[test]
fn the_text_is_as_documented() {
    let saved = Saved::new();
    let text = saved.text();
    let keys: Vec<_> = text
        .lines()
        .map(|line| line.split(" = ").next().unwrap())
        .filter(|key| !key.is_empty())
        .collect();
    let layer = [
        "[[layer]]",
        "layer",
        "tensor",
        "norm",
        "mean_norm",
        "auroc",
        "neutral_mean",
        "neutral_std",
    ];
    let expected = [
        &["format", "concept", "method", "token_position", "pairs"][..],
        &[
            "[model]",
            "model",
            "fingerprint",
            "hidden_size",
            "num_layers",
            "dtype",
            "quantization",
        ],
        &["[weights]", "file", "sha256"],
        &layer,
        &layer,
        &layer,
        &[
            "[provenance]",
            "tool",
            "date",
            "command",
            "seed",
            "corpus",
            "corpus_sha256",
        ],
    ];
    assert_eq!(keys, expected.concat(), "{text}");
    assert!(
        text.starts_with("format = \"steermap-vector/1\"\nconcept = \"happy\"\n"),
        "{text}"
    );
    let sha256 = digest::sha256_file(&saved.weights()).unwrap();
    let file = format!("happy-{}.safetensors", &sha256[..16]);
    assert!(
        text.contains(&format!("[weights]\nfile = \"{file}\"\nsha256 = \"{sha256}\"\n")),
        "{text}"
    );
    assert!(
        text.contains("[[layer]]\nlayer = 2\ntensor = \"layer.2\"\nnorm = 3.2"),
        "{text}"
    );
}

#[test]
fn missing_files() {
    let saved = Saved::new();
    let weights = saved.weights();
    fs::remove_file(&weights).unwrap();
    let error = saved.load().unwrap_err();
    assert!(
        matches!(&error, FileError::Missing { path, .. } if *path == weights),
        "{error}"
    );
    assert!(error.to_string().contains("weights.file"), "{error}");
    fs::remove_file(&saved.path).unwrap();
    let error = saved.load().unwrap_err();
    assert!(
        matches!(&error, FileError::Missing { path, .. } if *path == saved.path),
        "{error}"
    );
}

#[test]
fn the_parts_are_the_contents_of_the_files() {
    for file in [sample(), mapped_sample()] {
        let saved = Saved::of(&file);
        let parts = file.to_parts("happy").unwrap();
        assert_eq!(parts.toml, saved.text());
        assert_eq!(saved.weights().file_name().unwrap(), &*parts.tensors_name);
        assert_eq!(parts.tensors, fs::read(saved.weights()).unwrap());
        assert_eq!(VectorFile::from_parts(parts.toml.as_bytes(), &parts.tensors), Ok(file));
    }
}

#[test]
fn parts_have_plain_names() {
    for stem in ["", ".", "..", "a/b", "/a", "a/", ".a", "a\\b", "c:d", "a\nb"] {
        let parts = sample().to_parts(stem);
        assert!(matches!(parts, Err(FileError::Name { .. })), "{stem:?}");
    }
    for stem in ["a", "a.b", "a b", "ü"] {
        let parts = sample().to_parts(stem).unwrap();
        assert!(parts.tensors_name.starts_with(&format!("{stem}-")), "{stem:?}");
    }
}

#[test]
fn the_part_that_is_wrong_is_named() {
    let VectorParts {
        toml,
        tensors_name,
        tensors,
    } = sample().to_parts("happy").unwrap();
    let problem = |toml: &str, tensors: &[u8]| VectorFile::from_parts(toml.as_bytes(), tensors).unwrap_err();
    let named = |name: &str| problem(&toml.replace(&tensors_name, name), &tensors);
    let sha256 = digest::sha256(&tensors);
    let forged = |tensors: &[u8]| problem(&toml.replace(&sha256, &digest::sha256(tensors)), tensors);

    let (part, found) = problem("][", &tensors);
    assert!(
        matches!((part, &found), (VectorPart::Toml, Problem::Toml { .. })),
        "{found}"
    );
    let (part, found) = problem(&toml.replace("pairs = 64", "pairs = 64\nextra = 1"), &tensors);
    assert!(
        matches!((part, &found), (VectorPart::Toml, Problem::UnknownKey { .. })),
        "{found}"
    );
    let (part, found) = problem(&toml.replace("layer = 9\n", "layer = 30\n"), &tensors);
    assert!(
        matches!((part, &found), (VectorPart::Toml, Problem::LayerOutOfRange { .. })),
        "{found}"
    );
    let (part, found) = named("../x.safetensors");
    assert!(
        matches!((part, &found), (VectorPart::Toml, Problem::WeightsName { .. })),
        "{found}"
    );
    let (part, found) = named(&format!("{}.safetensors", "x".repeat(244)));
    assert_eq!(part, VectorPart::Toml);
    assert_eq!(
        found.to_string(),
        "weights.file: found a name of 256 bytes, expected at most 255 bytes"
    );
    let (part, found) = problem(&" ".repeat(MAX_TOML_BYTES as usize + 1), &tensors);
    assert_eq!(part, VectorPart::Toml);
    assert_eq!(found.to_string(), "found 1048577 bytes, expected at most 1048576");
    let (part, found) = problem(&toml.replace("norm = ", "norm = 1"), &tensors);
    assert!(
        matches!((part, &found), (VectorPart::Toml, Problem::Norm { .. })),
        "{found}"
    );

    let (part, found) = problem(&toml, b"");
    assert!(
        matches!((part, &found), (VectorPart::Safetensors, Problem::Sha256 { .. })),
        "{found}"
    );
    let (part, found) = forged(b"");
    assert!(
        matches!((part, &found), (VectorPart::Safetensors, Problem::Safetensors { .. })),
        "{found}"
    );
    // The name is never used.
    let accepted = toml.replace(&tensors_name, &format!("{}.safetensors", "x".repeat(243)));
    assert_eq!(VectorFile::from_parts(accepted.as_bytes(), &tensors), Ok(sample()));
}

#[test]
fn not_a_vector_file() {
    assert!(matches!(
        after("steermap-vector/1", "steermap-map/1"),
        Problem::Format { .. }
    ));
    assert!(matches!(after("concept = ", "concept "), Problem::Toml { .. }));
    assert!(matches!(after("pairs = 64\n", ""), Problem::Toml { .. }));
    assert!(matches!(after("pairs = 64", "pairs = -1"), Problem::Toml { .. }));
    let problem = after("token_position = \"last\"", "token_position = \"first\"").to_string();
    assert!(
        problem.contains("line 4") && problem.contains("`first`, expected one of `last`, `mean`, `answer`"),
        "{problem}"
    );
}

#[test]
fn unknown_keys_everywhere() {
    for anchor in [
        "pairs = 64",
        "hidden_size = 4",
        "[weights]",
        "tensor = \"layer.9\"",
        "seed = 7",
    ] {
        let problem = after(anchor, &format!("{anchor}\nsurprise = 1"));
        assert!(matches!(&problem, Problem::UnknownKey { .. }), "{anchor}: {problem}");
        assert!(
            problem.to_string().contains("unknown field `surprise`, expected"),
            "{problem}"
        );
    }
}

#[test]
fn weights_are_elsewhere_or_others() {
    assert!(matches!(
        after("file = \"happy", "file = \"../happy"),
        Problem::WeightsName { .. }
    ));
    let saved = Saved::new();
    let mut bytes = fs::read(saved.weights()).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(saved.weights(), &bytes).unwrap();
    let problem = saved.tensor_problem();
    assert!(
        matches!(&problem, Problem::Sha256 { found, .. } if *found == digest::sha256(&bytes)),
        "{problem}"
    );
}

#[test]
fn broken_safetensors() {
    let saved = Saved::new();
    let bytes = fs::read(saved.weights()).unwrap();
    for length in [0, 7, 8, 100, bytes.len() - 1] {
        saved.forge(&bytes[..length]);
        assert!(
            matches!(saved.tensor_problem(), Problem::Safetensors { .. }),
            "{length}"
        );
    }
    saved.forge(&[0xff; 400]);
    assert!(matches!(saved.tensor_problem(), Problem::Safetensors { .. }));
}

#[test]
fn wrong_tensors() {
    assert_eq!(
        with(&[V2, V11]),
        Problem::MissingTensor {
            tensor: "layer.9".into()
        }
    );
    assert_eq!(
        with(&[V2, V9, V11, ("layer.12", V9.1)]),
        Problem::ExtraTensor {
            tensor: "layer.12".into()
        }
    );
    let problem = with(&[V2, V11, ("layer.9", &[1.0; 5])]);
    assert_eq!(
        problem,
        Problem::Shape {
            tensor: "layer.9".into(),
            found: vec![5],
            expected: vec![4]
        }
    );
    let problem = with(&[V2, V11, ("layer.9", &[1.0, 2.0, f32::INFINITY, 0.0])]);
    assert_eq!(
        problem,
        Problem::NotFinite {
            tensor: "layer.9".into(),
            index: 2,
            found: f64::INFINITY
        }
    );
    let problem = with(&[V2, V11, ("layer.9", &[1.0, f32::NAN, 0.0, 0.0])]);
    assert!(matches!(problem, Problem::NotFinite { index: 1, .. }), "{problem}");
    assert_eq!(
        with(&[V2, V11, ("layer.9", &[0.0, -0.0, 0.0, 0.0])]),
        Problem::ZeroVector {
            tensor: "layer.9".into()
        }
    );

    let saved = Saved::new();
    let bytes = fs::read(saved.weights()).unwrap();
    let at = bytes.windows(3).position(|window| window == b"F32").unwrap();
    saved.forge(&[&bytes[..at], b"I32", &bytes[at + 3..]].concat());
    assert!(matches!(saved.tensor_problem(), Problem::Dtype { found, .. } if found == "I32"));
}

#[test]
fn wrong_layers() {
    let problem = after("layer = 9\ntensor = \"layer.9\"", "layer = 30\ntensor = \"layer.30\"");
    assert_eq!(
        problem,
        Problem::LayerOutOfRange {
            layer: 30,
            num_layers: 30
        }
    );
    let problem = after("layer = 9\ntensor = \"layer.9\"", "layer = 2\ntensor = \"layer.2\"");
    assert_eq!(problem, Problem::DuplicateLayer { layer: 2 });
    let problem = after("layer = 9\n", "layer = 10\n");
    assert_eq!(
        problem,
        Problem::TensorName {
            layer: 10,
            found: "layer.9".into()
        }
    );
    assert!(matches!(after("layer = 9\n", "layer = -1\n"), Problem::Toml { .. }));

    let saved = Saved::new();
    let text = saved.text();
    let (start, end) = (text.find("[[layer]]").unwrap(), text.find("[provenance]").unwrap());
    fs::write(&saved.path, text[..start].to_owned() + &text[end..]).unwrap();
    assert_eq!(saved.toml_problem(), Problem::NoLayers);
}

#[test]
fn layers_may_be_listed_in_any_order() {
    let saved = Saved::new();
    let text = saved.text();
    let (start, end) = (text.find("[[layer]]").unwrap(), text.find("[provenance]").unwrap());
    let mut tables: Vec<_> = text[start..end].split_inclusive("\n\n").collect();
    tables.reverse();
    let reversed = text[..start].to_owned() + &tables.concat() + &text[end..];
    assert_ne!(reversed, text);
    fs::write(&saved.path, reversed).unwrap();
    assert_eq!(saved.load().unwrap(), sample());
}

#[test]
fn stated_norms() {
    let stated = |factor: f64| {
        let saved = Saved::new();
        let norm = layer(9).norm();
        saved.replace(
            &format!("norm = {norm:?}\n"),
            &format!("norm = {}\n", toml::Value::from(norm * factor)),
        );
        saved
    };
    assert_eq!(stated(1.0009).load().unwrap(), sample());
    assert_eq!(stated(0.9991).load().unwrap(), sample());
    for factor in [1.0011, 0.9989, 0.0, -1.0, f64::INFINITY, f64::NAN] {
        assert!(
            matches!(stated(factor).toml_problem(), Problem::Norm { layer: 9, .. }),
            "{factor}"
        );
    }
}

#[test]
fn values_out_of_range() {
    type Spoil = fn(&mut VectorHeader, &mut LayerVector);
    let cases: [(&str, &str, Spoil); 21] = [
        ("concept", "\" \"", |header, _| header.concept = " ".into()),
        ("method", "\"\"", |header, _| header.method.clear()),
        ("model.model", "\"\"", |header, _| header.model.model.clear()),
        ("model.fingerprint", "\"\"", |header, _| {
            header.model.fingerprint.clear()
        }),
        ("model.hidden_size", "0", |header, _| header.model.hidden_size = 0),
        ("model.hidden_size", "2147483648", |header, _| {
            header.model.hidden_size = 1 << 31
        }),
        ("model.num_layers", "0", |header, _| header.model.num_layers = 0),
        ("model.num_layers", "2147483648", |header, _| {
            header.model.num_layers = 1 << 31
        }),
        ("model.dtype", "\"\"", |header, _| header.numerics.dtype.clear()),
        ("model.quantization", "\"\"", |header, _| {
            header.numerics.quantization = Some(String::new())
        }),
        ("provenance.tool", "\"\"", |header, _| header.provenance.tool.clear()),
        ("provenance.date", "\"\"", |header, _| header.provenance.date.clear()),
        ("provenance.command", "\"\"", |header, _| {
            header.provenance.command.clear()
        }),
        ("provenance.corpus", "\"\"", |header, _| {
            header.provenance.corpus.clear()
        }),
        ("provenance.corpus_sha256", "\"ab\"", |header, _| {
            header.provenance.corpus_sha256 = "ab".into()
        }),
        ("mean_norm of layer 3", "-1", |_, layer| layer.mean_norm = -1.0),
        ("mean_norm of layer 3", "NaN", |_, layer| layer.mean_norm = f64::NAN),
        ("mean_norm of layer 3", "inf", |_, layer| {
            layer.mean_norm = f64::INFINITY
        }),
        ("auroc of layer 3", "1.5", |_, layer| layer.auroc = Some(1.5)),
        ("auroc of layer 3", "-0.5", |_, layer| layer.auroc = Some(-0.5)),
        ("auroc of layer 3", "NaN", |_, layer| layer.auroc = Some(f64::NAN)),
    ];
    for (field, found, spoil) in cases {
        let (mut header, mut layer) = (header(), layer(3));
        spoil(&mut header, &mut layer);
        let file = VectorFile {
            header: header.clone(),
            layers: vec![layer.clone()],
            norms: Vec::new(),
            mapped: None,
        };
        let refused = |problem: &Problem| {
            let message = problem.to_string();
            assert!(
                message.starts_with(&format!("{field}: found {found}, expected ")),
                "{message}"
            );
        };
        refused(&VectorFile::new(header, vec![layer]).unwrap_err());

        // Written by someone else: the check on reading must be there too.
        let saved = Saved::new();
        let weights = saved.table().weights;
        fs::write(&saved.path, toml::to_string(&VectorTable::new(&file, weights)).unwrap()).unwrap();
        refused(&saved.toml_problem());

        // And on writing.
        let before = saved.text();
        assert!(matches!(file.save(&saved.path), Err(FileError::Invalid { .. })));
        assert_eq!(saved.text(), before);
    }
    let mut header = header();
    header.provenance.seed = Some(1 << 63);
    assert!(matches!(
        VectorFile::new(header, vec![layer(3)]),
        Err(Problem::Value { .. })
    ));
}

#[test]
fn parts_that_do_not_fit() {
    let new = |layers| VectorFile::new(header(), layers).unwrap_err();
    let direction = |direction: &[f32]| {
        new(vec![LayerVector {
            direction: direction.to_vec(),
            ..layer(3)
        }])
    };
    assert_eq!(new(vec![]), Problem::NoLayers);
    assert_eq!(
        new(vec![layer(3), layer(4), layer(3)]),
        Problem::DuplicateLayer { layer: 3 }
    );
    assert_eq!(
        new(vec![layer(30)]),
        Problem::LayerOutOfRange {
            layer: 30,
            num_layers: 30
        }
    );
    assert!(matches!(direction(&[1.0; 3]), Problem::Shape { .. }));
    assert!(matches!(direction(&[]), Problem::Shape { .. }));
    assert!(matches!(
        direction(&[1.0, 0.0, 0.0, f32::NAN]),
        Problem::NotFinite { index: 3, .. }
    ));
    assert!(matches!(direction(&[0.0; 4]), Problem::ZeroVector { .. }));
}

fn mapped() -> Mapped {
    Mapped {
        map: "small-to-large".into(),
        map_sha256: digest::sha256(b"map"),
        source_model: "small".into(),
        source_fingerprint: "sm1:11".into(),
        offset: OffsetRule::Affine,
        source_layers: BTreeMap::from([(2, vec![5]), (9, vec![20, 7])]),
    }
}

fn mapped_sample() -> VectorFile {
    VectorFile::new_mapped(header(), vec![layer(9), layer(2)], mapped()).unwrap()
}

#[test]
fn a_spread_is_whole_and_made_of_numbers() {
    let saved = Saved::new();
    let text = saved.text();
    for (from, to, message) in [
        ("neutral_mean = -1.5\n", "", "neutral_mean and neutral_std of layer"),
        ("neutral_std = 2.25", "neutral_std = -1.0", "neutral_std of layer"),
        ("neutral_mean = -1.5", "neutral_mean = inf", "neutral_mean of layer"),
    ] {
        fs::write(&saved.path, text.replacen(from, to, 1)).unwrap();
        let error = saved.load().unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn mapped_vectors_round_trip() {
    let saved = Saved::of(&mapped_sample());
    let file = saved.load().unwrap();
    assert_eq!(file, mapped_sample());
    assert_eq!(file.mapped(), Some(&mapped()));
    assert_eq!(sample().mapped(), None);
    let text = saved.text();
    let expected = format!(
        "[mapped]\nmap = \"small-to-large\"\nmap_sha256 = \"{}\"\nsource_model = \"small\"\n\
         source_fingerprint = \"sm1:11\"\noffset = \"affine\"\n\n[weights]\n",
        digest::sha256(b"map")
    );
    assert!(text.contains(&expected), "{text}");
    assert!(text.contains("neutral_std = 2.25\nsource_layers = [20, 7]\n"), "{text}");
}

#[test]
fn every_position_round_trips() {
    for (position, spelled) in [
        (TokenPosition::Last, "last"),
        (TokenPosition::Mean, "mean"),
        (TokenPosition::Answer, "answer"),
    ] {
        let mut header = header();
        header.token_position = position;
        let saved = Saved::of(&VectorFile::new(header.clone(), vec![layer(3)]).unwrap());
        assert!(saved.text().contains(&format!("token_position = \"{spelled}\"\n")));
        assert_eq!(saved.load().unwrap().header(), &header);
        assert_eq!(position.as_str(), spelled);
    }
}

#[test]
fn what_is_said_of_a_map_is_checked() {
    type Spoil = fn(&mut Mapped);
    let cases: [(&str, Spoil); 9] = [
        ("mapped.map: found \"\", expected", |mapped| mapped.map.clear()),
        ("mapped.map_sha256: found \"ab\", expected", |mapped| {
            mapped.map_sha256 = "ab".into()
        }),
        ("mapped.source_model: found \" \", expected", |mapped| {
            mapped.source_model = " ".into()
        }),
        ("mapped.source_fingerprint: found \"\", expected", |mapped| {
            mapped.source_fingerprint.clear()
        }),
        (
            "source_layers of layer 2: found nothing, expected a list, as there is a [mapped] table",
            |mapped| {
                mapped.source_layers.remove(&2);
            },
        ),
        (
            "source_layers of layer 9: found [], expected at least one layer",
            |mapped| {
                mapped.source_layers.insert(9, vec![]);
            },
        ),
        (
            "source_layers of layer 9: found 7 twice, expected every layer once",
            |mapped| {
                mapped.source_layers.insert(9, vec![7, 3, 7]);
            },
        ),
        ("source_layers of layer 2: found 0 twice", |mapped| {
            mapped.source_layers.insert(2, vec![0, 0]);
        }),
        ("mapped.source_layers: found those of layer 4", |mapped| {
            mapped.source_layers.insert(4, vec![1]);
        }),
    ];
    for (message, spoil) in cases {
        let mut mapped = mapped();
        spoil(&mut mapped);
        let refused = |problem: Problem| assert!(problem.to_string().starts_with(message), "{problem}");
        let layers = vec![layer(2), layer(9)];
        refused(VectorFile::new_mapped(header(), layers.clone(), mapped.clone()).unwrap_err());

        // Written by someone else, or changed since. A layer too many has no table to stand in.
        let file = VectorFile {
            header: header(),
            layers,
            norms: Vec::new(),
            mapped: Some(mapped),
        };
        let saved = Saved::of(&mapped_sample());
        let weights = saved.table().weights;
        assert!(matches!(file.save(&saved.path), Err(FileError::Invalid { .. })));
        fs::write(&saved.path, toml::to_string(&VectorTable::new(&file, weights)).unwrap()).unwrap();
        if message.contains("those of layer 4") {
            saved.load().unwrap();
        } else {
            refused(saved.toml_problem());
        }
    }
}

#[test]
fn a_native_vector_has_no_source_layers() {
    let problem = after("tensor = \"layer.9\"\n", "tensor = \"layer.9\"\nsource_layers = [3]\n");
    assert_eq!(
        problem.to_string(),
        "source_layers of layer 9: found [3], expected none, as there is no [mapped] table"
    );
    let saved = Saved::of(&mapped_sample());
    saved.replace("offset = \"affine\"", "offset = \"affine\"\nsurprise = 1");
    assert!(matches!(saved.toml_problem(), Problem::UnknownKey { .. }));
    let saved = Saved::of(&mapped_sample());
    saved.replace("offset = \"affine\"", "offset = \"none\"");
    assert!(matches!(saved.toml_problem(), Problem::Toml { .. }));
}

/// Loads without panicking.
fn load_calmly(saved: &Saved, round: usize) -> Option<VectorFile> {
    let loaded = catch_unwind(AssertUnwindSafe(|| saved.load()));
    let loaded = loaded.unwrap_or_else(|_| panic!("panicked in round {round}"));
    loaded.inspect_err(|error| assert!(!error.to_string().is_empty())).ok()
}

#[test]
fn spoilt_files_never_give_wrong_directions() {
    let saved = Saved::new();
    let good = sample();
    let (text, weights_path) = (fs::read(&saved.path).unwrap(), saved.weights());
    let tensors = fs::read(&weights_path).unwrap();
    let mut random = Random(0x5eed);
    let mut accepted = 0;
    for round in 0..2000 {
        let (mut spoilt_text, mut spoilt_tensors) = (text.clone(), tensors.clone());
        match round % 5 {
            0..=2 => random.spoil(&mut spoilt_text),
            3 => random.spoil(&mut spoilt_tensors),
            _ => {
                random.spoil(&mut spoilt_text);
                random.spoil(&mut spoilt_tensors);
            }
        }
        fs::write(&saved.path, &spoilt_text).unwrap();
        fs::write(&weights_path, &spoilt_tensors).unwrap();
        let Some(file) = load_calmly(&saved, round) else {
            continue;
        };
        accepted += 1;
        // The text may say something else of them (their concept, say), but the directions are what they were.
        assert_eq!(spoilt_tensors, tensors, "round {round}");
        assert_eq!(file.model().hidden_size, 4, "round {round}");
        assert_eq!(file.layers().len(), 3, "round {round}");
        for layer in good.layers() {
            assert_eq!(file.direction(layer.layer), Some(&layer.direction[..]), "round {round}");
        }
    }
    // Both ways out have been taken, or nothing was tested.
    assert!((50..1500).contains(&accepted), "{accepted}");
}

#[test]
fn spoilt_texts_of_mapped_vectors_never_break_an_invariant() {
    let saved = Saved::of(&mapped_sample());
    let text = fs::read(&saved.path).unwrap();
    let mut random = Random(0x3a99);
    let mut accepted = 0;
    for round in 0..500 {
        let mut spoilt = text.clone();
        random.spoil(&mut spoilt);
        fs::write(&saved.path, &spoilt).unwrap();
        let Some(file) = load_calmly(&saved, round) else {
            continue;
        };
        accepted += 1;
        file.check().unwrap();
        assert_eq!(file.direction(9), Some(V9.1), "round {round}");
    }
    assert!((25..400).contains(&accepted), "{accepted}");
}

#[test]
fn forged_files_never_break_an_invariant() {
    let original = Saved::new();
    let tensors = fs::read(original.weights()).unwrap();
    let text = original.text();
    let sha256 = digest::sha256(&tensors);
    let mut random = Random(0xf0e9);
    let mut accepted = 0;
    for round in 0..1000 {
        let mut spoilt = tensors.clone();
        random.spoil(&mut spoilt);
        // The hash agrees, so it's the parser and the checks behind it that must hold.
        fs::write(original.weights(), &spoilt).unwrap();
        fs::write(&original.path, text.replace(&sha256, &digest::sha256(&spoilt))).unwrap();
        let Some(file) = load_calmly(&original, round) else {
            continue;
        };
        accepted += 1;
        assert_eq!(file.layers().len(), 3);
        for (layer, good) in file.layers().iter().zip(sample().layers()) {
            assert_eq!(layer.layer, good.layer);
            assert_eq!(layer.direction.len(), 4);
            assert!(layer.direction.iter().all(|value| value.is_finite()));
            assert!((layer.norm() - good.norm()).abs() <= NORM_TOLERANCE * layer.norm() * 1.001);
        }
    }
    assert!((20..750).contains(&accepted), "{accepted}");
}
