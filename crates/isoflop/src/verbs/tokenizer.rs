//! `isoflop tokenizer`: vocabularies made, looked at and used.

use crate::cli::Context;
use anyhow::Context as _;
use clap::{Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use isoflop_base::units::si;
use isoflop_data::tokenize::pattern::Pattern;
use isoflop_data::tokenize::train::{TrainOptions, train};
use isoflop_data::tokenize::{TokenStats, Tokenizer, chunks, encode_each, open};
use isoflop_lab::UserError;
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Bytes of text that a thread encodes at a time.
const CHUNK: usize = 1 << 20;

/// Arguments of `isoflop tokenizer`.
#[derive(Debug, clap::Args)]
pub(crate) struct TokenizerArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Makes a byte-level BPE vocabulary from text and writes it as a Hugging Face tokenizer.json.
    Train(TrainArgs),
    /// Text to ids.
    Encode(EncodeArgs),
    /// Ids to text.
    Decode(DecodeArgs),
    /// What a tokeniser is, and what it does to a text: bytes per token, how much of its vocabulary occurs.
    Inspect(InspectArgs),
}

/// Which tokeniser.
#[derive(Debug, clap::Args)]
struct Which {
    /// bytes, gpt2, a tokenizer.json (or a directory with one), or a .tiktoken rank file.
    #[arg(long, short, value_name = "NAME|FILE", default_value = "gpt2")]
    tokenizer: String,
    /// How text is split before merging, for a .tiktoken file whose name does not tell.
    #[arg(long, value_name = "NAME", value_parser = pattern)]
    pattern: Option<Pattern>,
}

impl Which {
    fn open(&self) -> Result<Box<dyn Tokenizer>, UserError> {
        open(&self.tokenizer, self.pattern).map_err(UserError::from_error)
    }
}

/// Where text comes from.
#[derive(Debug, clap::Args)]
struct Input {
    /// UTF-8 text files; - is standard input.
    #[arg(value_name = "FILE", conflicts_with = "builtin")]
    files: Vec<PathBuf>,
    /// The part of the built-in corpus that runs train on.
    #[arg(long)]
    builtin: bool,
}

#[derive(Debug, clap::Args)]
struct TrainArgs {
    #[command(flatten)]
    input: Input,
    /// Ids of the vocabulary: 256 bytes, merges, and <|endoftext|>.
    #[arg(long, value_name = "IDS", default_value = "4096", value_parser = isoflop_base::units::parse_whole)]
    vocab: u64,
    /// How text is split before merging.
    #[arg(long, value_name = "NAME", default_value = "gpt2", value_parser = pattern)]
    pattern: Pattern,
    /// Threads that count words [default: one per processor]; the vocabulary is the same for any number.
    #[arg(long)]
    threads: Option<usize>,
    /// Where to write it; - is standard output.
    #[arg(long, short, value_name = "FILE", default_value = "tokenizer.json")]
    out: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Numbers with spaces between them.
    Text,
    /// Raw little-endian 16-bit ids, as nanoGPT's token files.
    U16,
    /// Raw little-endian 32-bit ids.
    U32,
}

#[derive(Debug, clap::Args)]
struct EncodeArgs {
    /// A UTF-8 text file; - is standard input.
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    #[command(flatten)]
    which: Which,
    /// Recognise special tokens such as <|endoftext|> where the text has them written out.
    #[arg(long)]
    special: bool,
    /// How ids are written.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Where to write them; - is standard output.
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
struct DecodeArgs {
    /// A file of ids; - is standard input.
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    #[command(flatten)]
    which: Which,
    /// How ids are written.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Where to write the text; - is standard output.
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
struct InspectArgs {
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    which: Which,
    /// Encode the text so often and say how fast each time was; the first one fills the tables of known pieces.
    #[arg(long, value_name = "TIMES", default_value_t = 1)]
    passes: usize,
    /// Threads that encode.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Write the tokeniser as a Hugging Face tokenizer.json.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

/// Runs the verb.
pub(crate) fn run(args: TokenizerArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Train(args) => run_train(&args, ctx),
        What::Encode(args) => run_encode(&args, ctx),
        What::Decode(args) => run_decode(&args, ctx),
        What::Inspect(args) => run_inspect(&args, ctx),
    }
}

fn run_train(args: &TrainArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    one_document(ctx, &args.out)?;
    let texts = args.input.read()?;
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let bytes: usize = texts.iter().map(|text| text.len()).sum();
    if bytes == 0 {
        return Err(UserError::new("there is no text to train on")
            .hint("name files, -, or --builtin")
            .into());
    }
    let threads = args.threads.unwrap_or_else(processors).max(1);
    let vocab_size = usize::try_from(args.vocab)?;
    let started = Instant::now();
    let bar = ProgressBar::new(args.vocab).with_style(
        ProgressStyle::with_template("{msg} [{bar:24}] {pos}/{len} ids, ETA {eta}")
            .expect("the template is ours"),
    );
    bar.set_message("counting words");
    let options = TrainOptions { vocab_size, pattern: args.pattern, threads };
    let bpe = train(&texts, options, &mut |ids| {
        if ids % 64 == 0 {
            bar.set_message("merging");
            bar.set_position(ids as u64);
        }
    })
    .map_err(UserError::from_error)?;
    bar.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();
    if bpe.vocab_size() < vocab_size {
        let got = bpe.vocab_size();
        eprintln!("every piece of the text is a token at {got} ids; {vocab_size} were asked for");
    }
    write(&args.out, bpe.json().as_bytes())?;
    let parts: Vec<&str> = texts.iter().flat_map(|text| chunks(text, CHUNK)).collect();
    let stats = stats(&bpe, &parts, &encode_each(&bpe, &parts, threads));
    if ctx.json {
        print_json(&json!({
            "schema": "isoflop.tokenizer.train/1",
            "file": args.out,
            "vocab": bpe.vocab_size(),
            "merges": bpe.vocabulary().merges.len(),
            "pattern": args.pattern.name(),
            "bytes": bytes,
            "bytes_per_token": stats.bytes_per_token(),
            "seconds": seconds,
            "threads": threads,
        }))?;
    } else {
        eprintln!(
            "wrote {}: {} ids from {}B in {seconds:.1} s, {:.3} bytes per token",
            args.out.display(),
            bpe.vocab_size(),
            si(bytes as f64),
            stats.bytes_per_token().unwrap_or_default()
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn run_encode(args: &EncodeArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let tokenizer = args.which.open()?;
    let text = read_text(&args.file)?;
    let ids = if args.special {
        let mut ids = Vec::new();
        tokenizer.encode_with_special_into(&text, &mut ids);
        ids
    } else {
        let parts: Vec<&str> = chunks(&text, CHUNK).collect();
        encode_each(&*tokenizer, &parts, processors()).concat()
    };
    let to_stdout = args.out.as_os_str() == "-";
    if args.format != Format::Text {
        one_document(ctx, &args.out)?;
    }
    if ctx.json {
        let mut document = json!({
            "schema": "isoflop.tokenizer.encode/1",
            "tokenizer": tokenizer.name(),
            "bytes": text.len(),
            "tokens": ids.len(),
        });
        if to_stdout {
            document["ids"] = json!(ids);
        } else {
            write(&args.out, &written(&ids, args.format, &*tokenizer)?)?;
            document["file"] = json!(args.out);
        }
        print_json(&document)?;
    } else {
        write(&args.out, &written(&ids, args.format, &*tokenizer)?)?;
        if !to_stdout {
            eprintln!("wrote {}: {} tokens of {} bytes", args.out.display(), ids.len(), text.len());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn run_decode(args: &DecodeArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let tokenizer = args.which.open()?;
    let ids = parse_ids(&read_bytes(&args.file)?, args.format).map_err(|what| {
        UserError::new(format!("{}: {what}", args.file.display()))
            .hint("ids are decimal numbers with white space between them, or raw with --format u16 or u32")
    })?;
    let mut bytes = Vec::new();
    tokenizer.decode_into(&ids, &mut bytes).map_err(UserError::from_error)?;
    let to_stdout = args.out.as_os_str() == "-";
    if !(ctx.json && to_stdout) {
        write(&args.out, &bytes)?;
    }
    if ctx.json {
        let mut document = json!({
            "schema": "isoflop.tokenizer.decode/1",
            "tokenizer": tokenizer.name(),
            "tokens": ids.len(),
            "bytes": bytes.len(),
        });
        match to_stdout {
            // Ids cut anywhere need not be whole characters; JSON has only those.
            true => document["text"] = json!(String::from_utf8_lossy(&bytes)),
            false => document["file"] = json!(args.out),
        }
        print_json(&document)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn run_inspect(args: &InspectArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    if let Some(path) = &args.write {
        one_document(ctx, path)?;
    }
    // Lines for people give way to the file where both would go to standard output.
    let speaks = !ctx.json && args.write.as_deref() != Some(Path::new("-"));
    let tokenizer = args.which.open()?;
    let special: Vec<_> = tokenizer.special().iter().map(|s| json!({"text": s.text, "id": s.id})).collect();
    let mut document = json!({
        "schema": "isoflop.tokenizer.inspect/1",
        "tokenizer": tokenizer.name(),
        "vocab": tokenizer.vocab_size(),
        "special": special,
        "end_of_text": tokenizer.end_of_text(),
    });
    if speaks {
        println!("{}: {} ids, {} of them special", tokenizer.name(), tokenizer.vocab_size(), special.len());
    }
    if let Some(path) = &args.write {
        write(path, tokenizer.json().as_bytes())?;
    }
    if args.input.builtin || !args.input.files.is_empty() {
        let texts = args.input.read()?;
        let parts: Vec<&str> = texts.iter().flat_map(|text| chunks(text, CHUNK)).collect();
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let (mut encoded, mut speeds) = (Vec::new(), Vec::new());
        for _ in 0..args.passes.max(1) {
            let started = Instant::now();
            encoded = encode_each(&*tokenizer, &parts, args.threads.max(1));
            speeds.push(bytes as f64 / started.elapsed().as_secs_f64());
        }
        let stats = stats(&*tokenizer, &parts, &encoded);
        let share = stats.used() as f64 / tokenizer.vocab_size() as f64;
        document["text"] = json!({
            "bytes": stats.bytes,
            "tokens": stats.tokens,
            "bytes_per_token": stats.bytes_per_token(),
            "used": stats.used(),
            "used_share": share,
            "bytes_per_s": speeds,
            "threads": args.threads.max(1),
        });
        if speaks {
            let speeds: Vec<String> = speeds.iter().map(|s| format!("{}B/s", si(*s))).collect();
            println!(
                "{} bytes, {} tokens, {:.3} bytes per token; {} ids occur, {:.1} % of the vocabulary; {}",
                stats.bytes,
                stats.tokens,
                stats.bytes_per_token().unwrap_or(f64::NAN),
                stats.used(),
                100.0 * share,
                speeds.join(", ")
            );
        }
    }
    if ctx.json {
        print_json(&document)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Input {
    fn read(&self) -> anyhow::Result<Vec<String>> {
        if !self.builtin {
            return self.files.iter().map(|path| read_text(path)).collect();
        }
        let corpus = isoflop_data::builtin().map_err(UserError::from_error)?;
        let mut ids = vec![0; usize::try_from(corpus.train.len())?];
        corpus.train.read(0, &mut ids);
        let bytes = ids.into_iter().map(u8::try_from).collect::<Result<_, _>>()?;
        Ok(vec![String::from_utf8(bytes).context("the built-in corpus is ASCII")?])
    }
}

fn stats(tokenizer: &dyn Tokenizer, parts: &[&str], encoded: &[Vec<u32>]) -> TokenStats {
    let mut stats = TokenStats::new(tokenizer.vocab_size());
    for (part, ids) in parts.iter().zip(encoded) {
        stats.add(part.len(), ids);
    }
    stats
}

fn pattern(name: &str) -> Result<Pattern, String> {
    Pattern::named(name).ok_or_else(|| format!("one of {}", Pattern::NAMES))
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn read_bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).context("cannot read standard input")?;
        return Ok(bytes);
    }
    std::fs::read(path).map_err(|e| {
        UserError::new(format!("cannot read {}: {e}", path.display()))
            .hint("name a file, or - for standard input")
            .into()
    })
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    String::from_utf8(read_bytes(path)?).map_err(|e| {
        let offset = e.utf8_error().valid_up_to();
        UserError::new(format!("{}: not UTF-8 at byte {offset}", path.display()))
            .hint(format!(
                "convert it first, e.g. iconv -f WINDOWS-1252 -t UTF-8 {} > utf8.txt",
                path.display()
            ))
            .into()
    })
}

/// Writes a file, or to standard output.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if path.as_os_str() != "-" {
        return isoflop_store::write_artifact(path, bytes)
            .with_context(|| format!("cannot write {}", path.display()));
    }
    match std::io::stdout().lock().write_all(bytes) {
        // Nobody reads any more: no fault of ours.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// `--json` has standard output for itself.
fn one_document(ctx: &Context, out: &Path) -> Result<(), UserError> {
    if ctx.json && out.as_os_str() == "-" {
        return Err(UserError::new("--json and what is written cannot share standard output")
            .hint("name a file with --out, or leave --json out"));
    }
    Ok(())
}

fn written(ids: &[u32], format: Format, tokenizer: &dyn Tokenizer) -> Result<Vec<u8>, UserError> {
    match format {
        Format::Text => {
            let mut text = ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
            text.push('\n');
            Ok(text.into_bytes())
        }
        Format::U32 => Ok(ids.iter().flat_map(|id| id.to_le_bytes()).collect()),
        Format::U16 if tokenizer.vocab_size() <= 1 << 16 => {
            Ok(ids.iter().flat_map(|&id| (id as u16).to_le_bytes()).collect())
        }
        Format::U16 => Err(UserError::new(format!("{} ids do not fit 16 bits", tokenizer.vocab_size()))
            .hint("write them with --format u32")),
    }
}

fn parse_ids(bytes: &[u8], format: Format) -> Result<Vec<u32>, String> {
    let whole = |width: usize| match bytes.len() % width {
        0 => Ok(bytes.chunks_exact(width)),
        _ => Err(format!("{} bytes are no whole number of {width}-byte ids", bytes.len())),
    };
    match format {
        Format::U16 => Ok(whole(2)?.map(|id| u16::from_le_bytes([id[0], id[1]]).into()).collect()),
        Format::U32 => Ok(whole(4)?.map(|id| u32::from_le_bytes([id[0], id[1], id[2], id[3]])).collect()),
        Format::Text => {
            let words = bytes.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            let id = |word: &[u8]| std::str::from_utf8(word).ok()?.parse().ok();
            words
                .map(|word| id(word).ok_or_else(|| format!("{:?} is no id", String::from_utf8_lossy(word))))
                .collect()
        }
    }
}

fn print_json(document: &serde_json::Value) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(document)?);
    Ok(())
}
