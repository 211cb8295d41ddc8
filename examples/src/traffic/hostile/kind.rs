//! Kinds of hostile requests, and the replies that they allow.

use super::draw::{HostileBody, HostileDraw};

/// The allowed replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowedReply {
    /// Any HTTP answer.
    Answer,
    /// A status from 400 to 499.
    Refusal,
    /// A status from 400 to 499 in float16, any HTTP answer in other dtypes.
    RefusalInF16,
}

/// One kind of hostile request.
pub struct HostileKind {
    /// Its name in reports.
    pub name: &'static str,
    /// The allowed replies.
    pub allowed: AllowedReply,
    /// Draws a request's body.
    pub content: fn(&mut HostileDraw) -> HostileBody,
}
