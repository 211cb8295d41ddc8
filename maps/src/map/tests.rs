//! A test for every check, round trips, and a fuzzer that knows what a right answer is.

mod in_files;
mod version_1;

use std::collections::BTreeMap;
use std::fs;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};

use nalgebra::{DMatrix, DVector};

use super::linear::{bias_name, tensor_name};
use super::table::{MapTable, PairTable};
use super::*;
use crate::digest;
use crate::dtype::FloatDtype;
use crate::store::Weights;
use crate::tensors::{self, TensorToWrite, Tensors};
use crate::testing::{self, Random, low_rank_pair, map_header, pair};

/// Two source layers out of order, pairs out of order, and both kinds: all must be kept.
fn pairs() -> Vec<LayerPair> {
    vec![pair(&[14], 11), pair(&[9, 3], 2), low_rank_pair(&[15], 11)]
}

fn sample() -> MapFile {
    MapFile::new(map_header(), pairs()).unwrap()
}

/// Asserts that two lists of pairs say the same of the same maps.
fn assert_same(found: &[LayerPair], expected: &[LayerPair]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(
            (&found.source_layers, found.target_layer, &found.fit),
            (&expected.source_layers, expected.target_layer, &expected.fit)
        );
        let (found, expected) = (&found.map, &expected.map);
        assert_eq!(found.load().unwrap(), expected.load().unwrap());
        assert_eq!((found.kind(), found.dtype()), (expected.kind(), expected.dtype()));
        assert_eq!((found.rows(), found.columns()), (expected.rows(), expected.columns()));
        assert_eq!(found.bytes(), expected.bytes());
    }
}

/// Changes the parts of a pair's map.
fn edit(pair: &mut LayerPair, change: impl FnOnce(&mut AffineMap)) {
    let mut map = pair.map.load().unwrap().to_affine();
    change(&mut map);
    pair.map = map.into();
}

/// A saved [`sample`] to be spoilt.
struct Saved(testing::Saved);

impl Deref for Saved {
    type Target = testing::Saved;

    fn deref(&self) -> &testing::Saved {
        &self.0
    }
}

impl Saved {
    fn new() -> Self {
        Self::of(&sample())
    }

    fn of(file: &MapFile) -> Self {
        Self(testing::Saved::new(|path| file.save(path)))
    }

    fn load(&self) -> Result<MapFile, FileError> {
        MapFile::load(&self.path)
    }

    /// Loads the file and looks at all of it.
    fn verified(&self) -> Result<MapFile, FileError> {
        let file = self.load()?;
        file.verify()?;
        Ok(file)
    }

    fn toml_problem(&self) -> Problem {
        self.problem(self.load(), &self.path)
    }

    fn tensor_problem(&self) -> Problem {
        self.problem(self.verified(), &self.weights())
    }
}

/// The problem in a TOML file after one replacement.
fn after(old: &str, new: &str) -> Problem {
    let saved = Saved::new();
    saved.replace(old, new);
    saved.toml_problem()
}

/// The tensors of some pairs, by name.
fn tensors_of(pairs: &[LayerPair]) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let mut tensors = BTreeMap::new();
    for (index, pair) in pairs.iter().enumerate() {
        let map = pair.map.load().unwrap();
        let keys = map.kind().matrices(map.rows(), map.columns());
        for ((key, shape), matrix) in keys.into_iter().zip(map.matrices()) {
            let values = matrix.to_dense().transpose().as_slice().to_vec();
            tensors.insert(tensor_name(index, key), (shape.to_vec(), values));
        }
        tensors.insert(bias_name(index), (vec![map.rows()], map.bias().to_vec()));
    }
    tensors
}

/// The problem in a safetensors file after a change of the tensors of [`sample`]; the hashes are those of the change.
fn with(change: impl FnOnce(&mut BTreeMap<String, (Vec<usize>, Vec<f32>)>)) -> Problem {
    let mut tensors = tensors_of(&pairs());
    change(&mut tensors);
    let saved = Saved::new();
    let order = ["weight", "left", "right", "bias"];
    for (index, pair) in pairs().iter().enumerate() {
        let map = pair.map.load().unwrap();
        let values = order.iter().filter_map(|key| tensors.get(&tensor_name(index, key)));
        let bytes: Vec<u8> = values
            .flat_map(|(_, values)| values.iter().flat_map(|value| value.to_le_bytes()))
            .collect();
        let (old, new) = (pair_map::sha256_of(&map, FloatDtype::F32), digest::sha256(&bytes));
        saved.replace(&old, &new);
    }
    let tensors = tensors
        .iter()
        .map(|(name, (shape, values))| (name.clone(), TensorToWrite::f32(shape.clone(), values)));
    saved.forge(&tensors::encode(tensors).unwrap());
    saved.tensor_problem()
}

#[test]
fn round_trip() {
    let saved = Saved::new();
    let file = saved.verified().unwrap();
    assert_eq!(file.header(), &map_header());
    assert_same(file.pairs(), &pairs());
    let (text, weights) = (saved.text(), fs::read(saved.weights()).unwrap());
    file.save(&saved.path).unwrap();
    assert_eq!((saved.text(), fs::read(saved.weights()).unwrap()), (text, weights));
    assert_same(saved.verified().unwrap().pairs(), file.pairs());
    // Without what may be absent, and with what may be there if sizes agree.
    let mut header = map_header();
    header.positions = None;
    header.source.hidden_size = 2;
    header.source_numerics.quantization = None;
    header.provenance.seed = None;
    let mut pair = pair(&[14], 11);
    edit(&mut pair, |map| map.weight = DMatrix::from_row_slice(2, 2, &[0.0; 4]));
    pair.fit.r2_identity_baseline = Some(-1e30);
    pair.fit.r2_identity_baseline_median = Some(1.0);
    pair.fit.r2_by_rank = vec![RankR2 { rank: 1, r2: -0.5 }, RankR2 { rank: 2, r2: 1.0 }];
    let file = MapFile::new(header.clone(), vec![pair]).unwrap();
    file.save(&saved.path).unwrap();
    assert_eq!(saved.verified().unwrap().header(), &header);
    assert_same(saved.load().unwrap().pairs(), file.pairs());
    for key in ["quantization", "seed", "positions"] {
        assert!(!saved.text().contains(key), "{key}");
    }
}

#[test]
fn the_text_is_as_documented() {
    let mut low_rank = low_rank_pair(&[9, 3], 2);
    low_rank.fit.r2_by_rank = vec![RankR2 { rank: 1, r2: 0.5 }, RankR2 { rank: 2, r2: 0.75 }];
    let saved = Saved::of(&MapFile::new(map_header(), vec![pair(&[14], 11), low_rank]).unwrap());
    let bytes = fs::read(saved.weights()).unwrap();
    let sha256 = digest::sha256(&bytes);
    // The data: 6 + 2 numbers of the first pair, 2 + 6 + 2 of the second.
    let (first, second) = bytes[bytes.len() - 4 * 18..].split_at(4 * 8);
    let fit = "[pair.fit]\nmethod = \"ridge\"\nlambda = 0.001\nrows = 180000\nvalidation_rows = 20000\n\
               test_rows = 21000\nr2 = 0.9125\nr2_median = 0.875\nr2_mean_baseline = -0.0002\n\
               r2_mean_baseline_median = -0.0001\ncosine = 0.96\n";
    let expected = format!(
        "format = \"steermap-map/2\"\n\n\
         [source]\nmodel = \"small\"\nfingerprint = \"{}\"\nhidden_size = 3\nnum_layers = 30\ndtype = \"f32\"\n\
         quantization = \"q4_1\"\n\n\
         [target]\nmodel = \"large\"\nfingerprint = \"{}\"\nhidden_size = 2\nnum_layers = 18\ndtype = \"f32\"\n\n\
         [[weights]]\nfile = \"happy-{}.safetensors\"\nsha256 = \"{sha256}\"\n\n\
         [[pair]]\nsource_layers = [14]\ntarget_layer = 11\nkind = \"affine\"\ndtype = \"f32\"\nweights = 0\n\
         sha256 = \"{}\"\nweight = \"pair.0.weight\"\nbias = \"pair.0.bias\"\n\n\
         {fit}source_mean_norms = [54.5]\ntarget_mean_norm = 310.25\n\n\
         [[pair]]\nsource_layers = [9, 3]\ntarget_layer = 2\nkind = \"low-rank\"\nrank = 1\ndtype = \"f32\"\n\
         weights = 0\nsha256 = \"{}\"\nleft = \"pair.1.left\"\nright = \"pair.1.right\"\nbias = \"pair.1.bias\"\n\n\
         {fit}source_mean_norms = [49.5, 43.5]\ntarget_mean_norm = 310.25\n\n\
         [[pair.fit.r2_by_rank]]\nrank = 1\nr2 = 0.5\n\n[[pair.fit.r2_by_rank]]\nrank = 2\nr2 = 0.75\n\n\
         [provenance]\ntool = \"mapper 0.1.0\"\ndate = \"2026-01-31\"\n\
         command = 'mapper vector --name \"happy\"'\nseed = 7\ncorpus = \"pairs\"\ncorpus_sha256 = \"{}\"\n\n\
         [positions]\ndocuments = 1200\npaired = 221000\nunmatched_source = 9000\nunmatched_target = 12000\n\
         special = 2400\nfirst = 4800\noutliers = 31\nrule = \"text ends at the same character\"\n",
        map_header().source.fingerprint,
        map_header().target.fingerprint,
        &sha256[..16],
        digest::sha256(first),
        digest::sha256(second),
        digest::sha256(b"corpus"),
    );
    assert_eq!(saved.text(), expected);
}

#[test]
fn weights_are_kept_row_by_row() {
    let weight = DMatrix::from_row_slice(2, 3, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let mut pair = pair(&[14], 11);
    edit(&mut pair, |map| map.weight = weight.clone());
    let saved = Saved::of(&MapFile::new(map_header(), vec![pair]).unwrap());
    let bytes = fs::read(saved.weights()).unwrap();
    let tensors = Tensors::parse(&bytes).unwrap();
    let names = ["pair.0.bias", "pair.0.weight"].map(str::to_owned);
    assert_eq!(tensors.check_names(&names.into()), Ok(()));
    let values = tensors.values("pair.0.weight", &[2, 3]).unwrap();
    assert_eq!(values, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let map = saved.load().unwrap().pairs()[0].map.load().unwrap();
    assert_eq!(map.matrices()[0].to_dense(), weight);
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
    fs::remove_file(&saved.path).unwrap();
    let error = saved.load().unwrap_err();
    assert!(
        matches!(&error, FileError::Missing { path, .. } if *path == saved.path),
        "{error}"
    );
}

#[test]
fn not_a_map_file() {
    let problem = after("steermap-map/2", "steermap-vector/1").to_string();
    assert_eq!(
        problem,
        "format: found \"steermap-vector/1\", expected \"steermap-map/2\": this is a vector file"
    );
    let problem = after("steermap-map/2", "steermap-map/3").to_string();
    assert!(
        problem.ends_with("written by a version of steermap that this one can't read"),
        "{problem}"
    );
    assert!(matches!(after("[target]", "[target"), Problem::Toml { .. }));
    assert!(matches!(after("target_layer = 2\n", ""), Problem::Toml { .. }));
    assert!(matches!(
        after("target_layer = 2\n", "target_layer = -1\n"),
        Problem::Toml { .. }
    ));
    assert!(matches!(after("outliers = 31", "outliers = -1"), Problem::Toml { .. }));
    assert!(matches!(after("outliers = 31\n", ""), Problem::Toml { .. }));
}

#[test]
fn an_unknown_kind_is_one_clear_error() {
    let pair = "target_layer = 2\nkind = ";
    // Keys of a later kind aren't what is wrong; nor is what they say.
    for other in [
        "\"sparse\"\nblocks = 16",
        "\"Affine\"\ndown = 'pair.1.down'",
        "\"Affine\"",
        "7",
    ] {
        let problem = after(&format!("{pair}\"affine\""), &format!("{pair}{other}"));
        let found = other.lines().next().unwrap();
        assert_eq!(
            problem.to_string(),
            format!(
                "pair.1.kind: found {found}, expected \"affine\" or \"low-rank\", the kinds that this version of \
                 steermap knows"
            )
        );
    }
    let problem = after(&format!("{pair}\"affine\"\n"), "target_layer = 2\n");
    assert!(problem.to_string().contains("missing field `kind`"), "{problem}");
    // Not even a list of tables: the whole reading says where.
    let saved = Saved::new();
    let text = saved.text();
    let (start, end) = (text.find("[[pair]]").unwrap(), text.find("[provenance]").unwrap());
    fs::write(
        &saved.path,
        format!("{}[pair]\nkind = 1\n{}", &text[..start], &text[end..]),
    )
    .unwrap();
    assert!(matches!(saved.toml_problem(), Problem::Toml { .. }));
}

#[test]
fn unknown_keys_everywhere() {
    for anchor in [
        "format = \"steermap-map/2\"",
        "model = \"small\"",
        "model = \"large\"",
        "[[weights]]",
        "target_layer = 2",
        "source_mean_norms = [55.5]",
        "seed = 7",
        "outliers = 31",
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
    assert!(matches!(saved.tensor_problem(), Problem::Sha256 { .. }));
    // The file's hash agrees, the pair's doesn't.
    let saved = Saved::new();
    saved.forge(&bytes);
    assert!(matches!(saved.tensor_problem(), Problem::PairSha256 { pair: 2, .. }));
    let saved = Saved::new();
    saved.forge(&bytes[..100]);
    assert!(matches!(saved.tensor_problem(), Problem::Safetensors { .. }));
}

#[test]
fn wrong_tensors() {
    let (weight, bias) = ("pair.1.weight".to_owned(), "pair.1.bias".to_owned());
    assert_eq!(
        with(|tensors| drop(tensors.remove(&bias))),
        Problem::MissingTensor { tensor: bias.clone() }
    );
    let extra = with(|tensors| drop(tensors.insert("pair.3.bias".into(), (vec![1], vec![0.0]))));
    assert_eq!(
        extra,
        Problem::ExtraTensor {
            tensor: "pair.3.bias".into()
        }
    );
    // Transposed.
    let shape = with(|tensors| tensors.get_mut(&weight).unwrap().0.reverse());
    assert_eq!(
        shape.to_string(),
        "tensor \"pair.1.weight\": found shape [6, 2], expected [2, 6]"
    );
    let shape = with(|tensors| drop(tensors.insert(bias.clone(), (vec![3], vec![0.0; 3]))));
    assert_eq!(
        shape.to_string(),
        "tensor \"pair.1.bias\": found shape [3], expected [2]"
    );
    let not_finite = with(|tensors| tensors.get_mut(&weight).unwrap().1[7] = f32::NEG_INFINITY);
    assert_eq!(
        not_finite,
        Problem::NotFinite {
            tensor: weight.clone(),
            index: 7,
            found: f64::NEG_INFINITY
        }
    );
    let not_finite = with(|tensors| tensors.get_mut(&bias).unwrap().1[1] = f32::NAN);
    assert!(
        matches!(not_finite, Problem::NotFinite { index: 1, .. }),
        "{not_finite}"
    );

    let saved = Saved::new();
    let bytes = fs::read(saved.weights()).unwrap();
    let at = bytes.windows(3).position(|window| window == b"F32").unwrap();
    saved.forge(&[&bytes[..at], b"I32", &bytes[at + 3..]].concat());
    assert!(matches!(saved.tensor_problem(), Problem::Dtype { found, .. } if found == "I32"));
}

#[test]
fn keys_of_another_kind() {
    let message = |old: &str, new: &str| after(old, new).to_string();
    // The first pair is affine, the last of low rank.
    let (first, last) = ("weight = \"pair.0.weight\"", "left = \"pair.2.left\"");
    for (old, new, expected) in [
        (
            first,
            "",
            "pair.0.weight: found nothing, expected a tensor's name, as kind is \"affine\"",
        ),
        (
            first,
            "weight = \"pair.0.weight\"\nleft = \"x\"",
            "pair.0.left: found \"x\", expected nothing, as kind is \"affine\"",
        ),
        (
            first,
            "weight = \"pair.0.weight\"\nrank = 3",
            "pair.0.rank: found 3, expected nothing, as kind is \"affine\"",
        ),
        (
            last,
            "",
            "pair.2.left: found nothing, expected a tensor's name, as kind is \"low-rank\"",
        ),
        (
            last,
            "left = \"pair.2.left\"\nweight = \"pair.2.weight\"",
            "pair.2.weight: found \"pair.2.weight\", expected nothing, as kind is \"low-rank\"",
        ),
        (
            "rank = 1\n",
            "",
            "pair.2.rank: found nothing, expected a whole number, as kind is \"low-rank\"",
        ),
        (
            "rank = 1\n",
            "rank = 0\n",
            "pair.2.rank: found 0, expected 1 to 2, the smaller side of the map's matrix",
        ),
        (
            "rank = 1\n",
            "rank = 3\n",
            "pair.2.rank: found 3, expected 1 to 2, the smaller side of the map's matrix",
        ),
    ] {
        assert_eq!(message(old, new), expected);
    }
    let saved = Saved::new();
    saved.replace("rank = 1\n", "rank = 2\n");
    assert_eq!(
        saved.tensor_problem().to_string(),
        "tensor \"pair.2.left\": found shape [2, 1], expected [2, 2]"
    );
    // The dtype and the file that a pair states.
    let saved = Saved::new();
    let text = saved.text();
    let spoilt = text.replacen("dtype = \"f32\"\nweights = 0", "dtype = \"bf16\"\nweights = 0", 1);
    fs::write(&saved.path, &spoilt).unwrap();
    assert_eq!(
        saved.tensor_problem().to_string(),
        "tensor \"pair.0.weight\": found dtype F32, expected BF16"
    );
    fs::write(&saved.path, spoilt.replace("bf16", "f64")).unwrap();
    let problem = saved.toml_problem();
    assert!(
        problem
            .to_string()
            .contains("unknown variant `f64`, expected one of `f32`, `bf16`, `f16`"),
        "{problem}"
    );
    fs::write(&saved.path, text.replacen("weights = 0", "weights = 1", 1)).unwrap();
    assert_eq!(
        saved.toml_problem().to_string(),
        "pair.0.weights: found 1, expected less than 1, the number of [[weights]] tables"
    );
    let start = text.find("[[weights]]").unwrap();
    let without = text[..start].to_owned() + &text[text.find("[[pair]]").unwrap()..];
    fs::write(&saved.path, without).unwrap();
    assert!(matches!(saved.toml_problem(), Problem::WeightsIndex { files: 0, .. }));
    fs::write(&saved.path, text.replacen("sha256 = \"", "sha256 = \"x", 2)).unwrap();
    assert!(saved.toml_problem().to_string().starts_with("pair.0.sha256: found \"x"));
}

#[test]
fn wrong_layers_and_names() {
    let message = |old: &str, new: &str| after(old, new).to_string();
    assert_eq!(
        message("source_layers = [14]", "source_layers = [30]"),
        "pair.0.source_layers: found 30, expected less than 30, the model's num_layers (layers count from 0)"
    );
    assert_eq!(
        message("target_layer = 2\n", "target_layer = 18\n"),
        "pair.1.target_layer: found 18, expected less than 18, the model's num_layers (layers count from 0)"
    );
    assert_eq!(
        message("source_layers = [9, 3]", "source_layers = [9, 9]"),
        "pair.1.source_layers: found 9 twice, expected every layer once"
    );
    assert_eq!(
        message("source_layers = [14]", "source_layers = []"),
        "pair.0.source_layers: found [], expected at least one layer"
    );
    assert_eq!(
        message("source_layers = [15]", "source_layers = [14]"),
        "pair: found 14->11 twice, expected every pair of source layers and target layer once"
    );
    assert_eq!(
        message("source_mean_norms = [55.5]", "source_mean_norms = [55.5, 1.0]"),
        "pair.2.fit.source_mean_norms: found 2 numbers, expected 1, one for each of source_layers"
    );
    for key in ["weight", "bias"] {
        let name = format!("\"pair.1.{key}\"");
        let problem = message(&name, &format!("\"pair.0.{key}\""));
        assert!(
            problem.starts_with(&format!("pair.1.{key}: found \"pair.0.{key}\", expected {name}")),
            "{problem}"
        );
    }
    let saved = Saved::new();
    let text = saved.text();
    let (start, end) = (text.find("[[pair]]").unwrap(), text.find("[provenance]").unwrap());
    fs::write(&saved.path, text[..start].to_owned() + &text[end..]).unwrap();
    assert_eq!(saved.toml_problem(), Problem::NoPairs);
}

#[test]
fn values_out_of_range() {
    type Spoil = fn(&mut MapHeader, &mut LayerPair);
    let huge = 1u64 << 63;
    let cases: Vec<(&str, String, Spoil)> = vec![
        ("source.model", "\"\"".into(), |header, _| header.source.model.clear()),
        ("source.fingerprint", "\"\"".into(), |header, _| {
            header.source.fingerprint.clear()
        }),
        ("source.hidden_size", "0".into(), |header, _| {
            header.source.hidden_size = 0
        }),
        ("source.dtype", "\"\"".into(), |header, _| {
            header.source_numerics.dtype.clear()
        }),
        ("target.model", "\"\"".into(), |header, _| header.target.model.clear()),
        ("target.num_layers", "0".into(), |header, _| {
            header.target.num_layers = 0
        }),
        ("target.quantization", "\" \"".into(), |header, _| {
            header.target_numerics.quantization = Some(" ".into())
        }),
        ("provenance.tool", "\"\"".into(), |header, _| {
            header.provenance.tool.clear()
        }),
        ("provenance.corpus_sha256", "\"ab\"".into(), |header, _| {
            header.provenance.corpus_sha256 = "ab".into()
        }),
        ("positions.rules.outliers", "-1".into(), |header, _| {
            header.positions.as_mut().unwrap().rules = Some(crate::map::PositionRules {
                window_bytes: Some(2048),
                skip_first: 1,
                outliers: Some(-1.0),
            })
        }),
        ("positions.rule", "\"\"".into(), |header, _| {
            header.positions.as_mut().unwrap().rule.clear()
        }),
        ("pair.0.fit.method", "\"\"".into(), |_, pair| pair.fit.method.clear()),
        ("pair.0.fit.lambda", "-1".into(), |_, pair| pair.fit.lambda = -1.0),
        ("pair.0.fit.lambda", "inf".into(), |_, pair| {
            pair.fit.lambda = f64::INFINITY
        }),
        ("pair.0.fit.lambda", "NaN".into(), |_, pair| pair.fit.lambda = f64::NAN),
        ("pair.0.fit.rows", "0".into(), |_, pair| pair.fit.rows = 0),
        ("pair.0.fit.test_rows", "0".into(), |_, pair| pair.fit.test_rows = 0),
        ("pair.0.fit.r2", "1.01".into(), |_, pair| pair.fit.r2 = 1.01),
        ("pair.0.fit.r2", "-inf".into(), |_, pair| {
            pair.fit.r2 = f64::NEG_INFINITY
        }),
        ("pair.0.fit.r2_median", "NaN".into(), |_, pair| {
            pair.fit.r2_median = f64::NAN
        }),
        ("pair.0.fit.r2_mean_baseline", "NaN".into(), |_, pair| {
            pair.fit.r2_mean_baseline = f64::NAN
        }),
        ("pair.0.fit.r2_mean_baseline_median", "inf".into(), |_, pair| {
            pair.fit.r2_mean_baseline_median = f64::INFINITY
        }),
        ("pair.0.fit.cosine", "1.01".into(), |_, pair| pair.fit.cosine = 1.01),
        ("pair.0.fit.cosine", "-1.01".into(), |_, pair| pair.fit.cosine = -1.01),
        ("pair.0.fit.cosine", "NaN".into(), |_, pair| pair.fit.cosine = f64::NAN),
        ("pair.0.fit.source_mean_norms", "-1".into(), |_, pair| {
            pair.fit.source_mean_norms = vec![-1.0]
        }),
        ("pair.0.fit.target_mean_norm", "NaN".into(), |_, pair| {
            pair.fit.target_mean_norm = f64::NAN
        }),
        ("pair.0.fit.r2_by_rank", "1.01".into(), |_, pair| {
            pair.fit.r2_by_rank = vec![RankR2 { rank: 1, r2: 1.01 }]
        }),
        ("pair.0.fit.r2_by_rank", "rank 0".into(), |_, pair| {
            pair.fit.r2_by_rank = vec![RankR2 { rank: 0, r2: 0.5 }]
        }),
        ("pair.0.fit.r2_by_rank", "rank 2".into(), |_, pair| {
            pair.fit.r2_by_rank = vec![RankR2 { rank: 2, r2: 0.5 }; 2]
        }),
        // Sizes differ.
        ("pair.0.fit.r2_identity_baseline", "0.5".into(), |_, pair| {
            pair.fit.r2_identity_baseline = Some(0.5)
        }),
        ("pair.0.fit.r2_identity_baseline", "0.5".into(), |_, pair| {
            pair.fit.r2_identity_baseline_median = Some(0.5)
        }),
    ];
    for (field, found, spoil) in cases {
        let (mut header, mut pair) = (map_header(), pair(&[3], 4));
        spoil(&mut header, &mut pair);
        let file = MapFile {
            header: header.clone(),
            pairs: vec![pair.clone()],
            files: Vec::new(),
        };
        let refused = |problem: &Problem| {
            let message = problem.to_string();
            assert!(
                message.starts_with(&format!("{field}: found {found}, expected ")),
                "{message}"
            );
        };
        refused(&MapFile::new(header, vec![pair]).unwrap_err());

        // Written by someone else: the check on reading must be there too.
        let saved = Saved::new();
        let sha256 = digest::sha256(b"");
        let weights: Weights = toml::from_str(&format!("file = \"x.safetensors\"\nsha256 = \"{sha256}\"")).unwrap();
        let listed = PairTable::new(&file.pairs[0], 0, 0, FloatDtype::F32, sha256);
        let table = MapTable::new(file.header.clone(), vec![weights], vec![listed]);
        fs::write(&saved.path, toml::to_string(&table).unwrap()).unwrap();
        refused(&saved.toml_problem());

        // And on writing.
        let before = saved.text();
        assert!(matches!(file.save(&saved.path), Err(FileError::Invalid { .. })));
        assert_eq!(saved.text(), before);
    }
    // What TOML can't hold, so that no one can have written it.
    let spoils: [Spoil; 5] = [
        |_, pair| pair.fit.rows = 1 << 63,
        |_, pair| pair.fit.r2_by_rank = vec![RankR2 { rank: 1 << 63, r2: 0.5 }],
        |_, pair| pair.fit.validation_rows = 1 << 63,
        |header, _| header.positions.as_mut().unwrap().outliers = 1 << 63,
        |header, _| header.provenance.seed = Some(1 << 63),
    ];
    for spoil in spoils {
        let (mut header, mut pair) = (map_header(), pair(&[3], 4));
        spoil(&mut header, &mut pair);
        let problem = MapFile::new(header, vec![pair]).unwrap_err().to_string();
        assert!(
            problem.contains(&format!("found {huge}, expected at most")),
            "{problem}"
        );
    }
}

#[test]
fn identity_baselines_need_one_layer_of_the_same_size() {
    let mut header = map_header();
    header.target.hidden_size = 3;
    let new = |source_layers: &[usize], all, median| {
        let mut pair = pair(source_layers, 4);
        pair.map = AffineMap {
            weight: DMatrix::zeros(3, 3 * source_layers.len()),
            bias: DVector::zeros(3),
        }
        .into();
        pair.fit.r2_identity_baseline = all;
        pair.fit.r2_identity_baseline_median = median;
        MapFile::new(header.clone(), vec![pair]).map_err(|problem| problem.to_string())
    };
    new(&[1], Some(0.5), Some(-3.0)).unwrap();
    new(&[1], None, None).unwrap();
    let problem = new(&[1, 2], Some(0.5), Some(-3.0)).unwrap_err();
    assert!(problem.ends_with("expected none, as sizes differ or there are several source layers"));
    for (all, median) in [(Some(0.5), None), (None, Some(0.5))] {
        let problem = new(&[1], all, median).unwrap_err();
        assert!(
            problem.starts_with("pair.0.fit.r2_identity_baseline: found one of two"),
            "{problem}"
        );
    }
    let problem = new(&[1], Some(2.0), Some(0.5)).unwrap_err();
    assert!(
        problem.starts_with("pair.0.fit.r2_identity_baseline: found 2,"),
        "{problem}"
    );
    let problem = new(&[1], Some(0.5), Some(f64::NAN)).unwrap_err();
    assert!(
        problem.starts_with("pair.0.fit.r2_identity_baseline_median: found NaN,"),
        "{problem}"
    );
}

/// Rounding may take an exact fit's numbers a little too far.
#[test]
fn rounding_is_forgiven() {
    let mut pair = pair(&[3], 4);
    (pair.fit.r2, pair.fit.cosine) = (1.0 + 1e-12, 1.0 + 1e-12);
    MapFile::new(map_header(), vec![pair]).unwrap();
}

#[test]
fn parts_that_do_not_fit() {
    let new = |pairs| MapFile::new(map_header(), pairs).unwrap_err();
    let spoilt = |spoil: fn(&mut LayerPair)| {
        let mut pair = pair(&[3], 4);
        spoil(&mut pair);
        new(vec![pair])
    };
    assert_eq!(new(vec![]), Problem::NoPairs);
    assert_eq!(
        new(vec![pair(&[3, 1], 4), pair(&[1, 3], 4), pair(&[3, 1], 4)]),
        Problem::DuplicatePair {
            layers: "3+1->4".into()
        }
    );
    assert_eq!(
        spoilt(|pair| pair.source_layers = vec![30]),
        Problem::PairLayerOutOfRange {
            field: "pair.0.source_layers".into(),
            layer: 30,
            num_layers: 30
        }
    );
    assert!(matches!(
        spoilt(|pair| pair.target_layer = 18),
        Problem::PairLayerOutOfRange { .. }
    ));
    assert!(matches!(
        spoilt(|pair| pair.source_layers = vec![]),
        Problem::Value { .. }
    ));
    assert!(matches!(
        spoilt(|pair| pair.fit.source_mean_norms.clear()),
        Problem::Count {
            found: 0,
            expected: 1,
            ..
        }
    ));
    // Transposed; of two layers where there is one; a bias of the source's size.
    assert_eq!(
        spoilt(|pair| edit(pair, |map| map.weight = map.weight.transpose())).to_string(),
        "tensor \"pair.0.weight\": found shape [3, 2], expected [2, 3]"
    );
    assert!(matches!(
        spoilt(|pair| edit(pair, |map| map.weight = DMatrix::zeros(2, 6))),
        Problem::Shape { .. }
    ));
    assert_eq!(
        spoilt(|pair| edit(pair, |map| map.bias = DVector::zeros(3))).to_string(),
        "tensor \"pair.0.bias\": found shape [3], expected [2]"
    );
    assert_eq!(
        spoilt(|pair| edit(pair, |map| map.weight[(1, 2)] = f32::INFINITY)),
        Problem::NotFinite {
            tensor: "pair.0.weight".into(),
            index: 5,
            found: f64::INFINITY
        }
    );
    assert!(matches!(
        spoilt(|pair| edit(pair, |map| map.bias[1] = f32::NAN)),
        Problem::NotFinite { index: 1, .. }
    ));
}

/// Loads and verifies without panicking.
fn load_calmly(saved: &Saved, round: usize) -> Option<MapFile> {
    let loaded = catch_unwind(AssertUnwindSafe(|| saved.verified()));
    let loaded = loaded.unwrap_or_else(|_| panic!("panicked in round {round}"));
    loaded.inspect_err(|error| assert!(!error.to_string().is_empty())).ok()
}

#[test]
fn spoilt_files_never_give_wrong_maps() {
    let saved = Saved::new();
    let good = sample();
    let (text, weights_path) = (fs::read(&saved.path).unwrap(), saved.weights());
    let tensors = fs::read(&weights_path).unwrap();
    let mut random = Random(0x5eed);
    let mut accepted = 0;
    for round in 0..1000 {
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
        // The text may say something else of them (their layers, say), but the maps are what they were.
        assert_eq!(spoilt_tensors, tensors, "round {round}");
        assert_eq!(file.header.source.hidden_size, 3, "round {round}");
        assert_eq!(file.pairs.len(), 3, "round {round}");
        for (pair, good) in file.pairs.iter().zip(&good.pairs) {
            assert_eq!(pair.map.load().unwrap(), good.map.load().unwrap(), "round {round}");
        }
        file.check().unwrap();
    }
    // Both ways out have been taken, or nothing was tested.
    assert!((25..750).contains(&accepted), "{accepted}");
}

/// The hashes agree, so it's the parser and the checks behind it that must hold.
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
        fs::write(original.weights(), &spoilt).unwrap();
        let mut forged = text.replace(&sha256, &digest::sha256(&spoilt));
        fs::write(&original.path, &forged).unwrap();
        // What the pairs' hashes would be, if the file can be read so far.
        while let Err(FileError::Invalid {
            problem: Problem::PairSha256 { found, expected, .. },
            ..
        }) = original.verified()
        {
            forged = forged.replace(&expected, &found);
            fs::write(&original.path, &forged).unwrap();
        }
        let Some(file) = load_calmly(&original, round) else {
            continue;
        };
        accepted += 1;
        assert_eq!(file.pairs.len(), 3);
        file.check().unwrap();
        for pair in &file.pairs {
            pair.map.load().unwrap().check_numbers(0, FloatDtype::F32).unwrap();
        }
    }
    assert!((20..750).contains(&accepted), "{accepted}");
}
