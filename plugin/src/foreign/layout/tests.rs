use super::super::tests::model;
use super::*;

fn tensor(name: &str, shape: &[usize]) -> Tensor {
    Tensor {
        name: name.to_string(),
        shape: shape.to_vec(),
        values: (0..shape.iter().product::<usize>()).map(|value| value as f32).collect(),
    }
}

fn contents(tensors: &[(&str, &[usize])]) -> Contents {
    let mut contents = Contents::default();
    contents.tensors = tensors.iter().map(|(name, shape)| tensor(name, shape)).collect();
    contents
}

fn blocks(tensors: &[(&str, &[usize])], file: &str, options: &ReadOptions) -> Result<Vec<usize>, String> {
    let found = vectors(contents(tensors), file, &model(), options).map_err(|error| error.to_string())?;
    Ok(found.found.iter().map(|found| found.block).collect())
}

fn layer(layer: usize) -> ReadOptions {
    ReadOptions {
        layer: Some(layer),
        ..ReadOptions::default()
    }
}

fn key(key: &str, layer: Option<usize>) -> ReadOptions {
    ReadOptions {
        layer,
        key: Some(key.to_string()),
        shift: 0,
    }
}

#[test]
fn names_say_points() {
    for (name, point) in [
        ("13", Some(ModelPoint::After(13))),
        ("layer_activations.13", Some(ModelPoint::After(13))),
        ("layer.13", Some(ModelPoint::After(13))),
        ("layers.13", Some(ModelPoint::After(13))),
        ("layer_13", Some(ModelPoint::After(13))),
        ("direction.13", Some(ModelPoint::After(13))),
        ("directions.0", Some(ModelPoint::After(0))),
        ("model.layers.13", Some(ModelPoint::After(13))),
        ("model.layers.13.output", Some(ModelPoint::After(13))),
        ("model.layers.13.output.0", Some(ModelPoint::After(13))),
        ("transformer.h.13", Some(ModelPoint::After(13))),
        ("model.layers.13.input", Some(ModelPoint::After(12))),
        ("model.layers.0.input", Some(ModelPoint::Embeddings)),
        ("blocks.13.hook_resid_post", Some(ModelPoint::After(13))),
        ("blocks.13.hook_resid_pre", Some(ModelPoint::After(12))),
        ("blocks.0.hook_resid_pre", Some(ModelPoint::Embeddings)),
        ("hook_embed", Some(ModelPoint::Embeddings)),
        ("blocks.13.hook_resid_mid", Some(ModelPoint::Within)),
        ("blocks.13.hook_mlp_out", Some(ModelPoint::Within)),
        ("blocks.13.attn.hook_z", Some(ModelPoint::Within)),
        ("model.layers.13.mlp.down_proj", Some(ModelPoint::Within)),
        ("model.layers.13_mean", None),
        ("blocks.13", None),
        ("blocks.x.hook_resid_post", None),
        ("13.mean", None),
        ("013", None),
        ("+13", None),
        ("layer.-1", None),
        ("layer.", None),
        ("arr_0", None),
        ("", None),
        ("99999999999999999999999", None),
    ] {
        assert_eq!(ModelPoint::of(name), point, "{name}");
    }
}

#[test]
fn a_files_name_says_the_layer() {
    for (file, layer) in [
        ("vec_layer_13_Llama-2-7b-hf.pt", Some(13)),
        ("vec_layer_13.pt", Some(13)),
        ("Layer7.npy", Some(7)),
        ("layer-7.npy", Some(7)),
        ("layer=7.npy", Some(7)),
        ("layers_1_layer_2.pt", Some(2)),
        ("layer_1_layer_2.pt", None),
        ("happy.pt", None),
        ("multilayer.pt", None),
    ] {
        assert_eq!(layer_of_file(file), layer, "{file}");
    }
}

#[test]
fn one_vector_needs_its_layer() {
    let none = ReadOptions::default();
    for shape in [&[4][..], &[1, 4], &[1, 1, 4], &[4, 1]] {
        assert_eq!(blocks(&[("", shape)], "x.pt", &layer(2)), Ok(vec![2]));
        assert!(
            blocks(&[("", shape)], "x.pt", &none)
                .unwrap_err()
                .starts_with("layer: found nothing")
        );
        assert_eq!(blocks(&[("happy", shape)], "layer_1.pt", &none), Ok(vec![1]));
        // A name in the file says more than a name of the file, and is not overruled.
        assert_eq!(blocks(&[("layer.0", shape)], "layer_1.pt", &none), Ok(vec![0]));
        let error = blocks(&[("layer.0", shape)], "layer_1.pt", &layer(1)).unwrap_err();
        assert_eq!(error, "layer: found 1, expected one of the file's: [0]");
    }
    for shape in [
        &[][..],
        &[5],
        &[2, 2],
        &[4, 4, 1],
        &[2, 4],
        &[5, 4],
        &[0, 4],
        &[3, 2, 4],
    ] {
        let error = blocks(&[("", shape)], "x.pt", &layer(2)).unwrap_err();
        assert!(
            error.contains(&format!("shape {shape:?}, expected [4], [3, 4], or [4, 4]")),
            "{error}"
        );
    }
}

#[test]
fn rows_are_layers() {
    let none = ReadOptions::default();
    for shape in [&[3, 4][..], &[3, 1, 4]] {
        let found = vectors(contents(&[("", shape)]), "layer_1.pt", &model(), &none)
            .unwrap()
            .found;
        assert_eq!(found[0].values, [0.0, 1.0, 2.0, 3.0]);
        assert_eq!((found.len(), found[2].block), (3, 2));
        assert_eq!(blocks(&[("", shape)], "x", &layer(1)), Ok(vec![1]));
    }
    // The embeddings are first.
    let FileVectors { found, remarks } = vectors(contents(&[("", &[4, 1, 4])]), "x.pt", &model(), &none).unwrap();
    assert_eq!(found[0].values, [4.0, 5.0, 6.0, 7.0]);
    assert_eq!((found.len(), found[2].block, &*found[2].name), (3, 2, "row 3 of \"\""));
    assert!(
        remarks[0].starts_with("4 rows for 3 layers: the first is taken as the embeddings, and the last"),
        "{remarks:?}"
    );
    let FileVectors { remarks, .. } = vectors(contents(&[("", &[4, 4])]), "x.pt", &model(), &layer(0)).unwrap();
    assert_eq!(remarks, ["4 rows for 3 layers: the first is taken as the embeddings"]);
}

#[test]
fn keys_are_patterns() {
    let own: &[(&str, &[usize])] = &[
        ("a.1.x", &[4]),
        ("a.2.x", &[1, 4]),
        ("b.2.x", &[4]),
        ("rows", &[3, 4]),
        ("a.02.x", &[4]),
    ];
    assert_eq!(blocks(own, "", &key("a.{}.x", None)), Ok(vec![1, 2]));
    assert_eq!(blocks(own, "", &key("a.{}.x", Some(2))), Ok(vec![2]));
    assert_eq!(blocks(own, "", &key("b.2.x", Some(1))), Ok(vec![1]));
    assert_eq!(blocks(own, "", &key("rows", None)), Ok(vec![0, 1, 2]));
    // A pattern goes before the names that are known.
    assert_eq!(
        blocks(
            &[("blocks.1.hook_mlp_out", &[4])],
            "",
            &key("blocks.{}.hook_mlp_out", None)
        ),
        Ok(vec![1])
    );
    assert!(
        blocks(own, "", &key("b.2.x", None))
            .unwrap_err()
            .starts_with("layer: found nothing")
    );
    assert!(
        blocks(own, "", &key("c.{}", None))
            .unwrap_err()
            .starts_with("key: found \"c.{}\"")
    );
    assert!(
        blocks(own, "", &key("c", None))
            .unwrap_err()
            .starts_with("key: found \"c\"")
    );
    assert!(blocks(own, "", &key("{}{}", None)).unwrap_err().contains("{} once"));
    assert!(
        blocks(&[], "", &key("{}", None))
            .unwrap_err()
            .contains("the file has no tensor")
    );
}

#[test]
fn doubtful_files_are_refused() {
    let none = ReadOptions::default();
    let error = |tensors: &[(&str, &[usize])]| blocks(tensors, "x.pt", &none).unwrap_err();
    let twice = error(&[("blocks.1.hook_resid_pre", &[4]), ("blocks.0.hook_resid_post", &[4])]);
    assert!(twice.contains("both of block 0, expected one of each"), "{twice}");
    assert!(
        error(&[("1", &[4]), ("mean", &[4])]).starts_with("tensors: found \"mean\", expected names that state a layer")
    );
    assert!(error(&[("1", &[5])]).starts_with("\"1\": found shape [5], expected [4], the hidden size of tiny"));
    assert!(error(&[]).starts_with("tensors: found none"));
    assert!(error(&[("weight", &[2, 4]), ("rotate_layer", &[4, 2])]).contains("a trained intervention"));
    let many: Vec<(String, Vec<usize>)> = (0..9).map(|index| (format!("x{index}"), vec![4])).collect();
    let many: Vec<(&str, &[usize])> = many.iter().map(|(name, shape)| (&**name, &**shape)).collect();
    assert!(error(&many).contains("and 3 more"), "{}", error(&many));
    let mut other = contents(&[("1", &[4])]);
    other.others.insert("layer_type".to_string(), "self_attn".to_string());
    let found = vectors(other, "x.pt", &model(), &none).unwrap_err().to_string();
    assert!(found.starts_with("layer_type: found \"self_attn\""), "{found}");
}
