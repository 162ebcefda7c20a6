//! Merging the bytes of one piece: of all neighbours that can be merged, the pair of lowest rank first, the leftmost
//! among equals, until none can.
//!
//! Short pieces look for the lowest rank by scanning, which for ten bytes is a few loads; long ones keep a heap, so
//! that a million equal signs take n log n and not n². `naive::merge` is the same in plain loops.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The rank of a pair that is not merged.
pub(crate) const NONE: u32 = u32::MAX;
/// Bits of an id in a slot of [`Merges`].
const ID_BITS: u32 = 21;
/// Ids are below this, and so are ranks.
pub(crate) const MAX_IDS: usize = 1 << ID_BITS;
/// The low bits of a slot.
const LOW: u64 = (1 << ID_BITS) - 1;
/// A slot without a pair. A full one has its top bit clear.
const EMPTY: u64 = u64::MAX;

/// Which pairs are merged, at which rank, into what.
pub(crate) struct Merges {
    /// Left id, right id and rank, 21 bits each: open addressing, at most half full.
    slots: Vec<u64>,
    /// A bit for each hash of a pair. Half of all questions are about pairs that do not exist, and this fits L2.
    known: Vec<u64>,
    /// What rank `i` makes.
    made: Vec<u32>,
}

impl Merges {
    /// From (left, right, what they become) in the order of ranks; of a pair given twice the first counts.
    ///
    /// Ids and the number of merges must be below [`MAX_IDS`].
    pub(crate) fn new(merges: &[[u32; 3]]) -> Self {
        let slots = (2 * merges.len()).max(64).next_power_of_two();
        let mut table = Self { slots: vec![EMPTY; slots], known: vec![0; slots / 16], made: Vec::new() };
        for &[left, right, made] in merges {
            let pair = pair(left, right);
            let at = table.find(pair);
            if table.slots[at] == EMPTY {
                table.slots[at] = pair | table.made.len() as u64;
                let bit = table.bit(hash(pair));
                table.known[bit / 64] |= 1 << (bit % 64);
            }
            table.made.push(made);
        }
        table
    }

    /// Rank of a pair, [`NONE`] if it is not merged.
    #[inline]
    pub(crate) fn rank(&self, left: u32, right: u32) -> u32 {
        let pair = pair(left, right);
        let bit = self.bit(hash(pair));
        if self.known[bit / 64] >> (bit % 64) & 1 == 0 {
            return NONE;
        }
        match self.slots[self.find(pair)] {
            EMPTY => NONE,
            slot => (slot & LOW) as u32,
        }
    }

    /// What a rank makes.
    pub(crate) fn made(&self, rank: u32) -> u32 {
        self.made[rank as usize]
    }

    fn bit(&self, hash: u64) -> usize {
        (hash >> 20) as usize & (64 * self.known.len() - 1)
    }

    /// Slot of a pair, or the empty one where it would be.
    fn find(&self, pair: u64) -> usize {
        let last = self.slots.len() - 1;
        let mut at = (hash(pair) >> 24) as usize & last;
        while self.slots[at] != EMPTY && self.slots[at] & !LOW != pair {
            at = (at + 1) & last;
        }
        at
    }
}

fn pair(left: u32, right: u32) -> u64 {
    u64::from(left) << (2 * ID_BITS) | u64::from(right) << ID_BITS
}

fn hash(pair: u64) -> u64 {
    let product = (pair >> ID_BITS).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ product >> 32
}

/// Bytes from which on a piece is merged with a heap.
const LONG: usize = 64;

/// Merges the ids of a piece's bytes in place.
pub(crate) fn merge(merges: &Merges, ids: &mut Vec<u32>) {
    match ids.len() {
        0..2 => {}
        2..LONG => by_scanning(merges, ids),
        _ => by_heap(merges, ids),
    }
}

fn by_scanning(merges: &Merges, ids: &mut Vec<u32>) {
    // ranks[i] is that of ids[i] and ids[i + 1].
    let mut ranks = [NONE; LONG];
    let mut len = ids.len();
    for (rank, pair) in ranks.iter_mut().zip(ids.windows(2)) {
        *rank = merges.rank(pair[0], pair[1]);
    }
    while len > 1 {
        let (mut at, mut lowest) = (0, NONE);
        for (i, &rank) in ranks[..len - 1].iter().enumerate() {
            if rank < lowest {
                (at, lowest) = (i, rank);
            }
        }
        if lowest == NONE {
            break;
        }
        ids[at] = merges.made(lowest);
        len -= 1;
        for i in at + 1..len {
            ids[i] = ids[i + 1];
            ranks[i - 1] = ranks[i];
        }
        if at > 0 {
            ranks[at - 1] = merges.rank(ids[at - 1], ids[at]);
        }
        if at + 1 < len {
            ranks[at] = merges.rank(ids[at], ids[at + 1]);
        }
    }
    ids.truncate(len);
}

/// One token of a long piece: a list by positions, since merging takes from the middle.
#[derive(Clone, Copy)]
struct Node {
    id: u32,
    previous: u32,
    next: u32,
    /// Rank of this token and the next one, or [`NONE`].
    rank: u32,
}

fn by_heap(merges: &Merges, ids: &mut Vec<u32>) {
    let len = u32::try_from(ids.len()).expect("a piece is shorter than 4 GiB");
    let rank_at = |i: usize| ids.get(i + 1).map_or(NONE, |&right| merges.rank(ids[i], right));
    let mut nodes: Vec<Node> = (0..len)
        .zip(ids.iter())
        .map(|(i, &id)| Node { id, previous: i.wrapping_sub(1), next: i + 1, rank: rank_at(i as usize) })
        .collect();
    let merged = (0..).zip(&nodes).filter(|(_, node)| node.rank != NONE);
    let mut queue: BinaryHeap<_> = merged.map(|(i, node)| Reverse(entry(node.rank, i))).collect();
    while let Some(Reverse(lowest)) = queue.pop() {
        let (rank, at) = ((lowest >> 32) as u32, lowest as u32);
        // An entry is out of date when one of its two tokens was merged since.
        let Node { previous, next: gone, rank: now, .. } = nodes[at as usize];
        if now != rank {
            continue;
        }
        let next = nodes[gone as usize].next;
        nodes[gone as usize].rank = NONE;
        nodes[at as usize] = Node { id: merges.made(rank), previous, next, rank: NONE };
        if let Some(right) = nodes.get_mut(next as usize) {
            right.previous = at;
        }
        for left in [at, previous] {
            if left == NONE {
                continue;
            }
            let Node { id, next, .. } = nodes[left as usize];
            let rank = nodes.get(next as usize).map_or(NONE, |right| merges.rank(id, right.id));
            nodes[left as usize].rank = rank;
            if rank != NONE {
                queue.push(Reverse(entry(rank, left)));
            }
        }
    }
    ids.clear();
    let mut at = 0;
    while let Some(node) = nodes.get(at as usize) {
        ids.push(node.id);
        at = node.next;
    }
}

/// Orders by rank, then by position.
fn entry(rank: u32, at: u32) -> u64 {
    u64::from(rank) << 32 | u64::from(at)
}
