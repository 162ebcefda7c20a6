//! The real loader on a small library of our own, built here by the C compiler that the build of SQLite asks for.

use super::*;
use crate::system::fake::Tree;
use std::path::Path;
use std::process::Command;

/// Builds the fake library in `dir` and says where it looks for the files that change what it says.
fn fake_library(dir: &Path) -> Option<PathBuf> {
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let (source, library) = (dir.join("fake.c"), dir.join("libnvidia-ml.so.1"));
    // The folder is compiled in: the environment of a test process belongs to all its tests.
    let text =
        include_str!("fake_nvml.c").replace("getenv(\"FAKE_NVML_DIR\")", &format!("\"{}\"", dir.display()));
    std::fs::write(&source, text).unwrap();
    let built = Command::new(&compiler).args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    match built {
        Ok(status) => assert!(status.success(), "{compiler} does not build the fake library"),
        Err(_) => return None,
    }
    Some(library)
}

#[test]
fn cards_are_read_by_the_drivers_library() {
    let dir = tempfile::tempdir().unwrap();
    // Without a C compiler there is no library to load; the build itself needs one.
    let Some(library) = fake_library(dir.path()) else { return };
    let system = Tree::new(&[]).system();
    let mut gpus = Gpus::open_with(&system, &[PathBuf::from("not-there.so"), library]);
    std::fs::write(dir.path().join("energy_mj"), "1000250").unwrap();
    let cards = gpus.read();
    let cards = cards.value().unwrap_or_else(|| panic!("{cards:?}"));
    assert_eq!(cards.len(), 2);
    let (card, m) = (&cards[0], Measured::measured);
    assert_eq!((card.name.as_str(), card.by), ("Fake RTX 1", "NVML"));
    assert_eq!(card.driver, Measured::measured("550.54.14".to_owned()));
    assert_eq!(
        (&card.memory_total, &card.memory_used),
        (&Measured::measured(16 << 30), &Measured::measured(1 << 30))
    );
    assert_eq!((&card.power_w, &card.power_limit_w), (&m(287.41), &m(320.0)));
    assert_eq!((&card.celsius, &card.utilisation), (&m(84.0), &m(0.98)));
    assert_eq!((&card.clock_mhz, &card.fan), (&m(2505.0), &m(0.41)));
    assert_eq!(
        card.throttle,
        Measured::measured(vec!["too hot (driver)".to_owned()]),
        "idling is no complaint"
    );
    assert_eq!(card.energy_j, m(0.25), "by the counter");
    assert_eq!(card.instances, Measured::measured(1));
    assert!(matches!(&cards[1].counter_j, Measured::Missing { reason } if reason.starts_with("NVML: ")));
    assert!(matches!(&cards[1].energy_j, Measured::Estimated { how, .. } if how.contains("over time")));

    std::fs::write(dir.path().join("mig"), "1").unwrap();
    std::fs::write(dir.path().join("lost"), "").unwrap();
    let cards = gpus.read();
    let cards = cards.value().unwrap();
    assert_eq!(cards[0].instances, Measured::measured(7));
    assert!(matches!(&cards[1].power_w, Measured::Missing { .. }), "unplugged: {:?}", cards[1].power_w);
    assert!(matches!(&cards[1].energy_j, Measured::Missing { .. }));
}

#[test]
fn joules_of_the_machine_hold_those_of_its_cards_where_the_work_is_theirs() {
    use crate::energy::MachineEnergy;
    use std::sync::{Arc, Mutex};
    let dir = tempfile::tempdir().unwrap();
    let Some(library) = fake_library(dir.path()) else { return };
    std::fs::write(dir.path().join("cards"), "1").unwrap();
    let libraries = [library];
    let cards = |system: &System| Arc::new(Mutex::new(Gpus::open_with(system, &libraries)));
    let used = |mj: &str| std::fs::write(dir.path().join("energy_mj"), mj).unwrap();

    // Processors without counters: the cards alone, said to be no more than that.
    used("1000000");
    let system = Tree::new(&[]).system();
    let mut energy = MachineEnergy::open(&system, None).with_cards(cards(&system));
    used("1004000");
    match energy.joules() {
        Measured::Estimated { value, how } => {
            assert!((value - 4.0).abs() < 1e-9 && how.contains("the graphics cards alone"), "{value}: {how}");
        }
        other => panic!("{other:?}"),
    }
    assert!(energy.processors().value().is_none());

    // With them, both; each glance reads the counter anew and is counted once.
    let zone = "sys/class/powercap/intel-rapl:0";
    let tree = Tree::new(&[
        (&format!("{zone}/name"), "package-0"),
        (&format!("{zone}/energy_uj"), "5000000"),
        (&format!("{zone}/max_energy_range_uj"), "262143328850"),
    ]);
    let system = tree.system();
    let shared = cards(&system);
    let mut energy = MachineEnergy::open(&system, None).with_cards(Arc::clone(&shared));
    tree.write(&format!("{zone}/energy_uj"), "7000000");
    used("1007000");
    assert_eq!(energy.joules(), Measured::measured(5.0));
    assert_eq!(energy.joules(), Measured::measured(5.0));
    let read = shared.lock().unwrap().read();
    assert_eq!(read.value().unwrap()[0].energy_j, Measured::measured(3.0));
    used("1009000");
    assert_eq!(energy.joules(), Measured::measured(7.0));
    assert_eq!(energy.processors(), Measured::measured(2.0));
}

#[test]
fn a_library_that_is_not_there_or_has_no_driver_is_a_reason() {
    assert!(nvml::Library::load(&[PathBuf::from("not-there.so")]).unwrap_err().contains("no NVIDIA driver"));
    let dir = tempfile::tempdir().unwrap();
    let Some(library) = fake_library(dir.path()) else { return };
    std::fs::write(dir.path().join("no-driver"), "").unwrap();
    let reason = nvml::Library::load(std::slice::from_ref(&library)).unwrap_err();
    assert!(reason.contains("driver") && !reason.contains("not here"), "{reason}");
    std::fs::remove_file(dir.path().join("no-driver")).unwrap();
    std::fs::write(dir.path().join("cards"), "0").unwrap();
    let loaded = nvml::Library::load(&[library]).unwrap();
    assert!(matches!(loaded.read(), Measured::Missing { reason } if reason.contains("no device")));
}
