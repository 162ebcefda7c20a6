//! Few-shot networks and heads against PyTorch in float64, and the engine against its reference.
//!
//! The goldens are made by `fixtures/make_conv.py`.

#[path = "golden/tensors.rs"]
mod tensors;

use isoflop_base::EpisodeShape;
use isoflop_nn::conv::heads::{Classifier, PlainLoops, baseline};
use isoflop_nn::conv::parameters::Parameters;
use isoflop_nn::conv::reference::Reference;
use isoflop_nn::conv::{
    Architecture, BlockConfig, ConvConfig, ConvError, ConvNet, ConvOptions, Features, Head, HeadConfig,
    HeadKind, Norm, OptimizerConfig, OptimizerState,
};
use isoflop_nn::{KernelSet, Precision};
use std::collections::HashMap;

/// A committed file: its document and its tensors, widened to f64.
struct Golden {
    document: serde_json::Value,
    tensors: HashMap<String, Vec<f64>>,
}

impl Golden {
    fn read(name: &str) -> Self {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/");
        let text = std::fs::read_to_string(format!("{folder}{name}.json")).unwrap();
        let bytes = std::fs::read(format!("{folder}{name}.safetensors")).unwrap();
        Self { document: serde_json::from_str(&text).unwrap(), tensors: tensors::parse(&bytes) }
    }

    fn get(&self, name: &str) -> &[f64] {
        self.tensors.get(name).unwrap_or_else(|| panic!("no tensor {name}"))
    }

    fn number(&self, key: &str) -> usize {
        self.document["case"][key].as_u64().unwrap() as usize
    }

    /// A flat buffer of the tensors `{prefix}.{name}`, in our order.
    fn buffer(&self, prefix: &str, layout: &Parameters) -> Vec<f64> {
        let mut buffer = vec![0.0; layout.len];
        for tensor in &layout.tensors {
            let torch = self.get(&format!("{prefix}.{}", tensor.name));
            tensor.from_torch(torch, &mut buffer[tensor.range()]);
        }
        buffer
    }

    /// Running statistics of all norms, `what` being `running_mean` or `running_var`.
    fn running(&self, network: &Architecture, what: &str) -> Vec<f64> {
        let names = network.norms.iter().map(|norm| format!("running.{norm}.{what}"));
        names.flat_map(|name| self.get(&name).to_vec()).collect()
    }

    fn config(&self) -> ConvConfig {
        let case = &self.document["case"];
        let widths = case["widths"].as_array().unwrap().iter().map(|w| w.as_u64().unwrap() as usize);
        let (convs, shortcut) = (self.number("convs"), case["shortcut"].as_bool().unwrap());
        ConvConfig {
            image: self.number("image"),
            channels: self.number("channels"),
            blocks: widths.map(|width| BlockConfig { width, convs, shortcut }).collect(),
            slope: case["slope"].as_f64().unwrap(),
            features: if case["mean"].as_bool().unwrap() { Features::Mean } else { Features::Flatten },
        }
    }
}

/// Relative L2 distance.
fn distance<T: Copy + Into<f64>>(found: &[T], exact: &[f64]) -> f64 {
    assert_eq!(found.len(), exact.len());
    let (mut error, mut size) = (0.0, 0.0);
    for (&f, e) in found.iter().zip(exact) {
        error += (f.into() - e).powi(2);
        size += e * e;
    }
    (error / size.max(1e-24)).sqrt()
}

fn narrow(x: &[f64]) -> Vec<f32> {
    x.iter().map(|&x| x as f32).collect()
}

/// Each tensor of a flat buffer within `bound`.
fn tensors_agree<T: Copy + Into<f64>>(
    what: &str,
    layout: &Parameters,
    found: &[T],
    exact: &[f64],
    bound: f64,
) {
    for tensor in &layout.tensors {
        let d = distance(&found[tensor.range()], &exact[tensor.range()]);
        assert!(d < bound, "{what}: {}: {d:e}", tensor.name);
    }
}

const BACKBONES: [&str; 3] = ["backbone_conv4", "backbone_conv4_flat", "backbone_resnet12"];

#[test]
fn the_reference_in_f64_is_pytorch_in_float64() {
    for case in BACKBONES {
        let golden = Golden::read(case);
        let config = golden.config();
        let layout = Architecture::new(&config).unwrap().parameters;
        let mut model = Reference::new(&config, golden.buffer("weights", &layout)).unwrap();
        let features = model.forward(golden.get("images"), Norm::Batch);
        assert!(distance(&features, golden.get("features")) < 1e-12, "{case}: features");
        model.backward(golden.get("dfeatures"));
        tensors_agree(case, &layout, &model.gradients, &golden.buffer("grads", &layout), 1e-10);
        let network = model.network().clone();
        for (found, what) in [(&model.running_mean, "running_mean"), (&model.running_variance, "running_var")]
        {
            assert!(distance(found, &golden.running(&network, what)) < 1e-12, "{case}: {what}");
        }
        let embedded = model.forward(golden.get("images"), Norm::Running);
        assert!(distance(&embedded, golden.get("embedded")) < 1e-12, "{case}: evaluation");
        model.backward(golden.get("dfeatures"));
        tensors_agree(case, &layout, &model.gradients, &golden.buffer("frozen", &layout), 1e-10);
    }
}

fn engine(golden: &Golden, precision: Precision, set: KernelSet) -> ConvNet {
    let images = golden.number("batch");
    let options = ConvOptions { kernels: set, threads: 2, images, seed: 1, precision };
    let mut net = ConvNet::new(&golden.config(), &options).unwrap();
    let weights = narrow(&golden.buffer("weights", &net.network().parameters));
    net.update(|_, w, _| w.copy_from_slice(&weights));
    net
}

#[test]
fn the_engine_in_f32_is_pytorch_within_rounding() {
    for case in BACKBONES {
        let golden = Golden::read(case);
        let (images, dfeatures) = (narrow(golden.get("images")), narrow(golden.get("dfeatures")));
        for set in KernelSet::runnable() {
            let what = format!("{case} {set:?}");
            let mut net = engine(&golden, Precision::F32, set);
            let layout = net.network().parameters.clone();
            let d = distance(net.forward(&images, Norm::Batch).unwrap(), golden.get("features"));
            assert!(d < 1e-5, "{what}: features {d:e}");
            net.backward(&images, &dfeatures);
            // A dozen images of a few pixels in the last block: norms there divide by small deviations.
            tensors_agree(&what, &layout, net.gradients(), &golden.buffer("grads", &layout), 1e-4);
            let network = net.network().clone();
            for (found, name) in net.running().into_iter().zip(["running_mean", "running_var"]) {
                assert!(distance(found, &golden.running(&network, name)) < 1e-5, "{what}: {name}");
            }
            let mut embedded = vec![0f32; golden.get("embedded").len()];
            net.embed(&images, &mut embedded).unwrap();
            let d = distance(&embedded, golden.get("embedded"));
            assert!(d < 1e-5, "{what}: evaluation {d:e}");
            let frozen = net.forward(&images, Norm::Running).unwrap();
            assert!(frozen == embedded, "{what}: frozen norms are those of evaluation");
            net.backward(&images, &dfeatures);
            tensors_agree(&what, &layout, net.gradients(), &golden.buffer("frozen", &layout), 1e-4);
        }
    }
}

/// What is multiplied and what is kept has eight bits; sums and norms are f32. Of a dozen images of a few pixels, whose
/// norms divide by small deviations, the gradient as a whole lies within a seventh of the exact one; sets, which
/// differ by the order of sums alone, lie twenty times closer to each other.
#[test]
fn the_engine_in_bf16_is_pytorch_within_its_rounding() {
    for case in BACKBONES {
        let golden = Golden::read(case);
        let (images, dfeatures) = (narrow(golden.get("images")), narrow(golden.get("dfeatures")));
        let layout = Architecture::new(&golden.config()).unwrap().parameters;
        let exact = golden.buffer("grads", &layout);
        let mut first: Option<Vec<f64>> = None;
        for set in KernelSet::runnable() {
            let what = format!("{case} {set:?}");
            let mut net = engine(&golden, Precision::Bf16, set);
            let features = distance(net.forward(&images, Norm::Batch).unwrap(), golden.get("features"));
            net.backward(&images, &dfeatures);
            let gradient = distance(net.gradients(), &exact);
            assert!(features > 1e-4 && gradient > 1e-4, "{what}: nothing was rounded");
            assert!(features < 0.015, "{what}: features {features:e}");
            assert!(gradient < 0.15, "{what}: gradient {gradient:e}");
            let found: Vec<f64> = net.gradients().iter().map(|&g| f64::from(g)).collect();
            let apart = distance(net.gradients(), first.get_or_insert(found));
            assert!(apart < 5e-3, "{what}: {apart:e} from the first set");
        }
    }
}

#[test]
fn steps_of_both_optimisers_are_pytorchs() {
    for case in BACKBONES {
        let golden = Golden::read(case);
        let images = narrow(golden.get("images"));
        let share = golden.get("dfeatures").len() as f64;
        let dfeatures: Vec<f32> = golden.get("dfeatures").iter().map(|d| (d / share) as f32).collect();
        let adamw = OptimizerConfig::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 };
        for (name, config, lr) in [("sgd", OptimizerConfig::sgd(), 0.1), ("adamw", adamw, 1e-3)] {
            let set = KernelSet::detect();
            let mut net = engine(&golden, Precision::F32, set);
            let layout = net.network().parameters.clone();
            let mut state = OptimizerState::new(config, layout.len);
            for _ in 0..golden.document["steps"].as_u64().unwrap() {
                net.forward(&images, Norm::Batch).unwrap();
                net.backward(&images, &dfeatures);
                net.update(|pool, w, g| state.step(set, pool, lr, 1.0, w, g)).unwrap();
            }
            // AdamW divides by the gradient's own size, so that rounding shows where that is near zero.
            let bound = if name == "sgd" { 1e-5 } else { 1e-3 };
            tensors_agree(
                &format!("{case} {name}"),
                &layout,
                net.weights(),
                &golden.buffer(name, &layout),
                bound,
            );
        }
    }
}

fn head_of(name: &str, golden: &Golden) -> (HeadConfig, EpisodeShape) {
    let kind = HeadKind::ALL.into_iter().find(|kind| kind.word() == name).unwrap();
    let number = |value: &serde_json::Value| value.as_f64().unwrap();
    let auxiliary = golden.document["case"].get("auxiliary");
    let config = HeadConfig {
        temperature: number(&golden.document["temperature"]),
        smoothing: number(&golden.document["smoothing"]),
        auxiliary: auxiliary.map(|pair| (number(&pair[0]), number(&pair[1]))),
        ..HeadConfig::new(kind, golden.number("width"))
    };
    let of = |key: &str| golden.document["episode"][key].as_u64().unwrap() as usize;
    (config, EpisodeShape { ways: of("ways"), shots: of("shots"), queries: of("queries") })
}

#[test]
fn every_head_is_pytorchs() {
    for kind in HeadKind::ALL {
        let name = kind.word();
        let golden = Golden::read(&format!("head_{name}"));
        let (config, episode) = head_of(name, &golden);
        let mut head = Head::<f64>::new(config);
        let layout = head.parameters().clone();
        let weights = golden.buffer("weights", &layout);
        let f = golden.get("features");
        let (mut df, mut dw, mut logits) = (vec![0.0; f.len()], vec![0.0; layout.len], Vec::new());
        let outcome = head.train(PlainLoops, episode, &weights, f, (1.0, 1), &mut df, &mut dw);
        let losses = golden.get("losses");
        assert!((outcome.loss - losses[0]).abs() < 1e-12, "{name}: loss");
        assert!((outcome.auxiliary - losses[1]).abs() < 1e-12, "{name}: auxiliary loss");
        assert!(distance(&df, golden.get("dfeatures")) < 1e-11, "{name}: gradient of features");
        let exact = golden.buffer("grads", &layout);
        for tensor in &layout.tensors {
            // A key bias shifts all scores of a row alike: its true gradient is 0.
            let (found, exact) = (&dw[tensor.range()], &exact[tensor.range()]);
            let d = found.iter().zip(exact).map(|(f, e)| (f - e).abs()).fold(0.0, f64::max);
            assert!(d < 1e-11, "{name}: {}: {d:e}", tensor.name);
        }
        head.evaluate(PlainLoops, episode, &weights, f, &mut logits);
        assert!(distance(&logits, golden.get("logits")) < 1e-12, "{name}: logits");
    }
}

#[test]
fn the_heads_without_episodes_are_pytorchs() {
    let golden = Golden::read("head_classifier");
    let number = |key: &str| golden.document[key].as_f64().unwrap();
    let mut model = Classifier::<f64>::new(10, 5, number("smoothing"));
    let layout = model.parameters().clone();
    let targets: Vec<u32> = golden.get("targets").iter().map(|&t| t as u32).collect();
    let (f, weights) = (golden.get("features"), golden.buffer("weights", &layout));
    let (mut df, mut dw) = (vec![0.0; f.len()], vec![0.0; layout.len]);
    let (loss, _) = model.train(PlainLoops, &weights, (f, &targets), 1.0, &mut df, &mut dw);
    assert!((loss - golden.get("loss")[0]).abs() < 1e-12);
    assert!(distance(&df, golden.get("dfeatures")) < 1e-12);
    tensors_agree("classifier", &layout, &dw, &golden.buffer("grads", &layout), 1e-12);

    let normed: Vec<f64> = f
        .chunks_exact(10)
        .flat_map(|row| {
            let length = row.iter().map(|x| x * x).sum::<f64>().sqrt();
            row.iter().map(move |x| x / length)
        })
        .collect();
    let classes: Vec<usize> = targets.iter().map(|&t| t as usize).collect();
    let (loss, dw) =
        baseline::loss_and_gradient(number("scale"), (&normed, &classes), golden.get("classes"), 10);
    assert!((loss - golden.get("cosine_loss")[0]).abs() < 1e-12);
    assert!(distance(&dw, golden.get("dclasses")) < 1e-12);
}

/// Networks wide enough that a gradient is divided by rows, images of every size of task.
/// Gradients in groups of images, by rows, and, of images large enough for Winograd's transform, by channels.
fn small_cases() -> [(ConvConfig, usize); 5] {
    let wide = BlockConfig { width: 248, convs: 2, shortcut: true };
    let thin = BlockConfig { width: 9, convs: 1, shortcut: true };
    let odd = BlockConfig { width: 5, convs: 2, shortcut: true };
    [
        (ConvConfig::conv4(28, 1, 12), 37),
        (ConvConfig::resnet12(17, 3, [4, 6, 5, 9]), 6),
        (ConvConfig { blocks: vec![thin, wide], ..ConvConfig::resnet12(9, 2, [1; 4]) }, 5),
        (ConvConfig { blocks: vec![thin, wide], ..ConvConfig::resnet12(11, 2, [1; 4]) }, 3),
        // An odd number of elements in every image.
        (ConvConfig { blocks: vec![odd, odd], ..ConvConfig::resnet12(21, 3, [1; 4]) }, 3),
    ]
}

fn numbers(len: usize, k: f32) -> Vec<f32> {
    (0..len).map(|i| ((i % 9973) as f32 * k).sin()).collect()
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let cases = small_cases().into_iter();
    for ((config, batch), precision) in
        cases.flat_map(|case| [(case.clone(), Precision::F32), (case, Precision::Bf16)])
    {
        let run = |threads: usize| {
            let set = KernelSet::detect();
            let options = ConvOptions { kernels: set, threads, images: batch, seed: 3, precision };
            let mut net = ConvNet::new(&config, &options).unwrap();
            let images = numbers(batch * net.network().input, 0.37);
            let dfeatures = numbers(batch * net.network().features, 0.71);
            let mut state = OptimizerState::new(OptimizerConfig::sgd(), net.weights().len());
            for _ in 0..2 {
                net.forward(&images, Norm::Batch).unwrap();
                net.backward(&images, &dfeatures);
                net.update(|pool, w, g| state.step(set, pool, 0.01, 1.0, w, g)).unwrap();
            }
            let mut embedded = vec![0f32; batch * net.network().features];
            net.embed(&images, &mut embedded).unwrap();
            (embedded, net.weights().to_vec(), net.running().map(<[f32]>::to_vec))
        };
        let one = run(1);
        assert!(one.1.iter().all(|w| w.is_finite()));
        for threads in [2, 5] {
            assert!(one == run(threads), "{threads} threads, {precision:?}: {config:?}");
        }
    }
}

/// The division by rows, and batches smaller than the network was built for, against plain loops.
#[test]
fn the_engine_is_its_reference_in_every_division() {
    let cases = small_cases().into_iter();
    for ((config, batch), (precision, bounds)) in cases.flat_map(|case| {
        [(case.clone(), (Precision::F32, [1e-4, 1e-3])), (case, (Precision::Bf16, [0.03, 0.3]))]
    }) {
        let (kernels, images) = (KernelSet::detect(), batch + 3);
        let options = ConvOptions { kernels, threads: 2, images, seed: 5, precision };
        let mut net = ConvNet::new(&config, &options).unwrap();
        let images = numbers(batch * net.network().input, 0.37);
        let dfeatures = numbers(batch * net.network().features, 0.71);
        let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        let mut exact = Reference::new(&config, wide(net.weights())).unwrap();
        let features = exact.forward(&wide(&images), Norm::Batch);
        exact.backward(&wide(&dfeatures));
        let d = distance(net.forward(&images, Norm::Batch).unwrap(), &features);
        assert!(d < bounds[0], "{precision:?}: features {d:e}");
        net.backward(&images, &dfeatures);
        // In bf16 the first of many layers over a few pixels lies far off by itself.
        let what = format!("{precision:?} {config:?}");
        if precision == Precision::F32 {
            let layout = net.network().parameters.clone();
            tensors_agree(&what, &layout, net.gradients(), &exact.gradients, bounds[1]);
        }
        let d = distance(net.gradients(), &exact.gradients);
        assert!(d < bounds[1], "{what}: gradient {d:e}");
    }
}

/// Gradients take the place of what a forward pass kept.
#[test]
#[should_panic(expected = "a forward pass comes first")]
fn a_forward_pass_is_used_up_by_one_backward_pass() {
    let config = ConvConfig::conv4(16, 1, 4);
    let options = ConvOptions {
        kernels: KernelSet::detect(),
        threads: 1,
        images: 1,
        seed: 1,
        precision: Precision::F32,
    };
    let mut net = ConvNet::new(&config, &options).unwrap();
    net.forward(&[0.5; 256], Norm::Batch).unwrap();
    net.backward(&[0.5; 256], &[1.0; 4]);
    net.backward(&[0.5; 256], &[1.0; 4]);
}

#[test]
fn memory_is_what_was_planned() {
    for (config, batch) in small_cases() {
        let options = ConvOptions {
            kernels: KernelSet::detect(),
            threads: 2,
            images: batch,
            seed: 1,
            precision: Precision::F32,
        };
        let plan = ConvNet::plan(&config, &options).unwrap();
        assert_eq!(plan, ConvNet::new(&config, &options).unwrap().memory());
        assert!(plan.groups.iter().all(|(_, bytes)| *bytes > 0));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let config = ConvConfig::conv4(16, 1, 4);
    let options = ConvOptions {
        kernels: KernelSet::detect(),
        threads: 1,
        images: 2,
        seed: 1,
        precision: Precision::F32,
    };
    let mut net = ConvNet::new(&config, &options).unwrap();
    for len in [0, 255, 3 * 256] {
        let refused = net.forward(&vec![0.0; len], Norm::Batch);
        assert!(matches!(refused, Err(ConvError::Batch { most: 2, each: 256, .. })), "{len}");
    }
    let none = ConvNet::new(&config, &ConvOptions { images: 0, ..options });
    assert!(matches!(none, Err(ConvError::Setting { .. })));
}
