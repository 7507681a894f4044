//! NVIDIA's driver: its version, and the newest CUDA that it takes.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use crate::machine::libraries::{self, DRIVER, Places};
use crate::repo::Repo;

/// The branches before CUDA 13, with the newest CUDA of each: a driver compiles candle's kernels from text, and refuses that
/// of a newer compiler. CUDA 12.0 has no instruction for what blocks of a cluster send each other.
const BRANCHES: [(u32, (u32, u32)); 9] = [
    (530, (12, 1)),
    (535, (12, 2)),
    (545, (12, 3)),
    (550, (12, 4)),
    (555, (12, 5)),
    (560, (12, 6)),
    (565, (12, 7)),
    (570, (12, 8)),
    (575, (12, 9)),
];
/// The first branch that takes CUDA 13.
const CUDA_13: u32 = 580;
/// The file beside a program that says which CUDA it was built with.
pub(crate) const BUILT_WITH: &str = "cuda-version";

/// The driver of this machine.
#[derive(Debug)]
pub(crate) struct Driver {
    branch: u32,
    version: String,
}

impl Driver {
    /// The driver by the name of its library, such as `libcuda.so.580.65.06`, else by what its module says; none where
    /// there is none or neither tells.
    pub(crate) fn here(repo: &Repo) -> Option<Self> {
        let library = Places::near(repo).folder_of(DRIVER).map(|folder| folder.join(DRIVER));
        let file = library.and_then(|library| library.canonicalize().ok());
        let name = file.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        let of_library = name.and_then(|name| Self::parse(name.strip_prefix("libcuda.so.")?));
        of_library.or_else(|| Self::parse(&fs::read_to_string("/proc/driver/nvidia/version").ok()?))
    }

    /// The first word that is a version.
    fn parse(text: &str) -> Option<Self> {
        text.split_whitespace().find_map(|word| {
            let (branch, rest) = word.split_once('.')?;
            let digits = rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            let branch = branch.parse().ok().filter(|_| digits)?;
            Some(Self { branch, version: word.to_owned() })
        })
    }

    /// Refuses a driver that takes no CUDA that the engine can be built with.
    pub(crate) fn check(&self) -> Result<()> {
        if self.branch < BRANCHES[0].0 {
            let Self { version, .. } = self;
            let (least, branch) = (CUDA_13, BRANCHES[0].0);
            bail!(
                "NVIDIA's driver {version} is too old: CUDA 13 needs {least} or later, CUDA 12 {branch} or later; \
                 update the driver"
            );
        }
        Ok(())
    }

    /// Refuses a version of CUDA, such as `13.0`, that is newer than this driver takes.
    pub(crate) fn takes(&self, cuda: &str) -> Result<()> {
        self.check()?;
        let asked = numbers(cuda);
        let newest = BRANCHES.iter().rev().find(|(branch, _)| *branch <= self.branch);
        if let Some((_, (major, minor))) = newest.filter(|_| self.branch < CUDA_13)
            && asked > (*major, *minor)
        {
            let Self { version, .. } = self;
            bail!(
                "NVIDIA's driver {version} takes CUDA up to {major}.{minor}, not {cuda}: update it to {CUDA_13} or later"
            );
        }
        Ok(())
    }
}

/// The first two numbers of a version of CUDA, 0 where there is none.
pub(crate) fn numbers(cuda: &str) -> (u32, u32) {
    let mut numbers = cuda.split('.').map(|part| part.parse().unwrap_or_default());
    (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default())
}

/// Refuses a program that was built with a newer CUDA than this machine's driver takes.
pub(crate) fn check(program: &Path, repo: &Repo) -> Result<()> {
    let Some(driver) = Driver::here(repo) else { return Ok(()) };
    let built_with = if let Ok(version) = fs::read_to_string(program.with_file_name(BUILT_WITH)) {
        Some(version)
    } else {
        // Built by other means: the libraries say the first number.
        let libraries = libraries::needed(program)?;
        libraries.iter().find_map(|name| Some(format!("{}.0", name.strip_prefix("libcublas.so.")?)))
    };
    let Some(Err(error)) = built_with.map(|version| driver.takes(&version)) else { return driver.check() };
    let program = repo.show(program);
    bail!(
        "{error}; {program} is built with CUDA, and `cargo xtask setup --cuda` builds it with one for this driver"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let module = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\nGCC version: 12";
        let driver = Driver::parse(module).unwrap();
        assert_eq!((driver.branch, &*driver.version), (580, "580.65.06"));
        assert_eq!(Driver::parse("550.54.15").unwrap().branch, 550);
        assert!(Driver::parse("1").is_none() && Driver::parse("NVIDIA x86_64 1.x").is_none());
    }

    #[test]
    fn a_driver_takes_no_newer_cuda() {
        let takes = |driver: &str, cuda: &str| Driver::parse(driver).unwrap().takes(cuda).is_ok();
        assert!(takes("580.65.06", "13.0") && takes("590.10", "13.2") && takes("580.65.06", "12.4"));
        assert!(takes("550.54.15", "12.4") && takes("553.1", "12.1") && takes("579.9", "12.9"));
        assert!(!takes("550.54.15", "12.5") && !takes("579.9", "13.0") && !takes("530.30.02", "12.2"));
        let error = |driver: &str| Driver::parse(driver).unwrap().takes("13.0").unwrap_err().to_string();
        assert_eq!(
            error("550.54.15"),
            "NVIDIA's driver 550.54.15 takes CUDA up to 12.4, not 13.0: update it to 580 or later"
        );
        assert!(error("525.60.13").contains("is too old: CUDA 13 needs 580 or later, CUDA 12 530 or later"));
    }
}
