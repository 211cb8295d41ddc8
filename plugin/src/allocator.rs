//! Settings of mimalloc, for the binaries that use it.

use std::ffi::c_long;

use libmimalloc_sys::{mi_option_set_default, mi_option_t};

/// `mi_option_purge_delay`, which the bindings do not name: milliseconds until freed memory returns to the system.
const PURGE_DELAY: mi_option_t = 15;

/// A pass over long prompts takes seconds on a CPU, and its layers free and allocate the same memory repeatedly.
const MILLISECONDS: c_long = 10_000;

/// Keeps freed memory for ten seconds instead of one, unless `MIMALLOC_PURGE_DELAY` is set. Memory that was returned
/// must be zeroed by the system when it is allocated again, which took an eighth of the time of reading long texts.
pub fn keep_freed_memory() {
    // SAFETY: sets a number that mimalloc reads; the option exists.
    unsafe { mi_option_set_default(PURGE_DELAY, MILLISECONDS) }
}

#[cfg(test)]
mod tests {
    use libmimalloc_sys::mi_option_get;

    use super::*;

    #[test]
    fn the_option_is_the_one_that_is_meant() {
        // What mimalloc comes with; another number would be another option's.
        // SAFETY: reads a number of mimalloc.
        let delay = || unsafe { mi_option_get(PURGE_DELAY) };
        assert_eq!(delay(), 1000);
        keep_freed_memory();
        assert_eq!(delay(), MILLISECONDS);
    }
}
