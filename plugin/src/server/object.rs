//! JSON objects whose values stay as they were written.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A JSON object as its members in order, each value byte for byte as it was written: numbers keep their digits, and
/// values that nobody reads cost one scan.
#[derive(Debug)]
pub(super) struct Object<'a>(Vec<(String, &'a str)>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, &'de RawValue>()? {
                    members.push((key, value.get()));
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

impl<'a> Object<'a> {
    /// Parses `json`; `None` if it is not an object, or malformed.
    pub(super) fn parse(json: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// The value of the first member called `key`, as written.
    pub(super) fn get(&self, key: &str) -> Option<&'a str> {
        self.0.iter().find_map(|(name, value)| (name == key).then_some(*value))
    }

    /// Removes all members called `key`, and returns their values in order.
    pub(super) fn take(&mut self, key: &str) -> Vec<&'a str> {
        let mut taken = Vec::new();
        self.0.retain(|(name, value)| {
            let other = name != key;
            if !other {
                taken.push(*value);
            }
            other
        });
        taken
    }

    /// The object as JSON, with the member `key` replaced, or added at the end if there is none.
    pub(super) fn with(&self, key: &str, value: &str) -> String {
        let kept = self
            .0
            .iter()
            .map(|(name, old)| (name.as_str(), if name == key { value } else { old }));
        let added = self.get(key).is_none().then_some((key, value));
        write(kept.chain(added))
    }

    /// The object as JSON.
    pub(super) fn to_json(&self) -> String {
        write(self.0.iter().map(|(name, value)| (name.as_str(), *value)))
    }
}

fn write<'a>(members: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut json = String::from("{");
    for (index, (name, value)) in members.enumerate() {
        if index > 0 {
            json.push(',');
        }
        json.push_str(&serde_json::Value::from(name).to_string());
        json.push(':');
        json.push_str(value);
    }
    json.push('}');
    json
}

/// Reads `json` as a `T`. `at` is the path of the whole value, for messages of the form `FIELD: found .., expected ..`.
///
/// # Errors
///
/// JSON that is malformed, or is not a `T`.
pub(super) fn read<T: DeserializeOwned>(json: &[u8], at: &str) -> Result<T, JsonError> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = match (at, error.path().to_string()) {
            // serde_path_to_error writes `?` for a place within JSON that ends too early.
            (at, path) if path == "." || path == "?" => at.to_string(),
            ("", path) => path,
            (at, path) => format!("{at}.{path}"),
        };
        JsonError::new(if path.is_empty() { "body" } else { &path }, error.inner())
    })?;
    deserializer
        .end()
        .map_err(|error| JsonError::new(if at.is_empty() { "body" } else { at }, &error))?;
    Ok(value)
}

/// Why JSON could not be read.
#[derive(Debug)]
pub(super) struct JsonError {
    /// The field, what was found and what was expected.
    pub(super) message: String,
    /// Whether the JSON itself is malformed.
    pub(super) malformed: bool,
}

impl JsonError {
    fn new(path: &str, error: &serde_json::Error) -> Self {
        let malformed = !error.is_data();
        let text = error.to_string();
        if text.starts_with("number out of range") {
            let message = format!("{path}: found a number out of range, expected a 64-bit number");
            return Self {
                message,
                malformed: false,
            };
        }
        if malformed {
            let message = format!("{path}: found malformed JSON ({text}), expected JSON");
            return Self { message, malformed };
        }
        // serde_json adds line and column; the path is more useful.
        let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
        Self {
            message: format!("{path}: {}", as_found_expected(text)),
            malformed,
        }
    }
}

/// Rewrites serde's messages in the form `found .., expected ..`.
fn as_found_expected(text: &str) -> String {
    for phrase in ["invalid type: ", "invalid value: ", "invalid length "] {
        if let Some(rest) = text.strip_prefix(phrase) {
            return format!("found {rest}");
        }
    }
    if let Some(rest) = text.strip_prefix("unknown field ") {
        return format!("found the unknown key {rest}");
    }
    if let Some(rest) = text.strip_prefix("unknown variant ") {
        return format!("found {rest}");
    }
    if let Some(field) = text.strip_prefix("missing field ") {
        return format!("found no key {field}, expected one");
    }
    if let Some(field) = text.strip_prefix("duplicate field ") {
        return format!("found the key {field} twice, expected it once");
    }
    text.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_as_written_and_in_order() {
        let json = r#"{ "b" : 1.10000000000000000001 , "a\"\u00e4" : [ 1, {"x":null} ], "c": "\u0041" }"#;
        let mut object = Object::parse(json.as_bytes()).unwrap();
        assert_eq!(
            object.to_json(),
            r#"{"b":1.10000000000000000001,"a\"ä":[ 1, {"x":null} ],"c":"\u0041"}"#
        );
        assert_eq!(object.get("c"), Some(r#""\u0041""#));
        assert_eq!(
            object.with("b", "2"),
            r#"{"b":2,"a\"ä":[ 1, {"x":null} ],"c":"\u0041"}"#
        );
        assert_eq!(object.take("b"), ["1.10000000000000000001"]);
        assert_eq!(
            object.with("d", "{}"),
            r#"{"a\"ä":[ 1, {"x":null} ],"c":"\u0041","d":{}}"#
        );
        assert!(object.take("b").is_empty());
        assert_eq!(Object::parse(b"{}").unwrap().with("d", "1"), r#"{"d":1}"#);
    }

    #[test]
    fn an_escaped_key_is_the_same_key_and_all_of_a_name_are_taken() {
        let mut object = Object::parse(br#"{"steer\u0069ng":1,"x":2,"steering":3}"#).unwrap();
        assert_eq!(object.take("steering"), ["1", "3"]);
        assert_eq!(object.to_json(), r#"{"x":2}"#);
    }

    #[test]
    fn anything_but_an_object_is_none() {
        let bad: [&[u8]; 8] = [
            b"",
            b"[1]",
            b"null",
            b"{",
            b"{\"a\":1}x",
            b"{\"a\":}",
            b"\"{}\"",
            b"{\"a\":\"\xff\"}",
        ];
        for json in bad {
            assert!(Object::parse(json).is_none(), "{}", String::from_utf8_lossy(json));
        }
    }

    #[test]
    fn errors_name_their_field() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(dead_code, reason = "only read")]
        struct Inner {
            scale: f64,
        }
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(dead_code, reason = "only read")]
        struct Outer {
            list: Vec<Inner>,
        }
        let message = |json: &str, at: &str| read::<Outer>(json.as_bytes(), at).unwrap_err().message;
        assert_eq!(
            message(r#"{"list":[{"scale":"4"}]}"#, "steering"),
            "steering.list[0].scale: found string \"4\", expected f64"
        );
        assert_eq!(
            message(r#"{"list":[{"scale":1,"x":2}]}"#, ""),
            "list[0].x: found the unknown key `x`, expected `scale`"
        );
        assert_eq!(
            message(r#"{"list":[{}]}"#, "s"),
            "s.list[0]: found no key `scale`, expected one"
        );
        assert_eq!(message(r#"{}"#, "s"), "s: found no key `list`, expected one");
        assert_eq!(
            message(r#"{"list":[],"list":[]}"#, "s"),
            "s: found the key `list` twice, expected it once"
        );
        assert_eq!(message("3", ""), "body: found integer `3`, expected struct Outer");
        assert_eq!(
            message(r#"{"list":[{"scale":1e999}]}"#, "s"),
            "s.list[0].scale: found a number out of range, expected a 64-bit number"
        );
        let cut = read::<Outer>(b"{\"list\":[", "").unwrap_err();
        assert!(cut.malformed && cut.message.contains("malformed"), "{}", cut.message);
        assert!(read::<Outer>(b"{\"list\":[]} x", "").unwrap_err().malformed);
    }
}
