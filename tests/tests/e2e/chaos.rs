//! Hostile requests beside ordinary ones, in the short form of `cargo xtask chaos`.

use steermap_examples::traffic::chaos::{ChaosPlan, StormLength, run};
use steermap_examples::traffic::models::{STORIES, ServedModel, WINDOW};
use steermap_examples::traffic::served::ServedDtype;
use steermap_tests::project;

fn ordinary_requests_get_what_they_get_alone(model: &'static ServedModel) {
    let dir = tempfile::tempdir().unwrap();
    let plan = ChaosPlan {
        model,
        dtype: ServedDtype::F32,
        length: StormLength::Requests(250),
        at_once: 32,
        ordinary: 60,
        continuations: 60,
        seed: 1,
    };
    let report = run(&plan, &project(""), dir.path()).unwrap();
    let text = report.describe();
    println!("{text}");
    assert!(report.is_right(), "{text}");
    let compared = |whole: [usize; 2]| whole.iter().sum::<usize>();
    let (ordinary, continued) = (&report.ordinary, &report.continuations);
    assert!(
        compared([ordinary.unsteered.whole, ordinary.steered.whole]) > 60,
        "{text}"
    );
    assert_eq!(
        compared([continued.unsteered.whole, continued.steered.whole]),
        60,
        "{text}"
    );
    let sent: usize = report.hostile.values().map(|tally| tally.sent).sum();
    assert!(sent > 80 && report.hostile.len() > 60, "{text}");
    // If most answers diverged at near ties, the comparison would prove nothing.
    let ties = [ordinary, continued].map(|answers| answers.unsteered.near_ties + answers.steered.near_ties);
    assert!(compared(ties) <= 3, "{text}");
}

#[test]
fn hostile_requests_harm_no_other() {
    ordinary_requests_get_what_they_get_alone(&STORIES);
}

#[test]
fn hostile_requests_harm_no_other_beyond_a_sliding_window() {
    ordinary_requests_get_what_they_get_alone(&WINDOW);
}
