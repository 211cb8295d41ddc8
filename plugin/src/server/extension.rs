//! What is added to mistral.rs's answers about their steering.

use super::readout::ReadoutWriter;
use super::usage;

/// What is added to one answer.
#[derive(Default)]
pub(super) struct AnswerExtension {
    /// The JSON that is added to the usage block; `None` for nothing.
    pub(super) usage: Option<String>,
    /// The readouts that the request asked for.
    pub(super) readout: Option<ReadoutWriter>,
}

impl AnswerExtension {
    /// Whether these bytes may have to be extended. Most events have no usage block and need not be parsed.
    pub(super) fn may_extend(&self, event: &[u8]) -> bool {
        const USAGE_KEY: &[u8] = b"\"usage\":{";
        let has_usage = || event.windows(USAGE_KEY.len()).any(|window| window == USAGE_KEY);
        self.readout.is_some() || (self.usage.is_some() && has_usage())
    }

    /// `json` with what is added; `None` if nothing is. Everything else in it stays byte for byte.
    pub(super) fn extended(&mut self, json: &[u8]) -> Option<String> {
        let steering = self
            .usage
            .as_ref()
            .and_then(|steering| usage::with_steering(json, steering));
        let written = steering.as_ref().map_or(json, |json| json.as_bytes());
        let readout = self.readout.as_mut().and_then(|readout| readout.extended(written));
        readout.or(steering)
    }

    /// Whether there is nothing to add.
    pub(super) fn is_empty(&self) -> bool {
        self.usage.is_none() && self.readout.is_none()
    }
}
