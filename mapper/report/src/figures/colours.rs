//! Colours: CSS variables, so that figures follow the page's theme; for a PNG the light ones are put in.

/// Steps of a ramp: odd, so that the middle one of the diverging ramp is nothing.
pub(crate) const STEPS: usize = 13;

/// The variables as CSS rules: light, and dark where the reader asks for it.
pub(crate) const RULES: &str = include_str!("../colours.css");

/// A colour by its name, as figures and the page use it.
pub(crate) fn css(name: &str) -> String {
    format!("var(--{name})")
}

/// An SVG with the light theme's colours in the place of the variables.
pub(crate) fn in_light(svg: &str) -> String {
    let mut parts = svg.split("var(--");
    let mut text = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let (name, rest) = part.split_once(')').unwrap_or((part, ""));
        match light(name) {
            Some(light) => text.extend([light, rest]),
            None => text.extend(["var(--", part]),
        }
    }
    text
}

/// A variable's value in the light theme, which comes first.
fn light(name: &str) -> Option<&'static str> {
    let (_, rest) = RULES.split_once(&format!("--{name}:"))?;
    rest.split(';').next()
}

/// The step of a ramp for a value on a scale from `low` to `high`; what is outside takes the end's.
pub(crate) fn step(value: f64, low: f64, high: f64) -> usize {
    let position = if high > low { (value - low) / (high - low) } else { 0.5 };
    // `as` brings what is negative or no number to 0.
    ((position * STEPS as f64) as usize).min(STEPS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Contrast ratio of two colours (WCAG 2).
    fn ratio(a: &str, b: &str) -> f64 {
        let luminance = |colour: &str| {
            let linear = [1, 3, 5].map(|at| {
                let c = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
                if c <= 0.04045 {
                    c / 12.92
                } else {
                    ((c + 0.055) / 1.055).powf(2.4)
                }
            });
            0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        };
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn contrast_is_that_of_the_standard() {
        assert!((ratio("#000000", "#ffffff") - 21.0).abs() < 1e-9);
        // The grey that is known as the lightest that passes on white.
        assert!((ratio("#767676", "#ffffff") - 4.54).abs() < 0.005);
    }

    #[test]
    fn text_is_readable_in_both_themes() {
        let (first, second) = RULES.split_once("color-scheme:dark;").unwrap();
        let check = |name: &str, ground: &str, least: f64| {
            for theme in [first, second] {
                let find = |name: &str| &theme.split_once(&format!("--{name}:")).unwrap().1[..7];
                let (a, b) = (find(name), find(ground));
                assert!(ratio(a, b) >= least, "{name} {a} on {b}: {}", ratio(a, b));
            }
        };
        for ground in ["bg", "surface"] {
            for name in ["ink", "muted", "accent", "native", "mapped", "unmapped", "good", "bad"] {
                check(name, ground, 4.5);
            }
            // Lines of figures need 3 to 1.
            for name in ["random", "axis"] {
                check(name, ground, 3.0);
            }
        }
        for ramp in ["seq", "div"] {
            for step in 0..STEPS {
                check(&format!("{ramp}-ink-{step}"), &format!("{ramp}-{step}"), 4.5);
            }
        }
    }

    #[test]
    fn variables_are_replaced_and_nothing_else() {
        assert_eq!(
            in_light("<a fill=\"var(--bg)\" b=\"var(--ink)\"/>"),
            "<a fill=\"#ffffff\" b=\"#1b1f24\"/>"
        );
        assert_eq!(in_light("var(--no) var(--bg"), "var(--no) #ffffff");
        assert_eq!(in_light(""), "");
    }

    #[test]
    fn steps_cover_the_scale() {
        assert_eq!(step(0.0, 0.0, 1.0), 0);
        assert_eq!(step(1.0, 0.0, 1.0), 12);
        assert_eq!(step(-3.0, 0.0, 1.0), 0);
        assert_eq!(step(7.0, 0.0, 1.0), 12);
        assert_eq!(step(0.0, -2.0, 2.0), 6);
        assert_eq!(step(0.0, 0.0, 0.0), 6);
        assert_eq!(step(f64::NAN, 0.0, 1.0), 0);
    }
}
