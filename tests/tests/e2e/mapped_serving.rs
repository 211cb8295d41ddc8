//! Serving with `map = ".."`: a vector of one model steers another.

use std::path::Path;

use steermap_examples::server::Server;
use steermap_mapper::device::DeviceChoice;
use steermap_mapper::pairs::Text;
use steermap_mapper::session::{ModelSource, Session};
use steermap_maps::{MapFile, OffsetRule};
use steermap_plugin::{Library, SteeringSpec, VectorUse, attach};
use steermap_tests::fixture;
use steermap_tests::maps::{mapper_pair, printed, write_corpus};
use steermap_tests::run::{error_of, run};
use steermap_tests::vectors::{reference_vector, save_reference_vector};

const PROMPT: &str = "Once upon a time";

/// A folder with `test.toml`, a vector of tiny-llama, and `map.toml`, from there to tiny-gemma2 (1 to 2 and 3 to 3).
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (corpus, map) = (write_corpus(dir.path(), 80), dir.path().join("map.toml"));
    printed(&mapper_pair(
        "fit",
        "tiny-llama",
        "tiny-gemma2",
        &corpus,
        &map,
        &["--pairs", "1:2,3:3"],
    ));
    save_reference_vector("tiny-llama", dir.path());
    dir
}

fn config(model: &str, used: &str) -> String {
    format!(
        "command = \"serve\"\n[[models]]\nkind = \"text\"\nmodel_id = \"{}\"\ndtype = \"f32\"\ndevice = {{ cpu = true }}\n\
         [steering.vectors]\ntest = \"test.toml\"\n[steering.maps]\nacross = \"map.toml\"\n\
         [[steering.defaults]]\n[[steering.defaults.vectors]]\nvector = \"test\"\nscale = 9.0\n{used}\n",
        fixture(model).display()
    )
}

fn check(folder: &Path, config: &str) -> std::process::Output {
    let path = folder.join("mistralrs.toml");
    std::fs::write(&path, config).unwrap();
    run("mistralrs-steered", &["check", "--config", path.to_str().unwrap()])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapped_vector_steers_as_its_offset_does() {
    let dir = folder();
    let map = MapFile::load(&dir.path().join("map.toml")).unwrap();
    let vector = reference_vector("tiny-llama");
    let source = ModelSource {
        dtype: mistralrs::ModelDType::F32,
        device: DeviceChoice::Cpu,
        ..ModelSource::new(fixture("tiny-gemma2").to_str().unwrap())
    };
    let session = Session::load(source).await.unwrap();
    let tokens = session.tokenize(&Text::Plain(PROMPT.into())).await.unwrap();
    let plain = session.generate(&tokens, 12).await.unwrap().0;
    for rule in [OffsetRule::Linear, OffsetRule::Affine] {
        let mut library = Library::default();
        library.insert("test", vector.clone()).unwrap();
        library.insert_map("across", map.clone()).unwrap();
        let used = VectorUse::new("test", 9.0).through("across").offset(rule);
        let program = attach(session.model().inner(), None, &SteeringSpec::from(used), &library).unwrap();
        // Computed by hand: the pair's product with the vector, scaled to length 9.
        assert_eq!(program.layers(), [2, 3]);
        for pair in map.pairs() {
            let v = nalgebra::DVector::from_column_slice(vector.direction(pair.source_layers[0]).unwrap());
            let fitted = pair.map.load().unwrap().to_affine();
            let mut expected = fitted.weight * v;
            if rule == OffsetRule::Affine {
                expected += fitted.bias;
            }
            expected *= 9.0 / expected.norm();
            let step = &program.steps[0].layers[&pair.target_layer];
            let offset: Vec<f32> = step.direction.values().iter().map(|x| x * step.scale).collect();
            steermap_tests::reference::assert_close(&offset, expected.as_slice(), "offset");
        }
        let steered = session.generate(&tokens, 12).await.unwrap().0;
        assert_ne!(steered, plain);

        let text = config("tiny-gemma2", &format!("map = \"across\"\noffset = \"{rule}\""));
        let server = Server::start(dir.path(), text.trim_start_matches("command = \"serve\"\n")).unwrap();
        let model = fixture("tiny-gemma2");
        assert_eq!(
            server.complete(model.to_str().unwrap(), PROMPT, 12).unwrap(),
            steered,
            "{rule}"
        );
    }
}

#[test]
fn check_reports_mapped_vectors() {
    let dir = folder();
    let text = printed(&check(dir.path(), &config("tiny-gemma2", "map = \"across\"")));
    assert!(
        text.contains("with test through across (linear) at layers 2-3"),
        "{text}"
    );
    assert!(
        text.contains("map across: from tiny-llama to tiny-gemma2, 2 layer pairs"),
        "{text}"
    );
    let one = printed(&check(
        dir.path(),
        &config("tiny-gemma2", "map = \"across\"\nlayers = [3]"),
    ));
    assert!(one.contains("at layers 3"), "{one}");
}

#[test]
fn errors_name_file_and_field() {
    let dir = folder();
    let error = |model: &str, used: &str| error_of(&check(dir.path(), &config(model, used)));
    let at = "mistralrs.toml: steering.defaults[0].vectors[0].";
    // The vector without its map, the map for another model, a layer that the map does not reach.
    let native = error("tiny-gemma2", "");
    assert!(native.contains(at) && native.contains("fingerprint"), "{native}");
    let other = error("tiny-gemma3", "map = \"across\"");
    assert!(
        other.contains("map \"across\": target.") && other.contains("tiny-gemma2"),
        "{other}"
    );
    let layer = error("tiny-gemma2", "map = \"across\"\nlayers = [1]");
    assert!(
        layer.contains("layers: found 1") && layer.contains("through \"across\": 2-3"),
        "{layer}"
    );
    let unknown = error("tiny-gemma2", "map = \"down\"");
    assert!(
        unknown.contains("map: found \"down\", expected a name of [steering.maps]: across"),
        "{unknown}"
    );
    let rule = error("tiny-gemma2", "map = \"across\"\noffset = \"sideways\"");
    assert!(rule.contains("sideways"), "{rule}");
    let alone = error("tiny-gemma2", "offset = \"affine\"");
    assert!(alone.contains("offset: found \"affine\" without a map"), "{alone}");

    // A vector whose layers the map does not cover: the error lists those that it covers.
    let map = MapFile::load(&dir.path().join("map.toml")).unwrap();
    let vector = reference_vector("tiny-llama");
    let only: Vec<_> = vector
        .layers()
        .iter()
        .filter(|layer| layer.layer == 2)
        .cloned()
        .collect();
    let vector = steermap_maps::VectorFile::new(vector.header().clone(), only).unwrap();
    vector.save(&dir.path().join("test.toml")).unwrap();
    let covered = error("tiny-gemma2", "map = \"across\"");
    assert!(covered.contains("1->2, 3->3") && covered.contains('2'), "{covered}");
    assert_eq!(map.pairs().len(), 2);

    // A truncated map, or one with another map's tensors.
    let path = dir.path().join("map.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &text[..text.len() / 2]).unwrap();
    let half = error("tiny-gemma2", "map = \"across\"");
    assert!(half.contains("maps.across") && half.contains("map.toml"), "{half}");
}
