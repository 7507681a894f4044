//! `cargo xtask compare`: the models on one fold, per device: seconds per epoch and memory.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use bench_suite::deck::PAPER_MODELS;
use bench_suite::record::{CellRecord, Plan};
use serde::{Deserialize, Serialize};

use crate::cells::Runner;
use crate::cli::{Compare, Selection};
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::records::{Machine, csv_bytes, date_utc, read_csv, read_json, write_atomic};
use crate::repo::Repo;
use crate::{charts, dry_run, engine, experiments, packages};

/// Header of a comparison's `table.csv`.
pub(crate) const DEVICES_HEADER: &str = "device,model,epoch_s,frames_wait,peak_rss_bytes,metric,value";

/// A row of a comparison: a model on a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DeviceRow {
    pub(crate) device: String,
    pub(crate) model: String,
    pub(crate) epoch_s: Option<f64>,
    pub(crate) frames_wait: Option<f64>,
    pub(crate) peak_rss_bytes: u64,
    pub(crate) metric: String,
    pub(crate) value: f64,
}

/// Runs one fold of each model on each device, alone on all cores, and writes
/// `results/devices/<date>-<machine>/`.
pub(crate) fn compare(repo: &Repo, args: &Compare) -> Result<()> {
    experiments::check_devices(&args.devices)?;
    let selection = selection(args);
    let data = experiments::check(repo, &args.experiment, &selection.overrides(), selection.data.as_deref())?;
    let machine = Machine::here();
    let results = experiments::results_root(repo, args.out.as_deref())?;
    let dir = results.join("devices").join(format!("{}-{}", date_utc(), machine.slug()));
    eprintln!("{data}");
    let (verbosity, quiet) = (args.verbosity, args.verbosity.quiet);
    if args.dry_run {
        repo.build(&["bench-suite"], "the training engine", quiet)?;
        for device in &args.devices {
            let flags = selection.flags(&args.experiment)?;
            let plan = engine::plan(repo, &flags, true, verbosity)?;
            dry_run::print(&plan, 1)?;
            eprintln!("device {device}; {}", engine::data_line(&plan));
        }
        return Ok(());
    }
    experiments::check_writable(&dir)?;
    packages::ensure()?;
    repo.build(&["video-data"], "decoding, links FFmpeg", quiet)?;
    repo.build(&["bench-suite"], "the training engine", quiet)?;
    let interrupt = Interrupt::install()?;
    let mut rows = Vec::new();
    let mut last = String::new();
    for device in &args.devices {
        let flags = selection.flags(&args.experiment)?;
        engine::prepare(repo, &flags, verbosity, &interrupt)?;
        let plan = engine::plan(repo, &flags, false, verbosity)?;
        measure(repo, args, device, &plan, &interrupt, &mut rows)?;
        last = engine::data_line(&plan);
    }
    write_atomic(&dir.join("table.csv"), &csv_bytes(DEVICES_HEADER, &rows)?)?;
    write_atomic(&dir.join("about.md"), about(args, &machine, &last).as_bytes())?;
    charts::devices(&dir, &rows)?;
    eprintln!("{last}; results in {}", repo.show(&dir));
    Ok(())
}

fn selection(args: &Compare) -> Selection {
    let models = if args.models.is_empty() {
        PAPER_MODELS.iter().map(|m| (*m).to_owned()).collect()
    } else {
        args.models.clone()
    };
    Selection {
        data: args.data.clone(),
        models,
        folds: vec![0],
        epochs: Some(args.epochs),
        set: args.set.clone(),
        ..Selection::default()
    }
}

/// Computes the cells in a folder of their own, so that no time is taken from an earlier run, and removes it.
fn measure(
    repo: &Repo,
    args: &Compare,
    device: &str,
    plan: &Plan,
    interrupt: &Interrupt,
    rows: &mut Vec<DeviceRow>,
) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let run_dir = repo.path("data/runs").join(format!("compare-{device}-{now}-{}", std::process::id()));
    std::fs::create_dir_all(&run_dir).with_context(|| format!("{} cannot be made", run_dir.display()))?;
    write_atomic(&run_dir.join("plan.json"), &serde_json::to_vec_pretty(plan)?)?;
    let progress = Progress::new(args.verbosity.quiet, args.verbosity.verbose);
    let start = || engine::command(repo, "cell", args.verbosity);
    let runner = Runner { run_dir: &run_dir, jobs: 1, engine: &start, interrupt, progress: &progress };
    let outcome = runner.run(&plan.cells).and_then(|()| read_rows(&run_dir, device, plan, rows));
    std::fs::remove_dir_all(&run_dir).with_context(|| format!("{} cannot be removed", run_dir.display()))?;
    outcome
}

fn read_rows(run_dir: &Path, device: &str, plan: &Plan, rows: &mut Vec<DeviceRow>) -> Result<()> {
    for cell in &plan.cells {
        let record: CellRecord = read_json(&run_dir.join("cells").join(cell.id()).join("cell.json"))?;
        rows.push(DeviceRow {
            device: device.to_owned(),
            model: record.model,
            epoch_s: record.epoch_s,
            frames_wait: record.frames_wait,
            peak_rss_bytes: record.peak_rss_bytes,
            metric: record.metric,
            value: record.value,
        });
    }
    Ok(())
}

/// Draws the chart of every comparison below `root` again from its table; how many there are.
pub(crate) fn redraw(repo: &Repo, root: &Path) -> Result<usize> {
    let Ok(entries) = std::fs::read_dir(root) else { return Ok(0) };
    let mut dirs: Vec<_> = entries.flatten().map(|e| e.path()).collect();
    dirs.sort();
    dirs.retain(|dir| dir.join("table.csv").is_file());
    for dir in &dirs {
        charts::devices(dir, &read_csv::<DeviceRow>(&dir.join("table.csv"))?)?;
        eprintln!("{} redrawn from its table", repo.show(dir));
    }
    Ok(dirs.len())
}

/// The lines that say what was measured.
fn about(args: &Compare, machine: &Machine, data: &str) -> String {
    format!(
        "# Devices compared\n\nOne fold of `{}`, {} epochs a model, each cell alone on all cores; seconds per \
         epoch are a mean without the first epoch; `frames_wait` is the share of the training time spent waiting for \
         frames. With so few epochs the scores tell nothing.\n\n- {data}\n- machine: {}\n\n![seconds per epoch and memory](devices.svg)\n",
        args.experiment,
        args.epochs,
        machine.line()
    )
}
