//! Prints the stories of the example family, and the pairs and items made from them, as JSON lines; tasks as TOML.

use std::collections::HashSet;
use std::io::{self, BufWriter, Write};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use steermap_examples::stories::{Concept, Labels, PairEnd, Story, items, pairs, task};

/// Little stories from a grammar, with labels.
#[derive(Parser)]
#[command(name = "stories", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Whole stories, one per line.
    Corpus {
        #[command(flatten)]
        series: Series,
        /// Also print each story's labels and the negative log-probability of its text.
        #[arg(long)]
        labels: bool,
    },
    /// Contrast pairs: stories told twice, with one label flipped.
    Pairs {
        /// The label to flip.
        #[arg(long)]
        concept: Concept,
        /// Where both sides end.
        #[arg(long, default_value = "word")]
        cut: PairEnd,
        #[command(flatten)]
        series: Series,
    },
    /// Two-choice items: beginnings that leave a label open, with the next word under each of its values.
    Items {
        /// The label left open.
        #[arg(long)]
        concept: Concept,
        #[command(flatten)]
        series: Series,
    },
    /// The concept as a TOML task for `mapper eval`, which names its files of pairs and items.
    Task {
        /// The concept.
        #[arg(long)]
        concept: Concept,
    },
    /// The generator's entropy, estimated from stories.
    Entropy {
        #[command(flatten)]
        series: Series,
    },
}

#[derive(Args)]
struct Series {
    /// Number of stories, pairs or items.
    #[arg(long)]
    count: usize,
    /// Seed of the series of stories.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Serialize)]
struct StoryLine {
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<Labels>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nats: Option<f64>,
}

/// Means over stories; divide `nats_per_story` by a tokenizer's tokens per story for nats per token.
#[derive(Serialize)]
struct Entropy {
    stories: usize,
    nats_per_story: f64,
    standard_error: f64,
    words_per_story: f64,
    nats_per_word: f64,
    bytes_per_story: f64,
    distinct_words: usize,
}

fn main() -> Result<()> {
    steermap_cpu::check();
    let mut out = BufWriter::new(io::stdout().lock());
    match Cli::parse().command {
        Command::Corpus { series, labels } => {
            for index in 0..series.count as u64 {
                let story = Story::generate(series.seed, index);
                let (text, told) = (story.text(), labels.then_some(story.labels));
                write_line(
                    &mut out,
                    &StoryLine {
                        text,
                        labels: told,
                        nats: labels.then_some(story.nats),
                    },
                )?;
            }
        }
        Command::Pairs { concept, cut, series } => {
            pairs(concept, cut, series.count, series.seed)
                .iter()
                .try_for_each(|pair| write_line(&mut out, pair))?;
        }
        Command::Items { concept, series } => {
            items(concept, series.count, series.seed)
                .iter()
                .try_for_each(|item| write_line(&mut out, item))?;
        }
        Command::Task { concept } => write!(out, "{}", toml::to_string(&task(concept))?)?,
        Command::Entropy { series } => write_line(&mut out, &entropy(&series))?,
    }
    Ok(out.flush()?)
}

fn entropy(series: &Series) -> Entropy {
    let stories: Vec<Story> = (0..series.count as u64)
        .map(|index| Story::generate(series.seed, index))
        .collect();
    let count = stories.len() as f64;
    let mean = |value: &dyn Fn(&Story) -> f64| stories.iter().map(value).sum::<f64>() / count;
    let nats = mean(&|story| story.nats);
    let variance = mean(&|story| (story.nats - nats).powi(2));
    let words = mean(&|story| story.words() as f64);
    let mut distinct = HashSet::new();
    for story in &stories {
        distinct.extend(story.text().split(|c: char| !c.is_alphabetic()).map(str::to_lowercase));
    }
    distinct.remove("");
    Entropy {
        stories: stories.len(),
        nats_per_story: nats,
        standard_error: (variance / count).sqrt(),
        words_per_story: words,
        nats_per_word: nats / words,
        bytes_per_story: mean(&|story| story.text().len() as f64),
        distinct_words: distinct.len(),
    }
}

fn write_line(out: &mut impl Write, value: &impl Serialize) -> Result<()> {
    Ok(writeln!(out, "{}", serde_json::to_string(value)?)?)
}
