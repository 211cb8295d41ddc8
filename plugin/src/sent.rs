//! What was sent to the engine under a mark, by its id in the engine.

use std::collections::HashMap;
use std::sync::{Mutex, Weak};

use crate::lock::lock;

/// The requests that were sent and not yet forgotten. A sender that is gone leaves a dead reference until its request is
/// forgotten.
pub(crate) struct SentRequests<T>(Mutex<HashMap<usize, Weak<T>>>);

impl<T> SentRequests<T> {
    /// Remembers what was sent as request `id`.
    pub(crate) fn remember(&self, id: usize, sent: Weak<T>) {
        lock(&self.0).insert(id, sent);
    }

    /// Forgets sent requests.
    pub(crate) fn forget(&self, ids: &[usize]) {
        let mut sent = lock(&self.0);
        ids.iter().for_each(|id| {
            sent.remove(id);
        });
    }

    /// What was sent as request `id`.
    pub(crate) fn get(&self, id: usize) -> Option<Weak<T>> {
        lock(&self.0).get(&id).cloned()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        lock(&self.0).len()
    }
}

impl<T> Default for SentRequests<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}
