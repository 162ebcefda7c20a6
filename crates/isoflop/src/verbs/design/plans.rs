//! Studies that a budget allows, and which of them tells most: ladders of sizes first, one run of each, then further
//! seeds with what is left, each where it tells most for what it costs.

use super::setting::Setting;
use isoflop_base::ModelShape;
use isoflop_laws::design::Proposed;

/// Where points lie on a trunk, as shares of its tokens: two decades of compute, or a law with less of the beginning.
const PATTERNS: [[f64; 2]; 2] = [[0.25, 0.5], [0.5, 0.6875]];
/// Shares of the budget that one run of each size may take; the rest is for seeds.
const SHARES: [f64; 7] = [1.0, 0.95, 0.9, 0.85, 0.8, 0.65, 0.5];
/// Ladders that are looked at with seeds.
const KEPT: usize = 40;
/// Seeds of a size at most.
const MOST_SEEDS: usize = 4;
/// Fewest optimiser steps of a run that is worth proposing.
const FEWEST_STEPS: f64 = 200.0;
/// Fewest sizes of a ladder.
pub(super) const FEWEST_SIZES: usize = 3;

/// A study: each size with so many seeds, each seed a trunk with branches that end in points.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    /// Sizes, smallest first.
    pub(super) ladder: Vec<ModelShape>,
    /// Seeds of each.
    pub(super) seeds: Vec<usize>,
    /// Tokens of a trunk.
    pub(super) tokens: f64,
    /// Tokens of the points on the way.
    pub(super) branches: Vec<f64>,
}

impl Plan {
    /// Its rows.
    pub(super) fn rows(&self) -> Vec<Proposed> {
        let sizes = self.ladder.iter().zip(&self.seeds);
        let runs = sizes.flat_map(|(shape, seeds)| vec![shape.params() as f64; *seeds]);
        let ends = || self.branches.iter().copied().chain([self.tokens]);
        runs.enumerate().flat_map(|(run, n)| ends().map(move |d| Proposed { run, n, d })).collect()
    }

    /// What it costs, `per_token` being the price of one token of a size. A branch trains its own decay again.
    pub(super) fn cost(&self, setting: &Setting, per_token: &dyn Fn(ModelShape) -> f64) -> f64 {
        let sizes = self.ladder.iter().zip(&self.seeds);
        let models: f64 = sizes.map(|(shape, seeds)| *seeds as f64 * per_token(*shape)).sum();
        models * (self.tokens + setting.decay * self.branches.iter().sum::<f64>())
    }
}

/// The ladders there are: of the built-in series every stretch of at least four (all or every second size), of up to
/// eight own sizes every choice of at least three.
fn ladders(setting: &Setting) -> Vec<Vec<ModelShape>> {
    let all = &setting.shapes;
    let mut ladders: Vec<Vec<ModelShape>> = Vec::new();
    if setting.own && all.len() <= 8 {
        for set in 1u32..1 << all.len() {
            ladders.push((0..all.len()).filter(|i| set >> i & 1 == 1).map(|i| all[i]).collect());
        }
    } else {
        for (step, first) in [1, 2].into_iter().flat_map(|s| (0..all.len()).map(move |f| (s, f))) {
            for last in first..all.len() {
                ladders.push(all[first..=last].iter().step_by(step).copied().collect());
            }
        }
    }
    ladders.retain(|ladder| ladder.len() >= setting.least_sizes.max(FEWEST_SIZES));
    ladders
}

/// Every ladder with the tokens that a share of the budget then allows.
fn bare(setting: &Setting, budget: f64, per_token: &dyn Fn(ModelShape) -> f64) -> Vec<Plan> {
    let patterns: &[[f64; 2]] = if setting.branches { &PATTERNS } else { &[[0.0; 2]] };
    let mut plans: Vec<Plan> = Vec::new();
    for ladder in ladders(setting) {
        for (pattern, share) in patterns.iter().flat_map(|p| SHARES.map(|share| (p, share))) {
            let branches: Vec<f64> = pattern.iter().copied().filter(|b| *b > 0.0).collect();
            let mut plan =
                Plan { seeds: vec![1; ladder.len()], ladder: ladder.clone(), tokens: 1.0, branches };
            let tokens = (share * budget / plan.cost(setting, per_token)).min(setting.most_tokens);
            // Sixteenths of it are whole numbers of steps, too.
            let unit = 16.0 * setting.batch_tokens;
            plan.tokens = (tokens / unit).floor() * unit;
            plan.branches.iter_mut().for_each(|b| *b *= plan.tokens);
            let first = plan.branches.first().copied().unwrap_or(plan.tokens);
            let fits = plan.tokens >= FEWEST_STEPS * setting.batch_tokens && first >= setting.least_tokens;
            if fits && !plans.contains(&plan) {
                plans.push(plan);
            }
        }
    }
    plans
}

/// The plans a budget allows, each with its score, the best (the smallest) first.
pub(super) fn best(
    setting: &Setting,
    budget: f64,
    per_token: &dyn Fn(ModelShape) -> f64,
    score: &dyn Fn(&Plan) -> Option<f64>,
) -> Vec<(Plan, f64)> {
    let scored = |plan: Plan| score(&plan).map(|s| (plan, s));
    let mut plans: Vec<(Plan, f64)> =
        bare(setting, budget, per_token).into_iter().filter_map(scored).collect();
    plans.sort_by(|a, b| a.1.total_cmp(&b.1));
    plans.truncate(KEPT);
    for (plan, se) in &mut plans {
        add_seeds(plan, se, setting, budget, per_token, score);
    }
    plans.sort_by(|a, b| a.1.total_cmp(&b.1));
    plans
}

/// Further seeds while there is budget, the one that tells most for its cost first.
fn add_seeds(
    plan: &mut Plan,
    se: &mut f64,
    setting: &Setting,
    budget: f64,
    per_token: &dyn Fn(ModelShape) -> f64,
    score: &dyn Fn(&Plan) -> Option<f64>,
) {
    loop {
        let spent = plan.cost(setting, per_token);
        let with_one_more = (0..plan.ladder.len()).filter(|i| plan.seeds[*i] < MOST_SEEDS).filter_map(|i| {
            let mut more = plan.clone();
            more.seeds[i] += 1;
            let cost = more.cost(setting, per_token);
            let after = (cost <= budget).then(|| score(&more)).flatten().filter(|after| after < se)?;
            Some((libm::log(*se / after) / (cost - spent), more, after))
        });
        let Some((_, more, after)) = with_one_more.max_by(|a, b| a.0.total_cmp(&b.0)) else { return };
        (*plan, *se) = (more, after);
    }
}
