#![no_main]
#![doc = "See `steermap_fuzz::json`."]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use steermap_fuzz::mutate::{self, Rng};

fuzz_target!(|bytes: &[u8]| steermap_fuzz::json::check(bytes));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut rng = Rng::new(seed);
    // Half of the mutations are libFuzzer's own, which break the syntax too.
    if rng.below(2) == 0
        && let Some(bytes) = mutate::json(&data[..size], &mut rng)
        && bytes.len() <= max_size
    {
        data[..bytes.len()].copy_from_slice(&bytes);
        return bytes.len();
    }
    fuzzer_mutate(data, size, max_size)
});
