//! A map is written, looked at, loaded and applied in the memory of one pair, whatever its size.
//!
//! The same at 3 GiB: `cargo run --release -p steermap-maps --example large_map`.

mod synthetic;

use allocation_counter::{AllocationInfo, measure};
use steermap_maps::{FloatDtype, MapFile, MapWriter, OffsetRule, describe};
use synthetic::{Sizes, header, pair, peak_memory, vector};

/// 8 pairs of 8 MiB.
const SIZES: Sizes = Sizes {
    source: 1024,
    target: 2048,
    pairs: 8,
    rank: None,
};
const PAIR_BYTES: u64 = 8 << 20;
/// What may be allocated beside the pair that was handed over: pieces, text, vectors.
const SMALL: u64 = 3 << 20;

/// How many bytes of the heap were in use at most.
fn peak(info: &AllocationInfo) -> u64 {
    info.bytes_max
}

#[test]
fn no_more_than_a_pair_is_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("map.toml");
    let before = peak_memory();

    for dtype in [FloatDtype::F32, FloatDtype::Bf16] {
        // Three pairs to a file.
        let file_bytes = 3 * PAIR_BYTES + (1 << 20);
        let writer = MapWriter::create(&path, header(SIZES), SIZES.pairs).unwrap();
        let mut writer = writer.with_dtype(dtype).with_file_bytes(file_bytes);
        for index in 0..SIZES.pairs {
            let pair = pair(SIZES, index);
            let info = measure(|| writer.push(&pair).unwrap());
            assert!(peak(&info) < SMALL, "pushing: {info:?}");
        }
        let info = measure(|| drop(writer.finish().unwrap()));
        assert!(peak(&info) < SMALL, "finishing: {info:?}");
        let entries = std::fs::read_dir(folder.path()).unwrap();
        assert_eq!(entries.count(), if dtype == FloatDtype::F32 { 4 } else { 3 });

        let mut map = None;
        let info = measure(|| map = Some(MapFile::load(&path).unwrap()));
        assert!(peak(&info) < SMALL, "loading: {info:?}");
        let map = map.unwrap();
        let vector = vector(SIZES);
        let reach = map.reach(&vector, true).unwrap();
        for (what, info) in [
            ("listing", measure(|| drop(describe::map(&map)))),
            ("verifying", measure(|| map.verify().unwrap())),
            (
                "applying",
                measure(|| drop(map.apply(&vector, OffsetRule::Affine, true).unwrap())),
            ),
            ("one layer", measure(|| drop(reach.direction(5, OffsetRule::Linear)))),
            (
                "saving",
                measure(|| map.save(&folder.path().join("copy.toml")).unwrap()),
            ),
        ] {
            assert!(peak(&info) < SMALL, "{what}: {info:?}");
        }
        std::fs::remove_dir_all(folder.path()).unwrap();
        std::fs::create_dir(folder.path()).unwrap();
    }

    // What is mapped counts too: a pair, or the piece of a file that is being hashed, at a time.
    if let (Some(before), Some(after)) = (before, peak_memory()) {
        let grown = after - before;
        assert!(grown < SIZES.pairs as u64 * PAIR_BYTES / 2 + (8 << 20), "{grown} bytes");
    }
}
