//! `cargo xtask ablation`: what the paper leaves open, one factor at a time on real clips.
//!
//! Every level of a factor is a run of cells like any other, with its folder under `data/runs/`. All levels together, on
//! one data and one kind of device, are a run of the ablation: its cells land in a folder below
//! `results/ablation/<name>/runs/` as they are done.

use anyhow::{Context, Result};
use bench_suite::draw;
use bench_suite::record::{Computed, Plan};
use bench_suite::results::ablation::{About, CellRow, keep};
use bench_suite::results::folders::check_writable;
use bench_suite::results::hold;

use crate::cli::selection::Selection;
use crate::cli::studies;
use crate::machine::devices;
use crate::repo::Repo;
use crate::run::forecast::Part;
use crate::run::studies::ablation::{Ablation, Variant};
use crate::run::trials::{Finished, Ran, Trial, Trials};
use crate::run::{engine, experiments, forecast};

/// Runs an ablation and writes `results/ablation/<name>/`.
pub(crate) fn ablation(repo: &Repo, args: &studies::Ablation) -> Result<()> {
    let ablation = Ablation::read(repo, &args.name)?;
    let device = devices::resolve(repo, args.study.device);
    devices::device_program(repo, device)?;
    let variants = ablation.variants(args.study.data.as_deref(), device);
    for variant in &variants {
        experiments::check(repo, &ablation.experiment, &variant.selection).with_context(|| label(variant))?;
    }
    if args.study.dry_run {
        let part =
            |variant: &Variant| Part { what: label(variant), selection: variant.selection.clone(), times: 1 };
        let parts: Vec<Part> = variants.iter().map(part).collect();
        return forecast::print(repo, &ablation.experiment, &parts, &args.study);
    }
    let dir = repo.results(args.study.out.as_deref())?.join("ablation").join(&args.name);
    check_writable(&dir)?;
    let base: &Selection = &variants[0].selection;
    let trials = Trials::open(repo, &ablation.experiment, std::slice::from_ref(base), &args.study)?;
    trials.prepare(base)?;
    let mut about: Option<(String, About)> = None;
    let mut cells = 0;
    for variant in &variants {
        let trial = Trial { what: label(variant), selection: variant.selection.clone() };
        let (ran, outcome) = trials.compute(&[trial])?;
        let Some(Ran { plan, cells: finished }) = ran.into_iter().next() else { continue };
        // What failed keeps nothing out of the tables.
        if finished.is_empty() {
            return outcome;
        }
        // The base comes first, and names the run.
        let (run, about) = about.get_or_insert_with(|| {
            let about = about_of(&args.name, &ablation, &plan);
            (ablation.run_name(&plan), about)
        });
        cells += finished.len();
        let rows = finished.into_iter().map(|cell| row(cell, variant, &plan, about)).collect();
        let _held = hold(&dir)?;
        keep(&dir, run, rows, about)?;
        draw::ablation::derive(&dir)?;
        outcome?;
    }
    eprintln!("{cells} cells; results in {}", repo.show(&dir));
    Ok(())
}

fn label(variant: &Variant) -> String {
    let split = if variant.inner { ", inner split" } else { "" };
    if variant.factor.is_empty() {
        return format!("defaults{split}");
    }
    format!("{}: {}{split}", variant.factor, variant.level)
}

/// The row of a finished cell; what computed it goes into `about`.
fn row(cell: Finished, variant: &Variant, plan: &Plan, about: &mut About) -> CellRow {
    let Finished { record, hits, groups } = cell;
    if let Some(Computed { finished, by }) = &record.computed {
        about.add(finished, by);
    }
    CellRow {
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
        hits,
        groups,
    }
}

fn about_of(name: &str, ablation: &Ablation, plan: &Plan) -> About {
    About {
        ablation: name.to_owned(),
        title: plan.data.clone(),
        protocol: ablation.protocol.clone(),
        data: engine::data_line(plan),
        data_digest: plan.data_digest.clone(),
        clips: plan.clips,
        frames: plan.frames,
        finished: String::new(),
        defaults: ablation.factors.iter().map(|f| (f.name.clone(), f.default.clone())).collect(),
        axes: ablation.factors.iter().filter_map(|f| Some((f.name.clone(), f.axis.clone()?))).collect(),
        config: plan.config.clone(),
        provenance: Vec::new(),
    }
}
