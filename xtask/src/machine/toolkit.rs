//! CUDA's toolkit: the one that is installed, else one made of wheels.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::machine::driver::{Driver, numbers};
use crate::machine::libraries::TOOLKIT;
use crate::machine::wheels;
use crate::repo::{self, Repo};

/// Variables by which build scripts find a toolkit; all but the first are taken away, so that they find ours.
const HOMES: [&str; 5] = ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT", "CUDA_TOOLKIT_ROOT_DIR", "CUDNN_LIB"];
/// What the driver's functions return that are in no driver: `CUDA_ERROR_STUB_LIBRARY`.
const STUB_ERROR: u32 = 34;

/// A folder with `bin/nvcc`, headers and libraries.
#[derive(Debug)]
pub(crate) struct Toolkit {
    pub(crate) home: PathBuf,
    /// Such as `13.0`.
    pub(crate) version: String,
}

impl Toolkit {
    fn at(home: &Path) -> Option<Self> {
        let said = repo::output(Command::new(home.join("bin/nvcc")).arg("--version"))?;
        let version = said.split("release ").nth(1)?.split(',').next()?.to_owned();
        Some(Self { home: home.to_owned(), version })
    }

    /// A folder whose nvcc is a stand-in.
    pub(crate) fn stand_in(home: PathBuf) -> Self {
        Self { home, version: String::new() }
    }

    /// Whether it knows all instructions of the kernels: since 12.1 those by which blocks of a cluster send each other numbers.
    fn is_enough(&self) -> bool {
        numbers(&self.version) >= (12, 1)
    }

    /// nvcc's option for the smallest code, which it has since 12.8: a third of the program is kernels.
    pub(crate) fn smallest(&self) -> Option<&'static str> {
        (numbers(&self.version) >= (12, 8)).then_some("--compress-mode=size")
    }

    /// Lets cargo's build scripts see this toolkit and no other.
    pub(crate) fn show_to(&self, cargo: &mut Command) -> Result<()> {
        for name in HOMES {
            cargo.env_remove(name);
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths(std::iter::once(self.home.join("bin")).chain(env::split_paths(&path)));
        let path = path.with_context(|| format!("{} has a colon in its name", self.home.display()))?;
        cargo.env("PATH", path).env("NVCC", self.home.join("bin/nvcc")).env(HOMES[0], &self.home);
        Ok(())
    }
}

/// Toolkits of `CUDA_HOME` or `CUDA_PATH`, of the `nvcc` in the path, of `/usr/local/cuda`, and of the wheels.
fn all(repo: &Repo) -> impl Iterator<Item = Toolkit> {
    let named = HOMES[..2].iter().filter_map(env::var_os).map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path: Vec<_> = env::split_paths(&path).map(|dir| dir.join("nvcc")).collect();
    let in_path = in_path.into_iter().filter_map(|nvcc| {
        let nvcc = nvcc.canonicalize().ok()?;
        nvcc.parent()?.parent().map(Path::to_owned)
    });
    let wheels = wheels::are_there(repo, &wheels::ALL).then(|| repo.path(TOOLKIT));
    let homes = named.chain(in_path).chain(["/usr/local/cuda".into()]).chain(wheels);
    homes.filter_map(|home| Toolkit::at(&home)).filter(Toolkit::is_enough)
}

/// The first toolkit that this machine's driver takes.
pub(crate) fn find(repo: &Repo) -> Option<Toolkit> {
    let driver = Driver::here(repo);
    all(repo).find(|toolkit| driver.as_ref().is_none_or(|driver| driver.takes(&toolkit.version).is_ok()))
}

/// Finds a toolkit or makes one.
///
/// # Errors
/// As [`wheels::install`], without a C compiler, which makes a stand-in for the driver's library, and where the driver is
/// too old for the wheels.
pub(crate) fn ensure(repo: &Repo) -> Result<Toolkit> {
    if let Some(toolkit) = find(repo) {
        eprintln!("CUDA toolkit {} in {}", toolkit.version, repo.show(&toolkit.home));
        return Ok(toolkit);
    }
    for toolkit in all(repo) {
        eprintln!("CUDA toolkit {} in {}: too new for the driver", toolkit.version, repo.show(&toolkit.home));
    }
    if let Some(Err(error)) = Driver::here(repo).map(|driver| driver.takes(wheels::ALL_VERSION)) {
        bail!(
            "{error}, or install the toolkit of a CUDA that it takes and name its folder in CUDA_HOME (NVIDIA's wheels hold \
             a compiler only from CUDA 13 on)"
        );
    }
    eprintln!("no CUDA toolkit in CUDA_HOME, the path or /usr/local/cuda");
    wheels::install(repo, &wheels::ALL, |folder| {
        complete(&folder.join("nvidia/cu13"), &driver_functions(repo)?)
    })?;
    let toolkit = find(repo).context("the toolkit made of wheels does not work: its nvcc does not start")?;
    eprintln!("CUDA toolkit {} made of wheels in {TOOLKIT}", toolkit.version);
    Ok(toolkit)
}

/// What a toolkit has beyond its wheels: `lib64`, library names without a version, and a driver to link with.
fn complete(home: &Path, driver: &BTreeSet<String>) -> Result<()> {
    let lib = home.join("lib");
    link("lib", &home.join("lib64"))?;
    for entry in fs::read_dir(&lib).with_context(|| format!("failed to read {}", lib.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some((stem, version)) = name.split_once(".so.")
            && version.bytes().all(|byte| byte.is_ascii_digit())
        {
            link(&name, &lib.join(format!("{stem}.so")))?;
        }
    }
    fs::create_dir_all(lib.join("stubs"))?;
    stub(driver, &lib.join("stubs/libcuda.so"))
}

fn link(to: &str, at: &Path) -> Result<()> {
    std::os::unix::fs::symlink(to, at).with_context(|| format!("failed to make {}", at.display()))
}

/// The driver's functions that candle's bindings may call, read from their source.
fn driver_functions(repo: &Repo) -> Result<BTreeSet<String>> {
    let mut cargo = repo.cargo();
    cargo.args(["metadata", "--format-version", "1", "--all-features", "--locked", "--filter-platform"]);
    let metadata = repo::output(cargo.arg(format!("{}-unknown-linux-gnu", env::consts::ARCH)));
    let metadata =
        metadata.context("`cargo metadata --all-features --locked` failed: is there a network?")?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let bindings = packages.iter().find(|package| package["name"] == "cudarc");
    let manifest = bindings.and_then(|package| package["manifest_path"].as_str());
    let manifest = manifest.context("candle's bindings of CUDA, cudarc, are not in Cargo.lock")?;
    let source = Path::new(manifest).with_file_name("src/driver/sys/mod.rs");
    let text = fs::read_to_string(&source).with_context(|| format!("failed to read {}", source.display()))?;
    let functions = functions(&text);
    if functions.is_empty() {
        bail!("{} names no function of the driver", source.display());
    }
    Ok(functions)
}

/// Names that begin with `cu` and a capital, after `fn`.
fn functions(source: &str) -> BTreeSet<String> {
    let names = source.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<', ' ']).next());
    let ours = |name: &&str| {
        let rest = name.strip_prefix("cu");
        rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    names.filter(ours).map(str::to_owned).collect()
}

/// A library in the place of the driver's, whose functions only fail. The toolkit's installer brings one too.
fn stub(functions: &BTreeSet<String>, at: &Path) -> Result<()> {
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-x", "c", "-", "-o"]).arg(at);
    let mut child = cc.stdin(Stdio::piped()).spawn().context("failed to start the C compiler, cc")?;
    if let Some(mut stdin) = child.stdin.take() {
        for function in functions {
            writeln!(stdin, "int {function}(void) {{ return {STUB_ERROR}; }}")?;
        }
    }
    if !child.wait()?.success() {
        bail!("cc could not make {}", at.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_the_driver_are_told_from_others() {
        let source = "pub unsafe fn cuInit(Flags: u32) -> CUresult {}\nfn cuInit(Flags: u32);\n\
                      fn culib() {}\nfn cuda() {}\nfn cuMemAlloc_v2<T>()";
        assert_eq!(functions(source).into_iter().collect::<Vec<_>>(), ["cuInit", "cuMemAlloc_v2"]);
    }

    #[test]
    fn old_toolkits_are_not_asked_for_the_smallest_code() {
        let smallest = |version: &str| {
            let toolkit = Toolkit { home: PathBuf::new(), version: version.into() };
            toolkit.smallest().is_some()
        };
        assert_eq!(["11.8", "12.4", "12.8", "13.0"].map(smallest), [false, false, true, true]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_toolkit_is_completed() {
        let dir = tempfile::tempdir().unwrap();
        let lib = dir.path().join("lib");
        fs::create_dir(&lib).unwrap();
        for name in ["libcublas.so.13", "libnvrtc-builtins.so.13.0", "libcudart_static.a"] {
            fs::write(lib.join(name), "").unwrap();
        }
        complete(dir.path(), &["cuInit", "cuLaunchKernel"].map(str::to_owned).into()).unwrap();
        assert!(dir.path().join("lib64/libcublas.so").is_file());
        let stub = fs::read(lib.join("stubs/libcuda.so")).unwrap();
        let has = |name: &[u8]| stub.windows(name.len()).any(|part| part == name);
        assert!(has(b"cuInit") && has(b"cuLaunchKernel") && has(b"libcuda.so.1"));
    }
}
