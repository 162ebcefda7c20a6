//! Gradients of several cards made one: each card owns a share of every bucket, fetches that share from the others,
//! adds in the order of the cards, and the others fetch the sum. On queues of their own, beside the backward that
//! makes the next bucket.
//!
//! The order is ((g₀ + g₁) + g₂) + …, whichever card adds and whichever way the bytes take: from card to card where the
//! machine lets them, else through pinned memory of the host.

use crate::driver::{DriverError, Event, Pinned, Span};
use crate::replica::Replica;
use crate::sizes::{Sizes, buckets};
use std::ops::Range;

/// The cards of one process and the ways between them.
#[derive(Debug)]
pub(crate) struct Exchange {
    cards: usize,
    buckets: Vec<(usize, usize)>,
    ways: Ways,
}

#[derive(Debug)]
enum Ways {
    /// From card to card.
    Peers,
    /// Through the host: memory by \[owner\]\[other\] for what comes in, by \[owner\] for the sum.
    Host { shares: Vec<Vec<Pinned>>, sums: Vec<Pinned> },
}

/// Elements of a share begin at multiples of this.
const ALIGN: usize = 16;

impl Exchange {
    /// The ways between these cards, which have room for what comes from the others.
    pub(crate) fn new(replicas: &[Replica], sizes: &Sizes) -> Result<Self, DriverError> {
        let cards = replicas.len();
        let buckets = buckets(&sizes.layout);
        let mut peers = true;
        for (a, b) in pairs(cards) {
            peers = peers && replicas[a].context.reaches(&replicas[b].context)?;
        }
        let ways = if peers {
            for (a, b) in pairs(cards) {
                replicas[a].context.reach(&replicas[b].context)?;
            }
            Ways::Peers
        } else {
            let largest = buckets.iter().map(|(_, len)| share(*len, cards)).max().unwrap_or(0) * 4;
            let pinned = |card: usize| replicas[card].context.pinned(largest);
            let shares = (0..cards)
                .map(|owner| (0..cards).filter(|other| *other != owner).map(pinned).collect())
                .collect::<Result<_, _>>()?;
            Ways::Host { shares, sums: (0..cards).map(pinned).collect::<Result<_, _>>()? }
        };
        Ok(Self { cards, buckets, ways })
    }

    /// Whether bytes go from card to card.
    pub(crate) fn by_peers(&self) -> bool {
        matches!(self.ways, Ways::Peers)
    }

    /// Number of buckets; the last ones are those of the embeddings.
    pub(crate) fn buckets(&self) -> usize {
        self.buckets.len()
    }

    /// The first element of bucket `index`: it is ready when all from there on is.
    pub(crate) fn start(&self, index: usize) -> usize {
        self.buckets[index].0
    }

    /// The elements of bucket `index` that card `owner` adds.
    fn owned(&self, index: usize, owner: usize) -> Range<usize> {
        let (at, len) = self.buckets[index];
        let share = share(len, self.cards);
        let from = (owner * share).min(len);
        at + from..at + (from + share).min(len)
    }

    /// Puts the exchange of a bucket on the queues of copies, behind what the cards compute up to here.
    pub(crate) fn join(
        &mut self,
        replicas: &[Replica],
        sizes: &Sizes,
        index: usize,
    ) -> Result<(), DriverError> {
        let ready: Vec<Event> =
            replicas.iter().map(|replica| replica.stream.mark()).collect::<Result<_, _>>()?;
        for owner in 0..self.cards {
            let range = self.owned(index, owner);
            if range.is_empty() {
                continue;
            }
            self.fetch(replicas, sizes, &ready, owner, &range)?;
            self.sum(replicas, sizes, owner, &range)?;
            self.spread(replicas, owner, &range)?;
        }
        Ok(())
    }

    /// What comes from the other cards lies on the owner's, in their order.
    fn staged(replicas: &[Replica], sizes: &Sizes, owner: usize, place: usize, len: usize) -> Span {
        let all = replicas[owner].at(sizes.exchange);
        let room = all.bytes / (replicas.len() as u64 - 1);
        all.part(place as u64 * room, 4 * len as u64)
    }

    fn fetch(
        &mut self,
        replicas: &[Replica],
        sizes: &Sizes,
        ready: &[Event],
        owner: usize,
        range: &Range<usize>,
    ) -> Result<(), DriverError> {
        let copies = &replicas[owner].copies;
        copies.wait(&ready[owner])?;
        let others = (0..self.cards).filter(|other| *other != owner);
        for (place, other) in others.enumerate() {
            let to = Self::staged(replicas, sizes, owner, place, range.len());
            let from = replicas[other].gradients(range.clone());
            match &mut self.ways {
                Ways::Peers => {
                    copies.wait(&ready[other])?;
                    copies.copy_between((to, &replicas[owner].context), (from, &replicas[other].context))?;
                }
                Ways::Host { shares, .. } => {
                    let pinned = &mut shares[owner][place];
                    replicas[other].copies.wait(&ready[other])?;
                    replicas[other].copies.download_pinned(from, pinned)?;
                    copies.upload_pinned(to, pinned)?;
                }
            }
        }
        Ok(())
    }

    fn sum(
        &self,
        replicas: &[Replica],
        sizes: &Sizes,
        owner: usize,
        range: &Range<usize>,
    ) -> Result<(), DriverError> {
        let (replica, len) = (&replicas[owner], range.len());
        let staged = |place| Self::staged(replicas, sizes, owner, place, len);
        let own = replica.gradients(range.clone());
        // Cards before the owner, first to last; then it; then those behind it. A sum of two is the same either way
        // round.
        for place in 1..owner {
            replica.add_copied(staged(0), staged(place))?;
        }
        if owner > 0 {
            replica.add_copied(own, staged(0))?;
        }
        for place in owner..self.cards - 1 {
            replica.add_copied(own, staged(place))?;
        }
        Ok(())
    }

    fn spread(
        &mut self,
        replicas: &[Replica],
        owner: usize,
        range: &Range<usize>,
    ) -> Result<(), DriverError> {
        let from = replicas[owner].gradients(range.clone());
        let summed = replicas[owner].copies.mark()?;
        if let Ways::Host { sums, .. } = &mut self.ways {
            replicas[owner].copies.download_pinned(from, &mut sums[owner])?;
        }
        for other in (0..self.cards).filter(|other| *other != owner) {
            let (to, copies) = (replicas[other].gradients(range.clone()), &replicas[other].copies);
            match &mut self.ways {
                Ways::Peers => {
                    copies.wait(&summed)?;
                    copies.copy_between((to, &replicas[other].context), (from, &replicas[owner].context))?;
                }
                Ways::Host { sums, .. } => copies.upload_pinned(to, &mut sums[owner])?,
            }
        }
        Ok(())
    }

    /// What the cards compute from here on waits for every exchange so far.
    pub(crate) fn finish(&self, replicas: &[Replica]) -> Result<(), DriverError> {
        for replica in replicas {
            let done = replica.copies.mark()?;
            for other in replicas {
                other.stream.wait(&done)?;
            }
        }
        Ok(())
    }
}

/// Elements of a bucket that each card owns.
fn share(len: usize, cards: usize) -> usize {
    len.div_ceil(cards).next_multiple_of(ALIGN)
}

/// All ordered pairs of different cards.
fn pairs(cards: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..cards).flat_map(move |a| (0..cards).filter(move |b| *b != a).map(move |b| (a, b)))
}
