//! A few-shot study's file: what is compared, on which pictures, trained how.
//!
//! Nothing is made of it here but values: [`super::runs`] lays out the runs.

use crate::error::UserError;
use crate::machine::Hardware;
use crate::study::device;
use crate::study::instruments::instruments;
use crate::study::raw::RawStudy;
use crate::study::resolve::{self, Machine, Notes};
use isoflop_base::fewshot::Augment;
use isoflop_base::study::{MachineSpec, PROCESSOR};
use isoflop_base::units::{parse_count, parse_seconds, parse_whole};
use isoflop_base::{Backbone, HeadKind, Precision};
use std::path::PathBuf;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Nearest mean on the features of pre-training: nothing is trained on episodes.
    NearestMean,
    /// Cosine softmax on the features of pre-training, fitted in each episode (Chen et al. 2019, arXiv 1904.04232).
    Baseline,
    /// A head trained on episodes.
    Head(HeadKind),
    /// Class means on a backbone that saw nothing but episodes: ProtoNet as it was published, without pre-training.
    Scratch,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::NearestMean,
        Self::Baseline,
        Self::Head(HeadKind::Proto),
        Self::Head(HeadKind::Ccd),
        Self::Head(HeadKind::CcdResidual),
        Self::Head(HeadKind::CcdMha),
        Self::Head(HeadKind::Feat),
        Self::Scratch,
    ];

    /// Those of a study that names none: all that start alike.
    fn usual() -> Vec<Self> {
        Self::ALL.into_iter().filter(|method| *method != Self::Scratch).collect()
    }

    /// Whether there is a run on episodes behind it.
    pub fn is_trained(self) -> bool {
        matches!(self, Self::Head(_) | Self::Scratch)
    }

    /// Its name in studies and tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::NearestMean => "nearest-mean",
            Self::Baseline => "baseline++",
            Self::Head(head) => head.word(),
            Self::Scratch => "proto-scratch",
        }
    }
}

impl std::str::FromStr for Method {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|method| method.word() == word).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.map(Self::word).to_vec();
            format!("there is no method \"{word}\"\nhint: write some of {}", known.join(", "))
        })
    }
}

/// Where the pictures are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The built-in icons.
    Icons,
    /// `folder/{train,val,test}/class/*` or `folder/class/*`.
    Folder(PathBuf),
    /// Lists of `filename,label` whose files lie in `images`.
    Lists {
        /// Where the files are.
        images: PathBuf,
        /// Split and list.
        lists: Vec<(&'static str, PathBuf)>,
    },
    /// A prepared set, such as `isoflop fewshot prepare-icons` makes.
    Prepared(PathBuf),
}

impl Source {
    /// Where the pictures are, for people.
    pub fn place(&self) -> String {
        match self {
            Self::Icons => "the built-in icons".to_owned(),
            Self::Folder(path) | Self::Prepared(path) | Self::Lists { images: path, .. } => {
                path.display().to_string()
            }
        }
    }
}

/// Pictures and how they are made alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pictures {
    /// Where they are.
    pub source: Source,
    /// Pixels of the shorter side after resizing, and of the middle that is kept.
    pub resize: usize,
    /// See above.
    pub side: usize,
    /// Channels; others are converted.
    pub channels: usize,
}

/// An optimiser and its rates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Optimiser {
    /// SGD with Nesterov's momentum of 0.9, or AdamW.
    pub sgd: bool,
    /// Peak rate.
    pub lr: f64,
    /// Weight decay on every tensor: L2 for SGD, decoupled for AdamW.
    pub weight_decay: f64,
}

/// Pre-training by softmax over the base classes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pretrain {
    /// Passes over the base images; 0: none, heads start from scratch.
    pub epochs: f64,
    /// Images of a step.
    pub batch: u64,
    /// How weights move.
    pub optimiser: Optimiser,
    /// Label smoothing.
    pub smoothing: f64,
    /// How images are changed.
    pub augment: Augment,
}

/// Training on episodes.
#[derive(Debug, Clone, PartialEq)]
pub struct EpisodeRecipe {
    /// Classes N.
    pub ways: usize,
    /// Support images of each; a head is trained for each.
    pub shots: Vec<usize>,
    /// Query images of each.
    pub queries: usize,
    /// Episodes of a training.
    pub count: u64,
    /// Episodes of a training that moves the backbone, where others do not: they cost a thousand times as much.
    pub trained_count: u64,
    /// Episodes of a training from scratch; without it so many that it sees as many images as pre-training.
    pub scratch_count: Option<u64>,
    /// Peak rate of a training from scratch.
    pub scratch_lr: f64,
    /// Episodes of a step.
    pub per_step: u64,
    /// Episodes of a pass through the network.
    pub per_pass: u64,
    /// How weights move.
    pub optimiser: Optimiser,
    /// Rate of the head, as a multiple.
    pub head_lr: f64,
    /// What squared distances are divided by.
    pub temperature: f64,
    /// Label smoothing.
    pub smoothing: f64,
    /// FEAT's dropout.
    pub dropout: f64,
    /// Weight and temperature of FEAT's auxiliary loss; a weight of 0 for none.
    pub auxiliary: (f64, f64),
    /// The backbone stays as it started, but for `proto`, which has nothing else to train.
    pub frozen: bool,
    /// Batch norm keeps the statistics it started with.
    pub frozen_norm: bool,
    /// How images are changed.
    pub augment: Augment,
}

/// The test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    /// Episodes.
    pub episodes: u64,
    /// Classes of one.
    pub ways: usize,
    /// Support images of each class.
    pub shots: Vec<usize>,
    /// Query images of each class.
    pub queries: usize,
    /// Other pictures that the same methods are tested on: class folders or prepared sets.
    pub also: Vec<PathBuf>,
    /// Query images of each of their classes.
    pub also_queries: usize,
    /// Whether their light and dark are exchanged.
    pub also_inverted: bool,
}

/// What is varied besides the method, each by itself, with the first seed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sweep {
    /// Of which methods.
    pub methods: Vec<Method>,
    /// Support images of a class.
    pub shots: Vec<usize>,
    /// Support images of a class as what is varied.
    pub support: Vec<usize>,
    /// Shares of the base classes.
    pub classes: Vec<f64>,
    /// Most base images of a class.
    pub images: Vec<u64>,
    /// Widths of the backbone.
    pub widths: Vec<usize>,
    /// Episodes of a step.
    pub per_step: Vec<u64>,
}

/// A few-shot study as its file says it.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its name; run ids start with it.
    pub name: String,
    /// What is compared.
    pub methods: Vec<Method>,
    /// Seeds of weights and order.
    pub seeds: Vec<u64>,
    /// The pictures.
    pub pictures: Pictures,
    /// The network.
    pub backbone: Backbone,
    /// Channels of its first block.
    pub width: usize,
    /// Before episodes.
    pub pretrain: Pretrain,
    /// Episodes.
    pub episodes: EpisodeRecipe,
    /// The test.
    pub test: Test,
    /// What is varied.
    pub sweep: Sweep,
    /// What convolutions multiply in.
    pub precision: Precision,
    /// Largest norm of a gradient; 0 for none.
    pub clip: f64,
    /// Share of a run between two evaluations on validation classes.
    pub eval_every: f64,
    /// Validation episodes of a finished run.
    pub eval_episodes: u64,
    /// How runs are run here.
    pub machine: MachineSpec,
    /// Choices made for the user.
    pub notes: Notes,
}

/// Reads all values of a parsed file.
///
/// # Errors
/// A [`UserError`] for a value that is wrong or does not go with the others.
pub fn asked(raw: &RawStudy, machine: &Machine) -> Result<Asked, UserError> {
    let mut notes = Notes::default();
    if let Some(kind) = raw.text("kind")?
        && kind != "fewshot"
    {
        return Err(UserError::new(format!("{}: \"{kind}\" is no few-shot study", raw.place("kind")))
            .hint("write kind = \"fewshot\", or use `isoflop run` for studies of language models"));
    }
    let backbone = raw.choice("backbone.network")?.unwrap_or(Backbone::Conv4);
    let pictures = pictures(raw, backbone)?;
    let episodes = episodes(raw, backbone)?;
    let test = test(raw, &episodes, &pictures.source, &mut notes)?;
    let methods = list(raw, "methods", Method::usual(), |t| t.parse::<Method>())?;
    let share = |x: f64| x > 0.0 && x <= 1.0;
    let asked = Asked {
        name: resolve::study_name(raw)?,
        seeds: list(raw, "seeds", vec![1], parse_whole)?,
        pictures,
        backbone,
        width: size(raw, "backbone.width", 64, 4096)?,
        pretrain: pretrain(raw, backbone)?,
        test,
        sweep: Sweep {
            methods: list(raw, "sweep.methods", methods.clone(), |t| t.parse::<Method>())?,
            shots: list(raw, "sweep.shots", episodes.shots.clone(), |t| parse_whole(t).map(|n| n as usize))?,
            support: list(raw, "sweep.support", Vec::new(), |t| parse_whole(t).map(|n| n as usize))?,
            classes: list(raw, "sweep.classes", Vec::new(), parse_share)?,
            images: list(raw, "sweep.images", Vec::new(), parse_whole)?,
            widths: list(raw, "sweep.widths", Vec::new(), |t| parse_whole(t).map(|n| n as usize))?,
            per_step: list(raw, "sweep.per_step", Vec::new(), parse_whole)?,
        },
        methods,
        episodes,
        precision: precision(raw, machine, &mut notes)?,
        clip: raw.number("train.clip", 0.0, |x| x >= 0.0, "0 for none, or a norm such as 10")?,
        eval_every: raw.number("train.eval_every", 0.1, share, "a share above 0, at most 1")?,
        eval_episodes: raw.whole("train.eval_episodes", 200)?,
        machine: MachineSpec {
            threads: device::threads(raw, machine, &mut notes)?,
            device: raw.text("train.device")?.unwrap_or_else(|| PROCESSOR.to_owned()),
            checkpoint_every_s: raw.parsed("train.checkpoint_every", parse_seconds)?.unwrap_or(60.0),
            instruments: instruments(raw)?,
        },
        notes,
    };
    check_methods(raw, &asked)?;
    Ok(asked)
}

/// What convolutions multiply in: on cards f32 alone, else as for language models.
fn precision(raw: &RawStudy, machine: &Machine, notes: &mut Notes) -> Result<Precision, UserError> {
    let device = raw.text("train.device")?.unwrap_or_else(|| PROCESSOR.to_owned());
    if !Hardware::is_cards(&device) {
        return device::precision(raw, machine, notes);
    }
    match raw.text("train.precision")?.as_deref() {
        None | Some("auto" | "f32") => Ok(Precision::F32),
        Some(other) => Err(UserError::new(format!(
            "{}: graphics cards train few-shot networks in f32, not in {other}",
            raw.place("train.precision")
        ))
        .hint("leave precision out")),
    }
}

/// That every method has something to start from.
fn check_methods(raw: &RawStudy, asked: &Asked) -> Result<(), UserError> {
    let frozen = |m: &&Method| !m.is_trained();
    if asked.pretrain.epochs == 0.0
        && let Some(method) = asked.methods.iter().chain(&asked.sweep.methods).find(frozen)
    {
        return Err(UserError::new(format!(
            "{}: {} is about pre-trained features, and pretrain.epochs is 0",
            raw.place("methods"),
            method.word()
        ))
        .hint("pre-train for some epochs, or leave that method out"));
    }
    if asked.pretrain.epochs == 0.0 && asked.episodes.frozen {
        return Err(UserError::new(format!(
            "{}: a backbone that is not trained at all",
            raw.place("episodes.backbone")
        ))
        .hint("pre-train for some epochs, or write backbone = \"trained\""));
    }
    let zero = |list: &[u64]| list.contains(&0);
    if zero(&asked.sweep.images)
        || zero(&asked.sweep.per_step)
        || [&asked.sweep.widths, &asked.sweep.support].iter().any(|list| list.contains(&0))
    {
        return Err(UserError::new(format!("{}: [sweep] has a 0", raw.file)).hint("give sizes of at least 1"));
    }
    Ok(())
}

fn parse_share(text: &str) -> Result<f64, String> {
    match parse_count(text) {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err(format!("`{text}` is no share\nhint: write numbers above 0 and at most 1, such as 0.1")),
    }
}

fn list<T: PartialEq, E: std::fmt::Display>(
    raw: &RawStudy,
    key: &str,
    default: Vec<T>,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Vec<T>, UserError> {
    let Some(values) = raw.parsed_list(key, parse)? else { return Ok(default) };
    let twice = values.iter().enumerate().any(|(i, v)| values[..i].contains(v));
    if twice || (values.is_empty() && !default.is_empty()) {
        let what = if twice { "lists something twice" } else { "is empty" };
        return Err(UserError::new(format!("{}: it {what}", raw.place(key))).hint("list each value once"));
    }
    Ok(values)
}

fn size(raw: &RawStudy, key: &str, default: u64, most: u64) -> Result<usize, UserError> {
    let value = raw.whole(key, default)?;
    if value > most {
        return Err(UserError::new(format!("{}: {value} is out of range", raw.place(key)))
            .hint(format!("choose at most {most}")));
    }
    Ok(value as usize)
}

fn several(raw: &RawStudy) -> UserError {
    UserError::new(format!("{}: [data] names its pictures in several ways", raw.file)).hint(
        "write set = \"icons\", or folder = \"…\", or prepared = \"….images\", or images = \"…\" with lists train, val \
         and test",
    )
}

fn pictures(raw: &RawStudy, backbone: Backbone) -> Result<Pictures, UserError> {
    let (set, folder, images) = (raw.text("data.set")?, raw.text("data.folder")?, raw.text("data.images")?);
    let mut lists = Vec::new();
    for (split, key) in [("train", "data.train"), ("val", "data.val"), ("test", "data.test")] {
        if let Some(list) = raw.text(key)? {
            lists.push((split, PathBuf::from(list)));
        }
    }
    let prepared = raw.text("data.prepared")?;
    let source = match (set.as_deref(), folder, images) {
        (None, None, None) if lists.is_empty() && prepared.is_some() => {
            Source::Prepared(prepared.unwrap_or_default().into())
        }
        _ if prepared.is_some() => return Err(several(raw)),
        (None | Some("icons"), None, None) if lists.is_empty() => Source::Icons,
        (Some(other), None, None) if other != "icons" => {
            return Err(UserError::new(format!("{}: there is no set \"{other}\"", raw.place("data.set")))
                .hint("write set = \"icons\", or folder = \"…\" for pictures of your own"));
        }
        (None, Some(folder), None) if lists.is_empty() => Source::Folder(folder.into()),
        (None, None, Some(images)) if !lists.is_empty() => Source::Lists { images: images.into(), lists },
        _ => return Err(several(raw)),
    };
    let icons = source == Source::Icons;
    let default = if backbone == Backbone::ResNet12 { 84 } else { 28 };
    let side = size(raw, "data.side", if icons { 28 } else { default }, 512)?;
    // 92 of which the middle 84, as the literature prepares photographs.
    let whole = if icons { side as u64 } else { (side as u64 * 92).div_ceil(84) };
    let resize = size(raw, "data.resize", whole, 4096)?;
    let channels = size(raw, "data.channels", if icons { 1 } else { 3 }, 3)?;
    if ![1, 3].contains(&channels) || resize < side || (icons && (side, channels) != (28, 1)) {
        return Err(UserError::new(format!(
            "{}: pictures of {side} pixels from {resize} with {channels} channels",
            raw.file
        ))
        .hint("channels are 1 or 3, resize is at least side; icons are of 28 pixels and 1 channel"));
    }
    Ok(Pictures { source, resize, side, channels })
}

fn optimiser(raw: &RawStudy, section: &str, default: Optimiser) -> Result<Optimiser, UserError> {
    let key = |name: &str| format!("{section}.{name}");
    let sgd = match raw.text(&key("optimizer"))?.as_deref() {
        None => default.sgd,
        Some("sgd") => true,
        Some("adamw") => false,
        Some(other) => {
            let place = raw.place(&key("optimizer"));
            return Err(UserError::new(format!("{place}: \"{other}\" is not one of them"))
                .hint("write one of: sgd, adamw"));
        }
    };
    let lr = if sgd == default.sgd { default.lr } else { [1e-3, 0.1][usize::from(sgd)] };
    Ok(Optimiser {
        sgd,
        lr: raw.number(&key("lr"), lr, |x| x > 0.0 && x.is_finite(), "a rate above 0, e.g. 1e-3")?,
        weight_decay: raw.number(
            &key("weight_decay"),
            default.weight_decay,
            |x| (0.0..1.0).contains(&x),
            "0 to below 1",
        )?,
    })
}

fn augment(raw: &RawStudy, section: &str, default: Augment) -> Result<Augment, UserError> {
    let (crop, flip) = (format!("{section}.crop"), format!("{section}.flip"));
    let share = |x: f64| x > 0.0 && x <= 1.0;
    let flip = match raw.flag(&flip)? {
        Some(flip) => flip,
        None => default.flip,
    };
    Ok(Augment {
        crop: raw.number(&crop, default.crop, share, "a share of the area above 0, at most 1")?,
        flip,
    })
}

fn unit(x: f64) -> bool {
    (0.0..1.0).contains(&x)
}

fn pretrain(raw: &RawStudy, backbone: Backbone) -> Result<Pretrain, UserError> {
    let default = Optimiser { sgd: true, lr: 0.1, weight_decay: 5e-4 };
    let crop = if backbone == Backbone::ResNet12 { 0.08 } else { 0.6 };
    Ok(Pretrain {
        epochs: raw.number(
            "pretrain.epochs",
            20.0,
            |x| (0.0..1e6).contains(&x),
            "0 for none, or passes over the base images",
        )?,
        batch: raw.whole("pretrain.batch", 128)?,
        optimiser: optimiser(raw, "pretrain", default)?,
        smoothing: raw.number("pretrain.smoothing", 0.0, unit, "0 to below 1")?,
        augment: augment(raw, "pretrain", Augment { crop, flip: true })?,
    })
}

fn episodes(raw: &RawStudy, backbone: Backbone) -> Result<EpisodeRecipe, UserError> {
    let sgd = backbone == Backbone::ResNet12;
    let default = match sgd {
        true => Optimiser { sgd, lr: 2e-4, weight_decay: 5e-4 },
        false => Optimiser { sgd, lr: 2e-4, weight_decay: 0.0 },
    };
    let per_step = raw.whole("episodes.per_step", 4)?;
    let auxiliary: Vec<f64> = list(raw, "episodes.auxiliary", vec![0.1, 32.0], parse_count)?;
    let [weight, cold] = auxiliary[..] else {
        return Err(UserError::new(format!("{}: it should be two numbers", raw.place("episodes.auxiliary")))
            .hint("write auxiliary = [0.1, 32]: its weight and its temperature"));
    };
    let positive = |x: f64| x > 0.0 && x.is_finite();
    let count = raw.whole("episodes.count", 400)?;
    let per_pass = raw.whole("episodes.per_pass", per_step)?;
    if !per_step.is_multiple_of(per_pass) {
        return Err(UserError::new(format!(
            "{}: {per_pass} does not divide the {per_step} episodes of a step",
            raw.place("episodes.per_pass")
        ))
        .hint("choose a divisor of episodes.per_step"));
    }
    let optimiser = optimiser(raw, "episodes", default)?;
    Ok(EpisodeRecipe {
        ways: size(raw, "episodes.ways", 5, 1000)?,
        shots: list(raw, "episodes.shots", vec![1, 5], |t| parse_whole(t).map(|n| n as usize))?,
        queries: size(raw, "episodes.queries", 15, 1000)?,
        count,
        trained_count: raw.whole("episodes.trained_count", count)?,
        scratch_count: raw.parsed("episodes.scratch_count", parse_whole)?,
        // Snell et al. 2017 with Adam, Lee et al. 2019 with SGD.
        scratch_lr: raw.number(
            "episodes.scratch_lr",
            [1e-3, 0.1][usize::from(optimiser.sgd)],
            positive,
            "a rate above 0, e.g. 1e-3",
        )?,
        per_step,
        per_pass,
        optimiser,
        head_lr: raw.number("episodes.head_lr", 10.0, positive, "a multiple above 0")?,
        temperature: raw.number(
            "episodes.temperature",
            if sgd { 64.0 } else { 16.0 },
            positive,
            "a number above 0",
        )?,
        smoothing: raw.number("episodes.smoothing", 0.0, unit, "0 to below 1")?,
        dropout: raw.number("episodes.dropout", 0.5, unit, "0 to below 1")?,
        auxiliary: (weight, cold),
        frozen: frozen(raw)?,
        frozen_norm: raw.flag("episodes.frozen_norm")?.unwrap_or(false),
        augment: augment(raw, "episodes", Augment::NONE)?,
    })
}

fn frozen(raw: &RawStudy) -> Result<bool, UserError> {
    match raw.text("episodes.backbone")?.as_deref() {
        None | Some("trained") => Ok(false),
        Some("frozen") => Ok(true),
        Some(other) => {
            Err(UserError::new(format!("{}: \"{other}\" is not one of them", raw.place("episodes.backbone")))
                .hint("write one of: trained, frozen"))
        }
    }
}

fn test(
    raw: &RawStudy,
    episodes: &EpisodeRecipe,
    source: &Source,
    notes: &mut Notes,
) -> Result<Test, UserError> {
    let also: Vec<PathBuf> = list(raw, "test.also", Vec::new(), |t| Ok::<_, String>(PathBuf::from(t)))?;
    let icons = *source == Source::Icons;
    let also_inverted = raw.flag("test.also_inverted")?.unwrap_or(icons);
    if icons && !also.is_empty() && raw.flag("test.also_inverted")?.is_none() {
        let reason = "the built-in icons are light on dark, and most pictures are not";
        notes.add("test.also_inverted", "true", reason, false);
    }
    let queries = size(raw, "test.queries", episodes.queries as u64, 1000)?;
    let shots = list(raw, "test.shots", episodes.shots.clone(), |t| parse_whole(t).map(|n| n as usize))?;
    if shots.contains(&0) || episodes.shots.contains(&0) {
        return Err(UserError::new(format!("{}: 0 shots", raw.file)).hint("an episode needs a support image"));
    }
    Ok(Test {
        episodes: raw.whole("test.episodes", 10_000)?,
        ways: size(raw, "test.ways", episodes.ways as u64, 1000)?,
        shots,
        queries,
        also,
        also_queries: size(raw, "test.also_queries", queries as u64, 1000)?,
        also_inverted,
    })
}
