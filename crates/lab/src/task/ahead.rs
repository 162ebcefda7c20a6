//! Batches made on a thread of their own, one step ahead of the loop, in two buffers that are used again and again.

use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

type Filled<B> = (Range<u64>, anyhow::Result<Vec<B>>);

/// Makes the batches of the next step while one runs, taking it to be as large. What is made is a function of which
/// batches a step takes.
pub struct Ahead<B> {
    /// Steps to make, each with a buffer to make it in; `None` once the thread is to end.
    wanted: Option<Sender<(Range<u64>, Vec<B>)>>,
    made: Receiver<Filled<B>>,
    thread: Option<JoinHandle<()>>,
    /// The step that is being made.
    asked: Option<Range<u64>>,
    /// What the loop is working on.
    current: Vec<B>,
    /// Which step that is.
    holds: Option<Range<u64>>,
    waited_s: f64,
}

impl<B: Send + 'static> Ahead<B> {
    /// Starts the thread. `make(batches, buffer)` replaces what is in the buffer.
    ///
    /// # Errors
    /// The system starts no further thread.
    pub fn new(
        mut make: impl FnMut(Range<u64>, &mut Vec<B>) -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<Self> {
        let (wanted, to_make) = channel::<(Range<u64>, Vec<B>)>();
        let (done, made) = channel::<Filled<B>>();
        let work = move || {
            for (step, mut buffer) in to_make {
                let result = make(step.clone(), &mut buffer).map(|()| buffer);
                if done.send((step, result)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("batches".to_owned()).spawn(work)?;
        Ok(Self {
            wanted: Some(wanted),
            made,
            thread: Some(thread),
            asked: None,
            current: Vec::new(),
            holds: None,
            waited_s: 0.0,
        })
    }

    /// The batches of a step; those of the next are begun.
    ///
    /// # Errors
    /// What `make` said.
    pub fn get(&mut self, step: Range<u64>) -> anyhow::Result<&[B]> {
        if self.holds.as_ref() == Some(&step) {
            return Ok(&self.current);
        }
        let started = Instant::now();
        let mut spare = Vec::new();
        if self.asked.as_ref().is_some_and(|asked| *asked != step) {
            // The loop went back to a fork, or on from a checkpoint: what was made ahead is not wanted.
            spare = self.receive()?.1.unwrap_or_default();
        }
        if self.asked.is_none() {
            self.ask(step.clone(), spare);
        }
        let (_, made) = self.receive()?;
        self.waited_s += started.elapsed().as_secs_f64();
        let spare = std::mem::replace(&mut self.current, made?);
        let next = step.end..step.end + (step.end - step.start);
        self.holds = Some(step);
        self.ask(next, spare);
        Ok(&self.current)
    }

    /// Seconds spent waiting in [`Ahead::get`].
    pub fn waited_s(&self) -> f64 {
        self.waited_s
    }

    fn ask(&mut self, step: Range<u64>, buffer: Vec<B>) {
        // A thread that is gone shows when its answer is waited for.
        let _ = self.wanted.as_ref().map(|wanted| wanted.send((step.clone(), buffer)));
        self.asked = Some(step);
    }

    fn receive(&mut self) -> anyhow::Result<Filled<B>> {
        self.asked = None;
        self.made.recv().map_err(|_| anyhow::anyhow!("the thread that makes batches has ended"))
    }
}

impl<B> Drop for Ahead<B> {
    fn drop(&mut self) {
        self.wanted = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn every_order_of_steps_gives_each_step_its_own_and_buffers_come_back() {
        let capacities = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&capacities);
        let mut ahead = Ahead::new(move |step: Range<u64>, buffer: &mut Vec<u64>| {
            seen.lock().unwrap().push(buffer.capacity());
            buffer.clear();
            buffer.extend([step.start, step.start * step.end]);
            Ok(())
        })
        .unwrap();
        let steps = [0..1, 1..2, 2..3, 3..4, 7..8, 8..9, 2..3, 3..4, 3..4, 4..5, 5..9, 9..13, 13..14, 0..1];
        for step in steps {
            assert_eq!(ahead.get(step.clone()).unwrap(), [step.start, step.start * step.end]);
        }
        drop(ahead);
        let capacities = capacities.lock().unwrap();
        assert!(capacities[3..].iter().all(|c| *c >= 2), "{capacities:?}: later steps found used buffers");
    }

    #[test]
    fn an_error_is_told_when_its_step_is_asked_for_and_a_panic_ends_nothing_silently() {
        let mut ahead = Ahead::new(|batches: Range<u64>, buffer: &mut Vec<u64>| {
            let step = batches.start;
            assert!(step < 9, "made on purpose");
            anyhow::ensure!(step != 2, "the file is gone");
            *buffer = vec![step];
            Ok(())
        })
        .unwrap();
        assert_eq!(ahead.get(1..2).unwrap(), [1]);
        assert_eq!(ahead.get(2..3).unwrap_err().to_string(), "the file is gone");
        assert_eq!(ahead.get(3..4).unwrap(), [3]);
        assert_eq!(ahead.get(8..9).unwrap(), [8]);
        assert!(ahead.get(9..10).is_err());
    }
}
