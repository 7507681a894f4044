//! The machine, the versions and the commit behind a number; nothing that names a path or a host.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::repo::{self, Repo};

/// Where numbers were measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Machine {
    /// Processor's model name.
    pub(crate) cpu: String,
    /// Cores that the system offers to this process.
    pub(crate) cores: usize,
    /// Memory of the machine; none where the system does not tell.
    pub(crate) memory_bytes: Option<u64>,
    /// Operating system and architecture.
    pub(crate) os: String,
}

impl Machine {
    /// This machine.
    pub(crate) fn here() -> Self {
        let memory = fs::read_to_string("/proc/meminfo")
            .ok()
            .and_then(|text| field(&text, "MemTotal")?.split_whitespace().next()?.parse::<u64>().ok())
            .map(|kib| kib * 1024)
            .or_else(|| repo::output(Command::new("sysctl").args(["-n", "hw.memsize"]))?.parse().ok());
        let cpu = fs::read_to_string("/proc/cpuinfo")
            .ok()
            .and_then(|text| field(&text, "model name"))
            .or_else(|| repo::output(Command::new("sysctl").args(["-n", "machdep.cpu.brand_string"])))
            .unwrap_or_else(|| "unknown processor".into());
        let os = fs::read_to_string("/etc/os-release")
            .ok()
            .and_then(|text| {
                Some(text.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="))?.trim_matches('"').to_owned())
            })
            .unwrap_or_else(|| std::env::consts::OS.into());
        Self {
            cpu: cpu.split_whitespace().collect::<Vec<_>>().join(" "),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_bytes: memory,
            os: format!("{os}, {}", std::env::consts::ARCH),
        }
    }

    /// The processor as a part of a folder's name.
    pub(crate) fn slug(&self) -> String {
        let words: String = self
            .cpu
            .to_lowercase()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        words.split('-').filter(|w| !w.is_empty()).collect::<Vec<_>>().join("-")
    }

    /// One line for people.
    pub(crate) fn line(&self) -> String {
        let memory = self
            .memory_bytes
            .map_or_else(String::new, |b| format!(", {:.0} GiB", b as f64 / 1_073_741_824.0));
        format!("{}, {} cores{memory}, {}", self.cpu, self.cores, self.os)
    }
}

fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|l| l.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Commit of the tree, and whether anything but results differs from it.
pub(crate) fn commit(repo: &Repo) -> (Option<String>, bool) {
    let git = |args: &[&str]| repo::output(Command::new("git").current_dir(repo.root()).args(args));
    let dirty = git(&["status", "--porcelain", "--", ".", ":(exclude)results"]);
    (git(&["rev-parse", "HEAD"]), dirty.is_none_or(|lines| !lines.is_empty()))
}

/// Versions of what computes the numbers.
pub(crate) fn versions(repo: &Repo) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    versions.insert("tt-rnn".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    if let Some(rustc) = repo::output(Command::new("rustc").current_dir(repo.root()).arg("--version")) {
        versions.insert("rustc".to_owned(), rustc.trim_start_matches("rustc ").to_owned());
    }
    let lock = fs::read_to_string(repo.path("Cargo.lock")).unwrap_or_default();
    for name in ["candle-core", "ffmpeg-next", "gemm"] {
        if let Some(version) = locked(&lock, name) {
            versions.insert(name.to_owned(), version);
        }
    }
    for library in ["libavcodec", "libavformat", "libswscale"] {
        if let Some(version) = repo::output(Command::new("pkg-config").args(["--modversion", library])) {
            versions.insert(library.to_owned(), version);
        }
    }
    versions
}

/// A package's version in `Cargo.lock`.
fn locked(lock: &str, name: &str) -> Option<String> {
    let at = lock.split(&format!("name = \"{name}\"\nversion = \"")).nth(1)?;
    Some(at.split('"').next()?.to_owned())
}

/// Today as `YYYY-MM-DD`, UTC.
pub(crate) fn date_utc() -> String {
    let s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    civil((s / 86_400) as i64)
}

/// Days since 1970-01-01 as a date (Howard Hinnant's algorithm).
fn civil(days: i64) -> String {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    format!("{:04}-{month:02}-{day:02}", yoe + era * 400 + i64::from(month <= 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(civil(0), "1970-01-01");
        assert_eq!(civil(19_782), "2024-02-29");
        assert_eq!(civil(20_453), "2025-12-31");
    }

    #[test]
    fn slug_is_a_folder_name() {
        let cpu = "Intel(R) Xeon(R) CPU @ 2.30GHz".into();
        let machine = Machine { cpu, cores: 2, memory_bytes: None, os: "x".into() };
        assert_eq!(machine.slug(), "intel-r-xeon-r-cpu-2-30ghz");
    }

    #[test]
    fn locked_versions_are_read() {
        let lock = "[[package]]\nname = \"gemm-f32\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \"gemm\"\nversion = \"0.19.0\"\n";
        assert_eq!(locked(lock, "gemm").as_deref(), Some("0.19.0"));
        assert_eq!(locked(lock, "candle-core"), None);
    }
}
