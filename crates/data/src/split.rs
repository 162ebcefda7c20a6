//! Which bytes of a text are held out.
//!
//! A corpus is often several books one after another, so its tail is no sample of it. The text is cut into blocks of
//! [`BLOCK_BYTES`]; in each group of [`GROUP`] consecutive blocks a seeded hash of the group's index chooses the one
//! that is held out. That is 1/16 of the text, spread evenly over it, and a pure function of its length: the same
//! text always gives the same split, on any machine, and no two studies disagree about what was held out.
//!
//! Each side is its blocks joined in order. A training window may straddle the seam where a block was taken out, as it
//! may straddle the end of one book and the start of the next.

use crate::DataError;
use crate::sampler::mix;

/// Bytes of a block: long enough that almost all context lies inside, short enough for some hundred blocks in the
/// built-in corpus.
pub const BLOCK_BYTES: usize = 32 * 1024;

/// One block of this many is held out.
pub const GROUP: u64 = 16;

/// Part of the definition of the split: changing it changes every loss ever reported on it.
const SPLIT_SEED: u64 = 0x1505_0f10_0b10_c0de;

/// Whether block `index` of a text of `blocks` whole blocks is held out. The last group is often partial and may hold
/// none out; a text of less than one group holds out one of the blocks it has.
pub fn held_out(index: u64, blocks: u64) -> bool {
    let (group, place) = (index / GROUP, index % GROUP);
    let choices = if blocks < GROUP { blocks } else { GROUP };
    place == mix(SPLIT_SEED ^ mix(group.wrapping_add(1))) % choices
}

/// The training and the held-out bytes of a text. What is left after the last whole block is trained on.
///
/// # Errors
/// [`DataError::TooSmallToSplit`] for less than two blocks.
pub fn split(source_name: &str, text: &[u8]) -> Result<(Vec<u8>, Vec<u8>), DataError> {
    let blocks = (text.len() / BLOCK_BYTES) as u64;
    if blocks < 2 {
        return Err(DataError::TooSmallToSplit {
            source_name: source_name.to_owned(),
            bytes: text.len() as u64,
            needed: 2 * BLOCK_BYTES as u64,
        });
    }
    let (mut train, mut val) = (Vec::with_capacity(text.len()), Vec::new());
    for (block, index) in text.chunks(BLOCK_BYTES).zip(0..) {
        let side = if index < blocks && held_out(index, blocks) { &mut val } else { &mut train };
        side.extend_from_slice(block);
    }
    Ok((train, val))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_holds_out_one_block() {
        for blocks in [16, 17, 31, 32, 477, 10_000] {
            let held: Vec<u64> = (0..blocks).filter(|&i| held_out(i, blocks)).collect();
            let groups = blocks / GROUP;
            assert!((groups..=groups + 1).contains(&(held.len() as u64)), "{blocks}: {}", held.len());
            assert!(held.windows(2).all(|w| w[0] / GROUP < w[1] / GROUP));
        }
        for blocks in 2..GROUP {
            assert_eq!((0..blocks).filter(|&i| held_out(i, blocks)).count(), 1, "{blocks}");
        }
    }

    #[test]
    fn places_are_spread_within_groups() {
        let mut count = [0; GROUP as usize];
        for i in (0..16_000).filter(|&i| held_out(i, 16_000)) {
            count[(i % GROUP) as usize] += 1;
        }
        assert!(count.iter().all(|&c| (35..95).contains(&c)), "{count:?}");
    }

    #[test]
    fn both_sides_together_are_the_text() {
        let text: Vec<u8> = (0..40 * BLOCK_BYTES + 77).map(|i| (i / BLOCK_BYTES) as u8).collect();
        let (train, val) = split("t", &text).unwrap();
        assert_eq!(train.len() + val.len(), text.len());
        let mut joined = [train.clone(), val.clone()].concat();
        joined.sort_unstable();
        assert_eq!(joined, text);
        assert!(val.iter().all(|b| !train.contains(b)), "a block lies on one side only");
    }

    #[test]
    fn only_whole_blocks_are_held_out() {
        for extra in [1, 1000, BLOCK_BYTES - 1] {
            for blocks in [2, 3, 15, 16, 31] {
                let (_, val) = split("t", &vec![b'a'; blocks * BLOCK_BYTES + extra]).unwrap();
                assert!(!val.is_empty() && val.len() % BLOCK_BYTES == 0);
            }
        }
    }

    #[test]
    fn less_than_two_blocks_is_an_error() {
        assert!(matches!(split("t", &vec![b'a'; BLOCK_BYTES]), Err(DataError::TooSmallToSplit { .. })));
        assert!(split("t", &vec![b'a'; 2 * BLOCK_BYTES]).is_ok());
    }
}
