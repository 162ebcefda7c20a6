//! Every head against differences, and what must hold of a function of a set.

use super::baseline::{self, BaselineConfig};
use super::classifier::Classifier;
use super::*;
use crate::init::{mix, normal};

fn values(key: u64, len: usize) -> Vec<f64> {
    (0..len as u64).map(|i| normal(mix(key), i)).collect()
}

/// A head with weights far from a start.
fn head(config: HeadConfig) -> (Head<f64>, Vec<f64>) {
    let head = Head::new(config);
    let weights = values(7, head.parameters().len).iter().map(|w| 0.4 * w + 0.1).collect();
    (head, weights)
}

fn configs(width: usize) -> impl Iterator<Item = HeadConfig> {
    HeadKind::ALL.into_iter().map(move |kind| HeadConfig {
        temperature: 2.5,
        smoothing: 0.1,
        auxiliary: (kind == HeadKind::Feat).then_some((0.3, 1.7)),
        dropout: if kind == HeadKind::Feat { 0.5 } else { 0.0 },
        ..HeadConfig::new(kind, width)
    })
}

#[test]
fn every_gradient_is_the_limit_of_differences() {
    let episode = EpisodeShape { ways: 3, shots: 2, queries: 2 };
    for config in configs(8) {
        let (mut model, mut weights) = head(config);
        let mut f = values(11, episode.images() * 8);
        let (mut df, mut dw) = (vec![9.0; f.len()], vec![0.0; weights.len()]);
        let scale = 0.7;
        let mut loss = |f: &[f64], weights: &[f64], df: &mut [f64], dw: &mut [f64]| {
            let outcome = model.train(PlainLoops, episode, weights, f, (scale, 5), df, dw);
            let weight = config.auxiliary.map_or(0.0, |(weight, _)| weight);
            scale * (outcome.loss + weight * outcome.auxiliary)
        };
        loss(&f, &weights, &mut df, &mut dw);
        let (exact_df, exact_dw) = (df.clone(), dw.clone());
        let h = 1e-6;
        for i in 0..f.len() {
            let here = f[i];
            let [up, down] = [h, -h].map(|h| {
                f[i] = here + h;
                loss(&f, &weights, &mut df, &mut dw)
            });
            f[i] = here;
            let difference = (up - down) / (2.0 * h);
            assert!((difference - exact_df[i]).abs() < 1e-7, "{:?} f[{i}] {difference}", config.kind);
        }
        for i in 0..weights.len() {
            let here = weights[i];
            let [up, down] = [h, -h].map(|h| {
                weights[i] = here + h;
                loss(&f, &weights, &mut df, &mut dw)
            });
            weights[i] = here;
            let difference = (up - down) / (2.0 * h);
            assert!((difference - exact_dw[i]).abs() < 1e-7, "{:?} w[{i}] {difference}", config.kind);
        }
    }
}

#[test]
fn permuting_the_classes_permutes_the_logits() {
    for config in configs(16) {
        for ways in [2, 3, 7] {
            let episode = EpisodeShape { ways, shots: 3, queries: 2 };
            let (mut model, weights) = head(config);
            let (each, f) = (5 * 16, values(3, ways * 5 * 16));
            let order: Vec<usize> = (0..ways).map(|n| (n + 1) % ways).collect();
            let moved: Vec<f64> =
                order.iter().flat_map(|&n| f[n * each..(n + 1) * each].iter().copied()).collect();
            let (mut here, mut there) = (Vec::new(), Vec::new());
            let before = model.evaluate(PlainLoops, episode, &weights, &f, &mut here);
            let after = model.evaluate(PlainLoops, episode, &weights, &moved, &mut there);
            assert!((before.loss - after.loss).abs() < 1e-12 && before.correct == after.correct);
            for (row, (a, b)) in (0..2 * ways).flat_map(|row| order.iter().enumerate().map(move |p| (row, p)))
            {
                let from = order[row / 2] * 2 + row % 2;
                assert!((there[row * ways + a] - here[from * ways + b]).abs() < 1e-11, "{:?}", config.kind);
            }
        }
    }
}

/// At its start, with features that tell nothing, every head is as good as chance.
#[test]
fn without_knowledge_the_loss_is_that_of_chance() {
    let episode = EpisodeShape { ways: 5, shots: 5, queries: 15 };
    for kind in HeadKind::ALL {
        let mut model = Head::<f32>::new(HeadConfig { temperature: 64.0, ..HeadConfig::new(kind, 64) });
        let mut weights = vec![0f32; model.parameters().len];
        model.parameters().start(1, &mut weights);
        let f: Vec<f32> = values(5, 100 * 64).iter().map(|&x| x as f32 * 0.5).collect();
        let mut logits = Vec::new();
        let outcome = model.evaluate(KernelSet::detect(), episode, &weights, &f, &mut logits);
        assert!((outcome.loss - 5f64.ln()).abs() < 0.06, "{kind:?} {}", outcome.loss);
        assert_eq!(logits.len(), 75 * 5);
    }
}

/// Classes that lie well apart: the module to the letter makes one of them at its start, its repair does not.
#[test]
fn the_literal_module_collapses_at_its_start() {
    let episode = EpisodeShape { ways: 5, shots: 5, queries: 15 };
    let d = 64;
    let mut f: Vec<f32> = values(5, 100 * d).iter().map(|&x| x as f32 * 0.3).collect();
    for (n, class) in f.chunks_exact_mut(20 * d).enumerate() {
        let centre: Vec<f32> = values(100 + n as u64, d).iter().map(|&x| x as f32 * 0.2).collect();
        for x in class.chunks_exact_mut(d) {
            x.iter_mut().zip(&centre).for_each(|(x, c)| *x += c);
        }
    }
    let right = |kind| {
        let mut model = Head::<f32>::new(HeadConfig::new(kind, d));
        let mut weights = vec![0f32; model.parameters().len];
        model.parameters().start(1, &mut weights);
        let outcome = model.evaluate(KernelSet::detect(), episode, &weights, &f, &mut Vec::new());
        (outcome.correct as f64 / 75.0, model.geometry(5))
    };
    let (proto, _) = right(HeadKind::Proto);
    let (ccd, geometry) = right(HeadKind::Ccd);
    let (residual, repaired) = right(HeadKind::CcdResidual);
    assert!(proto > 0.9 && residual > 0.9 && ccd < 0.6, "{proto} {ccd} {residual}");
    assert!(geometry.entropy > 0.95, "attention is uniform: {geometry:?}");
    assert!(geometry.cosine_after > 0.9 && geometry.cosine_before < 0.5, "{geometry:?}");
    assert!(repaired.cosine_after < 0.6, "{repaired:?}");
}

#[test]
fn the_kernels_are_the_reference_within_rounding() {
    let episode = EpisodeShape { ways: 4, shots: 3, queries: 5 };
    for config in configs(40) {
        let (mut model, weights) = head(config);
        let narrow = |x: &[f64]| x.iter().map(|&x| x as f32).collect::<Vec<f32>>();
        let f = values(11, episode.images() * 40);
        let (mut df, mut dw) = (vec![0.0; f.len()], vec![0.0; weights.len()]);
        let exact = model.train(PlainLoops, episode, &weights, &f, (1.0, 5), &mut df, &mut dw);
        for set in KernelSet::runnable() {
            let mut fast = Head::<f32>::new(config);
            let (mut fast_df, mut fast_dw) = (vec![0f32; f.len()], vec![0f32; weights.len()]);
            let (w, x) = (narrow(&weights), narrow(&f));
            let found = fast.train(set, episode, &w, &x, (1.0, 5), &mut fast_df, &mut fast_dw);
            assert!((found.loss - exact.loss).abs() < 1e-4 * (1.0 + exact.loss), "{set:?} {:?}", config.kind);
            for (found, exact) in [(&fast_df, &df), (&fast_dw, &dw)] {
                let size = exact.iter().fold(0.0f64, |most, e| most.max(e.abs()));
                for (f, e) in found.iter().zip(exact) {
                    assert!((f64::from(*f) - e).abs() <= 1e-4 * size, "{set:?} {:?} {f} {e}", config.kind);
                }
            }
        }
    }
}

/// What is dropped is a function of the mask, and nothing is dropped when judging.
#[test]
fn dropout_follows_its_mask() {
    let episode = EpisodeShape { ways: 3, shots: 1, queries: 4 };
    let config = HeadConfig { dropout: 0.5, ..HeadConfig::new(HeadKind::Feat, 8) };
    let (mut model, weights) = head(config);
    let f = values(2, episode.images() * 8);
    let mut train = |mask| {
        let (mut df, mut dw) = (vec![0.0; f.len()], vec![0.0; weights.len()]);
        model.train(PlainLoops, episode, &weights, &f, (1.0, mask), &mut df, &mut dw).loss
    };
    let (a, b, again) = (train(1), train(2), train(1));
    assert!(a == again && a != b);
    let (mut without, _) = head(HeadConfig { dropout: 0.0, ..config });
    let judge =
        |model: &mut Head<f64>| model.evaluate(PlainLoops, episode, &weights, &f, &mut Vec::new()).loss;
    assert_eq!(judge(&mut model), judge(&mut without));
}

#[test]
fn baseline_s_gradient_is_the_limit_of_differences_and_fitting_helps() {
    let d = 6;
    let f: Vec<f64> = values(1, 4 * d);
    let classes = [0, 1, 2, 1];
    let mut w = values(2, 3 * d);
    let (_, dw) = baseline::loss_and_gradient(2.0, (&f, &classes), &w, d);
    for i in 0..w.len() {
        let here = w[i];
        let [up, down] = [1e-6, -1e-6].map(|h| {
            w[i] = here + h;
            baseline::loss_and_gradient(2.0, (&f, &classes), &w, d).0
        });
        w[i] = here;
        assert!(((up - down) / 2e-6 - dw[i]).abs() < 1e-8, "{i}");
    }
    let episode = EpisodeShape { ways: 5, shots: 5, queries: 15 };
    let mut features = values(5, 100 * 16);
    for (n, class) in features.chunks_exact_mut(20 * 16).enumerate() {
        class.chunks_exact_mut(16).for_each(|x| x[n] += 4.0);
    }
    let judge = |steps| {
        let config = BaselineConfig { steps, ..BaselineConfig::default() };
        baseline::evaluate(&config, episode, &features, 16).0
    };
    let (start, fitted) = (judge(0), judge(200));
    assert!(fitted.loss < start.loss && fitted.correct >= 70, "{start:?} {fitted:?}");
    // A vector without direction is no fault.
    let zeros = vec![0f32; 100 * 16];
    assert!(baseline::evaluate(&BaselineConfig::default(), episode, &zeros, 16).0.loss.is_finite());
}

#[test]
fn the_classifier_s_gradients_are_the_limits_of_differences() {
    let (n, d, m) = (5, 4, 3);
    let mut model = Classifier::<f64>::new(d, m, 0.1);
    let (mut w, mut f) = (values(1, model.parameters().len), values(2, n * d));
    let targets = [0, 2, 1, 1, 0];
    let (mut df, mut dw) = (vec![0.0; n * d], vec![0.0; w.len()]);
    let mut loss = |f: &[f64], w: &[f64], df: &mut [f64], dw: &mut [f64]| {
        model.train(PlainLoops, w, (f, &targets), 1.0, df, dw).0
    };
    loss(&f, &w, &mut df, &mut dw);
    let (exact_df, exact_dw) = (df.clone(), dw.clone());
    for i in 0..f.len() {
        let here = f[i];
        let [up, down] = [1e-6, -1e-6].map(|h| {
            f[i] = here + h;
            loss(&f, &w, &mut df, &mut dw)
        });
        f[i] = here;
        assert!(((up - down) / 2e-6 - exact_df[i]).abs() < 1e-8);
    }
    for i in 0..w.len() {
        let here = w[i];
        let [up, down] = [1e-6, -1e-6].map(|h| {
            w[i] = here + h;
            loss(&f, &w, &mut df, &mut dw)
        });
        w[i] = here;
        assert!(((up - down) / 2e-6 - exact_dw[i]).abs() < 1e-8);
    }
}

#[test]
fn a_class_without_features_has_nothing_in_common_with_another() {
    let rows = [1.0f32, 0.0, 1.0, 0.0, 0.0, 0.0];
    assert_eq!(mean_cosine(&rows, 2), 1.0 / 3.0);
    assert_eq!(mean_cosine(&[0.0f32; 4], 2), 0.0);
}
