//! The columns of finished points and of training curves, each once.
//!
//! Every table the program writes (CSV, JSON Lines, Parquet, the SQLite index, TensorBoard's scalars) and the check
//! that a record holds no number JSON cannot say take their columns from here. A new column is one line in
//! [`POINT_COLUMNS`] or [`CURVE_COLUMNS`]; it goes last, so that readers by position keep working.

use crate::ledger::{Convention, Part};
use crate::mix::{losses_cell, sources_cell};
use crate::{CurveRow, Measured, Point, Status};
use std::collections::BTreeMap;

/// What the cells of a column hold, empty ones aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A word.
    Word,
    /// A whole number.
    Whole,
    /// A real number.
    Real,
    /// Yes or no.
    Flag,
}

/// The value of a row in a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Not there: unknown, or not measured.
    Empty,
    /// A word.
    Word(String),
    /// A whole number.
    Whole(u64),
    /// A real number.
    Real(f64),
    /// Yes or no.
    Flag(bool),
}

/// A column: its name in every table, what it holds, and how a row's cell is found (`F`, a function).
#[derive(Debug, Clone, Copy)]
pub struct Column<F> {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// The cell of a row.
    pub of: F,
}

/// A column of points: a finished point and the status of its run.
pub type PointColumn = Column<fn(&Point, &Status) -> Cell>;
/// A column of training curves.
pub type CurveColumn = Column<fn(&CurveRow) -> Cell>;

const fn point(name: &'static str, kind: Kind, of: fn(&Point, &Status) -> Cell) -> PointColumn {
    Column { name, kind, of }
}

const fn flops(name: &'static str, of: fn(&Point, &Status) -> Cell) -> PointColumn {
    point(name, Kind::Real, of)
}

const fn curve(name: &'static str, kind: Kind, of: fn(&CurveRow) -> Cell) -> CurveColumn {
    Column { name, kind, of }
}

/// The columns of `points.csv`, in order.
pub const POINT_COLUMNS: &[PointColumn] = &[
    point("run", Kind::Word, |p, _| p.run.as_str().into()),
    point("params", Kind::Whole, |p, _| p.params.into()),
    point("params_total", Kind::Whole, |p, _| p.params_total.into()),
    point("tokens", Kind::Whole, |p, _| p.tokens.into()),
    point("flops", Kind::Real, |p, _| p.flops.into()),
    point("flops_6nd", Kind::Real, |p, _| p.flops_6nd.into()),
    point("loss", Kind::Real, |p, _| p.loss.into()),
    point("loss_se", Kind::Real, |p, _| p.loss_se.into()),
    point("bits_per_byte", Kind::Real, |p, _| p.bits_per_byte.into()),
    point("epochs", Kind::Real, |p, _| p.epochs.into()),
    point("unique_tokens", Kind::Whole, |p, _| p.unique_tokens.into()),
    point("steps", Kind::Whole, |p, _| p.steps.into()),
    point("batch_tokens", Kind::Whole, |p, _| p.batch_tokens.into()),
    point("lr", Kind::Real, |p, _| p.lr.into()),
    point("schedule", Kind::Word, |p, _| p.schedule.as_str().into()),
    point("init", Kind::Word, |p, _| p.init.as_str().into()),
    point("n_layer", Kind::Whole, |p, _| p.shape.map(|s| s.n_layer).into()),
    point("d_model", Kind::Whole, |p, _| p.shape.map(|s| s.d_model).into()),
    point("context", Kind::Whole, |p, _| p.context.into()),
    point("vocab", Kind::Whole, |p, _| p.vocab.into()),
    point("seed", Kind::Whole, |p, _| p.seed.into()),
    point("status", Kind::Word, |_, status| status.word().into()),
    point("seconds", Kind::Real, |p, _| (&p.seconds).into()),
    point("energy_j", Kind::Real, |p, _| (&p.energy_j).into()),
    point("n_head", Kind::Whole, |p, _| p.shape.map(|s| s.n_head).into()),
    point("kind", Kind::Word, |p, _| p.kind.word().into()),
    point("precision", Kind::Word, |p, _| p.precision.as_str().into()),
    point("kernels", Kind::Word, |p, _| p.kernels.as_str().into()),
    point("tokens_per_s", Kind::Real, |p, _| (&p.tokens_per_s).into()),
    point("sources", Kind::Word, |p, _| sources_cell(&p.sources).into()),
    point("held_out", Kind::Word, |p, _| losses_cell(&p.held_out).into()),
    point("arm", Kind::Word, |p, _| arm_cell(&p.arm).into()),
    point("junk", Kind::Real, |p, _| p.junk_share().into()),
    point("junk_kind", Kind::Word, |p, _| p.arm.get("junk").map(String::as_str).into()),
    point("flops_per_s", Kind::Real, |p, _| (&p.flops_per_s()).into()),
    point("peak_share", Kind::Real, |p, _| (&p.peak_share).into()),
    point("watts", Kind::Real, |p, _| (&p.watts()).into()),
    point("flops_per_joule", Kind::Real, |p, _| (&p.flops_per_joule()).into()),
    point("energy_from", Kind::Word, |p, _| provenance(&p.energy_j).into()),
    // Operations by part of the model under each convention; parts a convention leaves out have no column. The totals
    // of two conventions stand above: `flops` is the exact one, `flops_6nd` Kaplan's.
    flops("flops_kaplan_attention", |p, _| p.flops_of(Convention::Kaplan, Part::Attention).into()),
    flops("flops_kaplan_mlp", |p, _| p.flops_of(Convention::Kaplan, Part::Mlp).into()),
    flops("flops_chinchilla", |p, _| p.flops_by(Convention::Chinchilla).into()),
    flops("flops_chinchilla_embedding", |p, _| p.flops_of(Convention::Chinchilla, Part::Embedding).into()),
    flops("flops_chinchilla_attention", |p, _| p.flops_of(Convention::Chinchilla, Part::Attention).into()),
    flops("flops_chinchilla_scores", |p, _| p.flops_of(Convention::Chinchilla, Part::Scores).into()),
    flops("flops_chinchilla_mlp", |p, _| p.flops_of(Convention::Chinchilla, Part::Mlp).into()),
    flops("flops_chinchilla_head", |p, _| p.flops_of(Convention::Chinchilla, Part::Head).into()),
    flops("flops_palm", |p, _| p.flops_by(Convention::Palm).into()),
    flops("flops_palm_attention", |p, _| p.flops_of(Convention::Palm, Part::Attention).into()),
    flops("flops_palm_scores", |p, _| p.flops_of(Convention::Palm, Part::Scores).into()),
    flops("flops_palm_mlp", |p, _| p.flops_of(Convention::Palm, Part::Mlp).into()),
    flops("flops_palm_head", |p, _| p.flops_of(Convention::Palm, Part::Head).into()),
    flops("flops_exact_attention", |p, _| p.flops_of(Convention::Exact, Part::Attention).into()),
    flops("flops_exact_scores", |p, _| p.flops_of(Convention::Exact, Part::Scores).into()),
    flops("flops_exact_mlp", |p, _| p.flops_of(Convention::Exact, Part::Mlp).into()),
    flops("flops_exact_head", |p, _| p.flops_of(Convention::Exact, Part::Head).into()),
];

/// The columns of `curves.csv`, in order.
pub const CURVE_COLUMNS: &[CurveColumn] = &[
    curve("run", Kind::Word, |r| r.run.as_str().into()),
    curve("segment", Kind::Word, |r| r.segment.as_str().into()),
    curve("step", Kind::Whole, |r| r.step.into()),
    curve("tokens", Kind::Whole, |r| r.tokens.into()),
    curve("flops", Kind::Real, |r| r.flops.into()),
    curve("train_loss", Kind::Real, |r| r.train_loss.into()),
    curve("val_loss", Kind::Real, |r| r.val_loss.into()),
    curve("lr", Kind::Real, |r| r.lr.into()),
    curve("grad_norm", Kind::Real, |r| r.grad_norm.into()),
    curve("decayed", Kind::Flag, |r| r.decayed.into()),
    curve("tokens_per_s", Kind::Real, |r| r.tokens_per_s.into()),
    curve("noise_pairs", Kind::Whole, |r| r.noise.map(|n| n.pairs).into()),
    curve("noise_small_tokens", Kind::Whole, |r| r.noise.map(|n| n.small_tokens).into()),
    curve("noise_small_sq", Kind::Real, |r| r.noise.map(|n| n.small_sq).into()),
    curve("noise_big_tokens", Kind::Whole, |r| r.noise.map(|n| n.big_tokens).into()),
    curve("noise_big_sq", Kind::Real, |r| r.noise.map(|n| n.big_sq).into()),
    curve("data_wait", Kind::Real, |r| r.data_wait.into()),
    curve("skipped", Kind::Whole, |r| r.skipped.into()),
];

/// Where a reading comes from, in words: `measured`, or why it is an estimate or missing.
pub fn provenance(reading: &Measured<f64>) -> String {
    match reading {
        Measured::Measured { .. } => "measured".to_owned(),
        Measured::Estimated { how, .. } => format!("estimated: {how}"),
        Measured::Missing { reason } => format!("missing: {reason}"),
    }
}

/// Rows of points or of curves under their columns, ready for any format.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Name and kind of each column.
    pub columns: Vec<(&'static str, Kind)>,
    /// The rows, a cell per column.
    pub rows: Vec<Vec<Cell>>,
}

impl Frame {
    /// A row per point; each comes with the status of its run.
    pub fn of_points<'a>(points: impl IntoIterator<Item = (&'a Point, &'a Status)>) -> Self {
        let row = |(p, status): (&Point, &Status)| POINT_COLUMNS.iter().map(|c| (c.of)(p, status)).collect();
        Self { columns: headings(POINT_COLUMNS), rows: points.into_iter().map(row).collect() }
    }

    /// A row per row of a training curve.
    pub fn of_curves<'a>(rows: impl IntoIterator<Item = &'a CurveRow>) -> Self {
        let row = |r: &CurveRow| CURVE_COLUMNS.iter().map(|c| (c.of)(r)).collect();
        Self { columns: headings(CURVE_COLUMNS), rows: rows.into_iter().map(row).collect() }
    }
}

/// A run's place in its study in one cell of a table: `junk=base64;share=0.5`.
fn arm_cell(arm: &BTreeMap<String, String>) -> Option<String> {
    let parts: Vec<String> = arm.iter().map(|(axis, value)| format!("{axis}={value}")).collect();
    (!parts.is_empty()).then(|| parts.join(";"))
}

impl Frame {
    /// Some of its columns, in the order asked for.
    ///
    /// # Errors
    /// The first name that is no column.
    pub fn select<'n>(&self, names: &[&'n str]) -> Result<Self, &'n str> {
        let place = |name: &&'n str| self.columns.iter().position(|(known, _)| known == name).ok_or(*name);
        let places: Vec<usize> = names.iter().map(place).collect::<Result<_, _>>()?;
        let row = |row: &Vec<Cell>| places.iter().map(|i| row[*i].clone()).collect();
        Ok(Self {
            columns: places.iter().map(|i| self.columns[*i]).collect(),
            rows: self.rows.iter().map(row).collect(),
        })
    }
}

fn headings<F>(columns: &[Column<F>]) -> Vec<(&'static str, Kind)> {
    columns.iter().map(|c| (c.name, c.kind)).collect()
}

impl Point {
    /// Share of junk among what its run read, in a study of junk.
    pub fn junk_share(&self) -> Option<f64> {
        crate::study::junk_share(&self.arm)
    }

    /// The first column whose number is not finite, or `blocks`.
    pub fn not_finite(&self) -> Option<&'static str> {
        // The status is no number, whichever it is.
        let bad = POINT_COLUMNS.iter().find(|c| !(c.of)(self, &Status::Running).is_finite());
        let held_out = || self.held_out.iter().any(|l| !l.loss.is_finite()).then_some("held_out");
        let blocks = || self.blocks.iter().any(|b| !b.sum.is_finite()).then_some("blocks");
        bad.map(|c| c.name).or_else(held_out).or_else(blocks)
    }
}

impl CurveRow {
    /// The first column whose number is not finite.
    pub fn not_finite(&self) -> Option<&'static str> {
        CURVE_COLUMNS.iter().find(|c| !(c.of)(self).is_finite()).map(|c| c.name)
    }
}

impl Cell {
    /// What it holds; `None` if it is empty.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Empty => None,
            Self::Word(_) => Some(Kind::Word),
            Self::Whole(_) => Some(Kind::Whole),
            Self::Real(_) => Some(Kind::Real),
            Self::Flag(_) => Some(Kind::Flag),
        }
    }

    /// False for a real number that is infinite or none.
    pub fn is_finite(&self) -> bool {
        !matches!(self, Self::Real(x) if !x.is_finite())
    }
}

/// As a CSV file has it: numbers so that they are read back bit for bit, nothing for what is not there.
impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => Ok(()),
            Self::Word(text) => f.write_str(text),
            Self::Whole(n) => write!(f, "{n}"),
            Self::Real(x) => write!(f, "{x}"),
            Self::Flag(yes) => write!(f, "{yes}"),
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Word(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Word(text)
    }
}

impl From<u64> for Cell {
    fn from(n: u64) -> Self {
        Self::Whole(n)
    }
}

impl From<usize> for Cell {
    fn from(n: usize) -> Self {
        Self::Whole(n as u64)
    }
}

impl From<f64> for Cell {
    fn from(x: f64) -> Self {
        Self::Real(x)
    }
}

impl From<bool> for Cell {
    fn from(yes: bool) -> Self {
        Self::Flag(yes)
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Empty, Into::into)
    }
}

impl From<&Measured<f64>> for Cell {
    fn from(value: &Measured<f64>) -> Self {
        value.value().copied().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;
    use crate::{BlockLoss, NoisePairs, PointKind, SourceLoss, SourceSeen};

    fn point() -> Point {
        Point {
            run: "a".into(),
            kind: PointKind::Branch,
            shape: "L2-d32-h4".parse().ok(),
            params: 24_576,
            params_total: 50_000,
            tokens: 1 << 60,
            flops: 1e12 / 3.0,
            flops_6nd: 3e21,
            loss: 2.5,
            loss_se: Some(0.01),
            bits_per_byte: Some(1.0 / 3.0),
            epochs: 0.1,
            unique_tokens: 7,
            steps: 100,
            batch_tokens: 2048,
            lr: 1e-3,
            schedule: "wsd".into(),
            init: "scaled".into(),
            context: Some(256),
            vocab: Some(255),
            seed: u64::MAX,
            precision: "f32".into(),
            kernels: "portable".into(),
            seconds: Measured::measured(1.5),
            tokens_per_s: Measured::estimated(1e5, "mean of the run"),
            energy_j: Measured::measured(3.0),
            peak_share: Measured::measured(0.5),
            sources: vec![SourceSeen { name: "a".into(), tokens: 4, unique_tokens: 2, epochs: 0.5 }],
            held_out: vec![SourceLoss { name: "b".into(), loss: 1.5, loss_se: None, tokens: 9 }],
            arm: [("junk", "base64"), ("share", "0.5")].map(|(a, v)| (a.into(), v.into())).into(),
            blocks: vec![BlockLoss { block: 3, sum: 0.1, tokens: 7 }],
        }
    }

    fn row() -> CurveRow {
        let pairs = NoisePairs { pairs: 4, small_tokens: 8, small_sq: 7.0, big_tokens: 32, big_sq: 4.5 };
        CurveRow {
            run: "a".into(),
            segment: "trunk".into(),
            step: 1,
            tokens: 8,
            flops: 1.0,
            train_loss: 2.0,
            val_loss: Some(2.5),
            lr: 0.1,
            grad_norm: 1.0,
            decayed: true,
            tokens_per_s: Some(1e5),
            noise: Some(pairs),
            data_wait: Some(0.25),
            skipped: Some(3),
        }
    }

    fn line(frame: &Frame) -> String {
        frame.rows[0].iter().map(Cell::to_string).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn the_columns_of_points_keep_their_names_order_and_text() {
        let frame = Frame::of_points([(&point(), &Status::Done)]);
        let header: Vec<&str> = frame.columns.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            header.join(","),
            "run,params,params_total,tokens,flops,flops_6nd,loss,loss_se,bits_per_byte,epochs,unique_tokens,\
             steps,batch_tokens,lr,schedule,init,n_layer,d_model,context,vocab,seed,status,seconds,energy_j,n_head,\
             kind,precision,kernels,tokens_per_s,sources,held_out,arm,junk,junk_kind,flops_per_s,peak_share,watts,\
             flops_per_joule,energy_from,flops_kaplan_attention,flops_kaplan_mlp,flops_chinchilla,\
             flops_chinchilla_embedding,flops_chinchilla_attention,flops_chinchilla_scores,flops_chinchilla_mlp,\
             flops_chinchilla_head,flops_palm,flops_palm_attention,flops_palm_scores,flops_palm_mlp,flops_palm_head,\
             flops_exact_attention,flops_exact_scores,flops_exact_mlp,flops_exact_head"
        );
        // The last 17 are operations by part: see below.
        let first = |frame: &Frame| line(frame).split(',').take(39).collect::<Vec<_>>().join(",");
        assert_eq!(
            first(&frame),
            "a,24576,50000,1152921504606846976,333333333333.3333,3000000000000000000000,2.5,0.01,0.3333333333333333,\
             0.1,7,100,2048,0.001,wsd,scaled,2,32,256,255,18446744073709551615,done,1.5,3,4,branch,f32,portable,100000,\
             a:4:2:0.5,b:1.5:,junk=base64;share=0.5,0.5,base64,222222222222.2222,0.5,2,111111111111.1111,measured"
        );
        let missing = Point { loss_se: None, energy_j: Measured::missing("no meter"), ..point() };
        let line = first(&Frame::of_points([(&missing, &Status::Running)]));
        assert!(line.contains(",running,1.5,,4,branch,"), "{line}");
        assert!(line.ends_with(",222222222222.2222,0.5,,,missing: no meter"), "{line}");
    }

    #[test]
    fn operations_by_part_add_up_to_the_totals_beside_them() {
        let ledger = Ledger::new("L2-d32-h4".parse().unwrap(), 255, 256);
        let tokens = 3 << 40;
        let gpt = Point {
            tokens,
            flops: ledger.total(Convention::Exact) * tokens as f64,
            flops_6nd: 6.0 * 24_576.0 * tokens as f64,
            ..point()
        };
        let cells = |p: &Point| -> BTreeMap<&'static str, f64> {
            let real = |c: &PointColumn| match (c.of)(p, &Status::Done) {
                Cell::Real(x) if c.name.starts_with("flops") => Some((c.name, x)),
                _ => None,
            };
            POINT_COLUMNS.iter().filter_map(real).collect()
        };
        let all = cells(&gpt);
        for (total, prefix) in [
            ("flops_6nd", "flops_kaplan_"),
            ("flops_chinchilla", "flops_chinchilla_"),
            ("flops_palm", "flops_palm_"),
            ("flops", "flops_exact_"),
        ] {
            let parts: Vec<f64> =
                all.iter().filter(|(n, _)| n.starts_with(prefix)).map(|(_, x)| *x).collect();
            assert!(parts.len() >= 2 && parts.iter().all(|x| *x > 0.0), "{prefix}: {parts:?}");
            assert_eq!(parts.iter().sum::<f64>(), all[total], "{total}");
        }
        assert_eq!(all["flops_exact_head"], 6.0 * 255.0 * 32.0 * tokens as f64);
        let other = cells(&Point { shape: None, ..gpt });
        assert!(other.keys().all(|name| !name.contains("exact")), "no parts are known: {other:?}");
    }

    #[test]
    fn the_columns_of_curves_keep_their_names_order_and_text() {
        let frame = Frame::of_curves([&row()]);
        let header: Vec<&str> = frame.columns.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            header.join(","),
            "run,segment,step,tokens,flops,train_loss,val_loss,lr,grad_norm,decayed,tokens_per_s,noise_pairs,\
             noise_small_tokens,noise_small_sq,noise_big_tokens,noise_big_sq,data_wait,skipped"
        );
        assert_eq!(line(&frame), "a,trunk,1,8,1,2,2.5,0.1,1,true,100000,4,8,7,32,4.5,0.25,3");
        let bare = CurveRow { val_loss: None, noise: None, data_wait: None, skipped: None, ..row() };
        assert_eq!(line(&Frame::of_curves([&bare])), "a,trunk,1,8,1,2,,0.1,1,true,100000,,,,,,,");
    }

    #[test]
    fn a_full_row_has_in_each_column_what_it_says() {
        let (points, curves) = (Frame::of_points([(&point(), &Status::Done)]), Frame::of_curves([&row()]));
        for frame in [points, curves] {
            for ((name, kind), cell) in frame.columns.iter().zip(&frame.rows[0]) {
                assert_eq!(cell.kind(), Some(*kind), "{name}");
            }
        }
    }

    #[test]
    fn a_number_that_is_none_is_found_wherever_it_stands() {
        assert_eq!((point().not_finite(), row().not_finite()), (None, None));
        let points = [
            ("loss", Point { loss: f64::NAN, ..point() }),
            ("loss_se", Point { loss_se: Some(f64::INFINITY), ..point() }),
            ("energy_j", Point { energy_j: Measured::measured(f64::NAN), ..point() }),
            (
                "held_out",
                Point {
                    held_out: vec![SourceLoss { name: "b".into(), loss: f64::NAN, loss_se: None, tokens: 9 }],
                    ..point()
                },
            ),
            ("blocks", Point { blocks: vec![BlockLoss { block: 0, sum: f64::NAN, tokens: 1 }], ..point() }),
        ];
        for (name, bad) in points {
            assert_eq!(bad.not_finite(), Some(name));
        }
        let noise = row().noise.map(|n| NoisePairs { big_sq: f64::INFINITY, ..n });
        assert_eq!(CurveRow { noise, ..row() }.not_finite(), Some("noise_big_sq"));
        assert_eq!(CurveRow { grad_norm: f64::NAN, ..row() }.not_finite(), Some("grad_norm"));
    }
}
