//! From test episodes to what the page says: means with intervals, differences on identical episodes, sweeps, laws,
//! verdicts.

use super::claims::{self, AtStart};
use super::conduct::Outcome;
use super::pictures::Also;
use super::runs::FewShotStudy;
use super::spent::Spent;
use super::study::Method;
use super::{drawn, sweeps};
use isoflop_base::{HeadKind, Measured};
use isoflop_data::images::ImageSet;
use isoflop_report::fewshot::input::{
    BackboneFacts, DataFacts, DifferenceRow, ElsewhereRow, FewShotInput, GeometryRow, Interval, MethodRow,
    SCHEMA, TestFacts,
};
use isoflop_store::Store;

/// Mean with its interval of 95 % over what the values are of: 1.96·s/√n, as the literature states it.
pub fn interval(values: &[f64]) -> Interval {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    Interval { mean, half: 1.96 * (variance / n).sqrt(), seeds_half: None }
}

/// One interval of several seeds: the mean over all, the spread over episodes of the seeds' means, and the spread over
/// seeds by Student's t.
pub fn joined(seeds: &[Vec<f64>]) -> Interval {
    let episodes = seeds.first().map_or(0, Vec::len);
    // Seeds see the same episodes: an episode's mean over seeds is one piece of evidence.
    let means: Vec<f64> =
        (0..episodes).map(|e| seeds.iter().map(|s| s[e]).sum::<f64>() / seeds.len() as f64).collect();
    let mut all = interval(&means);
    if seeds.len() > 1 {
        let each: Vec<f64> = seeds.iter().map(|s| s.iter().sum::<f64>() / s.len() as f64).collect();
        let k = each.len() as f64;
        let mean = each.iter().sum::<f64>() / k;
        let variance = each.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (k - 1.0);
        all.seeds_half = Some(isoflop_laws::t_quantile(0.975, k - 1.0) * (variance / k).sqrt());
    }
    all
}

/// Outcomes of one method and number of shots, by seed.
pub struct Group<'a> {
    /// The method.
    pub method: Method,
    /// Support images of a class.
    pub shots: usize,
    /// A seed's outcome each.
    pub seeds: Vec<&'a Outcome<'a>>,
}

impl Group<'_> {
    /// Accuracies of the episodes, by seed.
    pub fn accuracies(&self) -> Vec<Vec<f64>> {
        self.seeds.iter().map(|outcome| outcome.tested.accuracies().collect()).collect()
    }
}

/// The main comparison, in the order of the study.
pub fn groups<'a>(outcomes: &'a [Outcome<'a>]) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for outcome in outcomes.iter().filter(|outcome| outcome.entry.arm.is_empty()) {
        let (method, shots) = (outcome.entry.method, outcome.entry.shots);
        match groups.iter_mut().find(|group| group.method == method && group.shots == shots) {
            Some(group) => group.seeds.push(outcome),
            None => groups.push(Group { method, shots, seeds: vec![outcome] }),
        }
    }
    groups.sort_by_key(|group| group.shots);
    groups
}

/// What the first of these methods that was tested is: everything else is compared with it.
fn reference(groups: &[Group<'_>]) -> Option<Method> {
    let order = [Method::Head(HeadKind::Proto), Method::NearestMean, Method::Baseline];
    order.into_iter().find(|method| groups.iter().any(|group| group.method == *method))
}

/// Differences of every method to another on the episodes that both were tested on, seed by seed.
pub fn difference(of: &Group<'_>, against: &Group<'_>) -> Interval {
    let mut pairs = Vec::new();
    for one in &of.seeds {
        if let Some(other) = against.seeds.iter().find(|other| other.entry.seed == one.entry.seed) {
            let both = one.tested.accuracies().zip(other.tested.accuracies());
            pairs.push(both.map(|(a, b)| a - b).collect::<Vec<f64>>());
        }
    }
    joined(&pairs)
}

fn differences(groups: &[Group<'_>]) -> Vec<DifferenceRow> {
    let Some(against) = reference(groups) else { return Vec::new() };
    let mut rows = Vec::new();
    for group in groups.iter().filter(|group| group.method != against) {
        if let Some(other) = groups.iter().find(|g| g.method == against && g.shots == group.shots) {
            rows.push(DifferenceRow {
                method: group.method.word().to_owned(),
                against: against.word().to_owned(),
                shots: group.shots,
                difference: difference(group, other),
            });
        }
    }
    rows
}

/// The best method at each number of shots against the second, on the episodes that both were tested on.
fn leads(groups: &[Group<'_>]) -> Vec<DifferenceRow> {
    let mut rows: Vec<DifferenceRow> = Vec::new();
    for shots in groups.iter().map(|group| group.shots) {
        if rows.iter().any(|row| row.shots == shots) {
            continue;
        }
        let mean = |group: &&Group<'_>| joined(&group.accuracies()).mean;
        let mut alike: Vec<&Group<'_>> = groups.iter().filter(|group| group.shots == shots).collect();
        alike.sort_by(|a, b| mean(b).total_cmp(&mean(a)));
        if let [first, second, ..] = alike[..] {
            rows.push(DifferenceRow {
                method: first.method.word().to_owned(),
                against: second.method.word().to_owned(),
                shots,
                difference: difference(first, second),
            });
        }
    }
    rows
}

/// A row for each method and number of shots on pictures that nothing was trained on.
///
/// # Errors
/// A set without the split that is tested.
pub fn elsewhere(also: &Also, queries: usize, outcomes: &[Outcome<'_>]) -> anyhow::Result<Vec<ElsewhereRow>> {
    let groups = groups(outcomes);
    let (differences, classes) = (differences(&groups), also.set.classes("test")?);
    let row = |group: &Group<'_>| {
        let same = |d: &&DifferenceRow| d.method == group.method.word() && d.shots == group.shots;
        ElsewhereRow {
            set: also.name.clone(),
            classes: classes.len() as u64,
            images: classes.iter().map(|class| class.images.len() as u64).sum(),
            queries,
            method: group.method.word().to_owned(),
            shots: group.shots,
            accuracy: joined(&group.accuracies()),
            difference: differences.iter().find(same).map(|d| (d.against.clone(), d.difference)),
        }
    };
    Ok(groups.iter().map(row).collect())
}

fn method_row(study: &FewShotStudy, store: &Store, group: &Group<'_>) -> anyhow::Result<MethodRow> {
    let first = group.seeds[0];
    let spent = Spent::of(study, first.entry, store)?;
    let n = group.seeds.len() as f64;
    let each = group.accuracies();
    let head_params = match group.method {
        Method::Head(_) => {
            let run = super::task::model(&study.runs[first.entry.run]);
            run.params.saturating_sub(backbone_params(study))
        }
        _ => 0,
    };
    Ok(MethodRow {
        method: group.method.word().to_owned(),
        shots: group.shots,
        seeds: group.seeds.iter().map(|outcome| outcome.entry.seed).collect(),
        accuracy: joined(&each),
        accuracies: each.iter().map(|s| s.iter().sum::<f64>() / s.len() as f64).collect(),
        loss: group.seeds.iter().map(|outcome| outcome.tested.loss).sum::<f64>() / n,
        seconds: spent.seconds,
        start_seconds: spent.start_seconds,
        joules: spent.joules,
        flops: Measured::measured(spent.flops),
        trained_episodes: spent.episodes,
        memory_bytes: spent.memory_bytes,
        head_params,
        geometry: first.tested.geometry.map(|g| GeometryRow {
            cosine_before: g.cosine_before,
            cosine_after: g.cosine_after,
            entropy: g.entropy.is_finite().then_some(g.entropy),
        }),
    })
}

/// Weights of the study's backbone alone.
fn backbone_params(study: &FewShotStudy) -> u64 {
    backbone(study).map_or(0, |network| network.parameters.count())
}

fn backbone(study: &FewShotStudy) -> Option<isoflop_nn::conv::Architecture> {
    let run = study.runs.iter().find(|run| super::task::model(run).width == study.asked.width)?;
    isoflop_nn::conv::Architecture::new(&super::runs::network(super::task::model(run))).ok()
}

/// All that the page shows.
///
/// # Errors
/// A store that cannot be read.
pub fn input(
    study: &FewShotStudy,
    set: &ImageSet,
    store: &Store,
    outcomes: &[Outcome<'_>],
    start: Option<AtStart>,
) -> anyhow::Result<FewShotInput> {
    let (asked, groups) = (&study.asked, groups(outcomes));
    let rows =
        groups.iter().map(|group| method_row(study, store, group)).collect::<anyhow::Result<Vec<_>>>()?;
    let splits = set.header().splits.iter().map(|split| {
        let images = split.classes.iter().map(|(_, count)| *count as u64).sum();
        (split.name.clone(), split.classes.len() as u64, images)
    });
    let sweep_rows = sweeps::rows(study, store, outcomes)?;
    let differences = differences(&groups);
    Ok(FewShotInput {
        schema: SCHEMA.to_owned(),
        name: asked.name.clone(),
        date: crate::clock::now_utc(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        machine: format!(
            "{} kernels, {} threads",
            study.runs.first().map_or("no", |run| run.train.kernels.as_str()),
            asked.machine.threads
        ),
        data: DataFacts {
            name: study.runs.first().map_or_else(String::new, |run| run.data.corpus.clone()),
            splits: splits.collect(),
            side: set.side(),
            channels: set.channels(),
        },
        backbone: BackboneFacts {
            name: format!("{}-{}", asked.backbone.word(), asked.width),
            features: backbone(study).map_or(0, |network| network.features),
            params: backbone_params(study),
        },
        recipe: recipe(study),
        test: TestFacts { ways: asked.test.ways, queries: asked.test.queries, episodes: asked.test.episodes },
        leads: leads(&groups),
        elsewhere: Vec::new(),
        claims: claims::judge(&rows, &differences, &sweep_rows, start),
        laws: sweeps::laws(&sweep_rows),
        rows,
        differences,
        sweeps: sweep_rows,
        episodes: drawn::episodes(study, set, &groups)?,
        cost: None,
        notes: Vec::new(),
    })
}

/// How it was trained, in words.
fn recipe(study: &FewShotStudy) -> Vec<(String, String)> {
    let (asked, mut rows) = (&study.asked, Vec::new());
    let words = |o: &super::study::Optimiser| {
        let name = if o.sgd { "SGD, Nesterov 0.9" } else { "AdamW" };
        format!("{name}, rate {} on a cosine to 0, weight decay {}", o.lr, o.weight_decay)
    };
    let pre = &asked.pretrain;
    if pre.epochs > 0.0 {
        rows.push((
            "pre-training".to_owned(),
            format!("softmax over base classes, {} epochs of batch {}", pre.epochs, pre.batch),
        ));
        rows.push(("its optimiser".to_owned(), words(&pre.optimiser)));
        rows.push((
            "its pictures".to_owned(),
            format!(
                "crops of {} to 1 of the area{}",
                pre.augment.crop,
                if pre.augment.flip { ", flips" } else { "" }
            ),
        ));
    }
    let e = &asked.episodes;
    if asked.methods.iter().any(|method| method.is_trained()) {
        rows.push((
            "episodes".to_owned(),
            format!("{} of {} ways, {} queries, {} a step", e.count, e.ways, e.queries, e.per_step),
        ));
        rows.push(("their optimiser".to_owned(), words(&e.optimiser)));
        rows.push(("heads".to_owned(), format!("rate × {}, distances over {}", e.head_lr, e.temperature)));
    }
    rows
}
