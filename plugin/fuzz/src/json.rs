//! The target `spec_json`: bytes as the `steering` field of a request, or as a default that is set by a request.

use std::sync::LazyLock;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::object::Object;
use crate::spec::{MAX_VECTORS, Mode, json};
use crate::{RequestSteering, SteeringSpec, fixture, program};

/// Reads `bytes` as a [`RequestSteering`] and as a [`SteeringSpec`], and checks invariants of both.
///
/// # Panics
///
/// If an invariant is violated.
pub fn check(bytes: &[u8]) {
    object_keeps_its_values(bytes);
    if let Some(asked) = read_twice::<RequestSteering>(bytes) {
        request(&asked);
    }
    if let Some(spec) = read_twice::<SteeringSpec>(bytes)
        && spec.validate("spec.").is_ok()
    {
        assert_eq!(again(&spec), spec);
        program::check(&spec, Some(&again(&spec)));
    }
}

/// Reads as the server does. A value without repeated keys must be read as its bytes are.
fn read_twice<T: DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Option<T> {
    let plainly = |bytes: &[u8]| {
        let result = json::read::<T>(bytes, "steering");
        result.map_err(|error| assert!(error.message.starts_with("steering"), "{}", error.message))
    };
    let asked = plainly(bytes).ok();
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
        assert!(asked.is_none(), "read bytes that are not JSON");
        return None;
    };
    // A value has the last of repeated keys, so it may be readable although its bytes are not.
    let of_value = plainly(value.to_string().as_bytes()).ok();
    assert!(asked.is_none() || asked == of_value);
    asked
}

fn request(asked: &RequestSteering) {
    if let Err(error) = asked.validate("steering.") {
        assert!(error.to_string().starts_with("steering."), "{error}");
        return;
    }
    let written = again(asked);
    assert_eq!(written, *asked);
    program::check_reading(asked);
    static DEFAULT: LazyLock<SteeringSpec> = LazyLock::new(fixture::default_spec);
    for default in [None, Some(&*DEFAULT)] {
        if let Err(error) = asked.check_changes(default, "steering.") {
            assert!(error.to_string().starts_with("steering.change["), "{error}");
            continue;
        }
        let spec = asked.resolve(default);
        let own = asked.vectors.as_ref().map_or(0, Vec::len);
        let expected = match (asked.mode, default) {
            (Mode::Off, _) => 0,
            (Mode::Replace, _) | (Mode::Extend, None) => own,
            (Mode::Extend, Some(default)) => left_of(default, asked) + own,
        };
        assert_eq!(spec.vectors.len(), expected);
        // Two valid specs can only be invalid together by having too many vectors.
        assert_eq!(spec.validate("").is_ok(), spec.vectors.len() <= MAX_VECTORS);
        program::check(&spec, Some(&written.resolve(default)));
        if asked.mode != Mode::Extend {
            break;
        }
    }
}

/// The number of vectors of `default` that `asked` doesn't drop.
fn left_of(default: &SteeringSpec, asked: &RequestSteering) -> usize {
    let dropped = |name: &str| (asked.change.iter().flatten()).any(|change| change.drop && change.vector == name);
    let names = default.vectors.iter().filter_map(|used| used.vector.name());
    names.filter(|name| !dropped(name)).count()
}

/// Writes `value` as JSON and reads it again.
fn again<T: Serialize + DeserializeOwned>(value: &T) -> T {
    let json = serde_json::to_vec(value).expect("JSON of a valid spec");
    json::read(&json, "steering").expect("what was written")
}

/// Checks that an object is written with the members that it was read with.
fn object_keeps_its_values(bytes: &[u8]) {
    let Some(mut object) = Object::parse(bytes) else { return };
    let json = object.to_json();
    let value = |json: &str| serde_json::from_str::<Value>(json).ok();
    // A number out of range is kept as long as nobody reads it.
    if let Ok(before) = serde_json::from_slice::<Value>(bytes) {
        assert_eq!(value(&json), Some(before));
    }
    assert_eq!(
        Object::parse(json.as_bytes()).expect("what was written").to_json(),
        json
    );
    let taken = object.take("vectors");
    assert!(object.get("vectors").is_none());
    if let [vectors] = taken[..] {
        let back = object.with("vectors", vectors);
        assert_eq!(
            Object::parse(back.as_bytes()).expect("what was written").get("vectors"),
            Some(vectors)
        );
    }
}
