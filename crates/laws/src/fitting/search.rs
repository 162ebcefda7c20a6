//! The search from many starts, spread over threads; the result does not depend on how many.

use super::data::{Data, LONG};
use super::minimise::{FINE, Optimum, POLISH, Problem, Solver};
use crate::numeric::Theta;

/// The best of many starts.
#[derive(Debug, Clone, Copy)]
pub struct Best {
    /// Polished to the last digits.
    pub optimum: Optimum,
    /// Starts tried.
    pub starts: usize,
    /// Starts that ended within 0.01 % of the best objective.
    pub agree: usize,
}

/// Searches from every start and polishes the best; `None` if no start led to a finite objective.
pub fn search(problem: &Problem<'_>, starts: &[Theta], threads: usize) -> Option<Best> {
    best_of(problem, &all(problem, starts, threads))
}

/// Rows a start's first stage sees of a long table: a hundred show the valleys, and all of them are polished on.
const SEEN: usize = 128;
/// Different first-stage ends of a long table that go on, the best ones.
const GO_ON: usize = 8;

/// Where every start ends, in order. Each start first goes to its optimum in least squares; starts that meet there go
/// on as one, since the rest of the way is the same for all of them. In a table of more than 512 rows the first stage
/// sees a sample of them, and of its ends only the best go on; the others are left infinitely high.
pub fn all(problem: &Problem<'_>, starts: &[Theta], threads: usize) -> Vec<Optimum> {
    let rows = sample(problem.data);
    let long = rows.len() < problem.data.len();
    let few = long.then(|| problem.data.some(&rows));
    let weights: Vec<f64> = rows.iter().map(|i| problem.w[*i]).collect();
    let first = match &few {
        Some(data) => Problem { data, w: &weights, ..*problem },
        None => *problem,
    };
    let warm = spread(starts.len(), threads, |solver, i| solver.squares(&first, &starts[i]));
    let p = problem.form.p();
    let meet = |a: &Optimum, b: &Optimum| {
        (a.objective - b.objective).abs() <= 1e-6 * a.objective.abs() + 1e-18
            && (0..p).all(|i| (a.theta[i] - b.theta[i]).abs() <= 1e-2 * (0.1 + a.theta[i].abs()))
    };
    let mut leaders: Vec<usize> = Vec::new();
    let mut follows: Vec<usize> = Vec::with_capacity(warm.len());
    for (i, end) in warm.iter().enumerate() {
        let known = leaders.iter().position(|l| meet(&warm[*l], end));
        follows.push(known.unwrap_or_else(|| {
            leaders.push(i);
            leaders.len() - 1
        }));
    }
    let mut order: Vec<f64> = leaders.iter().map(|l| warm[*l].objective).collect();
    order.sort_by(f64::total_cmp);
    let highest = if long { order.get(GO_ON).copied().unwrap_or(f64::INFINITY) } else { f64::INFINITY };
    let ends = spread(leaders.len(), threads, |solver, k| {
        let start = &warm[leaders[k]];
        if start.objective < highest || !long {
            solver.search(problem, &start.theta, FINE, long)
        } else {
            Optimum { objective: f64::INFINITY, ..*start }
        }
    });
    follows.into_iter().map(|k| ends[k]).collect()
}

/// Indices of all rows, or of an even sample of a long table's: every k-th in the order of the variables, so that it
/// reaches as far as the table and is as dense everywhere.
pub fn sample(data: &Data) -> Vec<usize> {
    let n = data.len();
    if n <= LONG {
        return (0..n).collect();
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| {
        let keys = data.x.iter().map(|column| column[*a].total_cmp(&column[*b]));
        keys.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then).then(a.cmp(b))
    });
    let mut rows: Vec<usize> = (0..SEEN).map(|k| order[k * (n - 1) / (SEEN - 1)]).collect();
    rows.sort_unstable();
    rows
}

/// Polishes the best of `ends`, trying the runners-up too: polishing may change their order.
pub fn best_of(problem: &Problem<'_>, ends: &[Optimum]) -> Option<Best> {
    let mut order: Vec<&Optimum> = ends.iter().filter(|o| o.objective.is_finite()).collect();
    order.sort_by(|a, b| a.objective.total_cmp(&b.objective));
    let lowest = order.first()?.objective;
    let mut solver = Solver::default();
    let mut best: Option<Optimum> = None;
    let mut candidates = order.clone();
    candidates.dedup_by(|b, a| a.objective == b.objective);
    for end in candidates.iter().take(4) {
        let polished = solver.minimise(problem, &end.theta, POLISH);
        if best.is_none_or(|b| polished.objective < b.objective) {
            best = Some(polished);
        }
    }
    let optimum = best?;
    let near = optimum.objective.max(lowest) * 1.0001 + 1e-14;
    let agree = order.iter().filter(|o| o.objective <= near).count();
    Some(Best { optimum, starts: ends.len(), agree })
}

/// `job(i)` for i in 0..count over `threads` threads, results in order. Each job depends on i alone.
pub fn spread<T: Send>(count: usize, threads: usize, job: impl Fn(&mut Solver, usize) -> T + Sync) -> Vec<T> {
    let threads = threads.clamp(1, 64).min(count.max(1));
    // Interleaved, since neighbouring starts cost alike.
    let part = |t: usize| {
        let mut solver = Solver::default();
        (t..count).step_by(threads).map(|i| (i, job(&mut solver, i))).collect::<Vec<_>>()
    };
    let mut slots: Vec<Option<T>> = (0..count).map(|_| None).collect();
    if threads == 1 || count < 8 {
        return (0..count).scan(Solver::default(), |solver, i| Some(job(solver, i))).collect();
    }
    std::thread::scope(|scope| {
        let part = &part;
        let handles: Vec<_> = (1..threads).map(|t| scope.spawn(move || part(t))).collect();
        let mut done = part(0);
        for handle in handles {
            match handle.join() {
                Ok(more) => done.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        for (i, value) in done {
            slots[i] = Some(value);
        }
    });
    slots.into_iter().flatten().collect()
}
