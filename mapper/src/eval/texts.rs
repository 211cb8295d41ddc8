//! Generates and scores the texts of one task: with native, mapped and control vectors at several strengths, without
//! steering, and with the concept asked for in the prompt instead.

use anyhow::{Context, Result, ensure};
use steermap_report::result::{GeneratedText, Generation, SteeringKind, TaskResult, TextPrompt};

use super::analysis::Propensities;
use super::baseline;
use super::journal::Journal;
use super::judge::{Judge, Question};
use super::measure::{Bench, PreparedTask, ScaledDirection};
use super::scores::{self, Nats, TextSummary};
use crate::session::{Continuation, ContinuationRequest};
use crate::statistics::mean;
use crate::tasks;

/// Fewest prompts: one to choose the strength and one to measure.
pub const LEAST_PROMPTS: usize = 2;
/// Maximum number of other prompts that a text's likelihood is compared with.
const OTHERS: usize = 2;

/// How many texts are generated, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextDraws {
    /// Number of strengths among the alphas above 0.
    pub alphas: usize,
    /// Texts per prompt and strength: the first is greedy, the others are sampled. 0: none.
    pub per_prompt: usize,
    /// Maximum number of tokens of a text.
    pub max_tokens: usize,
}

impl TextDraws {
    /// The alphas above 0 at which texts are generated: evenly spaced, including the largest.
    pub fn strengths(&self, alphas: &[f64]) -> Vec<f64> {
        let upwards: Vec<f64> = alphas.iter().copied().filter(|alpha| *alpha > 0.0).collect();
        let count = self.alphas.min(upwards.len());
        (1..=count)
            .map(|place| upwards[(upwards.len() * place).div_ceil(count) - 1])
            .collect()
    }

    /// Roughly the number of forward passes that a task's texts and their scores take, plus the number of texts.
    pub fn passes(&self, task: &tasks::Task, alphas: usize, measuring: usize) -> usize {
        let Some(generation) = &task.generation else { return 0 };
        let prompts = generation.prompts.len();
        if prompts < LEAST_PROMPTS || self.per_prompt == 0 {
            return 0;
        }
        let alphas = self.alphas.min(alphas);
        let texts = (3 * alphas + 2) * self.per_prompt * prompts;
        texts * (1 + OTHERS.min(prompts - 1) + 1) + alphas * self.per_prompt * measuring
    }
}

/// Propensities of the measuring half at the decisive layer.
pub struct DecisivePropensities<'a> {
    /// The alphas of the propensities.
    pub alphas: &'a [f64],
    /// Without steering, by item.
    pub unsteered: &'a [f64],
    /// With the native vector.
    pub native: &'a Propensities,
    /// With the mapped vector.
    pub mapped: &'a Propensities,
}

/// What steers the texts of a setting, and the propensity there.
struct Setting {
    kind: SteeringKind,
    alpha: f64,
    propensity: Option<f64>,
    /// One for all texts, or one by number of the text.
    directions: Vec<ScaledDirection>,
}

/// A prompt as the target's tokens.
struct TargetPrompt {
    bare: Vec<u32>,
    /// With the instruction or examples of the prompting baseline in front.
    asked: Option<Vec<u32>>,
}

/// A text before its scores, which need the other texts too.
struct UnscoredText {
    prompt: usize,
    number: usize,
    setting: usize,
    continuation: Continuation,
    nats: Nats,
}

impl Bench<'_> {
    /// Generates and scores a task's texts; `None` of a task without prompts, or if no strength is above 0.
    ///
    /// # Errors
    ///
    /// An error of the engine or the judge, a stop, texts without a token.
    pub async fn texts(
        &mut self,
        task: &PreparedTask<'_>,
        controls: &[ScaledDirection],
        measured: &DecisivePropensities<'_>,
        draws: &TextDraws,
        (resamples, seed): (usize, u64),
    ) -> Result<Option<Generation>> {
        let strengths = draws.strengths(measured.alphas);
        let generation = task.task.generation.as_ref();
        let generation = generation.filter(|texts| texts.prompts.len() >= LEAST_PROMPTS);
        let Some(generation) = generation.filter(|_| draws.per_prompt > 0 && !strengths.is_empty()) else {
            return Ok(None);
        };
        let controls = &controls[..draws.per_prompt.min(controls.len())];
        let mut settings = self.settings(task, controls, measured, &strengths).await?;
        let (prompts, front) = self.prompts(task.task, generation, draws.max_tokens).await?;
        if front.is_none() {
            self.notes.push(format!(
                "{}: the prompting baseline is left out: the context has no room for its instruction or examples",
                task.task.name
            ));
        } else {
            settings.push(Setting::unsteered(SteeringKind::Prompted, None));
        }
        let mut unscored = Vec::new();
        for number in 0..prompts.len() {
            unscored.extend(self.of_prompt(task, &settings, &prompts, number, draws, seed).await?);
        }
        let texts = scored(unscored, &settings, generation)?;
        let prompts: Vec<TextPrompt> = generation.prompts.iter().enumerate().map(half).collect();
        let known = settings
            .iter()
            .map(|setting| (setting.kind, setting.alpha, setting.propensity));
        let TextSummary {
            settings,
            chosen,
            agreement,
        } = scores::summarize(&texts, &prompts, known, (resamples, seed));
        Ok(Some(Generation {
            rule: generation.rule.describe(),
            max_tokens: draws.max_tokens,
            texts_per_prompt: draws.per_prompt,
            baseline: front,
            chosen,
            agreement,
            prompts,
            settings,
            texts,
        }))
    }

    /// All settings but the prompting baseline, with their mean propensities.
    async fn settings(
        &mut self,
        task: &PreparedTask<'_>,
        controls: &[ScaledDirection],
        measured: &DecisivePropensities<'_>,
        strengths: &[f64],
    ) -> Result<Vec<Setting>> {
        let layer = controls.first().context("control-draws: found none")?.layer;
        let unit = format!("{}/texts/controls", task.task.name);
        let of_controls = self
            .curves(&unit, &task.measuring, controls, strengths, measured.unsteered)
            .await?;
        let mut settings = vec![Setting::unsteered(
            SteeringKind::Unsteered,
            Some(mean(measured.unsteered)),
        )];
        let own = [
            (SteeringKind::Native, task.native(layer)?, measured.native),
            (SteeringKind::Mapped, task.mapped(layer)?, measured.mapped),
        ];
        for (kind, direction, propensities) in own {
            for &alpha in strengths {
                let at = measured.alphas.iter().position(|&other| other == alpha);
                settings.push(Setting {
                    kind,
                    alpha,
                    propensity: at.map(|at| mean(&propensities[at])),
                    directions: vec![direction.clone()],
                });
            }
        }
        for (place, &alpha) in strengths.iter().enumerate() {
            let means: Vec<f64> = of_controls.iter().map(|of_one| mean(&of_one[place])).collect();
            settings.push(Setting {
                kind: SteeringKind::MappedRandom,
                alpha,
                propensity: Some(mean(&means)),
                directions: controls.to_vec(),
            });
        }
        Ok(settings)
    }

    /// The prompts as tokens, with the longest front that leaves room for a text behind each of them.
    async fn prompts(
        &self,
        task: &tasks::Task,
        generation: &tasks::TextsToContinue,
        max_tokens: usize,
    ) -> Result<(Vec<TargetPrompt>, Option<String>)> {
        let session = self.steerer.session();
        let mut bare = Vec::new();
        for prompt in &generation.prompts {
            bare.push(session.tokenize(prompt).await?);
        }
        let most = session.max_sequence();
        let room = |tokens: &Vec<u32>| tokens.len() + max_tokens <= most;
        // Each text is read behind other prompts too.
        ensure!(
            bare.iter().all(room),
            "generation.prompts: found one that leaves no room for {max_tokens} more in the context of {most} tokens"
        );
        for front in baseline::fronts(task) {
            let mut asked = Vec::new();
            for prompt in &generation.prompts {
                asked.push(session.tokenize(&baseline::with_front(&front, prompt)).await?);
            }
            if asked.iter().all(room) {
                let both = bare.into_iter().zip(asked);
                let prompts = both.map(|(bare, asked)| TargetPrompt {
                    bare,
                    asked: Some(asked),
                });
                return Ok((prompts.collect(), Some(front)));
            }
        }
        let prompts = bare.into_iter().map(|bare| TargetPrompt { bare, asked: None });
        Ok((prompts.collect(), None))
    }

    /// All texts of one prompt, with their likelihoods behind it and behind other prompts.
    async fn of_prompt(
        &mut self,
        task: &PreparedTask<'_>,
        settings: &[Setting],
        prompts: &[TargetPrompt],
        number: usize,
        draws: &TextDraws,
        seed: u64,
    ) -> Result<Vec<UnscoredText>> {
        let (steerer, progress) = (self.steerer, self.progress);
        let session = steerer.session();
        let prompt = &prompts[number];
        // The same for all settings, so that they differ only in what steers.
        let seed_of = |text: usize| (text > 0).then(|| task.seed(seed, "text", number * draws.per_prompt + text));
        let places: Vec<(usize, usize)> = (0..settings.len())
            .flat_map(|setting| (0..draws.per_prompt).map(move |text| (setting, text)))
            .collect();
        let work = async {
            let requests = places.iter().map(|&(setting, text)| {
                let setting = &settings[setting];
                let tokens = match setting.kind {
                    SteeringKind::Prompted => prompt.asked.as_ref().context("found no prompt that asks")?,
                    _ => &prompt.bare,
                };
                let direction = setting.directions.get(text % setting.directions.len().max(1));
                let offset = direction.and_then(|direction| direction.at(setting.alpha));
                Ok(ContinuationRequest {
                    prompt: tokens,
                    steered: offset.map(|offset| steerer.adding(offset)).transpose()?,
                    seed: seed_of(text),
                })
            });
            let requests: Vec<ContinuationRequest<'_>> = requests.collect::<Result<_>>()?;
            session
                .continuations(&requests, draws.max_tokens, || progress.add(1))
                .await
        };
        let name = &task.task.name;
        let unit = format!("{name}/texts/{number}");
        let continuations: Vec<Continuation> = self.journal.unit(&unit, work).await?;
        progress.step(&unit);
        let others = (1..=OTHERS.min(prompts.len() - 1)).map(|next| &prompts[(number + next) % prompts.len()]);
        let behind: Vec<&[u32]> = std::iter::once(prompt)
            .chain(others)
            .map(|prompt| prompt.bare.as_slice())
            .collect();
        let work = async {
            let mut nats = Vec::with_capacity(continuations.len());
            for continuation in &continuations {
                let mut of_text = Vec::with_capacity(behind.len());
                for prompt in &behind {
                    let text = &continuation.tokens;
                    of_text.push(if text.is_empty() {
                        0.0
                    } else {
                        session.nats_behind(prompt, text).await?
                    });
                    progress.add(1);
                }
                ensure!(
                    of_text.iter().all(|nats| nats.is_finite()),
                    "the target's likelihoods of a text are not finite"
                );
                nats.push(of_text);
            }
            Ok(nats)
        };
        let unit = format!("{name}/texts/{number}/nats");
        let nats: Vec<Vec<f64>> = self.journal.unit(&unit, work).await?;
        progress.step(&unit);
        ensure!(
            continuations.len() == places.len() && nats.len() == places.len(),
            "{unit}: found {} texts in the journal, expected {}",
            continuations.len(),
            places.len()
        );
        let all = places.into_iter().zip(continuations).zip(nats);
        Ok(all
            .map(|(((setting, text), continuation), behind)| UnscoredText {
                prompt: number,
                number: text,
                setting,
                nats: Nats {
                    tokens: continuation.tokens.len(),
                    behind,
                },
                continuation,
            })
            .collect())
    }
}

/// Lets the judge score all texts of a task.
///
/// # Errors
///
/// [`JudgeError`](super::judge::JudgeError), or a stop.
pub async fn judge(
    journal: &mut Journal,
    task: &mut TaskResult,
    judge: &Judge,
    (resamples, seed): (usize, u64),
) -> Result<()> {
    let Some(generation) = &mut task.generation else {
        return Ok(());
    };
    for (number, prompt) in generation.prompts.iter().enumerate() {
        let of_prompt = generation.texts.iter().filter(|text| text.prompt == number);
        let questions: Vec<Question<'_>> = of_prompt
            .map(|text| Question {
                concept: &task.positive,
                description: &task.description,
                prompt: &prompt.text,
                text: &text.text,
            })
            .collect();
        // The unit names the judge, so another judge's scores are not reused.
        let unit = format!("{}/texts/{number}/judge/{}", task.name, judge.identity());
        let answers: Vec<Option<[u8; 3]>> = journal.unit(&unit, judge.all(&questions)).await?;
        let of_prompt = generation.texts.iter_mut().filter(|text| text.prompt == number);
        for (text, answer) in of_prompt.zip(answers) {
            text.judged = answer.map(|[concept, fluency, answers]| scores::judged(concept, fluency, answers));
        }
    }
    let known = generation
        .settings
        .iter()
        .map(|setting| (setting.kind, setting.alpha, setting.propensity));
    let summary = scores::summarize(&generation.texts, &generation.prompts, known, (resamples, seed));
    generation.settings = summary.settings;
    generation.chosen = summary.chosen;
    generation.agreement = summary.agreement;
    Ok(())
}

impl Setting {
    /// Without a vector.
    fn unsteered(kind: SteeringKind, propensity: Option<f64>) -> Self {
        Self {
            kind,
            alpha: 0.0,
            propensity,
            directions: Vec::new(),
        }
    }
}

/// Every other prompt is of the half that chooses the strength.
fn half((number, prompt): (usize, &crate::pairs::Text)) -> TextPrompt {
    TextPrompt {
        text: prompt.to_string(),
        finding: number % 2 == 0,
    }
}

/// The scores of all texts of a task.
fn scored(
    texts: Vec<UnscoredText>,
    settings: &[Setting],
    generation: &tasks::TextsToContinue,
) -> Result<Vec<GeneratedText>> {
    let usual = |greedy: bool| -> Result<f64> {
        let unsteered = texts
            .iter()
            .filter(|text| settings[text.setting].kind == SteeringKind::Unsteered && (text.number == 0) == greedy);
        let nats: Vec<f64> = unsteered.filter_map(|text| text.nats.per_token()).collect();
        ensure!(
            !nats.is_empty(),
            "generation.prompts: found no unsteered text of two tokens, expected at least one"
        );
        Ok(mean(&nats))
    };
    let greedy = usual(true)?;
    let sampled = if texts.iter().any(|text| text.number > 0) {
        usual(false)?
    } else {
        greedy
    };
    let of = |text: UnscoredText| {
        let setting = &settings[text.setting];
        let usual = if text.number == 0 { greedy } else { sampled };
        let nats = text.nats.per_token();
        let repetition = scores::repetition(&text.continuation.tokens);
        let concept = generation.rule.is_positive(&text.continuation.text);
        let (fluency, answers) = (scores::fluency(nats, usual, repetition), text.nats.answers());
        GeneratedText {
            prompt: text.prompt,
            number: text.number,
            kind: setting.kind,
            alpha: setting.alpha,
            concept,
            perplexity: nats.map(f64::exp).filter(|perplexity| perplexity.is_finite()),
            repetition,
            fluency,
            answers,
            score: scores::score(concept, fluency, answers),
            judged: None,
            text: text.continuation.text,
        }
    };
    Ok(texts.into_iter().map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strengths_are_evenly_spaced_with_the_largest() {
        let draws = |alphas| TextDraws {
            alphas,
            per_prompt: 2,
            max_tokens: 8,
        };
        let alphas = [
            -0.2, -0.1, 0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.14, 0.16, 0.18, 0.2,
        ];
        assert_eq!(draws(4).strengths(&alphas), [0.06, 0.1, 0.16, 0.2]);
        assert_eq!(draws(1).strengths(&alphas), [0.2]);
        assert_eq!(draws(9).strengths(&[-1.0, 0.5, 1.0]), [0.5, 1.0]);
        assert!(draws(4).strengths(&[-1.0, 0.0]).is_empty());
        assert!(draws(0).strengths(&alphas).is_empty());
    }
}
