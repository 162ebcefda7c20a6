//! What a run is run with: program, command, source, machine, data. Noted in the run's store by each process that works
//! on it; none of it enters the run's identity.

use isoflop_base::study::RunSpec;
use isoflop_base::{Measured, RunDocument};
use isoflop_meter::System;
use serde::{Deserialize, Serialize};
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A repository in trouble (a lock, a network file system) must not keep a study waiting.
const PATIENCE: Duration = Duration::from_secs(5);

/// What one process that works on a run is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// When it began with the run, seconds since 1970 UTC.
    pub unix_s: u64,
    /// Its process id.
    pub pid: u32,
    /// Its command line.
    pub command: Vec<String>,
    /// The program's version.
    pub version: String,
    /// What it was built for, and whether optimised.
    pub build: String,
    /// The source it was started from: the repository of the working directory.
    pub git: Measured<Git>,
    /// Name of the study.
    pub study: String,
    /// The run's document as it was resolved now: recipe, data and their hashes, seed.
    pub run: serde_json::Value,
    /// SHA-256 or fingerprint of the tokens.
    pub data: String,
    /// Seed of initialisation and data order.
    pub seed: u64,
    /// The processor.
    pub processor: Measured<String>,
    /// What the tokens are of: a tokeniser's name, and the SHA-256 of its file where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
    /// Cores this process may use.
    pub cores: Measured<usize>,
    /// Worker threads.
    pub threads: usize,
    /// Kernel set and precision.
    pub kernels: String,
    /// Release of the operating system's kernel.
    pub system: Measured<String>,
    /// Whether it is a virtual machine.
    pub virtual_machine: bool,
    /// Memory of the machine, bytes.
    pub memory: Measured<u64>,
    /// Of that free then.
    pub available: Measured<u64>,
    /// What the control group allows.
    pub memory_limit: Measured<u64>,
    /// Memory the run was planned to take, bytes.
    pub planned_memory: Measured<u64>,
    /// Mean number of runnable processes over one, five and fifteen minutes.
    pub load: Measured<Vec<f64>>,
    /// Where joules come from: the counted domains, the estimate, or why there are none.
    pub energy: Measured<String>,
    /// What the machine draws when idle, watts.
    pub idle_w: Measured<f64>,
    /// Operations per second that were reached at most, measured before the run.
    pub peak_flops_per_s: Measured<f64>,
    /// Graphics cards.
    pub gpus: Measured<Vec<String>>,
}

/// The state of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Git {
    /// The commit that is checked out.
    pub commit: String,
    /// Files that differ from it, untracked ones aside.
    pub changed: u64,
}

/// What a process knows of itself and its machine without the run it will work on.
#[derive(Debug, Clone)]
pub struct Process {
    git: Measured<Git>,
    command: Vec<String>,
}

impl Process {
    /// Looks once: the repository may be large.
    pub fn look() -> Self {
        let command = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
        Self { git: git(), command }
    }

    /// The record for one run.
    pub fn environment(&self, study: &str, spec: &RunSpec, machine: &MachineFacts) -> Environment {
        let system = System::real();
        let (cpu, memory) = (system.cpu(), system.memory());
        Environment {
            unix_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
            pid: std::process::id(),
            command: self.command.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build: format!(
                "{} {}, {}",
                std::env::consts::OS,
                std::env::consts::ARCH,
                if cfg!(debug_assertions) { "debug" } else { "optimised" }
            ),
            git: self.git.clone(),
            study: study.to_owned(),
            run: serde_json::to_value(RunDocument::new(study, spec)).unwrap_or_default(),
            data: spec.data.fingerprint.clone(),
            seed: spec.seed,
            processor: cpu.model,
            tokenizer: machine.tokenizer.clone(),
            cores: cpu.usable,
            threads: machine.threads,
            kernels: format!("{}, {}", spec.train.kernels, spec.train.precision.word()),
            system: system.release(),
            virtual_machine: system.is_virtual(),
            memory: memory.total,
            available: memory.available,
            memory_limit: memory.limit,
            planned_memory: machine.planned_memory.clone(),
            load: system.load_average(),
            energy: machine.energy.clone(),
            idle_w: machine.idle_w.clone(),
            peak_flops_per_s: machine.peak_flops_per_s.clone(),
            gpus: machine.gpus.clone(),
        }
    }
}

/// What the instruments found of the machine.
#[derive(Debug, Clone)]
pub struct MachineFacts {
    pub threads: usize,
    pub tokenizer: Option<String>,
    pub planned_memory: Measured<u64>,
    pub energy: Measured<String>,
    pub idle_w: Measured<f64>,
    pub peak_flops_per_s: Measured<f64>,
    pub gpus: Measured<Vec<String>>,
}

/// The repository of the working directory, by the user's own `git`.
fn git() -> Measured<Git> {
    let ask = |args: &[&str]| -> Result<String, String> {
        let mut child = Command::new("git")
            .args(["--no-optional-locks"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|_| "git is not installed".to_owned())?;
        // Read beside the waiting: a long answer would fill the pipe.
        let mut out = child.stdout.take().ok_or("git has no output")?;
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            out.read_to_string(&mut text).map(|_| text)
        });
        let start = Instant::now();
        let status = loop {
            match child.try_wait().map_err(|e| format!("git: {e}"))? {
                Some(status) => break status,
                None if start.elapsed() > PATIENCE => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!("git did not answer within {} s", PATIENCE.as_secs()));
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let text = reader.join().map_err(|_| "git's answer was lost")?.map_err(|e| format!("git: {e}"))?;
        if status.success() { Ok(text) } else { Err("the working directory is in no repository".to_owned()) }
    };
    let state = ask(&["rev-parse", "HEAD"]).and_then(|commit| {
        let changed = ask(&["status", "--porcelain", "--untracked-files=no"])?;
        Ok(Git { commit: commit.trim().to_owned(), changed: changed.lines().count() as u64 })
    });
    match state {
        Ok(git) => Measured::measured(git),
        Err(reason) => Measured::missing(reason),
    }
}
