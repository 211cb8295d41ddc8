use std::collections::BTreeSet;
use std::ffi::{CStr, CString, c_char, c_int};
use std::process::Command;

unsafe extern "C" {
    fn steermap_cpu_knows(name: *const c_char) -> c_int;
    fn steermap_cpu_refusal(
        program: *const c_char,
        required: *const c_char,
        message: *mut c_char,
        size: usize,
    ) -> usize;
}

fn knows(name: &str) -> bool {
    let name = CString::new(name).unwrap();
    // SAFETY: reads a C string.
    unsafe { steermap_cpu_knows(name.as_ptr()) != 0 }
}

fn refusal_within(required: &str, size: usize) -> Option<String> {
    let required = CString::new(required).unwrap();
    let mut message = vec![0; size];
    // SAFETY: reads two C strings and writes no more than `size` bytes, a zero at the end among them.
    let length = unsafe { steermap_cpu_refusal(c"prog".as_ptr(), required.as_ptr(), message.as_mut_ptr(), size) };
    // SAFETY: as above.
    let text = unsafe { CStr::from_ptr(message.as_ptr()) }.to_str().unwrap();
    assert_eq!(text.len(), length);
    (length > 0).then(|| text.to_string())
}

fn refusal(required: &str) -> Option<String> {
    refusal_within(required, 2048)
}

#[test]
fn what_this_was_compiled_for_is_here() {
    super::check();
    assert_eq!(refusal(""), None);
    assert_eq!(
        refusal(if cfg!(target_arch = "x86_64") {
            "sse,sse2"
        } else {
            "neon"
        }),
        None
    );
}

#[cfg(target_arch = "x86_64")]
#[test]
fn what_is_missing_is_named_with_what_to_do() {
    // No processor since 2017 has it.
    let message = refusal("sse2,tbm,sse").unwrap();
    assert!(
        message.starts_with("error: prog was built for another processor than this one, which lacks tbm\n"),
        "{message}"
    );
    assert!(
        message.contains("cargo xtask dist --target-cpu x86-64") && message.ends_with("\".\n"),
        "{message}"
    );
    // Names are compared whole.
    assert_eq!(refusal("tb,tbmx,,sse"), None);
    assert_eq!(refusal_within("tbm", 20).unwrap(), "error: prog was bui");
}

/// What the kernel says of the processor is what the table finds.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn the_table_agrees_with_the_kernel() {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let line = text.lines().find(|line| line.starts_with("flags")).unwrap();
    let flags: BTreeSet<&str> = line.split_whitespace().collect();
    let names = [
        ("sse3", "pni"),
        ("pclmulqdq", "pclmulqdq"),
        ("ssse3", "ssse3"),
        ("fma", "fma"),
        ("cmpxchg16b", "cx16"),
        ("sse4.1", "sse4_1"),
        ("sse4.2", "sse4_2"),
        ("movbe", "movbe"),
        ("popcnt", "popcnt"),
        ("aes", "aes"),
        ("avx", "avx"),
        ("f16c", "f16c"),
        ("rdrand", "rdrand"),
        ("bmi1", "bmi1"),
        ("avx2", "avx2"),
        ("bmi2", "bmi2"),
        ("avx512f", "avx512f"),
        ("avx512dq", "avx512dq"),
        ("rdseed", "rdseed"),
        ("adx", "adx"),
        ("avx512ifma", "avx512ifma"),
        ("avx512cd", "avx512cd"),
        ("sha", "sha_ni"),
        ("avx512bw", "avx512bw"),
        ("avx512vl", "avx512vl"),
        ("avx512vbmi", "avx512vbmi"),
        ("avx512vbmi2", "avx512_vbmi2"),
        ("gfni", "gfni"),
        ("vaes", "vaes"),
        ("vpclmulqdq", "vpclmulqdq"),
        ("avx512vnni", "avx512_vnni"),
        ("avx512bitalg", "avx512_bitalg"),
        ("avx512vpopcntdq", "avx512_vpopcntdq"),
        ("avx512fp16", "avx512_fp16"),
        ("avxvnni", "avx_vnni"),
        ("avx512bf16", "avx512_bf16"),
        ("lzcnt", "abm"),
        ("sse4a", "sse4a"),
    ];
    // The kernel keeps these from its list on processors where they are faulty, and can't always change what `cpuid` says.
    let hidden = ["rdrand", "rdseed"];
    for (name, flag) in names {
        assert!(knows(name), "{name}");
        let (found, listed) = (refusal(name).is_none(), flags.contains(flag));
        assert!(
            found == listed || (found && hidden.contains(&name)),
            "{name}: {found}, {listed}"
        );
    }
}

/// Whatever processor is compiled for, no feature of it is passed over.
#[test]
fn the_table_has_what_rustc_may_use() {
    let rustc = |args: &[&str]| {
        let program = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_string());
        let output = Command::new(program).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let list = rustc(&["--print", "target-cpus", "--target", &target]);
    let cpus: Vec<&str> = list
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.split_whitespace().next())
        .collect();
    assert!(cpus.len() > 50, "{list}");
    let mut unknown = BTreeSet::new();
    for cpu in cpus {
        let cpu = format!("-Ctarget-cpu={cpu}");
        let cfg = rustc(&["--print", "cfg", "--target", &target, &cpu]);
        for line in cfg.lines() {
            if let Some(name) = line.strip_prefix("target_feature=\"")
                && !knows(name.trim_end_matches('"'))
            {
                unknown.insert(name.trim_end_matches('"').to_string());
            }
        }
    }
    // See `check.c`.
    let left_out: &[&str] = if cfg!(target_arch = "x86_64") {
        &["fxsr", "xsave", "xsavec", "xsaveopt", "xsaves"]
    } else {
        &[
            "bti", "dit", "lor", "mte", "paca", "pacg", "pan", "pmuv3", "ras", "sb", "spe", "ssbs", "vh",
        ]
    };
    assert_eq!(unknown, left_out.iter().map(|name| (*name).to_string()).collect());
}
