//! The sizes and tokens of a drafted study: as large as the time allows, the largest model at about twenty tokens per
//! parameter.

use super::{Found, quoted};
use crate::error::UserError;
use crate::open;
use crate::plan::{self, Plan, Speed, memory};
use crate::stop::Stop;
use crate::study::raw::RawStudy;
use crate::study::resolve::{self, Machine};
use isoflop_base::study::RunSpec;
use isoflop_base::units::{duration, si};
use std::path::Path;

/// Sizes to choose from, each about twice the one before.
const LADDER: [&str; 13] = [
    "L2-d24-h2",
    "L2-d32-h2",
    "L2-d48-h3",
    "L3-d64-h4",
    "L4-d80-h5",
    "L4-d112-h7",
    "L5-d160-h10",
    "L6-d192-h12",
    "L6-d256-h16",
    "L8-d320-h20",
    "L10-d384-h24",
    "L10-d512-h32",
    "L12-d768-h12",
];
/// Sizes of a study.
const SIZES: usize = 5;
/// Tokens per parameter that the largest model should have (Hoffmann et al. 2022, arXiv:2203.15556).
const PER_PARAM: f64 = 20.0;
/// The fewest tokens of the longest point: below, small models stand on a plateau.
const LEAST_TOKENS: f64 = 2e6;
/// Passes over the text that are as good as new ones (Muennighoff et al. 2023, arXiv:2305.16264).
const MOST_EPOCHS: f64 = 4.0;
/// How much more FLOP/s the largest size may reach than the best of the first ones.
const LARGER_IS_FASTER: f64 = 2.0;
/// Time besides training.
const MARGIN: f64 = 1.15;

/// What was chosen, and why.
#[derive(Debug, Clone)]
pub struct Series {
    /// Layers, width, heads.
    pub models: Vec<String>,
    /// Tokens of the longest point.
    pub tokens: u64,
    /// Seconds it should take, if it could be timed.
    pub seconds: Option<f64>,
    /// In words.
    pub why: String,
    /// How fast each size is that was timed.
    pub speeds: Vec<Speed>,
}

/// Chooses sizes and tokens for a text and this machine, by timing the sizes for a moment.
///
/// # Errors
/// A text that cannot be read, or too little of it.
pub fn choose(
    found: &Found,
    machine: &Machine,
    minutes: f64,
    store: &Path,
    stop: &Stop,
) -> anyhow::Result<Series> {
    let draft = |models: &[String], tokens: u64| -> Result<RawStudy, UserError> {
        let (models, why, speeds) = (models.to_vec(), String::new(), Vec::new());
        let series = Series { models, tokens, seconds: None, why, speeds };
        RawStudy::parse("the draft", &text("draft", found, &series), &[])
    };
    let all: Vec<String> = LADDER.map(str::to_owned).to_vec();
    let corpus = resolve::open_corpus(&draft(&all, LEAST_TOKENS as u64)?)?;
    let unique = corpus.info.train_tokens as f64;
    let most = MOST_EPOCHS * unique;
    // Whole token counts of two digits, a factor of √2 apart.
    let lengths: Vec<u64> = (0..40)
        .map(|k| LEAST_TOKENS * 2f64.powf(0.5 * f64::from(k)))
        .take_while(|tokens| *tokens <= most.max(LEAST_TOKENS))
        .map(round)
        .collect();
    let resolved = |models: &[String], tokens: u64| -> anyhow::Result<isoflop_base::study::Study> {
        Ok(open::resolve(&draft(models, tokens)?, &corpus, machine)?)
    };
    let mut fitting = all.clone();
    if let Some(free) = memory::available() {
        while fitting.len() > SIZES && memory::check(&resolved(&fitting, lengths[0])?, free).is_err() {
            fitting.pop();
        }
    }
    // The first sizes say how fast the machine is; of the others only those are timed that could be done in the time.
    let shortest = resolved(&fitting, lengths[0])?;
    let models: Vec<_> = shortest.one_of_each_model().iter().map(|run| run.model.clone()).collect();
    let part = |keep: &dyn Fn(&RunSpec) -> bool| {
        let mut part = shortest.clone();
        part.runs.retain(keep);
        part
    };
    let mut speeds =
        plan::time_sizes(&part(&|run| models[..SIZES].contains(&run.model)), &corpus, store, stop)?;
    let flops = |run: &RunSpec| crate::gpt::run_flops_per_token(run);
    let fastest = shortest
        .one_of_each_model()
        .iter()
        .filter_map(|run| {
            let speed = speeds.iter().find(|speed| speed.shape == run.gpt().shape)?;
            Some(speed.tokens_per_s.value()? * flops(run))
        })
        .fold(0.0, f64::max);
    let could = |run: &RunSpec| {
        flops(run) * run.tokens().sum::<u64>() as f64 <= LARGER_IS_FASTER * fastest * 60.0 * minutes
    };
    let rest = part(&|run| !models[..SIZES].contains(&run.model) && could(run));
    fitting.truncate(SIZES + rest.one_of_each_model().len());
    if !rest.runs.is_empty() {
        speeds.extend(plan::time_sizes(&rest, &corpus, store, stop)?);
    }
    let mut best: Option<(f64, Series)> = None;
    for top in SIZES..=fitting.len() {
        let models = fitting[top - SIZES..top].to_vec();
        for tokens in lengths.iter().rev() {
            let study = resolved(&models, *tokens)?;
            let Plan { rows, seconds, .. } = plan::plan(&study, &speeds)?;
            let Some(seconds) = seconds.value().map(|s| s * MARGIN) else { continue };
            let shortest = *tokens == lengths[0] && top == SIZES;
            if seconds > 60.0 * minutes && !shortest {
                continue;
            }
            let largest = rows.iter().map(|r| r.params).max().unwrap_or(1) as f64;
            let off = (*tokens as f64 / largest / PER_PARAM).ln().abs();
            if best.as_ref().is_none_or(|(before, _)| off < *before) {
                best = Some((off, series(models.clone(), *tokens, seconds, minutes, largest, unique)));
            }
            break;
        }
    }
    best.map(|(_, series)| Series { speeds, ..series })
        .ok_or_else(|| UserError::new("no size could be timed").into())
}

/// Two digits.
fn round(tokens: f64) -> u64 {
    let unit = 10f64.powf(tokens.log10().floor() - 1.0);
    ((tokens / unit).round() * unit) as u64
}

fn series(models: Vec<String>, tokens: u64, seconds: f64, minutes: f64, largest: f64, unique: f64) -> Series {
    let fits = if seconds <= 60.0 * minutes {
        format!("fits {minutes} minutes")
    } else {
        format!("the smallest there is, though it does not fit {minutes} minutes")
    };
    let epochs = tokens as f64 / unique;
    let passes = if epochs > 1.0 { format!(", {epochs:.1} passes over the text") } else { String::new() };
    let why = format!(
        "about {} here, {fits}; {:.0} tokens per parameter of the largest{passes}",
        duration(seconds),
        tokens as f64 / largest,
    );
    Series { models, tokens, seconds: Some(seconds), why, speeds: Vec::new() }
}

/// `2M`, `1.4M`, `700k`.
fn short(tokens: u64) -> String {
    let text = si(tokens as f64);
    let (digits, unit) = text.split_once(' ').unwrap_or((&text, ""));
    let digits =
        if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits };
    format!("{digits}{unit}")
}

/// The file of a study of language models.
pub fn text(name: &str, found: &Found, series: &Series) -> String {
    let data = match found {
        Found::Text(path) => format!("text = {}   # bytes are its tokens; `isoflop prepare` makes others\n", quoted(path)),
        Found::Tokens { train, val } => format!("train = {}\nval = {}\n", quoted(train), quoted(val)),
        Found::Prepared(dir) => format!("prepared = {}\n", quoted(dir)),
        _ => "corpus = \"builtin\"         # or text = \"book.txt\"; or train = \"train.bin\" and val = \"val.bin\"\n".to_owned(),
    };
    let models: Vec<String> = series.models.iter().map(|m| format!("\"{m}\"")).collect();
    let why = if series.why.is_empty() { String::new() } else { format!("# {}.\n", series.why) };
    let branch = |share: u64| short(series.tokens / share);
    format!(
        "# How loss falls with size and data. `isoflop plan` says what it costs, `isoflop run` runs and resumes it.\n\
         {why}\
         \n\
         name = \"{name}\"\n\
         kind = \"scaling\"           # or isoflop, data, batch, lr: see the files in studies/\n\
         \n\
         [data]\n\
         {data}\
         \n\
         [series]\n\
         models = [{models}]\n\
         tokens = \"{tokens}\"\n\
         branches = [\"{quarter}\", \"{half}\"]   # finished points on the way, by decay branches\n\
         seeds = [1]                # more seeds say what luck is worth\n\
         \n\
         [train]\n\
         context = 256\n\
         batch_tokens = 2048        # what is not said here is `auto`, and printed with its value and the reason\n\
         \n\
         # [limits]                 # saves and stops, or waits for heat; the same command goes on\n\
         # max_hours = 12\n\
         # max_temp_c = 84\n",
        models = models.join(", "),
        tokens = short(series.tokens),
        quarter = branch(4),
        half = branch(2),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_short_and_exact_enough() {
        for (tokens, text) in
            [(2_000_000, "2M"), (700_000, "700k"), (1_400_000, "1.4M"), (512, "512"), (350_000, "350k")]
        {
            assert_eq!(short(tokens), text);
        }
    }

    #[test]
    fn the_largest_model_has_about_twenty_tokens_a_parameter_where_time_allows() {
        let machine = Machine { kernels: "portable".to_owned(), threads: 1, bf16: false, bf16_loses: None };
        let store = tempfile::tempdir().unwrap();
        let series = choose(&Found::Builtin, &machine, 600.0, store.path(), &Stop::never()).unwrap();
        assert_eq!(series.models.len(), SIZES);
        assert!(series.seconds.unwrap() <= 36_000.0, "{series:?}");
        let raw = RawStudy::parse("draft", &text("a", &Found::Builtin, &series), &[]).unwrap();
        let study = open::resolve(&raw, &resolve::open_corpus(&raw).unwrap(), &machine).unwrap();
        let largest = study.runs.iter().map(|run| run.model.params()).max().unwrap();
        let ratio = series.tokens as f64 / largest as f64;
        assert!((10.0..40.0).contains(&ratio), "{ratio} in {series:?}");
    }
}
