//! Studies whose every loss is made by a known law, and what the findings say of them.

use super::{Findings, Finished, Found};
use crate::kinds;
use crate::open::resolve;
use crate::study::raw::RawStudy;
use crate::study::resolve::{Machine, TEXT};
use isoflop_base::study::{RunSpec, Study};
use isoflop_base::{BlockLoss, Measured, Point, PointKind, SourceLoss};
use isoflop_data::{ByteTokens, Corpus, CorpusInfo, CorpusSource, TokenizerKind, corpus};
use isoflop_laws::Options;
use isoflop_report::Ruling;

fn plain() -> Corpus {
    let tokens = |n: usize| Box::new(ByteTokens::new("t", vec![b'a'; n]));
    let info = CorpusInfo {
        name: "t".to_owned(),
        vocab: 256,
        train_tokens: 8_000_000,
        val_tokens: 10_000,
        tokenizer: TokenizerKind::Bytes,
        bytes_per_token: Some(1.0),
        sha256: "0".to_owned(),
        sha256_covers: "text".to_owned(),
        block_tokens: 1000,
    };
    Corpus { train: tokens(8_000_000), val: tokens(10_000), info, sources: Vec::new(), tokenizer_json: None }
}

fn study_of(corpus: &Corpus, kind: &str, text: &str) -> Result<Study, String> {
    let text = format!("name = \"t\"\nkind = \"{kind}\"\n{text}");
    let machine = Machine { kernels: "naive".to_owned(), threads: 2, bf16: false, bf16_loses: None };
    RawStudy::parse("t.toml", &text, &[])
        .and_then(|raw| resolve(&raw, corpus, &machine))
        .map_err(|e| e.to_string())
}

fn study(kind: &str, text: &str) -> Study {
    study_of(&plain().with_itself_as(TEXT), kind, text).unwrap()
}

/// A number from −1 to 1 that is the same for the same words.
fn noise(words: &str) -> f64 {
    let hash = words
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let mixed = (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// Points of every run, with these losses.
fn points(study: &Study, loss: &dyn Fn(&RunSpec, f64) -> f64) -> Vec<Point> {
    let mut out = Vec::new();
    for run in &study.runs {
        for (steps, tokens) in run.ends.iter().zip(run.tokens()) {
            out.push(Point {
                run: run.id.clone(),
                kind: if *steps == run.end() { PointKind::Final } else { PointKind::Branch },
                shape: Some(run.gpt().shape),
                params: run.model.params(),
                params_total: run.model.params_total(),
                tokens,
                flops: 6.0 * run.model.params() as f64 * tokens as f64,
                flops_6nd: 6.0 * run.model.params() as f64 * tokens as f64,
                loss: loss(run, tokens as f64),
                loss_se: None,
                bits_per_byte: None,
                epochs: 0.1,
                unique_tokens: tokens,
                steps: *steps,
                batch_tokens: run.train.batch_tokens,
                lr: run.train.lr,
                schedule: "wsd".to_owned(),
                init: "scaled".to_owned(),
                context: Some(16),
                vocab: Some(256),
                seed: run.seed,
                precision: "f32".to_owned(),
                kernels: "naive".to_owned(),
                seconds: Measured::measured(1.0),
                tokens_per_s: Measured::measured(1e5),
                energy_j: Measured::missing("made"),
                peak_share: Measured::missing("made"),
                sources: Vec::new(),
                arm: run.arm.clone(),
                held_out: Vec::new(),
                blocks: Vec::new(),
            });
        }
    }
    out
}

fn findings(study: &Study, points: &[Point]) -> Findings {
    let options = Options { threads: 1, ..Options::default() };
    let of = |run: &RunSpec| points.iter().filter(|p| p.run == run.id).collect::<Vec<_>>();
    let finished =
        study.runs.iter().flat_map(|run| of(run).into_iter().map(move |point| Finished { run, point }));
    let found = Found { study, points: finished.collect(), curves: &[], laws: None, options: &options };
    kinds::of(study.kind).findings(&found)
}

fn chinchilla(n: f64, d: f64) -> f64 {
    0.8 + 6.0 / n.powf(0.3) + 90.0 / d.powf(0.42)
}

/// The first number of a cell such as `0.62 (0.51 to 0.73)`, and its interval.
fn numbers(cell: &str) -> Vec<f64> {
    cell.replace('−', "-")
        .split(|c: char| !(c.is_ascii_digit() || ".-e".contains(c)))
        .filter_map(|word| word.parse::<f64>().ok())
        .collect()
}

/// Heading, answer and paragraphs of all sections.
fn said(findings: &Findings) -> String {
    let answer = findings.answer.iter().flat_map(|a| std::iter::once(&a.title).chain(&a.words));
    let all: Vec<&str> =
        answer.chain(findings.sections.iter().flat_map(|s| &s.paragraphs)).map(String::as_str).collect();
    all.join("\n")
}

fn ruling(findings: &Findings, words: &str) -> Ruling {
    let found = findings.verdicts.iter().find(|v| v.claim.contains(words));
    found.unwrap_or_else(|| panic!("no claim about {words}")).ruling
}

const SERIES: &str = "[series]\nmodels = [\"L1-d16-h1\", \"L2-d24-h2\", \"L2-d32-h2\"]\ntokens = \"512k\"\n\
                      branches = [\"32k\", \"64k\", \"128k\", \"256k\"]\nseeds = [1, 2, 3]\n\
                      [train]\ncontext = 16\nbatch_tokens = 64\n";

const JUNK: &str =
    "[arms]\njunk = [\"words-shuffled\", \"base64\"]\nshares = [0.5, 0.75, 0.875]\ntagged = [\"base64\"]\n";

fn share(run: &RunSpec) -> f64 {
    run.arm.get("share").map_or(0.0, |q| q.parse().unwrap())
}

#[test]
fn arms_are_the_series_under_another_text() {
    let study = study("data", &format!("{JUNK}{SERIES}"));
    // 3 sizes, 3 seeds, clean and (2 kinds + 1 tagged) × 3 shares.
    assert_eq!(study.runs.len(), 9 * 10);
    let ids: Vec<&str> = study.runs.iter().map(|r| r.id.as_str()).take(4).collect();
    assert_eq!(
        ids,
        ["t-L1-d16-h1-s1", "t-L1-d16-h1-s2", "t-L1-d16-h1-s3", "t-L1-d16-h1-words-shuffled-50-s1"]
    );
    let tagged = study.runs.iter().find(|r| r.id == "t-L1-d16-h1-base64-87.5-tagged-s1").unwrap();
    let mix = tagged.data.mix.as_ref().unwrap();
    assert_eq!(mix.stages[0].weights, [1, 7]);
    assert_eq!(mix.sources[1].tag, b"<junk>".map(u32::from));
    let of_the_law = |r: &&RunSpec| kinds::of(study.kind).is_of_the_law(&study, r);
    assert_eq!(study.runs.iter().filter(of_the_law).count(), 9);
    // A tag at some of the shares only.
    let fewer = self::study("data", &format!("{JUNK}tagged_shares = [0.75]\n{SERIES}"));
    let tagged: Vec<&RunSpec> = fewer.runs.iter().filter(|r| r.arm.contains_key("tag")).collect();
    assert!(tagged.len() == 9 && tagged.iter().all(|r| share(r) == 0.75), "{}", tagged.len());
}

#[test]
fn what_junk_costs_is_found_with_its_interval() {
    let study = study("data", &format!("{JUNK}{SERIES}"));
    let loss = |run: &RunSpec, tokens: f64| {
        let g = match (run.arm.get("junk").map(String::as_str), run.arm.contains_key("tag")) {
            (Some("words-shuffled"), _) => 0.6,
            (Some("base64"), true) => 0.9,
            (Some("base64"), false) => 1.4,
            _ => 0.0,
        };
        let wobble = 1.0 + 0.004 * noise(&format!("{}{tokens}", run.id));
        chinchilla(run.model.params() as f64, tokens * (1.0 - share(run)).powf(g)) * wobble
    };
    let found = findings(&study, &points(&study, &loss));
    let table = &found.sections[0].tables[0];
    for (row, g) in table.rows.iter().zip([0.6, 1.4]) {
        let cell = numbers(&row[1]);
        // Lines between points a factor of two apart lie above a curve that is convex: a hundredth less.
        assert!((cell[0] - g).abs() < 0.05 && cell[1] < cell[0] && cell[2] - cell[1] < 0.2, "{row:?}");
        // By the fitted law too.
        assert!((numbers(&row[2])[0] - g).abs() < 0.1, "{row:?}");
    }
    assert_eq!(ruling(&found, "milder"), Ruling::NotReproduced, "base64 costs more than its tokens");
    // Fewer tokens flatten the line of an additive law; at equal effective tokens nothing is left of that.
    assert_eq!(ruling(&found, "does not bend"), Ruling::NotReproduced);
    for row in found.sections[0].tables[1].rows.iter().filter(|row| row[0] == "words in another order") {
        let change = numbers(&row[5]);
        assert!(change[1] < 0.003 && change[2] > -0.003 && change[2] - change[1] < 0.02, "{row:?}");
    }
    // The right form forecasts the largest share best, the naive ones worst.
    let forecasts = &found.sections[0].tables[2];
    let of_base64: Vec<&str> =
        forecasts.rows.iter().filter(|r| r[0] == "base64").map(|r| r[1].as_str()).collect();
    assert_eq!(of_base64.last(), Some(&"D: junk does no harm"), "{of_base64:?}");
    let tags = found.sections[0].tables.last().unwrap();
    assert!(tags.rows.iter().all(|row| row[4] == "the tag helps"), "{tags:?}");
    let words = said(&found);
    assert!(words.contains("A tag before each row of junk changes the loss by −"), "{words}");
    assert!(words.contains("that it costs untagged: the tag helps"), "{words}");
}

#[test]
fn a_tag_that_does_nothing_rescues_nothing() {
    let arms = "[arms]\njunk = [\"repeated\"]\nshares = [0.5]\ntagged = [\"repeated\"]\n";
    let loss = |run: &RunSpec, tokens: f64| {
        let wobble = 1.0 + 0.004 * noise(&format!("{}{tokens}", run.id));
        chinchilla(run.model.params() as f64, tokens * (1.0 - share(run)).powf(1.4)) * wobble
    };
    let many = study("data", &format!("{arms}{SERIES}"));
    let words = said(&findings(&many, &points(&many, &loss)));
    assert!(words.contains("nats with one passage repeated (q = 0.5), beside 0.0"), "{words}");
    assert!(words.contains("that it costs untagged: no rescue seen."), "{words}");
    // Of one size and seed the held-out blocks are all that bounds it.
    let one = study(
        "data",
        &format!(
            "{arms}{}",
            SERIES.replace("[1, 2, 3]", "[1]").replace(", \"L2-d24-h2\", \"L2-d32-h2\"", "")
        ),
    );
    let mut of_one = points(&one, &loss);
    assert!(said(&findings(&one, &of_one)).contains("(no interval) nats with one passage"));
    for point in &mut of_one {
        let tag = if point.arm.contains_key("tag") { "tagged" } else { "" };
        let block = |b: u32| 1000.0 * (point.loss + 0.1 * noise(&format!("{b}{tag}")));
        point.blocks = (0..20).map(|b| BlockLoss { block: b, sum: block(b), tokens: 1000 }).collect();
    }
    let words = said(&findings(&one, &of_one));
    assert!(words.contains(" to ") && words.contains("no rescue seen"), "{words}");
}

#[test]
fn a_line_that_bends_is_seen_to() {
    let study = study("data", &format!("{JUNK}{SERIES}"));
    let loss = |run: &RunSpec, tokens: f64| {
        let (n, q) = (run.model.params() as f64, share(run));
        let wobble = 1.0 + 0.001 * noise(&format!("{}{tokens}", run.id));
        // Junk takes capacity: larger models have less of an advantage.
        wobble * chinchilla(n, tokens) * (1.0 + 0.2 * q * (n / 3000.0).powf(0.3))
    };
    let found = findings(&study, &points(&study, &loss));
    assert_eq!(ruling(&found, "does not bend"), Ruling::NotReproduced);
    // One that is worse than the shortest clean run, whatever its length, costs more than the tokens it takes.
    let ruinous = |run: &RunSpec, tokens: f64| {
        let n = run.model.params() as f64;
        if share(run) > 0.0 { 1.01 * chinchilla(n, 30e3) } else { chinchilla(n, tokens) }
    };
    let found = findings(&study, &points(&study, &ruinous));
    assert!(said(&found).contains("fewer than 6"), "{}", said(&found));
    assert!(said(&found).starts_with("Junk costs more than its own tokens as "), "{}", said(&found));
    assert_eq!(found.sections[0].tables[0].rows[0][1], "above 4.0");
    assert_eq!(ruling(&found, "milder"), Ruling::NotReproduced);
    // An offset that is the same at all sizes is none.
    let offset = |run: &RunSpec, tokens: f64| {
        let wobble = 1.0 + 0.001 * noise(&format!("{}{tokens}", run.id));
        wobble * chinchilla(run.model.params() as f64, tokens) * (1.0 + 0.2 * share(run))
    };
    assert_eq!(ruling(&findings(&study, &points(&study, &offset)), "does not bend"), Ruling::Reproduced);
}

#[test]
fn the_worth_of_repeats_is_found() {
    let arms = "[arms]\nunique = [\"16k\", \"32k\"]\nweight_decay = [1.0]\n";
    let study = study("data", &format!("{arms}{SERIES}"));
    let effective =
        |d: f64, u: f64, r: f64| if d <= u { d } else { u + u * r * (1.0 - (-(d / u - 1.0) / r).exp()) };
    let loss = |run: &RunSpec, tokens: f64| {
        let unique = run.arm.get("unique").map_or(8e6, |u| u.parse().unwrap());
        let r = if run.arm.contains_key("weight_decay") { 12.0 } else { 6.0 };
        let wobble = 1.0 + 0.005 * noise(&format!("{}{tokens}", run.id));
        chinchilla(run.model.params() as f64, effective(tokens, unique, r)) * wobble
    };
    let found = findings(&study, &points(&study, &loss));
    let words = said(&found);
    let r_star = words.split("R* = ").nth(1).map(numbers).unwrap();
    assert!((r_star[0] / 6.0 - 1.0).abs() < 0.15 && r_star[1] < 6.0 && 6.0 < r_star[2], "{words}");
    assert!(
        words.contains("weight decay of 1 changes the loss by −") && words.contains("it helps"),
        "{words}"
    );
    assert!(words.contains("nowhere did repetition make it turn up"), "{words}");
    assert_eq!(ruling(&found, "R* of about 15.4"), Ruling::NotReproduced);
    // By Kaplan's law of overfitting: 2 % at 800·N^0.74 unique tokens.
    let by_size = |run: &RunSpec, _tokens: f64| {
        let n = run.model.params() as f64;
        let excess = |u: f64| 0.02 * (u / n.powf(0.74) / 800.0).powf(-0.8);
        let wobble = 1.0 + 0.002 * noise(&run.id);
        2.0 * wobble * run.arm.get("unique").map_or(1.0, |u| excess(u.parse().unwrap()).exp())
    };
    let found_it = findings(&study, &points(&study, &by_size));
    let needed = numbers(found_it.sections[1].paragraphs[0].split("parameters needs").nth(1).unwrap());
    assert!((needed[0] / 800.0 - 1.0).abs() < 0.2 && needed[1] < 800.0 && 800.0 < needed[2], "{needed:?}");
    assert_eq!(ruling(&found_it, "5·10³·N^0.74"), Ruling::Reproduced);
    // One that overfits turns up.
    let overfits = |run: &RunSpec, tokens: f64| {
        let unique = run.arm.get("unique").map_or(8e6, |u| u.parse().unwrap());
        let n = run.model.params() as f64;
        chinchilla(n, tokens) + 0.002 * (tokens / unique).powf(1.2) * (n / 3000.0).sqrt()
    };
    let found = findings(&study, &points(&study, &overfits));
    assert!(said(&found).contains("turns up, after"), "{}", said(&found));
    assert!(said(&found).starts_with("Text read "), "{}", said(&found));
    assert_eq!(ruling(&found, "Larger models suffer sooner"), Ruling::Reproduced);
}

#[test]
fn few_passages_often_harm_more_where_they_do() {
    let study = study("data", &format!("[arms]\ncopies = [2, 8, 32]\n{SERIES}"));
    let loss = |run: &RunSpec, tokens: f64| {
        let copies: f64 = run.arm.get("copies").map_or(1.0, |c| c.parse().unwrap());
        let wobble = 1.0 + 0.001 * noise(&format!("{}{tokens}", run.id));
        chinchilla(run.model.params() as f64, tokens) * (1.0 + 0.01 * copies.ln()) * wobble
    };
    let found = findings(&study, &points(&study, &loss));
    assert_eq!(ruling(&found, "few passages often"), Ruling::Reproduced);
    let row = &found.sections[0].tables[0].rows[2];
    assert!((numbers(&row[1])[0] - 100.0 * 0.01 * 32f64.ln()).abs() < 0.3, "{row:?}");
}

#[test]
fn the_best_mixture_is_found() {
    let source = |name: &str| {
        let mut corpus = plain();
        corpus.info.name = name.to_owned();
        CorpusSource::new(name, corpus)
    };
    let two = corpus::of_several(vec![source("a"), source("b")], 0).unwrap();
    let text = format!(
        "[data]\nheld_out = [\"a\", \"b\"]\n[data.mix]\na = {{ corpus = \"builtin\", weight = 1 }}\nb = {{ corpus = \
         \"builtin\", weight = 1 }}\n[arms]\nmixes = [\"1:0\", \"3:1\", \"1:1\", \"1:3\", \"0:1\"]\nheld_out = [\"2:3\"]\n{SERIES}"
    );
    let study = study_of(&two, "data", &text).unwrap();
    assert_eq!(study.runs.len(), 9 * 6);
    // Of a: 1 + e^(−1 − 2p); of b: 1 + e^(−2 + p). The mean is lowest where 2·e^(−1 − 2p) = e^(−2 + p).
    let of_a = |p: f64| 1.0 + (-1.0 - 2.0 * p).exp();
    let of_b = |p: f64| 1.0 + (-2.0 + p).exp();
    let at = |run: &RunSpec| run.arm["share_a"].parse::<f64>().unwrap();
    let mut points = points(&study, &|run, _| of_a(at(run)));
    for point in &mut points {
        let run = study.runs.iter().find(|r| r.id == point.run).unwrap();
        let loss = of_b(at(run)) * (1.0 + 1e-4 * noise(&format!("{}{}", run.id, point.tokens)));
        point.held_out = vec![SourceLoss { name: "b".to_owned(), loss, loss_se: None, tokens: 1000 }];
    }
    let found = findings(&study, &points);
    let best = numbers(&found.answer.as_ref().unwrap().words[0])[0];
    assert!((best - 100.0 * (1.0 + 2f64.ln()) / 3.0).abs() < 2.0, "{}", said(&found));
    assert!(said(&found).starts_with("The mean of both losses is lowest with "), "{}", said(&found));
    assert_eq!(ruling(&found, "predicts mixtures"), Ruling::Reproduced);
    assert_eq!(ruling(&found, "best weights of small models"), Ruling::Reproduced);
}

#[test]
fn the_best_mixture_of_three_is_found() {
    let source = |name: &str| {
        let mut corpus = plain();
        corpus.info.name = name.to_owned();
        CorpusSource::new(name, corpus)
    };
    // Named against the order of the alphabet.
    let three = corpus::of_several(vec![source("c"), source("b"), source("a")], 0).unwrap();
    let mix = |name: &str| format!("{name} = {{ corpus = \"builtin\", weight = 1 }}\n");
    let study = |mixes: &str| {
        let text = format!(
            "[data]\nheld_out = [\"c\", \"b\", \"a\"]\n[data.mix]\n{}{}{}[arms]\nmixes = [{mixes}]\nheld_out = \
             [\"2:1:1\"]\n{SERIES}",
            mix("c"),
            mix("b"),
            mix("a")
        );
        study_of(&three, "data", &text).unwrap()
    };
    let all = study("\"1:0:0\", \"0:1:0\", \"0:0:1\", \"1:1:1\", \"3:1:0\", \"0:1:3\", \"1:0:3\"");
    // Each source's loss falls with its own share; the mean is lowest where the falls are alike.
    let of = |run: &RunSpec, name: &str, at: f64| {
        1.0 + (at - 2.0 * run.arm[&format!("share_{name}")].parse::<f64>().unwrap()).exp()
    };
    let points_of = |study: &Study| {
        let mut points = points(study, &|run, _| of(run, "c", -1.5));
        for point in &mut points {
            let run = study.runs.iter().find(|r| r.id == point.run).unwrap();
            let other = |name: &str| {
                let loss =
                    of(run, name, -1.0) * (1.0 + 1e-4 * noise(&format!("{}{}{name}", run.id, point.tokens)));
                SourceLoss { name: name.to_owned(), loss, loss_se: None, tokens: 1000 }
            };
            point.held_out = vec![other("b"), other("a")];
        }
        points
    };
    let found = findings(&all, &points_of(&all));
    let rows = &found.sections[0].tables[0].rows;
    assert_eq!(rows.len(), 9, "three sizes, three seeds");
    for row in rows {
        for (cell, share) in row[2..5].iter().zip([100.0 / 6.0, 100.0 * 5.0 / 12.0, 100.0 * 5.0 / 12.0]) {
            assert!((numbers(cell)[0] - share).abs() < 2.5, "{row:?}, {share}");
        }
    }
    assert_eq!(ruling(&found, "predicts mixtures"), Ruling::Reproduced);
    // Four mixtures are too few for three sources.
    let few = study("\"1:0:0\", \"0:1:0\", \"0:0:1\", \"1:1:1\"");
    let found = findings(&few, &points_of(&few));
    assert!(said(&found).contains("needs 5 mixtures"), "{}", said(&found));
}

#[test]
fn the_law_of_the_best_rate_is_found() {
    let text = format!(
        "[arms]\nrates = [0.25, 0.5, 1, 2, 4]\nbatches = [64, 128, 256]\nrate_exponent = 0.5\n{}",
        SERIES.replace("\"L2-d32-h2\"", "\"L2-d32-h2\", \"L3-d64-h4\"")
    );
    let study = study("lr", &text);
    let best = |n: f64, d: f64, b: f64| {
        0.01 * (n / 24_576.0).powf(-0.3) * (d / 128e3).powf(0.2) * (b / 64.0).powf(0.5)
    };
    let loss = |run: &RunSpec, tokens: f64| {
        let n = run.model.params() as f64;
        let off = (run.train.lr / best(n, tokens, run.train.batch_tokens as f64)).ln();
        chinchilla(n, tokens) + 0.02 * off * off + 2e-4 * noise(&format!("{}{tokens}", run.id))
    };
    let found = findings(&study, &points(&study, &loss));
    let words = found.sections[0].paragraphs[1].clone();
    let exponents: Vec<Vec<f64>> = words.split("to the power ").skip(1).map(numbers).collect();
    // N, width, D, B.
    for (found, truth) in [(&exponents[0], -0.3), (&exponents[2], 0.2), (&exponents[3], 0.5)] {
        assert!((found[0] - truth).abs() < 0.05 && found[1] <= truth && truth <= found[2], "{words}");
    }
    assert_eq!(ruling(&found, "square root of the batch"), Ruling::Reproduced);
    assert_eq!(ruling(&found, "N^−0.713"), Ruling::NotReproduced);
    // For four times the largest size, at the largest length and smallest batch.
    let (n, recommended) = (4.0 * 147_456.0, numbers(said(&found).split("peak rate of").nth(1).unwrap())[0]);
    assert!((recommended / best(n, 512e3, 64.0) - 1.0).abs() < 0.1, "{}", said(&found));
    // A sweep that falls to its end has no best rate.
    let falling =
        |run: &RunSpec, tokens: f64| chinchilla(run.model.params() as f64, tokens) - 0.01 * run.train.lr.ln();
    let found = findings(&study, &points(&study, &falling));
    assert!(said(&found).contains(" 0 of 60 sweeps"), "{}", said(&found));
    assert!(said(&found).starts_with("The best rate lies outside"), "{}", said(&found));
    assert_eq!(ruling(&found, "N^−0.713"), Ruling::CannotTell);
}

#[test]
fn the_critical_batch_is_found() {
    let text = format!(
        "[arms]\nbatches = [64, 256, 1024, 4096]\nrates = [0.25, 0.5, 1, 2, 4]\n{}",
        SERIES
            .replace("512k", "4M")
            .replace(
                "\"32k\", \"64k\", \"128k\", \"256k\"",
                "\"64k\", \"128k\", \"256k\", \"512k\", \"1M\", \"2M\""
            )
            .replace("[1, 2, 3]", "[1]")
            + "warmup = \"6400\"\n"
    );
    let study = study("batch", &text);
    let critical = 700.0;
    let loss = |run: &RunSpec, tokens: f64| {
        let off = run.arm["rate"].parse::<f64>().unwrap().ln();
        // E = E_min·(1 + B/B_crit): that many tokens count as so many at a small batch.
        let effective = tokens / (1.0 + run.train.batch_tokens as f64 / critical);
        chinchilla(run.model.params() as f64, effective * (-0.3 * off * off).exp())
    };
    let found = findings(&study, &points(&study, &loss));
    let table = &found.sections[0].tables[0];
    assert!(table.rows.len() >= 6, "{table:?}");
    for row in &table.rows {
        let value = numbers(&row[3]);
        assert!((value[0] / critical - 1.0).abs() < 0.1, "{row:?}");
    }
    assert!(said(&found).contains("\nThe critical batch, at which"), "{}", said(&found));
    let title = "Train with 64.0 tokens a step on this machine; the critical batch is 71";
    assert!(said(&found).starts_with(title), "all run at one speed: {}", said(&found));
    // At the end of every sweep of rates nothing is found.
    let rising = |run: &RunSpec, tokens: f64| {
        chinchilla(run.model.params() as f64, tokens * run.arm["rate"].parse::<f64>().unwrap())
    };
    let found = findings(&study, &points(&study, &rising));
    assert!(said(&found).contains("Widen rates"), "{}", said(&found));
}

#[test]
fn the_batch_that_branches_bear_is_found() {
    let study = study(
        "batch",
        &format!("[arms]\nbranch_batches = [2, 4, 8, 16]\n{SERIES}decay = 0.5\nwarmup = \"6400\"\n"),
    );
    // A fifth more tokens at this batch, and less in proportion to the logarithm of smaller ones.
    let critical = |tokens: f64| 100.0 * (tokens / 32e3).sqrt();
    let batch = |run: &RunSpec| 64.0 * run.arm["branch"].parse::<f64>().unwrap();
    let loss = |run: &RunSpec, tokens: f64| {
        let more = 0.2 * (batch(run) / 64.0).ln() / (critical(tokens) / 64.0).ln();
        chinchilla(run.model.params() as f64, tokens / (1.0 + more))
    };
    let blocks = |mut points: Vec<Point>| {
        for point in &mut points {
            // Two by two they scatter to both sides, so that their mean is the loss.
            let side = |b: u32| if b.is_multiple_of(2) { 0.1 } else { -0.1 };
            let block = |b: u32| point.loss * 1000.0 * (1.0 + side(b) * noise(&(b / 2).to_string()));
            point.blocks = (0..20).map(|b| BlockLoss { block: b, sum: block(b), tokens: 1000 }).collect();
        }
        points
    };
    let found = findings(&study, &blocks(points(&study, &loss)));
    let rows = &found.sections[0].tables[0].rows;
    assert_eq!(rows.len(), 15, "three sizes, five lengths: {rows:?}");
    for (row, tokens) in rows.iter().zip([32e3, 64e3, 128e3, 256e3, 512e3].iter().cycle()) {
        assert_eq!(row[2], "3", "seeds");
        assert_eq!(row[5], "64.0 to 128", "the first step up is seen");
        if *tokens == 32e3 {
            assert_eq!(row[4], "–", "there is no shorter point");
        } else {
            let batch = numbers(&row[4]);
            // Tokens are read off points a factor of two apart; the last of them has neighbours on one side only.
            assert!((batch[0] / critical(*tokens) - 1.0).abs() < 0.02, "{row:?}");
            assert!(batch[1] <= batch[0] && batch[0] <= batch[2], "{row:?}");
        }
    }
    assert!(said(&found).starts_with("Late in training a batch of "), "{}", said(&found));
    assert_eq!(ruling(&found, "grows as training goes on"), Ruling::Reproduced);
    assert_eq!(ruling(&found, "simple noise scale"), Ruling::CannotTell);
    // Where no batch costs anything, all pass and nothing is said of growth.
    let flat = |run: &RunSpec, tokens: f64| chinchilla(run.model.params() as f64, tokens);
    let found = findings(&study, &blocks(points(&study, &flat)));
    assert!(found.sections[0].tables[0].rows.iter().all(|row| row[5].ends_with("or more")));
    assert_eq!(ruling(&found, "grows as training goes on"), Ruling::CannotTell);
}

#[test]
fn arms_that_make_no_sense_are_refused_by_name() {
    let corpus = plain().with_itself_as(TEXT);
    let refused = |kind: &str, arms: &str, words: &str| {
        let error = study_of(&corpus, kind, &format!("[arms]\n{arms}\n{SERIES}")).unwrap_err();
        assert!(error.contains(words) && error.contains("hint:"), "{arms}: {error}");
    };
    refused("data", "junk = [\"words\"]", "not one of them");
    refused("data", "junk = [\"base64\"]", "in which shares");
    refused("data", "shares = [0.5]", "of which junk");
    refused("data", "junk = [\"base64\"]\nshares = [1]", "out of range");
    refused("data", "junk = [\"base64\"]\nshares = [0.5, 0.5]", "listed twice");
    refused("data", "junk = [\"base64\"]\nshares = [0.5]\ntagged = [\"markup\"]", "not among arms.junk");
    let tagged = "junk = [\"base64\"]\nshares = [0.5]\ntagged = [\"base64\"]\ntagged_shares = [0.25]";
    refused("data", tagged, "not among arms.shares");
    refused("data", "unique = [\"9M\"]", "unique tokens");
    refused("data", "weight_decay = [1.0]", "of which arms");
    refused("data", "copies = [0]", "copies of a passage");
    refused("data", "mixes = [\"1:1\"]", "without [data.mix]");
    refused("data", "batches = [64]", "not a key of a study of kind = \"data\"");
    refused("batch", "rates = [1]", "which batches");
    refused("batch", "branch_batches = [1, 2]", "of the trunk's batches");
    refused("data", "branch_batches = [2]", "not a key of a study");
    refused("batch", "batches = [100]", "no whole number of sequences");
    refused("batch", "batches = [64]\nrates = [0]", "no multiple of a rate");
    refused("lr", "init = [\"zero\"]", "not one of them");
    refused("lr", "junk = [\"base64\"]", "not a key of a study of kind = \"lr\"");
    refused("scaling", "junk = [\"base64\"]", "[arms]");
}
