//! Shared by the end-to-end tests: fixtures, references, recording hooks, runs of the binaries, and a reader of the documentation.

// The commands of the documentation are for a Unix shell.
#[cfg(unix)]
pub mod book;
pub mod cached;
pub mod eval;
pub mod hooks;
pub mod maps;
pub mod reference;
pub mod run;
pub mod vectors;

use std::path::{Path, PathBuf};

/// A file or folder of tests/fixtures.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// A file or folder of the checkout.
pub fn project(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// A copy of a model's folder, as `folder/copy`, for a test to change.
pub fn copy_of(model: &Path, folder: &Path) -> PathBuf {
    let copy = folder.join("copy");
    std::fs::create_dir(&copy).expect("the folder can be written");
    for entry in std::fs::read_dir(model).expect("the model is there") {
        let entry = entry.expect("the folder can be read");
        if entry.path().is_file() {
            std::fs::copy(entry.path(), copy.join(entry.file_name())).expect("the file can be copied");
        }
    }
    copy
}

/// A JSON object with the keys of another added.
pub fn with_keys(mut object: serde_json::Value, more: &serde_json::Value) -> serde_json::Value {
    let more = more.as_object().expect("it is an object").clone();
    object.as_object_mut().expect("it is an object").extend(more);
    object
}

/// Changes a JSON file.
pub fn change_json(path: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let text = std::fs::read_to_string(path).expect("the file is there");
    let mut value = serde_json::from_str(&text).expect("it is JSON");
    change(&mut value);
    std::fs::write(path, value.to_string()).expect("the file can be written");
}
