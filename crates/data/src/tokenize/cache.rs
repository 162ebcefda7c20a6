//! What a piece became, for the next time: tables of bounded size, so that no input makes them grow.
//!
//! Text has a piece every 4.4 bytes, and nine of ten are among a few thousand words: encoding *is* this look-up. What
//! it costs is instructions first (a piece has some forty cycles where 300 MB/s are asked), branches that a processor
//! cannot foresee second, and lines that are not in its caches third. So whatever a piece became, one id or four, is
//! found and written the same way, without a branch: an entry holds up to four ids beside the piece itself, always all
//! four are copied, and the count says how far they reach. Only a piece that is not there, or became more than four
//! ids, goes another way. Nothing is fetched ahead: with no branch between them a processor looks for dozens of pieces
//! at once by itself.
//!
//! - [`Cache`]: pieces of up to 15 bytes, 32 bytes each, 8 MiB.
//! - [`Long`]: pieces of 16 to 64 bytes. They are one in a hundred in technical text and one in five thousand in prose,
//!   and each takes as long to merge as fifty others to look up.

use std::collections::HashMap;

/// Longest piece that is kept.
pub(crate) const MAX_PIECE: usize = 15;

/// A piece of up to 15 bytes and, in the top byte, its length: 0 is no piece's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    low: u64,
    high: u64,
}

impl Key {
    /// No piece's.
    const NONE: Self = Self { low: 0, high: 0 };

    /// The piece of `len` bytes that `sixteen` begins with. Of one longer than [`MAX_PIECE`] a key that is never kept.
    #[inline(always)]
    pub(crate) fn new(sixteen: [u64; 2], len: usize) -> Self {
        let len = len.min(MAX_PIECE + 1);
        let [low, high] = MASKS[len];
        Self { low: sixteen[0] & low, high: sixteen[1] & high | (len as u64) << 56 }
    }

    /// Whether it is this piece: in one comparison, since a branch between the two words cannot be foreseen.
    #[inline(always)]
    fn is(self, other: Self) -> bool {
        (self.low ^ other.low) | (self.high ^ other.high) == 0
    }

    /// Which place it falls on: the top bits of two products, on which all of its bits have an influence.
    #[inline(always)]
    fn place(self) -> usize {
        const FACTORS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03];
        let hash = self.low.wrapping_mul(FACTORS[0]) ^ self.high.wrapping_mul(FACTORS[1]).rotate_left(17);
        (hash >> (64 - PLACES.ilog2())) as usize
    }
}

/// For each length the bytes that count.
const MASKS: [[u64; 2]; MAX_PIECE + 2] = {
    let mut masks = [[0; 2]; MAX_PIECE + 2];
    let mut len = 1;
    while len <= MAX_PIECE {
        masks[len] = if len < 8 { [(1 << (8 * len)) - 1, 0] } else { [u64::MAX, (1 << (8 * (len - 8))) - 1] };
        len += 1;
    }
    masks
};

/// Places of two entries, a cache line each: 8 MiB.
const PLACES: usize = 1 << 17;
/// Of so many pieces that displace another, one also ages the place: its second entry becomes the first.
const TURNS: u32 = 8;
/// Ids of pieces that became more than four: 1 MiB.
const MAX_LISTED: usize = 1 << 18;
/// Ids that stand in an entry.
pub(crate) const INLINE: usize = 4;
/// Bits of the first id; above them is the count.
const FIRST_BITS: u32 = 26;

/// An entry: `ids[0]` has the count in its upper bits. Where that is above [`INLINE`], `ids[1]` is where they are
/// listed.
#[derive(Clone, Copy)]
#[repr(align(32))]
pub(crate) struct Entry {
    key: Key,
    ids: [u32; INLINE],
}

impl Entry {
    const EMPTY: Self = Self { key: Key::NONE, ids: [0; INLINE] };

    #[inline(always)]
    pub(crate) fn count(&self) -> usize {
        (self.ids[0] >> FIRST_BITS) as usize
    }

    /// The first four ids; those beyond the count mean nothing.
    #[inline(always)]
    pub(crate) fn inline(&self) -> [u32; INLINE] {
        let [first, second, third, fourth] = self.ids;
        [first & ((1 << FIRST_BITS) - 1), second, third, fourth]
    }
}

/// Two entries whose keys fall on one place. The first one stays longer.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Place([Entry; 2]);

/// Pieces of up to 15 bytes and their ids.
pub(crate) struct Cache {
    places: Box<[Place; PLACES]>,
    listed: Vec<u32>,
    turn: u32,
}

impl Cache {
    pub(crate) fn new() -> Self {
        let places = vec![Place([Entry::EMPTY; 2]); PLACES].into_boxed_slice();
        let places = places.try_into().unwrap_or_else(|_| unreachable!("the length is the constant's"));
        Self { places, listed: Vec::new(), turn: 0 }
    }

    /// An entry at the piece's place, and whether it is the piece's.
    #[inline(always)]
    pub(crate) fn get(&self, key: Key) -> (&Entry, bool) {
        let place = &self.places[key.place()].0;
        let entry = &place[usize::from(place[1].key.is(key))];
        (entry, entry.key.is(key))
    }

    /// Keeps what a piece became. Ids are below 2²¹ ([`super::merge::MAX_IDS`]).
    pub(crate) fn put(&mut self, key: Key, ids: &[u32]) {
        let mut entry = Entry { key, ids: [0; INLINE] };
        if ids.len() <= INLINE {
            entry.ids[..ids.len()].copy_from_slice(ids);
        } else {
            if self.listed.len() + ids.len() > MAX_LISTED {
                self.listed.clear();
                self.places.fill(Place([Entry::EMPTY; 2]));
            }
            entry.ids[0] = ids[0];
            entry.ids[1] = self.listed.len() as u32;
            self.listed.extend_from_slice(ids);
        }
        entry.ids[0] |= (ids.len() as u32) << FIRST_BITS;
        let place = &mut self.places[key.place()].0;
        if place[0].key == Key::NONE {
            place[0] = entry;
            return;
        }
        self.turn = self.turn.wrapping_add(1);
        if self.turn.is_multiple_of(TURNS) {
            place[0] = place[1];
        }
        place[1] = entry;
    }

    /// All ids of an entry with more than [`INLINE`].
    pub(crate) fn listed(&self, entry: &Entry) -> &[u32] {
        let from = entry.ids[1] as usize;
        &self.listed[from..from + entry.count()]
    }
}

/// Longest piece that [`Long`] keeps.
const MAX_LONG: usize = 64;
/// Pieces that it keeps: 1 MiB or so.
const MAX_LONG_PIECES: usize = 8192;

/// Pieces of more than [`MAX_PIECE`] bytes and their ids. All are forgotten once there are too many.
#[derive(Default)]
pub(crate) struct Long(HashMap<Box<[u8]>, Box<[u32]>>);

impl Long {
    pub(crate) fn get(&self, piece: &[u8]) -> Option<&[u32]> {
        if piece.len() > MAX_LONG { None } else { self.0.get(piece).map(Box::as_ref) }
    }

    /// Keeps what a piece became, unless it is too long.
    pub(crate) fn put(&mut self, piece: &[u8], ids: &[u32]) {
        if piece.len() > MAX_LONG {
            return;
        }
        if self.0.len() == MAX_LONG_PIECES {
            self.0.clear();
        }
        self.0.insert(piece.into(), ids.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(piece: &[u8]) -> Key {
        let mut bytes = [0xff_u8; 16];
        bytes[..piece.len()].copy_from_slice(piece);
        let half = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        Key::new([half(0), half(8)], piece.len())
    }

    #[test]
    fn a_key_is_the_piece_and_nothing_behind_it() {
        for len in 1..=MAX_PIECE {
            let mut piece = vec![b'a'; len];
            assert_ne!(key(&piece), Key::NONE);
            let whole = key(&piece);
            let [mut low, mut high] = [whole.low, whole.high];
            let found: Vec<u8> = std::iter::repeat_with(|| {
                let byte = low as u8;
                (low, high) = (low >> 8 | high << 56, high >> 8);
                byte
            })
            .take(len)
            .collect();
            assert_eq!(found, piece);
            piece[len - 1] = 0;
            assert_ne!(key(&piece), whole);
            assert_ne!(key(&piece), key(&piece[..len - 1]), "a zero at the end is part of the piece");
        }
    }

    /// Far more pieces than there is room for: what is found is always what was put there last, however often all was
    /// forgotten in between.
    #[test]
    fn what_is_found_is_what_was_put_there() {
        let mut cache = Cache::new();
        let ids = |i: u32| (0..=i % 7).map(|k| i.wrapping_mul(31 + k) & 0xf_ffff).collect::<Vec<u32>>();
        let mut found = 0;
        for i in 0..600_000_u32 {
            cache.put(key(i.to_string().as_bytes()), &ids(i));
            for i in [i, i / 2, i % 1000] {
                if let (entry, true) = cache.get(key(i.to_string().as_bytes())) {
                    found += 1;
                    let kept = entry.inline();
                    let kept =
                        if entry.count() <= INLINE { &kept[..entry.count()] } else { cache.listed(entry) };
                    assert_eq!(kept, ids(i), "{i}");
                }
            }
        }
        assert!(found > 700_000, "{found}");
    }

    #[test]
    fn long_pieces_are_kept_up_to_a_length_and_a_number() {
        let mut long = Long::default();
        for i in 0..2 * MAX_LONG_PIECES as u32 {
            let piece = format!("{i:030}");
            long.put(piece.as_bytes(), &[i, i + 1]);
            assert_eq!(long.get(piece.as_bytes()), Some([i, i + 1].as_slice()));
        }
        assert!(long.0.len() <= MAX_LONG_PIECES);
        long.put(&[b'x'; MAX_LONG + 1], &[1]);
        assert_eq!(long.get(&[b'x'; MAX_LONG + 1]), None);
    }
}
