//! A drawing: shapes and texts of the plotting library, and the SVG that they become.

use std::f64::consts::TAU;

use kuva::backend::svg::SvgBackend;
use kuva::render::color::Color;
use kuva::render::render::{PathData, Primitive, Scene, TextAnchor};
use maud::{Markup, PreEscaped, html};

use super::colours::css;
use crate::plain::clean;

/// Size of most texts.
pub(super) const SMALL: u32 = 11;
/// The colour that is strokes: unlike any overlap of areas.
pub(super) const HATCH: &str = "hatch";

/// How a line looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stroke {
    pub colour: &'static str,
    pub width: f64,
    /// SVG's `stroke-dasharray`; empty for none.
    pub dash: &'static str,
}

pub(super) const fn stroke(colour: &'static str, width: f64, dash: &'static str) -> Stroke {
    Stroke { colour, width, dash }
}

/// How a text looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Font<'a> {
    size: u32,
    colour: &'a str,
    anchor: TextAnchor,
    bold: bool,
    turn: f64,
}

/// What stands beside the data, begins, is centred or ends at its place.
pub(super) const BEGIN: Font = font(TextAnchor::Start);
pub(super) const MIDDLE: Font = font(TextAnchor::Middle);
pub(super) const END: Font = font(TextAnchor::End);

const fn font(anchor: TextAnchor) -> Font<'static> {
    Font {
        size: SMALL,
        colour: "muted",
        anchor,
        bold: false,
        turn: 0.0,
    }
}

impl<'a> Font<'a> {
    pub fn of(mut self, size: u32, colour: &'a str, bold: bool) -> Self {
        (self.size, self.colour, self.bold) = (size, colour, bold);
        self
    }

    /// Turned clockwise.
    pub fn turned(self, turn: f64) -> Self {
        Self { turn, ..self }
    }
}

/// A colour or the strokes, as the library takes them.
pub(super) fn fill(colour: &str) -> String {
    match colour {
        HATCH => format!("url(#{HATCH})"),
        colour => css(colour),
    }
}

/// Shapes and texts; the origin is at the top left.
#[derive(Debug)]
pub(crate) struct Drawing {
    pub(super) scene: Scene,
}

impl Drawing {
    pub(super) fn new(width: f64, height: f64) -> Self {
        let scene = Scene::new(width, height);
        Self { scene }
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: Stroke) {
        self.scene.add(Primitive::Line {
            x1: from.0,
            y1: from.1,
            x2: to.0,
            y2: to.1,
            stroke: Color::from(css(stroke.colour)),
            stroke_width: stroke.width,
            stroke_dasharray: (!stroke.dash.is_empty()).then(|| stroke.dash.to_string()),
        });
    }

    pub(super) fn rect(&mut self, corner: (f64, f64), size: (f64, f64), colour: &str, opacity: f64) {
        self.shape(rectangle(corner, size), Some(colour), None, opacity);
    }

    /// The outline of a rectangle.
    pub(super) fn frame(&mut self, corner: (f64, f64), size: (f64, f64), colour: &str) {
        self.shape(rectangle(corner, size), None, Some(colour), 1.0);
    }

    /// A closed outline, filled.
    pub(super) fn polygon(&mut self, points: &[(f64, f64)], colour: &str) {
        let corners: Vec<String> = points.iter().map(|(x, y)| format!("{x:.2},{y:.2}")).collect();
        self.shape(format!("M{}Z", corners.join("L")), Some(colour), None, 1.0);
    }

    fn shape(&mut self, d: String, inside: Option<&str>, outline: Option<&str>, opacity: f64) {
        self.scene.add(Primitive::Path(Box::new(PathData {
            d,
            fill: inside.map(|colour| Color::from(fill(colour))),
            stroke: outline.map_or(Color::None, |colour| Color::from(css(colour))),
            stroke_width: f64::from(u8::from(outline.is_some())),
            opacity: (opacity < 1.0).then_some(opacity),
            stroke_dasharray: None,
        })));
    }

    /// A regular polygon that stands on an edge or a corner.
    pub(super) fn regular(&mut self, (x, y): (f64, f64), size: f64, corners: u8, colour: &str) {
        let corner = |index: u8| (f64::from(index) / f64::from(corners) * TAU).sin_cos();
        let points = (0..corners)
            .map(corner)
            .map(|(sin, cos)| (x + size * sin, y - size * cos));
        self.polygon(&points.collect::<Vec<_>>(), colour);
    }

    /// A diamond; hollow ones show the ground.
    pub(super) fn diamond(&mut self, at: (f64, f64), size: f64, colour: &str, hollow: bool) {
        self.regular(at, size, 4, colour);
        if hollow {
            self.regular(at, size - 2.2, 4, "bg");
        }
    }

    /// The head of an arrow to the left (-1) or right (1): there is more beyond the axis.
    pub(super) fn arrow(&mut self, (x, y): (f64, f64), side: f64, colour: &str) {
        let back = x - 7.0 * side;
        self.polygon(&[(x + 2.0 * side, y), (back, y - 4.0), (back, y + 4.0)], colour);
    }

    pub(super) fn text(&mut self, (x, y): (f64, f64), text: &str, font: Font) {
        self.scene.add(Primitive::Text {
            x,
            y,
            content: plain(text),
            size: font.size,
            anchor: font.anchor,
            rotate: (font.turn != 0.0).then_some(font.turn),
            bold: font.bold,
            color: Some(Color::from(css(font.colour))),
        });
    }

    /// A number of the evaluation, with the unrounded one in `data-value`.
    pub(super) fn number(&mut self, at: (f64, f64), text: &str, value: f64, font: Font) {
        self.group(None, Some(format!("data-value=\"{}\"", crate::number::exact(value))));
        self.text(at, text, font);
        self.scene.add(Primitive::GroupEnd);
    }

    /// Another drawing with its corner at `at`.
    pub(super) fn place(&mut self, at: (f64, f64), other: Drawing) {
        self.group(Some(format!("translate({:.2},{:.2})", at.0, at.1)), None);
        self.scene.elements.extend(other.scene.elements);
        self.scene.add(Primitive::GroupEnd);
    }

    fn group(&mut self, transform: Option<String>, extra_attrs: Option<String>) {
        let title = None;
        self.scene.add(Primitive::GroupStart {
            transform,
            title,
            extra_attrs,
        });
    }

    /// The drawing as SVG. `id` is unique in the page; `style` is of the element.
    pub(super) fn svg(&self, id: &str, title: &str, alt: &str, style: &str) -> Markup {
        let [width, height] = [self.scene.width, self.scene.height].map(|length| format!("{length:.0}"));
        let hatch = format!("{id}-{HATCH}");
        let content = self.content(&hatch);
        html! {
            svg xmlns="http://www.w3.org/2000/svg" viewBox={ "0 0 " (width) " " (height) } width=(width) height=(height)
                style=(style) fill=(css("muted")) font-family="system-ui, sans-serif" role="img"
                aria-labelledby={ (id) "-title " (id) "-alt" } {
                title id={ (id) "-title" } { (clean(title)) }
                desc id={ (id) "-alt" } { (clean(alt)) }
                @if content.contains(&hatch) {
                    defs { pattern id=(hatch) width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                        path d="M0 0V5" stroke=(css("random")) stroke-width="1.6" {}
                    } }
                }
                (PreEscaped(content))
            }
        }
    }

    /// What is inside of the SVG: the library's own element, its stamp and the ground (a rectangle) are not of use in a
    /// page.
    fn content(&self, hatch: &str) -> String {
        let svg = SvgBackend::new().render_scene(&self.scene);
        let begin = svg.find("/>").map_or(0, |end| end + 2);
        clean(&svg[begin..svg.rfind("</svg>").unwrap_or(svg.len())].replace(&fill(HATCH), &format!("url(#{hatch})")))
    }
}

fn rectangle((x, y): (f64, f64), (width, height): (f64, f64)) -> String {
    format!("M{x:.2} {y:.2}h{width:.2}v{height:.2}h{:.2}Z", -width)
}

/// A text that the library shows as it is: it would read `$...$` as mathematics.
pub(super) fn plain(text: &str) -> String {
    text.replace("url(#", "url (#").replace('$', "\\$")
}

/// About how wide a text is at a font size: fonts differ, so this errs on the wide side.
pub(super) fn text_width(text: &str, size: u32) -> f64 {
    let ems = text.chars().map(|c| match c {
        c if "ijl.,:;!|' ".contains(c) => 0.33,
        c if "()[]ftr-".contains(c) => 0.42,
        c if c.is_uppercase() || "mw@+=<>\u{2192}\u{2212}".contains(c) => 0.9,
        c if c >= '\u{1100}' => 1.0,
        _ => 0.63,
    });
    ems.sum::<f64>() * f64::from(size)
}

/// The widest of several texts.
pub(super) fn widest<'a>(texts: impl IntoIterator<Item = &'a String>, size: u32) -> f64 {
    texts.into_iter().map(|text| text_width(text, size)).fold(0.0, f64::max)
}

/// A text cut to a width, with an ellipsis where it was cut.
pub(super) fn fit(text: &str, size: u32, width: f64) -> String {
    if text_width(text, size) <= width {
        return text.to_string();
    }
    let mut cut = text.to_string();
    while cut.pop().is_some() && text_width(&cut, size) + f64::from(size) > width {}
    format!("{}\u{2026}", cut.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_to_a_width() {
        assert_eq!(fit("mood", 12, 100.0), "mood");
        let cut = fit(&"word ".repeat(40), 12, 100.0);
        assert!(cut.ends_with('\u{2026}') && text_width(&cut, 12) <= 112.0, "{cut}");
    }

    #[test]
    fn dollars_and_signs_stay_what_they_are() {
        for text in ["$x^2$ and $5", "\\$a\\$", "<b>&\"'", "kuva clip 3", "\\alpha $\\alpha$"] {
            let mut drawing = Drawing::new(10.0, 10.0);
            drawing.text((0.0, 5.0), text, BEGIN);
            let svg = drawing.svg("a", "A", "B", "").into_string();
            let document = roxmltree::Document::parse(&svg).unwrap();
            let shown = document.descendants().find(|node| node.has_tag_name("text")).unwrap();
            assert_eq!(shown.text(), Some(text));
        }
    }
}
