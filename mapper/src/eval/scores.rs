//! Scores of generated texts, the strength that they choose, and how far propensity agrees with them. No model runs
//! here.

use std::collections::HashSet;

use steermap_report::result::{
    Agreement, ChosenStrength, Estimate, GeneratedText, JudgedText, SteeringKind, TextPrompt, TextScores, TextSetting,
};

use super::analysis;
use crate::statistics::{Resamples, harmonic_mean, mean, spearman, wilson_interval};

/// Tokens in a run that counts as repeated.
const RUN: usize = 3;

/// The negative log likelihood of a text by the unsteered target, in nats over all of its tokens, behind its own prompt
/// and behind each of some others.
pub struct Nats {
    /// Tokens.
    pub tokens: usize,
    /// Behind its own prompt, and then behind the others.
    pub behind: Vec<f64>,
}

impl Nats {
    /// Per token behind its own prompt; `None` without tokens.
    pub fn per_token(&self) -> Option<f64> {
        let own = self.behind.first()?;
        (self.tokens > 0).then(|| own / self.tokens as f64)
    }

    /// The probability that the text follows its own prompt and none of the others, if each is as likely beforehand
    /// (Bayes):
    ///
    /// ```text
    /// exp(-own) / (exp(-own) + sum_j exp(-other_j))
    /// ```
    ///
    /// 0 without tokens.
    pub fn answers(&self) -> f64 {
        let Some((own, others)) = self.behind.split_first().filter(|_| self.tokens > 0) else {
            return 0.0;
        };
        1.0 / (1.0 + others.iter().map(|other| (own - other).exp()).sum::<f64>())
    }
}

/// The share of a text's runs of three tokens that occur earlier in it; 0 for fewer tokens.
pub fn repetition(tokens: &[u32]) -> f64 {
    let mut seen = HashSet::new();
    let runs = tokens.windows(RUN);
    let count = runs.len();
    let repeated = runs.filter(|run| !seen.insert(*run)).count();
    repeated as f64 / count.max(1) as f64
}

/// `min(1, exp(usual - nats)) * (1 - repetition)`, in nats per token; `usual` is the mean of the unsteered texts. 0
/// without tokens.
pub fn fluency(nats: Option<f64>, usual: f64, repetition: f64) -> f64 {
    nats.map_or(0.0, |nats| (usual - nats).exp().min(1.0) * (1.0 - repetition))
}

/// The harmonic mean of whether a text shows the concept, is fluent and answers, as in AxBench (arXiv 2501.17148).
pub fn score(concept: bool, fluency: f64, answers: f64) -> f64 {
    harmonic_mean(&[f64::from(u8::from(concept)), fluency, answers]).unwrap_or(0.0)
}

/// The harmonic mean of a judge's scores, from 0 to 1.
pub fn judged(concept: u8, fluency: u8, answers: u8) -> JudgedText {
    let scores = [concept, fluency, answers].map(|score| f64::from(score) / 2.0);
    JudgedText {
        concept,
        fluency,
        answers,
        score: harmonic_mean(&scores).unwrap_or(0.0),
    }
}

/// The means over texts.
fn scores(texts: &[&GeneratedText]) -> TextScores {
    let over = |of: &dyn Fn(&GeneratedText) -> f64| mean(&texts.iter().map(|text| of(text)).collect::<Vec<_>>());
    let judged: Vec<f64> = texts.iter().filter_map(|text| Some(text.judged?.score)).collect();
    TextScores {
        texts: texts.len(),
        concept: over(&|text| f64::from(u8::from(text.concept))),
        fluency: over(&|text| text.fluency),
        answers: over(&|text| text.answers),
        score: over(&|text| text.score),
        judged: (!judged.is_empty()).then(|| mean(&judged)),
        judged_texts: judged.len(),
    }
}

/// The texts of a setting, on one half of the prompts.
fn of_half<'a>(
    texts: &'a [GeneratedText],
    prompts: &[TextPrompt],
    (kind, alpha): (SteeringKind, f64),
    finding: bool,
) -> Vec<&'a GeneratedText> {
    let of = |text: &&GeneratedText| {
        text.kind == kind && text.alpha == alpha && prompts.get(text.prompt).is_some_and(|p| p.finding == finding)
    };
    texts.iter().filter(of).collect()
}

/// A task's texts by setting, the chosen strengths, and the agreement with propensity.
pub struct TextSummary {
    /// By vector and alpha.
    pub settings: Vec<TextSetting>,
    /// By kind.
    pub chosen: Vec<ChosenStrength>,
    /// With propensity.
    pub agreement: Agreement,
}

/// Summarizes texts by setting, each given as `(kind, alpha, propensity)`.
pub fn summarize(
    texts: &[GeneratedText],
    prompts: &[TextPrompt],
    known: impl Iterator<Item = (SteeringKind, f64, Option<f64>)>,
    (resamples, seed): (usize, u64),
) -> TextSummary {
    let of = |(kind, alpha, propensity)| TextSetting {
        kind,
        alpha,
        propensity,
        finding: scores(&of_half(texts, prompts, (kind, alpha), true)),
        measuring: scores(&of_half(texts, prompts, (kind, alpha), false)),
    };
    let settings: Vec<TextSetting> = known.map(of).collect();
    TextSummary {
        chosen: chosen(texts, prompts, &settings, (resamples, seed)),
        agreement: agreement(&settings),
        settings,
    }
}

/// By kind, the setting with the best score on the finding prompts; the weaker of equal ones.
fn chosen(
    texts: &[GeneratedText],
    prompts: &[TextPrompt],
    settings: &[TextSetting],
    (resamples, seed): (usize, u64),
) -> Vec<ChosenStrength> {
    let mut kinds: Vec<SteeringKind> = Vec::new();
    for setting in settings {
        if !kinds.contains(&setting.kind) {
            kinds.push(setting.kind);
        }
    }
    let best = |kind: SteeringKind| {
        let of_kind = settings.iter().filter(|setting| setting.kind == kind);
        of_kind.reduce(|best, setting| {
            let (a, b) = (best.finding.score, setting.finding.score);
            if b > a || (b == a && setting.alpha < best.alpha) {
                setting
            } else {
                best
            }
        })
    };
    let of = |kind: SteeringKind| {
        let alpha = best(kind)?.alpha;
        let texts = of_half(texts, prompts, (kind, alpha), false);
        let over = |of: fn(&GeneratedText) -> Option<f64>| {
            let scored: Vec<(usize, f64)> = texts.iter().filter_map(|text| Some((text.prompt, of(text)?))).collect();
            over_prompts(&scored, resamples, seed)
        };
        Some(ChosenStrength {
            kind,
            alpha,
            score: over(|text| Some(text.score))?,
            judged: over(|text| Some(text.judged?.score)),
        })
    };
    kinds.into_iter().filter_map(of).collect()
}

/// The mean of scores, each with its prompt; the interval is over prompts, clamped to 0 to 1 as scores are. Where all
/// scores are equal, a bootstrap interval would have no width, so it is Wilson's, with as many trials as prompts.
/// `None` without scores.
fn over_prompts(scored: &[(usize, f64)], resamples: usize, seed: u64) -> Option<Estimate> {
    let (prompts, scores): (Vec<usize>, Vec<f64>) = scored.iter().copied().unzip();
    let first = *scores.first()?;
    let resamples = Resamples::clustered(resamples, &prompts, seed);
    let Estimate { value, low, high } = analysis::estimate(&scores, &resamples);
    let equal = scores.iter().all(|score| *score == first) || resamples.clusters() < 2;
    let (low, high) = if equal {
        wilson_interval(value, resamples.clusters() as f64)
    } else {
        (low, high)
    };
    Some(analysis::bounded(Estimate { value, low, high }))
}

/// How far propensity ranks the settings as the scores do, over the settings that have a propensity and both halves of
/// the prompts.
fn agreement(settings: &[TextSetting]) -> Agreement {
    let ranked: Vec<&TextSetting> = settings.iter().filter(|setting| setting.propensity.is_some()).collect();
    let propensities: Vec<f64> = ranked.iter().filter_map(|setting| setting.propensity).collect();
    let with = |of: fn(&TextScores) -> Option<(f64, usize)>| {
        // Both halves, weighted by their numbers of texts.
        let both = |setting: &&TextSetting| {
            let halves: Vec<(f64, usize)> = [setting.finding, setting.measuring].iter().filter_map(of).collect();
            let texts: usize = halves.iter().map(|(_, texts)| texts).sum();
            let sum: f64 = halves.iter().map(|(score, texts)| score * *texts as f64).sum();
            (texts > 0).then(|| sum / texts as f64)
        };
        let scores: Vec<f64> = ranked.iter().map(both).collect::<Option<_>>()?;
        spearman(&propensities, &scores)
    };
    Agreement {
        settings: ranked.len(),
        concept: with(|scores| Some((scores.concept, scores.texts))),
        score: with(|scores| Some((scores.score, scores.texts))),
        judged: with(|scores| Some((scores.judged?, scores.judged_texts))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likelihoods_by_hand() {
        let nats = Nats {
            tokens: 4,
            behind: vec![8.0, 8.0 + 3f64.ln(), 8.0 + 6f64.ln()],
        };
        assert_eq!(nats.per_token(), Some(2.0));
        // 1 / (1 + 1/3 + 1/6)
        assert!((nats.answers() - 2.0 / 3.0).abs() < 1e-12);
        assert!((fluency(nats.per_token(), 1.5, 0.25) - 0.75 * (-0.5f64).exp()).abs() < 1e-12);
        // A text that is likelier than usual is not more than fluent.
        assert_eq!(fluency(Some(1.0), 1.5, 0.0), 1.0);
        let empty = Nats {
            tokens: 0,
            behind: vec![0.0, 0.0],
        };
        assert_eq!((empty.per_token(), empty.answers()), (None, 0.0));
        assert_eq!(fluency(None, 1.5, 0.0), 0.0);
        let far = Nats {
            tokens: 30,
            behind: vec![2000.0, 10.0],
        };
        assert_eq!(far.answers(), 0.0);
    }

    #[test]
    fn repeated_runs_by_hand() {
        assert_eq!(repetition(&[1, 2, 3, 4]), 0.0);
        // 123 231 312 123 231: the last two were there.
        assert_eq!(repetition(&[1, 2, 3, 1, 2, 3, 1]), 0.4);
        assert_eq!(repetition(&[5; 6]), 0.75);
        assert_eq!((repetition(&[]), repetition(&[1, 1])), (0.0, 0.0));
    }

    #[test]
    fn a_score_is_nothing_without_one_of_its_parts() {
        assert_eq!(score(false, 1.0, 1.0), 0.0);
        assert_eq!(score(true, 0.0, 1.0), 0.0);
        // 3 / (1 + 2 + 4)
        assert!((score(true, 0.5, 0.25) - 3.0 / 7.0).abs() < 1e-12);
        assert_eq!((judged(2, 2, 2).score, judged(2, 0, 2).score), (1.0, 0.0));
        assert!((judged(1, 2, 2).score - 3.0 / 4.0).abs() < 1e-12);
    }

    fn text(kind: SteeringKind, alpha: f64, prompt: usize, score: f64) -> GeneratedText {
        GeneratedText {
            prompt,
            number: 0,
            kind,
            alpha,
            text: String::new(),
            concept: score > 0.0,
            perplexity: None,
            repetition: 0.0,
            fluency: score,
            answers: score,
            score,
            judged: None,
        }
    }

    #[test]
    fn one_half_chooses_and_the_other_measures() {
        let prompts: Vec<TextPrompt> = (0..4)
            .map(|number| TextPrompt {
                text: number.to_string(),
                finding: number % 2 == 0,
            })
            .collect();
        // At 0.1 the finding prompts score more, at 0.2 the measuring ones.
        let scored = [
            (SteeringKind::Unsteered, 0.0, [0.0, 0.1]),
            (SteeringKind::Mapped, 0.1, [0.6, 0.2]),
            (SteeringKind::Mapped, 0.2, [0.5, 0.9]),
            (SteeringKind::Mapped, 0.3, [0.6, 0.3]),
            (SteeringKind::Prompted, 0.0, [0.3, 0.3]),
        ];
        let texts: Vec<GeneratedText> = scored
            .iter()
            .flat_map(|&(kind, alpha, halves)| (0..4).map(move |i| text(kind, alpha, i, halves[i % 2])))
            .collect();
        let measured = [
            (SteeringKind::Unsteered, 0.0, Some(-1.0)),
            (SteeringKind::Mapped, 0.1, Some(0.5)),
            (SteeringKind::Mapped, 0.2, Some(1.0)),
            (SteeringKind::Mapped, 0.3, Some(1.5)),
            (SteeringKind::Prompted, 0.0, None),
        ];
        let summary = summarize(&texts, &prompts, measured.into_iter(), (100, 1));
        let (chosen, agreement) = (summary.chosen, summary.agreement);
        let found: Vec<(SteeringKind, f64, f64)> = chosen
            .iter()
            .map(|chosen| (chosen.kind, chosen.alpha, chosen.score.value))
            .collect();
        let expected = [
            (SteeringKind::Unsteered, 0.0, 0.1),
            (SteeringKind::Mapped, 0.1, 0.2),
            (SteeringKind::Prompted, 0.0, 0.3),
        ];
        for ((kind, alpha, score), (expected, at, value)) in found.into_iter().zip(expected) {
            assert_eq!((kind, alpha), (expected, at));
            assert!((score - value).abs() < 1e-12, "{kind:?}: {score}");
        }
        // Means over both halves: 0.05, 0.4, 0.7, 0.45 against -1, 0.5, 1, 1.5: ranks 1 2 4 3 against 1 2 3 4.
        assert_eq!(agreement.settings, 4);
        assert!((agreement.score.unwrap() - 0.8).abs() < 1e-12);
        assert_eq!(agreement.judged, None);
    }

    #[test]
    fn prompts_that_are_alike_do_not_make_certain() {
        // One prompt, however many texts; three prompts that all score 0.
        let alone = over_prompts(&[(0, 0.8), (0, 0.6)], 200, 1).unwrap();
        assert!(
            (alone.value - 0.7).abs() < 1e-12 && alone.low < 0.2 && alone.high > 0.9,
            "{alone:?}"
        );
        let nothing = over_prompts(&[(0, 0.0), (1, 0.0), (2, 0.0)], 200, 1).unwrap();
        assert_eq!((nothing.value, nothing.low), (0.0, 0.0));
        assert!((nothing.high - 0.5615).abs() < 1e-3, "{nothing:?}");
        let some = over_prompts(&[(0, 0.2), (1, 0.4), (2, 0.3)], 200, 1).unwrap();
        assert!(some.low >= 0.0 && some.low < 0.25 && some.high > 0.35, "{some:?}");
        assert_eq!(over_prompts(&[], 200, 1), None);
    }
}
