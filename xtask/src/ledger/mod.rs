//! `cargo xtask ledger`: what the paper leaves open, one factor at a time on real clips.
//!
//! Every level of a factor is a run of cells like any other, with its folder under `data/runs/`. All levels together, on
//! one data and one kind of device, are a run of the ledger: its cells land in a folder below
//! `results/ledger/<name>/runs/` as they are done.

pub(crate) mod rows;
mod spec;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bench_suite::provenance::Provenance;
use bench_suite::record::{CellRecord, Computed, Plan, PredictionRow};
use serde::{Deserialize, Serialize};

use crate::cells::{Runner, is_done};
use crate::cli;
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::records::{
    RUNS, csv_bytes, hold, holding, home, largest, machines, read_csv, read_json, shown_line, write_atomic,
};
use crate::repo::Repo;
use crate::text::{md_table, score};
use crate::{charts, device, engine, experiments, packages};
pub(crate) use rows::LedgerRow;
use rows::{CellRow, Defaults, LEDGER_HEADER};
use spec::{Ledger, Variant};

/// What the cells of a ledger's run have in common: `run.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    ledger: String,
    title: String,
    protocol: String,
    data: String,
    data_digest: String,
    clips: usize,
    frames: usize,
    /// When the last cell was finished, UTC.
    finished: String,
    /// Factor and default level, in order.
    defaults: Defaults,
    /// The base's configuration.
    config: String,
    /// What computed the cells: one entry unless they differ.
    provenance: Vec<Provenance>,
}

/// Runs a ledger and writes `results/ledger/<name>/`.
pub(crate) fn ledger(repo: &Repo, args: &cli::Ledger) -> Result<()> {
    let ledger = Ledger::read(repo, &args.name)?;
    let device = device::resolve(repo, args.study.device);
    device::device_program(repo, device)?;
    let variants = ledger.variants(args.study.data.as_deref(), device);
    for variant in &variants {
        experiments::check(repo, &ledger.experiment, &variant.selection)
            .with_context(|| format!("{} {}", variant.factor, variant.level))?;
    }
    let dir = experiments::results_root(repo, args.study.out.as_deref())?.join("ledger").join(&args.name);
    experiments::check_writable(&dir)?;
    packages::ensure(args.study.install)?;
    let quiet = args.study.verbosity.quiet;
    repo.build(&["video-data"], "decoding, links FFmpeg", quiet)?;
    repo.build(&["bench-suite"], "the training engine", quiet)?;
    let interrupt = Interrupt::install()?;
    engine::prepare(
        repo,
        &variants[0].selection.flags(&ledger.experiment)?,
        args.study.verbosity,
        &interrupt,
    )?;
    let mut about: Option<(String, About)> = None;
    let mut cells = 0;
    for variant in &variants {
        let flags = variant.selection.flags(&ledger.experiment)?;
        let mut plan = engine::plan(repo, &flags, false, args.study.verbosity)?;
        if plan.metric != "accuracy" {
            bail!("a ledger needs exclusive classes; {} is scored by {}", ledger.experiment, plan.metric);
        }
        let progress = Progress::new(quiet, args.study.verbosity.verbose);
        progress.say(&format!("{}: {} cells", label(variant), plan.cells.len()));
        let run_dir = engine::run_dir(repo, &plan);
        let start = engine::cells(repo, plan.device, args.study.verbosity)?;
        let runner = Runner {
            run_dir: &run_dir,
            jobs: args.study.jobs,
            engine: &start,
            interrupt: &interrupt,
            progress: &progress,
            ended: &|| (),
        };
        let outcome = runner.run(&plan.cells);
        interrupt.check()?;
        // What failed keeps nothing out of the tables.
        plan.cells.retain(|cell| is_done(&run_dir, cell));
        if plan.cells.is_empty() {
            return outcome;
        }
        // The base comes first, and names the run.
        let (run, about) = about.get_or_insert_with(|| {
            let about = about_of(&args.name, &ledger, &plan);
            (ledger.run_name(&plan), about)
        });
        let rows = read_cells((&run_dir, &plan), variant, about)?;
        cells += rows.len();
        let _held = hold(&dir)?;
        keep(&dir, run, rows, about)?;
        derive(&dir)?;
        outcome?;
    }
    eprintln!("{cells} cells; results in {}", repo.show(&dir));
    Ok(())
}

/// Puts cells into the folder of a run; where a cell is there with other numbers, into a folder of their own.
fn keep(dir: &Path, run: &str, rows: Vec<CellRow>, about: &About) -> Result<()> {
    let folder = home(&dir.join(RUNS), run, |folder| {
        let known = rows::read(folder)?;
        Ok(rows.iter().all(|row| known.iter().all(|old| !same_cell(old, row) || old == row)))
    })?;
    let mut all = rows::read(&folder)?;
    let new: Vec<CellRow> = rows.into_iter().filter(|row| !all.contains(row)).collect();
    all.extend(new);
    rows::write(&folder, &all)?;
    let path = folder.join("run.toml");
    let mut whole = if path.is_file() { About::read(&path)? } else { about.clone() };
    for provenance in &about.provenance {
        whole.add(&about.finished, provenance);
    }
    write_atomic(&path, toml::to_string(&whole)?.as_bytes())
}

fn label(variant: &Variant) -> String {
    let split = if variant.inner { ", inner split" } else { "" };
    if variant.factor.is_empty() {
        return format!("defaults{split}");
    }
    format!("{}: {}{split}", variant.factor, variant.level)
}

fn same_cell(a: &CellRow, b: &CellRow) -> bool {
    (&a.factor, &a.level, &a.split, &a.model, a.fold, a.seed)
        == (&b.factor, &b.level, &b.split, &b.model, b.fold, b.seed)
}

/// The finished cells of a variant; what computed them goes into `about`.
fn read_cells((run_dir, plan): (&Path, &Plan), variant: &Variant, about: &mut About) -> Result<Vec<CellRow>> {
    let read = |cell: &bench_suite::record::PlannedCell| {
        let folder = run_dir.join("cells").join(cell.id());
        let record: CellRecord = read_json(&folder.join("cell.json"))?;
        let mut clips: Vec<PredictionRow> = read_csv(&folder.join("predictions.csv"))?;
        clips.sort_by(|a, b| a.clip.cmp(&b.clip));
        if let Some(Computed { finished, by }) = &record.computed {
            about.add(finished, by);
        }
        Ok(CellRow {
            factor: variant.factor.clone(),
            level: variant.level.clone(),
            split: if variant.inner { "inner" } else { "test" }.to_owned(),
            model: record.model,
            fold: record.fold,
            seed: record.seed,
            epochs: record.epochs,
            value: record.value,
            train_clips: record.train_clips,
            test_clips: record.test_clips,
            saturated_gates: record.saturated_gates,
            params_input: record.params_input,
            epoch_s: record.epoch_s,
            run: plan.run_digest.clone(),
            hits: clips.iter().map(|c| if c.label == c.predicted { '1' } else { '0' }).collect(),
            groups: match record.protocol.as_str() {
                "groups" => clips.iter().map(|c| c.group.as_str()).collect::<Vec<_>>().join("/"),
                _ => String::new(),
            },
        })
    };
    plan.cells.iter().map(read).collect()
}

fn about_of(name: &str, ledger: &Ledger, plan: &Plan) -> About {
    About {
        ledger: name.to_owned(),
        title: plan.data.clone(),
        protocol: ledger.protocol.clone(),
        data: engine::data_line(plan),
        data_digest: plan.data_digest.clone(),
        clips: plan.clips,
        frames: plan.frames,
        finished: String::new(),
        defaults: ledger.factors.iter().map(|f| (f.name.clone(), f.default.clone())).collect(),
        config: plan.config.clone(),
        provenance: Vec::new(),
    }
}

impl About {
    /// Notes what computed a cell, and when.
    fn add(&mut self, finished: &str, by: &Provenance) {
        if self.finished.as_str() < finished {
            finished.clone_into(&mut self.finished);
        }
        if !self.provenance.contains(by) {
            self.provenance.push(by.clone());
        }
    }

    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is damaged", path.display()))
    }
}

/// Writes table, page and chart of a ledger from the run with the most cells.
pub(crate) fn derive(dir: &Path) -> Result<()> {
    let runs = dir.join(RUNS);
    let size =
        |folder: &Path| Ok((rows::read(folder)?.len(), About::read(&folder.join("run.toml"))?.finished));
    let run = largest(&runs, size)?.with_context(|| format!("{} holds no runs", dir.display()))?;
    let about = About::read(&runs.join(&run).join("run.toml"))?;
    let table = rows::table(&rows::read(&runs.join(&run))?, &about.defaults);
    write_atomic(&dir.join("ledger.csv"), &csv_bytes(LEDGER_HEADER, &table)?)?;
    let others = holding(&runs, "run.toml")?.into_iter().filter(|name| *name != run).collect::<Vec<_>>();
    write_atomic(&dir.join("ledger.md"), page(&about, &table, (&run, &others)).as_bytes())?;
    charts::ledger(dir, &about.title, &table)
}

/// Derives every ledger below `root` again; how many there are.
pub(crate) fn redraw(repo: &Repo, root: &Path) -> Result<usize> {
    let dirs: Vec<PathBuf> = holding(root, RUNS)?.into_iter().map(|name| root.join(name)).collect();
    for dir in &dirs {
        derive(dir)?;
        eprintln!("{} redrawn from its cells", repo.show(dir));
    }
    Ok(dirs.len())
}

fn page(about: &About, table: &[LedgerRow], (run, others): (&str, &[String])) -> String {
    let mut text = format!(
        "# What the paper leaves open: {}\n\nOne factor at a time from recipe `scaled`, protocol `{}`, final \
         epoch. Mean ± sample standard deviation over folds; 95 % intervals by bootstrap over the scored clips \
         within folds. `difference` is against the default on the same folds, clips drawn alike for both. Gates \
         saturated: share of the gates' activations below 0.01 or above 0.99 at the initial weights, over the \
         first training batch. Split `inner` scores on a part of the training fold and is what a setting may be \
         chosen by; `test` is the test fold, and chooses nothing.\n\n- {}\n- {} clips, {} frames; data digest \
         `{}`\n- {}\n- machine: {}\n\n![scores per level](ledger.svg)\n",
        about.ledger,
        about.protocol,
        about.data,
        about.clips,
        about.frames,
        about.data_digest,
        shown_line(run, others),
        machines(&about.provenance)
    );
    let range = |low: Option<f64>, high: Option<f64>| match (low, high) {
        (Some(low), Some(high)) => format!("{} to {}", score(low), score(high)),
        _ => String::new(),
    };
    for (factor, _) in &about.defaults {
        let rows: Vec<Vec<String>> = table
            .iter()
            .filter(|row| row.factor == *factor)
            .map(|row| {
                let difference = row
                    .difference
                    .map(|d| format!("{d:+.3} ({})", range(row.difference_low, row.difference_high)));
                vec![
                    row.split.clone(),
                    row.model.clone(),
                    row.level.clone(),
                    match row.std {
                        Some(std) => format!("{} ± {}", score(row.mean), score(std)),
                        None => score(row.mean),
                    },
                    range(row.ci_low, row.ci_high),
                    difference.unwrap_or_default(),
                    row.folds.to_string(),
                    row.epochs.to_string(),
                    row.saturated_gates.map_or_else(String::new, |s| format!("{:.1} %", s * 100.0)),
                    row.epoch_s.map_or_else(String::new, |s| format!("{s:.2}")),
                ]
            })
            .collect();
        if rows.is_empty() {
            continue;
        }
        let header = [
            "split",
            "model",
            "level",
            "accuracy",
            "95 % interval",
            "difference",
            "folds",
            "epochs",
            "gates saturated",
            "s/epoch",
        ];
        text.push_str("\n## ");
        text.push_str(factor);
        text.push_str("\n\n");
        text.push_str(&md_table(&header, &rows));
    }
    text
}
