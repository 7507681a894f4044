//! Slurm: arrays of cells and a report after them.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use bench_suite::device::DeviceName;
use bench_suite::files;
use bench_suite::provenance::date_utc;
use bench_suite::record::{CellRecord, Plan, PlannedCell, cell_folder};
use bench_suite::results::cells::{is_done, is_final};
use bench_suite::results::{read_json, read_lines, write_lines};
use serde::{Deserialize, Serialize};

use crate::cli::runs::Batch;
use crate::machine::devices;
use crate::machine::driver::BUILT_WITH;
use crate::repo::{self, Repo};
use crate::run::cluster::plan;

/// Memory of a job is a multiple of this, so that models of like size share an array.
const GIB: u64 = 1 << 30;
/// Seconds before the time limit at which a task is told to leave.
const NOTICE_S: usize = 60;
/// Largest index of an array where the cluster does not say, plus one: Slurm's default.
const MAX_ARRAY: usize = 1001;

/// A line of `slurm/submissions.jsonl` in a run's folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Submission {
    pub(crate) date: String,
    pub(crate) arrays: Vec<Array>,
    /// Job that collects the tables.
    pub(crate) report: String,
}

/// Cells of one submitted array.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Array {
    pub(crate) job: String,
    /// Line of `plan.jsonl` of index 0.
    pub(crate) base: usize,
    /// Indices in the array.
    pub(crate) tasks: Vec<usize>,
    pub(crate) memory_gib: u64,
}

/// A cell in Slurm's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Queued {
    /// `PENDING`, `RUNNING`, `COMPLETING`, …
    pub(crate) state: String,
    /// Its node, or in parentheses what it waits for.
    pub(crate) place: String,
    /// `123_4`.
    pub(crate) job: String,
}

/// Refuses a machine without Slurm's commands, before anything is decoded.
pub(crate) fn check() -> Result<()> {
    match Command::new("sbatch").arg("--version").output() {
        Ok(_) => Ok(()),
        Err(error) => bail!("--on slurm: sbatch cannot be started ({error}): is this a node of the cluster?"),
    }
}

/// Submits the cells of a plan that are neither finished nor queued, and a job that collects the tables; leaves at
/// once. Whether there is something to wait for: where all cells are finished, nothing is submitted.
pub(crate) fn submit(
    repo: &Repo,
    dir: &Path,
    plan: &Plan,
    batch: &Batch,
    out: Option<&Path>,
) -> Result<bool> {
    let wanted = plan::keep(dir, plan)?;
    let slurm = dir.join("slurm");
    fs::create_dir_all(slurm.join("logs")).with_context(|| format!("{} cannot be made", slurm.display()))?;
    // Two submissions at once: the second sees what the first has queued.
    let lock = slurm.join("lock");
    let held = File::create(&lock).and_then(|file| file.lock().map(|()| file));
    let _held = held.with_context(|| format!("{} cannot be locked", lock.display()))?;
    let queued = queue(dir)?;
    let cells = plan::read(dir)?;
    let missing: Vec<usize> = wanted.into_iter().filter(|at| !is_done(dir, &cells[*at])).collect();
    let (waiting, new): (Vec<usize>, Vec<usize>) =
        missing.into_iter().partition(|at| queued.contains_key(at));
    let done = plan.cells.len() - waiting.len() - new.len();
    eprintln!(
        "{} cells: {done} finished, {} in the queue, {} to submit",
        plan.cells.len(),
        waiting.len(),
        new.len()
    );
    if waiting.is_empty() && new.is_empty() {
        return Ok(false);
    }
    if new.is_empty() && reports(dir)? {
        return Ok(true);
    }
    let programs = programs(repo, dir, plan.device)?;
    let mut submission = Submission { date: date_utc(), arrays: Vec::new(), report: String::new() };
    let memory = memory(dir, &cells, &new, batch.max_parallel.is_some())?;
    for mut array in arrays_of(&new, &memory, largest_array()) {
        let mut command = sbatch(dir, plan, &array, batch)?;
        array.job = submitted(&mut command, &script(&programs, dir, &array))?;
        eprintln!("array {}: {} cells of {} GiB", array.job, array.tasks.len(), array.memory_gib);
        submission.arrays.push(array);
        // What is queued is known even where the next array or the report is refused.
        remember(dir, &submission, submission.arrays.len() > 1)?;
    }
    let earlier = waiting.iter().filter_map(|at| queued[at].job.split('_').next());
    let jobs: BTreeSet<&str> =
        submission.arrays.iter().map(|array| array.job.as_str()).chain(earlier).collect();
    let mut command = Command::new("sbatch");
    let jobs = jobs.into_iter().collect::<Vec<_>>().join(":");
    command.args(["--parsable", &format!("--dependency=afterany:{jobs}")]);
    command.arg(format!("--job-name=tt-rnn-{}-report", plan.experiment));
    command.arg(format!("--output={}", slurm.join("logs/report.log").display()));
    command.args(["--open-mode=append", "--chdir"]).arg(repo.root()).args(options(batch)?);
    let mut words =
        vec![programs.join("xtask").display().to_string(), "collect".into(), plan.run_digest.clone()];
    if let Some(out) = out {
        words.extend(["--out".into(), std::path::absolute(out)?.display().to_string()]);
    }
    let line = shlex::try_join(words.iter().map(String::as_str))?;
    submission.report = submitted(&mut command, &format!("#!/bin/sh\nexec {line}\n"))?;
    eprintln!("report job {}: runs after them", submission.report);
    remember(dir, &submission, !submission.arrays.is_empty())?;
    eprintln!("cargo xtask status {0}; cargo xtask collect {0}; cargo xtask cancel {0}", plan.experiment);
    Ok(true)
}

/// Whether a job that collects the tables is in the queue: a controller that dies may forget it.
fn reports(dir: &Path) -> Result<bool> {
    let last = submissions(dir)?.pop().map(|submission| submission.report).unwrap_or_default();
    let mut command = Command::new("squeue");
    let known = repo::output(command.args(["--noheader", "--me", "--format=%i"])).unwrap_or_default();
    Ok(known.lines().any(|job| job.trim() == last))
}

/// What would be submitted, and what Slurm says to it; nothing is queued.
pub(crate) fn show(repo: &Repo, dir: &Path, plan: &Plan, batch: &Batch) -> Result<()> {
    let all: Vec<usize> = (0..plan.cells.len()).filter(|at| !is_done(dir, &plan.cells[*at])).collect();
    let programs = devices::built(repo, plan.device)?;
    let programs = programs.parent().unwrap_or(Path::new("")).to_owned();
    let memory = memory(dir, &plan.cells, &all, batch.max_parallel.is_some())?;
    for array in arrays_of(&all, &memory, largest_array()) {
        let mut command = sbatch(dir, plan, &array, batch)?;
        command.arg("--test-only");
        let script = script(&programs, dir, &array);
        eprintln!("{}\n{script}", repo::line(&command));
        let answer = piped(&mut command, &script)?;
        eprintln!("{}", String::from_utf8_lossy(&answer.stderr).trim());
    }
    Ok(())
}

/// Cells in Slurm's queue by their line of `plan.jsonl`; none where nothing was submitted.
pub(crate) fn queue(dir: &Path) -> Result<BTreeMap<usize, Queued>> {
    let arrays: Vec<Array> = submissions(dir)?.into_iter().flat_map(|submission| submission.arrays).collect();
    if arrays.is_empty() {
        return Ok(BTreeMap::new());
    }
    // All of this user's jobs: asked for a job that has left its memory, squeue fails.
    let mut command = Command::new("squeue");
    command.args(["--noheader", "--array", "--me", "--format=%F|%K|%T|%R"]);
    let found = command.output().context("failed to start squeue: is this a node of the cluster?")?;
    if !found.status.success() {
        bail!("squeue failed: {}", String::from_utf8_lossy(&found.stderr).trim());
    }
    let mut cells = BTreeMap::new();
    for line in String::from_utf8_lossy(&found.stdout).lines() {
        let fields: Vec<&str> = line.trim().split('|').collect();
        let [job, task, state, place] = fields[..] else { continue };
        let (Some(array), Ok(index)) = (arrays.iter().find(|array| array.job == job), task.parse::<usize>())
        else {
            continue;
        };
        let queued = Queued { state: state.into(), place: place.into(), job: format!("{job}_{task}") };
        cells.insert(array.base + index, queued);
    }
    Ok(cells)
}

/// File of a task's output.
pub(crate) fn log(dir: &Path, array: &Array, task: &str) -> PathBuf {
    dir.join(format!("slurm/logs/{}-{task}.log", array.base))
}

fn submissions_file(dir: &Path) -> PathBuf {
    dir.join("slurm/submissions.jsonl")
}

pub(crate) fn submissions(dir: &Path) -> Result<Vec<Submission>> {
    read_lines(&submissions_file(dir))
}

/// Adds a submission, or puts it in the place of the last one.
fn remember(dir: &Path, submission: &Submission, again: bool) -> Result<()> {
    let mut all = submissions(dir)?;
    if again {
        all.pop();
    }
    all.push(submission.clone());
    write_lines(&submissions_file(dir), &all)
}

/// Copies of the programs, and of what says which CUDA the engine was built with, so that building anew changes nothing
/// under a job that waits.
fn programs(repo: &Repo, dir: &Path, device: DeviceName) -> Result<PathBuf> {
    let engine = devices::built(repo, device)?;
    let own = env::current_exe().context("this program's file is not known")?;
    let digest =
        |path: &Path| files::digest(path).with_context(|| format!("{} cannot be read", path.display()));
    let name = format!("{}-{}", &digest(&engine)?[..16], &digest(&own)?[..16]);
    let folder = dir.join("slurm/bin").join(name);
    let version = Some(engine.with_file_name(BUILT_WITH)).filter(|file| file.is_file());
    let version = version.iter().map(|file| (file, BUILT_WITH));
    for (from, to) in [(&engine, "bench-suite"), (&own, "xtask")].into_iter().chain(version) {
        let to = folder.join(to);
        if to.is_file() {
            continue;
        }
        let copied = fs::create_dir_all(&folder)
            .and_then(|()| files::replace(&to, |half| fs::copy(from, half).map(drop)));
        copied.with_context(|| format!("{} cannot be written", to.display()))?;
    }
    Ok(folder)
}

/// Memory of each wanted cell in GiB; where the number of cells at a time is bounded, that of the largest for all, so
/// that they are one array.
fn memory(dir: &Path, cells: &[PlannedCell], wanted: &[usize], together: bool) -> Result<Vec<u64>> {
    let measured = measured(dir, cells)?;
    let gib = |at: &usize| {
        let cell = &cells[*at];
        let bytes = measured.get(cell.model.as_str()).copied().unwrap_or(cell.expected_rss_bytes);
        (bytes + bytes / 4).div_ceil(GIB)
    };
    let each: Vec<u64> = wanted.iter().map(gib).collect();
    let most = each.iter().copied().max().unwrap_or(1);
    Ok(each.into_iter().map(|own| if together { most } else { own }).collect())
}

/// Arrays of cells of like memory, none with an index of `largest` or more.
fn arrays_of(wanted: &[usize], memory_gib: &[u64], largest: usize) -> Vec<Array> {
    let mut groups: BTreeMap<(u64, usize), Vec<usize>> = BTreeMap::new();
    for (at, memory) in wanted.iter().zip(memory_gib) {
        groups.entry((*memory, at / largest * largest)).or_default().push(at % largest);
    }
    let array = |((memory_gib, base), mut tasks): ((u64, usize), Vec<usize>)| {
        tasks.sort_unstable();
        Array { job: String::new(), base, tasks, memory_gib }
    };
    groups.into_iter().map(array).collect()
}

/// Largest resident memory of finished cells by model.
fn measured<'a>(dir: &Path, cells: &'a [PlannedCell]) -> Result<BTreeMap<&'a str, u64>> {
    let mut largest = BTreeMap::new();
    for cell in cells.iter().filter(|cell| is_done(dir, cell) && !is_final(cell)) {
        let record: CellRecord = read_json(&cell_folder(dir, &cell.id()).join("cell.json"))?;
        let known = largest.entry(cell.model.as_str()).or_insert(0);
        *known = record.peak_rss_bytes.max(*known);
    }
    Ok(largest)
}

/// Indices that an array of this cluster may have.
fn largest_array() -> usize {
    let config = repo::output(Command::new("scontrol").args(["show", "config"])).unwrap_or_default();
    let line = config.lines().find(|line| line.starts_with("MaxArraySize"));
    line.and_then(|line| line.split('=').nth(1)?.trim().parse().ok()).unwrap_or(MAX_ARRAY).max(1)
}

fn options(batch: &Batch) -> Result<Vec<String>> {
    let text = batch.sbatch.as_deref().unwrap_or_default();
    shlex::split(text).with_context(|| format!("--sbatch {text:?} has a quote that is not closed"))
}

fn sbatch(dir: &Path, plan: &Plan, array: &Array, batch: &Batch) -> Result<Command> {
    let root = dir.ancestors().nth(3).context("a run's folder is data/runs/<digest>")?;
    let mut command = Command::new("sbatch");
    command.args(["--parsable", "--requeue", "--open-mode=append", &format!("--signal=B:USR1@{NOTICE_S}")]);
    command.arg(format!("--job-name=tt-rnn-{}", plan.experiment));
    command.arg(format!("--output={}", log(dir, array, "%a").display()));
    command.arg(format!("--mem={}G", array.memory_gib)).arg("--chdir").arg(root);
    let bound = batch.max_parallel.map_or_else(String::new, |most| format!("%{most}"));
    command.arg(format!("--array={}{bound}", ranges(&array.tasks)));
    command.args(options(batch)?);
    Ok(command)
}

/// What a task runs. The shell makes way for xtask, which Slurm's signals then reach.
fn script(programs: &Path, dir: &Path, array: &Array) -> String {
    let word = |path: &Path| {
        shlex::try_quote(&path.display().to_string()).map(std::borrow::Cow::into_owned).unwrap_or_default()
    };
    format!(
        "#!/bin/sh\n# The cell in a line of plan.jsonl, counted from 0; made by cargo xtask reproduce --on slurm.\nexec {} \
         cell-task {} $(({} + SLURM_ARRAY_TASK_ID))\n",
        word(&programs.join("xtask")),
        word(dir),
        array.base
    )
}

/// `0-3,5,7-9`.
fn ranges(sorted: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &index in sorted {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == index => *last = index,
            _ => runs.push((index, index)),
        }
    }
    let text =
        |(from, to): &(usize, usize)| if from == to { from.to_string() } else { format!("{from}-{to}") };
    runs.iter().map(text).collect::<Vec<_>>().join(",")
}

fn piped(command: &mut Command, script: &str) -> Result<std::process::Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let name = repo::line(command);
    let mut child =
        command.spawn().with_context(|| format!("failed to start {name}: is Slurm installed?"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ended early says why itself.
        let _ = stdin.write_all(script.as_bytes());
    }
    Ok(child.wait_with_output()?)
}

/// The id of the job.
fn submitted(command: &mut Command, script: &str) -> Result<String> {
    let found = piped(command, script)?;
    if !found.status.success() {
        bail!("{} failed: {}", repo::line(command), String::from_utf8_lossy(&found.stderr).trim());
    }
    let text = String::from_utf8_lossy(&found.stdout);
    // `id` or `id;cluster`.
    Ok(text.trim().split(';').next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_ranges() {
        assert_eq!(ranges(&[0, 1, 2, 3, 5, 7, 8]), "0-3,5,7-8");
        assert_eq!(ranges(&[]), "");
    }

    #[test]
    fn arrays_hold_cells_of_like_memory_and_end_where_the_cluster_says() {
        let of = |array: &Array| (array.memory_gib, array.base, array.tasks.clone());
        let arrays = arrays_of(&[5, 0, 1, 2, 3], &[1, 1, 2, 1, 1], 3);
        let found: Vec<_> = arrays.iter().map(of).collect();
        assert_eq!(found, [(1, 0, vec![0, 2]), (1, 3, vec![0, 2]), (2, 0, vec![1])]);
    }

    #[test]
    fn the_script_takes_a_hostile_path() {
        let array = Array { job: String::new(), base: 1001, tasks: vec![0], memory_gib: 1 };
        let text = script(Path::new("/a b/$(rm)"), Path::new("/it's"), &array);
        assert!(
            text.contains("exec '/a b/$(rm)/xtask' cell-task \"/it's\" $((1001 + SLURM_ARRAY_TASK_ID))"),
            "{text}"
        );
    }
}
