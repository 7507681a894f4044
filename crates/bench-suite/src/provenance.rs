//! What computed a number, where and when: commit, processor, versions, program. It names no path and no host.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// What computed a number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Commit of the tree that the program was built from; none outside git.
    pub commit: Option<String>,
    /// Whether the tree differed from the commit.
    pub dirty: bool,
    /// SHA-256 of the program file; none in old records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// For old records, whose cells did not keep this: everything is as of the day the records were
    /// collected.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_collecting: bool,
    /// Where it was computed.
    pub machine: Machine,
    /// Versions of what computed it.
    pub versions: BTreeMap<String, String>,
}

/// The code of a program that was just built from a tree.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Code {
    /// Commit of the tree; none outside git.
    pub commit: Option<String>,
    /// Whether anything but results differs from it.
    pub dirty: bool,
    /// Compiler and libraries.
    pub versions: BTreeMap<String, String>,
}

impl Code {
    /// The code of the tree at `root`.
    pub fn of(root: &Path) -> Self {
        let git = |args: &[&str]| output(Command::new("git").current_dir(root).args(args));
        let changes = git(&["status", "--porcelain", "--", ".", ":(exclude)results"]);
        let mut versions = BTreeMap::from([("tt-rnn".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]);
        if let Some(rustc) = output(Command::new("rustc").current_dir(root).arg("--version")) {
            versions.insert("rustc".to_owned(), rustc.trim_start_matches("rustc ").to_owned());
        }
        let lock = fs::read_to_string(root.join("Cargo.lock")).unwrap_or_default();
        for name in ["candle-core", "ffmpeg-next", "gemm"] {
            versions.extend(locked(&lock, name).map(|version| (name.to_owned(), version)));
        }
        Self {
            commit: git(&["rev-parse", "HEAD"]),
            dirty: changes.is_none_or(|lines| !lines.is_empty()),
            versions,
        }
    }

    /// With the machine and the program that computed something by it.
    pub fn on(self, machine: Machine, program: Option<String>) -> Provenance {
        let Self { commit, dirty, versions } = self;
        Provenance { commit, dirty, program, of_collecting: false, machine, versions }
    }
}

/// A package's version in `Cargo.lock`.
fn locked(lock: &str, name: &str) -> Option<String> {
    let at = lock.split(&format!("name = \"{name}\"\nversion = \"")).nth(1)?;
    Some(at.split('"').next()?.to_owned())
}

/// Where numbers were computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Processor's model name.
    pub cpu: String,
    /// Cores that the system offers to this process.
    pub cores: usize,
    /// Memory of the machine; none if the system does not report it.
    pub memory_bytes: Option<u64>,
    /// Operating system and architecture.
    pub os: String,
}

impl Machine {
    /// This machine.
    pub fn here() -> Self {
        let memory = fs::read_to_string("/proc/meminfo")
            .ok()
            .and_then(|text| field(&text, "MemTotal")?.split_whitespace().next()?.parse::<u64>().ok())
            .map(|kib| kib * 1024)
            .or_else(|| output(Command::new("sysctl").args(["-n", "hw.memsize"]))?.parse().ok());
        let cpu = fs::read_to_string("/proc/cpuinfo")
            .ok()
            .and_then(|text| field(&text, "model name"))
            .or_else(|| output(Command::new("sysctl").args(["-n", "machdep.cpu.brand_string"])))
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

    /// The processor as part of a folder's name: lower-case letters and dashes, without words common to all
    /// names.
    pub fn slug(&self) -> String {
        const NOISE: [&str; 6] = ["", "r", "tm", "cpu", "processor", "with"];
        let name = self.cpu.to_lowercase();
        let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !NOISE.contains(word));
        words.collect::<Vec<_>>().join("-")
    }

    /// One line for people.
    pub fn line(&self) -> String {
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

/// Standard output of a command; none if it is missing or fails.
fn output(command: &mut Command) -> Option<String> {
    let out = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// The current time as `YYYY-MM-DDThh:mm:ssZ`. Such texts sort by time, and the first ten letters are the
/// day.
pub fn now_utc() -> String {
    utc(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()))
}

/// Today as `YYYY-MM-DD`, UTC.
pub fn date_utc() -> String {
    now_utc()[..10].to_owned()
}

/// Seconds since 1970 as a time; the day by Howard Hinnant's algorithm.
pub fn utc(seconds: u64) -> String {
    let z = (seconds / 86_400) as i64 + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + i64::from(month <= 2);
    let s = seconds % 86_400;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", s / 3600, s / 60 % 60, s % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(19_782 * 86_400 + 3_661), "2024-02-29T01:01:01Z");
        assert_eq!(utc(20_453 * 86_400 + 86_399), "2025-12-31T23:59:59Z");
    }

    #[test]
    fn slug_is_a_folder_name() {
        let machine = |cpu: &str| Machine { cpu: cpu.into(), cores: 2, memory_bytes: None, os: "x".into() };
        let intel = machine("Intel(R) Xeon(R) Platinum 8581C CPU @ 2.30GHz");
        assert_eq!(intel.slug(), "intel-xeon-platinum-8581c-2-30ghz");
        assert_eq!(machine("AMD EPYC").slug(), "amd-epyc");
    }

    #[test]
    fn locked_versions_are_read() {
        let lock = "[[package]]\nname = \"gemm-f32\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \"gemm\"\nversion = \"0.19.0\"\n";
        assert_eq!(locked(lock, "gemm").as_deref(), Some("0.19.0"));
        assert_eq!(locked(lock, "candle-core"), None);
    }

    #[test]
    fn code_of_no_repository_has_no_commit() {
        let dir = tempfile::tempdir().unwrap();
        let code = Code::of(dir.path());
        assert_eq!((code.commit, code.dirty), (None, true));
    }
}
