//! The commands of the book and the README, run page by page ([`steermap_tests::book`]).

use std::path::{Path, PathBuf};

use steermap_examples::programs::binary;
use steermap_tests::book::{Action, Reader, blocks};
use steermap_tests::project;

use super::clients::python;

const BOOK: &str = "docs/src";

/// The README, by its path from the book.
const README: &str = "../../README.md";

fn text(page: &str) -> String {
    std::fs::read_to_string(project(BOOK).join(page)).unwrap()
}

fn read(page: &str) {
    let programs = binary("mapper").unwrap();
    let mut reader = Reader::new(&project(""), programs.parent().unwrap(), python());
    reader
        .read(&text(page))
        .unwrap_or_else(|wrong| panic!("{BOOK}/{page}, {wrong}"));
}

/// A test for each page with commands, and the list of these pages.
macro_rules! pages {
    ($($name:ident: $page:literal,)*) => {
        const PAGES: &[&str] = &[$($page),*];

        $(
            #[test]
            fn $name() {
                read($page);
            }
        )*
    };
}

pages! {
    start: "guide/start.md",
    find: "guide/find.md",
    fit: "guide/fit.md",
    fit_large: "guide/fit-large.md",
    serve: "guide/serve.md",
    evaluate: "guide/evaluate.md",
    live: "guide/live.md",
    conditional_refusal: "recipes/conditional-refusal.md",
    style_per_tenant: "recipes/style-per-tenant.md",
    ablation: "recipes/ablation.md",
    sae_feature: "recipes/sae-feature.md",
    from_repeng: "recipes/from-repeng.md",
    from_caa: "recipes/from-caa.md",
    security: "operations/security.md",
    metrics: "operations/metrics.md",
    readme: "../../README.md",
}

/// Adds the pages of the book in `folder`, by their paths from the book.
fn all_pages(folder: &Path, pages: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path.is_dir() {
            all_pages(&path, pages);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            let page = path.strip_prefix(project(BOOK)).unwrap();
            pages.push(page.to_string_lossy().replace('\\', "/"));
        }
    }
}

#[test]
fn every_page_with_commands_has_a_test_and_marks_the_others() {
    let mut pages = vec![README.to_string()];
    all_pages(&project(BOOK), &mut pages);
    assert!(pages.len() > 20, "{pages:?}");
    for page in pages {
        let blocks = blocks(&text(&page)).unwrap_or_else(|wrong| panic!("{BOOK}/{page}, {wrong}"));
        let runs = blocks.iter().any(|block| block.action != Action::Excerpt);
        assert_eq!(runs, PAGES.contains(&page.as_str()), "{page}");
    }
}
