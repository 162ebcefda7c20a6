//! Statistical recovery in small: `examples/coverage` measures 500 tables per design, this keeps the machinery honest
//! in seconds.

mod synthetic;

use isoflop_laws::Loss;
use synthetic::{curves, plan};

#[test]
fn intervals_hold_the_truth_about_as_often_as_they_say() {
    for design in synthetic::designs().iter().filter(|d| d.name.contains(", 7 runs, noise 0.01")) {
        let counts = synthetic::measure(design, 60);
        assert_eq!(counts.tables, 60, "{}", counts.name);
        for (name, (held, _, _)) in &counts.held {
            // 60 draws at 95 %: fewer than 51 happens once in 500 times per parameter.
            assert!(*held >= 51, "{name} of {counts}");
        }
        assert!(counts.forecast >= 51, "{counts}");
    }
}

#[test]
fn what_a_design_cannot_tell_is_called_not_identified() {
    for design in
        synthetic::designs().iter().filter(|d| d.name.starts_with("unidentified") && d.noise > 0.005)
    {
        let counts = synthetic::measure(design, 30);
        for (name, (_, known, _)) in &counts.held {
            assert!(*known <= 3, "{name} of {counts}");
        }
    }
}

#[test]
fn thirty_runs_by_bootstrap() {
    let all = synthetic::designs();
    let design = all.iter().find(|d| d.name == "l_nd_chinchilla, 30 runs, noise 0.002").unwrap();
    let counts = synthetic::measure(design, 12);
    for (name, (held, known, _)) in &counts.held {
        assert!(*held >= 9 && *known == 12, "{name} of {counts}");
    }
}

#[test]
fn two_degrees_of_freedom_identify_nothing_by_luck() {
    let all = synthetic::designs();
    let design = all.iter().find(|d| d.name == "l_nd_chinchilla, 7 runs, noise 0.01").unwrap();
    let counts = synthetic::measure(design, 150);
    for (name, (_, known, both)) in &counts.held {
        // Identified in hardly any table or in most: what is called so only where the scatter happens to be small
        // covers far less.
        assert!(*known <= 2 || *known >= 75, "{name} of {counts}");
        assert!(*known <= 2 || *both as f64 >= 0.88 * *known as f64, "{name} of {counts}");
    }
}

/// Rows of a run share its luck: nine runs of forty rows are nine, whatever the penalty; and the point lies in its own
/// interval.
#[test]
fn the_run_is_the_unit_of_evidence() {
    const TABLES: u64 = 40;
    for design in
        curves::designs().iter().filter(|d| d.name.starts_with("few runs") || d.name.starts_with("unbal"))
    {
        for loss in [Loss::Mse, Loss::Huber] {
            let held = curves::measure(design, loss, TABLES);
            assert_eq!(held.tables, TABLES as usize, "{held}");
            for (name, [truth, _, point]) in &held.by_param {
                // 40 draws at 95 %: fewer than 34 happens once in 500 times.
                assert!(*truth >= 34, "{name} of {held}");
                assert_eq!(*point, held.tables, "{name} of {held}");
            }
        }
    }
}

/// Taken as independent, the same rows give intervals that hold the truth in a fraction of all tables: the test above
/// can fail.
#[test]
fn rows_without_their_runs_would_say_too_much() {
    let design = &curves::designs()[0];
    let options = isoflop_laws::Options {
        forms: vec!["l_nd_chinchilla".to_owned()],
        loss: Loss::Mse,
        dense: false,
        holdout: false,
        bootstrap: 0,
        ..isoflop_laws::Options::default()
    };
    let mut held = 0;
    for seed in 0..20 {
        let mut table = curves::table(design, seed);
        table.rows.iter_mut().for_each(|r| r.run.clear());
        let document = isoflop_laws::fit(&table, &options).unwrap();
        let alpha = document.fits[0].params.get("alpha").unwrap();
        held += usize::from(alpha.lo.unwrap() <= 0.34 && alpha.hi.unwrap() >= 0.34);
        assert!(document.notes.iter().any(|n| n.contains("--cluster")), "{:?}", document.notes);
    }
    assert!(held <= 12, "{held} of 20");
}

/// The built-in series: three points of a trunk, a spread that falls with size, one held-out text.
#[test]
fn exponents_of_the_built_in_plan_hold_and_a_text_in_common_moves_none() {
    let [as_it_is, no_text, ..] = plan::PLANS;
    let (found, apart) = (plan::measure(&as_it_is, 60), plan::measure(&no_text, 60));
    assert_eq!(found.of.len(), 5, "{found}");
    for (name, held) in &found.of {
        // 60 draws at 95 %: fewer than 51 happens once in 500 times. Chinchilla's beta is beyond this plan, and so
        // named.
        let fine = if name.1 == "beta" { held.known <= 3 } else { held.held >= 51 && held.known == 60 };
        assert!(held.tables == 60 && fine, "{name:?} of {found}");
        let other = &apart.of[name];
        assert!(
            (held.width / other.width - 1.0).abs() < 0.01 && held.held.abs_diff(other.held) <= 1,
            "{found}{apart}"
        );
    }
}
