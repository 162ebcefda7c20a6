//! What looks wrong in a run: each rule a function of what was seen, with a name and a threshold that is argued.
//!
//! A rule says what it saw, with figures, or nothing. Rows are those of one segment (the trunk, or one branch), in
//! order: what came before a fork is not compared with what comes after it.

use isoflop_base::CurveRow;
use isoflop_base::instruments::AlarmKind;

/// Rows that a spike, an explosion and a drop are compared with.
const WINDOW: usize = 20;
/// Fewer rows than this are nothing to compare with: a run's first rows fall fast.
const FEWEST: usize = 8;
/// A spike is so many robust standard deviations above the median of the window …
const SPIKE_DEVIATIONS: f64 = 8.0;
/// … and at least so many nats: where the loss hardly varies, a trifle is many deviations.
const SPIKE_NATS: f64 = 0.3;
/// The gradient's norm against the median of the window.
const EXPLOSION: f64 = 20.0;
/// The speed against the median of the window, for two rows in succession.
const DROP: f64 = 0.5;
/// Rows a plateau is judged by: at some 200 rows a run, two fifths of it.
const PLATEAU_ROWS: usize = 80;
/// A slope is none if it does not lie so many standard errors below zero.
const PLATEAU_ERRORS: f64 = 0.5;
/// Free space below which the next checkpoints may not fit.
const LITTLE_DISK: u64 = 1 << 30;
/// A step is stalled when it takes so many times its usual time …
const STALLED_TIMES: f64 = 30.0;
/// … and at least so many seconds.
const STALLED_S: f64 = 60.0;

/// All that rows can show. The last row is the one judged.
pub fn of_rows(rows: &[CurveRow]) -> Vec<(AlarmKind, String)> {
    let Some((last, before)) = rows.split_last() else { return Vec::new() };
    let column = |of: fn(&CurveRow) -> f64| before.iter().map(of).collect::<Vec<f64>>();
    let (losses, norms) = (column(|r| r.train_loss), column(|r| r.grad_norm));
    let speeds: Vec<f64> = rows.iter().filter_map(|r| r.tokens_per_s).collect();
    let trend: Vec<f64> = rows.iter().filter(|r| !r.decayed).map(|r| r.train_loss).collect();
    [
        (AlarmKind::NonFinite, non_finite(last.train_loss, last.grad_norm)),
        (AlarmKind::LossSpike, loss_spike(&losses, last.train_loss)),
        (AlarmKind::GradientExplosion, gradient_explosion(&norms, last.grad_norm)),
        (AlarmKind::ThroughputDrop, throughput_drop(&speeds)),
        (AlarmKind::Plateau, if last.decayed { None } else { plateau(&trend) }),
    ]
    .into_iter()
    .filter_map(|(kind, words)| Some((kind, words?)))
    .collect()
}

/// A loss or a gradient that is no number.
pub fn non_finite(loss: f64, grad_norm: f64) -> Option<String> {
    match (loss.is_finite(), grad_norm.is_finite()) {
        (true, true) => None,
        (false, _) => Some(format!("the loss is {loss}")),
        (true, false) => Some(format!("the gradient's norm is {grad_norm}")),
    }
}

/// A loss far above those before it. Deviations are the median one, times 1.4826: one spike in the window does not
/// hide the next.
pub fn loss_spike(before: &[f64], loss: f64) -> Option<String> {
    let window = tail(before)?;
    let usual = median(window);
    let deviations: Vec<f64> = window.iter().map(|x| (x - usual).abs()).collect();
    let allowed = (SPIKE_DEVIATIONS * 1.4826 * median(&deviations)).max(SPIKE_NATS);
    (loss > usual + allowed)
        .then(|| format!("the loss is {loss:.3}, after {usual:.3} (median of {} rows)", window.len()))
}

/// A gradient many times those before it.
pub fn gradient_explosion(before: &[f64], norm: f64) -> Option<String> {
    let window = tail(before)?;
    let usual = median(window);
    (usual > 0.0 && norm > EXPLOSION * usual).then(|| {
        format!(
            "the gradient's norm is {norm:.3}, {:.0} times the median of {} rows",
            norm / usual,
            window.len()
        )
    })
}

/// Training that became much slower, and stayed so for two rows. `speeds` are those of all rows, the last ones judged.
pub fn throughput_drop(speeds: &[f64]) -> Option<String> {
    let (before, last) = speeds.split_at_checked(speeds.len().checked_sub(2)?)?;
    let window = tail(before)?;
    let usual = median(window);
    last.iter()
        .all(|speed| *speed < DROP * usual)
        .then(|| format!("{:.3e} tokens/s, after {usual:.3e} (median of {} rows)", last[1], window.len()))
}

/// A loss at constant rate that does not fall any more: its slope over the last rows is not below zero.
pub fn plateau(losses: &[f64]) -> Option<String> {
    let window = losses.get(losses.len().checked_sub(PLATEAU_ROWS)?..)?;
    // A spike at the end is no plateau: the highest twentieth counts as the next one below it.
    let mut sorted = window.to_vec();
    sorted.sort_by(f64::total_cmp);
    let highest = sorted[window.len() - 1 - window.len() / 20];
    let window: Vec<f64> = window.iter().map(|loss| loss.min(highest)).collect();
    let n = window.len() as f64;
    let (x_mean, y_mean) = ((n - 1.0) / 2.0, window.iter().sum::<f64>() / n);
    let x_squares: f64 = (0..window.len()).map(|i| (i as f64 - x_mean).powi(2)).sum();
    let products: f64 = window.iter().enumerate().map(|(i, y)| (i as f64 - x_mean) * (y - y_mean)).sum();
    let slope = products / x_squares;
    let residual = |(i, y): (usize, &f64)| (y - y_mean - slope * (i as f64 - x_mean)).powi(2);
    let squares: f64 = window.iter().enumerate().map(residual).sum();
    let error = (squares / (n - 2.0) / x_squares).sqrt();
    (slope > -PLATEAU_ERRORS * error).then(|| {
        format!("the training loss has not fallen over {} rows (now about {y_mean:.3})", window.len())
    })
}

/// Too little space for what a run writes.
pub fn disk_nearly_full(free: u64) -> Option<String> {
    (free < LITTLE_DISK)
        .then(|| format!("only {} are free where the store lies", isoflop_base::units::bytes(free)))
}

/// A step that takes far longer than steps do here.
pub fn stalled(since_last_step_s: f64, usual_step_s: f64) -> Option<String> {
    (since_last_step_s > STALLED_S.max(STALLED_TIMES * usual_step_s)).then(|| {
        format!("no step was finished for {since_last_step_s:.0} s; one usually takes {usual_step_s:.3} s")
    })
}

/// Slowed for heat or power: times a core was in the interval, and what the cards say.
pub fn throttled(times: u64, cards: &[(usize, &[String])]) -> Option<String> {
    let mut said: Vec<String> = Vec::new();
    if times > 0 {
        said.push(format!("the processor was slowed for heat {times} times"));
    }
    let slowed = cards.iter().filter(|(_, reasons)| !reasons.is_empty());
    said.extend(slowed.map(|(index, reasons)| format!("card {index} is slowed: {}", reasons.join(", "))));
    (!said.is_empty()).then(|| said.join("; "))
}

/// The last rows of a window, if there are enough to compare with.
fn tail(values: &[f64]) -> Option<&[f64]> {
    (values.len() >= FEWEST).then(|| &values[values.len().saturating_sub(WINDOW)..])
}

/// The middle value; of an even number the mean of the two. `values` is not empty.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A falling loss with noise of 0.05, the same each time.
    fn falling(rows: usize) -> Vec<f64> {
        (0..rows).map(|i| 4.0 / (1.0 + i as f64 / 30.0).powf(0.3) + noise(i)).collect()
    }

    fn noise(i: usize) -> f64 {
        0.1 * (((i as f64 * 12.9898).sin() * 43_758.547).fract().abs() - 0.5)
    }

    fn check(raised: Option<String>, words: Option<&str>) {
        match (raised, words) {
            (Some(said), Some(part)) => assert!(said.contains(part), "{said}"),
            (None, None) => {}
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_number_that_is_none_is_seen() {
        check(non_finite(f64::NAN, 1.0), Some("loss is NaN"));
        check(non_finite(1.0, f64::INFINITY), Some("norm is inf"));
        check(non_finite(1.0, 2.0), None);
    }

    #[test]
    fn a_spike_is_seen_and_noise_and_a_fast_beginning_are_not() {
        let losses = falling(60);
        check(loss_spike(&losses, 5.5), Some("the loss is 5.500"));
        check(loss_spike(&losses[..FEWEST - 1], 9.0), None);
        for end in FEWEST..losses.len() {
            check(loss_spike(&losses[..end], losses[end]), None);
        }
        // One spike in the window hides no second one.
        let spiked: Vec<f64> =
            losses.iter().copied().chain([5.5]).chain(losses[50..].iter().copied()).collect();
        check(loss_spike(&spiked, 5.5), Some("5.500"));
        check(loss_spike(&[2.0; 30], 2.2), None);
    }

    #[test]
    fn an_explosion_is_seen_and_a_large_step_is_not() {
        let norms: Vec<f64> = (0..40).map(|i| 0.8 + 4.0 * noise(i)).collect();
        check(gradient_explosion(&norms, 40.0), Some("times the median"));
        check(gradient_explosion(&norms, 4.0), None);
        check(gradient_explosion(&[0.0; 20], 1.0), None);
    }

    #[test]
    fn a_drop_is_seen_when_it_stays() {
        let fast = |n: usize| (0..n).map(|i| 1e5 * (1.0 + noise(i))).collect::<Vec<f64>>();
        let speeds = |last: [f64; 2]| fast(20).into_iter().chain(last).collect::<Vec<f64>>();
        check(throughput_drop(&speeds([3e4, 2e4])), Some("2.000e4 tokens/s"));
        check(throughput_drop(&speeds([3e4, 1e5])), None);
        check(throughput_drop(&speeds([9e4, 8e4])), None);
        check(throughput_drop(&[1e5, 1e4, 1e4]), None);
    }

    #[test]
    fn a_plateau_is_seen_and_a_slow_fall_is_not() {
        let flat: Vec<f64> = (0..PLATEAU_ROWS).map(|i| 2.0 + noise(i)).collect();
        check(plateau(&flat), Some("has not fallen over 80 rows"));
        check(plateau(&flat[1..]), None);
        check(plateau(&falling(200)), None);
        let slow: Vec<f64> = (0..PLATEAU_ROWS).map(|i| 2.0 - 0.001 * i as f64 + noise(i)).collect();
        check(plateau(&slow), None);
    }

    #[test]
    fn a_full_disk_a_stall_and_throttling_are_seen_and_their_opposites_are_not() {
        check(disk_nearly_full(300 << 20), Some("300.0 MiB are free"));
        check(disk_nearly_full(20 << 30), None);
        check(stalled(90.0, 0.01), Some("no step was finished for 90 s"));
        check(stalled(20.0, 0.01), None);
        check(stalled(90.0, 10.0), None);
        check(stalled(301.0, 10.0), Some("301 s"));
        let reasons = ["too hot (driver)".to_owned()];
        check(throttled(3, &[]), Some("slowed for heat 3 times"));
        check(throttled(0, &[(0, &[]), (1, &reasons)]), Some("card 1 is slowed: too hot (driver)"));
        check(throttled(0, &[(0, &[])]), None);
    }

    #[test]
    fn a_run_as_it_should_be_raises_nothing_and_one_with_faults_raises_each() {
        let row = |i: usize, loss: f64| CurveRow {
            run: "a".into(),
            segment: "trunk".into(),
            step: i as u64,
            tokens: i as u64,
            flops: i as f64,
            train_loss: loss,
            val_loss: None,
            lr: 0.1,
            grad_norm: 1.0 + noise(i),
            decayed: false,
            tokens_per_s: Some(1e5 * (1.0 + noise(i))),
            data_wait: None,
            skipped: None,
            noise: None,
        };
        let mut rows: Vec<CurveRow> = falling(200).into_iter().enumerate().map(|(i, l)| row(i, l)).collect();
        for end in 1..rows.len() {
            assert_eq!(of_rows(&rows[..end]), [], "at row {end}");
        }
        rows.push(CurveRow { train_loss: 9.0, grad_norm: 90.0, tokens_per_s: Some(1e4), ..row(200, 0.0) });
        rows.push(CurveRow { train_loss: 9.0, grad_norm: 90.0, tokens_per_s: Some(1e4), ..row(201, 0.0) });
        let kinds: Vec<AlarmKind> = of_rows(&rows).into_iter().map(|(kind, _)| kind).collect();
        use AlarmKind::*;
        assert_eq!(kinds, [LossSpike, GradientExplosion, ThroughputDrop]);
        assert_eq!(of_rows(&[]), []);
    }
}
