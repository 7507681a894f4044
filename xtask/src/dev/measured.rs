//! The machine a measurement ran on, the name of its result folder, and `machine.toml`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bench_suite::files;
use bench_suite::provenance::{Code, Machine, Provenance, date_utc};
use bench_suite::results::{fresh, write_atomic};
use serde::Serialize;

/// The day, and what measures.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Bench {
    /// UTC, `YYYY-MM-DD`.
    date: String,
    /// Vector extensions that matter here, as the system names them.
    vector: Vec<String>,
    /// Code, program and processor.
    provenance: Provenance,
}

impl Bench {
    /// Asks the system; `engine` is the program that measures.
    pub(crate) fn new(root: &Path, engine: &Path) -> Result<Self> {
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
        let program =
            files::digest(engine).with_context(|| format!("{} cannot be read", engine.display()))?;
        Ok(Self {
            date: date_utc(),
            vector: flags.split_whitespace().filter(known).map(str::to_owned).collect(),
            provenance: Code::of(root).on(Machine::here(), Some(program)),
        })
    }

    /// Makes the folder of a measurement: the one given, which must be empty, else a new one
    /// `results/bench/<date>-<cpu>-<verb>`; absolute, since the engine runs in the repository.
    pub(crate) fn folder(&self, root: &Path, verb: &str, out: Option<&Path>) -> Result<PathBuf> {
        let Some(out) = out else {
            let name = format!("{}-{}-{verb}", self.date, self.provenance.machine.slug());
            return fresh(&root.join("results/bench"), &name);
        };
        let out = std::path::absolute(out)?;
        fs::create_dir_all(&out).with_context(|| format!("failed to make {}", out.display()))?;
        let mut there = fs::read_dir(&out).with_context(|| format!("{} cannot be read", out.display()))?;
        if there.next().is_some() {
            bail!("--out {} is not empty: every measurement needs a folder of its own", out.display());
        }
        Ok(out)
    }

    /// Writes `machine.toml`: this, and `section` as `[verb]`.
    pub(crate) fn write(&self, out: &Path, verb: &str, section: &impl Serialize) -> Result<()> {
        let mut file = toml::Table::try_from(self)?;
        file.insert(verb.to_owned(), toml::Value::try_from(section)?);
        write_atomic(&out.join("machine.toml"), toml::to_string(&file)?.as_bytes())
    }

    /// For the chart's title.
    pub(crate) fn title(&self) -> String {
        format!("{}, {}", self.provenance.machine.cpu, self.date)
    }
}

/// Processes that ran or waited for a core in the last minute, on average; none where the system does not say.
pub(crate) fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As measured by a program that any machine has.
    fn bench() -> Bench {
        Bench::new(Path::new(env!("CARGO_MANIFEST_DIR")), &std::env::current_exe().unwrap()).unwrap()
    }

    #[test]
    fn a_second_measurement_of_the_day_keeps_the_first() {
        let root = tempfile::tempdir().unwrap();
        let bench = bench();
        let first = bench.folder(root.path(), "kernels", None).unwrap();
        bench.write(&first, "kernels", &toml::toml! { rounds = 3 }).unwrap();
        let before = fs::read(first.join("machine.toml")).unwrap();
        let second = bench.folder(root.path(), "kernels", None).unwrap();
        bench.write(&second, "kernels", &toml::toml! { rounds = 4 }).unwrap();
        assert_eq!(fs::read(first.join("machine.toml")).unwrap(), before);
        let file: toml::Table =
            toml::from_str(&fs::read_to_string(second.join("machine.toml")).unwrap()).unwrap();
        assert_eq!(file["kernels"]["rounds"].as_integer(), Some(4));
        let cpu = &bench.provenance.machine.cpu;
        assert_eq!(file["provenance"]["machine"]["cpu"].as_str(), Some(cpu.as_str()));
        let name = format!("{}-{}-kernels", bench.date, bench.provenance.machine.slug());
        assert!(first.ends_with(&name) && second.ends_with(format!("{name}-2")));
    }

    #[test]
    fn a_folder_with_something_in_it_is_refused() {
        let out = tempfile::tempdir().unwrap();
        assert!(bench().folder(Path::new("."), "kernels", Some(out.path())).is_ok());
        fs::write(out.path().join("kernels.csv"), "").unwrap();
        let error = bench().folder(Path::new("."), "kernels", Some(out.path())).unwrap_err().to_string();
        assert!(error.contains("is not empty"), "{error}");
    }
}
