//! Ends a program with a clear message, and with status 126, on a processor that lacks instructions which the program was compiled
//! to use; without this it would die of an illegal instruction somewhere.
//!
//! `.cargo/config.toml` has everything compiled for the machine that compiles, so a copied binary, or a copied target folder, may
//! meet such a processor. The check runs before `main`, in a function that is compiled for any processor of the kind (`check.c`):
//! x86-64, and ARM of 64 bits on Linux. Elsewhere, and with Microsoft's compiler, nothing is checked.

#[cfg(checked)]
unsafe extern "C" {
    safe fn steermap_cpu_check();
}

/// Checks the processor. A program that calls this anywhere has had it checked before `main` too: the call is what links the check
/// into it.
pub fn check() {
    #[cfg(checked)]
    steermap_cpu_check();
}

#[cfg(all(test, checked))]
mod tests;
