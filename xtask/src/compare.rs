//! `cargo xtask compare`: the models on one fold with the same seeds, per device: seconds per epoch, memory, energy,
//! scores, and how far the losses are apart.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use bench_suite::deck::PAPER_MODELS;
use bench_suite::device::{DeviceName, Precision};
use bench_suite::provenance::{Machine, Provenance, date_utc};
use bench_suite::record::{CellRecord, Plan};
use serde::{Deserialize, Serialize};

use crate::cells::Runner;
use crate::cli::Compare;
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::records::{csv_bytes, fresh, holding, machines, read_csv, read_json, write_atomic};
use crate::repo::Repo;
use crate::selection::Selection;
use crate::{charts, device, dry_run, engine, experiments, packages};

/// Header of a comparison's `table.csv`.
pub(crate) const DEVICES_HEADER: &str = "data,device,card,precision,model,epochs,epoch_s,frames_wait,peak_rss_bytes,\
                                        peak_card_bytes,energy_j,metric,value,loss_difference";

/// A row of a comparison: a model on a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DeviceRow {
    /// Which data; a rendered sample says so.
    pub(crate) data: String,
    pub(crate) device: String,
    /// The card's own name; empty for the CPU.
    pub(crate) card: String,
    pub(crate) precision: Precision,
    pub(crate) model: String,
    pub(crate) epochs: usize,
    pub(crate) epoch_s: Option<f64>,
    pub(crate) frames_wait: Option<f64>,
    pub(crate) peak_rss_bytes: u64,
    /// Of the card's memory, where it tells.
    pub(crate) peak_card_bytes: Option<u64>,
    /// Of the card, from the first step to the last.
    pub(crate) energy_j: Option<f64>,
    pub(crate) metric: String,
    pub(crate) value: f64,
    /// Largest difference of an epoch's training loss from that on the first device, relative to the latter; none for
    /// the first.
    pub(crate) loss_difference: Option<f64>,
}

/// Runs one fold of each model on each device, alone on all cores, and writes
/// `results/devices/<date>-<machine>/`, or beside an earlier one of the day `<date>-<machine>-2/`.
pub(crate) fn compare(repo: &Repo, args: &Compare) -> Result<()> {
    let devices: Vec<DeviceName> = args.devices.iter().map(|d| device::resolve(repo, *d)).collect();
    for device in &devices {
        device::device_program(repo, *device)?;
    }
    let of = |device: DeviceName| selection(args, device);
    let selection = of(DeviceName::Cpu);
    let chosen = experiments::check(repo, &args.experiment, &selection)?;
    let results = experiments::results_root(repo, args.out.as_deref())?.join("devices");
    eprintln!("{}", chosen.data);
    let (verbosity, quiet) = (args.verbosity, args.verbosity.quiet);
    if args.dry_run {
        repo.build(&["bench-suite"], "the training engine", quiet)?;
        for device in devices {
            let plan = engine::plan(repo, &of(device).flags(&chosen.name)?, true, verbosity)?;
            dry_run::print(&plan, 1)?;
            eprintln!("device {device}; {}", engine::data_line(&plan));
        }
        return Ok(());
    }
    experiments::check_writable(&results)?;
    packages::ensure(args.install)?;
    repo.build(&["video-data"], "decoding, links FFmpeg", quiet)?;
    repo.build(&["bench-suite"], "the training engine", quiet)?;
    let interrupt = Interrupt::install()?;
    let mut rows = Vec::new();
    let mut plans = Vec::new();
    let mut losses = HashMap::new();
    let mut provenance: Vec<Provenance> = Vec::new();
    for device in devices {
        let flags = of(device).flags(&chosen.name)?;
        engine::prepare(repo, &flags, verbosity, &interrupt)?;
        let plan = engine::plan(repo, &flags, false, verbosity)?;
        for record in measure(repo, args, device, &plan, &interrupt)? {
            let by = record.computed.as_ref().map(|computed| &computed.by);
            provenance.extend(by.filter(|by| !provenance.contains(by)).cloned());
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
    let run_dir = repo.path("data/runs").join(format!("compare-{device}-{now}-{}", std::process::id()));
    std::fs::create_dir_all(&run_dir).with_context(|| format!("{} cannot be made", run_dir.display()))?;
    write_atomic(&run_dir.join("plan.json"), &serde_json::to_vec_pretty(plan)?)?;
    let progress = Progress::new(args.verbosity.quiet, args.verbosity.verbose);
    let start = engine::cells(repo, device, args.verbosity)?;
    let runner =
        Runner { run_dir: &run_dir, jobs: 1, engine: &start, interrupt, progress: &progress, ended: &|| () };
    let outcome = runner.run(&plan.cells).and_then(|()| read_records(&run_dir, plan));
    std::fs::remove_dir_all(&run_dir).with_context(|| format!("{} cannot be removed", run_dir.display()))?;
    outcome
}

fn read_records(run_dir: &Path, plan: &Plan) -> Result<Vec<CellRecord>> {
    plan.cells
        .iter()
        .map(|cell| read_json(&run_dir.join("cells").join(cell.id()).join("cell.json")))
        .collect()
}

/// A record as a row; `losses` are those of the first device by model.
fn row(
    data: &str,
    device: DeviceName,
    record: CellRecord,
    losses: &mut HashMap<String, Vec<f64>>,
) -> DeviceRow {
    let own: Vec<f64> = record.curve.iter().map(|point| point.train_loss).collect();
    let loss_difference = losses.get(&record.model).map(|first| {
        first.iter().zip(&own).map(|(first, own)| ((own - first) / first).abs()).fold(0.0, f64::max)
    });
    losses.entry(record.model.clone()).or_insert(own);
    let card = record.card.as_ref();
    DeviceRow {
        data: data.to_owned(),
        device: device.to_string(),
        card: card.map_or_else(String::new, |card| card.name.clone()),
        precision: card.map_or(Precision::F32, |card| card.precision),
        peak_card_bytes: card.and_then(|card| card.peak_bytes),
        energy_j: card.and_then(|card| card.energy_j),
        model: record.model,
        epochs: record.epochs,
        epoch_s: record.epoch_s,
        frames_wait: record.frames_wait,
        peak_rss_bytes: record.peak_rss_bytes,
        metric: record.metric,
        value: record.value,
        loss_difference,
    }
}

/// Draws the chart of every comparison below `root` again from its table; how many there are.
pub(crate) fn redraw(repo: &Repo, root: &Path) -> Result<usize> {
    let dirs: Vec<PathBuf> = holding(root, "table.csv")?.into_iter().map(|name| root.join(name)).collect();
    for dir in &dirs {
        charts::devices(dir, &read_csv::<DeviceRow>(&dir.join("table.csv"))?)?;
        eprintln!("{} redrawn from its table", repo.show(dir));
    }
    Ok(dirs.len())
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The row of some record.
    pub(crate) fn row_of(model: &str) -> DeviceRow {
        row("clips", DeviceName::Cpu, crate::fixture::cell_record(model), &mut HashMap::new())
    }

    #[test]
    fn losses_are_compared_with_those_of_the_first_device() {
        let mut losses = HashMap::new();
        let record = |losses: &[f64]| {
            let mut record = crate::fixture::cell_record("tt-gru");
            let point = |(epoch, loss): (usize, &f64)| bench_suite::record::CurvePoint {
                epoch: epoch + 1,
                train_loss: *loss,
                train_value: 0.5,
                test_value: None,
                wall_s: 1.0,
            };
            record.curve = losses.iter().enumerate().map(point).collect();
            record
        };
        assert_eq!(row("clips", DeviceName::Cpu, record(&[2.0, 1.0]), &mut losses).loss_difference, None);
        let second = row("clips", DeviceName::Cuda(1), record(&[2.0, 1.25]), &mut losses);
        assert_eq!((second.device.as_str(), second.loss_difference), ("cuda:1", Some(0.25)));
    }

    #[test]
    fn the_header_is_that_of_the_rows() {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.serialize(row_of("gru")).unwrap();
        let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
        assert_eq!(text.lines().next(), Some(DEVICES_HEADER));
    }
}
