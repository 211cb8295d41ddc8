//! How large the parts of a spec may be.

/// Most vectors in one spec: more than any published method combines, few enough that a spec compiles quickly.
pub const MAX_VECTORS: usize = 32;

/// Most entries in one list of a selector. Every prompt is checked against each entry.
pub const MAX_ENTRIES: usize = 1024;

/// Most entries in a list of layers: several times the number of layers of the deepest models.
pub const MAX_LAYERS: usize = 4096;

/// Largest absolute value of a position or a window's bound: beyond any model's context.
pub const MAX_POSITION: i64 = i32::MAX as i64;

/// Longest text of a token, in bytes. The longest tokens of known tokenizers, runs of spaces, have a few hundred.
pub const MAX_TOKEN_TEXT: usize = 1024;
