//! Reports of `mapper eval`, written again from the committed results and opened in Chromium, which `cargo xtask test` installs.

use std::process::Command;

use steermap_tests::project;
use steermap_tests::run::{error_of, run};

#[test]
fn written_again_they_are_right_in_a_browser() {
    let folder = tempfile::tempdir().unwrap();
    let pages = ["examples/family/report", "examples/real-models/report"].map(|report| {
        let to = folder.path().join(report.replace('/', "-"));
        std::fs::create_dir(&to).unwrap();
        std::fs::copy(project(report).join("report.json"), to.join("report.json")).unwrap();
        let written = run("mapper", &["report", to.to_str().unwrap()]);
        assert!(written.status.success(), "{}", error_of(&written));
        let page = to.join("report.html");
        // The committed page is the one that this program writes.
        let committed = std::fs::read_to_string(project(report).join("report.html")).unwrap();
        assert!(
            std::fs::read_to_string(&page).unwrap() == committed,
            "{report}/report.html: write it again with `mapper report {report}`"
        );
        page
    });
    let output = Command::new("node")
        .arg(project("tests/report_in_chromium.mjs"))
        .args(pages)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.matches(": ok; ").count() == 8,
        "{told}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
