//! `isoflop bench fewshot`: whole training steps on episodes, and the test on stored features.

use super::{check_memory, check_sizes, peak_flops_per_s, values};
use crate::cli::{Context, word};
use isoflop_base::units::{bytes, si};
use isoflop_base::{Backbone, EpisodeShape, HeadKind, Precision};
use isoflop_data::episodes::{Episode, EpisodeClass, Episodes};
use isoflop_lab::UserError;
use isoflop_lab::machine::{choice::precision_of, processor};
use isoflop_nn::conv::{
    ConvConfig, ConvOptions, FewShotConfig, FewShotEngine, Head, HeadConfig, ImageBatch, LearnerConfig, Norm,
    OptimizerConfig, Targets,
};
use isoflop_nn::{Engine as _, SingleDevice};
use std::process::ExitCode;
use std::time::Instant;

/// Arguments of `isoflop bench fewshot`.
#[derive(Debug, clap::Args)]
pub(crate) struct FewShotBenchArgs {
    /// Backbone.
    #[arg(long, value_parser = word::<Backbone>(), default_value = "conv4")]
    network: Backbone,
    /// Channels of its first block.
    #[arg(long, default_value_t = 64)]
    width: usize,
    /// Pixels of a side.
    #[arg(long, default_value_t = 28)]
    image: usize,
    /// Channels of an image.
    #[arg(long, default_value_t = 1)]
    channels: usize,
    /// Head.
    #[arg(long, value_parser = word::<HeadKind>(), default_value = "proto")]
    head: HeadKind,
    /// Classes of an episode.
    #[arg(long, default_value_t = 5)]
    ways: usize,
    /// Support images of each.
    #[arg(long, default_value_t = 5)]
    shots: usize,
    /// Query images of each.
    #[arg(long, default_value_t = 15)]
    queries: usize,
    /// Episodes of a step.
    #[arg(long, default_value_t = 1)]
    episodes: usize,
    /// Steps to time.
    #[arg(long, default_value_t = 20)]
    steps: usize,
    /// Steps before them that are not timed.
    #[arg(long, default_value_t = 2)]
    warmup: usize,
    /// Threads [default: one per usable core].
    #[arg(long)]
    threads: Option<usize>,
    /// What convolutions multiply in, f32 or bf16 [default: the faster one of this processor]
    #[arg(long, value_parser = word::<Precision>())]
    precision: Option<Precision>,
    /// Draw and judge so many episodes on features that lie in memory instead of training.
    #[arg(long, value_name = "EPISODES")]
    evaluate: Option<usize>,
}

/// Runs the verb.
pub(crate) fn run(args: &FewShotBenchArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let shape = EpisodeShape { ways: args.ways, shots: args.shots, queries: args.queries };
    check_sizes(&[
        ("width", args.width),
        ("image", args.image),
        ("channels", args.channels),
        ("ways", args.ways),
        ("shots", args.shots),
        ("queries", args.queries),
        ("episodes", args.episodes),
        ("steps", args.steps),
        ("threads", args.threads.unwrap_or(1)),
        ("evaluate", args.evaluate.unwrap_or(1)),
    ])?;
    match args.evaluate {
        Some(count) => evaluate(args, shape, count, ctx),
        None => train(args, shape, ctx),
    }
}

fn network(args: &FewShotBenchArgs) -> ConvConfig {
    match args.network {
        Backbone::Conv4 => ConvConfig::conv4(args.image, args.channels, args.width),
        Backbone::ResNet12 => {
            ConvConfig::resnet12(args.image, args.channels, [1, 2, 4, 8].map(|times| times * args.width))
        }
    }
}

fn train(args: &FewShotBenchArgs, shape: EpisodeShape, ctx: &Context) -> anyhow::Result<ExitCode> {
    let cpu = processor()?;
    let threads = args.threads.unwrap_or(cpu.threads);
    let network = network(args);
    let features = isoflop_nn::conv::Architecture::new(&network).map_err(UserError::from_error)?.features;
    let config = FewShotConfig {
        learner: LearnerConfig::Episodes(HeadConfig {
            temperature: features as f64,
            ..HeadConfig::new(args.head, features)
        }),
        network: network.clone(),
        optimizer: OptimizerConfig::sgd(),
        head_lr: 1.0,
        norm: Norm::Batch,
        frozen: false,
        clip: 0.0,
    };
    let images = args.episodes * shape.images();
    let precision = args.precision.unwrap_or_else(|| precision_of(cpu.kernels).precision);
    let options = ConvOptions { kernels: cpu.kernels, threads, images, seed: 1, precision };
    let planned = FewShotEngine::plan(&config, &options).map_err(UserError::from_error)?.total();
    check_memory(planned as f64)?;
    let peak = peak_flops_per_s(cpu.kernels, precision, threads);
    let system = isoflop_meter::System::real();
    let before = system.peak_memory();
    let mut engine = FewShotEngine::new(&config, &options).map_err(UserError::from_error)?;
    let pixels = images * args.image * args.image * args.channels;
    let batch = ImageBatch { images: values(pixels), targets: Targets::Episodes { shape, first: 0 } };
    let mut step = || -> anyhow::Result<()> {
        engine.accumulate(&batch, 1.0)?;
        engine.reduce(&mut SingleDevice)?;
        engine.update(1e-3)?;
        Ok(())
    };
    for _ in 0..args.warmup {
        step()?;
    }
    let start = Instant::now();
    for _ in 0..args.steps {
        step()?;
    }
    let seconds = start.elapsed().as_secs_f64() / args.steps as f64;
    let episodes_per_s = args.episodes as f64 / seconds;
    let flops_per_s = 3.0 * images as f64 * network.flops() as f64 / seconds;
    let used = match (before.value(), system.peak_memory().value()) {
        (Some(before), Some(after)) => Some(after - before),
        _ => None,
    };
    if ctx.json {
        let document = serde_json::json!({
            "network": args.network.word(), "width": args.width, "image": args.image, "channels": args.channels,
            "head": args.head.word(), "ways": args.ways, "shots": args.shots, "queries": args.queries,
            "episodes": args.episodes, "steps": args.steps, "seconds_per_step": seconds,
            "episodes_per_s": episodes_per_s, "images_per_s": images as f64 / seconds,
            "flops_per_s": flops_per_s, "peak_flops_per_s": peak, "share_of_peak": flops_per_s / peak,
            "peak_memory_bytes": used, "planned_memory_bytes": planned, "kernels": cpu.kernels.name(),
            "precision": precision.word(), "threads": threads,
        });
        println!("{document:#}");
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{}-{} at {} px, {}-way {}-shot, {} episodes a step: {episodes_per_s:.2} episodes/s, {:.1} ms a step",
        args.network.word(),
        args.width,
        args.image,
        args.ways,
        args.shots,
        args.episodes,
        1e3 * seconds
    );
    println!(
        "{}FLOP/s, {:.0} % of the {}FLOP/s that {threads} threads reach at most ({}, {})",
        si(flops_per_s),
        100.0 * flops_per_s / peak,
        si(peak),
        cpu.kernels.name(),
        precision.word()
    );
    let used = used.map_or_else(|| "not measured here".to_owned(), bytes);
    println!("memory planned {}, measured {used}", bytes(planned));
    Ok(ExitCode::SUCCESS)
}

/// Classes of the features that are tested on, and images of each: those of mini-ImageNet's test split.
const STORED: (usize, usize) = (20, 600);

/// What a test does once its images are embedded: draws episodes, gathers their features, judges them.
fn evaluate(
    args: &FewShotBenchArgs,
    shape: EpisodeShape,
    count: usize,
    ctx: &Context,
) -> anyhow::Result<ExitCode> {
    let cpu = processor()?;
    let threads = args.threads.unwrap_or(cpu.threads);
    let d = isoflop_nn::conv::Architecture::new(&network(args)).map_err(UserError::from_error)?.features;
    let config = HeadConfig { temperature: d as f64, ..HeadConfig::new(args.head, d) };
    let mut weights = vec![0.0f32; Head::<f32>::new(config).parameters().len];
    Head::<f32>::new(config).parameters().start(1, &mut weights);
    let (classes, images) = (STORED.0.max(shape.ways), STORED.1.max(shape.each()));
    let class = |c: usize| EpisodeClass { name: c.to_string(), images: c * images..(c + 1) * images };
    let episodes =
        Episodes::new((0..classes).map(class).collect(), shape, 1).map_err(UserError::from_error)?;
    let features = values(classes * images * d);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (features, weights, episodes) = (&features, &weights, &episodes);
            scope.spawn(move || {
                let (mut head, mut logits) = (Head::<f32>::new(config), Vec::new());
                let (mut episode, mut f) = (Episode::default(), Vec::new());
                for number in (thread..count).step_by(threads) {
                    episodes.episode(number as u64, &mut episode);
                    f.clear();
                    for image in &episode.images {
                        f.extend_from_slice(&features[image * d..(image + 1) * d]);
                    }
                    head.evaluate(cpu.kernels, shape, weights, &f, &mut logits);
                }
            });
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    let rate = count as f64 / seconds;
    if ctx.json {
        let document = serde_json::json!({
            "head": args.head.word(), "features": d, "ways": args.ways, "shots": args.shots,
            "queries": args.queries, "episodes": count, "seconds": seconds, "episodes_per_s": rate,
            "threads": threads,
        });
        println!("{document:#}");
    } else {
        println!("{count} episodes judged in {seconds:.3} s: {} a second", si(rate));
    }
    Ok(ExitCode::SUCCESS)
}
