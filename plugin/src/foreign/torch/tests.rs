use zip::CompressionMethod;

use super::super::archive::tests::zip;
use super::*;

/// A file with a pickle of one tensor of F32 of storage 0, of which the numbers are given as the pickle has them.
fn file(length: u8, offset: u8, shape: &[u8], strides: &[u8], storage: &[u8]) -> Vec<u8> {
    let tuple = |numbers: &[u8]| {
        let items: Vec<u8> = numbers.iter().flat_map(|number| [b'K', *number]).collect();
        [b"(", &items[..], b"t"].concat()
    };
    let pickle = [
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000",
        &b"X\x03\x00\x00\x00cpuK"[..],
        &[length],
        b"tQK",
        &[offset],
        &tuple(shape),
        &tuple(strides),
        b"\x89ccollections\nOrderedDict\n)RtR.",
    ]
    .concat();
    zip(
        &[("x/data.pkl", &pickle), ("x/data/0", storage)],
        CompressionMethod::Stored,
    )
}

fn storage(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

#[test]
fn a_tensor_is_found_in_its_storage() {
    let four = storage(&[1.0, 2.0, 3.0, 4.0]);
    let contents = read(&file(4, 1, &[2], &[2], &four)).unwrap();
    assert_eq!(contents.tensors[0].values, [2.0, 4.0]);
    assert_eq!(contents.tensors[0].name, "");
}

#[test]
fn what_does_not_fit_is_refused() {
    let four = storage(&[1.0, 2.0, 3.0, 4.0]);
    let error = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
    assert!(error(&file(5, 0, &[2], &[1], &four)).contains("storage \"0\": found 16 bytes, expected 5 numbers of 4"));
    assert!(error(&file(4, 3, &[2], &[1], &four)).contains("numbers within the 4 that are stored"));
    assert!(error(&file(4, 0, &[200, 200], &[0, 0], &four)).contains("numbers within the 4"));
    assert!(error(&file(4, 0, &[2], &[1, 1], &four)).contains("1 dimensions with 2 strides"));
    assert!(error(&file(4, 0, &[1; 9], &[1; 9], &four)).contains("a call of another form"));
    assert!(error(b"\x80\x02.").contains("before version 1.6"));
    assert!(error(b"GGUF").contains("magic: found \"GGUF\""));
    let stored = |entries: &[(&str, &[u8])]| zip(entries, CompressionMethod::Stored);
    assert!(error(&stored(&[("a/x", b"")])).contains("no single data.pkl"));
    assert!(error(&stored(&[("a/data.pkl", b"N."), ("b/data.pkl", b"N.")])).contains("no single data.pkl"));
    assert!(error(&stored(&[("a/data.pkl", b"N."), ("a/byteorder", b"big")])).contains("byteorder: found another"));
    let missing = file(4, 0, &[4], &[1], &four);
    let at = missing.windows(8).position(|window| window == b"x/data/0").unwrap();
    let last = missing.windows(8).rposition(|window| window == b"x/data/0").unwrap();
    let mut renamed = missing;
    (renamed[at + 7], renamed[last + 7]) = (b'1', b'1');
    assert!(
        error(&renamed).starts_with("\"x/data/0\": found"),
        "{}",
        error(&renamed)
    );
}
