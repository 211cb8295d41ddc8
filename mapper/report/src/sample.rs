//! Evaluations for tests: made up, but consistent in themselves, and the same on every machine.

use crate::result::*;

/// How much is in a sample.
#[derive(Clone, Debug)]
pub struct Size {
    /// Measured tasks.
    pub tasks: usize,
    /// Alphas of the curves.
    pub alphas: usize,
    /// Measuring items of each task.
    pub items: usize,
    /// The source's decoder blocks.
    pub source_layers: usize,
    /// The target's decoder blocks.
    pub target_layers: usize,
    /// Whether the map has pairs of several source layers too.
    pub many_to_one: bool,
    /// Whether texts were generated.
    pub generation: bool,
    /// Whether the source's vectors were used as they are.
    pub unmapped: bool,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            tasks: 7,
            alphas: 21,
            items: 30,
            source_layers: 4,
            target_layers: 8,
            many_to_one: true,
            generation: true,
            unmapped: false,
        }
    }
}

impl Size {
    /// As large as the real pair: SmolLM2-135M-Instruct and Gemma-3-270M.
    pub fn large() -> Self {
        Self {
            tasks: 14,
            source_layers: 30,
            target_layers: 18,
            many_to_one: false,
            unmapped: true,
            ..Self::default()
        }
    }

    /// One task, and no texts.
    pub fn single() -> Self {
        Self {
            tasks: 1,
            generation: false,
            ..Self::default()
        }
    }

    /// As little as can be: no task, no pair.
    pub fn none() -> Self {
        Self {
            tasks: 0,
            source_layers: 0,
            target_layers: 0,
            many_to_one: false,
            ..Self::default()
        }
    }
}

const NAMES: [(&str, &str, &str); 14] = [
    ("mood", "happy", "sad"),
    ("formality", "formal", "casual"),
    ("brevity", "short", "long"),
    ("certainty", "certain", "doubtful"),
    ("refusal", "refuses", "complies"),
    ("language", "French", "English"),
    ("capitals", "capitals", "lower case"),
    ("politeness", "polite", "rude"),
    ("self-reference", "speaks of itself", "doesn't"),
    ("risk-taking", "daring", "careful"),
    ("agreement", "agrees", "disagrees"),
    ("topic-sea", "the sea", "the mountains"),
    ("optimism", "hopeful", "gloomy"),
    ("detail", "detailed", "vague"),
];

/// Numbers that look random.
struct Noise(u64);

impl Noise {
    /// Between `low` and `high` (SplitMix64).
    fn between(&mut self, low: f64, high: f64) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        low + (high - low) * ((z >> 11) as f64 / (1u64 << 53) as f64)
    }

    fn many(&mut self, count: usize, low: f64, high: f64) -> Vec<f64> {
        (0..count).map(|_| self.between(low, high)).collect()
    }
}

/// An evaluation of a size.
pub fn sample(size: &Size) -> Evaluation {
    let mut noise = Noise(5);
    let alphas: Vec<f64> = match size.alphas {
        1 => vec![0.5],
        count => (0..count)
            .map(|i| (i as f64 / (count - 1) as f64 - 0.5) * 4.0)
            .collect(),
    };
    let pairs = pairs(size, &mut noise);
    let run = run(size, &alphas);
    let mut tasks: Vec<TaskResult> = (0..size.tasks)
        .map(|index| task(size, index, &run, &pairs, &mut noise))
        .collect();
    correct(&mut tasks);
    let cka = (0..size.source_layers)
        .map(|source| {
            let depth = source as f64 / size.source_layers as f64;
            let near = |target: usize| (1.0 - (depth - target as f64 / size.target_layers as f64).abs()).powi(2);
            (0..size.target_layers)
                .map(|target| 0.9 * near(target) * noise.between(0.9, 1.0) - 0.01)
                .collect()
        })
        .collect();
    let failed = |name: &str, reason: &str| FailedTask {
        name: name.to_string(),
        reason: reason.to_string(),
    };
    let failed = vec![
        failed(
            "sarcasm",
            "41 of 60 items have answers that the target's tokenizer can't tell apart",
        ),
        failed("colour", "the native vector is no number at layer 5"),
    ];
    Evaluation {
        format: Evaluation::FORMAT.to_string(),
        representation: Representation {
            text: "plain-stories.txt".to_string(),
            text_sha256: "9f2c".repeat(16),
            held_out: true,
            documents: 120,
            positions: 31489,
            pairs,
            cka,
        },
        failed: if size.tasks > 0 { failed } else { Vec::new() },
        summary: summary(&run.protocol, &tasks),
        run,
        tasks,
        notes: vec![
            "the decisive control was measured on 20 of 30 items".to_string(),
            "brevity: 2 items left out, whose propensity doesn't move".to_string(),
        ],
    }
}

fn run(size: &Size, alphas: &[f64]) -> Run {
    let model = |name: &str, hidden_size, num_layers| ModelRun {
        model: name.to_string(),
        fingerprint: "sha256:4bc1".repeat(4),
        hidden_size,
        num_layers,
        dtype: "f32".to_string(),
        quantization: None,
    };
    let quarter = size.target_layers / 4;
    let band: Vec<usize> = (quarter..size.target_layers - quarter).collect();
    Run {
        tool: "steermap 0.1.0".to_string(),
        date: "2026-11-24T13:00:00Z".to_string(),
        command: "mapper eval --map small-to-large --source smollm2-135m --target gemma3-270m --tasks examples/tasks --out report"
            .to_string(),
        seed: 5,
        source: model("SmolLM2-135M-Instruct", 576, size.source_layers),
        target: ModelRun {
            quantization: Some("q8_0".to_string()),
            ..model("Gemma-3-270M", 640, size.target_layers)
        },
        map: MapRun {
            name: "smollm2-135m--gemma3-270m".to_string(),
            sha256: "07aa".repeat(16),
            offset: "linear".to_string(),
            corpus: "wikitext-103".to_string(),
            rows: 1_204_331,
        },
        method: "mean-difference".to_string(),
        alpha_unit: "relative".to_string(),
        alphas: alphas.to_vec(),
        protocol: Protocol {
            layer: band.get(band.len() / 2).copied().unwrap_or(0),
            band,
            band_is: "middle half".to_string(),
            most_direct: Some(0.5),
            control_draws: 279,
            control_items: 20,
            retention_bounds: [0.5, 1.5],
            level: 0.05,
            tasks: size.tasks,
            half_samples: 10,
        },
        resamples: 1000,
        perplexity_budget: 1.2,
        judge: Some(JudgeRun {
            url: "http://localhost:8000/v1/chat/completions".to_string(),
            model: "a-judge".to_string(),
            rubric: "Give three whole numbers.".to_string(),
        }),
        device: "cpu".to_string(),
        seconds: 1312.4,
    }
}

fn pairs(size: &Size, noise: &mut Noise) -> Vec<PairResult> {
    let mut pair = |source_layers: Vec<usize>, target_layer: usize| {
        let r2 = 0.35 + 0.5 * (target_layer as f64 / size.target_layers as f64) + noise.between(-0.08, 0.08);
        PairResult {
            source_layers,
            target_layer,
            stated_r2: r2 + 0.01,
            r2,
            r2_quantiles: [r2 - 0.45, r2 - 0.2, r2 - 0.1, r2, r2 + 0.08],
            cosine: 0.5 + r2 / 2.0,
            cka: r2 * 0.9,
        }
    };
    let mut pairs: Vec<PairResult> = (0..size.target_layers)
        .map(|target| pair(vec![target * size.source_layers / size.target_layers], target))
        .collect();
    if size.many_to_one {
        let last = size.target_layers - 1;
        pairs.push(pair(vec![1, size.source_layers - 1], last));
        pairs.push(pair(vec![0, 1, 2], last / 2));
    }
    pairs
}

fn task(size: &Size, index: usize, run: &Run, pairs: &[PairResult], noise: &mut Noise) -> TaskResult {
    let protocol = &run.protocol;
    let alphas = &run.alphas;
    let (name, positive, negative) = NAMES[index % NAMES.len()];
    // The fourth task's vector isn't carried, and the sixth's native vector does not steer.
    let steers = index % 7 != 5;
    let strength = if steers { 2.0 + (index % 4) as f64 } else { 0.1 };
    let kept = match index % 7 {
        3 => 0.04,
        5 => 0.9,
        other => 0.75 + 0.05 * other as f64,
    };
    let half = if steers { 0.07 } else { 2.4 };
    let retention = around(kept, half);
    let pair = &pairs[protocol.layer];
    let layers = layers(protocol, pairs, (strength, kept, half), noise);
    let counting: Vec<f64> = layers.iter().filter(|l| l.counts).map(|l| l.retention.value).collect();
    let offsets = noise.many(size.items, -1.5, 1.5);
    let mut curves = vec![
        curve(SteeringKind::Native, strength, alphas, &offsets, noise),
        curve(SteeringKind::Mapped, strength * kept, alphas, &offsets, noise),
    ];
    if size.unmapped {
        curves.push(curve(SteeringKind::Unmapped, 0.1, alphas, &offsets, noise));
    }
    let few: Vec<f64> = alphas.iter().copied().step_by(2).collect();
    let of = |value: &dyn Fn(f64) -> f64| few.iter().map(|&alpha| value(alpha)).collect::<Vec<f64>>();
    let outcome = match (steers, kept > 0.3) {
        (false, _) => Outcome::SaysNothing,
        (true, true) => Outcome::Carried,
        (true, false) => Outcome::NotCarried,
    };
    let native_others = 0.12;
    let own = kept;
    let others = native_others * kept + 0.05;
    TaskResult {
        name: name.to_string(),
        description: format!("Whether the answer is {positive} or {negative}; positive: {positive}."),
        positive: positive.to_string(),
        negative: negative.to_string(),
        kind: ["completion", "letters", "yes-no"][index % 3].to_string(),
        sha256: format!("{index:02x}").repeat(32),
        pairs: 30,
        position: "mean".to_string(),
        finding: 30,
        measuring: size.items,
        clusters: size.items / 2 + 1,
        candidates: pairs
            .iter()
            .map(|pair| {
                let native_slope = strength * pair.r2 + noise.between(-0.2, 0.2);
                Candidate {
                    source_layers: pair.source_layers.clone(),
                    target_layer: pair.target_layer,
                    native_slope,
                    mapped_slope: native_slope * kept,
                }
            })
            .collect(),
        band_retention: (!counting.is_empty()).then(|| around(average(&counting), half * 0.8)),
        best_layer: layers.last().map_or(protocol.layer, |layer| layer.target_layer),
        layers,
        source_layers: pair.source_layers.clone(),
        target_layer: pair.target_layer,
        mean_norm: 1234.56,
        cosine: kept * 0.8,
        random_cosines: spread(&noise.many(20, -0.08, 0.08)),
        source_auroc: Some(0.97),
        native_auroc: (index != 2).then_some(0.99),
        alphas: alphas.to_vec(),
        unsteered: around(0.03, 0.4),
        curves,
        random: RandomCurves {
            mean: of(&|_| 0.05),
            low: of(&|alpha| -0.1 - alpha.abs() * 0.6),
            high: of(&|alpha| 0.11 + alpha.abs() * 0.66),
            alphas: few.clone(),
            slopes: noise.many(20, -0.6, 0.6),
        },
        native_steers: NativeSteers {
            steers,
            least: 0.9,
            slope: around(strength, if steers { 0.3 } else { 0.4 }),
            random: spread(&noise.many(20, -0.6, 0.6)),
        },
        retention,
        half_samples: Some(HalfSamples {
            retention: noise.many(protocol.half_samples, kept - 0.05, kept + 0.05),
            standard_error: 0.021,
        }),
        controls: controls(size, run, kept, noise),
        specificity: (size.tasks > 1).then_some(Specificity {
            own,
            others,
            native_others,
            own_profile: 0.95,
            other_profile: 0.3,
            nearest_other: NAMES[1].0.to_string(),
            specific: own / (own + others) >= 0.9 / (1.0 + native_others),
        }),
        pearson: ValueSpread {
            count: size.items - 1,
            ..spread(&noise.many(size.items, (kept + 0.1).min(0.9), 0.98))
        },
        item_pearson: spread(&noise.many((size.alphas - 1).max(1), 0.7, 0.99)),
        mse: spread(&noise.many(size.items, 0.2, 2.4 * (1.1 - kept.min(1.0)) + 0.3)),
        mse_probability: spread(&noise.many(size.items, 0.001, 0.06 * (1.1 - kept.min(1.0)) + 0.003)),
        perplexity: Perplexity {
            tokens: 2048,
            unsteered: 23.1,
            native: of(&|alpha| 23.1 * (0.35 * alpha * alpha).exp()),
            mapped: of(&|alpha| 23.1 * (0.22 * alpha * alpha).exp()),
            alphas: few.clone(),
        },
        side_effects: (0..size.tasks)
            .filter(|&other| other != index)
            .map(|other| {
                let native = noise.between(-1.5, 1.5);
                SideEffect {
                    task: NAMES[other % NAMES.len()].0.to_string(),
                    alpha: 0.8,
                    native,
                    mapped: native * 0.7 + noise.between(-0.2, 0.2),
                }
            })
            .collect(),
        generation: size.generation.then(|| generation(positive, negative)),
        proposal: (steers && index != 2).then(|| Proposal {
            target_layer: pair.target_layer,
            alpha: 0.8,
            gain: 1.7,
            perplexity_ratio: 1.08,
            score: size.generation.then_some(0.65),
            toml: format!(
                "vectors = [{{ name = \"{name}\", map = \"smollm2-135m--gemma3-270m\", relative_scale = 0.8, layers = [{}] }}]\n",
                pair.target_layer
            ),
        }),
        verdict: Verdict {
            outcome,
            sentence: match outcome {
                Outcome::Carried => format!(
                    "The map carries {positive:?}: retention is {kept:.2}, all of its interval between the bounds, above the \
                     mapped random directions, and specific."
                ),
                Outcome::NotCarried => format!("The map does not carry {positive:?}: retention is {kept:.2}, below the bounds."),
                Outcome::SaysNothing => format!(
                    "The target's own vector does not steer towards {positive:?} here: the interval of its slope contains 0. So \
                     retention says nothing."
                ),
            },
        },
    }
}

fn curve(kind: SteeringKind, slope: f64, alphas: &[f64], offsets: &[f64], noise: &mut Noise) -> Curve {
    let items: Vec<Vec<f64>> = alphas
        .iter()
        .map(|alpha| {
            let effect = slope * 2.0 * (alpha / 2.0).tanh();
            offsets
                .iter()
                .map(|offset| effect + offset + noise.between(-0.3, 0.3))
                .collect()
        })
        .collect();
    let mean: Vec<f64> = items.iter().map(|values| average(values)).collect();
    Curve {
        kind,
        slope: around(slope * 0.8, 0.12),
        low: mean.iter().map(|value| value - 0.35).collect(),
        high: mean.iter().map(|value| value + 0.35).collect(),
        mean,
        items,
    }
}

fn layers(
    protocol: &Protocol,
    pairs: &[PairResult],
    (strength, kept, half): (f64, f64, f64),
    noise: &mut Noise,
) -> Vec<LayerResult> {
    let last = protocol.band.last().copied().unwrap_or(0);
    let measured = pairs.iter().filter(|pair| pair.source_layers.len() == 1);
    let measured = measured.filter(|pair| protocol.band.contains(&pair.target_layer) || pair.target_layer == last + 1);
    let mut layers: Vec<LayerResult> = measured
        .map(|pair| {
            let in_band = protocol.band.contains(&pair.target_layer);
            let depth = (pair.target_layer + 1) as f64 / (last + 2) as f64;
            let direct_share = depth.powi(2) * 0.7 + noise.between(-0.05, 0.05);
            let retention = if pair.target_layer == protocol.layer {
                kept
            } else {
                kept + noise.between(-0.06, 0.06)
            };
            let native = strength * (0.6 + 0.4 * depth);
            LayerResult {
                source_layers: pair.source_layers.clone(),
                target_layer: pair.target_layer,
                in_band,
                counts: in_band && direct_share <= 0.5,
                native: around(native, 0.3),
                mapped: around(native * retention, 0.3),
                retention: around(retention, half),
                direct_share: Some(direct_share),
                cosine: kept * 0.8,
            }
        })
        .collect();
    layers.sort_by_key(|layer| layer.target_layer);
    layers
}

fn controls(size: &Size, run: &Run, kept: f64, noise: &mut Noise) -> Vec<Control> {
    let protocol = &run.protocol;
    let two = vec![-0.5, 0.5];
    let all = [
        (ControlKind::MappedRandom, protocol.control_draws, 0.25),
        (ControlKind::Isotropic, 20, 0.1),
        (ControlKind::OtherTasks, size.tasks - 1, 0.3),
        (ControlKind::ShuffledLabels, 10, 0.2),
        (ControlKind::ShuffledMap, 1, 0.15),
    ];
    all.into_iter()
        .filter(|(_, draws, _)| *draws > 0)
        .map(|(kind, draws, wide)| {
            let retention = noise.many(draws, -wide, wide);
            let above = retention.iter().filter(|value| value.abs() >= kept).count();
            let p_value = (1 + above) as f64 / (1 + draws) as f64;
            let short = kind == ControlKind::MappedRandom;
            Control {
                kind,
                alphas: if short { two.clone() } else { run.alphas.clone() },
                items: if short { protocol.control_items } else { size.items },
                spread: spread(&retention),
                retention,
                mapped: kept,
                p_value,
                p_adjusted: short.then_some(p_value),
                pearson: (!short).then(|| spread(&noise.many(draws, 0.6, 0.99))),
                item_pearson: (!short).then(|| spread(&noise.many(draws, 0.6, 0.99))),
            }
        })
        .collect()
}

/// Holm's correction of the decisive control's p-values.
fn correct(tasks: &mut [TaskResult]) {
    let mut order: Vec<usize> = (0..tasks.len()).collect();
    order.sort_by(|&a, &b| tasks[a].controls[0].p_value.total_cmp(&tasks[b].controls[0].p_value));
    let mut least: f64 = 0.0;
    for (rank, index) in order.into_iter().enumerate() {
        let left = tasks.len() - rank;
        let control = &mut tasks[index].controls[0];
        least = least.max((control.p_value * left as f64).min(1.0));
        control.p_adjusted = Some(least);
    }
}

fn generation(positive: &str, negative: &str) -> Generation {
    let prompts = [
        "When I opened the door this morning,",
        "user: How was your day?\nassistant:",
        "The letter from the bank said",
        "Tell me about the weather in Lisbon.",
    ];
    let strengths = [0.4, 0.8];
    let kinds = [SteeringKind::Native, SteeringKind::Mapped, SteeringKind::MappedRandom];
    let steered = kinds.into_iter().flat_map(|kind| strengths.map(|alpha| (kind, alpha)));
    let all: Vec<(SteeringKind, f64)> = std::iter::once((SteeringKind::Unsteered, 0.0))
        .chain(steered)
        .chain([(SteeringKind::Prompted, 0.0)])
        .collect();
    let value = |kind: SteeringKind, alpha: f64| match kind {
        SteeringKind::Native => 0.5 + alpha / 4.0,
        SteeringKind::Mapped => 0.45 + alpha / 4.0,
        SteeringKind::Prompted => 0.6,
        _ => 0.1,
    };
    let mut texts = Vec::new();
    for &(kind, alpha) in &all {
        let word = if value(kind, alpha) > 0.3 { positive } else { negative };
        for prompt in 0..prompts.len() {
            texts.push(GeneratedText {
                prompt,
                number: 0,
                kind,
                alpha,
                text: format!(
                    " the street was quiet and the light was still low. It was, all in all, a rather {word} start, and nobody who \
                     had seen it would have said anything else.\nThen the phone rang."
                ),
                concept: word == positive,
                perplexity: Some(6.5),
                repetition: 0.05,
                fluency: 0.9,
                answers: 0.8,
                score: value(kind, alpha),
                judged: Some(JudgedText {
                    concept: 2,
                    fluency: 1,
                    answers: 2,
                    score: 0.75,
                }),
            });
        }
    }
    let scores = |kind: SteeringKind, alpha: f64| TextScores {
        texts: 2,
        concept: if value(kind, alpha) > 0.3 { 1.0 } else { 0.0 },
        fluency: 0.9,
        answers: 0.8,
        score: value(kind, alpha),
        judged: Some(0.75),
        judged_texts: 2,
    };
    let settings = all.iter().map(|&(kind, alpha)| TextSetting {
        kind,
        alpha,
        propensity: (kind != SteeringKind::Prompted).then_some(2.0 * alpha),
        finding: scores(kind, alpha),
        measuring: scores(kind, alpha),
    });
    let chosen = all
        .iter()
        .filter(|(_, alpha)| *alpha != 0.4)
        .map(|&(kind, alpha)| ChosenStrength {
            kind,
            alpha,
            score: around(value(kind, alpha), 0.1),
            judged: Some(around(0.75, 0.1)),
        });
    let texts_of = |text: &str| TextPrompt {
        text: text.to_string(),
        finding: text.len().is_multiple_of(2),
    };
    Generation {
        rule: format!("more of the words of {positive} than of those of {negative}."),
        max_tokens: 40,
        texts_per_prompt: 1,
        baseline: Some(format!("Write in a {positive} way.")),
        prompts: prompts.map(texts_of).to_vec(),
        settings: settings.collect(),
        chosen: chosen.collect(),
        agreement: Agreement {
            settings: 7,
            concept: Some(0.8),
            score: Some(0.7),
            judged: None,
        },
        texts,
    }
}

fn text_means(tasks: &[&TaskResult]) -> Option<TextMeans> {
    let texts: Vec<&Generation> = tasks.iter().filter_map(|task| task.generation.as_ref()).collect();
    let kinds = texts.first()?.chosen.iter().map(|chosen| KindScore {
        kind: chosen.kind,
        tasks: texts.len(),
        score: chosen.score,
        judged_tasks: texts.len(),
        judged: chosen.judged,
    });
    Some(TextMeans {
        tasks: texts.len(),
        kinds: kinds.collect(),
        agreement_concept: Some(around(0.8, 0.1)),
        agreement_score: Some(around(0.7, 0.1)),
        agreement_judged: None,
    })
}

fn summary(protocol: &Protocol, tasks: &[TaskResult]) -> Summary {
    let steering: Vec<&TaskResult> = tasks.iter().filter(|task| task.native_steers.steers).collect();
    let carried = tasks
        .iter()
        .filter(|task| task.verdict.outcome == Outcome::Carried)
        .count();
    let means = |tasks: &[&TaskResult], half: f64| {
        let mean = |value: &dyn Fn(&TaskResult) -> Option<f64>, half: f64| {
            let values: Vec<f64> = tasks.iter().filter_map(|task| value(task)).collect();
            (!values.is_empty()).then(|| around(average(&values), half))
        };
        Means {
            tasks: tasks.len(),
            counting: tasks.iter().filter(|task| task.band_retention.is_some()).count(),
            retention: mean(&|task| Some(task.band_retention?.value), half),
            pearson: mean(&|task| Some(task.pearson.mean), 0.07),
            item_pearson: mean(&|task| Some(task.item_pearson.mean), 0.07),
            mse: mean(&|task| Some(task.mse.mean), 0.3),
            mse_probability: mean(&|task| Some(task.mse_probability.mean), 0.008),
            texts: text_means(tasks),
        }
    };
    let layers = protocol.band.iter().map(|&layer| {
        let at = |task: &&TaskResult| {
            task.layers
                .iter()
                .find(|l| l.target_layer == layer && l.counts)
                .cloned()
        };
        let found: Vec<LayerResult> = steering.iter().filter_map(at).collect();
        let mean = |value: fn(&LayerResult) -> f64| average(&found.iter().map(value).collect::<Vec<_>>());
        LayerMean {
            target_layer: layer,
            tasks: found.len(),
            retention: (!found.is_empty()).then(|| around(mean(|l| l.retention.value), 0.12)),
            direct_share: (!found.is_empty()).then(|| mean(|l| l.direct_share.unwrap_or(0.0))),
        }
    });
    let all: Vec<&TaskResult> = tasks.iter().collect();
    let outcome = match (steering.len(), carried) {
        (0, _) => Outcome::SaysNothing,
        (steered, carried) if 2 * carried > steered => Outcome::Carried,
        _ => Outcome::NotCarried,
    };
    Summary {
        measured: tasks.len(),
        steered: steering.len(),
        judged: tasks
            .iter()
            .filter(|task| task.verdict.outcome != Outcome::SaysNothing)
            .count(),
        carried,
        all: means(&all, 0.4),
        steering: means(&steering, 0.11),
        layers: if tasks.is_empty() { Vec::new() } else { layers.collect() },
        verdict: Verdict {
            outcome,
            sentence: match outcome {
                Outcome::SaysNothing => "No task was measured.".to_string(),
                _ => format!(
                    "The map carries {carried} of the {} behaviours that the target's own vectors steer ({} were measured).",
                    steering.len(),
                    tasks.len()
                ),
            },
        },
    }
}

fn around(value: f64, half: f64) -> Estimate {
    Estimate {
        value,
        low: value - half,
        high: value + half,
    }
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn spread(values: &[f64]) -> ValueSpread {
    let mean = average(values);
    let squares: Vec<f64> = values.iter().map(|value| (value - mean).powi(2)).collect();
    let deviation = (squares.iter().sum::<f64>() / values.len().saturating_sub(1).max(1) as f64).sqrt();
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| sorted[(share * (sorted.len() - 1) as f64).round() as usize];
    let error = 1.96 * deviation / (values.len() as f64).sqrt();
    ValueSpread {
        count: values.len(),
        mean,
        deviation,
        interval: [mean - error, mean + error],
        range: [at(0.025), at(0.975)],
    }
}

/// A sample whose every text tries to break out of its place.
pub fn hostile() -> Evaluation {
    with_texts("</title></svg>\"'><script>alert(1)</script>&amp;<!-- ]]> $x$ \u{1}\u{202e}")
}

/// A sample whose every text is this one.
pub fn with_texts(bad: &str) -> Evaluation {
    let mut evaluation = sample(&Size {
        tasks: 2,
        ..Size::default()
    });
    let run = &mut evaluation.run;
    run.target.quantization = Some(String::new());
    let mut texts: Vec<&mut String> = vec![
        &mut run.tool,
        &mut run.date,
        &mut run.command,
        &mut run.source.model,
        &mut run.source.fingerprint,
        &mut run.target.model,
        &mut run.target.dtype,
        &mut run.map.name,
        &mut run.map.sha256,
        &mut run.map.offset,
        &mut run.map.corpus,
        &mut run.method,
        &mut run.alpha_unit,
        &mut run.device,
        &mut run.protocol.band_is,
        &mut evaluation.format,
        &mut evaluation.representation.text,
        &mut evaluation.representation.text_sha256,
        &mut evaluation.summary.verdict.sentence,
    ];
    texts.extend(run.target.quantization.as_mut());
    texts.extend(&mut evaluation.notes);
    for failed in &mut evaluation.failed {
        texts.extend([&mut failed.name, &mut failed.reason]);
    }
    for task in &mut evaluation.tasks {
        texts.extend([
            &mut task.name,
            &mut task.description,
            &mut task.positive,
            &mut task.negative,
            &mut task.kind,
            &mut task.sha256,
            &mut task.position,
            &mut task.verdict.sentence,
        ]);
        texts.extend(task.side_effects.iter_mut().map(|effect| &mut effect.task));
        texts.extend(task.proposal.as_mut().map(|proposal| &mut proposal.toml));
        if let Some(generation) = &mut task.generation {
            texts.push(&mut generation.rule);
            texts.extend(&mut generation.baseline);
            texts.extend(generation.prompts.iter_mut().map(|prompt| &mut prompt.text));
            texts.extend(generation.texts.iter_mut().map(|text| &mut text.text));
        }
    }
    for text in texts {
        *text = bad.to_string();
    }
    evaluation
}
