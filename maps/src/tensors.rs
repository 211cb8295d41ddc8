//! Safetensors bytes to checked `f32` values, and back.

use std::borrow::Cow;
use std::collections::BTreeSet;

use safetensors::tensor::{Dtype, Metadata, View, serialize};

use crate::error::Problem;

/// A safetensors file in memory whose layout has been checked: every tensor lies within the data.
#[derive(Debug)]
pub(crate) struct Tensors<'a> {
    metadata: Metadata,
    data: &'a [u8],
}

impl<'a> Tensors<'a> {
    /// Reads the layout.
    ///
    /// `SafeTensors::deserialize` isn't used, because in safetensors 0.7.0 it adds up the header's offsets unchecked:
    /// a crafted header makes it panic, or in a release build wrap round and panic later, when a tensor is looked up.
    /// `Metadata` checks all that the header says of itself (no gaps, no overlap, offsets that fit shape and dtype);
    /// left to check here is that it fits the bytes that are there.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Problem> {
        let broken = |message: String| Problem::Safetensors { message };
        let (length, rest) = bytes
            .split_first_chunk()
            .ok_or_else(|| broken(format!("{} bytes, expected 8 at least", bytes.len())))?;
        let length = u64::from_le_bytes(*length);
        let (header, data) = usize::try_from(length)
            .ok()
            .and_then(|length| rest.split_at_checked(length))
            .ok_or_else(|| {
                broken(format!(
                    "a header of {length} bytes, but only {} bytes follow",
                    rest.len()
                ))
            })?;
        let metadata: Metadata =
            serde_json::from_slice(header).map_err(|error| broken(format!("its header: {error}")))?;
        if metadata.data_len() != data.len() {
            return Err(broken(format!(
                "tensors of {} bytes, but {} bytes follow",
                metadata.data_len(),
                data.len()
            )));
        }
        Ok(Self { metadata, data })
    }

    /// Checks that the file has the listed tensors and no others.
    pub(crate) fn check_names(&self, listed: &BTreeSet<String>) -> Result<(), Problem> {
        let there: BTreeSet<String> = self.metadata.offset_keys().into_iter().collect();
        if let Some(tensor) = listed.difference(&there).next() {
            return Err(Problem::MissingTensor { tensor: tensor.clone() });
        }
        match there.difference(listed).next() {
            Some(tensor) => Err(Problem::ExtraTensor { tensor: tensor.clone() }),
            None => Ok(()),
        }
    }

    /// One tensor's values, row by row, if it is F32 and of the shape expected. The values themselves aren't checked.
    pub(crate) fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Problem> {
        let tensor = name.to_owned();
        let Some(info) = self.metadata.info(name) else {
            return Err(Problem::MissingTensor { tensor });
        };
        if info.dtype != Dtype::F32 {
            return Err(Problem::Dtype {
                tensor,
                found: info.dtype.to_string(),
            });
        }
        if info.shape != shape {
            return Err(Problem::Shape {
                tensor,
                found: info.shape.clone(),
                expected: shape.to_vec(),
            });
        }
        let (start, end) = info.data_offsets;
        let (numbers, _) = self.data[start..end].as_chunks();
        Ok(numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())
    }
}

/// Checks that all values are numbers.
pub(crate) fn check_finite(name: &str, values: &[f32]) -> Result<(), Problem> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(Problem::NotFinite {
            tensor: name.to_owned(),
            index,
            found: values[index],
        }),
        None => Ok(()),
    }
}

/// A tensor to write: its shape and its values, row by row.
pub(crate) struct Tensor<'a> {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: &'a [f32],
}

/// The bytes of a safetensors file. The same tensors always give the same bytes.
pub(crate) fn encode<'a>(tensors: impl IntoIterator<Item = (String, Tensor<'a>)>) -> Result<Vec<u8>, Problem> {
    serialize(tensors, None).map_err(|error| Problem::Safetensors {
        message: error.to_string(),
    })
}

impl View for Tensor<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn data_len(&self) -> usize {
        size_of_val(self.values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    fn sample() -> Vec<u8> {
        let tensor = |values| Tensor { shape: vec![2], values };
        encode([
            ("a".to_owned(), tensor(&[1.0, -2.5])),
            ("b".to_owned(), tensor(&[0.0, 4.0])),
        ])
        .unwrap()
    }

    #[test]
    fn round_trip() {
        let bytes = sample();
        let tensors = Tensors::parse(&bytes).unwrap();
        assert_eq!(tensors.values("a", &[2]).unwrap(), [1.0, -2.5]);
        assert_eq!(tensors.values("b", &[2]).unwrap(), [0.0, 4.0]);
        assert_eq!(bytes, sample());
    }

    #[test]
    fn the_safetensors_crate_reads_what_is_written() {
        let bytes = sample();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(
            tensors.tensor("b").unwrap().data(),
            [0.0f32, 4.0].map(f32::to_le_bytes).concat()
        );
    }

    #[test]
    fn every_truncation_and_extension_is_refused() {
        let bytes = sample();
        for length in 0..bytes.len() {
            assert!(
                matches!(Tensors::parse(&bytes[..length]), Err(Problem::Safetensors { .. })),
                "{length}"
            );
        }
        assert!(matches!(
            Tensors::parse(&[&bytes[..], &[0]].concat()),
            Err(Problem::Safetensors { .. })
        ));
    }

    #[test]
    fn header_length_can_not_overflow() {
        for length in [u64::MAX, u64::MAX - 7, i64::MAX as u64] {
            let bytes = [&length.to_le_bytes()[..], b"{}"].concat();
            assert!(matches!(Tensors::parse(&bytes), Err(Problem::Safetensors { .. })));
        }
    }

    /// Eight tensors whose sizes add up to just below 2^64: `SafeTensors::deserialize` of 0.7.0 overflows here.
    #[test]
    fn offsets_can_not_overflow() {
        let size = (u64::MAX / 8) as usize & !3;
        let mut header = String::from("{");
        for index in 0..8 {
            let (start, end) = (index * size, (index + 1) * size);
            header += &format!(
                "\"t{index}\":{{\"dtype\":\"F32\",\"shape\":[{}],\"data_offsets\":[{start},{end}]}},",
                size / 4
            );
        }
        let rest = usize::MAX - 8 * size;
        header += &format!(
            "\"t8\":{{\"dtype\":\"U8\",\"shape\":[{rest}],\"data_offsets\":[{},{}]}}}}",
            8 * size,
            usize::MAX
        );
        let error = Tensors::parse(&file(&header, &[])).unwrap_err();
        assert!(error.to_string().contains("18446744073709551615"), "{error}");
    }

    #[test]
    fn headers_that_are_no_layout_are_refused() {
        let entry = |dtype: &str, shape: &str, offsets: &str| {
            format!("{{\"a\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":{offsets}}}}}")
        };
        for header in [
            String::new(),
            "[]".to_owned(),
            "{\"a\":1}".to_owned(),
            entry("F32", "[2]", "[0,4]"),
            entry("F32", "[1]", "[4,0]"),
            entry("F32", "[1]", "[4,8]"),
            entry("F32", "[1]", "[-4,0]"),
            entry("Q99", "[1]", "[0,4]"),
            entry("F32", "[4294967296,4294967296]", "[0,0]"),
        ] {
            let error = Tensors::parse(&file(&header, &[0; 4])).unwrap_err();
            assert!(matches!(error, Problem::Safetensors { .. }), "{header}: {error}");
        }
        assert!(Tensors::parse(&file(&entry("F32", "[1]", "[0,4]"), &[0; 4])).is_ok());
    }

    #[test]
    fn names_dtypes_and_shapes_are_checked() {
        let bytes = sample();
        let tensors = Tensors::parse(&bytes).unwrap();
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(tensors.check_names(&names(&["a", "b"])), Ok(()));
        assert_eq!(
            tensors.check_names(&names(&["a"])),
            Err(Problem::ExtraTensor { tensor: "b".into() })
        );
        let more = tensors.check_names(&names(&["a", "b", "c"]));
        assert_eq!(more, Err(Problem::MissingTensor { tensor: "c".into() }));
        assert!(matches!(tensors.values("c", &[2]), Err(Problem::MissingTensor { .. })));
        assert!(matches!(tensors.values("a", &[1, 2]), Err(Problem::Shape { .. })));

        let bytes = file(
            "{\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]}}",
            &[0; 4],
        );
        let error = Tensors::parse(&bytes).unwrap().values("a", &[2]).unwrap_err();
        assert_eq!(error.to_string(), "tensor \"a\": found dtype BF16, expected F32");
    }

    #[test]
    fn what_is_not_finite_is_found() {
        assert_eq!(check_finite("a", &[0.0, -1.0, f32::MAX]), Ok(()));
        let error = check_finite("a", &[0.0, f32::NEG_INFINITY]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "tensor \"a\": found -inf at index 1, expected finite numbers"
        );
        assert!(check_finite("a", &[f32::NAN]).is_err());
    }
}
