//! The tables `[steering.sources]` and `[steering.live]`.
//!
//! ```toml
//! [steering.sources.small]           # a model in addition to the served ones; requests can't be sent to it
//! model = "models/small"             # a folder, or an id on the hub; gguf, tok_model_id, dtype, isq, device as in mapper's arguments
//!
//! [steering.live]                    # these are the defaults
//! requests = true                    # whether requests may contain pairs; absent: true if there is a source
//! request_bytes = 262144             # of the texts of one request's pairs; equal ones count once
//! request_tokens = 16384
//! queue_bytes = 1048576              # of the texts in the queue; 429 above it
//! cache_bytes = 67108864             # of vectors cached for requests with the same pairs
//! share = 0.3                        # of the time, while served models run
//! ```

use std::collections::BTreeMap;

use mistralrs_core::ModelDType;
use serde::Deserialize;
use steermap_extract::ModelSource;
use steermap_extract::device::DeviceChoice;

use crate::SteeringError;
use crate::name::check_name;

/// An entry of `[steering.sources]`: a model to find vectors on, in addition to the served models.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceTable {
    /// A folder, or an id on the model hub.
    model: String,
    /// GGUF files in it, separated by semicolons.
    gguf: Option<String>,
    /// For GGUF: the folder of the tokenizer, if it is not in the files.
    tok_model_id: Option<String>,
    #[serde(default)]
    dtype: ModelDType,
    /// In-situ quantisation, as mistral.rs spells it.
    isq: Option<String>,
    device: Option<String>,
}

/// `[steering.live]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LiveTable {
    requests: Option<bool>,
    request_bytes: Option<usize>,
    request_tokens: Option<usize>,
    queue_bytes: Option<usize>,
    cache_bytes: Option<u64>,
    share: Option<f64>,
}

/// Least share of time. With less, clients would time out before their vector is found.
const LEAST_SHARE: f64 = 0.01;

/// Limits for finding vectors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LiveLimits {
    /// Whether requests may contain pairs.
    pub requests: bool,
    /// Bytes of the texts of one vector's pairs.
    pub request_bytes: usize,
    /// Tokens of these texts, without repeats.
    pub request_tokens: usize,
    /// Bytes of the texts in the queue.
    pub queue_bytes: usize,
    /// Bytes of vectors that are cached for requests with the same pairs.
    pub cache_bytes: u64,
    /// The share of time that finding may use while served models run: 0.01 to 1.
    pub share: f64,
}

impl Default for LiveLimits {
    fn default() -> Self {
        Self {
            requests: false,
            request_bytes: 256 << 10,
            request_tokens: 16 << 10,
            queue_bytes: 1 << 20,
            cache_bytes: 64 << 20,
            share: 0.3,
        }
    }
}

impl SourceTable {
    fn resolve(self, at: &str) -> Result<ModelSource, SteeringError> {
        let device = match &self.device {
            None => DeviceChoice::Auto,
            Some(text) => text
                .parse()
                .map_err(|reason| SteeringError::find(format!("{at}.device"), reason))?,
        };
        if let (None, Some(name)) = (&self.gguf, &self.tok_model_id) {
            let found = format!("{name:?} without gguf");
            return Err(SteeringError::value(
                format!("{at}.tok_model_id"),
                found,
                "gguf beside it, or no such key",
            ));
        }
        let source = ModelSource {
            model: self.model,
            gguf: self.gguf,
            tok_model_id: self.tok_model_id,
            dtype: self.dtype,
            isq: self.isq,
            device,
            // One text per pass, so that a text's states don't depend on which others share its pass.
            batch: 1,
        };
        source
            .check()
            .map_err(|reason| SteeringError::find(at.to_string(), reason))?;
        Ok(source)
    }
}

/// The sources of the table, by name. `models` are the names of the served models.
///
/// # Errors
///
/// The name is invalid or that of a served model, or the model does not exist or can't run with these settings.
pub(crate) fn sources(
    tables: BTreeMap<String, SourceTable>,
    models: &[&str],
) -> Result<BTreeMap<String, ModelSource>, SteeringError> {
    let resolve = |(name, table): (String, SourceTable)| {
        let at = format!("steering.sources.{name}");
        check_name(&at, &name)?;
        if models.contains(&name.as_str()) {
            return Err(SteeringError::value(at, "the name of a served model", "another name"));
        }
        let source = table.resolve(&at)?;
        Ok((name, source))
    };
    tables.into_iter().map(resolve).collect()
}

impl LiveTable {
    /// The limits, with defaults for absent keys. `sources` says whether there is a source.
    ///
    /// # Errors
    ///
    /// A limit of 0, or a share outside 0.01 to 1.
    pub(crate) fn resolve(&self, sources: bool) -> Result<LiveLimits, SteeringError> {
        let defaults = LiveLimits::default();
        let limits = LiveLimits {
            requests: self.requests.unwrap_or(sources),
            request_bytes: self.request_bytes.unwrap_or(defaults.request_bytes),
            request_tokens: self.request_tokens.unwrap_or(defaults.request_tokens),
            queue_bytes: self.queue_bytes.unwrap_or(defaults.queue_bytes),
            cache_bytes: self.cache_bytes.unwrap_or(defaults.cache_bytes),
            share: self.share.unwrap_or(defaults.share),
        };
        for (key, value) in [
            ("request_bytes", limits.request_bytes),
            ("request_tokens", limits.request_tokens),
            ("queue_bytes", limits.queue_bytes),
        ] {
            if value == 0 {
                return Err(SteeringError::value(format!("steering.live.{key}"), "0", "at least 1"));
            }
        }
        if !(LEAST_SHARE..=1.0).contains(&limits.share) {
            let found = limits.share.to_string();
            return Err(SteeringError::value(
                "steering.live.share",
                found,
                format!("{LEAST_SHARE} to 1"),
            ));
        }
        Ok(limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(text: &str) -> Result<LiveLimits, String> {
        let table: LiveTable = toml::from_str(text).map_err(|error| error.to_string())?;
        table.resolve(true).map_err(|error| error.to_string())
    }

    #[test]
    fn limits_are_read_and_checked() {
        let defaults = LiveLimits {
            requests: true,
            ..LiveLimits::default()
        };
        assert_eq!(limits(""), Ok(defaults));
        let some = limits("requests = false\nrequest_bytes = 10\nshare = 1").unwrap();
        assert_eq!((some.requests, some.request_bytes, some.share), (false, 10, 1.0));
        for (text, message) in [
            (
                "request_tokens = 0",
                "steering.live.request_tokens: found 0, expected at least 1",
            ),
            ("share = 0", "steering.live.share: found 0, expected 0.01 to 1"),
            ("share = nan", "steering.live.share: found NaN, expected 0.01 to 1"),
        ] {
            assert_eq!(limits(text), Err(message.to_string()));
        }
        assert!(limits("shares = 1").unwrap_err().contains("shares"));
    }

    #[test]
    fn sources_are_checked_before_anything_is_loaded() {
        let read = |text: &str| {
            let tables: BTreeMap<String, SourceTable> = toml::from_str(text).unwrap();
            sources(tables, &["a/one", "taken"]).map_err(|error| error.to_string())
        };
        for (text, expected) in [
            (
                "[small]\nmodel = \"/no/such\"",
                "steering.sources.small: model: found \"/no/such\"",
            ),
            (
                "[small]\nmodel = \"a/b\"\ndevice = \"gpu\"",
                "steering.sources.small.device: found \"gpu\"",
            ),
            (
                "[small]\nmodel = \"a/b\"\ntok_model_id = \"c/d\"",
                "steering.sources.small.tok_model_id: found \"c/d\" without gguf",
            ),
            (
                "[taken]\nmodel = \"a/b\"",
                "steering.sources.taken: found the name of a served model",
            ),
            (
                "[\"a b\"]\nmodel = \"a/b\"",
                "steering.sources.a b: found the name \"a b\"",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        let source = &read("[small]\nmodel = \"no-such-owner/m\"\ndtype = \"f16\"\ndevice = \"cpu\"").unwrap()["small"];
        assert_eq!((source.dtype, source.batch), (ModelDType::F16, 1));
    }
}
