//! The floating-point types that weights and states are kept in.

use std::fmt;
use std::str::FromStr;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How floating-point numbers are kept in a file, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FloatDtype {
    /// 4 bytes, IEEE 754.
    #[default]
    F32,
    /// 2 bytes, the upper ones of an `f32`: its range, and two to three decimal digits.
    Bf16,
    /// 2 bytes, IEEE 754: 65,504 at most, three to four decimal digits.
    F16,
}

/// Numbers that are processed together: as `f32` they take 2 KiB, a small part of a first-level cache.
pub(crate) const PIECE: usize = 512;

impl FloatDtype {
    /// The name in files, command lines and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }

    /// The value that a file of this dtype holds for `value`: the nearest, of two equally near the even one. It's
    /// infinite where `value` is beyond the dtype's range.
    pub fn round(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::Bf16 => bf16::from_f32(value).to_f32(),
            Self::F16 => f16::from_f32(value).to_f32(),
        }
    }

    /// The name in safetensors.
    pub(crate) fn safetensors(self) -> safetensors::Dtype {
        match self {
            Self::F32 => safetensors::Dtype::F32,
            Self::Bf16 => safetensors::Dtype::BF16,
            Self::F16 => safetensors::Dtype::F16,
        }
    }

    /// Decodes as many numbers as there is room for, which must be as many as `bytes` has.
    pub(crate) fn decode(self, bytes: &[u8], numbers: &mut [f32]) {
        match self {
            Self::F32 => {
                for (number, bytes) in numbers.iter_mut().zip(bytes.as_chunks().0) {
                    *number = f32::from_le_bytes(*bytes);
                }
            }
            Self::Bf16 => {
                for (number, bytes) in numbers.iter_mut().zip(bytes.as_chunks().0) {
                    *number = bf16_from_le_bytes(*bytes);
                }
            }
            Self::F16 => {
                // Many at a time, as processors do it.
                let mut halves = [f16::ZERO; PIECE];
                for (numbers, bytes) in numbers.chunks_mut(PIECE).zip(bytes.as_chunks().0.chunks(PIECE)) {
                    let halves = &mut halves[..numbers.len()];
                    for (half, bytes) in halves.iter_mut().zip(bytes) {
                        *half = f16::from_le_bytes(*bytes);
                    }
                    halves.convert_to_f32_slice(numbers);
                }
            }
        }
    }

    /// Appends numbers to `bytes`.
    pub(crate) fn encode(self, numbers: &[f32], bytes: &mut Vec<u8>) {
        match self {
            Self::F32 => bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes())),
            Self::Bf16 => bytes.extend(numbers.iter().flat_map(|number| bf16::from_f32(*number).to_le_bytes())),
            Self::F16 => {
                let mut halves = [f16::ZERO; PIECE];
                for numbers in numbers.chunks(PIECE) {
                    let halves = &mut halves[..numbers.len()];
                    halves.convert_from_f32_slice(numbers);
                    bytes.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
                }
            }
        }
    }
}

/// A `bf16` is the upper half of an `f32`.
pub(crate) fn bf16_from_le_bytes(bytes: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)
}

impl fmt::Display for FloatDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text that names no [`FloatDtype`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("dtype: found {found:?}, expected \"f32\", \"bf16\" or \"f16\"")]
pub struct UnknownDtype {
    /// The text.
    pub found: String,
}

impl FromStr for FloatDtype {
    type Err = UnknownDtype;

    /// # Errors
    ///
    /// [`UnknownDtype`] for any other text than `f32`, `bf16` and `f16`.
    fn from_str(text: &str) -> Result<Self, UnknownDtype> {
        let dtypes = [Self::F32, Self::Bf16, Self::F16];
        let dtype = dtypes.into_iter().find(|dtype| dtype.name() == text);
        dtype.ok_or_else(|| UnknownDtype { found: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DTYPES: [FloatDtype; 3] = [FloatDtype::F32, FloatDtype::Bf16, FloatDtype::F16];

    #[test]
    fn one_spelling_everywhere() {
        for dtype in DTYPES {
            assert_eq!(dtype.to_string().parse(), Ok(dtype));
            assert_eq!(serde_json::to_string(&dtype).unwrap(), format!("\"{dtype}\""));
            assert_eq!(dtype.safetensors().to_string(), dtype.to_string().to_uppercase());
        }
        assert_eq!(
            "F32".parse::<FloatDtype>().unwrap_err().to_string(),
            "dtype: found \"F32\", expected \"f32\", \"bf16\" or \"f16\""
        );
    }

    /// Every number that 16 bits can say comes back from its bytes as it was, and all of them are read as `half` reads
    /// them one by one.
    #[test]
    fn all_numbers_of_16_bits_go_through() {
        let all: Vec<u16> = (0..=u16::MAX).collect();
        for (dtype, one) in [
            (
                FloatDtype::Bf16,
                (|bits| bf16::from_bits(bits).to_f32()) as fn(u16) -> f32,
            ),
            (FloatDtype::F16, |bits| f16::from_bits(bits).to_f32()),
        ] {
            for bits in all.chunks(PIECE + 5) {
                let bytes: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
                let mut numbers = vec![0.0; bits.len()];
                dtype.decode(&bytes, &mut numbers);
                for (bits, number) in bits.iter().zip(&numbers) {
                    let expected = one(*bits);
                    assert!(
                        *number == expected || (number.is_nan() && expected.is_nan()),
                        "{bits:x}"
                    );
                }
                if numbers.iter().all(|number| !number.is_nan()) {
                    let mut again = Vec::new();
                    dtype.encode(&numbers, &mut again);
                    assert_eq!(again, bytes);
                    assert!(numbers.iter().all(|number| dtype.round(*number) == *number));
                }
            }
        }
    }

    #[test]
    fn what_is_kept_is_the_nearest() {
        assert_eq!(FloatDtype::F32.round(0.1), 0.1);
        // 0.1 is 0x3DCCCCCD; halfway cases go to the even neighbour.
        assert_eq!(FloatDtype::Bf16.round(0.1).to_bits(), 0x3DCD_0000);
        assert_eq!(
            FloatDtype::Bf16.round(f32::from_bits(0x3F80_8000)).to_bits(),
            0x3F80_0000
        );
        assert_eq!(
            FloatDtype::Bf16.round(f32::from_bits(0x3F81_8000)).to_bits(),
            0x3F82_0000
        );
        assert_eq!(FloatDtype::F16.round(2049.0), 2048.0);
        assert_eq!(FloatDtype::F16.round(65519.0), 65504.0);
        assert_eq!(FloatDtype::F16.round(65520.0), f32::INFINITY);
        let numbers = [0.1, 2049.0, -65520.0];
        for dtype in DTYPES {
            let (mut bytes, mut back) = (Vec::new(), [0.0; 3]);
            dtype.encode(&numbers, &mut bytes);
            assert_eq!(bytes.len(), 3 * dtype.bytes());
            dtype.decode(&bytes, &mut back);
            assert_eq!(back, numbers.map(|number| dtype.round(number)));
        }
    }
}
