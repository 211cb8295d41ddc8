//! The report as a whole.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use resvg::tiny_skia::Pixmap;
use roxmltree::{Document, Node};

use super::*;
use crate::result::{Estimate, Evaluation, Outcome, Specificity, SteeringKind};
use crate::sample::{Size, hostile, sample, with_texts};

/// Samples of every shape.
fn samples() -> Vec<(&'static str, Evaluation)> {
    let size = |alphas, tasks| Size {
        alphas,
        tasks,
        ..Size::default()
    };
    vec![
        ("usual", sample(&Size::default())),
        ("large", sample(&Size::large())),
        ("single", sample(&Size::single())),
        ("none", sample(&Size::none())),
        ("one alpha", sample(&size(1, 7))),
        ("long names", long_names()),
        ("flat", flat()),
        ("extreme", extreme()),
        ("bare", bare()),
        ("hostile", hostile()),
    ]
}

fn long_names() -> Evaluation {
    let mut evaluation = sample(&Size {
        tasks: 3,
        ..Size::default()
    });
    for (index, task) in evaluation.tasks.iter_mut().enumerate() {
        task.name = format!("a-task-{index}-{}", "whose-name-goes-on-and-on-".repeat(6));
        task.positive = "pneumonoultramicroscopicsilicovolcanoconiosis".repeat(2);
    }
    evaluation.run.source.model = "an-organisation/with-a-model-".repeat(5);
    evaluation
}

/// Nothing moves: every range is of length 0.
fn flat() -> Evaluation {
    let mut evaluation = sample(&Size::default());
    let still = Estimate {
        value: 0.0,
        low: 0.0,
        high: 0.0,
    };
    for task in &mut evaluation.tasks {
        for curve in &mut task.curves {
            curve.slope = still;
            for values in [&mut curve.mean, &mut curve.low, &mut curve.high] {
                values.fill(0.0);
            }
        }
        for values in [&mut task.random.mean, &mut task.random.low, &mut task.random.high] {
            values.fill(0.0);
        }
        task.unsteered = still;
        task.retention = still;
        task.band_retention = Some(still);
        for layer in &mut task.layers {
            layer.retention = still;
            layer.direct_share = Some(0.0);
        }
        task.perplexity.native.fill(1.0);
        task.perplexity.mapped.fill(1.0);
        task.perplexity.unsteered = 1.0;
        for candidate in &mut task.candidates {
            (candidate.native_slope, candidate.mapped_slope) = (0.0, 0.0);
        }
        for effect in &mut task.side_effects {
            (effect.native, effect.mapped) = (0.0, 0.0);
        }
    }
    evaluation
}

/// Numbers far beyond what axes are made for.
fn extreme() -> Evaluation {
    let mut evaluation = sample(&Size::default());
    evaluation.run.protocol.retention_bounds = [-1e6, 1e300];
    evaluation.representation.pairs[0].r2 = -1e12;
    evaluation.representation.pairs[0].r2_quantiles = [-1e15, -1e6, -3.0, 0.2, 0.9];
    evaluation.representation.cka[0][0] = -0.02;
    let task = &mut evaluation.tasks[0];
    task.retention = Estimate {
        value: -40.0,
        low: -1e9,
        high: 1e9,
    };
    task.layers[0].retention = task.retention;
    task.layers[0].direct_share = Some(-1e200);
    task.curves[0].mean[0] = 1e300;
    task.curves[0].mean[1] = -1e300;
    if let Some(last) = task.perplexity.native.last_mut() {
        *last = 1e200;
    }
    task.mse.mean = 3e-9;
    // All alphas to one side.
    for alpha in &mut evaluation.tasks[1].alphas {
        *alpha += 2.5;
    }
    evaluation
}

/// Whatever may be missing is missing.
fn bare() -> Evaluation {
    let mut evaluation = sample(&Size {
        tasks: 2,
        ..Size::default()
    });
    (evaluation.run.protocol.most_direct, evaluation.run.judge) = (None, None);
    evaluation.run.protocol.band.clear();
    evaluation.representation.cka = vec![vec![], vec![]];
    evaluation.failed.clear();
    evaluation.notes.clear();
    for task in &mut evaluation.tasks {
        task.curves.clear();
        task.layers.clear();
        task.controls.clear();
        task.candidates.clear();
        task.side_effects.clear();
        (task.band_retention, task.half_samples, task.specificity) = (None, None, None);
        (task.generation, task.proposal, task.source_auroc) = (None, None, None);
        task.random.alphas.clear();
        task.perplexity.alphas.clear();
        (task.pearson.count, task.item_pearson.count) = (0, 0);
        task.random_cosines.count = 0;
    }
    for means in [&mut evaluation.summary.all, &mut evaluation.summary.steering] {
        (means.retention, means.pearson, means.mse, means.mse_probability) = (None, None, None, None);
        (means.item_pearson, means.texts) = (None, None);
    }
    for layer in &mut evaluation.summary.layers {
        (layer.retention, layer.direct_share) = (None, None);
    }
    evaluation
}

#[test]
fn every_figure_is_well_formed_and_drawn_inside_its_size() {
    for (name, evaluation) in samples() {
        let all = figures(&evaluation);
        let tasks = evaluation.tasks.iter().enumerate();
        let own = tasks.flat_map(|(index, task)| crate::figures::of_task(&evaluation, task, index));
        for figure in all.into_iter().chain(own) {
            let at = format!("{name}, {}", figure.name);
            let svg = figure.svg();
            let document = Document::parse(&svg).unwrap_or_else(|error| panic!("{at}: {error}"));
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{at}: {svg}");
            assert!(!figure.alt.is_empty() && !figure.title.is_empty(), "{at}");
            let root = document.root_element();
            let size = ["width", "height"].map(|side| root.attribute(side).unwrap().parse::<f64>().unwrap());
            for text in document.descendants().filter(|node| node.has_tag_name("text")) {
                let (x, y) = moved(text);
                let inside = (-1.0..=size[0] + 1.0).contains(&x) && (-1.0..=size[1] + 1.0).contains(&y);
                assert!(inside, "{at}: {:?} at {x}, {y} of {size:?}", text.text());
            }
            // No colour that the theme doesn't have.
            assert!(!crate::figures::colours::in_light(&svg).contains("var("), "{at}");
        }
    }
}

/// Where a text stands, through all groups that are moved.
fn moved(text: Node) -> (f64, f64) {
    let number = |text: &str| text.trim().parse::<f64>().unwrap();
    let at = |name: &str| number(text.attribute(name).unwrap());
    let mut place = (at("x"), at("y"));
    for group in text.ancestors().filter(|node| node.has_tag_name("g")) {
        let moves = group
            .attribute("transform")
            .and_then(|moves| moves.strip_prefix("translate("));
        if let Some((x, y)) = moves.and_then(|moves| moves.trim_end_matches(')').split_once(',')) {
            place = (place.0 + number(x), place.1 + number(y));
        }
    }
    place
}

#[test]
fn what_was_not_measured_has_no_figure() {
    let names = |evaluation: &Evaluation| -> Vec<String> { figures(evaluation).into_iter().map(|f| f.name).collect() };
    let all = [
        "retention",
        "propensity",
        "layers",
        "r2",
        "r2-spread",
        "cka",
        "side-effects",
    ];
    assert_eq!(names(&sample(&Size::default())), all);
    assert_eq!(names(&sample(&Size::single())), all[..6]);
    assert!(names(&sample(&Size::none())).is_empty());
}

/// The page as XML: a stricter reading than HTML's, which tells every tag that isn't closed.
fn parsed(page: &str) -> String {
    let mut xml = String::new();
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        let end = start + rest[start..].find('>').unwrap();
        let tag = &rest[start + 1..end];
        xml.push_str(&rest[..end]);
        if ["meta ", "link ", "br"].iter().any(|void| tag.starts_with(void)) {
            xml.push('/');
        }
        xml.push('>');
        rest = &rest[end + 1..];
    }
    xml.trim_start_matches("<!DOCTYPE html>").to_string()
}

#[test]
fn the_page_is_well_formed_and_accessible() {
    for (name, evaluation) in samples() {
        let xml = parsed(&html(&evaluation));
        let document = Document::parse(&xml).unwrap_or_else(|error| panic!("{name}: {error}"));
        let tags = |tag: &'static str| document.descendants().filter(move |node| node.has_tag_name(tag));
        let attributes =
            |attribute: &'static str| document.descendants().filter_map(move |node| node.attribute(attribute));
        let ids: Vec<&str> = attributes("id").collect();
        let known: HashSet<&str> = ids.iter().copied().collect();
        assert_eq!(ids.len(), known.len(), "{name}: an id twice");
        for reference in attributes("aria-labelledby").flat_map(|all| all.split(' ')) {
            assert!(known.contains(reference), "{name}: {reference}");
        }
        for link in attributes("href").filter_map(|link| link.strip_prefix('#')) {
            assert!(known.contains(link), "{name}: #{link}");
        }
        for clip in attributes("clip-path") {
            let id = clip.trim_start_matches("url(#").trim_end_matches(')');
            assert!(known.contains(id), "{name}: {clip}");
        }
        let mut level = 0;
        for heading in document
            .descendants()
            .filter_map(|node| node.tag_name().name().strip_prefix('h'))
        {
            let Ok(next) = heading.parse::<usize>() else { continue };
            assert!(next <= level + 1, "{name}: h{next} after h{level}");
            level = next;
        }
        assert_eq!(tags("h1").count(), 1, "{name}");
        for table in tags("table") {
            let has = |tag: &str| table.descendants().any(|node| node.has_tag_name(tag));
            assert!(has("caption") && has("th"), "{name}");
            let columns = |row: Node| -> usize {
                let cells = row.children().filter(|node| node.is_element());
                cells
                    .map(|cell| cell.attribute("colspan").map_or(1, |span| span.parse().unwrap()))
                    .sum()
            };
            let widths: HashSet<usize> = table
                .descendants()
                .filter(|node| node.has_tag_name("tr"))
                .map(columns)
                .collect();
            assert_eq!(widths.len(), 1, "{name}: rows of {widths:?} columns");
        }
        for svg in tags("svg") {
            let named = |tag: &str| {
                svg.children()
                    .any(|node| node.has_tag_name(tag) && node.text().is_some_and(|t| !t.is_empty()))
            };
            assert!(
                named("title") && named("desc") && svg.attribute("role") == Some("img"),
                "{name}"
            );
        }
    }
}

#[test]
fn every_number_of_the_page_is_in_the_json() {
    for (name, evaluation) in samples() {
        let mut evaluation = evaluation;
        evaluation.format = Evaluation::FORMAT.to_string();
        let known = numbers_of(&json::text(&evaluation).unwrap());
        let page = html(&evaluation);
        let mut seen = 0;
        for part in page.split("data-value=\"").skip(1) {
            let (exact, rest) = part.split_once('"').unwrap();
            let shown = rest[1..].trim_start_matches(|c| c != '<').trim_start_matches("<text");
            let shown = if rest.starts_with("><text") {
                shown.split_once('>').unwrap().1
            } else {
                &rest[1..]
            };
            let shown = shown.split('<').next().unwrap();
            let value: f64 = exact.parse().unwrap();
            assert!(known.contains(&value.to_bits()), "{name}: {exact} is not in the JSON");
            check_rounding(value, shown);
            seen += 1;
        }
        let least = if evaluation.tasks.is_empty() { 20 } else { 90 };
        assert!(seen >= least, "{name}: {seen} numbers");
    }
}

/// Bits of every number in a JSON text, read with the standard library: exactly.
fn numbers_of(json: &str) -> HashSet<u64> {
    let mut numbers = HashSet::new();
    let mut inside = false;
    let mut escaped = false;
    let mut word = String::new();
    for c in json.chars() {
        if inside {
            inside = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E') {
            word.push(c);
        } else {
            inside = c == '"';
            if let Ok(number) = word.parse::<f64>() {
                numbers.insert(number.to_bits());
            }
            word.clear();
        }
    }
    numbers
}

/// Fails unless `shown` is `value`, rounded to the digits that are shown.
fn check_rounding(value: f64, shown: &str) {
    let plain: String = shown
        .replace('\u{2212}', "-")
        .chars()
        .filter(|&c| c != '+' && c != '\u{202f}')
        .collect();
    let number: f64 = plain.parse().unwrap_or_else(|_| panic!("{shown} is no number"));
    let (digits, power) = plain.split_once('e').unwrap_or((&plain, "0"));
    let decimals = digits.split_once('.').map_or(0, |(_, decimals)| decimals.len()) as i32;
    let half_a_unit = 0.5 * 10f64.powi(power.parse::<i32>().unwrap() - decimals);
    assert!(
        (number - value).abs() <= half_a_unit * (1.0 + 1e-9),
        "{value} is shown as {shown}"
    );
}

#[test]
fn heat_maps_show_the_json_too() {
    let evaluation = sample(&Size::default());
    let known = numbers_of(&json::text(&evaluation).unwrap());
    let r2 = figures(&evaluation)
        .into_iter()
        .find(|figure| figure.name == "r2")
        .unwrap();
    let svg = r2.svg();
    let document = Document::parse(&svg).unwrap();
    let values = document.descendants().filter_map(|node| node.attribute("data-value"));
    let shown: Vec<u64> = values.map(|value| value.parse::<f64>().unwrap().to_bits()).collect();
    assert_eq!(shown.len(), evaluation.representation.pairs.len());
    assert!(shown.iter().all(|bits| known.contains(bits)));
}

/// Tags of a page, without what is between them; not boxes, which wide figures alone have.
fn tags(page: &str) -> Vec<&str> {
    let parts = page.split('<').skip(1);
    let tags = parts.map(|part| {
        part.split(|c: char| !c.is_ascii_alphanumeric() && c != '/')
            .next()
            .unwrap()
    });
    tags.filter(|tag| !tag.ends_with("div")).collect()
}

#[test]
fn texts_of_files_stay_texts() {
    let page = html(&hostile());
    for bad in ["<script", "</title></svg>", "<!--", "\u{1}", "]]>"] {
        assert!(!page.contains(bad), "{bad:?}");
    }
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;"));
    assert_eq!(page.matches("</title>").count(), page.matches("<title").count());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_text_changes_the_page(text in "[<>&\"'$\\\\/a-z!=\\-\u{0}-\u{1f}\u{7f}\u{85}\u{fffe}é ]{1,24}") {
        let page = html(&with_texts(&text));
        let plain = html(&with_texts("x"));
        prop_assert!(tags(&page) == tags(&plain));
        prop_assert!(Document::parse(&parsed(&page)).is_ok());
    }
}

#[test]
fn the_page_needs_nothing_else() {
    for (name, evaluation) in samples() {
        let page = html(&evaluation);
        // The namespace is a name, not an address that is fetched; clipping areas are of the page.
        let page = page.replace("http://www.w3.org/2000/svg", "").replace("url(#", "");
        for outside in [
            "http:",
            "https:",
            "<link rel=\"stylesheet",
            "@import",
            "url(",
            "<script",
            "<iframe",
            "<img",
            "src=",
        ] {
            assert!(!page.contains(outside), "{name}: {outside}");
        }
        assert!(page.contains("Content-Security-Policy"));
    }
}

#[test]
fn says_what_was_found() {
    let mut evaluation = sample(&Size::default());
    let page = strip(&html(&evaluation));
    for text in [
        "SmolLM2-135M-Instruct",
        "6 of 7",
        "5 of 6",
        "0.73 to 0.98",
        "0.005 to 0.096",
        "2506.00653",
        "relative_scale = 0.8",
        "\u{2713} carried",
        "\u{2717} not carried",
        "\u{2013} says nothing",
        "mean of 7 tasks",
        "mean of 6 tasks",
        "1+3 \u{2192} 7",
        "Then the phone rang.",
        "41 of 60 items have answers",
        "2 more failed",
        "no: too direct",
        "no: outside the band",
        "steepest on the finding half",
        "279 draws per task",
        "lies between 0.50 and 1.50",
        "more than 0.50 of the native vector's effect",
        "they add a standard error of 0.021",
        "Shuffled pairing",
    ] {
        assert!(page.contains(text), "{text}");
    }
    assert!(!page.contains("unmapped [95%]"));
    evaluation.failed.clear();
    evaluation.notes.clear();
    evaluation.tasks[0].curves[1].kind = SteeringKind::Unmapped;
    let page = strip(&html(&evaluation));
    for text in [
        "every task was measured",
        "Nothing was left out.",
        "none failed",
        "unmapped [95%]",
    ] {
        assert!(page.contains(text), "{text}");
    }
}

#[test]
fn an_outcome_that_says_nothing_looks_like_neither() {
    let mut evaluation = sample(&Size::single());
    let mut classes = HashSet::new();
    for (outcome, class) in [
        (Outcome::Carried, "yes"),
        (Outcome::NotCarried, "no"),
        (Outcome::SaysNothing, "none"),
    ] {
        evaluation.summary.verdict.outcome = outcome;
        evaluation.tasks[0].verdict.outcome = outcome;
        evaluation.tasks[0].specificity = Some(Specificity {
            own: 0.9,
            others: 0.2,
            native_others: 0.1,
            own_profile: 0.9,
            other_profile: 0.2,
            nearest_other: "tense".to_string(),
            specific: outcome == Outcome::Carried,
        });
        let page = html(&evaluation);
        assert!(page.contains(&format!("class=\"verdict {class}\"")), "{class}");
        assert_eq!(page.matches(&format!("class=\"mark {class}\"")).count(), 3, "{class}");
        classes.insert(figures(&evaluation)[0].svg());
    }
    assert_eq!(classes.len(), 3);
}

/// HTML without its tags.
fn strip(html: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for c in html.chars() {
        match c {
            '<' => inside = true,
            '>' => inside = false,
            c if !inside => text.push(c),
            _ => {}
        }
    }
    text
}

#[test]
fn the_same_evaluation_gives_the_same_page() {
    assert_eq!(html(&sample(&Size::large())), html(&sample(&Size::large())));
}

#[test]
fn writes_page_json_and_pictures_and_reads_them_back() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new/report");
    let evaluation = sample(&Size::default());
    let files = write(&evaluation, &out).unwrap();
    assert_eq!(files[..2], [out.join("report.html"), out.join("report.json")]);
    assert_eq!(files.len(), 2 + 7);
    let sizes = figures(&evaluation);
    for file in &files {
        let content = fs::read(file).unwrap();
        let stem = file.file_stem().unwrap().to_str().unwrap();
        match file.extension().unwrap().to_str().unwrap() {
            "png" => {
                let picture = Pixmap::decode_png(&content).unwrap();
                let figure = sizes.iter().find(|figure| figure.name == stem).unwrap();
                let width = (figure.width().round() * 1.6).round();
                assert!((f64::from(picture.width()) - width).abs() <= 2.0, "{stem}");
                assert!(content.len() < 400_000, "{stem}: {} bytes", content.len());
            }
            "html" => assert_eq!(content, html(&evaluation).into_bytes()),
            _ => assert_eq!(read(&out).unwrap(), evaluation),
        }
    }
    // Over an older report, and with nothing measured.
    assert_eq!(write(&sample(&Size::none()), &out).unwrap().len(), 2);
    let blocked = folder.path().join("file");
    fs::write(&blocked, "").unwrap();
    let error = format!("{:#}", write(&evaluation, &blocked).unwrap_err());
    assert!(error.contains("figures: can't be created"), "{error}");
    let error = format!("{:#}", read(&blocked).unwrap_err());
    assert!(error.contains("report.json: can't be read"), "{error}");
    let old = folder.path().join("report.json");
    fs::write(&old, "{\"format\": \"steermap-eval/1\"}").unwrap();
    let error = format!("{:#}", read(folder.path()).unwrap_err());
    let expected = format!(
        "{}: format: found \"steermap-eval/1\", expected \"steermap-eval/2\"",
        old.display()
    );
    assert_eq!(error, expected);
}

#[test]
fn a_number_that_is_none_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut evaluation = sample(&Size::single());
    evaluation.tasks[0].cosine = f64::NAN;
    let error = format!("{:#}", write(&evaluation, folder.path()).unwrap_err());
    assert!(error.contains("tasks[0].cosine"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// What tests/report_in_chromium.mjs looks at.
#[test]
#[ignore = "writes sample reports into the folder that STEERMAP_SAMPLES names"]
fn write_samples() {
    let folder = std::env::var_os("STEERMAP_SAMPLES").expect("STEERMAP_SAMPLES names a folder");
    for (name, mut evaluation) in samples() {
        evaluation.format = Evaluation::FORMAT.to_string();
        write(&evaluation, &Path::new(&folder).join(name.replace(' ', "-"))).unwrap();
    }
}
