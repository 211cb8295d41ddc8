//! Compiles the check, and tells it which instructions rustc may use.

use std::env;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(checked)");
    println!("cargo::rerun-if-changed=src/check.c");
    let of_target = |name: &str| env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    // Other processors, and Microsoft's compiler, which has no constructors, are not checked.
    if of_target("ARCH") != "x86_64" || of_target("ENV") == "msvc" {
        return;
    }
    println!("cargo::rustc-cfg=checked");
    // What `-C target-cpu` and `-C target-feature` came to.
    let required = format!("\"{}\"", of_target("FEATURE"));
    cc::Build::new()
        .file("src/check.c")
        .define("REQUIRED", required.as_str())
        // Whatever CFLAGS and the compiler's own default say.
        .flag("-march=x86-64")
        .warnings_into_errors(true)
        .compile("steermap_cpu_check");
}
