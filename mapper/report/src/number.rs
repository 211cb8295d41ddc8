//! Numbers for readers: sensible digits and a typographic minus sign.

/// How a number is rounded.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Digits {
    /// This many decimals; from 10000 on, as [`Digits::Auto`].
    Fixed(usize),
    /// About three significant digits.
    Auto,
    /// [`Digits::Auto`] with a plus sign before positive numbers.
    Signed,
}

/// Shown in place of a number that is missing or not finite.
pub(crate) const NONE: &str = "n/a";

/// A rounded number; [`NONE`] if it isn't finite.
pub(crate) fn text(value: f64, digits: Digits) -> String {
    if !value.is_finite() {
        return NONE.to_string();
    }
    let size = value.abs();
    let rounded = match digits {
        Digits::Fixed(decimals) if size < 1e4 => format!("{value:.decimals$}"),
        _ if value == 0.0 => "0".to_string(),
        _ if size >= 1e6 => format!("{value:.2e}"),
        _ if size < 0.000995 => format!("{value:.1e}"),
        // Two decimals from 0.1 on; below, two significant digits. A little more, so that 99.96 is 100.
        _ => {
            let decimals = if size < 0.0995 { 1.0 } else { 2.0 } - (size * 1.0005).log10().floor();
            format!(
                "{value:.*}",
                decimals.clamp(0.0, if size < 0.0995 { 4.0 } else { 2.0 }) as usize
            )
        }
    };
    // A number that rounds to 0 has no sign.
    let digits_of = rounded.split('e').next().unwrap_or_default();
    let zero = digits_of.chars().all(|c| matches!(c, '-' | '0' | '.'));
    let plain = if zero {
        rounded.trim_start_matches('-').to_string()
    } else {
        rounded.replace('-', "\u{2212}")
    };
    let plus = matches!(digits, Digits::Signed) && value > 0.0 && !zero;
    if plus { format!("+{plain}") } else { plain }
}

/// A number with two decimals.
pub(crate) fn two(value: f64) -> String {
    text(value, Digits::Fixed(2))
}

/// A number as in the JSON, for `data-value`.
pub(crate) fn exact(value: f64) -> String {
    serde_json::to_string(&value).unwrap_or_default()
}

/// A whole number with its thousands separated, `12 345`; up to four digits stay together.
pub(crate) fn grouped(value: u64) -> String {
    let digits = value.to_string();
    if digits.len() < 5 {
        return digits;
    }
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups: Vec<&str> = groups.filter_map(|group| std::str::from_utf8(group).ok()).collect();
    // A narrow no-break space.
    groups.join("\u{202f}")
}

/// A layer pair: `14 → 11`, `12+14 → 11`.
pub(crate) fn layers(source: &[usize], target: usize) -> String {
    format!("{} \u{2192} {target}", steermap_maps::map::spell_source_layers(source))
}

/// A count and its noun: `1 task`, `3 tasks`.
pub(crate) fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{} {}", grouped(count as u64), if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_follow_the_size() {
        let auto = |value| text(value, Digits::Auto);
        assert_eq!(auto(0.0), "0");
        assert_eq!(auto(-0.0), "0");
        assert_eq!(auto(1234.5), "1234");
        assert_eq!(auto(99.96), "100");
        assert_eq!(auto(12.345), "12.3");
        assert_eq!(auto(9.996), "10.0");
        assert_eq!(auto(-1.234), "\u{2212}1.23");
        assert_eq!(auto(0.05321), "0.053");
        assert_eq!(auto(0.00532), "0.0053");
        assert_eq!(auto(3.16e-6), "3.2e\u{2212}6");
        assert_eq!(auto(2.5e7), "2.50e7");
        assert_eq!(auto(f64::NAN), NONE);
        assert_eq!(text(0.5, Digits::Signed), "+0.50");
        assert_eq!(text(-0.5, Digits::Signed), "\u{2212}0.50");
        assert_eq!(text(0.0, Digits::Signed), "0");
        assert_eq!(text(-0.001, Digits::Fixed(2)), "0.00");
        assert_eq!(text(-1e9, Digits::Fixed(2)), "\u{2212}1.00e9");
    }

    #[test]
    fn whole_numbers_are_grouped_from_five_digits() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1024), "1024");
        assert_eq!(grouped(31489), "31\u{202f}489");
        assert_eq!(grouped(1234567), "1\u{202f}234\u{202f}567");
        assert_eq!(counted(1, "task", "tasks"), "1 task");
        assert_eq!(counted(0, "task", "tasks"), "0 tasks");
    }

    #[test]
    fn layers_are_named() {
        assert_eq!(layers(&[14], 11), "14 \u{2192} 11");
        assert_eq!(layers(&[12, 14], 11), "12+14 \u{2192} 11");
    }
}
