//! How many windows run together.

use steermap_fit::stats::Layout;

/// Bytes of captured states of one group of windows, as far as single windows allow; two groups are held at a time.
const GROUP_BYTES: usize = 1 << 30;
/// Maximum number of tokens of a group, even for narrow models: one group is summed while the next one runs.
pub const GROUP_TOKENS: usize = 1 << 12;

/// Tokens whose states in both models fit into [`GROUP_BYTES`].
pub(super) fn group_tokens(layout: &Layout) -> usize {
    let row = usize::try_from(layout.row_bytes()).unwrap_or(usize::MAX);
    (GROUP_BYTES / row.max(1)).clamp(1, GROUP_TOKENS)
}
