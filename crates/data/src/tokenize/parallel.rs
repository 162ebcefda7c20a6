//! Texts encoded by several threads, in order: the same ids for any number of them.

use crate::tokenize::Tokenizer;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The ids of each text, by `threads` threads that take one after the other.
pub fn encode_each(tokenizer: &dyn Tokenizer, texts: &[&str], threads: usize) -> Vec<Vec<u32>> {
    let encoded: Vec<Mutex<Vec<u32>>> = texts.iter().map(|_| Mutex::default()).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(text) = texts.get(index) else { break };
            let ids = tokenizer.encode(text);
            *encoded[index].lock().expect("only this thread has this text") = ids;
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(texts.len()) {
            scope.spawn(work);
        }
        work();
    });
    encoded
        .into_iter()
        .map(|ids| ids.into_inner().expect("no thread panicked, or the scope would have"))
        .collect()
}
