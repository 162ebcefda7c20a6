//! What all open pages share: the newest state, laws, and the last pieces of news. A page that cannot keep up with the
//! news is given the whole anew, so none makes another wait and none is remembered for longer.

use crate::message::{self, Detail, Laws};
use crate::store::Seen;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Pieces of news that are kept for slow pages.
const MOST_NEWS: usize = 64;
/// Bytes of them.
const MOST_NEWS_BYTES: usize = 16 << 20;

/// Shared between the reader of the store, the fits and the pages.
pub(super) struct Hub {
    inner: Mutex<Inner>,
    changed: Condvar,
}

struct Inner {
    seen: Seen,
    laws: Laws,
    laws_changed: bool,
    /// Number of the last piece of news.
    last: u64,
    news: VecDeque<(u64, Arc<str>)>,
    /// The whole at a number of news, coarse and fine: a hundred pages that open at once share it.
    whole: [Option<(u64, Arc<str>)>; 2],
    closed: bool,
}

/// What comes next for a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// News, with its number.
    News(u64, Arc<str>),
    /// It fell behind: the whole is to be sent anew.
    Behind,
    /// Nothing happened for a while.
    Nothing,
    /// The program ends.
    Closed,
}

impl Hub {
    pub(super) fn new(seen: Seen) -> Self {
        let inner = Inner {
            seen,
            laws: Laws::new(),
            laws_changed: false,
            last: 0,
            news: VecDeque::new(),
            whole: [None, None],
            closed: false,
        };
        Self { inner: Mutex::new(inner), changed: Condvar::new() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what is new in the store, and tells the pages. Whether there is more to read at once.
    pub(super) fn look(&self) -> bool {
        let mut inner = self.inner();
        let more = inner.seen.look();
        let laws = inner.laws_changed.then_some(&inner.laws);
        if let Some(news) = message::news(&inner.seen, laws) {
            inner.last += 1;
            let number = inner.last;
            inner.news.push_back((number, news.into()));
            let bytes = |inner: &Inner| inner.news.iter().map(|(_, text)| text.len()).sum::<usize>();
            while inner.news.len() > MOST_NEWS || (inner.news.len() > 1 && bytes(&inner) > MOST_NEWS_BYTES) {
                inner.news.pop_front();
            }
            inner.seen.heard();
            inner.laws_changed = false;
            self.changed.notify_all();
        }
        more
    }

    /// The whole, with the number of the last news that is in it.
    pub(super) fn whole(&self, detail: Detail) -> (u64, Arc<str>) {
        let mut inner = self.inner();
        let place = usize::from(detail == Detail::Full);
        if let Some((number, text)) = &inner.whole[place]
            && *number == inner.last
        {
            return (*number, Arc::clone(text));
        }
        let text: Arc<str> = message::whole(&inner.seen, &inner.laws, detail).into();
        inner.whole[place] = Some((inner.last, Arc::clone(&text)));
        (inner.last, text)
    }

    /// One run with all that is kept of it.
    pub(super) fn run(&self, id: &str) -> Option<String> {
        message::run(&self.inner().seen, id)
    }

    /// What follows the news of this number; waits for it at most so long.
    pub(super) fn next(&self, after: u64, patience: Duration) -> Next {
        let mut inner = self.inner();
        if inner.last <= after && !inner.closed {
            let waited = self.changed.wait_timeout_while(inner, patience, |i| i.last <= after && !i.closed);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        match inner.news.iter().find(|(number, _)| *number > after) {
            _ if inner.closed => Next::Closed,
            None if inner.last <= after => Next::Nothing,
            Some((number, text)) if *number == after + 1 => Next::News(*number, Arc::clone(text)),
            _ => Next::Behind,
        }
    }

    /// What is to be fitted.
    pub(super) fn asked(&self) -> Vec<crate::law::Asked> {
        message::asked(&self.inner().seen)
    }

    /// Whether every run has been read once: before that a fit would be of a part.
    pub(super) fn is_read(&self) -> bool {
        let (read, of) = self.inner().seen.read_so_far();
        read == of
    }

    /// Number of finished points of a study's runs: a law is of them.
    pub(super) fn points(&self, study: &str) -> u64 {
        let inner = self.inner();
        let of = |run: &&crate::run::Run| run.study() == study;
        inner.seen.runs.values().filter(of).map(|run| run.points.len() as u64).sum()
    }

    /// Takes a new law of a study.
    pub(super) fn set_law(&self, study: &str, law: crate::law::Law) {
        let mut inner = self.inner();
        inner.laws.insert(study.to_owned(), law);
        inner.laws_changed = true;
        inner.whole = [None, None];
    }

    /// Ends the waiting of all pages.
    pub(super) fn close(&self) {
        self.inner().closed = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_come_in_order_and_who_falls_behind_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let hub = Hub::new(Seen::new(dir.path()));
        assert_eq!(hub.next(0, Duration::ZERO), Next::Nothing);
        for _ in 0..MOST_NEWS + 5 {
            hub.set_law("s", crate::law::Law::default());
            hub.look();
        }
        let last = (MOST_NEWS + 5) as u64;
        assert!(matches!(hub.next(last - 1, Duration::ZERO), Next::News(n, _) if n == last));
        assert_eq!(hub.next(last, Duration::ZERO), Next::Nothing);
        assert_eq!(hub.next(2, Duration::ZERO), Next::Behind);
        assert_eq!(hub.whole(Detail::First).0, last);
        hub.close();
        assert_eq!(hub.next(last, Duration::from_secs(60)), Next::Closed);
    }
}
