//! Compiles the check, and tells it which instructions rustc may use.

use std::env;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(checked)");
    println!("cargo::rerun-if-changed=src/check.c");
    let of_target = |name: &str| env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    // What any processor of the kind has. Other kinds are not checked, nor is anything with Microsoft's compiler, which has no
    // constructors.
    let march = match (of_target("ARCH").as_str(), of_target("OS").as_str()) {
        ("x86_64", _) if of_target("ENV") != "msvc" => "-march=x86-64",
        ("aarch64", "linux") => "-march=armv8-a",
        _ => return,
    };
    println!("cargo::rustc-cfg=checked");
    // What `-C target-cpu` and `-C target-feature` came to.
    let required = format!("\"{}\"", of_target("FEATURE"));
    cc::Build::new()
        .file("src/check.c")
        .define("REQUIRED", required.as_str())
        // Whatever CFLAGS and the compiler's own default say.
        .flag(march)
        .compile("steermap_cpu_check");
}
