//! A figure as a PNG, in the light theme, with a font of the program's own: the same on every machine.

use std::sync::{Arc, LazyLock};

use anyhow::{Context, Result};
use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::{self, fontdb};

use super::colours;

/// Most pixels of a picture: a figure of very many tasks is drawn smaller.
const MAX_PIXELS: f64 = 60e6;

/// DejaVu Sans, regular and bold.
static FONTS: LazyLock<Arc<fontdb::Database>> = LazyLock::new(|| {
    let mut fonts = fontdb::Database::new();
    fonts.load_font_data(dejavu::sans::regular().to_vec());
    fonts.load_font_data(dejavu::sans::bold().to_vec());
    fonts.set_sans_serif_family("DejaVu Sans");
    Arc::new(fonts)
});

/// Draws an SVG of the report on white, `scale` pixels to a unit (less if it is very large).
///
/// # Errors
///
/// Not an SVG that has a size; no memory.
pub(super) fn png(svg: &str, scale: f64) -> Result<Vec<u8>> {
    let options = usvg::Options {
        font_family: "DejaVu Sans".to_string(),
        fontdb: FONTS.clone(),
        ..usvg::Options::default()
    };
    let tree = usvg::Tree::from_str(&colours::in_light(svg), &options).context("found no SVG that can be drawn")?;
    let (width, height) = (f64::from(tree.size().width()), f64::from(tree.size().height()));
    let (scale, pixels) = size((width, height), scale);
    let mut pixmap = Pixmap::new(pixels.0, pixels.1).context("found no memory for a picture")?;
    pixmap.fill(Color::WHITE);
    resvg::render(
        &tree,
        Transform::from_scale(scale as f32, scale as f32),
        &mut pixmap.as_mut(),
    );
    pixmap.encode_png().context("a picture can't be encoded")
}

/// The scale to draw at, and the size in pixels that comes of it.
fn size((width, height): (f64, f64), scale: f64) -> (f64, (u32, u32)) {
    let scale = scale.min((MAX_PIXELS / (width * height)).sqrt());
    let pixels = |length: f64| (length * scale).round().max(1.0) as u32;
    (scale, (pixels(width), pixels(height)))
}

#[cfg(test)]
mod tests {
    use super::super::drawing::{BEGIN, Drawing};
    use super::*;

    fn drawn(drawing: &Drawing) -> Pixmap {
        let svg = drawing.svg("a", "A", "B", "").into_string();
        Pixmap::decode_png(&png(&svg, 2.0).unwrap()).unwrap()
    }

    #[test]
    fn draws_shapes_and_every_sign_that_figures_use() {
        let colour = |pixmap: &Pixmap, x, y| {
            let pixel = pixmap.pixel(x, y).unwrap();
            [pixel.red(), pixel.green(), pixel.blue(), pixel.alpha()]
        };
        for text in [
            "a", "\u{2212}", "\u{b2}", "\u{2192}", "\u{b1}", "\u{2026}", "\u{2713}", "\u{2717}", "\u{2013}",
        ] {
            let mut drawing = Drawing::new(60.0, 20.0);
            drawing.rect((40.0, 0.0), (20.0, 20.0), "native", 1.0);
            let before = drawn(&drawing);
            assert_eq!((before.width(), before.height()), (120, 40));
            assert_eq!(colour(&before, 5, 5), [255; 4]);
            assert_eq!(colour(&before, 100, 20), [0x1b, 0x62, 0xb5, 255]);
            drawing.text((5.0, 15.0), text, BEGIN);
            let after = drawn(&drawing);
            let all = (0..60).flat_map(|x| (0..40).map(move |y| (x, y)));
            let dark = all.filter(|&(x, y)| colour(&after, x, y) != [255; 4]).count();
            assert!(dark > 5, "{text}: {dark} pixels");
        }
    }

    #[test]
    fn very_large_pictures_become_smaller() {
        assert_eq!(size((100.0, 50.0), 2.0), (2.0, (200, 100)));
        let (scale, (width, height)) = size((1000.0, 4e6), 2.0);
        assert!(scale < 0.2 && f64::from(width) * f64::from(height) < 1.01 * MAX_PIXELS);
        assert!(png("<svg", 1.0).is_err());
    }
}
