//! Binaries on a processor that they were not compiled for, in an emulator: they say so.

use std::process::Command;

use steermap_examples::programs::binary;

/// What there was before AVX.
const OLD: &str = "Westmere";

#[test]
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn a_copied_binary_says_which_instructions_are_missing() {
    if !cfg!(target_feature = "avx2") {
        println!("compiled without AVX2, so these binaries run on a {OLD} too");
        return;
    }
    for name in ["mistralrs-steered", "mapper", "demo"] {
        let path = binary(name).expect("run the tests with `cargo xtask test`");
        let output = Command::new("qemu-x86_64")
            .args(["-cpu", OLD])
            .arg(&path)
            .arg("--help")
            .output();
        let output = output
            .expect("needs qemu-x86_64, of Debian's package qemu-user, which `cargo xtask test` installs as root");
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(126), "{text}");
        assert_eq!(output.stdout, b"");
        let begins = format!(
            "error: {} was built for another processor than this one, which lacks ",
            path.display()
        );
        assert!(text.starts_with(&begins), "{text}");
        let (missing, advice) = text[begins.len()..].split_once('\n').unwrap();
        let missing: Vec<&str> = missing.split(", ").collect();
        assert!(
            missing.contains(&"avx") && missing.contains(&"avx2") && !missing.contains(&"sse4.2"),
            "{text}"
        );
        assert!(advice.contains("cargo xtask dist --target-cpu x86-64-v2"), "{text}");
    }
}
