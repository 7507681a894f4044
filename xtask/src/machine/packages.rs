//! System packages, those of FFmpeg's bindings and Slurm: checked, installed where allowed, else named.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::cli::flags::Install;
use crate::repo;

/// FFmpeg's libraries as pkg-config knows them.
const LIBRARIES: [&str; 5] = ["libavcodec", "libavformat", "libavutil", "libswresample", "libswscale"];

/// The exact line for each package manager.
const LINES: &str = "  Debian, Ubuntu:  sudo apt-get install -y pkg-config libclang-dev libavcodec-dev libavformat-dev libavutil-dev libswresample-dev libswscale-dev
  Fedora:          sudo dnf install -y pkgconf-pkg-config clang-devel libavcodec-free-devel libavformat-free-devel libavutil-free-devel libswresample-free-devel libswscale-free-devel
  Arch:            sudo pacman -S --needed pkgconf clang ffmpeg
  macOS:           brew install pkg-config llvm ffmpeg";

/// Makes sure that FFmpeg's development packages are there.
///
/// # Errors
/// When something is missing and may not be installed, or cannot by apt-get as root or with `sudo -n`.
pub(crate) fn ensure(allowed: Install) -> Result<()> {
    let still = if allowed.install { install(missing) } else { missing() };
    match (still.is_empty(), allowed.install) {
        (true, _) => Ok(()),
        (false, true) => bail!("{}", complaint(&still)),
        (false, false) => {
            bail!("{}\n  or give --install   (Debian, Ubuntu; as root or with sudo)", complaint(&still))
        }
    }
}

/// Fails where FFmpeg's development packages are missing, and installs nothing.
///
/// # Errors
/// As it says.
pub(crate) fn require() -> Result<()> {
    let missing = missing();
    if missing.is_empty() { Ok(()) } else { bail!("{}", complaint(&missing)) }
}

/// Makes sure that Slurm's programs are there, daemons included.
///
/// # Errors
/// As [`ensure`].
pub(crate) fn ensure_slurm(allowed: Install) -> Result<()> {
    let missing = || {
        let programs = [("slurmctld", "slurmctld"), ("slurmd", "slurmd"), ("sbatch", "slurm-client")];
        // Where daemons are, which is not in everybody's path.
        let find = |program: &str| format!("PATH=\"$PATH:/usr/sbin\" command -v {program}");
        let works = |program: &str| repo::output(Command::new("sh").args(["-c", &find(program)])).is_some();
        programs.iter().filter(|(program, _)| !works(program)).map(|(_, package)| *package).collect()
    };
    let still: Vec<&str> = if allowed.install { install(missing) } else { missing() };
    if still.is_empty() {
        return Ok(());
    }
    bail!("Slurm is not installed: apt-get install {}, or give --install", still.join(" "))
}

/// Installs what is missing, where that is possible, and returns what still is.
fn install(missing: impl Fn() -> Vec<&'static str>) -> Vec<&'static str> {
    let before = missing();
    if before.is_empty() {
        return before;
    }
    let names = before.join(" ");
    let Some(mut apt) = apt_get() else { return before };
    eprintln!("missing system packages: {names}; installing them with apt-get");
    let mut install = || -> Result<()> {
        repo::run(apt(&["update", "-q"]).stdout(Stdio::null()))?;
        let mut words = vec!["install", "-y", "-q", "--no-install-recommends"];
        words.extend(&before);
        repo::run(apt(&words).stdout(Stdio::null()))
    };
    if let Err(error) = install() {
        eprintln!("apt-get could not install them: {error:#}");
    }
    let still = missing();
    if still.is_empty() {
        eprintln!("installed {names}");
    }
    still
}

fn complaint(missing: &[&str]) -> String {
    format!(
        "FFmpeg's development packages are missing ({}); install them with the line for your system, then \
         run the same command again\n{LINES}",
        missing.join(" ")
    )
}

/// Debian names of what is missing of FFmpeg's.
pub(crate) fn missing() -> Vec<&'static str> {
    let works = |command: &mut Command| {
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
    };
    let mut missing = Vec::new();
    if !works(Command::new("pkg-config").arg("--version")) {
        missing.push("pkg-config");
    }
    if !has_libclang() {
        missing.push("libclang-dev");
    }
    for library in LIBRARIES {
        if !works(Command::new("pkg-config").args(["--exists", library])) {
            missing.push(match library {
                "libavcodec" => "libavcodec-dev",
                "libavformat" => "libavformat-dev",
                "libavutil" => "libavutil-dev",
                "libswresample" => "libswresample-dev",
                _ => "libswscale-dev",
            });
        }
    }
    missing
}

/// Whether bindgen will find libclang: `LIBCLANG_PATH`, the usual library folders, or an LLVM below them.
fn has_libclang() -> bool {
    if std::env::var_os("LIBCLANG_PATH").is_some() {
        return true;
    }
    let roots = [
        "/usr/lib",
        "/usr/lib64",
        "/usr/local/lib",
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/opt/homebrew/opt/llvm/lib",
        "/usr/local/opt/llvm/lib",
        "/Library/Developer/CommandLineTools/usr/lib",
        "/Applications/Xcode.app/Contents/Developer/Toolchains/XcodeDefault.xctoolchain/usr/lib",
    ];
    roots.iter().any(|root| {
        let root = Path::new(root);
        let llvm = entries(root)
            .into_iter()
            .filter(|name| name.starts_with("llvm"))
            .map(|n| root.join(n).join("lib"));
        std::iter::once(root.to_owned())
            .chain(llvm)
            .any(|dir| entries(&dir).iter().any(|name| is_libclang(name)))
    })
}

/// Compilers' C++ interface lies beside it under a similar name, and bindgen has no use for that.
fn is_libclang(name: &str) -> bool {
    name.starts_with("libclang.") || (name.starts_with("libclang-") && !name.starts_with("libclang-cpp"))
}

fn entries(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

/// `apt-get` as root or through `sudo -n`; none where neither is possible.
fn apt_get() -> Option<impl FnMut(&[&str]) -> Command> {
    repo::output(Command::new("apt-get").arg("--version"))?;
    let root = repo::output(Command::new("id").arg("-u"))? == "0";
    if !root {
        repo::output(Command::new("sudo").args(["-n", "true"]))?;
    }
    Some(move |words: &[&str]| {
        let mut command = Command::new(if root { "apt-get" } else { "sudo" });
        if !root {
            command.args(["-n", "apt-get"]);
        }
        command.args(words).env("DEBIAN_FRONTEND", "noninteractive");
        command
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libclang_is_told_from_its_neighbours() {
        assert!(is_libclang("libclang.so") && is_libclang("libclang-14.so.14.0.6"));
        assert!(!is_libclang("libclang-cpp.so.14") && !is_libclang("libclangBasic.a"));
    }

    #[test]
    fn complaint_has_a_line_for_every_package_manager() {
        insta::assert_snapshot!(complaint(&["pkg-config", "libavcodec-dev"]));
    }
}
