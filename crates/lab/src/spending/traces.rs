//! The machine over the hours of a study, as pictures: what was not sampled is a gap, and takes little room.

use isoflop_meter::{GpuSample, Sample};
use isoflop_report::{Chart, ChartAxis, ChartPoint, ChartSeries};

/// Points of a trace on the page; more are folded, keeping the lowest and the highest of each stretch.
const TRACE_POINTS: usize = 400;
/// A longer time between two samples of a process is a pause: no line leads across it.
const PAUSE_S: f64 = 120.0;
/// A longer time in which no process sampled takes no room on the axis.
const LONGEST_SHOWN_S: f64 = 120.0;

/// A reading of a sample, if it has one.
type Reading = fn(&Sample) -> Option<f64>;

/// Temperature and power, of the cards too where they did the work.
pub(super) fn charts(samples: &[Sample], on_cards: bool) -> Vec<Chart> {
    let own: [(&str, &str, Reading); 2] = [
        ("Temperature of the processor.", "°C", |s| s.celsius),
        ("Power of the processors.", "watts", |s| s.watts),
    ];
    let cards: [(&str, &str, Reading); 3] = [
        ("Temperature of the hottest card.", "°C", |s| over(s, |card| card.celsius, f64::max)),
        ("Power of the cards.", "watts", |s| over(s, |card| card.watts, |a, b| a + b)),
        ("Clock of the slowest card.", "MHz", |s| over(s, |card| card.clock_mhz, f64::min)),
    ];
    let cards = cards.into_iter().filter(|_| on_cards);
    own.into_iter().chain(cards).filter_map(|(title, unit, of)| trace(samples, title, unit, of)).collect()
}

fn over(sample: &Sample, of: fn(&GpuSample) -> Option<f64>, join: fn(f64, f64) -> f64) -> Option<f64> {
    sample.gpus.iter().filter_map(of).reduce(join)
}

/// A reading against the time of work, of samples by rising time; `None` if there are too few.
fn trace(samples: &[Sample], title: &str, unit: &str, of: Reading) -> Option<Chart> {
    let pieces = pieces(samples, of);
    let count = pieces.iter().map(Vec::len).sum::<usize>();
    if count < 2 {
        return None;
    }
    let hours = pieces.iter().flatten().map(|corner| corner.0).fold(0.0, f64::max);
    let (unit_x, scale) = match hours {
        h if h < 0.05 => ("seconds", 3600.0),
        h if h < 2.0 => ("minutes", 60.0),
        _ => ("hours", 1.0),
    };
    let (mut line, mut points, mut gaps) = (Vec::<(f64, f64)>::new(), Vec::new(), 0);
    let stretch = count.div_ceil(TRACE_POINTS / 2);
    for mut piece in pieces {
        piece.iter_mut().for_each(|corner| corner.0 *= scale);
        if let [(x, y)] = piece[..] {
            points.push(ChartPoint { x, y, interval: None });
            continue;
        }
        if let Some((x, _)) = line.last() {
            line.push((*x, f64::NAN));
            gaps += 1;
        }
        line.extend(if count <= TRACE_POINTS { piece } else { thinned(&piece, stretch) });
    }
    let gaps = match gaps + points.len() {
        0 => "",
        _ => " Where the line breaks nobody sampled: a run was interrupted, or the machine was left alone.",
    };
    Some(Chart {
        title: title.to_owned(),
        caption: format!(
            "Against {unit_x} of work; of many samples the lowest and the highest of each stretch.{gaps}"
        ),
        x: ChartAxis { label: unit_x.to_owned(), log: false },
        y: ChartAxis { label: unit.to_owned(), log: false },
        series: vec![ChartSeries { name: String::new(), points, line }],
    })
}

/// What may be joined by a line: samples of one process, without a pause. Times as hours of work.
fn pieces(samples: &[Sample], of: Reading) -> Vec<Vec<(f64, f64)>> {
    /// The piece a process is at, and when its last sample of it was.
    struct Open {
        since_s: f64,
        last_s: f64,
        piece: usize,
    }
    let (mut pieces, mut open): (Vec<Vec<(f64, f64)>>, Vec<Open>) = (Vec::new(), Vec::new());
    let (mut hours, mut before) = (0.0, None::<f64>);
    for sample in samples {
        if let Some(last) = before {
            hours += (sample.unix_s - last).clamp(0.0, LONGEST_SHOWN_S) / 3600.0;
        }
        before = Some(sample.unix_s);
        let Some(value) = of(sample) else { continue };
        let process = open.iter().position(|open| open.since_s == sample.since_s);
        let goes_on = process.filter(|i| sample.unix_s - open[*i].last_s <= PAUSE_S);
        match goes_on {
            Some(i) => {
                open[i].last_s = sample.unix_s;
                pieces[open[i].piece].push((hours, value));
            }
            None => {
                let new = Open { since_s: sample.since_s, last_s: sample.unix_s, piece: pieces.len() };
                pieces.push(vec![(hours, value)]);
                match process {
                    Some(i) => open[i] = new,
                    None => open.push(new),
                }
            }
        }
    }
    pieces
}

/// Of each stretch of so many values the lowest and the highest, in their order.
fn thinned(line: &[(f64, f64)], stretch: usize) -> Vec<(f64, f64)> {
    let ends = line.chunks(stretch).flat_map(|part| {
        let by = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let (lowest, highest) = (part.iter().min_by(by), part.iter().max_by(by));
        let mut ends: Vec<(f64, f64)> = lowest.into_iter().chain(highest).copied().collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        ends.dedup();
        ends
    });
    ends.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(unix_s: f64, celsius: Option<f64>) -> Sample {
        Sample { unix_s, celsius, ..Sample::default() }
    }

    fn celsius(samples: &[Sample]) -> Option<ChartSeries> {
        trace(samples, "t", "°C", |s| s.celsius).map(|chart| chart.series[0].clone())
    }

    #[test]
    fn a_trace_keeps_its_peaks_and_a_pause_takes_no_room() {
        let mut samples: Vec<Sample> = (0..5000).map(|i| sample(2.0 * i as f64, Some(60.0))).collect();
        samples[2500].celsius = Some(95.0);
        samples.iter_mut().skip(3000).for_each(|s| s.unix_s += 86_400.0);
        let ChartSeries { line, .. } = celsius(&samples).unwrap();
        assert!(line.len() <= TRACE_POINTS + 4, "{}", line.len());
        assert!(line.iter().any(|(_, y)| *y == 95.0), "the peak is thinned away");
        assert!(line.last().unwrap().0 < 3.0, "a day's pause is drawn: {:?}", line.last());
        let of = |count: usize| trace(&samples[..count], "t", "°C", |s| s.celsius).unwrap().x.label;
        assert_eq!((of(20), of(1000), of(5000)), ("seconds".into(), "minutes".into(), "hours".into()));
        assert_eq!(gaps(&line).len(), 1, "nothing joins the two sides of the pause");
        assert!(celsius(&[sample(0.0, None)]).is_none());
    }

    /// Where the pen is lifted.
    fn gaps(line: &[(f64, f64)]) -> Vec<usize> {
        line.iter().enumerate().filter(|(_, corner)| corner.1.is_nan()).map(|(i, _)| i).collect()
    }

    #[test]
    fn processes_are_not_joined_however_short_the_time_between_them() {
        // Killed after four samples, gone on with four seconds later; a third leaves one sample.
        let of = |since_s: f64, from: f64, count: usize| {
            (0..count).map(move |i| Sample { since_s, ..sample(from + 2.0 * i as f64, Some(since_s)) })
        };
        let three = of(1.0, 1.0, 4).chain(of(11.0, 11.0, 3)).chain(of(21.0, 21.0, 1));
        let ChartSeries { line, points, .. } = celsius(&three.collect::<Vec<_>>()).unwrap();
        assert_eq!((line.len(), gaps(&line)), (8, vec![4]));
        assert!(line[..4].iter().all(|p| p.1 == 1.0) && line[5..].iter().all(|p| p.1 == 11.0));
        assert_eq!(points.iter().map(|p| p.y).collect::<Vec<_>>(), [21.0], "a lone sample is a mark");
        // Two at once stay two lines.
        let mut both: Vec<Sample> = of(1.0, 1.0, 4).chain(of(2.0, 2.0, 4)).collect();
        both.sort_by(|a, b| a.unix_s.total_cmp(&b.unix_s));
        let line = celsius(&both).unwrap().line;
        assert_eq!((line.len(), gaps(&line)), (9, vec![4]));
        let one: Vec<Sample> = of(1.0, 1.0, 4).collect();
        assert_eq!(gaps(&celsius(&one).unwrap().line), [0usize; 0]);
    }

    #[test]
    fn cards_are_drawn_where_they_did_the_work() {
        let card =
            |celsius: f64| GpuSample { celsius: Some(celsius), watts: Some(100.0), ..GpuSample::default() };
        let both = |unix_s: f64| Sample { gpus: vec![card(60.0), card(70.0)], ..sample(unix_s, Some(50.0)) };
        let samples = [both(0.0), both(2.0)];
        let shown = charts(&samples, true);
        let titles: Vec<&str> = shown.iter().map(|chart| chart.title.as_str()).collect();
        assert_eq!(
            titles,
            ["Temperature of the processor.", "Temperature of the hottest card.", "Power of the cards."]
        );
        assert_eq!(shown[1].series[0].line[0].1, 70.0);
        assert_eq!(shown[2].series[0].line[0].1, 200.0);
        assert_eq!(charts(&samples, false).len(), 1);
    }
}
