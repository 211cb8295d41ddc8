//! Round trips, the safetensors crate's word against ours, and every way a file can be broken.

use super::header::MAX_HEADER_BYTES;
use super::*;

fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

const A: [f32; 2] = [1.0, -2.5];
const B: [f32; 2] = [0.0, 4.0];
const WIDE: [f32; 3] = [1e-30, -2.5, 1e30];

fn encode_all(tensors: &[(&str, TensorToWrite)]) -> Result<Vec<u8>, Problem> {
    let tensors = tensors
        .iter()
        .map(|(name, tensor)| ((*name).to_owned(), tensor.clone()));
    encode(tensors)
}

fn sample() -> Vec<u8> {
    encode_all(&[
        ("b", TensorToWrite::f32(vec![2], &B)),
        ("a", TensorToWrite::f32(vec![2], &A)),
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
fn nothing_at_all_is_a_file() {
    let bytes = encode_all(&[]).unwrap();
    assert!(Tensors::parse(&bytes).unwrap().check_names(&BTreeSet::new()).is_ok());
    let bytes = encode_all(&[("empty", TensorToWrite::f32(vec![0, 3], &[]))]).unwrap();
    assert!(
        Tensors::parse(&bytes)
            .unwrap()
            .values("empty", &[0, 3])
            .unwrap()
            .is_empty()
    );
}

/// Stands in for [`TensorToWrite`] in a call of the safetensors crate.
struct Raw(Dtype, Vec<usize>, Vec<u8>);

impl safetensors::View for Raw {
    fn dtype(&self) -> Dtype {
        self.0
    }
    fn shape(&self) -> &[usize] {
        &self.1
    }
    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        (&self.2).into()
    }
    fn data_len(&self) -> usize {
        self.2.len()
    }
}

#[test]
fn the_safetensors_crate_writes_the_same() {
    let ours = [
        ("w".to_owned(), TensorToWrite::f32(vec![1, 3], &WIDE)),
        ("a".to_owned(), TensorToWrite::f32(vec![2], &A)),
    ];
    let raw = [
        ("a", Raw(Dtype::F32, vec![2], A.map(f32::to_le_bytes).concat())),
        ("w", Raw(Dtype::F32, vec![1, 3], WIDE.map(f32::to_le_bytes).concat())),
    ];
    assert_eq!(encode(ours).unwrap(), safetensors::serialize(raw, None).unwrap());
}

#[test]
fn the_safetensors_crate_reads_what_is_written() {
    let bytes = sample();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.tensor("b").unwrap().data(), B.map(f32::to_le_bytes).concat());
}

#[test]
fn what_no_file_can_hold_is_not_written() {
    let problem = |tensors: &[(&str, TensorToWrite)]| encode_all(tensors).unwrap_err().to_string();
    let a = || TensorToWrite::f32(vec![2], &A);
    assert_eq!(
        problem(&[("a", a()), ("b", a()), ("a", a())]),
        "tensor \"a\": found twice, expected every name once"
    );
    assert_eq!(
        problem(&[("a", TensorToWrite::f32(vec![3], &A))]),
        "tensor \"a\": found shape [2], expected [3]"
    );
    assert!(problem(&[("a", TensorToWrite::f32(vec![usize::MAX, 2], &WIDE))]).contains("found shape [3]"));
    assert!(problem(&[("__metadata__", a())]).contains("expected another name"));
    assert_eq!(check_header(MAX_HEADER_BYTES), Ok(()));
    assert!(check_header(MAX_HEADER_BYTES + 1).is_err());
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
        "{\"__metadata__\":{\"a\":1}}".to_owned(),
        "{\"__metadata__\":\"a\"}".to_owned(),
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
