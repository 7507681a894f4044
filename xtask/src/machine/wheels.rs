//! NVIDIA's wheels under `data/cuda/`, installed by pip into a folder beside it that then takes its place.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use bench_suite::files;

use crate::repo::{self, Repo};
use crate::text;

/// Where the wheels are unpacked.
const FOLDER: &str = "data/cuda";
/// The file below it that says what is there, written last.
const STAMP: &str = "installed.txt";
/// What in pip's log means that no index could be reached.
const OFFLINE: [&str; 5] = [
    "NewConnectionError",
    "NameResolutionError",
    "Temporary failure in name resolution",
    "Network is unreachable",
    "timed out",
];

/// Wheels that belong together.
#[derive(Debug)]
pub(crate) struct Set {
    /// With their versions, as pip takes them.
    pub(crate) wheels: &'static [&'static str],
    /// Disk that they and their download take at most.
    pub(crate) bytes: u64,
}

impl Set {
    /// Refuses a disk with too little room.
    fn fits_into(&self, free: u64) -> Result<()> {
        if free < self.bytes {
            let (need, free) = (text::bytes(self.bytes), text::bytes(free));
            bail!("NVIDIA's wheels need {need} of disk in data/, and {free} are free");
        }
        Ok(())
    }
}

/// NVIDIA's run-time compiler alone.
pub(crate) const NVRTC: Set = Set { wheels: &["nvidia-cuda-nvrtc==13.0.88"], bytes: 400_000_000 };
/// The CUDA of the wheels. Those of CUDA 12 hold ptxas and libraries, but no compiler.
pub(crate) const ALL_VERSION: &str = "13.0";
/// What candle's build needs of the toolkit.
pub(crate) const ALL: Set = Set {
    wheels: &[
        "nvidia-cuda-nvcc==13.0.88",
        "nvidia-cuda-crt==13.0.88",
        "nvidia-nvvm==13.0.88",
        "nvidia-cuda-runtime==13.0.96",
        "nvidia-cuda-cccl==13.0.85",
        "nvidia-cuda-nvrtc==13.0.88",
        "nvidia-curand==10.4.0.35",
        "nvidia-cublas==13.1.0.3",
    ],
    bytes: 2_500_000_000,
};

/// Whether the wheels of a set are there.
pub(crate) fn are_there(repo: &Repo, set: &Set) -> bool {
    let stamp = fs::read_to_string(repo.path(FOLDER).join(STAMP)).unwrap_or_default();
    set.wheels.iter().all(|wheel| stamp.lines().any(|line| line == *wheel))
}

/// Installs a set, has `finish` complete it (told the folder that will be `data/cuda`), and replaces what was there.
///
/// # Errors
/// Without pip, network or space, and if `finish` fails; what was there stays then.
pub(crate) fn install(repo: &Repo, set: &Set, finish: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let data = repo.path("data");
    fs::create_dir_all(&data).with_context(|| format!("failed to make {}", data.display()))?;
    let pip = pip()?;
    let free = files::free_bytes(&data);
    set.fits_into(free.with_context(|| format!("the room in {} is not known", data.display()))?)?;
    let (new, folder) = (repo.path(FOLDER).with_extension("tmp"), repo.path(FOLDER));
    remove(&new)?;
    fs::create_dir_all(&new)?;
    let log = new.join("install.log");
    eprintln!("installing {} of NVIDIA's wheels into {FOLDER} (log: {})", set.wheels.len(), repo.show(&log));
    run_pip(pip, set, &new, &log)?;
    finish(&new)?;
    fs::write(new.join(STAMP), set.wheels.join("\n") + "\n")?;
    remove(&folder)?;
    fs::rename(&new, &folder).with_context(|| format!("failed to make {}", folder.display()))
}

fn run_pip(mut pip: Command, set: &Set, target: &Path, log: &Path) -> Result<()> {
    pip.args(["install", "--no-deps", "--no-compile", "--only-binary", ":all:"]);
    pip.arg("--target").arg(target).args(set.wheels);
    logged(pip, log)
}

/// Runs pip with its output in a file; what it failed of is read from there.
///
/// # Errors
/// Without a network, and what pip says.
pub(crate) fn logged(mut pip: Command, log: &Path) -> Result<()> {
    pip.args(["--disable-pip-version-check", "--retries", "2", "--timeout", "20"]);
    let output = File::create(log).with_context(|| format!("failed to write {}", log.display()))?;
    let status = pip.stdout(output.try_clone()?).stderr(output).status().context("failed to start pip")?;
    if status.success() {
        return Ok(());
    }
    let said = fs::read_to_string(log)?;
    if let Some(reason) = OFFLINE.iter().find(|reason| said.contains(**reason)) {
        bail!("pip reaches no package index ({reason}): is there a network? (log: {})", log.display());
    }
    let reason = said.lines().rev().find(|line| line.starts_with("ERROR"));
    bail!("{} (log: {})", reason.unwrap_or("pip failed"), log.display())
}

/// pip, as it is started here.
///
/// # Errors
/// Without it.
pub(crate) fn pip() -> Result<Command> {
    find_pip().context("pip is missing: install it (Debian, Ubuntu: apt-get install python3-pip)")
}

/// How pip is started here; none without it.
pub(crate) fn find_pip() -> Option<Command> {
    for words in [&["python3", "-m", "pip"][..], &["pip3"], &["pip"]] {
        let start = || {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]);
            command
        };
        if repo::output(start().arg("--version")).is_some() {
            return Some(start());
        }
    }
    None
}

fn remove(folder: &Path) -> Result<()> {
    files::remove_folder(folder).with_context(|| format!("failed to remove {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_with_too_little_room_is_refused() {
        let error = ALL.fits_into(ALL.bytes - 1).unwrap_err().to_string();
        assert!(error.contains("NVIDIA's wheels need 2.5 GB") && error.contains("are free"), "{error}");
        assert!(ALL.fits_into(ALL.bytes).is_ok());
    }
}
