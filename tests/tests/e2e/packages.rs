//! What ships with the binaries: configurations that serve as they are, and manifests that Kubernetes takes.

use std::process::Command;

use steermap_examples::programs::binary;
use steermap_tests::project;

use super::clients::python;

/// Has the server look at a configuration, from the top of the checkout, as in an unpacked package.
fn check(config: &str) -> String {
    let output = Command::new(binary("mistralrs-steered").expect("run the tests with `cargo xtask test`"))
        .current_dir(project(""))
        .args(["check", "--config", config])
        .env("STEERING_TOKEN", "secret")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{config}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_configurations_of_a_package_are_as_they_should_be() {
    for name in ["mistralrs", "container"] {
        let said = check(&format!("examples/serving/{name}.toml"));
        assert!(
            said.contains("model examples/family/stories-3m: on this machine"),
            "{said}"
        );
        assert!(
            said.contains("map small-to-large: from stories-260k to stories-3m"),
            "{said}"
        );
    }
}

#[test]
fn the_configuration_in_the_manifest_steers() {
    let manifest = std::fs::read_to_string(project("examples/scale-out/serving.yaml")).unwrap();
    let (_, rest) = manifest.split_once("  mistralrs.toml: |\n").unwrap();
    let (block, _) = rest.split_once("---\n").unwrap();
    let config: String = block
        .lines()
        .map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line)))
        .collect();
    // Where the image has the package.
    let root = project("").canonicalize().unwrap();
    let config = config.replace("/opt/steermap/", &format!("{}/", root.display()));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mistralrs.toml");
    std::fs::write(&path, config).unwrap();
    let said = check(path.to_str().unwrap());
    assert!(
        said.contains("steered by default with mood through small-to-large (linear) at layers 4"),
        "{said}"
    );
}

#[test]
fn the_manifests_are_valid() {
    let output = Command::new(python())
        .args(["-m", "kubernetes_validate", "--strict"])
        .args(["serving.yaml", "kubernetes.yaml"].map(|name| project("examples/scale-out").join(name)))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("deployment/steermap") && text.contains("job/steermap-fit"),
        "{text}"
    );
}
