//! `cargo xtask compare`: the models on one fold with the same seeds, per device: seconds per epoch, memory, energy,
//! scores, and how far the losses are apart.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use bench_suite::device::{DeviceName, Precision};
use bench_suite::draw::charts;
use bench_suite::paper::PAPER_MODELS;
use bench_suite::provenance::{Machine, Provenance, date_utc};
use bench_suite::record::{CellRecord, Plan, cell_folder};
use bench_suite::results::devices::{DEVICES_HEADER, row};
use bench_suite::results::folders::check_writable;
use bench_suite::results::provenance::note;
use bench_suite::results::{csv_bytes, fresh, machines, read_json, write_atomic};

use crate::cli::runs::Compare;
use crate::cli::selection::Selection;
use crate::machine::{devices, packages};
use crate::repo::Repo;
use crate::run::cells::{Runner, Task};
use crate::run::interrupt::Interrupt;
use crate::run::progress::Progress;
use crate::run::{engine, experiments, summary};

/// Runs one fold of each model on each device, alone on all cores, and writes
/// `results/devices/<date>-<machine>/`, or beside an earlier one of the day `<date>-<machine>-2/`.
pub(crate) fn compare(repo: &Repo, args: &Compare) -> Result<()> {
    let wanted: Vec<DeviceName> = args.devices.iter().map(|d| devices::resolve(repo, *d)).collect();
    for device in &wanted {
        devices::device_program(repo, *device)?;
    }
    let of = |device: DeviceName| selection(args, device);
    let selection = of(DeviceName::Cpu);
    let chosen = experiments::check(repo, &args.experiment, &selection)?;
    let results = repo.results(args.out.as_deref())?.join("devices");
    eprintln!("{}", chosen.data);
    let (verbosity, quiet) = (args.verbosity, args.verbosity.quiet);
    if args.dry_run {
        repo.build(&["bench-suite"], "the training engine", quiet)?;
        for device in &wanted {
            let device = *device;
            let plan = engine::plan(repo, &of(device).flags(&chosen.name)?, true, verbosity)?;
            summary::print(&plan, 1)?;
            eprintln!("device {device}; {}", engine::data_line(&plan));
        }
        return Ok(());
    }
    check_writable(&results)?;
    packages::ensure(args.install)?;
    repo.build_all(quiet)?;
    let interrupt = Interrupt::install()?;
    let mut rows = Vec::new();
    let mut plans = Vec::new();
    let mut losses = BTreeMap::new();
    let mut provenance: Vec<Provenance> = Vec::new();
    for device in &wanted {
        let device = *device;
        let flags = of(device).flags(&chosen.name)?;
        engine::prepare(repo, &flags, verbosity, &interrupt)?;
        let plan = engine::plan(repo, &flags, false, verbosity)?;
        for record in measure(repo, args, device, &plan, &interrupt)? {
            if let Some(computed) = &record.computed {
                note(&mut provenance, &computed.by);
            }
            rows.push(row(&engine::data_of(&plan), device, record, &mut losses));
        }
        plans.push(plan);
    }
    let dir = fresh(&results, &format!("{}-{}", date_utc(), Machine::here().slug()))?;
    write_atomic(&dir.join("table.csv"), &csv_bytes(DEVICES_HEADER, &rows)?)?;
    write_atomic(&dir.join("about.md"), about(args, &provenance, &plans).as_bytes())?;
    charts::devices(&dir, &rows)?;
    let data = plans.last().map(engine::data_line).unwrap_or_default();
    eprintln!("{data}; results in {}", repo.show(&dir));
    Ok(())
}

fn selection(args: &Compare, device: DeviceName) -> Selection {
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
        device,
        precision: if matches!(device, DeviceName::Cuda(_)) { args.precision } else { Precision::F32 },
        ..Selection::default()
    }
}

/// Computes the cells in a folder of their own, so that no time is taken from an earlier run, and removes it.
fn measure(
    repo: &Repo,
    args: &Compare,
    device: DeviceName,
    plan: &Plan,
    interrupt: &Interrupt,
) -> Result<Vec<CellRecord>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    // Not among the runs that other commands choose from.
    let run_dir = repo.path("data/compare").join(format!("compare-{device}-{now}-{}", std::process::id()));
    std::fs::create_dir_all(&run_dir).with_context(|| format!("{} cannot be made", run_dir.display()))?;
    write_atomic(&run_dir.join("plan.json"), &serde_json::to_vec_pretty(plan)?)?;
    let progress = Progress::new(args.verbosity.quiet, args.verbosity.verbose);
    let start = engine::cells(repo, device, args.verbosity)?;
    let runner = Runner { jobs: 1, engine: &start, interrupt, progress: &progress, ended: &|| () };
    let outcome =
        runner.run(&Task::of_run(&run_dir, &plan.cells)).and_then(|()| read_records(&run_dir, plan));
    std::fs::remove_dir_all(&run_dir).with_context(|| format!("{} cannot be removed", run_dir.display()))?;
    outcome
}

fn read_records(run_dir: &Path, plan: &Plan) -> Result<Vec<CellRecord>> {
    plan.cells.iter().map(|cell| read_json(&cell_folder(run_dir, &cell.id()).join("cell.json"))).collect()
}

/// The lines that say what was measured.
fn about(args: &Compare, provenance: &[Provenance], plans: &[Plan]) -> String {
    let commits: BTreeSet<String> = provenance
        .iter()
        .map(|by| {
            let commit = by.commit.as_deref().unwrap_or("none");
            format!("{commit}{}", if by.dirty { ", changed" } else { "" })
        })
        .collect();
    let commits = commits.into_iter().collect::<Vec<_>>().join("; ");
    let runs = plans.iter().map(|plan| {
        let seeds: BTreeSet<u64> = plan.cells.iter().map(|cell| cell.seed).collect();
        format!("- {}: configuration and data {}, seeds {seeds:?}\n", plan.device, plan.run_digest)
    });
    let (data, digest) =
        plans.first().map(|plan| (engine::data_line(plan), plan.data_digest.clone())).unwrap_or_default();
    let settings = if args.set.is_empty() { "none".to_owned() } else { args.set.join(", ") };
    format!(
        "# Devices compared\n\nOne fold of `{}`, {} epochs a model, each cell alone on all cores; seconds per \
         epoch are a mean without the first epoch; `frames_wait` is the share of the training time spent waiting for \
         frames; `energy_j` is what the card took, whoever used it; `loss_difference` is the largest difference of an \
         epoch's training loss from that on the first device, relative to it. With so few epochs the scores tell \
         nothing.\n\n- {data}, digest {digest}\n- machine: {}\n- commit: {commits}\n- settings changed: {settings}\n{}\n![seconds per epoch and memory](devices.svg)\n\n![speed-up of \
         Tensor Train over dense](speedup.svg)\n",
        args.experiment,
        args.epochs,
        machines(provenance),
        runs.collect::<String>()
    )
}
