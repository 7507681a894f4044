//! The engine's programs for graphics cards, each in a target folder of its own.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use bench_suite::device::DeviceName;
use bench_suite::files;

use crate::machine::devices;
use crate::machine::driver::{BUILT_WITH, Driver};
use crate::machine::toolkit;
use crate::repo::{self, Repo};
use crate::text;

/// What nvcc appends to every command line.
const NVCC_FLAGS: &str = "NVCC_APPEND_FLAGS";
/// Disk that a build for CUDA takes.
const BUILD_BYTES: u64 = 2_000_000_000;

/// Prepares the toolkit, builds the engine with it, strips it, and sees whether it starts.
pub(crate) fn cuda(repo: &Repo, compute_cap: u32) -> Result<()> {
    let (os, arch) = (env::consts::OS, env::consts::ARCH);
    if os != "linux" || !["x86_64", "aarch64"].contains(&arch) {
        bail!("CUDA is built on Linux, x86_64 or aarch64; this is {os} on {arch}");
    }
    if let Some(driver) = Driver::here(repo) {
        driver.check()?;
    }
    if repo::output(Command::new("c++").arg("--version")).is_none() {
        bail!("nvcc needs a C++ compiler (Debian, Ubuntu: apt-get install g++)");
    }
    let toolkit = toolkit::ensure(repo)?;
    let target = repo.target().join("cuda");
    let free = files::free_bytes(repo.root()).ok();
    if !target.is_dir() && free.is_some_and(|free| free < BUILD_BYTES) {
        let (need, free) = (text::bytes(BUILD_BYTES), text::bytes(free.unwrap_or_default()));
        bail!("the build needs {need} of disk in {}, and only {free} are free", repo.show(&target));
    }
    let mut cargo = engine(repo, "cuda");
    toolkit.show_to(&mut cargo)?;
    cargo.env("CUDA_COMPUTE_CAP", compute_cap.to_string());
    if let Some(option) = toolkit.smallest() {
        let given = env::var(NVCC_FLAGS).unwrap_or_default();
        cargo.env(NVCC_FLAGS, format!("{given} {option}").trim_start());
    }
    eprintln!(
        "building bench-suite with CUDA (the first time, candle's kernels take nvcc 13 minutes of processor time)"
    );
    timed(&mut cargo)?;
    finish(repo, "cuda")?;
    files::write(&devices::program(repo, "cuda").with_file_name(BUILT_WITH), toolkit.version.as_bytes())?;
    if devices::has_driver(repo) {
        return starts(devices::device_program(repo, DeviceName::Cuda(0))?, "it starts");
    }
    // Without a driver the program cannot even say how it is used: a driver that only fails is lent to it.
    let lent = target.join("no-driver");
    fs::create_dir_all(&lent)?;
    let stub = ["lib64/stubs", "lib/stubs"].map(|dir| toolkit.home.join(dir).join("libcuda.so"));
    let Some(stub) = stub.iter().find(|stub| stub.exists()) else { return Ok(()) };
    replace_link(stub, &lent.join("libcuda.so.1"))?;
    let mut program = Command::new(devices::program(repo, "cuda"));
    program.env("LD_LIBRARY_PATH", env::join_paths([toolkit.home.join("lib64"), lent])?);
    starts(program, "no NVIDIA driver is installed; with a stand-in for it, the program starts")
}

/// Builds the engine for Metal.
pub(crate) fn metal(repo: &Repo) -> Result<()> {
    if !cfg!(target_os = "macos") {
        bail!("Metal is built on macOS; this is {}", env::consts::OS);
    }
    eprintln!("building bench-suite with Metal");
    timed(&mut engine(repo, "metal"))?;
    finish(repo, "metal")?;
    starts(devices::device_program(repo, DeviceName::Metal)?, "it starts")
}

/// The command that builds the engine with a feature, stripped: what a machine without network is given.
fn engine(repo: &Repo, feature: &str) -> Command {
    let mut cargo = repo.cargo();
    cargo.args([
        "rustc",
        "--release",
        "--package",
        "bench-suite",
        "--bin",
        "bench-suite",
        "--features",
        feature,
    ]);
    cargo.arg("--target-dir").arg(repo.target().join(feature)).args(["--", "-C", "strip=symbols"]);
    cargo
}

fn timed(cargo: &mut Command) -> Result<()> {
    let start = Instant::now();
    repo::run(cargo)?;
    eprintln!("built in {}", text::seconds(start.elapsed().as_secs_f64()));
    Ok(())
}

/// Puts the decoder beside the program, where it looks for it, and says how large the program is.
fn finish(repo: &Repo, feature: &str) -> Result<()> {
    let program = devices::program(repo, feature);
    // Built without CUDA, and perhaps later: the link may lead nowhere yet.
    replace_link(Path::new("../../release/video-worker"), &program.with_file_name("video-worker"))?;
    eprintln!("{} ({})", repo.show(&program), text::bytes(fs::metadata(&program)?.len()));
    Ok(())
}

fn replace_link(to: &Path, at: &Path) -> Result<()> {
    // Usually there is no old link; any other failure shows when the new one is made.
    let _ = fs::remove_file(at);
    std::os::unix::fs::symlink(to, at).with_context(|| format!("failed to make {}", at.display()))
}

fn starts(mut program: Command, fine: &str) -> Result<()> {
    let out = program.arg("--help").stdin(Stdio::null()).output();
    let out = out.with_context(|| format!("failed to start {}", repo::line(&program)))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
        bail!("{} was built but does not start ({}): {said}", repo::line(&program), out.status);
    }
    eprintln!("{fine}");
    Ok(())
}
