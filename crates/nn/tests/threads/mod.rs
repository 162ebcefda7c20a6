//! A group of threads of one process.

use isoflop_nn::engine::Buffer;
use isoflop_nn::{EngineError, Group};
use std::sync::{Arc, Barrier, Mutex};

/// The ranks of one process, a thread each: every rank lays its numbers out, waits for the others, and sums all in the
/// order of the ranks.
pub(crate) struct Threads {
    pub(crate) rank: usize,
    shared: Arc<Shared>,
}

struct Shared {
    laid_out: Vec<Mutex<(Vec<f32>, Vec<f64>)>>,
    barrier: Barrier,
}

impl Threads {
    pub(crate) fn of(ranks: usize) -> Vec<Self> {
        let shared = Arc::new(Shared {
            laid_out: (0..ranks).map(|_| Mutex::default()).collect(),
            barrier: Barrier::new(ranks),
        });
        (0..ranks).map(|rank| Self { rank, shared: Arc::clone(&shared) }).collect()
    }
}

impl Group for Threads {
    fn size(&self) -> usize {
        self.shared.laid_out.len()
    }

    fn join(&mut self, gradient: Buffer<'_>, sums: &mut [f64]) -> Result<(), EngineError> {
        let Buffer::Host(gradient) = gradient else {
            return Err(EngineError::Device("threads share the host's memory alone".to_owned()));
        };
        *self.shared.laid_out[self.rank].lock().unwrap() = (gradient.to_vec(), sums.to_vec());
        self.shared.barrier.wait();
        gradient.fill(0.0);
        sums.fill(0.0);
        for other in &self.shared.laid_out {
            let (theirs, their_sums) = &*other.lock().unwrap();
            gradient.iter_mut().zip(theirs).for_each(|(g, x)| *g += x);
            sums.iter_mut().zip(their_sums).for_each(|(sum, x)| *sum += x);
        }
        let ranks = self.size() as f32;
        gradient.iter_mut().for_each(|g| *g /= ranks);
        self.shared.barrier.wait();
        Ok(())
    }
}
