//! Which counters of `powercap` make a sum in which every joule is once.
//!
//! | domain | what it is | counted |
//! |---|---|---|
//! | `package-0`, `package-0-die-1` | a socket, or a die of one | yes; a die that mirrors another (Zen 1 and 2) once |
//! | `dram` | memory, outside of the package | yes |
//! | `core`, `uncore` | parts of a package | no |
//! | `psys` | the whole board, the packages in it | apart |
//! | `intel-rapl-mmio:0` | the same package by another register | only where the plain one is missing |

use super::counter::Counter;
use crate::System;
use crate::system::POWERCAP_VARIABLE;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The command that lets every user read the counters until the next boot.
pub const PERMISSION_FIX: &str =
    "sudo chmod a+r /sys/class/powercap/*/energy_uj /sys/class/powercap/*/max_energy_range_uj";

/// How deep below a folder of the user's choosing zones are looked for: `intel-rapl/intel-rapl:0/intel-rapl:0:0`.
const DEPTH: usize = 4;

/// A domain that is read.
#[derive(Debug)]
pub(super) struct Domain {
    /// As the kernel names it.
    pub(super) name: String,
    /// What could mirror it: the same kind of domain of the same socket.
    pub(super) family: String,
    pub(super) counter: Counter,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    /// To be summed, mirrors among them.
    pub(super) domains: Vec<Domain>,
    /// The whole board.
    pub(super) psys: Result<Counter, String>,
}

struct Zone {
    folder: PathBuf,
    name: String,
    mmio: bool,
    /// Name of the zone it lies in, for `dram`.
    parent: Option<String>,
}

pub(super) fn find(system: &System, now: Instant) -> Result<Found, String> {
    let base = system.powercap();
    if !base.is_dir() {
        return Err(format!(
            "no energy counters: {} does not exist here (a virtual machine, or no RAPL driver)",
            base.display()
        ));
    }
    let (zones, denied) = zones(system, &base)?;
    let is_plain =
        |name: &str| zones.iter().any(|z| !z.mmio && z.name == name && open(system, z, now).is_ok());
    let (mut domains, mut psys) = (Vec::new(), Err("this board has no psys domain".to_owned()));
    for zone in &zones {
        let counted = zone.name.starts_with("package") || zone.name == "dram";
        // The same package by way of memory-mapped registers.
        let again = zone.mmio && is_plain(&zone.name);
        if zone.name == "psys" && !zone.mmio {
            psys = open(system, zone, now);
        }
        if !counted || again {
            continue;
        }
        let family = family(&zone.name, zone.parent.as_deref());
        match open(system, zone, now) {
            Ok(counter) => domains.push(Domain { name: zone.name.clone(), family, counter }),
            // Another way to the same package may be open.
            Err(_)
                if !zone.mmio
                    && zones
                        .iter()
                        .any(|z| z.mmio && z.name == zone.name && open(system, z, now).is_ok()) => {}
            Err(reason) => return Err(reason),
        }
    }
    match (domains.is_empty(), denied) {
        (false, _) => Ok(Found { domains, psys }),
        (true, Some(reason)) => Err(reason),
        (true, None) => Err(format!("no package counter under {}", base.display())),
    }
}

/// All zones that say what they are, and why others do not.
fn zones(system: &System, base: &Path) -> Result<(Vec<Zone>, Option<String>), String> {
    let mut folders = Vec::new();
    walk(base, DEPTH, &mut folders);
    folders.sort_by_key(|folder| (is_mmio(folder), file_name(folder)));
    folders.dedup_by_key(|folder| file_name(folder));
    let (mut zones, mut hidden, mut denied) = (Vec::new(), false, None);
    for folder in folders {
        match system.try_read(&folder.join("name")) {
            Ok(name) => {
                let parent = parent(&file_name(&folder)).and_then(|parent| {
                    let beside = folder.with_file_name(parent);
                    let above = folder.parent().map(Path::to_path_buf);
                    system.read(&beside.join("name")).ok().or_else(|| system.read(&above?.join("name")).ok())
                });
                zones.push(Zone { mmio: is_mmio(&folder), folder, name, parent });
            }
            Err(e) if e.kind() == ErrorKind::NotFound => hidden = true,
            Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                denied = Some(unreadable(&[folder.join("name")]))
            }
            Err(_) => {}
        }
    }
    let masked = system.path("sys/devices/virtual/powercap");
    let emptied = masked.is_dir() && std::fs::read_dir(&masked).is_ok_and(|mut list| list.next().is_none());
    if zones.is_empty() && (hidden || emptied) {
        return Err(format!(
            "the container hides the counters under /sys/devices/virtual/powercap; to allow them, start it with: \
             -v /sys/devices/virtual/powercap:/powercap:ro -e {POWERCAP_VARIABLE}=/powercap"
        ));
    }
    Ok((zones, denied))
}

/// Folders named as zones are, at any depth; links of the class folder are followed, as they have no zone in them that
/// leads back.
fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let Ok(list) = std::fs::read_dir(folder) else { return };
    for entry in list.filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("intel-rapl") {
            continue;
        }
        if name.contains(':') {
            found.push(entry.path());
        }
        if depth > 1 {
            walk(&entry.path(), depth - 1, found);
        }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn is_mmio(path: &Path) -> bool {
    file_name(path).starts_with("intel-rapl-mmio")
}

/// `intel-rapl:0` of `intel-rapl:0:1`.
fn parent(zone: &str) -> Option<String> {
    let (parent, _) = zone.rsplit_once(':')?;
    parent.contains(':').then(|| parent.to_owned())
}

/// What a domain can be mirrored by: `package-0` for each `package-0-die-…`, `dram of package-0` for the memory of
/// one; a package without dies is its own family.
fn family(name: &str, parent: Option<&str>) -> String {
    let socket = |name: &str| name.split_once("-die-").map_or(name, |(socket, _)| socket).to_owned();
    match parent {
        Some(parent) if name == "dram" => format!("dram of {}", socket(parent)),
        _ => socket(name),
    }
}

fn open(system: &System, zone: &Zone, now: Instant) -> Result<Counter, String> {
    let (energy, range) = (zone.folder.join("energy_uj"), zone.folder.join("max_energy_range_uj"));
    // Both are tried: who may read one of them need not be allowed the other.
    let denied: Vec<PathBuf> = [&energy, &range]
        .into_iter()
        .filter(|path| system.try_read(path).is_err_and(|e| e.kind() == ErrorKind::PermissionDenied))
        .cloned()
        .collect();
    if !denied.is_empty() {
        return Err(unreadable(&denied));
    }
    let (first, range) = (system.number(&energy)?, system.number(&range)?);
    if range == 0 || first > range {
        return Err(format!("{} holds {first} of a range of {range} µJ", energy.display()));
    }
    Ok(Counter::new(energy, range, first, now))
}

fn unreadable(files: &[PathBuf]) -> String {
    let shown: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let verb = if files.len() == 1 { "is" } else { "are" };
    format!("{} {verb} readable by the superuser only; to allow it: {PERMISSION_FIX}", shown.join(" and "))
}
