//! What a piece became, for the next time: three tables of fixed size, so that no input makes them grow.
//!
//! Text has a piece every 4.4 bytes, and nine of ten are among a few thousand words: encoding *is* this look-up, and
//! what it costs is how many cache lines are touched, and how long each is waited for. So there are three tables, each
//! asked for what the one before does not have.
//!
//! - [`Front`]: the thousand most frequent pieces, three of four in English, in 20 KiB: L1.
//! - [`Singles`]: pieces of up to 15 bytes that became one id, 92 % of English, in 16 bytes each. Fifteen bytes and the
//!   length are a number below 2¹²⁴; times an odd number modulo 2¹²⁴ it can be had back, so that its top bits say where
//!   it stands and only the other 110 must stand there, beside 17 bits of id. 512 KiB: L2.
//! - [`Cache`]: pieces of up to 15 bytes with any number of ids, 32 bytes each. Up to four ids stand in the entry; more
//!   are listed beside the table, and when the list is full all is forgotten. 4 MiB.

/// Longest piece that is kept.
pub(crate) const MAX_PIECE: usize = 15;

/// Bits of a scattered piece, of its place, and of the id beside the rest of it.
const BITS: u32 = 124;
const PLACE_BITS: u32 = 13;
/// Entries of a place: a cache line.
const WAYS: usize = 4;
const ID_BITS: u32 = 128 + PLACE_BITS - BITS;
/// The upper word without the place.
const TAG: u64 = (1 << (BITS - PLACE_BITS - 64)) - 1;

/// A piece of up to 15 bytes, scattered over 124 bits; no two pieces are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    low: u64,
    high: u64,
}

impl Key {
    /// The piece of `len` bytes, at most [`MAX_PIECE`], that `sixteen` begins with.
    #[inline(always)]
    pub(crate) fn new(sixteen: [u64; 2], len: usize) -> Self {
        // An odd number of 124 bits without a pattern.
        const FACTOR: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0x0d1b_54a3_2d19_2ed0];
        let [low, high] = MASKS[len & 15];
        // Inverted, so that an empty entry is no piece: bytes 0xff, which UTF-8 does not have, would be 0.
        let (low, high) = (!(sixteen[0] & low), !(sixteen[1] & high | (len as u64) << 56));
        let product = u128::from(low) * u128::from(FACTOR[0]);
        let cross = low.wrapping_mul(FACTOR[1]).wrapping_add(high.wrapping_mul(FACTOR[0]));
        let high = ((product >> 64) as u64).wrapping_add(cross);
        Self { low: product as u64, high: high & ((1 << (BITS - 64)) - 1) }
    }
}

/// For each length the bytes that count.
const MASKS: [[u64; 2]; 16] = {
    let mut masks = [[0; 2]; 16];
    let mut len = 1;
    while len < 16 {
        masks[len] = if len < 8 { [(1 << (8 * len)) - 1, 0] } else { [u64::MAX, (1 << (8 * (len - 8))) - 1] };
        len += 1;
    }
    masks
};

/// A piece of one id: the scattered piece without its place, and the id in the low bits of the second word.
#[derive(Clone, Copy)]
#[repr(align(16))]
struct Single {
    low: u64,
    high: u64,
}

impl Single {
    #[inline(always)]
    fn holds(&self, key: Key) -> bool {
        (self.low ^ key.low) | (self.high >> ID_BITS ^ key.high & TAG) == 0
    }

    #[inline(always)]
    fn id(&self) -> u32 {
        (self.high & ((1 << ID_BITS) - 1)) as u32
    }
}

/// Pieces of one id, four to a place.
pub(crate) struct Singles(Box<[[Single; WAYS]; 1 << PLACE_BITS]>);

impl Singles {
    pub(crate) fn new() -> Self {
        let places = vec![[Single { low: 0, high: 0 }; WAYS]; 1 << PLACE_BITS].into_boxed_slice();
        Self(places.try_into().unwrap_or_else(|_| unreachable!("the length is the constant's")))
    }

    #[inline(always)]
    fn place(key: Key) -> usize {
        (key.high >> (BITS - PLACE_BITS - 64)) as usize
    }

    /// Brings a piece's place nearer: what is loaded here is there when [`Self::get`] asks. The result is of no
    /// meaning.
    #[inline(always)]
    pub(crate) fn touch(&self, key: Key) -> u64 {
        self.0[Self::place(key)][0].low
    }

    /// The id of a piece, if it is there. One met again moves towards the front of its place.
    #[inline(always)]
    pub(crate) fn get(&mut self, key: Key) -> Option<u32> {
        let place = &mut self.0[Self::place(key)];
        if place[0].holds(key) {
            return Some(place[0].id());
        }
        for i in 1..WAYS {
            if place[i].holds(key) {
                place.swap(i - 1, i);
                return Some(place[i - 1].id());
            }
        }
        None
    }

    /// Keeps a piece's id in the place's last entry: a piece met once does not displace one met often. False if the id
    /// is too large to be kept here.
    pub(crate) fn put(&mut self, key: Key, id: u32) -> bool {
        let fits = id >> ID_BITS == 0;
        if fits {
            let high = (key.high & TAG) << ID_BITS | u64::from(id);
            self.0[Self::place(key)][WAYS - 1] = Single { low: key.low, high };
        }
        fits
    }
}

/// Entries of [`Front`]: with the ids 20 KiB, so that it and what a batch writes to stay in L1.
const FRONT: usize = 1 << 10;
/// One of so many pieces that are not in front is put there: a piece met often soon is, one met once hardly.
const TURNS: u32 = 8;

/// The most frequent pieces of one id, one to a place: what most of a text is made of is asked without a branch.
pub(crate) struct Front {
    keys: Box<[Key; FRONT]>,
    ids: Box<[u32; FRONT]>,
    turn: u32,
}

impl Front {
    pub(crate) fn new() -> Self {
        Self { keys: Box::new([Key { low: 0, high: 0 }; FRONT]), ids: Box::new([0; FRONT]), turn: 0 }
    }

    #[inline(always)]
    fn place(key: Key) -> usize {
        (key.high >> (BITS - 64 - FRONT.ilog2())) as usize % FRONT
    }

    /// The id at a piece's place, and whether it is the piece's.
    #[inline(always)]
    pub(crate) fn get(&self, key: Key) -> (u32, bool) {
        let place = Self::place(key);
        let found = self.keys[place];
        (self.ids[place], (found.low ^ key.low) | (found.high ^ key.high) == 0)
    }

    /// Keeps a piece's id, if it is its turn.
    #[inline(always)]
    pub(crate) fn offer(&mut self, key: Key, id: u32) {
        self.turn = self.turn.wrapping_add(1);
        if self.turn.is_multiple_of(TURNS) {
            let place = Self::place(key);
            (self.keys[place], self.ids[place]) = (key, id);
        }
    }
}

/// Places of four entries.
const PLACES: usize = 1 << 15;
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
    const EMPTY: Self = Self { key: Key { low: 0, high: 0 }, ids: [0; INLINE] };

    pub(crate) fn count(&self) -> usize {
        (self.ids[0] >> FIRST_BITS) as usize
    }

    /// The first four ids; those beyond the count mean nothing.
    pub(crate) fn inline(&self) -> [u32; INLINE] {
        let [first, second, third, fourth] = self.ids;
        [first & ((1 << FIRST_BITS) - 1), second, third, fourth]
    }
}

/// Four entries whose keys fall on one place, the newest first.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Place([Entry; 4]);

/// Pieces of any number of ids.
pub(crate) struct Cache {
    places: Box<[Place; PLACES]>,
    listed: Vec<u32>,
}

impl Cache {
    pub(crate) fn new() -> Self {
        let places = vec![Place([Entry::EMPTY; 4]); PLACES].into_boxed_slice();
        let places = places.try_into().unwrap_or_else(|_| unreachable!("the length is the constant's"));
        Self { places, listed: Vec::new() }
    }

    fn place(key: Key) -> usize {
        (key.high >> (BITS - 64 - PLACES.ilog2())) as usize
    }

    /// As [`Singles::touch`].
    #[inline(always)]
    pub(crate) fn touch(&self, key: Key) -> u64 {
        // A place is two cache lines.
        let entries = &self.places[Self::place(key)].0;
        entries[0].key.low ^ entries[2].key.low
    }

    /// The entry of a piece, if it is there.
    pub(crate) fn get(&self, key: Key) -> Option<Entry> {
        self.places[Self::place(key)].0.iter().find(|entry| entry.key == key).copied()
    }

    /// Keeps what a piece became, instead of the oldest of the four that were there. Ids are below 2²¹
    /// ([`super::merge::MAX_IDS`]).
    pub(crate) fn put(&mut self, key: Key, ids: &[u32]) {
        let mut entry = Entry { key, ids: [0; INLINE] };
        if ids.len() <= INLINE {
            entry.ids[..ids.len()].copy_from_slice(ids);
        } else {
            if self.listed.len() + ids.len() > MAX_LISTED {
                self.listed.clear();
                self.places.fill(Place([Entry::EMPTY; 4]));
            }
            entry.ids[0] = ids[0];
            entry.ids[1] = self.listed.len() as u32;
            self.listed.extend_from_slice(ids);
        }
        entry.ids[0] |= (ids.len() as u32) << FIRST_BITS;
        let place = &mut self.places[Self::place(key)].0;
        place.rotate_right(1);
        place[0] = entry;
    }

    /// All ids of an entry with more than [`INLINE`].
    pub(crate) fn listed(&self, entry: Entry) -> &[u32] {
        let from = entry.ids[1] as usize;
        &self.listed[from..from + entry.count()]
    }
}
