//! What a tag before each row of junk does: runs with it beside those without, of the same kind, share, size and seed.
//! Both were scored on the same held-out blocks, so that the difference of their losses is one of pairs, block by
//! block.

use super::page::spoken;
use super::{is_kind, lengths, shares};
use crate::kinds::data::compare::{Unit, at, curve, is_clean, units, values};
use crate::kinds::words::{LEVEL, interval, list, maybe};
use crate::kinds::{Finished, Found};
use isoflop_base::study::RunSpec;
use isoflop_base::units::si;
use isoflop_laws::arms::{Estimate, mean};
use isoflop_laws::table::paired::paired_difference;
use isoflop_laws::table::same_level;
use isoflop_report::Grid;

/// Standard errors of an interval of 95 % by blocks.
const BLOCKS: f64 = 1.96;

/// What a tag did for one kind of junk at one share.
pub(super) struct Tag {
    kind: String,
    share: f64,
    /// Tokens of all runs.
    tokens: f64,
    /// Loss with the tag less that without, nats a token.
    change: Estimate,
    /// Loss untagged less that of clean text, at equal clean tokens.
    harm: Option<Estimate>,
}

impl Tag {
    fn verdict(&self) -> &'static str {
        match (self.change.is_below(0.0), self.change.is_above(0.0)) {
            (true, _) => "the tag helps",
            (_, true) => "the tag harms",
            _ => "no rescue seen",
        }
    }
}

/// Every kind and share that was also run with a tag, at the largest length.
pub(super) fn tags(found: &Found<'_>) -> Vec<Tag> {
    let Some(tokens) = lengths(found).last().copied() else { return Vec::new() };
    let mut out = Vec::new();
    for kind in values(found, "junk") {
        for share in shares(found) {
            let (mut change, mut harm, mut by_blocks) = (Vec::new(), Vec::new(), None);
            for unit in units(found) {
                let of = |keep: &dyn Fn(&RunSpec) -> bool| at(&curve(found, unit, keep), tokens);
                let without = of(&|run| is_kind(run, &kind, share));
                let clean = at(&curve(found, unit, is_clean), tokens * (1.0 - share));
                change.extend(
                    of(&|run| is_tagged(run, &kind, share))
                        .zip(without)
                        .map(|(with, without)| with - without),
                );
                harm.extend(without.zip(clean).map(|(without, clean)| without - clean));
                by_blocks = by_blocks.or(blocks(found, unit, &kind, share, tokens));
            }
            let Some(mut change) = mean(&change, LEVEL) else { continue };
            if change.units == 1 {
                change.ends = by_blocks.map(|half| (change.value - half, change.value + half));
            }
            out.push(Tag { kind: kind.clone(), share, tokens, change, harm: mean(&harm, LEVEL) });
        }
    }
    out
}

fn is_tagged(run: &RunSpec, kind: &str, share: f64) -> bool {
    run.arm.contains_key("tag")
        && run.arm.get("junk").is_some_and(|k| k == kind)
        && run.junk_share().is_some_and(|q| (q - share).abs() < 1e-9)
}

/// Half of the interval of the difference between two runs, by their held-out blocks: all there is of one unit.
fn blocks(found: &Found<'_>, unit: Unit, kind: &str, share: f64, tokens: f64) -> Option<f64> {
    let of = |keep: &dyn Fn(&RunSpec) -> bool| {
        let here = |f: &&Finished<'_>| {
            Unit::of(f.run) == unit && keep(f.run) && same_level(f.point.tokens as f64, tokens)
        };
        found.points.iter().find(here).map(|f| &f.point.blocks)
    };
    let (with, without) = (of(&|run| is_tagged(run, kind, share))?, of(&|run| is_kind(run, kind, share))?);
    paired_difference(with, without).ok()?.1.map(|se| BLOCKS * se)
}

/// The answer, in a sentence; nothing where no tag was tried.
pub(super) fn in_words(tags: &[Tag]) -> Option<String> {
    let one = |tag: &Tag| {
        let harm = tag
            .harm
            .map_or_else(String::new, |h| format!(", beside {} that it costs untagged", interval(&h, 3)));
        format!(
            "{} nats with {} (q = {}){harm}: {}",
            interval(&tag.change, 3),
            spoken(&tag.kind),
            tag.share,
            tag.verdict()
        )
    };
    (!tags.is_empty()).then(|| {
        format!(
            "A tag before each row of junk changes the loss by {}. (Runs paired by size, seed and held-out block at equal share; \
             what it costs is against clean text at equal clean tokens.)",
            list(&tags.iter().map(one).collect::<Vec<_>>())
        )
    })
}

pub(super) fn table(tags: &[Tag]) -> Option<Grid> {
    let tokens = tags.first()?.tokens;
    let row = |tag: &Tag| {
        vec![
            spoken(&tag.kind).to_owned(),
            tag.share.to_string(),
            interval(&tag.change, 4),
            maybe(tag.harm.as_ref(), 4),
            tag.verdict().to_owned(),
        ]
    };
    Some(Grid {
        caption: format!(
            "Does a tag before each row of junk help? Nats per token at {} tokens in all",
            si(tokens)
        ),
        columns: [
            "junk",
            "q",
            "tagged minus untagged",
            "untagged minus clean, equal clean tokens",
            "verdict",
        ]
        .map(str::to_owned)
        .to_vec(),
        rows: tags.iter().map(row).collect(),
    })
}
