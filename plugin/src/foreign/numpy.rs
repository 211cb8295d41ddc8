//! NumPy's files: `.npy` has one array, `.npz` is a zip file of `.npy` files.
//!
//! Arrays of Python objects, such as a dictionary given to `numpy.save`, are pickles. They are refused.

use super::archive::Archive;
use super::error::{ForeignError, shown};
use super::tensors::{Contents, Dtype, View, column_strides};

/// The first bytes of every `.npy` file.
const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// The longest header; NumPy itself accepts 10,000 bytes.
const MAX_HEADER: usize = 1 << 16;

/// More bytes than the longest header and its prefix.
pub(crate) const MAX_PREFIX: usize = MAX_HEADER + 16;

/// The array of a `.npy` file, under the name "".
///
/// # Errors
///
/// The bytes are not a `.npy` file, or it has objects.
pub(crate) fn read_npy(bytes: &[u8]) -> Result<Contents, ForeignError> {
    let mut contents = Contents::default();
    push(&mut contents, "", bytes)?;
    Ok(contents)
}

/// The arrays of a `.npz` file.
///
/// # Errors
///
/// The bytes are not a zip file of `.npy` files, or have arrays of objects.
pub(crate) fn read_npz(bytes: &[u8]) -> Result<Contents, ForeignError> {
    let mut archive = Archive::open(bytes)?;
    let mut contents = Contents::default();
    for entry in archive.names() {
        let Some(name) = entry.strip_suffix(".npy") else {
            return Err(ForeignError::value(
                "entries",
                shown(&entry),
                "names that end in .npy, as numpy.savez writes them",
            ));
        };
        let array = archive.read(&entry)?;
        push(&mut contents, name, &array)?;
    }
    Ok(contents)
}

/// Adds the array of a `.npy` file.
fn push(contents: &mut Contents, name: &str, bytes: &[u8]) -> Result<(), ForeignError> {
    let (array, data) = Array::parse(name, bytes)?;
    match array.dtype {
        Descr::Float(dtype) => contents.push(name, &array.view(name, dtype)?, data),
        // A number, such as that of a layer.
        Descr::Integer(width) if array.shape.is_empty() && data.len() == width => {
            let mut number = [if data.last().is_some_and(|last| last & 0x80 != 0) {
                0xff
            } else {
                0
            }; 8];
            number[..width].copy_from_slice(data);
            contents
                .others
                .insert(name.to_string(), i64::from_le_bytes(number).to_string());
            Ok(())
        }
        _ => {
            contents
                .others
                .insert(name.to_string(), "an array of another type".to_string());
            Ok(())
        }
    }
}

/// The number format of an array, from `descr`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Descr {
    Float(Dtype),
    /// Signed, with this many bytes.
    Integer(usize),
    Other,
}

/// The header of a `.npy` file.
#[derive(Debug, PartialEq)]
pub(crate) struct Array {
    pub(crate) dtype: Descr,
    /// Whether the array is stored column by column.
    pub(crate) columns: bool,
    pub(crate) shape: Vec<usize>,
}

impl Array {
    /// The header, and the bytes after it.
    ///
    /// # Errors
    ///
    /// The bytes are not a `.npy` file, or the array has objects or big-endian byte order.
    pub(crate) fn parse<'a>(name: &str, bytes: &'a [u8]) -> Result<(Self, &'a [u8]), ForeignError> {
        let field = if name.is_empty() {
            "header".to_string()
        } else {
            format!("header of {}", shown(name))
        };
        let Some(rest) = bytes.strip_prefix(MAGIC) else {
            let found = String::from_utf8_lossy(bytes.get(..6).unwrap_or(bytes)).into_owned();
            return Err(ForeignError::Magic {
                found,
                expected: "\u{93}NUMPY",
            });
        };
        let short = |expected: usize, found: usize| ForeignError::Short {
            field: field.clone(),
            found: found as u64,
            expected: expected as u64,
        };
        let (length, rest) = match rest {
            [1, _, a, b, rest @ ..] => (usize::from(u16::from_le_bytes([*a, *b])), rest),
            [2 | 3, _, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
            [1..=3, ..] | [] => return Err(short(6, rest.len())),
            [version, ..] => return Err(ForeignError::value(field, format!("version {version}"), "1 to 3")),
        };
        if length > MAX_HEADER {
            return Err(ForeignError::value(
                field,
                format!("{length} bytes"),
                format!("at most {MAX_HEADER}"),
            ));
        }
        let (header, data) = rest.split_at_checked(length).ok_or_else(|| short(length, rest.len()))?;
        let text = String::from_utf8_lossy(header);
        let array = Parser { rest: text.trim() }.array().ok_or_else(|| {
            let expected = "a dictionary of descr, fortran_order and shape, and numbers that are no records";
            ForeignError::value(field.clone(), shown(text.trim()), expected)
        })?;
        let (descr, columns, shape) = array;
        let dtype = match &*descr {
            "<f2" => Descr::Float(Dtype::F16),
            "<f4" => Descr::Float(Dtype::F32),
            "<f8" => Descr::Float(Dtype::F64),
            "|i1" => Descr::Integer(1),
            "<i2" => Descr::Integer(2),
            "<i4" => Descr::Integer(4),
            "<i8" => Descr::Integer(8),
            objects if objects.contains('O') => {
                let expected = "numbers: objects are a pickle, which is a program and isn't run (save the arrays with \
                                numpy.savez, one by one)";
                return Err(ForeignError::value(field, "an array of Python objects", expected));
            }
            big if big.starts_with('>') => {
                let found = format!("the type {}", shown(big));
                return Err(ForeignError::value(field, found, "little-endian byte order"));
            }
            _ => Descr::Other,
        };
        Ok((Self { dtype, columns, shape }, data))
    }

    /// The positions of the numbers in the bytes after the header.
    pub(crate) fn view(&self, name: &str, dtype: Dtype) -> Result<View, ForeignError> {
        let overflow = || {
            let found = format!("shape {:?}", self.shape);
            ForeignError::value(shown(name), found, "one that fits the file")
        };
        let mut view = View::rows(dtype, self.shape.clone()).ok_or_else(overflow)?;
        if self.columns {
            view.strides = column_strides(&self.shape).ok_or_else(overflow)?;
        }
        Ok(view)
    }
}

/// Reads the Python dictionary of a header.
struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn array(mut self) -> Option<(String, bool, Vec<usize>)> {
        let (mut descr, mut columns, mut shape) = (None, None, None);
        self.eat("{")?;
        while self.eat("}").is_none() {
            let key = self.quoted()?;
            self.eat(":")?;
            let twice = match key {
                "descr" => descr.replace(self.quoted()?).is_some(),
                "fortran_order" => columns.replace(self.truth()?).is_some(),
                "shape" => shape.replace(self.shape()?).is_some(),
                _ => true,
            };
            if twice {
                return None;
            }
            if self.eat(",").is_none() && !self.rest.starts_with('}') {
                return None;
            }
        }
        if !self.rest.is_empty() {
            return None;
        }
        Some((descr?.to_string(), columns?, shape?))
    }

    /// Consumes `token` and the spaces around it.
    fn eat(&mut self, token: &str) -> Option<()> {
        self.rest = self.rest.trim_start().strip_prefix(token)?.trim_start();
        Some(())
    }

    fn quoted(&mut self) -> Option<&'a str> {
        let quote = self.rest.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let (text, rest) = self.rest[1..].split_once(quote)?;
        self.rest = rest.trim_start();
        Some(text)
    }

    fn truth(&mut self) -> Option<bool> {
        if self.eat("True").is_some() {
            return Some(true);
        }
        self.eat("False").map(|()| false)
    }

    fn shape(&mut self) -> Option<Vec<usize>> {
        self.eat("(")?;
        let mut shape = Vec::new();
        while self.eat(")").is_none() {
            let digits = self.rest.find(|c: char| !c.is_ascii_digit())?;
            shape.push(self.rest[..digits].parse().ok()?);
            self.rest = &self.rest[digits..];
            // Python 2 wrote long integers with an `L`.
            let _ = self.eat("L");
            if self.eat(",").is_none() && !self.rest.starts_with(')') {
                return None;
            }
        }
        Some(shape)
    }
}

#[cfg(test)]
mod tests {
    use zip::CompressionMethod;

    use super::super::archive::tests::zip;
    use super::*;

    /// A file with this header and these bytes after it.
    fn npy(header: &str, data: &[u8]) -> Vec<u8> {
        let length = (header.len() as u16).to_le_bytes();
        [&MAGIC[..], &[1, 0], &length, header.as_bytes(), data].concat()
    }

    fn header(descr: &str, shape: &str) -> String {
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}   \n")
    }

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn error(file: &[u8]) -> String {
        read_npy(file).unwrap_err().to_string()
    }

    #[test]
    fn arrays_are_read_in_either_order() {
        let data = bytes(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let rows = read_npy(&npy(&header("<f4", "(2, 3)"), &data)).unwrap();
        assert_eq!(rows.tensors[0].shape, [2, 3]);
        assert_eq!(rows.tensors[0].values, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let columns = "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3)}";
        let columns = read_npy(&npy(columns, &data)).unwrap();
        assert_eq!(columns.tensors[0].values, [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
        let scalar = read_npy(&npy(&header("<i8", "()"), &(-13i64).to_le_bytes())).unwrap();
        assert_eq!(scalar.others[""], "-13");
        let byte = read_npy(&npy(&header("|i1", "()"), &[0xff])).unwrap();
        assert_eq!(byte.others[""], "-1");
    }

    #[test]
    fn mistakes_are_refused() {
        assert!(error(b"PK\x03\x04").starts_with("magic: found"));
        assert!(error(b"\x93NUMPY").contains("0 bytes left"));
        assert!(error(b"\x93NUMPY\x09\x00aaaa").contains("version 9"));
        assert!(error(b"\x93NUMPY\x01\x00\xff\xff{").contains("header: found 1 bytes left, expected 65535"));
        assert!(error(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{").contains("4294967295 bytes, expected at most"));
        assert!(error(&npy(&header("|O", "(1,)"), b"\x80\x04.")).contains("an array of Python objects"));
        assert!(error(&npy(&header(">f4", "(1,)"), &[0; 4])).contains("little-endian"));
        for wrong in [
            "",
            "{",
            "{}",
            "{'descr': '<f4'}",
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'more': 1}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999999,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1",
            "{'descr': '<f4', 'fortran_order': 0, 'shape': (1,)}",
            "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} + 1",
        ] {
            assert!(error(&npy(wrong, &[0; 4])).starts_with("header: found"), "{wrong}");
        }
        // Lengths that candle's reader would reserve memory for.
        for shape in ["(2,)", "(1099511627776,)", "(9223372036854775807, 9223372036854775807)"] {
            assert!(
                error(&npy(&header("<f4", shape), &[0; 4])).starts_with("\"\": found shape"),
                "{shape}"
            );
        }
    }

    #[test]
    fn an_archive_of_arrays_is_read() {
        let array = |values: &[f32]| npy(&header("<f4", &format!("({},)", values.len())), &bytes(values));
        let entries = [
            ("13.npy", &array(&[1.0, 2.0])[..]),
            ("layer.npy", &npy(&header("<i4", "()"), &[7, 0, 0, 0])),
        ];
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let contents = read_npz(&zip(&entries, method)).unwrap();
            assert_eq!(contents.tensors[0].name, "13");
            assert_eq!(contents.tensors[0].values, [1.0, 2.0]);
            assert_eq!(contents.others["layer"], "7");
        }
        let other = read_npz(&zip(&[("a.txt", b"x")], CompressionMethod::Stored))
            .unwrap_err()
            .to_string();
        assert!(other.starts_with("entries: found \"a.txt\""), "{other}");
    }
}
