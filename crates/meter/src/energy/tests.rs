use super::*;
use crate::system::fake::{DENIED, GONE, Tree};
use std::time::Duration;

const POWERCAP: &str = "sys/class/powercap";
const RANGE: &str = "65532610987";

/// Zones as (folder, name, µJ).
fn tree(zones: &[(&str, &str, &str)]) -> Tree {
    let tree = Tree::new(&[]);
    tree.folder(POWERCAP);
    for (zone, name, energy) in zones {
        tree.write(&format!("{POWERCAP}/{zone}/name"), name);
        tree.write(&format!("{POWERCAP}/{zone}/energy_uj"), energy);
        tree.write(&format!("{POWERCAP}/{zone}/max_energy_range_uj"), RANGE);
    }
    tree
}

fn desktop() -> Tree {
    tree(&[
        ("intel-rapl:0", "package-0\n", "1000000\n"),
        ("intel-rapl:0:0", "core\n", "5\n"),
        ("intel-rapl:0:1", "dram\n", "0\n"),
        ("intel-rapl:1", "psys\n", "77\n"),
        ("intel-rapl-mmio:0", "package-0\n", "1000000\n"),
    ])
}

fn set(tree: &Tree, zone: &str, energy: &str) {
    tree.write(&format!("{POWERCAP}/{zone}/energy_uj"), energy);
}

fn check(meter: &mut EnergyMeter, at: Instant, joules: f64) {
    let reading = meter.joules_at(at);
    let value = *reading.value().unwrap_or_else(|| panic!("{reading:?}"));
    assert!((value - joules).abs() < 1e-6, "{value} J, not {joules} J");
}

fn check_missing(reading: Measured<f64>, words: &[&str]) {
    let Measured::Missing { reason } = reading else { panic!("{reading:?}") };
    for word in words {
        assert!(reason.contains(word), "`{word}` is not in: {reason}");
    }
}

fn after(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

#[test]
fn packages_and_memory_are_summed_and_parts_are_not() {
    let tree = desktop();
    let mut meter = EnergyMeter::open(&tree.system());
    assert_eq!(meter.domains().value().unwrap(), &["package-0", "dram"]);
    check(&mut meter, after(0), 0.0);
    set(&tree, "intel-rapl:0", "3500000");
    set(&tree, "intel-rapl:0:0", "900000");
    set(&tree, "intel-rapl:0:1", "250000");
    set(&tree, "intel-rapl:1", "5000077");
    set(&tree, "intel-rapl-mmio:0", "3500000");
    check(&mut meter, after(0), 2.75);
    check(&mut meter, after(0), 2.75);
    assert_eq!(meter.board_joules(), Measured::measured(5.0), "apart from the packages in it");
}

#[test]
fn a_counter_that_wraps_goes_on() {
    let tree = desktop();
    set(&tree, "intel-rapl:0", "65532610000");
    let mut meter = EnergyMeter::open(&tree.system());
    // The count after the highest is 0.
    set(&tree, "intel-rapl:0", "12");
    check(&mut meter, after(1), 0.001);
    set(&tree, "intel-rapl:0", "9000012");
    check(&mut meter, after(2), 9.001);
    // 40 kJ, and 50 kJ beyond the next wrap, a minute each.
    set(&tree, "intel-rapl:0", "40009000012");
    check(&mut meter, after(62), 40_009.001);
    set(&tree, "intel-rapl:0", "24476389024");
    check(&mut meter, after(122), 90_009.001);
}

#[test]
fn one_counter_shown_for_each_die_is_counted_once() {
    let tree = tree(&[
        ("intel-rapl:0", "package-0-die-0", "7000000000"),
        ("intel-rapl:1", "package-0-die-1", "7000000210"),
        ("intel-rapl:2", "package-1-die-0", "7000000100"),
    ]);
    let mut meter = EnergyMeter::open(&tree.system());
    set(&tree, "intel-rapl:0", "7068000000");
    set(&tree, "intel-rapl:1", "7068010000");
    set(&tree, "intel-rapl:2", "7050000100");
    // 68 W of the first socket and 50 W of the second, not 186 W.
    check(&mut meter, after(1), 118.0);
    assert_eq!(meter.domains().value().unwrap(), &["package-0-die-0", "package-1-die-0"]);
    assert!(meter.left_out()[0].contains("package-0-die-1 shows the counter of package-0-die-0 again"));
}

#[test]
fn dies_with_counters_of_their_own_are_both_counted() {
    let check_dies = |first: &str, second: &str| {
        let tree =
            tree(&[("intel-rapl:0", "package-0-die-0", first), ("intel-rapl:1", "package-0-die-1", second)]);
        let mut meter = EnergyMeter::open(&tree.system());
        set(&tree, "intel-rapl:0", "7068000000");
        set(&tree, "intel-rapl:1", "7055000000");
        check(&mut meter, after(1), 68.0 + 55.0);
        // What was seen to be two stays two, even where the totals come close again.
        set(&tree, "intel-rapl:1", "7068000000");
        check(&mut meter, after(2), 68.0 + 68.0);
    };
    check_dies("7000000000", "7000000000");
    let tree = tree(&[
        ("intel-rapl:0", "package-0-die-0", "7000000000"),
        ("intel-rapl:1", "package-0-die-1", "9000000000"),
    ]);
    let mut meter = EnergyMeter::open(&tree.system());
    set(&tree, "intel-rapl:0", "7068000000");
    set(&tree, "intel-rapl:1", "9068000000");
    check(&mut meter, after(1), 136.0);
}

#[test]
fn memory_mapped_registers_serve_where_the_plain_ones_are_missing() {
    let only = tree(&[("intel-rapl-mmio:0", "package-0", "0")]);
    let mut meter = EnergyMeter::open(&only.system());
    set(&only, "intel-rapl-mmio:0", "2000000");
    check(&mut meter, after(1), 2.0);

    let denied = tree(&[("intel-rapl:0", "package-0", DENIED), ("intel-rapl-mmio:0", "package-0", "0")]);
    let mut meter = EnergyMeter::open(&denied.system());
    set(&denied, "intel-rapl-mmio:0", "2000000");
    check(&mut meter, after(1), 2.0);
}

#[test]
fn what_may_not_be_read_is_named_with_the_command_that_allows_it() {
    let tree = desktop();
    set(&tree, "intel-rapl:0", DENIED);
    tree.remove(&format!("{POWERCAP}/intel-rapl-mmio:0/name"));
    check_missing(
        EnergyMeter::open(&tree.system()).joules(),
        &["intel-rapl:0/energy_uj is readable", PERMISSION_FIX],
    );
    tree.write(&format!("{POWERCAP}/intel-rapl:0/max_energy_range_uj"), DENIED);
    check_missing(
        EnergyMeter::open(&tree.system()).joules(),
        &["intel-rapl:0/energy_uj and", "intel-rapl:0/max_energy_range_uj are readable", PERMISSION_FIX],
    );
    // Allowing the one does not allow the other.
    set(&tree, "intel-rapl:0", "1");
    check_missing(
        EnergyMeter::open(&tree.system()).joules(),
        &["max_energy_range_uj is readable", PERMISSION_FIX],
    );
}

#[test]
fn a_counter_that_disappears_makes_the_sum_missing_for_good() {
    let tree = desktop();
    let mut meter = EnergyMeter::open(&tree.system());
    set(&tree, "intel-rapl:0", GONE);
    check_missing(meter.joules(), &["No such device"]);
    set(&tree, "intel-rapl:0", "3500000");
    check_missing(meter.joules(), &["energy_uj"]);
}

#[test]
fn absurd_values_are_missing_and_never_a_large_sum() {
    let absurd = |energy: &str, seconds: u64, words: &str| {
        let tree = desktop();
        let mut meter = EnergyMeter::open(&tree.system());
        set(&tree, "intel-rapl:0", energy);
        check_missing(meter.joules_at(after(seconds)), &[words]);
    };
    // A reset to nothing would pass for a wrap of 65 kJ.
    absurd("0", 1, "it was reset");
    absurd("60000000000", 1, "it was reset");
    absurd("65532610988", 1, "more than its range");
    absurd("-5", 1, "not a whole number");
    absurd("", 1, "not a whole number");
    // 65 kJ may pass unseen in that time.
    absurd("2000000", 300, "more than once");
    let tree = tree(&[("intel-rapl:0", "package-0", "1000000")]);
    tree.write(&format!("{POWERCAP}/intel-rapl:0/max_energy_range_uj"), "0");
    check_missing(EnergyMeter::open(&tree.system()).joules(), &["of a range of 0"]);
}

#[test]
fn without_counters_energy_is_missing_with_a_reason() {
    check_missing(EnergyMeter::open(&Tree::new(&[]).system()).joules(), &["virtual machine"]);
    check_missing(EnergyMeter::open(&tree(&[]).system()).joules(), &["no package counter"]);
    check_missing(
        EnergyMeter::open(&tree(&[("intel-rapl:0", "psys", "5")]).system()).joules(),
        &["no package counter"],
    );
    let half = Tree::new(&[(&format!("{POWERCAP}/intel-rapl:0/name"), "package-0")]);
    check_missing(EnergyMeter::open(&half.system()).joules(), &["energy_uj does not exist"]);
}

#[cfg(unix)]
#[test]
fn a_container_that_hides_the_counters_is_recognised_and_can_be_given_them() {
    // Links of the class folder, and an empty file system over what they lead to.
    let tree = Tree::new(&[]);
    tree.folder("sys/devices/virtual/powercap");
    tree.link(&format!("{POWERCAP}/intel-rapl:0"), "../../devices/virtual/powercap/intel-rapl/intel-rapl:0");
    let hidden =
        ["container hides", "-v /sys/devices/virtual/powercap:/powercap:ro", "ISOFLOP_POWERCAP=/powercap"];
    check_missing(EnergyMeter::open(&tree.system()).joules(), &hidden);
    // The host's folder, mounted elsewhere: zones lie in zones there.
    let zone = "powercap/intel-rapl/intel-rapl:0";
    for (below, name) in [("", "package-0"), ("/intel-rapl:0:0", "core"), ("/intel-rapl:0:2", "dram")] {
        tree.write(&format!("{zone}{below}/name"), name);
        tree.write(&format!("{zone}{below}/energy_uj"), "0");
        tree.write(&format!("{zone}{below}/max_energy_range_uj"), RANGE);
    }
    let mut meter = EnergyMeter::open(&tree.system().with_powercap(tree.path("powercap")));
    assert_eq!(meter.domains().value().unwrap(), &["package-0", "dram"]);
    tree.write(&format!("{zone}/energy_uj"), "4000000");
    tree.write(&format!("{zone}/intel-rapl:0:0/energy_uj"), "3000000");
    check(&mut meter, after(1), 4.0);
}
