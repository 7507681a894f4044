//! Which program trains on a device, and the folders of the libraries that it is linked with.
//!
//! The programs for graphics cards are built apart from the CPU's: a machine without NVIDIA's libraries could
//! not even start the one for CUDA.

mod libraries;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use self::libraries::Places;
use crate::repo::Repo;

/// What the NVIDIA driver brings; nothing else may.
const DRIVER: &str = "libcuda.so.1";

/// How the files of NVIDIA's run-time compiler begin.
const NVRTC: &str = "libnvrtc.so.";

/// The `bench-suite` for a device by its name: `cpu`, `cuda`, `cuda:N`, `metal` or `auto`. The child finds CUDA's
/// libraries by its `LD_LIBRARY_PATH`.
///
/// # Errors
/// If that program is not built, or a library that it needs is nowhere; named with the places looked in.
pub(crate) fn device_program(repo: &Repo, device: &str) -> Result<Command> {
    let device = resolve(repo, device);
    let Some(variant) = variant(device) else { return Ok(repo.binary("bench-suite")) };
    let program = program(repo, variant);
    if !program.is_file() {
        let how = match variant {
            "cuda" => "run `cargo xtask setup --cuda`",
            _ => "on macOS, run `cargo xtask setup --metal`",
        };
        bail!("device {device} needs {}, which is not built: {how}", repo.show(&program));
    }
    let mut command = Command::new(&program);
    command.current_dir(repo.root());
    if variant == "cuda" {
        libraries::tell(&mut command, &program, repo)?;
    }
    Ok(command)
}

/// The device itself where its name is `auto`: `cuda` or `metal` where the program is built and, for CUDA, a driver
/// is there, else `cpu`.
pub(crate) fn resolve<'a>(repo: &Repo, device: &'a str) -> &'a str {
    let built = |variant| program(repo, variant).is_file();
    match device {
        "auto" if built("cuda") && has_driver(repo) => "cuda",
        "auto" if built("metal") => "metal",
        "auto" => "cpu",
        _ => device,
    }
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
fn variant(device: &str) -> Option<&'static str> {
    match device.split(':').next() {
        Some("cuda") => Some("cuda"),
        Some("metal") => Some("metal"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_the_program_of_their_feature() {
        assert_eq!(
            ["cpu", "cuda", "cuda:3", "metal"].map(variant),
            [None, Some("cuda"), Some("cuda"), Some("metal")]
        );
        let dir = tempfile::tempdir().unwrap();
        let repo = Repo::at(dir.path());
        let cpu = device_program(&repo, "cpu").unwrap();
        assert_eq!(cpu.get_program(), repo.binary("bench-suite").get_program());
        assert!(program(&repo, "cuda").ends_with("cuda/release/bench-suite"));
    }
}
