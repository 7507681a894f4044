//! Cells with settings of their own, for studies of many short runs: planned, computed where they are not finished yet,
//! and read.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use bench_suite::provenance::Provenance;
use bench_suite::record::{CellRecord, Computed, Plan, PredictionRow, cell_folder};
use bench_suite::results::cells::is_done;
use bench_suite::results::provenance::note;
use bench_suite::results::{read_csv, read_json};
use bench_suite::stats::drawn_groups;

use crate::cli::flags::{Study, Verbosity};
use crate::cli::selection::Selection;
use crate::machine::{devices, packages};
use crate::repo::Repo;
use crate::run::cells::{Runner, Task};
use crate::run::interrupt::Interrupt;
use crate::run::progress::Progress;
use crate::run::{engine, experiments};

/// What the trials of a study have in common.
pub(crate) struct Trials<'a> {
    repo: &'a Repo,
    experiment: &'a str,
    /// Cells at a time.
    jobs: usize,
    verbosity: Verbosity,
    interrupt: Interrupt,
    /// What computed the cells so far: one entry unless they differ.
    computed: RefCell<Vec<Provenance>>,
}

/// Cells with the same settings.
pub(crate) struct Trial {
    /// What they are, for people.
    pub(crate) what: String,
    pub(crate) selection: Selection,
}

/// A trial's finished cells.
pub(crate) struct Ran {
    pub(crate) plan: Plan,
    pub(crate) cells: Vec<Finished>,
}

/// A finished cell.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) record: CellRecord,
    /// A digit per scored clip, in name order: 1 where the prediction was right.
    pub(crate) hits: String,
    /// The clips' groups in the same order, joined by `/`; empty unless the protocol keeps groups whole.
    pub(crate) groups: String,
}

impl Finished {
    /// Seconds of training.
    pub(crate) fn train_s(&self) -> f64 {
        self.record.curve.iter().map(|point| point.wall_s).sum()
    }
}

impl<'a> Trials<'a> {
    /// Builds what is needed. What is wrong with any of `selections` is found first.
    pub(crate) fn open(
        repo: &'a Repo,
        experiment: &'a str,
        selections: &[Selection],
        &Study { jobs, verbosity, install, .. }: &Study,
    ) -> Result<Self> {
        for selection in selections {
            devices::device_program(repo, selection.device)?;
            experiments::check(repo, experiment, selection)?;
        }
        packages::ensure(install)?;
        repo.build_all(verbosity.quiet)?;
        Ok(Self {
            repo,
            experiment,
            jobs,
            verbosity,
            interrupt: Interrupt::install()?,
            computed: RefCell::default(),
        })
    }

    /// Makes sure that the frames of these cells are stored.
    pub(crate) fn prepare(&self, selection: &Selection) -> Result<()> {
        engine::prepare(self.repo, &selection.flags(self.experiment)?, self.verbosity, &self.interrupt)
    }

    /// The cells of trials, all of them finished.
    ///
    /// # Errors
    /// After a signal, where a cell fails, and for data whose clips have several labels.
    pub(crate) fn run(&self, trials: &[Trial]) -> Result<Vec<Ran>> {
        let (ran, outcome) = self.compute(trials)?;
        outcome?;
        Ok(ran)
    }

    /// The cells of trials that could be finished, and what kept the others from it. Cells of all trials run together: no
    /// job waits for the last cell of a trial.
    ///
    /// # Errors
    /// After a signal, and for data whose clips have several labels.
    pub(crate) fn compute(&self, trials: &[Trial]) -> Result<(Vec<Ran>, Result<()>)> {
        let progress = Progress::new(self.verbosity.quiet, self.verbosity.verbose);
        let mut planned = Vec::with_capacity(trials.len());
        for Trial { what, selection } in trials {
            let flags = selection.flags(self.experiment)?;
            let plan = self.interrupt.explain(engine::plan(self.repo, &flags, false, self.verbosity))?;
            if plan.metric != "accuracy" {
                bail!("this study needs exclusive classes; {} is scored by {}", self.experiment, plan.metric);
            }
            progress.say(&format!("{what}: {} cells", plan.cells.len()));
            planned.push((what, engine::run_dir(self.repo, &plan), plan));
        }
        let Some((_, _, first)) = planned.first() else { return Ok((Vec::new(), Ok(()))) };
        let start = engine::cells(self.repo, first.device, self.verbosity)?;
        let runner = Runner {
            jobs: self.jobs,
            engine: &start,
            interrupt: &self.interrupt,
            progress: &progress,
            ended: &|| (),
        };
        let tasks: Vec<Task<'_>> = planned
            .iter()
            .flat_map(|(what, run_dir, plan)| {
                let named = move |cell| Task { run_dir, cell, name: format!("{what}: {}", cell.id()) };
                plan.cells.iter().map(named)
            })
            .collect();
        let outcome = runner.run(&tasks);
        self.interrupt.check()?;
        let read = |(_, run_dir, plan): (&String, PathBuf, Plan)| {
            let done = plan.cells.iter().filter(|cell| is_done(&run_dir, cell));
            let cells =
                done.map(|cell| self.read(&cell_folder(&run_dir, &cell.id()))).collect::<Result<_>>()?;
            Ok(Ran { plan, cells })
        };
        let ran = planned.into_iter().map(read).collect::<Result<_>>()?;
        Ok((ran, outcome))
    }

    /// The cell in a folder.
    fn read(&self, folder: &Path) -> Result<Finished> {
        let mut clips: Vec<PredictionRow> = read_csv(&folder.join("predictions.csv"))?;
        clips.sort_by(|a, b| a.clip.cmp(&b.clip));
        let record: CellRecord = read_json(&folder.join("cell.json"))?;
        if let Some(Computed { by, .. }) = &record.computed {
            note(&mut self.computed.borrow_mut(), by);
        }
        // A separator within a name is written as names of files are.
        let groups = clips.iter().map(|clip| clip.group.replace('/', r"\x2F")).collect();
        let groups =
            drawn_groups(&record.protocol, groups).map_or_else(String::new, |groups| groups.join("/"));
        let hits = clips.iter().map(|c| if c.label == c.predicted { '1' } else { '0' }).collect();
        Ok(Finished { record, hits, groups })
    }

    /// What computed the cells, beside what computed those of `before`.
    pub(crate) fn provenance(&self, mut before: Vec<Provenance>) -> Vec<Provenance> {
        for by in self.computed.borrow().iter() {
            note(&mut before, by);
        }
        before
    }
}
