//! Which part of the text a document belongs to.

use serde::{Deserialize, Serialize};

/// A part of the text. Maps are fitted on [`Train`](Self::Train), lambda is chosen on
/// [`Validation`](Self::Validation), every number that is reported comes from [`Test`](Self::Test).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// 80% of the documents.
    Train,
    /// 10% of the documents.
    Validation,
    /// 10% of the documents.
    Test,
}

impl Split {
    /// All parts, in the order that arrays indexed by [`index`](Self::index) have.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// The part of a document, from the SHA-256 of its content: any sharding and any order agree, and copies of a
    /// document never lie on both sides.
    pub fn of(document_sha256: &[u8; 32]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = *document_sha256;
        let hash = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        // The high half of the product is hash * 10 / 2^64: a tenth from 0 to 9 without a modulo's bias.
        match (u128::from(hash) * 10) >> 64 {
            0..=7 => Self::Train,
            8 => Self::Validation,
            _ => Self::Test,
        }
    }

    /// 0, 1 or 2.
    pub fn index(self) -> usize {
        self as usize
    }

    /// `train`, `validation` or `test`, as files and messages spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

impl std::fmt::Display for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn eight_one_one() {
        let mut counts = [0; 3];
        for document in 0..10_000u32 {
            let hash: [u8; 32] = Sha256::digest(document.to_le_bytes()).into();
            counts[Split::of(&hash).index()] += 1;
        }
        // Three standard deviations are 120 and 90 documents.
        assert!((7880..=8120).contains(&counts[0]), "{counts:?}");
        assert!((910..=1090).contains(&counts[1]), "{counts:?}");
        assert!((910..=1090).contains(&counts[2]), "{counts:?}");
    }

    #[test]
    fn the_ends_of_the_range() {
        assert_eq!(Split::of(&[0; 32]), Split::Train);
        assert_eq!(Split::of(&[0xff; 32]), Split::Test);
        // Fixed, since files made by different versions are merged.
        assert_eq!(Split::of(&Sha256::digest(b"steermap 11").into()).name(), "train");
        for split in Split::ALL {
            assert_eq!(Split::ALL[split.index()], split);
        }
    }
}
