//! Which thread reads which source next.
//!
//! Every thread does the same: it takes a reader that nobody uses, reads one batch, gives the reader back, and works on
//! the batch. Several sources are open at a time, so that unpacking is shared as well; results are handed out in the
//! order of sources and batches. Memory is bounded by bytes under way, of which the first source in order may always
//! have some: whatever waits, waits for it.

use super::settings::Settings;
use super::work::{Worked, work};
use isoflop_data::DataError;
use isoflop_data::documents::{Batch, Limits, Position, Reader, Step, open};
use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes of a batch.
const BATCH: usize = 512 << 10;
/// Bytes of records that are read and not handed out.
const UNDER_WAY: usize = 24 << 20;
/// Sources that are open at a time.
const LANES: usize = 4;
/// Batches of a source that is not the first in order, read ahead of it.
const AHEAD: usize = 4;

/// What is handed out: a batch that was worked on, or the end of a source.
pub struct Result {
    /// Index of the source.
    pub source: usize,
    /// The documents; nothing at the end.
    pub worked: Option<Worked>,
    /// Bytes of the source read so far, as it lies on disk.
    pub consumed: u64,
    /// Why a source ended before its end.
    pub error: Option<DataError>,
    /// Bytes of records.
    bytes: usize,
    large: bool,
}

impl Result {
    /// Whether the source is over.
    pub fn is_end(&self) -> bool {
        self.worked.is_none()
    }
}

/// Threads reading and working, and one that takes what they have done.
pub struct Schedule<'a> {
    settings: &'a Settings,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Sources that are open or about to be, in order; results are taken from the first.
    lanes: VecDeque<Lane>,
    /// Where the source after them begins.
    next_source: usize,
    done: HashMap<(usize, u64), Result>,
    under_way: usize,
    /// A large batch is under way.
    large: bool,
    stopped: bool,
}

struct Lane {
    source: usize,
    from: Position,
    reader: Slot,
    /// Batches read, and those taken.
    read: u64,
    taken: u64,
    wants: Wants,
}

/// What a source needs before it can be read on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wants {
    Nothing,
    /// To be the first in order: what it takes to unpack it is much.
    First,
    /// To be the first, and no other large record under way.
    Large,
}

enum Slot {
    Unopened,
    Idle(Box<dyn Reader>),
    Busy,
    Over,
}

/// What a thread has taken upon itself.
struct Job {
    source: usize,
    from: Position,
    number: u64,
    first: bool,
    large: bool,
}

impl<'a> Schedule<'a> {
    /// Begins at a position of a source.
    pub fn new(settings: &'a Settings, source: usize, from: Position) -> Self {
        let mut state = State {
            lanes: VecDeque::new(),
            next_source: source,
            done: HashMap::new(),
            under_way: 0,
            large: false,
            stopped: false,
        };
        state.fill(settings.found.sources.len(), from);
        Self { settings, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a thread does until nothing is left.
    pub fn run(&self) {
        let _guard = StopOnPanic(self);
        loop {
            let mut state = self.state();
            let (job, reader) = loop {
                if state.stopped || state.lanes.is_empty() {
                    return;
                }
                match state.pick() {
                    Some(job) => break job,
                    None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                }
            };
            drop(state);
            self.do_job(job, reader);
        }
    }

    fn do_job(&self, job: Job, reader: Option<Box<dyn Reader>>) {
        let source = &self.settings.found.sources[job.source];
        let mut batch = Batch::default();
        let limits = Limits { batch: BATCH, first: job.first, large: job.large };
        let opened = match reader {
            Some(reader) => Ok(reader),
            None => open(source, &self.settings.fields, job.from),
        };
        let (reader, step) = match opened {
            Ok(mut reader) => {
                let step = reader.read(&mut batch, limits);
                (Some(reader), step)
            }
            Err(error) => (None, Err(error)),
        };
        let consumed = reader.as_ref().map_or(0, |reader| reader.consumed());
        let bytes = batch.bytes.len();
        let mut result =
            Result { source: job.source, worked: None, consumed, error: None, bytes, large: job.large };
        self.give_back(&job, reader, &step, bytes);
        match step {
            Ok(Step::Large) => return,
            Ok(Step::Batch) => result.worked = Some(work(self.settings, source.format, batch)),
            Ok(Step::End) => {}
            Err(error) => result.error = Some(error),
        }
        self.state().done.insert((job.source, job.number), result);
        self.changed.notify_all();
    }

    /// Gives a reader back, so that another thread can go on while this one works on the batch.
    fn give_back(
        &self,
        job: &Job,
        reader: Option<Box<dyn Reader>>,
        step: &std::result::Result<Step, DataError>,
        bytes: usize,
    ) {
        let mut state = self.state();
        state.under_way += bytes;
        if matches!(step, Ok(Step::Large)) && job.large {
            state.large = false;
        }
        let lane = state.lanes.iter_mut().find(|lane| lane.source == job.source);
        let lane = lane.expect("a source stays until its end is handed out");
        lane.reader = match (reader, step) {
            (Some(reader), Ok(Step::Batch | Step::Large)) => Slot::Idle(reader),
            _ => Slot::Over,
        };
        lane.wants = match step {
            Ok(Step::Large) if job.first => Wants::Large,
            Ok(Step::Large) => Wants::First,
            _ => Wants::Nothing,
        };
        if !matches!(step, Ok(Step::Large)) {
            lane.read += 1;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// The next result in order, waiting at most so long; nothing if there is none yet.
    ///
    /// # Panics
    /// If a thread did.
    pub fn take(&self, wait: Duration) -> Taken {
        let mut state = self.state();
        loop {
            let Some(lane) = state.lanes.front() else { return Taken::End };
            assert!(!state.stopped, "a thread panicked");
            let key = (lane.source, lane.taken);
            if let Some(result) = state.done.remove(&key) {
                state.under_way -= result.bytes;
                if result.large {
                    state.large = false;
                }
                let lane = state.lanes.front_mut().expect("there is a first");
                lane.taken += 1;
                if result.is_end() {
                    state.lanes.pop_front();
                    state.fill(self.settings.found.sources.len(), Position::default());
                }
                drop(state);
                self.changed.notify_all();
                return Taken::Result(Box::new(result));
            }
            let (waited, timeout) =
                self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner);
            state = waited;
            if timeout.timed_out() {
                return Taken::Nothing;
            }
        }
    }

    /// Lets all threads end after what they are at.
    pub fn stop(&self) {
        self.state().stopped = true;
        self.changed.notify_all();
    }
}

/// What [`Schedule::take`] came to.
pub enum Taken {
    /// The next result.
    Result(Box<Result>),
    /// None yet.
    Nothing,
    /// There will be none.
    End,
}

impl State {
    fn fill(&mut self, sources: usize, first: Position) {
        while self.lanes.len() < LANES && self.next_source < sources {
            let from = if self.lanes.is_empty() { first } else { Position::default() };
            self.lanes.push_back(Lane {
                source: self.next_source,
                from,
                reader: Slot::Unopened,
                read: 0,
                taken: 0,
                wants: Wants::Nothing,
            });
            self.next_source += 1;
        }
    }

    fn pick(&mut self) -> Option<(Job, Option<Box<dyn Reader>>)> {
        let (under_way, large) = (self.under_way, self.large);
        for (place, lane) in self.lanes.iter_mut().enumerate() {
            let (first, waiting) = (place == 0, lane.read - lane.taken);
            let room = match first {
                true => under_way < UNDER_WAY || waiting == 0,
                false => under_way < UNDER_WAY && waiting < AHEAD as u64,
            };
            let may = match lane.wants {
                Wants::Nothing => true,
                Wants::First => first,
                Wants::Large => first && !large,
            };
            if !room || !may || !matches!(lane.reader, Slot::Unopened | Slot::Idle(_)) {
                continue;
            }
            let reader = match std::mem::replace(&mut lane.reader, Slot::Busy) {
                Slot::Idle(reader) => Some(reader),
                _ => None,
            };
            let large = lane.wants == Wants::Large;
            let job = Job { source: lane.source, from: lane.from, number: lane.read, first, large };
            self.large |= large;
            return Some((job, reader));
        }
        None
    }
}

/// Ends all when one thread panics: nobody would deliver what it was at.
struct StopOnPanic<'s, 'a>(&'s Schedule<'a>);

impl Drop for StopOnPanic<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}
