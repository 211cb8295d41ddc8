//! `mapper combine`: arithmetic on vector files. No model runs.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;
use steermap_mapper::vector::arithmetic::{Combination, NamedVector, Term};
use steermap_mapper::vector::table;

use super::{check_inputs, check_out, command_line};

/// Arguments of `mapper combine`.
#[derive(clap::Args)]
pub struct CombineArgs {
    /// The vector files to add, all of one model: FILE, or FACTOR*FILE as in `-0.5*calm.toml`
    #[arg(required = true, value_name = "TERM")]
    terms: Vec<Term>,
    /// The vector file to write (.toml; its tensors go beside it)
    #[arg(long)]
    out: PathBuf,
    /// What the result stands for (default: the sum as text)
    #[arg(long)]
    concept: Option<String>,
    /// Scale each term to norm 1 first, at every layer
    #[arg(long)]
    normalize: bool,
    /// A vector file that the result is made orthogonal to; may be given several times
    #[arg(long, value_name = "FILE")]
    orthogonal_to: Vec<PathBuf>,
    /// Accept vectors that were found on other weights than the first
    #[arg(long)]
    ignore_fingerprints: bool,
}

/// The command line's arguments, with a space in front of each term with a negative factor. Clap takes an argument that
/// begins with a dash for an option; with its `allow_hyphen_values`, options behind the first term would become terms.
pub fn shield_terms(args: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    args.map(|arg| match arg.to_str() {
        Some(text) if is_negative_term(text) => format!(" {text}").into(),
        _ => arg,
    })
}

fn is_negative_term(text: &str) -> bool {
    let factor = text.strip_prefix('-').and_then(|text| text.split_once('*'));
    factor.is_some_and(|(factor, _)| factor.parse::<f64>().is_ok())
}

/// Combines vectors and writes the result.
pub fn combine(args: CombineArgs) -> Result<()> {
    check_out(&args.out, "toml")?;
    let inputs = args.terms.iter().map(|term| &term.path).chain(&args.orthogonal_to);
    check_inputs(&args.out, inputs.map(PathBuf::as_path))?;
    let terms = args
        .terms
        .iter()
        .map(|term| Ok((term.factor, NamedVector::load(&term.path)?)));
    let combination = Combination {
        terms: terms.collect::<Result<_>>()?,
        orthogonal_to: args
            .orthogonal_to
            .iter()
            .map(|path| NamedVector::load(path))
            .collect::<Result<_>>()?,
        normalize: args.normalize,
        check_fingerprints: !args.ignore_fingerprints,
        concept: args.concept,
        command: command_line(),
    };
    let combined = combination.run()?;
    combined.vector.save(&args.out)?;
    for note in &combined.notes {
        println!("note: {note}");
    }
    print!("{}", table(&combined.vector));
    println!("{}", combined.vector.header().method);
    println!("wrote {}", args.out.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_factors_are_not_options() {
        let args = ["mapper", "-1*a.toml", "-x*a", "--out", "-3", "2*a.toml", "a.toml"];
        let shielded: Vec<OsString> = shield_terms(args.iter().map(OsString::from)).collect();
        let expected = ["mapper", " -1*a.toml", "-x*a", "--out", "-3", "2*a.toml", "a.toml"];
        assert_eq!(shielded, expected);
        assert_eq!(" -1*a.toml".parse::<Term>().unwrap().factor, -1.0);
    }
}
