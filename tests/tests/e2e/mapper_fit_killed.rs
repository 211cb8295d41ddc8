//! A fit that is killed at any moment continues from its checkpoint and ends with the same map.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use steermap_examples::programs::binary;
use steermap_maps::MapFile;
use steermap_tests::fixture;
use steermap_tests::maps::{difference, write_corpus};
use steermap_tests::run::interrupted;

#[test]
fn killed_twenty_times_it_ends_with_the_same_map() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = write_corpus(dir.path(), 1500);
    let start = |out: &str| -> Child {
        Command::new(binary("mapper").unwrap())
            .args([
                "fit",
                "--cpu",
                "--dtype",
                "f32",
                "--pairs",
                "all",
                "--checkpoint-every",
                "0",
                "--source",
            ])
            .arg(fixture("tiny-llama"))
            .arg("--target")
            .arg(fixture("tiny-gemma2"))
            .arg("--corpus")
            .arg(&corpus)
            .arg("--out")
            .arg(dir.path().join(out))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let began = Instant::now();
    assert!(start("whole.toml").wait().unwrap().success());
    let whole = MapFile::load(&dir.path().join("whole.toml")).unwrap();
    let length = began.elapsed();

    let out = dir.path().join("killed.toml");
    let mut state = 11u64;
    let mut kills = 0;
    while kills < 20 {
        let mut child = start("killed.toml");
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        // At any moment from its start to just after its end.
        let moment = length.mul_f64((state >> 33) as f64 / (1u64 << 31) as f64 * 1.1);
        let deadline = Instant::now() + moment;
        let ended = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if Instant::now() >= deadline => break None,
                None => std::thread::yield_now(),
            }
        };
        match ended {
            None => {
                // SIGKILL.
                child.kill().unwrap();
                child.wait().unwrap();
                kills += 1;
            }
            Some(status) => assert!(status.success(), "{status}"),
        }
        // All files that exist are complete.
        if out.exists() {
            assert!(difference(&MapFile::load(&out).unwrap(), &whole) < 1e-6);
            // Start again from nothing.
            std::fs::remove_file(&out).unwrap();
        }
    }
    assert!(start("killed.toml").wait().unwrap().success());
    let killed = MapFile::load(&out).unwrap();
    assert!(difference(&killed, &whole) < 1e-6, "{}", difference(&killed, &whole));
    assert_eq!(killed.header().positions, whole.header().positions);
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_a_checkpoint_and_the_same_command_continues() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = write_corpus(dir.path(), 1500);
    let command = || {
        let mut command = Command::new(binary("mapper").unwrap());
        command
            .args([
                "stats",
                "--cpu",
                "--dtype",
                "f32",
                "--checkpoint-every",
                "0",
                "--source",
            ])
            .arg(fixture("tiny-llama"))
            .arg("--target")
            .arg(fixture("tiny-llama"))
            .arg("--corpus")
            .arg(&corpus)
            .arg("--out")
            .arg(dir.path().join("all.stats"));
        command
    };
    let child = command().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // Wait for the first checkpoint.
    let deadline = Instant::now() + Duration::from_secs(120);
    while !dir.path().join("all.stats").exists() {
        assert!(Instant::now() < deadline, "no checkpoint came");
        std::thread::yield_now();
    }
    let text = interrupted(child);
    assert!(text.contains("run the same command to continue from"), "{text}");
    let output = command().output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1500 documents"), "{text}");
}
