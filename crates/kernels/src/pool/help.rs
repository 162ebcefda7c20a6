//! Threads without a task help those that have one.
//!
//! A phase's tasks are sequences or blocks of a gradient: few, large, and rarely a multiple of the threads. So a kernel
//! offers its own parts, blocks of rows or columns or heads, with [`split`]: while every thread has a task of its own
//! that is one load and one call, and when some have none they take parts too. The arithmetic of an element is the
//! same in whatever part it lies, so that no bit depends on who helped.

use std::cell::{Cell, UnsafeCell};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};

/// Parts of a task, and the thread that does them.
type Work<'a> = &'a (dyn Fn(Range<usize>, usize) + Sync);

/// How long a thread that waits spins before it lets others have its core.
pub(super) const SPINS: u32 = 4_000;

/// Parts offered to each thread, about: so many that the last to end is not late, so few that taking one costs nothing.
const PARTS_EACH: usize = 4;

/// Set in [`Offer::state`] while others may join; the bits below count those that have.
const OPEN: usize = 1 << (usize::BITS - 1);

/// What one thread offers the others: at most one task at a time.
#[derive(Default)]
#[repr(align(64))]
struct Offer {
    state: AtomicUsize,
    /// Written by its thread while the offer is closed and nobody is inside, read by others while they are.
    work: UnsafeCell<Option<Work<'static>>>,
    units: AtomicUsize,
    /// Units taken at once.
    grain: AtomicUsize,
    next: AtomicUsize,
    panicked: AtomicBool,
}

// SAFETY: `work` is written only while nobody else can be inside (see `Offer::work`); the rest is atomic.
unsafe impl Sync for Offer {}

/// The offers of a pool's threads.
pub(super) struct Board {
    offers: Box<[Offer]>,
    /// Threads without a task of their own.
    idle: AtomicUsize,
    /// Whether those help.
    helps: bool,
}

/// What runs here, and as which thread of its pool.
#[derive(Clone, Copy)]
enum Here {
    /// A task, whose parts may be offered.
    Task { board: *const Board, thread: usize },
    /// A part of one: it is not divided again.
    Part { thread: usize },
    /// See [`in_single_parts`].
    Singly,
}

thread_local! {
    static HERE: Cell<Option<Here>> = const { Cell::new(None) };
}

/// Runs `work` on all of `0..units`, in parts and on several threads if there are some without a task; the second
/// argument of `work` is the pool's number of the thread, for scratch space.
///
/// Which thread has which parts varies; so `work` must compute each unit alone, the same whatever the part it lies in.
/// Outside of a pool's tasks everything is one part, and a part of something divided is not divided again.
pub fn split(units: usize, work: impl Fn(Range<usize>, usize) + Sync) {
    let thread = match HERE.get() {
        Some(Here::Task { board, thread }) => {
            // SAFETY: `Enter` keeps the board borrowed as long as it leaves this in `HERE`.
            let board = unsafe { &*board };
            if units > 1 && board.idle.load(Relaxed) > 0 {
                return board.offer(thread, units, &work);
            }
            thread
        }
        Some(Here::Part { thread }) => thread,
        Some(Here::Singly) => return (0..units).rev().for_each(|unit| work(unit..unit + 1, 0)),
        None => 0,
    };
    work(0..units, thread);
}

/// Whether [`split`] would divide its work now.
pub(crate) fn is_divided() -> bool {
    match HERE.get() {
        // SAFETY: as above.
        Some(Here::Task { board, .. }) => unsafe { &*board }.idle.load(Relaxed) > 0,
        Some(Here::Singly) => true,
        _ => false,
    }
}

/// Calls `body` with everything this thread gives to [`split`] in parts of one unit, the last first: nothing it
/// computes may differ by a bit. For tests.
pub fn in_single_parts<R>(body: impl FnOnce() -> R) -> R {
    let _entered = Enter::with(Here::Singly);
    body()
}

impl Board {
    pub(super) fn new(threads: usize, helps: bool) -> Self {
        Self { offers: (0..threads).map(|_| Offer::default()).collect(), idle: AtomicUsize::new(0), helps }
    }

    /// Calls `body` as thread `thread` of this pool.
    pub(super) fn within(&self, thread: usize, body: impl FnOnce()) {
        let _entered = Enter::with(Here::Task { board: self, thread });
        body();
    }

    /// Helps whoever offers something while `unfinished` tasks remain.
    pub(super) fn help(&self, thread: usize, unfinished: &AtomicUsize) {
        if !self.helps {
            return;
        }
        let _inside = Enter::with(Here::Part { thread });
        self.idle.fetch_add(1, Relaxed);
        let mut spins = 0;
        while unfinished.load(Acquire) > 0 {
            // Each helper begins elsewhere, lest all go to the same.
            let (before, from) = self.offers.split_at(thread);
            if from.iter().chain(before).any(|offer| offer.join(thread)) {
                spins = 0;
            } else {
                wait(&mut spins);
            }
        }
        self.idle.fetch_sub(1, Relaxed);
    }

    fn offer(&self, thread: usize, units: usize, work: Work<'_>) {
        let threads = 1 + self.idle.load(Relaxed);
        let offer = &self.offers[thread];
        // SAFETY: only the lifetime changes. Others use the reference between joining and leaving; `Closing` returns,
        // also when this thread unwinds, only after the last has left.
        let work: Work<'static> = unsafe { std::mem::transmute::<Work<'_>, Work<'static>>(work) };
        // SAFETY: this thread's offer is closed and nobody is inside, or `Closing` would not have returned before.
        unsafe { *offer.work.get() = Some(work) };
        offer.units.store(units, Relaxed);
        offer.grain.store((units / (PARTS_EACH * threads)).max(1), Relaxed);
        offer.next.store(0, Relaxed);
        offer.state.store(OPEN, Release);
        {
            let _closing = Closing(offer);
            let _inside = Enter::with(Here::Part { thread });
            offer.take_parts(work, thread);
        }
        assert!(!offer.panicked.swap(false, Relaxed), "a part of a task panicked");
    }
}

impl Offer {
    fn take_parts(&self, work: Work<'_>, thread: usize) {
        let (units, grain) = (self.units.load(Relaxed), self.grain.load(Relaxed));
        loop {
            let first = self.next.fetch_add(grain, Relaxed);
            if first >= units {
                return;
            }
            work(first..units.min(first + grain), thread);
        }
    }

    /// Takes parts of this offer, if it is open and there are some.
    fn join(&self, thread: usize) -> bool {
        let state = self.state.load(Relaxed);
        if state & OPEN == 0 || self.next.load(Relaxed) >= self.units.load(Relaxed) {
            return false;
        }
        // Acquires what its thread wrote before it opened the offer.
        if self.state.compare_exchange(state, state + 1, Acquire, Relaxed).is_err() {
            return false;
        }
        // SAFETY: counted in `state` while it was open, so that the offer's thread waits before it writes again.
        let work = unsafe { *self.work.get() };
        if let Some(work) = work {
            let parts = std::panic::AssertUnwindSafe(|| self.take_parts(work, thread));
            if std::panic::catch_unwind(parts).is_err() {
                self.panicked.store(true, Relaxed);
            }
        }
        self.state.fetch_sub(1, Release);
        true
    }
}

/// Closes an offer and waits until everybody has left it.
struct Closing<'a>(&'a Offer);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let mut spins = 0;
        let mut state = self.0.state.fetch_and(!OPEN, Acquire);
        while state & !OPEN != 0 {
            wait(&mut spins);
            state = self.0.state.load(Acquire);
        }
    }
}

/// Says where this thread is, until dropped.
pub(super) struct Enter(Option<Here>);

impl Enter {
    fn with(here: Here) -> Self {
        Self(HERE.replace(Some(here)))
    }
}

impl Drop for Enter {
    fn drop(&mut self) {
        HERE.set(self.0);
    }
}

/// One turn of waiting.
pub(super) fn wait(spins: &mut u32) {
    *spins = spins.saturating_add(1);
    if *spins < SPINS {
        std::hint::spin_loop();
    } else {
        // More threads than free cores: let the one we wait for have ours.
        std::thread::yield_now();
    }
}
