use super::*;

fn error(bytes: &[u8]) -> String {
    read(bytes).unwrap_err().to_string()
}

fn leaves(bytes: &[u8]) -> Vec<(String, String)> {
    let leaf = |item: PickleItem| match item.value {
        PickleValue::Leaf(Leaf::Other(text)) => (item.name, text),
        other => panic!("{other:?}"),
    };
    read(bytes).unwrap().into_iter().map(leaf).collect()
}

fn pair(name: &str, text: &str) -> (String, String) {
    (name.to_string(), text.to_string())
}

#[test]
fn plain_values_are_read() {
    // {"a": {1: -2, "b": 2**40}, "l": [None, (True, 1.5)]}
    let bytes =
        b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a}(K\x01J\xfe\xff\xff\xffX\x01\x00\x00\x00b\
        \x8a\x06\x00\x00\x00\x00\x00\x01u\x8c\x01l](N\x88G\x3f\xf8\x00\x00\x00\x00\x00\x00\x86eu.";
    let expected = [
        pair("a.1", "-2"),
        pair("a.b", "1099511627776"),
        pair("l[0]", "None"),
        pair("l[1][0]", "true"),
        pair("l[1][1]", "1.5"),
    ];
    assert_eq!(leaves(bytes), expected);
}

#[test]
fn what_would_run_is_refused_by_name() {
    assert!(
        error(b"\x80\x02cos\nsystem\n(X\x02\x00\x00\x00lstR.").starts_with("pickle: found \"os.system\", expected")
    );
    assert!(error(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.").starts_with("pickle: found \"builtins.eval\""));
    // A class that may be named is still not called with anything else than what is saved.
    assert!(error(b"\x80\x02ccollections\nOrderedDict\n]\x85R.").contains("a call of another form"));
    assert!(error(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.").contains("a call of another form"));
    assert!(error(b"\x80\x02ctorch._utils\n_rebuild_parameter\nNNN\x87R.").contains("a call of another form"));
    assert!(error(b"\x80\x02ctorch\nFloatStorage\n)R.").contains("a call of another form"));
    for (opcode, name) in [
        (b'i', "INST"),
        (b'o', "OBJ"),
        (0x92, "NEWOBJ_EX"),
        (0x82, "EXT1"),
        (b'I', "INT"),
        (b'P', "PERSID"),
    ] {
        let found = error(&[0x80, 2, opcode]);
        assert!(
            found.starts_with(&format!("pickle: found the opcode 0x{opcode:02x}, expected")),
            "{name}: {found}"
        );
    }
    assert!(error(b"\x80\x06.").contains("protocol 6"));
}

#[test]
fn malformed_pickles_are_refused() {
    for bytes in [
        &b""[..],
        b".",
        b"\x80",
        b"K",
        b"}s.",
        b"}NN",
        b"}(Nu.",
        b"}u.",
        b"e.",
        b"(e.",
        b"NNNa.",
        b"t.",
        b"h\x00.",
        b"q\x00.",
        b"(q\x00.",
        b"N(.",
        b"X\xff\xff\xff\xffabc.",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffabc.",
        b"\x8c\x02\xff\xfe.",
        b"\x8a\xff.",
        b"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01.",
        b"cos",
        b"cos\nsystem",
        b"NN\x93.",
        b"NQ.",
        b"NNNNN(tQ.",
        b"N}b.",
        b"}Nb.",
        b"}b.",
        b"}}Ns.",
    ] {
        assert!(read(bytes).is_err(), "{bytes:?}");
    }
}

/// Values that refer to themselves or to one another again and again are few in the file, and endless once followed.
#[test]
fn shared_values_end() {
    assert!(error(b"]q\x00h\x00a.").contains("too many nested values"));
    assert!(error(b"}q\x00K\x01h\x00s.").contains("too many nested values"));
    // A dictionary of 100 times the one before, 8 times over.
    let mut bytes = b"}q\x00".to_vec();
    for level in 1..=8u8 {
        bytes.extend([b'}', b'q', level, b'(']);
        (0..100u8).for_each(|key| bytes.extend([b'K', key, b'h', level - 1]));
        bytes.push(b'u');
    }
    bytes.push(b'.');
    assert!(error(&bytes).contains("too many nested values"));
    // Attributes that are taken again and again.
    let mut bytes = b"}q\x00(".to_vec();
    (0..=255u8).for_each(|key| bytes.extend([b'K', key, b'N']));
    bytes.push(b'u');
    (0..200_000).for_each(|_| bytes.extend(b"}h\x00b"));
    bytes.push(b'.');
    assert_eq!(leaves(&bytes), []);
    assert!(error(&vec![b'N'; MAX_BYTES]).contains("1048576 values"));
    assert!(error(&vec![b'('; MAX_BYTES + 1]).contains("bytes, expected at most"));
    let long = [&b"}X"[..], &1000u32.to_le_bytes(), &[b'k'; 1000], b"Ns."].concat();
    assert!(error(&long).contains("a key of another kind"));
}
