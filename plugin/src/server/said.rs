//! What an answer says of its steering, beside what mistral.rs says.

use super::readout::ReadoutWriter;
use super::usage;

/// What mistral.rs's answer is extended with.
#[derive(Default)]
pub(super) struct Said {
    /// What the usage block gets, as JSON; `None` for nothing.
    pub(super) usage: Option<String>,
    /// What was asked to be seen.
    pub(super) readout: Option<ReadoutWriter>,
}

impl Said {
    /// Whether anything may be said in these bytes: most events have no usage, and then they needn't be parsed.
    pub(super) fn may_be_in(&self, event: &[u8]) -> bool {
        const WORD: &[u8] = b"\"usage\":{";
        let has_usage = || event.windows(WORD.len()).any(|window| window == WORD);
        self.readout.is_some() || (self.usage.is_some() && has_usage())
    }

    /// `json` with what is said; `None` if that is nothing. All else in it stays byte for byte.
    pub(super) fn extended(&mut self, json: &[u8]) -> Option<String> {
        let steering = self
            .usage
            .as_ref()
            .and_then(|steering| usage::with_steering(json, steering));
        let written = steering.as_ref().map_or(json, |json| json.as_bytes());
        let readout = self.readout.as_mut().and_then(|readout| readout.extended(written));
        readout.or(steering)
    }

    /// Whether there is nothing to say.
    pub(super) fn is_nothing(&self) -> bool {
        self.usage.is_none() && self.readout.is_none()
    }
}
