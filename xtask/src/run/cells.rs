//! Runs cells of plans as processes, `jobs` at a time, around failures, locks and Ctrl-C.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Result, bail};
use bench_suite::record::PlannedCell;
use bench_suite::results::cells::is_done;

use crate::run::engine::{self, BAD_DATA, LOCKED, wait_s};
use crate::run::interrupt::Interrupt;
use crate::run::progress::Progress;

/// Cells that another run still computes.
#[derive(Debug)]
pub(crate) struct StillLocked(Vec<String>);

impl std::fmt::Display for StillLocked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "another run is still computing {}: run the same command later to continue",
            self.0.join(", ")
        )
    }
}

impl std::error::Error for StillLocked {}

/// Lines of a failed cell's output that are shown again at the end.
const TAIL: usize = 12;

/// A cell to run.
pub(crate) struct Task<'a> {
    /// `data/runs/<digest>`.
    pub(crate) run_dir: &'a Path,
    pub(crate) cell: &'a PlannedCell,
    /// Its name among all that run together.
    pub(crate) name: String,
}

impl<'a> Task<'a> {
    /// The cells of one run.
    pub(crate) fn of_run(run_dir: &'a Path, cells: &'a [PlannedCell]) -> Vec<Self> {
        cells.iter().map(|cell| Self { run_dir, cell, name: cell.id() }).collect()
    }

    fn is_done(&self) -> bool {
        is_done(self.run_dir, self.cell)
    }
}

/// How to run cells.
pub(crate) struct Runner<'a> {
    /// Processes at a time.
    pub(crate) jobs: usize,
    /// Starts the engine: `bench-suite cell` without arguments.
    pub(crate) engine: &'a (dyn Fn() -> Command + Sync),
    /// Signals.
    pub(crate) interrupt: &'a Interrupt,
    /// Bars and lines.
    pub(crate) progress: &'a Progress,
    /// Called after every cell that ended well, never twice at once.
    pub(crate) ended: &'a (dyn Fn() + Sync),
}

/// Puts cells that take least time first, so that no quick model waits behind days of a slow one.
pub(crate) fn cheapest_first(cells: &mut [PlannedCell]) {
    cells.sort_by(|a, b| a.expected_s.total_cmp(&b.expected_s));
}

/// A cell that ended badly.
struct Failure {
    name: String,
    why: String,
}

/// Cells that were not finished here.
#[derive(Default)]
struct Left {
    failures: Vec<Failure>,
    locked: Vec<String>,
}

enum Outcome {
    Done,
    Locked,
    Failed(String),
    Interrupted,
}

impl Runner<'_> {
    /// Computes every cell that is not finished yet. Failed cells are reported together at the end.
    ///
    /// # Errors
    /// After a signal, or when cells failed: the message names each and shows the end of its output.
    pub(crate) fn run(&self, tasks: &[Task<'_>]) -> Result<()> {
        let todo: VecDeque<&Task<'_>> = tasks.iter().filter(|task| !task.is_done()).collect();
        let kept = tasks.len() - todo.len();
        if kept > 0 {
            self.progress.say(&format!("{kept} of {} cells are finished already and kept", tasks.len()));
        }
        self.progress.start(tasks.len(), kept, todo.iter().map(|task| task.cell.expected_s).sum());
        let todo = Mutex::new(todo);
        let left = Mutex::new(Left::default());
        let ended = Mutex::new(());
        thread::scope(|scope| {
            for _ in 0..self.jobs {
                scope.spawn(|| self.work(&todo, &left, &ended));
            }
        });
        self.progress.finish();
        self.interrupt.check()?;
        let Left { failures, locked } = left.into_inner().unwrap_or_else(PoisonError::into_inner);
        if !failures.is_empty() {
            let list: Vec<String> = failures.iter().map(|f| format!("cell {}: {}", f.name, f.why)).collect();
            bail!("{} of {} cells failed\n{}", failures.len(), tasks.len(), list.join("\n"))
        }
        if locked.is_empty() { Ok(()) } else { Err(StillLocked(locked).into()) }
    }

    /// Takes cells until none is left. A locked cell goes to the end of the queue; one that is met again when
    /// nothing but locked cells is left is waited for, and given up when it takes more than twice its time.
    fn work(&self, todo: &Mutex<VecDeque<&Task<'_>>>, gone: &Mutex<Left>, ended: &Mutex<()>) {
        let mut locked_in_a_row = 0;
        while !self.interrupt.raised() {
            let (task, left) = {
                let mut queue = lock(todo);
                (queue.pop_front(), queue.len())
            };
            let Some(task) = task else { return };
            let name = &task.name;
            let wait_s = if locked_in_a_row > left { wait_s(task.cell) } else { 0 };
            if wait_s > 0 {
                self.progress.say(&format!("cell {name} is being computed by another run: waiting for it"));
            }
            match self.cell(task, wait_s) {
                Outcome::Done => {
                    locked_in_a_row = 0;
                    self.progress.cell_done(name, task.cell.expected_s);
                    let _one = lock(ended);
                    (self.ended)();
                }
                Outcome::Locked if wait_s > 0 => lock(gone).locked.push(name.clone()),
                Outcome::Locked => {
                    lock(todo).push_back(task);
                    locked_in_a_row += 1;
                }
                Outcome::Failed(why) => {
                    locked_in_a_row = 0;
                    self.progress.say(&format!("cell {name} failed"));
                    lock(gone).failures.push(Failure { name: name.clone(), why });
                }
                Outcome::Interrupted => return,
            }
        }
    }

    fn cell(&self, task: &Task<'_>, wait_s: u64) -> Outcome {
        if task.is_done() {
            return Outcome::Done;
        }
        match self.spawn(task, wait_s) {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Failed(format!("{error:#}")),
        }
    }

    fn spawn(&self, Task { run_dir, cell, name }: &Task<'_>, wait_s: u64) -> Result<Outcome> {
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut command = (self.engine)();
        engine::cell(&mut command, run_dir, cell, ((cores / self.jobs).max(1), wait_s));
        if self.jobs > 1 {
            command.arg("--shared");
        }
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut tail = VecDeque::new();
        self.progress.cell_started(name);
        if let Some(stderr) = child.stderr.take() {
            thread::scope(|scope| {
                // The child is waited for here, so that a signal reaches it while it is silent.
                let waiter = scope.spawn(|| self.interrupt.wait(&mut child));
                for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                    let line = String::from_utf8_lossy(&line).into_owned();
                    self.progress.line(name, cell.expected_s, self.jobs > 1, &line);
                    if tail.len() == TAIL {
                        tail.pop_front();
                    }
                    tail.push_back(format!("    {line}"));
                }
                let _ = waiter.join();
            });
        }
        let status = child.wait()?;
        let tail = tail.into_iter().collect::<Vec<_>>().join("\n");
        Ok(match status.code() {
            Some(0) => Outcome::Done,
            Some(LOCKED) => Outcome::Locked,
            _ if self.interrupt.raised() => Outcome::Interrupted,
            Some(BAD_DATA) => Outcome::Failed(format!("the data cannot be used\n{tail}")),
            _ => Outcome::Failed(format!("{status}\n{tail}")),
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::planned_cell;
    use std::fs;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn cell(fold: usize) -> PlannedCell {
        planned_cell("tt-gru", fold)
    }

    /// Starts a shell script in place of the engine. `$2` is the run folder, `$4` the cell.
    fn sh(script: &str) -> impl Fn() -> Command + Sync + use<> {
        let script = format!("d=$2/cells/$4; mkdir -p $d; {script}");
        move || {
            let mut sh = Command::new("sh");
            sh.args(["-c", &script, "cell"]);
            sh
        }
    }

    /// Runs three cells.
    fn run(script: &str, jobs: usize) -> (tempfile::TempDir, Result<()>) {
        let dir = tempfile::tempdir().unwrap();
        let result = run_in(dir.path(), script, jobs);
        (dir, result)
    }

    fn run_in(dir: &Path, script: &str, jobs: usize) -> Result<()> {
        let engine = sh(script);
        let interrupt = Interrupt::install().unwrap();
        let progress = Progress::new(true, 0);
        let ended = AtomicUsize::new(0);
        let runner = Runner {
            jobs,
            engine: &engine,
            interrupt: &interrupt,
            progress: &progress,
            ended: &|| {
                ended.fetch_add(1, Ordering::Relaxed);
            },
        };
        let before = done(dir);
        let result = runner.run(&Task::of_run(dir, &[cell(0), cell(1), cell(2)]));
        assert_eq!(
            ended.into_inner(),
            done(dir) - before,
            "told of every cell that ended well, and of no other"
        );
        result
    }

    fn done(dir: &Path) -> usize {
        (0..3).filter(|fold| is_done(dir, &cell(*fold))).count()
    }

    #[test]
    fn cheap_cells_come_before_dear_ones() {
        let mut cells = vec![planned_cell("gru", 0), planned_cell("lstm", 0), cell(1), cell(0)];
        for (cell, s) in cells.iter_mut().zip([900.0, 1_000.0, 7.0, 7.0]) {
            cell.expected_s = s;
        }
        cheapest_first(&mut cells);
        let order: Vec<String> = cells.iter().map(PlannedCell::id).collect();
        assert_eq!(
            order.iter().map(|id| id.split('.').next().unwrap()).collect::<Vec<_>>(),
            ["tt-gru", "tt-gru", "gru", "lstm"]
        );
        assert_eq!(order[0], cell(1).id(), "equal cells stay in their order");
    }

    #[test]
    fn failed_cells_are_named_and_the_others_go_on() {
        let script = "case $4 in *f1*) echo reason >&2; exit 3;; esac; echo {} > $d/cell.json";
        let (dir, result) = run(script, 1);
        let error = result.unwrap_err().to_string();
        assert!(
            error.contains("1 of 3 cells failed\ncell tt-gru.clips.scaled.f1.s0: exit status: 3"),
            "{error}"
        );
        assert!(error.ends_with("    reason"), "{error}");
        for fold in [0, 2] {
            assert!(dir.path().join(format!("cells/tt-gru.clips.scaled.f{fold}.s0/cell.json")).is_file());
        }
    }

    #[test]
    fn a_locked_cell_is_tried_again_until_it_is_done() {
        let script = "test -e $d/tried || { touch $d/tried; exit 75; }; echo {} > $d/cell.json";
        let (dir, result) = run(script, 2);
        result.unwrap();
        assert_eq!(fs::read_dir(dir.path().join("cells")).unwrap().count(), 3);
    }

    #[test]
    fn a_cell_that_stays_locked_is_waited_for_last_and_then_given_up() {
        let script = "echo $8 >> $d/waits; case $4 in *f0*) exit 75;; esac; echo {} > $d/cell.json";
        let (dir, result) = run(script, 1);
        let error = result.unwrap_err();
        assert!(error.is::<StillLocked>() && error.to_string().contains(&cell(0).id()), "{error}");
        let waits =
            |fold| fs::read_to_string(dir.path().join("cells").join(cell(fold).id()).join("waits")).unwrap();
        assert_eq!((waits(0).as_str(), waits(1).as_str()), ("0\n0\n600\n", "0\n"));
        assert!(is_done(dir.path(), &cell(2)));
    }

    #[test]
    fn a_checkpoint_beside_the_record_is_work_for_the_engine() {
        let script = "echo {} > $d/cell.json; rm -f $d/checkpoint.safetensors";
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("cells").join(cell(0).id());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("cell.json"), "{}").unwrap();
        fs::write(folder.join("checkpoint.safetensors"), "").unwrap();
        assert!(!is_done(dir.path(), &cell(0)));
        run_in(dir.path(), script, 1).unwrap();
        assert!(is_done(dir.path(), &cell(0)));
    }

    #[test]
    fn cells_of_several_runs_run_together() {
        let dirs: [tempfile::TempDir; 2] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
        // Each waits until the other one is there.
        let [a, b] = dirs.each_ref().map(|dir| dir.path().join("cells").join(cell(0).id()));
        let (a, b) = (a.display(), b.display());
        let engine =
            sh(&format!("until test -d {a} && test -d {b}; do sleep .01; done; echo {{}} > $d/cell.json"));
        let interrupt = Interrupt::install().unwrap();
        let progress = Progress::new(true, 0);
        let runner =
            Runner { jobs: 2, engine: &engine, interrupt: &interrupt, progress: &progress, ended: &|| () };
        let cells = [cell(0)];
        let tasks: Vec<Task<'_>> = dirs.iter().flat_map(|dir| Task::of_run(dir.path(), &cells)).collect();
        runner.run(&tasks).unwrap();
        assert!(tasks.iter().all(Task::is_done));
    }

    #[test]
    fn finished_cells_are_not_started() {
        let dir = tempfile::tempdir().unwrap();
        let done = dir.path().join("cells").join(cell(0).id());
        fs::create_dir_all(&done).unwrap();
        fs::write(done.join("cell.json"), "{}").unwrap();
        let engine = || Command::new("false");
        let interrupt = Interrupt::install().unwrap();
        let progress = Progress::new(true, 0);
        let runner = Runner {
            jobs: 1,
            engine: &engine,
            interrupt: &interrupt,
            progress: &progress,
            ended: &|| panic!("a cell that was finished before"),
        };
        runner.run(&Task::of_run(dir.path(), &[cell(0)])).unwrap();
    }

    #[test]
    fn cells_that_run_together_share_the_cores() {
        let script = "echo \"$@\" > $d/args; echo {} > $d/cell.json";
        let (dir, _) = run(script, 2);
        let args = fs::read_to_string(dir.path().join("cells").join(cell(1).id()).join("args")).unwrap();
        assert!(args.trim_end().ends_with("--shared"), "{args}");
        let (dir, _) = run(script, 1);
        let args = fs::read_to_string(dir.path().join("cells").join(cell(1).id()).join("args")).unwrap();
        assert!(!args.contains("--shared") && args.contains("--threads"), "{args}");
    }
}
