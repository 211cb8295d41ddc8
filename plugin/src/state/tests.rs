use super::*;
use crate::VectorUse;
use crate::testing::{model, vector};

fn calm(value: f32) -> Arc<VectorFile> {
    Arc::new(vector(model("large", 4, 6), true, &[(1, &[value, 0.0, 0.0, 1.0])]))
}

fn commit(folder: &StateFolder, vectors: &[(&str, &Arc<VectorFile>)], defaults: &[(&str, SteeringSpec)]) -> u64 {
    let change = StateChange {
        what: "test",
        caller: "nobody",
        vectors: vectors.iter().copied().collect(),
        defaults: defaults.iter().cloned().collect(),
    };
    folder.commit(&change).unwrap()
}

fn files(folder: &Path) -> Vec<String> {
    let mut found = names(&folder.join(VECTORS));
    found.sort();
    found
}

#[test]
fn what_was_committed_is_there_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let (first, second) = (calm(1.0), calm(2.0));
    // Numbers that are hard to write, and a selector.
    let spec = SteeringSpec::from(VectorUse::new("calm", 0.1 + 0.2).at_layers([1, 3]));
    {
        let folder = StateFolder::open(&path).unwrap();
        assert!(folder.latest().unwrap().is_none() && folder.number() == 0);
        assert_eq!(commit(&folder, &[("calm", &first)], &[]), 1);
        assert_eq!(
            commit(
                &folder,
                &[("calm", &first)],
                &[("m", spec.clone()), ("n", SteeringSpec::default())]
            ),
            2
        );
        assert_eq!(commit(&folder, &[("calm", &second)], &[("m", spec.clone())]), 3);
    }
    let folder = StateFolder::open(&path).unwrap();
    let latest = folder.latest().unwrap().unwrap();
    assert_eq!((latest.number, latest.vectors["calm"].as_ref()), (3, second.as_ref()));
    assert_eq!(latest.defaults, BTreeMap::from([("m".to_string(), spec.clone())]));
    // The vector that did not change was written once.
    let before = folder.at(2).unwrap();
    assert_eq!(before.vectors["calm"].as_ref(), first.as_ref());
    assert_eq!(before.defaults["n"], SteeringSpec::default());
    assert_eq!(files(&path).iter().filter(|name| name.ends_with(".toml")).count(), 2);
    // Nor is it written again after it was read.
    assert_eq!(commit(&folder, &[("calm", &latest.vectors["calm"])], &[]), 4);
    assert_eq!(files(&path).len(), 4);
    let history: Vec<u64> = folder.history().iter().map(|record| record.number).collect();
    assert_eq!(history, [4, 3, 2, 1]);
    let missing = folder.at(9).err().unwrap().to_string();
    assert!(missing.starts_with("number: found 9"), "{missing}");
}

#[test]
fn one_server_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let first = StateFolder::open(dir.path()).unwrap();
    let refused = StateFolder::open(dir.path()).err().unwrap().to_string();
    assert!(refused.contains("in use by another server"), "{refused}");
    // Who only looks is not kept out.
    commit(&first, &[], &[]);
    assert_eq!(StateFolder::peek(dir.path()).unwrap().unwrap().number, 1);
    drop(first);
    assert!(StateFolder::open(dir.path()).is_ok());
    assert!(StateFolder::peek(&dir.path().join("none")).unwrap().is_none());
}

#[test]
fn what_a_dead_process_left_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let vector = calm(1.0);
    commit(&StateFolder::open(dir.path()).unwrap(), &[("calm-2.x", &vector)], &[]);
    let before = files(dir.path());
    // It died after it wrote a vector and before it wrote the record; and while it wrote.
    vector.save(&dir.path().join("vectors/00000002-other.toml")).unwrap();
    fs::write(dir.path().join("vectors/.steermap-x.tmp"), "half").unwrap();
    fs::write(dir.path().join(".steermap-y.tmp"), "half").unwrap();
    fs::write(dir.path().join("vectors/notes.txt"), "a person's").unwrap();
    let folder = StateFolder::open(dir.path()).unwrap();
    assert_eq!(folder.latest().unwrap().unwrap().number, 1);
    let mut expected = before;
    expected.push("notes.txt".to_string());
    assert_eq!(files(dir.path()), expected);
    assert!(!dir.path().join(".steermap-y.tmp").exists());
}

#[test]
fn the_history_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let folder = StateFolder::open(dir.path()).unwrap();
    let kept = calm(7.0);
    for number in 0..MAX_RECORDS + 20 {
        let vector = calm(number as f32);
        commit(&folder, &[("calm", &vector), ("kept", &kept)], &[]);
    }
    assert_eq!(folder.history().len(), MAX_RECORDS);
    // Two files for each vector of a record, and those of the one that never changed.
    assert_eq!(files(dir.path()).len(), 2 * MAX_RECORDS + 2);
    assert!(folder.at(20).is_err() && folder.at(21).is_ok());
    assert_eq!(folder.at(120).unwrap().vectors["kept"].as_ref(), kept.as_ref());
}

#[test]
fn a_large_history_is_cut_by_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = StateFolder::open(dir.path()).unwrap();
    folder.most_bytes = 250_000;
    let wide: Vec<f32> = (0..25_000).map(|index| index as f32 + 1.0).collect();
    for _ in 0..5 {
        // 100 kB each.
        let vector = Arc::new(vector(model("wide", 25_000, 1), true, &[(0, &wide)]));
        commit(&folder, &[("wide", &vector)], &[]);
    }
    let numbers: Vec<u64> = folder.history().iter().map(|record| record.number).collect();
    assert_eq!(numbers, [5, 4, 3]);
}

#[test]
fn a_record_that_is_none_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let record = |text: &str| {
        fs::write(dir.path().join("00000007.toml"), text).unwrap();
        let peeked = StateFolder::peek(dir.path()).err().unwrap().to_string();
        assert_eq!(StateFolder::open(dir.path()).err().unwrap().to_string(), peeked);
        peeked
    };
    let good = "format = \"steermap-state/1\"\nnumber = 7\ntime = \"\"\nchange = \"\"\ncaller = \"\"\n";
    for (text, found) in [
        ("number = 7", "missing field"),
        (
            &good.replace("state/1", "state/2"),
            "format: found \"steermap-state/2\"",
        ),
        (&good.replace("= 7", "= 8"), "number: found 8, expected 7"),
        (
            &format!("{good}[vectors]\na = \"../../etc\""),
            "vectors.a: found \"../../etc\"",
        ),
        (
            &format!("{good}[[defaults]]\nmodel = \"m\"\n[[defaults.spec.vectors]]\nvector = \"a\"\nscale = nan"),
            "defaults[0].spec.vectors[0].scale: found NaN",
        ),
        (&format!("{good}other = 1"), "unknown field `other`"),
    ] {
        let message = record(text);
        assert!(
            message.contains("00000007.toml") && message.contains(found),
            "{message}"
        );
    }
    fs::write(
        dir.path().join("00000007.toml"),
        format!("{good}[vectors]\na = \"a.toml\""),
    )
    .unwrap();
    let missing = StateFolder::peek(dir.path()).err().unwrap().to_string();
    assert!(missing.contains("vectors.a") && missing.contains("a.toml"), "{missing}");
}
