//! `cargo xtask rates`: whether one rate serves models of every size.
//!
//! The training loss after a fixed number of steps against `train.lr`, as `experiments/rates/<name>.toml` says. Only the
//! training clips of one fold are looked at. Rows land in
//! `results/rates/<name>/<digest>/` as they are there.

use anyhow::Result;
use bench_suite::draw;
use bench_suite::provenance::Provenance;
use bench_suite::record::Plan;
use bench_suite::results::folders::check_writable;
use bench_suite::results::rates::{About, RATES_HEADER, RateRow};
use bench_suite::results::{csv_bytes, hold, write_atomic, write_toml};

use crate::cli::selection::Selection;
use crate::cli::studies;
use crate::machine::devices;
use crate::repo::Repo;
use crate::run::forecast::Part;
use crate::run::studies::rates::{RateStudy, Size};
use crate::run::trials::{Finished, Ran, Trial, Trials};
use crate::run::{engine, forecast};
use crate::text::short_digest;

/// Runs a study and writes `results/rates/<name>/<digest>/`.
pub(crate) fn rates(repo: &Repo, args: &studies::Rates) -> Result<()> {
    let (study, text) = RateStudy::read(repo, &args.name)?;
    let base = Selection {
        data: args.study.data.clone(),
        device: devices::resolve(repo, args.study.device),
        ..Selection::default()
    };
    let cells: Vec<(&Size, f64, Selection)> = study
        .sizes
        .iter()
        .flat_map(|size| study.rates.iter().map(move |lr| (size, *lr)))
        .map(|(size, lr)| (size, lr, study.selection(&base, size, lr)))
        .collect();
    if args.study.dry_run {
        let part = |(size, _, selection): &(&Size, f64, Selection)| Part {
            what: size.name.clone(),
            selection: selection.clone(),
            times: 1,
        };
        return forecast::print(
            repo,
            &study.experiment,
            &cells.iter().map(part).collect::<Vec<_>>(),
            &args.study,
        );
    }
    let all: Vec<Selection> = cells.iter().map(|(.., selection)| selection.clone()).collect();
    let root = repo.results(args.study.out.as_deref())?.join("rates").join(&args.name);
    let trials = Trials::open(repo, &study.experiment, &all, &args.study)?;
    check_writable(&root)?;
    trials.prepare(&all[0])?;
    let first = engine::plan(repo, &all[0].flags(&study.experiment)?, false, args.study.verbosity)?;
    let dir = root.join(short_digest(&format!("{text}{}", first.run_digest)));
    let mut rows: Vec<RateRow> = Vec::new();
    for of_size in cells.chunks(study.rates.len()) {
        trials.prepare(&of_size[0].2)?;
        let trial = |(size, lr, selection): &(&Size, f64, Selection)| Trial {
            what: format!("{}, rate {lr:e}", size.name),
            selection: selection.clone(),
        };
        let ran = trials.run(&of_size.iter().map(trial).collect::<Vec<_>>())?;
        for (Ran { plan, cells }, (size, lr, _)) in ran.iter().zip(of_size) {
            rows.extend(cells.iter().map(|cell| row(cell, size, *lr, plan)));
        }
        let about = about(&args.name, &study, &first, trials.provenance(Vec::new()));
        let _held = hold(&dir)?;
        write_toml(&dir.join("run.toml"), &about)?;
        write_atomic(&dir.join("rates.csv"), &csv_bytes(RATES_HEADER, &rows)?)?;
    }
    let _held = hold(&dir)?;
    draw::rates::derive(&dir)?;
    eprintln!("{} cells; results in {}", rows.len(), repo.show(&dir));
    Ok(())
}

fn about(name: &str, study: &RateStudy, plan: &Plan, provenance: Vec<Provenance>) -> About {
    About {
        study: name.to_owned(),
        title: plan.data.clone(),
        data: engine::data_line(plan),
        data_digest: plan.data_digest.clone(),
        protocol: study.protocol.clone(),
        fold: study.fold,
        config: plan.config.clone(),
        provenance,
    }
}

fn row(cell: &Finished, size: &Size, lr: f64, plan: &Plan) -> RateRow {
    let record = &cell.record;
    let batch: Option<usize> = toml::from_str::<toml::Table>(&plan.config)
        .ok()
        .and_then(|config| config.get("train")?.get("batch")?.as_integer())
        .map(|batch| batch as usize);
    RateRow {
        model: record.model.clone(),
        size: size.name.clone(),
        lr,
        loss: record.curve.last().map_or(f64::INFINITY, |point| point.train_loss),
        epochs: record.epochs,
        steps: record.epochs * batch.map_or(0, |batch| record.train_clips.div_ceil(batch)),
        params_input: record.params_input,
        train_s: cell.train_s(),
        run: plan.run_digest.clone(),
    }
}
