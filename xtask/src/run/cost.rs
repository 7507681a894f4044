//! What a run will take, said before it starts and compared with the memory that there is.

use std::cmp::Reverse;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use bench_suite::device::DeviceName;
use bench_suite::provenance::Machine;
use bench_suite::record::{Plan, PlannedCell};
use bench_suite::results::cells::is_done;

use crate::text::{bytes, seconds};

/// Expected time and memory of cells, as many at a time as are wanted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cost {
    /// Cells in all.
    pub(crate) cells: usize,
    /// Cells at a time.
    jobs: usize,
    /// Seconds of all of them: cells that run together share the cores.
    pub(crate) seconds: f64,
    /// Memory of the largest that can run together.
    pub(crate) bytes: u64,
    /// Memory of the largest.
    largest: u64,
}

impl Cost {
    /// What these cells take, `jobs` at a time.
    pub(crate) fn of<'a>(cells: impl IntoIterator<Item = &'a PlannedCell>, jobs: usize) -> Self {
        let cells: Vec<&PlannedCell> = cells.into_iter().collect();
        let mut memory: Vec<u64> = cells.iter().map(|cell| cell.expected_rss_bytes).collect();
        memory.sort_unstable_by_key(|bytes| Reverse(*bytes));
        Self {
            cells: cells.len(),
            jobs,
            seconds: cells.iter().map(|cell| cell.expected_s).sum(),
            bytes: memory.iter().take(jobs).sum(),
            largest: memory.first().copied().unwrap_or_default(),
        }
    }
}

/// Says what the cells of a plan that are not finished will take.
///
/// # Errors
/// When they need more memory than this machine has, unless `force`. Memory of a graphics card is not foreseen.
pub(crate) fn check(plan: &Plan, run_dir: &Path, jobs: usize, force: bool) -> Result<String> {
    let left = Cost::of(plan.cells.iter().filter(|cell| !is_done(run_dir, cell)), jobs);
    let memory = (plan.device == DeviceName::Cpu).then(|| memory(Path::new("/"))).flatten();
    verdict(&left, memory, force)
}

fn verdict(left: &Cost, memory: Option<u64>, force: bool) -> Result<String> {
    let Cost { cells, jobs, seconds: s, bytes: wanted, largest } = *left;
    let have = memory.map_or_else(String::new, |has| format!(" of {}", bytes(has)));
    let line = format!(
        "{cells} cells to train, {jobs} at a time, cheapest first: expected time {}, memory {}{have}",
        seconds(s),
        bytes(wanted)
    );
    match memory {
        Some(has) if wanted > has && !force => bail!(
            "{line}: that is more than there is. The largest cell takes about {}; run fewer at a time (--jobs), make \
             batches smaller (--set train.batch=N), or start anyway with --force",
            bytes(largest)
        ),
        _ => Ok(line),
    }
}

/// Bytes that processes here may use: the machine's, or less where a control group above this process says so; none
/// where the system does not tell.
fn memory(root: &Path) -> Option<u64> {
    let limits = limits(root);
    Machine::here().memory_bytes.into_iter().chain(limits).min()
}

/// Limits of the control groups, version 1 and 2, that this process is in. A container sees its own group as the top
/// of the tree, whatever name the group has outside.
fn limits(root: &Path) -> Vec<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut files: Vec<PathBuf> = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
        let (top, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            list if list.split(',').any(|name| name == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let group = Path::new(group.trim_start_matches('/'));
        files.extend(group.ancestors().map(|group| root.join(top).join(group).join(file)));
    }
    // `max` is no number and no limit.
    files.iter().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::planned_cell;

    #[test]
    fn the_largest_cells_that_can_meet_count() {
        let mut cells = [planned_cell("tt-gru", 0), planned_cell("gru", 0), planned_cell("lstm", 0)];
        for (cell, (bytes, s)) in cells.iter_mut().zip([(1_000, 5.0), (30_000, 60.0), (20_000, 70.0)]) {
            cell.expected_rss_bytes = bytes;
            cell.expected_s = s;
        }
        let one = Cost::of(&cells, 1);
        assert_eq!((one.bytes, one.largest, one.seconds), (30_000, 30_000, 135.0));
        assert_eq!(Cost::of(&cells, 2).bytes, 50_000);
        assert_eq!(Cost::of(&cells, 9).bytes, 51_000);
    }

    #[test]
    fn too_much_memory_is_refused_with_the_numbers() {
        let mut cell = planned_cell("gru", 0);
        cell.expected_rss_bytes = 16_000_000_000;
        cell.expected_s = 7_500.0;
        let two = Cost::of([&cell, &cell], 2);
        let fits = verdict(&two, Some(32_000_000_000), false).unwrap();
        assert_eq!(
            fits,
            "2 cells to train, 2 at a time, cheapest first: expected time 4 h 10 min, memory 32.0 GB of 32.0 GB"
        );
        let error = verdict(&two, Some(31_900_000_000), false).unwrap_err().to_string();
        for word in [
            "memory 32.0 GB of 31.9 GB: that is more",
            "largest cell takes about 16.0 GB",
            "--jobs",
            "--force",
        ] {
            assert!(error.contains(word), "{error}");
        }
        assert!(verdict(&two, Some(31_900_000_000), true).is_ok());
        assert!(verdict(&two, None, false).unwrap().ends_with("memory 32.0 GB"));
    }

    #[test]
    fn the_tightest_control_group_limits() {
        let write = |root: &Path, path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let dir = tempfile::tempdir().unwrap();
        assert!(limits(dir.path()).is_empty());
        write(dir.path(), "proc/self/cgroup", "0::/user/job\n");
        write(dir.path(), "sys/fs/cgroup/user/job/memory.max", "max\n");
        write(dir.path(), "sys/fs/cgroup/user/memory.max", "4096\n");
        write(dir.path(), "sys/fs/cgroup/memory.max", "8192\n");
        assert_eq!(limits(dir.path()), [4096, 8192]);
        assert_eq!(memory(dir.path()), Some(4096));
        let old = tempfile::tempdir().unwrap();
        write(old.path(), "proc/self/cgroup", "5:cpu,memory:/outside\n4:pids:/outside\n");
        write(old.path(), "sys/fs/cgroup/memory/memory.limit_in_bytes", "2048\n");
        assert_eq!(limits(old.path()), [2048]);
    }
}
