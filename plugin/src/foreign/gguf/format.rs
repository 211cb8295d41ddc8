//! The numbers and names of the format.

/// The first bytes of a GGUF file.
pub(super) const MAGIC: &[u8; 4] = b"GGUF";

/// The alignment of tensors, unless `general.alignment` states another.
pub(super) const DEFAULT_ALIGNMENT: u64 = 32;

/// The value of `general.architecture`.
pub(super) const ARCHITECTURE: &str = "controlvector";

/// GGML's number for F32.
pub(super) const F32: u32 = 0;

/// GGML's number for F16.
pub(super) const F16: u32 = 1;

/// GGML's number for BF16.
pub(super) const BF16: u32 = 30;

/// GGUF's numbers for the metadata types that are written.
pub(super) mod kind {
    pub const U32: u32 = 4;
    pub const TEXT: u32 = 8;
}
