//! The machine a comparison ran on, and the name of its result folder.

use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// Processor, system and date.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Machine {
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
    pub(super) fn read() -> Self {
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
            cores: super::cores(),
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            vector: flags.split_whitespace().filter(known).map(str::to_owned).collect(),
            memory_bytes: kib.map(|kib| kib * 1024),
        }
    }

    /// `<date>-<cpu>`, the processor's name in small letters with dashes.
    pub(super) fn folder(&self) -> String {
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

    /// For the chart's title.
    pub(super) fn title(&self) -> String {
        format!("{}, {}", self.cpu, self.date)
    }
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
    fn folder_is_date_and_processor() {
        let mut machine = Machine::read();
        "2026-11-23".clone_into(&mut machine.date);
        "Intel(R) Xeon(R) Platinum 8581C CPU @ 2.30GHz".clone_into(&mut machine.cpu);
        assert_eq!(machine.folder(), "2026-11-23-intel-xeon-platinum-8581c-2-30ghz");
    }
}
