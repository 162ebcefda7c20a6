//! Persistent threads that run numbered tasks: a phase of work is one call, microseconds apart from the next. A thread
//! that finds no task left helps the others with theirs ([`help`]).

mod help;

pub(crate) use help::is_divided;
use help::{Board, SPINS, wait};
pub use help::{in_single_parts, split};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

/// Task number and thread number.
type Task<'a> = &'a (dyn Fn(usize, usize) + Sync);

struct Shared {
    /// Changes with each phase; threads wait for it to move.
    phase: AtomicU64,
    /// The closure of the current phase. Written by `run` before `phase` moves, read by workers after.
    task: Mutex<Option<Task<'static>>>,
    num_tasks: AtomicUsize,
    /// Of each thread: how many of its own tasks were taken, by itself or by others.
    taken: Box<[Taken]>,
    /// Tasks that have not ended.
    unfinished: AtomicUsize,
    board: Board,
    /// Workers that have not finished the phase.
    working: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
    sleeping: Mutex<()>,
    wake: Condvar,
}

/// A counter with a cache line to itself.
#[derive(Default)]
#[repr(align(64))]
struct Taken(AtomicUsize);

/// A pool of `threads − 1` workers and the calling thread.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    threads: usize,
    /// One phase at a time, whoever calls.
    running: Mutex<()>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({} threads)", self.threads)
    }
}

impl Pool {
    /// A pool of `threads ≥ 1` threads, the caller among them.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        // With more threads than processors, one that waited for its helper would wait for the scheduler.
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::with(threads, threads <= processors)
    }

    /// A pool whose threads without a task help the others, or do not.
    fn with(threads: usize, helps: bool) -> std::io::Result<Self> {
        assert!(threads >= 1);
        let shared = Arc::new(Shared {
            phase: AtomicU64::new(0),
            task: Mutex::new(None),
            num_tasks: AtomicUsize::new(0),
            taken: (0..threads).map(|_| Taken::default()).collect(),
            unfinished: AtomicUsize::new(0),
            board: Board::new(threads, helps),
            working: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            sleeping: Mutex::new(()),
            wake: Condvar::new(),
        });
        let mut pool = Self { shared, workers: Vec::new(), threads, running: Mutex::new(()) };
        for index in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let builder = std::thread::Builder::new().name(format!("kernels-{index}"));
            pool.workers.push(builder.spawn(move || work(&shared, index))?);
        }
        Ok(pool)
    }

    /// Number of threads, the caller included.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `task(0..num_tasks, thread)`, each number once, and returns when all are done.
    ///
    /// A thread takes its own share first, the numbers behind each other that it has in every phase of so many tasks,
    /// for what it left in its caches; then others' that have not begun. Which thread takes which number therefore
    /// varies; a task must therefore not depend on its thread except for scratch space. Threads beyond the number of
    /// tasks help with those parts that a task gives to [`split`]. A task that panics makes `run` panic after the
    /// phase.
    pub fn run(&self, num_tasks: usize, task: impl Fn(usize, usize) + Sync) {
        if self.threads == 1 || num_tasks == 0 {
            for index in 0..num_tasks {
                task(index, 0);
            }
            return;
        }
        // A phase that panicked left the pool in order, so its poison is no reason to stop.
        let _one_phase = self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let shared = &*self.shared;
        let task: Task<'_> = &task;
        // SAFETY: only the lifetime changes. Workers use the reference between the change of `phase` below and their
        // decrement of `working`; this function returns, or unwinds, only after `working` is zero.
        let task: Task<'static> = unsafe { std::mem::transmute::<Task<'_>, Task<'static>>(task) };
        *shared.task.lock().expect("never poisoned") = Some(task);
        shared.num_tasks.store(num_tasks, Relaxed);
        shared.taken.iter().for_each(|taken| taken.0.store(0, Relaxed));
        shared.unfinished.store(num_tasks, Relaxed);
        shared.working.store(self.workers.len(), Relaxed);
        {
            let _guard = shared.sleeping.lock().expect("never poisoned");
            shared.phase.fetch_add(1, Release);
        }
        shared.wake.notify_all();
        take_tasks(shared, task, 0);
        let mut spins = 0;
        while shared.working.load(Acquire) > 0 {
            wait(&mut spins);
        }
        *shared.task.lock().expect("never poisoned") = None;
        assert!(!shared.panicked.swap(false, Relaxed), "a task of the pool panicked");
    }
}

/// Takes tasks while there are some, then helps others until all have ended.
fn take_tasks(shared: &Shared, task: Task<'_>, thread: usize) {
    let (num_tasks, threads) = (shared.num_tasks.load(Relaxed), shared.taken.len());
    shared.board.within(thread, || {
        for owner in (thread..threads).chain(0..thread) {
            let taken = &shared.taken[owner].0;
            // The load spares those who look for a last task most of the quarrel over counters.
            let [first, end] = [owner, owner + 1].map(|n| n * num_tasks / threads);
            while first + taken.load(Relaxed) < end {
                let index = first + taken.fetch_add(1, Relaxed);
                if index >= end {
                    break;
                }
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| task(index, thread)));
                if result.is_err() {
                    shared.panicked.store(true, Relaxed);
                }
                shared.unfinished.fetch_sub(1, Release);
            }
        }
    });
    shared.board.help(thread, &shared.unfinished);
}

fn work(shared: &Shared, thread: usize) {
    let mut seen = 0;
    loop {
        let mut spins = 0;
        while shared.phase.load(Acquire) == seen {
            if shared.stop.load(Relaxed) {
                return;
            }
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
                continue;
            }
            let guard = shared.sleeping.lock().expect("never poisoned");
            if shared.phase.load(Acquire) == seen && !shared.stop.load(Relaxed) {
                drop(shared.wake.wait(guard).expect("never poisoned"));
            }
        }
        seen += 1;
        let task = *shared.task.lock().expect("never poisoned");
        if let Some(task) = task {
            take_tasks(shared, task, thread);
        }
        shared.working.fetch_sub(1, Release);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        {
            let _guard = self.shared.sleeping.lock();
            self.shared.stop.store(true, Relaxed);
        }
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches its tasks' panics, so joining cannot fail.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_in_every_phase() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads).unwrap();
            for tasks in [0, 1, 2, 7, 100] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                for _ in 0..50 {
                    pool.run(tasks, |i, thread| {
                        assert!(thread < threads);
                        counts[i].fetch_add(1, Relaxed);
                    });
                }
                assert!(counts.iter().all(|c| c.load(Relaxed) == 50));
            }
        }
    }

    #[test]
    fn a_panic_is_passed_on_and_the_pool_survives() {
        let pool = Pool::new(3).unwrap();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.run(10, |i, _| assert!(i != 4, "expected by the test"));
        }));
        assert!(caught.is_err());
        let sum = AtomicUsize::new(0);
        pool.run(10, |i, _| {
            sum.fetch_add(i, Relaxed);
        });
        assert_eq!(sum.load(Relaxed), 45);
    }

    #[test]
    fn parts_are_done_once_each_whoever_helps() {
        for threads in [1, 2, 5] {
            let pool = Pool::with(threads, true).unwrap();
            for tasks in [1, 2, 3, 7] {
                for units in [0, 1, 2, 50] {
                    let counts: Vec<AtomicUsize> = (0..tasks * units).map(|_| AtomicUsize::new(0)).collect();
                    let held: Vec<AtomicBool> = (0..threads).map(|_| AtomicBool::new(false)).collect();
                    for _ in 0..20 {
                        pool.run(tasks, |task, _| {
                            for _ in 0..3 {
                                split(units, |part, thread| {
                                    assert!(
                                        !held[thread].swap(true, AcqRel),
                                        "two parts at once on a thread"
                                    );
                                    for unit in part {
                                        // Parts of a part: those of one that was divided are not divided again.
                                        split(4, |inner, _| {
                                            counts[task * units + unit].fetch_add(inner.len(), Relaxed);
                                        });
                                    }
                                    held[thread].store(false, Release);
                                });
                            }
                        });
                    }
                    assert!(counts.iter().all(|c| c.load(Relaxed) == 240));
                }
            }
        }
    }

    #[test]
    fn idle_threads_take_part() {
        let pool = Pool::with(4, true).unwrap();
        let helpers: Vec<AtomicUsize> = (0..4).map(|_| AtomicUsize::new(0)).collect();
        // Offered until somebody came: on a busy machine that may take a while.
        pool.run(1, |_, own| {
            while helpers.iter().enumerate().all(|(i, n)| i == own || n.load(Relaxed) == 0) {
                split(64, |part, thread| {
                    helpers[thread].fetch_add(part.len(), Relaxed);
                    std::thread::sleep(std::time::Duration::from_micros(20));
                });
            }
        });
    }

    #[test]
    fn a_panic_in_a_part_is_passed_on_whoever_did_it() {
        let pool = Pool::with(3, true).unwrap();
        for bad in 0..32 {
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                pool.run(2, |_, _| {
                    split(32, |part, _| assert!(!part.contains(&bad), "expected by the test"));
                });
            }));
            assert!(caught.is_err());
        }
        let sum = AtomicUsize::new(0);
        pool.run(1, |_, _| {
            split(10, |part, _| {
                sum.fetch_add(part.sum(), Relaxed);
            });
        });
        assert_eq!(sum.load(Relaxed), 45);
    }

    #[test]
    fn items_are_handed_out_once() {
        let pool = Pool::new(3).unwrap();
        let items: Vec<AtomicUsize> = (0..100).map(|_| AtomicUsize::new(0)).collect();
        pool.run(100, |index, _| {
            items[index].fetch_add(1, Relaxed);
        });
        assert!(items.iter().all(|item| item.load(Relaxed) == 1));
    }

    #[test]
    fn sleeping_workers_wake() {
        let pool = Pool::new(2).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        let sum = AtomicUsize::new(0);
        pool.run(4, |i, _| {
            sum.fetch_add(i, Relaxed);
        });
        assert_eq!(sum.load(Relaxed), 6);
    }
}
