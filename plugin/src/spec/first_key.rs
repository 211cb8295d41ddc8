//! Reads a table that may have one of several forms, chosen by its first key.

use serde::de::{DeserializeSeed, IntoDeserializer, MapAccess};

/// A map whose first key, if any, has already been read.
pub(super) struct WithFirst<A> {
    first: Option<String>,
    rest: A,
}

impl<A> WithFirst<A> {
    pub(super) fn new(first: Option<String>, rest: A) -> Self {
        Self { first, rest }
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for WithFirst<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        match self.first.take() {
            Some(first) => seed.deserialize(first.into_deserializer()).map(Some),
            None => self.rest.next_key_seed(seed),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.rest.next_value_seed(seed)
    }
}
