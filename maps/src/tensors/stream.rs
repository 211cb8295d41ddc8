//! Writing a safetensors file tensor by tensor.

use std::io::{self, Seek, SeekFrom, Write};

use safetensors::tensor::{Dtype, TensorInfo};

use super::header::{HeaderEntries, MAX_HEADER_BYTES};
use super::layout::LENGTH_BYTES;

/// Most bytes that the header needs for a tensor of two dimensions at most and a name of 60 bytes at most: 131 for
/// punctuation, dtype and four numbers of 20 digits, and the name.
const ENTRY_BYTES: usize = 192;

/// The data begins at a multiple of this: a cache line, and so a multiple of every number's size.
const ALIGNMENT: usize = 64;

/// Writes a safetensors file tensor by tensor, so that no more than a piece of one is in memory.
///
/// The header stands at the start of the file and lists all tensors, so room is left for as many as are announced, and
/// what isn't needed of it is filled with spaces, as the format allows. The tensors keep the order in which they come,
/// so one of numbers wider than those before it may not be aligned, if those were an odd number of 16-bit ones.
#[derive(Debug)]
pub(crate) struct TensorWriter<W> {
    file: W,
    /// How many tensors the header has room for.
    capacity: usize,
    layout: Vec<(String, TensorInfo)>,
    /// Bytes of all tensors in `layout`.
    end: usize,
    /// Bytes written of them.
    written: usize,
}

impl<W: Write + Seek> TensorWriter<W> {
    /// Begins a file, with room for `tensors` tensors, or for as many as a header can list.
    pub(crate) fn new(mut file: W, tensors: usize) -> io::Result<Self> {
        let capacity = tensors.min((MAX_HEADER_BYTES - ALIGNMENT) / ENTRY_BYTES);
        file.seek(SeekFrom::Start(data_start(capacity) as u64))?;
        Ok(Self {
            file,
            capacity,
            layout: Vec::new(),
            end: 0,
            written: 0,
        })
    }

    /// Whether there is room for that many more tensors.
    pub(crate) fn has_room(&self, tensors: usize) -> bool {
        self.layout.len() + tensors <= self.capacity
    }

    /// Whether there is a tensor.
    pub(crate) fn is_empty(&self) -> bool {
        self.layout.is_empty()
    }

    /// Bytes of the file once it's finished.
    pub(crate) fn len(&self) -> u64 {
        (data_start(self.capacity) + self.end) as u64
    }

    /// Begins a tensor, whose bytes [`write`](Self::write) takes next. No tensor of that name may have come before.
    pub(crate) fn begin(&mut self, name: String, dtype: Dtype, shape: Vec<usize>) {
        let bytes = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        let data_offsets = (self.end, self.end + bytes);
        self.end += bytes;
        let info = TensorInfo {
            dtype,
            shape,
            data_offsets,
        };
        self.layout.push((name, info));
    }

    /// Writes some of the bytes of the tensor that was begun last.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len();
        self.file.write_all(bytes)
    }

    /// Writes the header. The file is whole then, though not synced.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        let (end, written) = (self.end, self.written);
        if written != end {
            return Err(io::Error::other(format!("{written} bytes of tensors, expected {end}")));
        }
        let layout = self.layout.iter().map(|(name, info)| (name.as_str(), info.clone()));
        let mut header = HeaderEntries(layout.collect()).to_json().map_err(io::Error::other)?;
        let room = data_start(self.capacity) - LENGTH_BYTES;
        if header.len() > room {
            let length = header.len();
            return Err(io::Error::other(format!(
                "a header of {length} bytes, expected at most {room}"
            )));
        }
        header.resize(room, b' ');
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&(room as u64).to_le_bytes())?;
        self.file.write_all(&header)?;
        self.file.flush()?;
        Ok(self.file)
    }
}

/// Where the data begins in a file with room for that many tensors.
fn data_start(capacity: usize) -> usize {
    let braces = 2;
    (LENGTH_BYTES + braces + capacity * ENTRY_BYTES).next_multiple_of(ALIGNMENT)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::super::Tensors;
    use super::*;

    fn writer(tensors: usize) -> TensorWriter<Cursor<Vec<u8>>> {
        TensorWriter::new(Cursor::new(Vec::new()), tensors).unwrap()
    }

    #[test]
    fn tensors_come_back_in_the_order_given() {
        let mut writer = writer(2);
        assert!(writer.is_empty() && writer.has_room(2) && !writer.has_room(3));
        writer.begin("z".into(), Dtype::F32, vec![2]);
        writer.write(&1f32.to_le_bytes()).unwrap();
        writer.write(&2f32.to_le_bytes()).unwrap();
        writer.begin("a".into(), Dtype::BF16, vec![1, 3]);
        writer.write(&[1, 2, 3, 4, 5, 6]).unwrap();
        assert!(!writer.is_empty() && !writer.has_room(1));
        let length = writer.len();
        let bytes = writer.finish().unwrap().into_inner();
        assert_eq!(bytes.len() as u64, length);
        assert_eq!((bytes.len() - 14) % ALIGNMENT, 0);
        let tensors = Tensors::parse(&bytes).unwrap();
        assert_eq!(tensors.values("z", &[2]).unwrap(), [1.0, 2.0]);
        let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let theirs = theirs.tensor("a").unwrap();
        assert_eq!((theirs.shape(), theirs.data()), (&[1, 3][..], &[1, 2, 3, 4, 5, 6][..]));
    }

    #[test]
    fn a_tensor_that_is_not_whole_is_an_error() {
        let mut writer = writer(1);
        writer.begin("a".into(), Dtype::F32, vec![2]);
        writer.write(&[0; 4]).unwrap();
        let error = writer.finish().unwrap_err().to_string();
        assert_eq!(error, "4 bytes of tensors, expected 8");
    }

    /// The longest entries that there can be fit the room left for them.
    #[test]
    fn the_longest_entries_fit() {
        let mut writer = writer(3);
        writer.end = usize::MAX / 2;
        writer.written = writer.end;
        for index in 0..3 {
            let name = format!("{index}{}", "x".repeat(59));
            writer.begin(name, Dtype::BF16, vec![0, usize::MAX]);
        }
        writer.finish().unwrap();
    }

    #[test]
    fn a_header_is_never_too_large() {
        let writer = writer(usize::MAX);
        assert!(data_start(writer.capacity) - LENGTH_BYTES <= MAX_HEADER_BYTES);
    }
}
