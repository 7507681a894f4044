//! Which program trains on a device, and the folders of the libraries that it is linked with.
//!
//! The programs for graphics cards are built apart from the CPU's: a machine without NVIDIA's libraries could
//! not even start the one for CUDA.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};
use bench_suite::device::DeviceName;

use crate::machine::driver;
use crate::machine::libraries::{self, DRIVER, Places};
use crate::repo::Repo;

/// How the files of NVIDIA's run-time compiler begin.
const NVRTC: &str = "libnvrtc.so.";

/// The `bench-suite` for a device. The child finds CUDA's libraries by its `LD_LIBRARY_PATH`.
///
/// # Errors
/// If that program is not built, the driver is too old for it, or a library that it needs is nowhere; named with the
/// places looked in.
pub(crate) fn device_program(repo: &Repo, device: DeviceName) -> Result<Command> {
    let device = resolve(repo, device);
    let program = built(repo, device)?;
    let mut command = Command::new(&program);
    command.current_dir(repo.root());
    if matches!(device, DeviceName::Cuda(_)) {
        driver::check(&program, repo)?;
        libraries::tell(&mut command, &program, repo)?;
    }
    Ok(command)
}

/// The file of that program, for a machine that has the libraries.
///
/// # Errors
/// If it is to be built by `setup` and is not.
pub(crate) fn built(repo: &Repo, device: DeviceName) -> Result<PathBuf> {
    let Some(variant) = variant(device) else {
        return Ok(PathBuf::from(repo.binary("bench-suite").get_program()));
    };
    let program = program(repo, variant);
    if !program.is_file() {
        let how = match variant {
            "cuda" => "run `cargo xtask setup --cuda`",
            _ => "on macOS, run `cargo xtask setup --metal`",
        };
        bail!("device {device} needs {}, which is not built: {how}", repo.show(&program));
    }
    Ok(program)
}

/// The device itself where its name is `auto`: `cuda` or `metal` where the program is built and, for CUDA, a driver
/// is there, else `cpu`.
pub(crate) fn resolve(repo: &Repo, device: DeviceName) -> DeviceName {
    let built = |variant| program(repo, variant).is_file();
    match device {
        DeviceName::Auto if built("cuda") && has_driver(repo) => DeviceName::Cuda(0),
        DeviceName::Auto if built("metal") => DeviceName::Metal,
        DeviceName::Auto => DeviceName::Cpu,
        _ => device,
    }
}

/// The program's command once more, for another child.
pub(crate) fn again(command: &Command) -> Command {
    let mut copy = Command::new(command.get_program());
    copy.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => copy.env(name, value),
            None => copy.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        copy.current_dir(dir);
    }
    copy
}

/// Tells a copy of the program for CUDA, which lies elsewhere, where its libraries are.
///
/// # Errors
/// If the driver is too old for it, or a library is nowhere; named with the places looked in.
pub(crate) fn tell_libraries(command: &mut Command, program: &Path, repo: &Repo) -> Result<()> {
    driver::check(program, repo)?;
    libraries::tell(command, program, repo)
}

/// Whether an NVIDIA driver's library is there.
pub(crate) fn has_driver(repo: &Repo) -> bool {
    Places::near(repo).folder_of(DRIVER).is_some()
}

/// NVIDIA's run-time compiler, if it is in any of the places.
pub(crate) fn nvrtc(repo: &Repo) -> Option<PathBuf> {
    let mut places = Places::near(repo);
    places.starting_with(NVRTC).or_else(|| {
        places.add_pythons(repo);
        places.starting_with(NVRTC)
    })
}

/// The `bench-suite` of a feature, `cuda` or `metal`.
pub(crate) fn program(repo: &Repo, variant: &str) -> PathBuf {
    repo.target().join(variant).join("release/bench-suite")
}

/// The feature that a device needs; none for the CPU.
fn variant(device: DeviceName) -> Option<&'static str> {
    matches!(device, DeviceName::Cuda(_) | DeviceName::Metal).then(|| device.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_the_program_of_their_feature() {
        let devices = [DeviceName::Cpu, DeviceName::Cuda(0), DeviceName::Cuda(3), DeviceName::Metal];
        assert_eq!(devices.map(variant), [None, Some("cuda"), Some("cuda"), Some("metal")]);
        let dir = tempfile::tempdir().unwrap();
        let repo = Repo::at(dir.path());
        let cpu = device_program(&repo, DeviceName::Cpu).unwrap();
        assert_eq!(resolve(&repo, DeviceName::Auto), DeviceName::Cpu);
        let error = device_program(&repo, DeviceName::Cuda(1)).unwrap_err().to_string();
        assert!(error.ends_with("cargo xtask setup --cuda`"), "{error}");
        assert_eq!(cpu.get_program(), repo.binary("bench-suite").get_program());
        assert!(program(&repo, "cuda").ends_with("cuda/release/bench-suite"));
    }
}
