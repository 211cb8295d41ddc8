//! Requests that try to harm the server or other requests. They share prompts with ordinary requests, so that ordinary
//! requests would meet anything that they leave behind.
//!
//! | module | role |
//! | --- | --- |
//! | `sampling` | numbers that make logits infinite, or leave nothing to sample from |
//! | `size` | more answers, tokens and text than fit |
//! | `structure` | grammars, schemas and tools, valid and broken |
//! | `chat` | messages, images, and routes for other models |
//! | `malformed` | bodies that are not JSON, values of other types, odd characters |
//! | `steering` | specs that overflow, and specs that never repeat |
//! | `draw` | the parts of requests |
//! | [`send`] | sending a request, and hanging up |

mod chat;
mod draw;
mod kind;
mod malformed;
mod sampling;
pub mod send;
mod size;
mod steering;
mod structure;

pub use draw::ClientConduct;
pub use kind::AllowedReply;

use anyhow::Result;
use rand::seq::SliceRandom;

use super::served::{Served, ServedDtype};
use draw::HostileDraw;
use kind::HostileKind;

/// A request to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct HostileRequest {
    /// What is hostile about it, as its kind's name.
    pub name: &'static str,
    /// Its route.
    pub route: &'static str,
    /// Its body, not always JSON.
    pub body: Vec<u8>,
    /// The allowed replies.
    pub allowed: AllowedReply,
    /// How its client behaves.
    pub conduct: ClientConduct,
}

/// All kinds of hostile requests.
const KINDS: [&[HostileKind]; 6] = [
    sampling::KINDS,
    size::KINDS,
    structure::KINDS,
    chat::KINDS,
    malformed::KINDS,
    steering::KINDS,
];

/// Makes hostile requests, determined by the seed and the prompts: every kind once, in random order, before any is
/// repeated.
pub struct Hostile {
    draw: HostileDraw,
    dtype: ServedDtype,
    left: Vec<&'static HostileKind>,
}

impl Hostile {
    /// A series for a served model that runs in `dtype`; `prompts` are those of ordinary requests.
    ///
    /// # Errors
    ///
    /// If there are no prompts.
    pub fn new(served: &Served, dtype: ServedDtype, prompts: Vec<String>, seed: u64) -> Result<Self> {
        Ok(Self {
            draw: HostileDraw::new(served, prompts, seed)?,
            dtype,
            left: Vec::new(),
        })
    }

    /// The next request.
    pub fn request(&mut self) -> HostileRequest {
        if self.left.is_empty() {
            self.left = KINDS.iter().copied().flatten().collect();
            self.left.shuffle(self.draw.rng());
        }
        let kind = self.left.pop().expect("there are kinds");
        let content = (kind.content)(&mut self.draw);
        let (route, body) = self.draw.put_together(content);
        HostileRequest {
            name: kind.name,
            route,
            body,
            allowed: match (kind.allowed, self.dtype) {
                (AllowedReply::RefusalInF16, ServedDtype::F16) => AllowedReply::Refusal,
                (AllowedReply::RefusalInF16, ServedDtype::F32) => AllowedReply::Answer,
                (allowed, _) => allowed,
            },
            conduct: self.draw.conduct(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    use serde_json::Value;

    use super::*;
    use crate::traffic::models::WINDOW;

    #[test]
    fn every_kind_is_repeated_with_all_variations() {
        let dir = tempfile::tempdir().unwrap();
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let served = Served::prepare_model(&WINDOW, &checkout, dir.path()).unwrap();
        let kinds: usize = KINDS.iter().map(|kinds| kinds.len()).sum();
        let series = |dtype, rounds: usize| -> Vec<_> {
            let prompts = vec!["One day".to_string(), "In the garden, Tom saw".to_string()];
            let mut hostile = Hostile::new(&served, dtype, prompts, 3).unwrap();
            (0..rounds * kinds).map(|_| hostile.request()).collect()
        };
        let made = series(ServedDtype::F32, 6);
        assert_eq!(series(ServedDtype::F32, 1), made[..kinds]);
        let mut counts: BTreeMap<_, usize> = BTreeMap::new();
        for request in &made {
            *counts.entry(request.name).or_default() += 1;
        }
        assert_eq!(counts.len(), kinds, "names are unique");
        assert!(counts.values().all(|count| *count == 6));
        for conduct in [
            ClientConduct::Waits,
            ClientConduct::HangsUp,
            ClientConduct::StopsHalfway,
        ] {
            assert!(made.iter().any(|request| request.conduct == conduct), "{conduct:?}");
        }
        let streamed = made.iter().filter(|request| {
            let body: Option<Value> = serde_json::from_slice(&request.body).ok();
            body.is_some_and(|body| body["stream"] == true && body["model"] == served.model)
        });
        assert!(streamed.count() > kinds);
        let refused = |made: &[HostileRequest]| -> BTreeSet<_> {
            let refused = made.iter().filter(|request| request.allowed == AllowedReply::Refusal);
            refused.map(|request| request.name).collect()
        };
        let in_f16 = refused(&series(ServedDtype::F16, 1));
        assert!(in_f16.len() > refused(&made).len());
        assert!(made.iter().all(|request| request.allowed != AllowedReply::RefusalInF16));
        assert!(Hostile::new(&served, ServedDtype::F32, Vec::new(), 1).is_err());
    }
}
