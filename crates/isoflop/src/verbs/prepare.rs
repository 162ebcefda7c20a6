//! `isoflop prepare`: token shards out of anybody's text.

use crate::cli::{Context, word};
use crate::signals;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use isoflop_base::units::{duration, parse_seconds, parse_share, parse_whole, si};
use isoflop_data::TokenDtype;
use isoflop_data::documents::{Divide, Encoding, Fields, Format, ProblemKind, find};
use isoflop_data::tokenize::pattern::Pattern;
use isoflop_lab::prepare::{Dedup, Prepared, Settings, Status, prepare};
use isoflop_lab::{Stopped, UserError};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Arguments of `isoflop prepare`.
#[derive(Debug, clap::Args)]
pub(crate) struct PrepareArgs {
    /// Files, folders, patterns such as 'data/**/*.jsonl.zst', or - for standard input: plain text, JSON Lines,
    /// Parquet, CSV or TSV, as they are or packed with gzip, Zstandard, xz or bzip2.
    #[arg(value_name = "INPUT", required = true)]
    inputs: Vec<PathBuf>,
    /// Where shards go; the same command goes on with what was interrupted there.
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
    /// bytes, gpt2, a tokenizer.json (or a directory with one), or a .tiktoken rank file.
    #[arg(long, short, value_name = "NAME|FILE", default_value = "gpt2")]
    tokenizer: String,
    /// How text is split before merging, for a .tiktoken file whose name does not tell.
    #[arg(long, value_name = "NAME", value_parser = pattern)]
    pattern: Option<Pattern>,
    /// What the inputs hold [default: by their names, else by how they begin].
    #[arg(long, value_parser = word::<Format>())]
    format: Option<Format>,
    /// How characters are stored in inputs that do not tell; UTF-8, and UTF-16 with a byte order mark, do.
    #[arg(long, default_value = "auto", value_parser = word::<Encoding>())]
    encoding: Encoding,
    /// The field or column with the text; a.b is field b of field a.
    #[arg(long, value_name = "NAME", default_value = "text")]
    field: String,
    /// What divides plain text into documents: file, line, blank-line, or a marker such as '<|endoftext|>'.
    #[arg(long, value_name = "WHAT", default_value = "file")]
    divide: String,
    /// Share of documents to hold out, e.g. 1% [default: what makes about 8 MB, between 1/16 and 1/2048].
    #[arg(long, value_name = "SHARE", value_parser = share)]
    val_share: Option<f64>,
    /// Remove copies of earlier documents: exact ones (white space aside), or nearly so by MinHash.
    #[arg(long, default_value = "none", value_parser = word::<Dedup>())]
    dedup: Dedup,
    /// Estimated Jaccard similarity of their five-word shingles from which on documents are copies, for minhash.
    #[arg(long, value_name = "SHARE", default_value_t = 0.8)]
    similarity: f64,
    /// Memory for documents seen: 9.4 bytes for each with exact, 132 with minhash.
    #[arg(long, value_name = "BYTES", default_value = "256MiB", value_parser = memory)]
    dedup_memory: u64,
    /// Width of a token, u16 or u32 [default: u16 where every id fits].
    #[arg(long, value_parser = word_of_dtype)]
    dtype: Option<TokenDtype>,
    /// Tokens of a shard.
    #[arg(long, value_name = "TOKENS", default_value = "100M", value_parser = parse_whole)]
    shard_tokens: u64,
    /// Stop at the first record that cannot be used; otherwise they are listed and passed over.
    #[arg(long)]
    strict: bool,
    /// Threads that read and encode [default: one per processor]; the shards are the same for any number.
    #[arg(long)]
    threads: Option<usize>,
    /// Time between two checkpoints.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_seconds)]
    checkpoint_every: f64,
    /// Throw away what an earlier preparation left in the directory.
    #[arg(long)]
    restart: bool,
}

/// Runs the verb.
pub(crate) fn run(args: PrepareArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let stop = signals::listen()?;
    let settings = args.resolve()?;
    say_settings(&args, &settings, ctx);
    let started = Instant::now();
    let mut bar = Bar::new(started);
    let prepared = prepare(&settings, &stop, &mut |status| bar.show(status));
    bar.close();
    let prepared = prepared.map_err(|error| match error.is::<Stopped>() {
        true => error.context("what was done is saved, and the same command goes on from there"),
        false => error,
    })?;
    let seconds = started.elapsed().as_secs_f64();
    say_problems(&prepared, &settings);
    if ctx.json {
        let document = json!({
            "schema": "isoflop.prepare/1",
            "out": settings.out,
            "was_done": prepared.was_done,
            "went_on": prepared.went_on,
            "seconds": seconds,
            "threads": settings.threads,
            "left_out": settings.found.left_out,
            "prepared": prepared.summary,
        });
        println!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        say_done(&prepared, &settings, seconds);
    }
    Ok(ExitCode::SUCCESS)
}

impl PrepareArgs {
    /// Finds the sources, opens the tokeniser, and decides what was left open.
    fn resolve(&self) -> anyhow::Result<Settings> {
        crate::console::directory(&self.out, "--out")?;
        let mut found = find(&self.inputs, self.format).map_err(UserError::from_error)?;
        found.sources.iter_mut().for_each(|source| source.encoding = self.encoding);
        // What is written is not read, where the one lies in the other.
        if let Ok(out) = self.out.canonicalize() {
            let inside = |path: &Path| path.canonicalize().is_ok_and(|path| path.starts_with(&out));
            found.sources.retain(|source| !source.path.as_deref().is_some_and(inside));
            found.left_out.retain(|path| !inside(path));
        }
        if found.sources.is_empty() {
            return Err(UserError::new("all inputs lie in the output directory")
                .hint("name another directory with --out")
                .into());
        }
        let tokenizer =
            isoflop_data::tokenize::open(&self.tokenizer, self.pattern).map_err(UserError::from_error)?;
        if !(self.similarity > 0.0 && self.similarity <= 1.0) {
            return Err(UserError::new(format!("--similarity {} is out of range", self.similarity))
                .hint("choose above 0 and up to 1, e.g. 0.8")
                .into());
        }
        if self.shard_tokens < 1024 {
            return Err(UserError::new(format!("--shard-tokens {} is out of range", self.shard_tokens))
                .hint("choose at least 1024, e.g. 100M")
                .into());
        }
        Ok(Settings {
            dtype: Settings::dtype(&*tokenizer, self.dtype)?,
            val_share: self.val_share.unwrap_or_else(|| Settings::auto_val_share(&found)),
            fields: Fields { text: self.field.clone(), divide: divide(&self.divide) },
            tokenizer,
            found,
            shard_tokens: self.shard_tokens,
            dedup: self.dedup,
            similarity: self.similarity,
            dedup_bytes: self.dedup_memory,
            strict: self.strict,
            threads: self.threads.unwrap_or_else(processors).clamp(1, 1024),
            checkpoint_s: self.checkpoint_every,
            out: self.out.clone(),
            restart: self.restart,
        })
    }
}

fn divide(word: &str) -> Divide {
    match word {
        "file" => Divide::File,
        "line" => Divide::Line,
        "blank-line" => Divide::BlankLine,
        marker => Divide::Marker(marker.to_owned()),
    }
}

fn pattern(name: &str) -> Result<Pattern, String> {
    Pattern::named(name).ok_or_else(|| format!("one of {}", Pattern::NAMES))
}

fn share(text: &str) -> Result<f64, String> {
    let share = parse_share(text).map_err(|e| e.to_string())?;
    if (0.0..1.0).contains(&share) { Ok(share) } else { Err("choose from 0 to below 1".to_owned()) }
}

fn word_of_dtype(text: &str) -> Result<TokenDtype, String> {
    match text {
        "u16" => Ok(TokenDtype::U16),
        "u32" => Ok(TokenDtype::U32),
        _ => Err("u16 or u32".to_owned()),
    }
}

/// `256MiB`, `1G`, or a number of bytes.
fn memory(text: &str) -> Result<u64, String> {
    let plain = text.trim_end_matches(['b', 'B']);
    let (number, factor) = match plain.strip_suffix('i') {
        Some(binary) => {
            let unit = binary.chars().last().map(|unit| unit.to_ascii_uppercase());
            let shift = match unit {
                Some('K') => 10,
                Some('M') => 20,
                Some('G') => 30,
                _ => return Err(format!("{text} is no amount of memory, such as 512MiB or 2G")),
            };
            (&binary[..binary.len() - 1], 1u64 << shift)
        }
        None => (plain, 1),
    };
    let number =
        parse_whole(number).map_err(|_| format!("{text} is no amount of memory, such as 512MiB or 2G"))?;
    number.checked_mul(factor).ok_or_else(|| format!("{text} is more than there is"))
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn say_settings(args: &PrepareArgs, settings: &Settings, ctx: &Context) {
    if ctx.json {
        return;
    }
    let bytes: u64 = settings.found.sources.iter().map(|source| source.bytes).sum();
    let mut formats: Vec<&str> = settings.found.sources.iter().map(|source| source.format.word()).collect();
    formats.sort_unstable();
    formats.dedup();
    eprintln!(
        "{} sources ({}), {}B; tokeniser {} ({} ids, {}); {} threads",
        settings.found.sources.len(),
        formats.join(", "),
        si(bytes as f64),
        settings.tokenizer.name(),
        settings.tokenizer.vocab_size(),
        settings.dtype.name(),
        settings.threads
    );
    if args.val_share.is_none() {
        let of = (1.0 / settings.val_share).round();
        let why =
            if bytes == 0 { "a stream, whose size is not known" } else { "about 8 MB of what is on disk" };
        eprintln!("val-share auto: 1/{of} ({why})");
    }
    if settings.has_plain_text() && settings.fields.divide == Divide::File {
        eprintln!(
            "plain text: a file is a document, beyond 128 kB in passages of 64 kB that go on (--divide)"
        );
    }
    if settings.tokenizer.end_of_text().is_none() {
        eprintln!("{} has no end-of-text: a blank line stands between documents", settings.tokenizer.name());
    }
    let left_out = &settings.found.left_out;
    if let Some(first) = left_out.first() {
        eprintln!(
            "left out: {} files whose names do not say that they hold text, e.g. {} (--format)",
            left_out.len(),
            first.display()
        );
    }
}

/// What could not be used: counted by kind, the first few with their places. Never silent.
fn say_problems(prepared: &Prepared, settings: &Settings) {
    let Some(kinds) = prepared.summary["counts"]["problems"].as_object().filter(|kinds| !kinds.is_empty())
    else {
        return;
    };
    for line in &prepared.problems {
        eprintln!("  {line}");
    }
    let counts: Vec<String> = kinds
        .iter()
        .filter_map(|(kind, count)| {
            let kind: ProblemKind = serde_json::from_value(Value::String(kind.clone())).ok()?;
            Some(format!("{count} {}", kind.plural()))
        })
        .collect();
    let list = settings.out.join("problems.jsonl");
    eprintln!("{}: all in {}", counts.join(", "), list.display());
    if kinds.contains_key("not-utf8") {
        let instead = "or convert it: iconv -f WINDOWS-1252 -t UTF-8 FILE > utf8.txt";
        eprintln!("hint: if that is Latin-1, say --encoding windows-1252 (or latin-1), {instead}");
    }
}

fn say_done(prepared: &Prepared, settings: &Settings, seconds: f64) {
    let summary = &prepared.summary;
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    if prepared.was_done {
        eprintln!(
            "{} is prepared already, from the same sources with the same settings",
            settings.out.display()
        );
    }
    for split in ["train", "val"] {
        let of = &summary[split];
        let bytes =
            of["bytes_per_token"].as_f64().map_or(String::new(), |b| format!(", {b:.3} bytes per token"));
        let shards = of["shards"].as_array().map_or(0, Vec::len);
        eprintln!(
            "{split:<5}  {} documents, {} tokens in {shards} shards{bytes}",
            of["documents"],
            si(number(&of["tokens"])).trim_end()
        );
    }
    let counts = &summary["counts"];
    if settings.dedup != Dedup::None {
        let removed = number(&counts["removed"]);
        let share = 100.0 * removed / number(&counts["documents"]).max(1.0);
        let list = settings.out.join("removed.jsonl");
        let listed = if removed > 0.0 { format!(": {}", list.display()) } else { String::new() };
        eprintln!("removed {removed} copies, {share:.1} % of all documents{listed}");
    }
    if number(&counts["empty"]) > 0.0 {
        eprintln!("{} documents are empty and left out", counts["empty"]);
    }
    if !prepared.was_done {
        let bytes = prepared.status.text_bytes - prepared.status.text_bytes_before;
        let went_on = if prepared.went_on { ", gone on with what was interrupted" } else { "" };
        eprintln!(
            "{}B of text in {}, {:.0} MB/s{went_on}",
            si(bytes as f64),
            duration(seconds),
            bytes as f64 / 1e6 / seconds
        );
    }
    if number(&summary["val"]["tokens"]) == 0.0 {
        eprintln!("hint: nothing is held out; give --val-share for a corpus to train on");
    } else {
        eprintln!("in a study:  [data]  prepared = \"{}\"", settings.out.display());
    }
}

/// Seconds between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// How far it is: a bar on a terminal that understands them, plain lines elsewhere.
struct Bar {
    started: Instant,
    bar: Option<ProgressBar>,
    last: Instant,
    /// Bytes of text at the last few reports, for the speed of the last seconds.
    window: std::collections::VecDeque<(Instant, u64, u64)>,
}

/// Seconds over which a speed is measured.
const SPEED_WINDOW_S: f64 = 5.0;

impl Bar {
    fn new(started: Instant) -> Self {
        let bar = crate::console::has_a_cursor().then(|| {
            let style = ProgressStyle::with_template("[{bar:24}] {wide_msg}").expect("the template is ours");
            let target = ProgressDrawTarget::stderr_with_hz(4);
            ProgressBar::with_draw_target(Some(0), target).with_style(style.progress_chars("=> "))
        });
        Self { started, bar, last: started, window: std::collections::VecDeque::new() }
    }

    fn show(&mut self, status: &Status) {
        let now = Instant::now();
        self.window.push_back((now, status.text_bytes, status.consumed));
        while self.window.front().is_some_and(|(at, ..)| (now - *at).as_secs_f64() > SPEED_WINDOW_S) {
            self.window.pop_front();
        }
        let (since, text, consumed) = match self.window.front() {
            Some(&(at, text, consumed)) if at < now => (at, text, consumed),
            _ => (self.started, status.text_bytes_before, status.consumed_before),
        };
        let seconds = (now - since).as_secs_f64().max(1e-3);
        let speed = (status.text_bytes - text) as f64 / seconds / 1e6;
        let rate = status.consumed.saturating_sub(consumed) as f64 / seconds;
        let left = status.bytes.saturating_sub(status.consumed) as f64 / rate;
        let eta = if status.bytes > 0 && left.is_finite() {
            format!("  ETA {}", duration(left))
        } else {
            String::new()
        };
        let removed =
            if status.removed > 0 { format!("  {} removed", status.removed) } else { String::new() };
        let problems =
            if status.problems > 0 { format!("  {} problems", status.problems) } else { String::new() };
        let words = format!(
            "{}B of text  {} documents  {} tokens{removed}{problems}  {speed:.0} MB/s{eta}",
            si(status.text_bytes as f64),
            status.documents,
            si(status.tokens as f64).trim_end()
        );
        match &self.bar {
            Some(bar) => {
                bar.set_length(status.bytes.max(1));
                bar.set_position(status.consumed.min(status.bytes));
                bar.set_message(words);
            }
            None if self.last.elapsed() >= LINE_EVERY => {
                self.last = now;
                eprintln!("{words}");
            }
            None => {}
        }
    }

    fn close(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory_are_read() {
        assert_eq!(memory("256MiB"), Ok(256 << 20));
        assert_eq!(memory("1G"), Ok(1_000_000_000));
        assert_eq!(memory("4096"), Ok(4096));
        assert!(memory("much").is_err() && memory("3Xi").is_err());
    }
}
