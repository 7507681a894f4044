//! What there is on this machine for building, training and its surroundings.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use bench_suite::device::DeviceName;

use crate::machine::{devices, packages, pretrained, toolkit, wheels};
use crate::repo::{self, Repo};
use crate::text;

/// Prints a line for each thing, installs nothing.
pub(crate) fn print(repo: &Repo) -> Result<()> {
    let lines = [
        ("FFmpeg", ffmpeg()),
        ("C compiler", version("cc").unwrap_or_else(|| "none".into())),
        ("C++ compiler", version("c++").unwrap_or_else(|| "none; only CUDA needs one".into())),
        ("Python", python()),
        ("Slurm", slurm()),
        ("NVIDIA driver", driver(repo)),
        ("CUDA toolkit", cuda(repo)),
        (
            "engine, CPU",
            built(repo, Path::new(repo.binary("bench-suite").get_program()), "the verb that needs it"),
        ),
        ("engine, CUDA", for_cuda(repo)),
        ("pretrained", pretrained::there(repo)),
        ("device auto", devices::resolve(repo, DeviceName::Auto).to_string()),
    ];
    let lines = lines.map(|(what, found)| format!("{what:<14}{found}\n"));
    text::print(&lines.concat())
}

/// Its programs say no version where no cluster is configured.
fn slurm() -> String {
    let found = Command::new("sbatch").arg("--version").output();
    let none = || "none; only `--on slurm` needs it".into();
    found.map_or_else(
        |_| none(),
        |_| version("sbatch").unwrap_or_else(|| "installed, without a cluster".into()),
    )
}

fn ffmpeg() -> String {
    let missing = packages::missing();
    if !missing.is_empty() {
        return format!(
            "missing: {} (`cargo xtask test` and `reproduce` install or name them)",
            missing.join(" ")
        );
    }
    let version = repo::output(Command::new("pkg-config").args(["--modversion", "libavcodec"]));
    format!("development packages, libavcodec {}", version.unwrap_or_default())
}

fn python() -> String {
    let Some(python) = version("python3") else {
        return "none; only CUDA's wheels, pretrained weights and `bench peers` need it".into();
    };
    let pip = if wheels::find_pip().is_some() { "with pip" } else { "without pip" };
    format!("{python}, {pip}")
}

fn driver(repo: &Repo) -> String {
    let loaded = fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
    let first = loaded.lines().next().map(|line| line.trim_start_matches("NVRM version:").trim().to_owned());
    match (first, devices::has_driver(repo)) {
        (Some(version), true) => version,
        (None, true) => "libcuda.so.1".into(),
        (Some(version), false) => format!("{version}, but its library libcuda.so.1 is nowhere"),
        (None, false) => "none".into(),
    }
}

fn cuda(repo: &Repo) -> String {
    toolkit::find(repo).map_or_else(
        || "none; `cargo xtask setup --cuda` makes one of wheels".into(),
        |toolkit| format!("{} in {}", toolkit.version, repo.show(&toolkit.home)),
    )
}

fn for_cuda(repo: &Repo) -> String {
    let program = devices::program(repo, "cuda");
    let built = built(repo, &program, "`cargo xtask setup --cuda`");
    match devices::device_program(repo, DeviceName::Cuda(0)) {
        Err(reason) if program.is_file() => format!("{reason:#}"),
        _ => built,
    }
}

fn built(repo: &Repo, program: &Path, by: &str) -> String {
    if program.is_file() { repo.show(program) } else { format!("not built yet; {by} does it") }
}

/// First line of what a program says of its version.
fn version(program: &str) -> Option<String> {
    let text = repo::output(Command::new(program).arg("--version"))?;
    text.lines().next().map(str::to_owned)
}
