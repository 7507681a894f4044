//! The machine a measurement ran on, the name of its result folder, and `machine.toml`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::Serialize;

/// Processor, system and date.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    /// UTC, `YYYY-MM-DD`.
    date: String,
    cpu: String,
    cores: usize,
    os: &'static str,
    arch: &'static str,
    /// Vector extensions that matter here, as the system names them.
    vector: Vec<String>,
    /// Total memory, if the system says.
    memory_bytes: Option<u64>,
}

impl Machine {
    /// Asks the system.
    pub(crate) fn read() -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let line = |key: &str| {
            let found = info.lines().find(|line| line.starts_with(key));
            found.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
        };
        let flags = line("flags").or_else(|| line("Features")).unwrap_or_default();
        let known = |flag: &&str| {
            ["avx2", "fma", "asimd", "sve"].contains(flag)
                || flag.starts_with("avx512")
                || flag.starts_with("amx")
        };
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let kib = total.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
        Self {
            date: today(),
            cpu: line("model name").or_else(sysctl).unwrap_or_else(|| "unknown cpu".to_owned()),
            cores: thread::available_parallelism().map_or(1, Into::into),
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            vector: flags.split_whitespace().filter(known).map(str::to_owned).collect(),
            memory_bytes: kib.map(|kib| kib * 1024),
        }
    }

    /// `<date>-<cpu>`, the processor's name in small letters with dashes.
    pub(crate) fn folder(&self) -> String {
        let mut slug = String::new();
        for word in self.cpu.to_lowercase().split(|c: char| !c.is_ascii_alphanumeric()) {
            let noise = ["", "r", "tm", "cpu", "processor", "with"].contains(&word);
            if !noise {
                slug += "-";
                slug += word;
            }
        }
        self.date.clone() + &slug
    }

    /// Writes `machine.toml`: this machine, and `section` as `[verb]`; what the other verb wrote stays.
    pub(crate) fn write(&self, out: &Path, verb: &str, section: &impl Serialize) -> Result<()> {
        let path = out.join("machine.toml");
        let old = fs::read_to_string(&path).unwrap_or_default();
        let mut file: toml::Table = toml::from_str(&old).unwrap_or_default();
        file.insert("machine".to_owned(), toml::Value::try_from(self)?);
        file.insert(verb.to_owned(), toml::Value::try_from(section)?);
        fs::write(&path, toml::to_string(&file)?)
            .with_context(|| format!("failed to write {}", path.display()))
    }

    /// For the chart's title.
    pub(crate) fn title(&self) -> String {
        format!("{}, {}", self.cpu, self.date)
    }
}

/// Processes that ran or waited for a core in the last minute, on average; none where the system does not say.
pub(crate) fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

/// macOS has no /proc.
fn sysctl() -> Option<String> {
    let output = Command::new("sysctl").args(["-n", "machdep.cpu.brand_string"]).output().ok()?;
    let name = String::from_utf8(output.stdout).ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// Today in UTC.
fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    date(seconds / 86_400)
}

/// `YYYY-MM-DD` of a day counted from 1970-01-01, by the proleptic Gregorian calendar: years begin in March,
/// so that the leap day is the last of its year.
fn date(days: u64) -> String {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(11_016), "2000-02-29");
        assert_eq!(date(20_780), "2026-11-23");
    }

    #[test]
    fn each_verb_keeps_the_others_section() {
        let out = tempfile::tempdir().unwrap();
        let machine = Machine::read();
        machine.write(out.path(), "kernels", &toml::toml! { rounds = 3 }).unwrap();
        machine.write(out.path(), "peers", &toml::toml! { rounds = 5 }).unwrap();
        machine.write(out.path(), "kernels", &toml::toml! { rounds = 4 }).unwrap();
        let file: toml::Table =
            toml::from_str(&fs::read_to_string(out.path().join("machine.toml")).unwrap()).unwrap();
        assert_eq!(file["kernels"]["rounds"].as_integer(), Some(4));
        assert_eq!(file["peers"]["rounds"].as_integer(), Some(5));
        assert_eq!(file["machine"]["cpu"].as_str(), Some(machine.cpu.as_str()));
    }

    #[test]
    fn folder_is_date_and_processor() {
        let mut machine = Machine::read();
        "2026-11-23".clone_into(&mut machine.date);
        "Intel(R) Xeon(R) Platinum 8581C CPU @ 2.30GHz".clone_into(&mut machine.cpu);
        assert_eq!(machine.folder(), "2026-11-23-intel-xeon-platinum-8581c-2-30ghz");
    }
}
