//! JSON objects whose values stay as they were written.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
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
}
