//! The whole way of a preparation, from the first source to the last shard.

use super::progress::{Progress, SourceTally, UNFINISHED};
use super::schedule::{Result as Batch, Schedule, Taken};
use super::seen::{LIST, Place, Seen};
use super::settings::{Dedup, Settings};
use super::shards::StreamWriter;
use super::summary::{self, FROM, PREPARED, PROBLEMS, REMOVED};
use super::work::{Document, Worked};
use crate::error::UserError;
use crate::stop::Stop;
use isoflop_base::bits::hex;
use isoflop_data::documents::{Problem, ProblemKind};
use isoflop_store::{Growing, JOB_LOCK, JobFolder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::path::Path;
use std::time::{Duration, Instant};

/// How far a preparation is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Status {
    /// Bytes of all sources on disk; 0 if that is not known.
    pub bytes: u64,
    /// Bytes of them that were read.
    pub consumed: u64,
    /// Bytes of text.
    pub text_bytes: u64,
    /// Bytes of text that were there when this process began.
    pub text_bytes_before: u64,
    /// Bytes on disk that were read before this process began.
    pub consumed_before: u64,
    /// Documents.
    pub documents: u64,
    /// Documents removed as copies.
    pub removed: u64,
    /// What could not be used.
    pub problems: u64,
    /// Tokens written.
    pub tokens: u64,
}

/// What a preparation came to.
#[derive(Debug)]
pub struct Prepared {
    /// What `prepared.json` says.
    pub summary: Value,
    /// The first problems, in words.
    pub problems: Vec<String>,
    /// It was done before, and nothing had to be.
    pub was_done: bool,
    /// It goes on with what an earlier process left.
    pub went_on: bool,
    /// How far it came.
    pub status: Status,
}

/// Seconds between two reports of how far it is.
const REPORT: Duration = Duration::from_millis(200);
/// Records without the field, and no document, after which nobody hopes for one.
const HOPELESS: u64 = 1000;
/// Bytes that wait to be appended to a list.
const WAITING: usize = 256 << 10;
/// Problems that are shown.
const SHOWN: usize = 5;

/// Prepares token shards; goes on with what an interrupted preparation of the same settings left.
///
/// # Errors
/// A [`UserError`] for a folder that holds something else, for settings that differ from what is gone on with, for
/// sources without documents, and for the first problem where that is asked for; what cannot be written;
/// [`crate::Stopped`] after what was done is saved.
pub fn prepare(
    settings: &Settings,
    stop: &Stop,
    report: &mut dyn FnMut(&Status),
) -> anyhow::Result<Prepared> {
    check_folder(&settings.out)?;
    let folder = JobFolder::take(&settings.out)?;
    folder.sweep()?;
    if settings.restart {
        summary::clear(&folder)?;
    }
    let identity = settings.identity();
    if let Some(summary) = summary::finished(&folder, &identity)? {
        folder.remove(UNFINISHED)?;
        folder.remove(LIST)?;
        let problems = first_problems(&folder)?;
        let status = Status::default();
        return Ok(Prepared { summary, problems, was_done: true, went_on: false, status });
    }
    let found = Progress::find(&folder, &identity)?;
    let went_on = found.is_some();
    let progress = match found {
        Some(found) => found,
        None => {
            let new = Progress::new(identity);
            new.save(&folder)?;
            new
        }
    };
    let mut collector = Collector::open(settings, &folder, progress)?;
    let schedule = Schedule::new(settings, collector.progress.source, collector.progress.position);
    let collected = std::thread::scope(|scope| {
        for _ in 0..settings.threads.max(1) {
            scope.spawn(|| schedule.run());
        }
        let collected = collector.collect(&schedule, stop, report);
        schedule.stop();
        collected
    });
    if let Err(error) = collected {
        return Err(collector.given_up(error));
    }
    let status = collector.status();
    let summary = collector.finish()?;
    let problems = first_problems(&folder)?;
    Ok(Prepared { summary, problems, was_done: false, went_on, status })
}

/// That a folder is empty, or holds a preparation.
fn check_folder(out: &Path) -> anyhow::Result<()> {
    if out.exists() && !out.is_dir() {
        return Err(UserError::new(format!("{} is a file, not a directory", out.display()))
            .hint("shards go into a directory: name one that is empty or does not exist with --out")
            .into());
    }
    let names = JobFolder::names(out)?;
    let ours = |name: &str| [PREPARED, UNFINISHED].contains(&name);
    // A process killed at its very start leaves the lock, and its first file under the name it is written by.
    let begun = |name: &str| {
        let first = name.strip_prefix('.').and_then(|name| name.strip_prefix(UNFINISHED));
        name == JOB_LOCK || first.is_some_and(|rest| rest.ends_with(".tmp"))
    };
    let there: Vec<&str> = names.iter().map(String::as_str).filter(|name| !begun(name)).take(3).collect();
    if names.iter().any(|name| ours(name)) || there.is_empty() {
        return Ok(());
    }
    Err(UserError::new(format!("{} holds something else: {}", out.display(), there.join(", ")))
        .hint("name a directory that is empty or does not exist with --out")
        .into())
}

fn first_problems(folder: &JobFolder) -> anyhow::Result<Vec<String>> {
    use std::io::BufRead as _;
    let Ok(file) = std::fs::File::open(folder.path().join(PROBLEMS)) else { return Ok(Vec::new()) };
    let mut out = Vec::new();
    for line in std::io::BufReader::new(file).lines().take(SHOWN) {
        let problem: Value = serde_json::from_str(&line?)?;
        let line = match (problem["line"].as_u64(), problem["record"].as_u64()) {
            (Some(line), _) => format!(":{line}"),
            (None, Some(row)) => format!(", row {row}"),
            _ => String::new(),
        };
        let source = problem["source"].as_str().unwrap_or_default();
        let what = problem["what"].as_str().unwrap_or_default();
        // What is wrong with a whole source names it already.
        out.push(if what.starts_with(source) { what.to_owned() } else { format!("{source}{line}: {what}") });
    }
    Ok(out)
}

/// What takes documents in order and writes them.
struct Collector<'a> {
    settings: &'a Settings,
    folder: &'a JobFolder,
    progress: Progress,
    train: StreamWriter<'a>,
    val: StreamWriter<'a>,
    seen: Option<Seen>,
    problems: List,
    removed: List,
    chain: [u8; 32],
    consumed: u64,
    /// Documents so far, and records without text.
    documents: u64,
    without_text: u64,
    /// How far it was when this process began.
    before: Status,
    saved: Instant,
}

/// A list that grows by lines.
struct List {
    file: Growing,
    waiting: Vec<u8>,
}

impl List {
    fn open(folder: &JobFolder, name: &str, keep: u64) -> anyhow::Result<Self> {
        Ok(Self { file: folder.grow(name, keep)?, waiting: Vec::new() })
    }

    fn put(&mut self, line: &Value) -> anyhow::Result<()> {
        serde_json::to_writer(&mut self.waiting, line)?;
        self.waiting.push(b'\n');
        if self.waiting.len() > WAITING { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        self.file.append(&self.waiting)?;
        self.waiting.clear();
        Ok(())
    }

    fn save(&mut self) -> anyhow::Result<u64> {
        self.flush()?;
        self.file.sync()?;
        Ok(self.file.length())
    }
}

impl<'a> Collector<'a> {
    fn open(settings: &'a Settings, folder: &'a JobFolder, mut progress: Progress) -> anyhow::Result<Self> {
        let form = settings.form();
        let (train, val) = (progress.train.clone(), progress.val.clone());
        let nearly = (settings.dedup == Dedup::MinHash).then_some(settings.similarity);
        let seen = match settings.dedup {
            Dedup::None => None,
            _ => Some(Seen::open(folder, progress.seen_bytes, nearly, settings.dedup_bytes)?),
        };
        progress.sources.resize_with(settings.found.sources.len(), SourceTally::default);
        let chain = chain_of(&progress.sources.get(progress.source).cloned().unwrap_or_default());
        let mut collector = Self {
            settings,
            folder,
            train: StreamWriter::open(folder, "train", &form, train)?,
            val: StreamWriter::open(folder, "val", &form, val)?,
            seen,
            problems: List::open(folder, PROBLEMS, progress.problems_bytes)?,
            removed: List::open(folder, REMOVED, progress.removed_bytes)?,
            chain,
            consumed: 0,
            documents: progress.sources.iter().map(|source| source.documents).sum(),
            without_text: 0,
            before: Status::default(),
            progress,
            saved: Instant::now(),
        };
        collector.before = collector.status();
        Ok(collector)
    }

    /// Takes all results in order.
    fn collect(
        &mut self,
        schedule: &Schedule<'_>,
        stop: &Stop,
        report: &mut dyn FnMut(&Status),
    ) -> anyhow::Result<()> {
        let mut reported = Instant::now();
        loop {
            match schedule.take(REPORT) {
                Taken::End => return Ok(()),
                Taken::Nothing => {}
                Taken::Result(batch) => self.batch(*batch)?,
            }
            if reported.elapsed() >= REPORT {
                reported = Instant::now();
                report(&self.status());
            }
            let stopped = stop.check();
            if stopped.is_err() || self.saved.elapsed().as_secs_f64() >= self.settings.checkpoint_s {
                self.save()?;
            }
            stopped?;
        }
    }

    fn batch(&mut self, batch: Batch) -> anyhow::Result<()> {
        self.consumed = batch.consumed;
        let source = batch.source;
        if let Some(worked) = batch.worked {
            self.worked(source, &worked)?;
            (self.progress.source, self.progress.position) = (source, worked.end);
            self.hopeless()?;
        } else {
            if let Some(error) = batch.error {
                let record = self.progress.position.record;
                let kind = ProblemKind::Source;
                self.problem(source, &Problem { record, line: None, kind, what: error.to_string() })?;
            }
            self.progress.sources[source].digest = hex(&self.chain);
            self.chain = [0; 32];
            (self.progress.source, self.progress.position) = (source + 1, Default::default());
            self.consumed = 0;
        }
        Ok(())
    }

    fn worked(&mut self, source: usize, worked: &Worked) -> anyhow::Result<()> {
        self.progress.sources[source].empty += worked.empty;
        for problem in &worked.problems {
            self.problem(source, problem)?;
        }
        for document in &worked.documents {
            self.document(source, document, &worked.ids)?;
        }
        Ok(())
    }

    fn document(&mut self, source: usize, document: &Document, ids: &[u8]) -> anyhow::Result<()> {
        let mut chain = Sha256::new();
        chain.update(self.chain);
        chain.update(document.digest.to_le_bytes());
        self.chain = chain.finalize().into();
        self.documents += 1;
        let tally = &mut self.progress.sources[source];
        tally.documents += 1;
        tally.text_bytes += document.text_bytes;
        let place = Place { source: source as u32, record: document.record, line: document.line };
        if let Some(seen) = &mut self.seen
            && let Some(copy) = seen.check(document.digest, document.signature.as_deref(), place)?
        {
            tally.removed += 1;
            let (this, of) = (self.place(place), self.place(copy.of));
            let line = json!({"removed": this, "copy_of": of, "similarity": round(copy.similarity)});
            return self.removed.put(&line);
        }
        // The upper 53 bits as a number from 0 to 1.
        let drawn = (document.digest >> 75) as f64 / (1u64 << 53) as f64;
        let stream = if drawn < self.settings.val_share { &mut self.val } else { &mut self.train };
        let place = (source, document.record);
        stream.document(place, document.continues, &ids[document.ids.clone()], document.text_bytes)
    }

    fn place(&self, place: Place) -> Value {
        let source = &self.settings.found.sources[place.source as usize];
        match source.format {
            isoflop_data::documents::Format::Parquet => json!({"source": source.name, "row": place.record}),
            _ => json!({"source": source.name, "line": place.line + 1}),
        }
    }

    fn problem(&mut self, source: usize, problem: &Problem) -> anyhow::Result<()> {
        let name = &self.settings.found.sources[source].name;
        if self.settings.strict && !problem.kind.keeps_document() {
            let line = problem.line.map_or(format!(", record {}", problem.record), |line| format!(":{line}"));
            return Err(UserError::new(format!("{name}{line}: {}", problem.what))
                .hint("mend it, or leave out --strict: what cannot be used is then listed and passed over")
                .into());
        }
        use ProblemKind::{Malformed, NoField, NoText};
        self.without_text += u64::from(matches!(problem.kind, Malformed | NoField | NoText));
        let line = json!({
            "source": name,
            "line": problem.line,
            "record": problem.record,
            "kind": problem.kind,
            "what": problem.what,
        });
        *self.progress.sources[source].problems.entry(problem.kind).or_default() += 1;
        self.problems.put(&line)
    }

    /// Gives up where a thousand records lack the field, and none had it.
    fn hopeless(&mut self) -> anyhow::Result<()> {
        let without = self.documents == 0 && self.without_text >= HOPELESS;
        if without { Err(self.no_documents()) } else { Ok(()) }
    }

    fn no_documents(&mut self) -> anyhow::Error {
        let _ = self.problems.flush();
        let first = first_problems(self.folder).unwrap_or_default();
        let bad: u64 = self.progress.sources.iter().flat_map(|source| source.problems.values()).sum();
        let empty: u64 = self.progress.sources.iter().map(|source| source.empty).sum();
        let sources = &self.settings.found.sources;
        let all = if self.progress.source < sources.len() { " so far" } else { "" };
        let what = match (first.first(), empty) {
            // One source that cannot be read says all there is to say.
            (Some(first), _) if sources.len() == 1 && bad == 1 => first.clone(),
            (Some(first), _) => format!("no document could be used; problems{all}: {bad}, the first {first}"),
            (None, 0) => format!("there is no text in {}", sources[0].name),
            (None, _) => format!("all {empty} documents are empty"),
        };
        let has_hint = what.contains("hint:");
        let error = UserError::new(what);
        if has_hint {
            return error.into();
        }
        error.hint("say where the text is with --field NAME, and what the files hold with --format").into()
    }

    fn status(&self) -> Status {
        let sources = &self.settings.found.sources;
        let sum = |of: fn(&SourceTally) -> u64| self.progress.sources.iter().map(of).sum::<u64>();
        Status {
            bytes: sources.iter().map(|source| source.bytes).sum(),
            consumed: sources[..self.progress.source].iter().map(|source| source.bytes).sum::<u64>()
                + self.consumed,
            text_bytes: sum(|source| source.text_bytes),
            documents: sum(|source| source.documents),
            removed: sum(|source| source.removed),
            problems: sum(|source| source.problems.values().sum()),
            tokens: self.train.state().tokens + self.val.state().tokens,
            text_bytes_before: self.before.text_bytes,
            consumed_before: self.before.consumed,
        }
    }

    /// Writes a checkpoint: everything up to here is safe.
    fn save(&mut self) -> anyhow::Result<()> {
        self.progress.train = self.train.save()?;
        self.progress.val = self.val.save()?;
        self.progress.problems_bytes = self.problems.save()?;
        self.progress.removed_bytes = self.removed.save()?;
        if let Some(seen) = &mut self.seen {
            self.progress.seen_bytes = seen.save()?;
        }
        if let Some(current) = self.progress.sources.get_mut(self.progress.source) {
            current.digest = hex(&self.chain);
        }
        self.progress.save(self.folder)?;
        self.saved = Instant::now();
        Ok(())
    }

    /// What is left behind by a preparation that ends with an error: its last checkpoint, since the batch it was at is
    /// half written; nothing where no document was found.
    fn given_up(self, error: anyhow::Error) -> anyhow::Error {
        if self.documents == 0 && !error.is::<crate::Stopped>() {
            let folder = self.folder;
            drop(self);
            // The error is what matters.
            let _ = summary::clear(folder);
        }
        error
    }

    fn finish(mut self) -> anyhow::Result<Value> {
        if self.documents == 0 {
            let error = self.no_documents();
            return Err(self.given_up(error));
        }
        self.save()?;
        let Self { settings, folder, mut progress, train, val, seen, problems, removed, .. } = self;
        progress.train = train.finish()?;
        progress.val = val.finish()?;
        drop((problems, removed, seen));
        for (list, bytes) in [(PROBLEMS, progress.problems_bytes), (REMOVED, progress.removed_bytes)] {
            if bytes == 0 {
                folder.remove(list)?;
            }
        }
        let summary = summary::write(settings, folder, &progress)?;
        folder.replace(FROM, &serde_json::to_vec_pretty(&progress.identity)?)?;
        folder.replace(PREPARED, &serde_json::to_vec_pretty(&summary)?)?;
        folder.remove(UNFINISHED)?;
        folder.remove(LIST)?;
        Ok(summary)
    }
}

/// Where the chain of a source's digests was left.
fn chain_of(tally: &SourceTally) -> [u8; 32] {
    let mut chain = [0; 32];
    for (byte, pair) in chain.iter_mut().zip(tally.digest.as_bytes().chunks_exact(2)) {
        let digits = std::str::from_utf8(pair).unwrap_or("0");
        *byte = u8::from_str_radix(digits, 16).unwrap_or(0);
    }
    chain
}

fn round(similarity: f64) -> f64 {
    (similarity * 1000.0).round() / 1000.0
}
