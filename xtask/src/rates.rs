//! `cargo xtask rates`: whether one rate serves models of every size.
//!
//! The training loss after a fixed number of steps against `train.lr`, as `experiments/rates/<name>.toml` says. Only the
//! training clips of one fold are looked at. Rows land in
//! `results/rates/<name>/<digest>/` as they are there.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use bench_suite::provenance::Provenance;
use bench_suite::record::Plan;
use bench_suite::spec::{nearest_or, stems};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::records::{csv_bytes, machines, read_csv, write_atomic};
use crate::repo::Repo;
use crate::selection::Selection;
use crate::text::{md_table, short_digest};
use crate::trials::{self, Finished, Trials};
use crate::{charts, device, engine, experiments};

const RATES_HEADER: &str = "model,size,lr,loss,epochs,steps,params_input,train_s,run";

/// What the command line says.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Name of a TOML in experiments/rates/
    name: String,
    #[command(flatten)]
    study: trials::Study,
}

/// A whole study.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Study {
    experiment: String,
    protocol: String,
    fold: usize,
    epochs: usize,
    models: Vec<String>,
    rates: Vec<f64>,
    #[serde(rename = "size")]
    sizes: Vec<Size>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Size {
    name: String,
    /// `key=value` of the experiment.
    set: Vec<String>,
}

/// A finished cell of a study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RateRow {
    pub(crate) model: String,
    pub(crate) size: String,
    pub(crate) lr: f64,
    /// Mean training loss of the last epoch.
    pub(crate) loss: f64,
    pub(crate) epochs: usize,
    /// Updates in all.
    pub(crate) steps: usize,
    pub(crate) params_input: usize,
    /// Seconds of training.
    pub(crate) train_s: f64,
    /// Folder under `data/runs/`.
    pub(crate) run: String,
}

/// What the rows of a study have in common: `run.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    study: String,
    title: String,
    data: String,
    data_digest: String,
    protocol: String,
    fold: usize,
    /// Configuration of the first cell.
    config: String,
    /// What computed the cells: one entry unless they differ.
    provenance: Vec<Provenance>,
}

impl Study {
    fn read(repo: &Repo, name: &str) -> Result<(Self, String)> {
        let folder = repo.path("experiments/rates");
        nearest_or("study of rates", name, &stems(&folder)?)?;
        let path = folder.join(format!("{name}.toml"));
        let shown = repo.show(&path);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {shown}"))?;
        let study = toml::from_str(&text).with_context(|| shown)?;
        Ok((study, text))
    }

    fn selection(&self, base: &Selection, size: &Size, lr: f64) -> Selection {
        let mut set = size.set.clone();
        // So many steps, and no rate but this one.
        set.extend([format!("train.lr={lr:e}"), "train.model_lr={}".into(), "train.settled=0.0".into()]);
        Selection {
            models: self.models.clone(),
            folds: vec![self.fold],
            epochs: Some(self.epochs),
            protocol: Some(self.protocol.clone()),
            set,
            ..base.clone()
        }
    }
}

/// Runs a study and writes `results/rates/<name>/<digest>/`.
pub(crate) fn rates(repo: &Repo, args: &Options) -> Result<()> {
    let (study, text) = Study::read(repo, &args.name)?;
    let base = Selection {
        data: args.study.data.clone(),
        device: device::resolve(repo, args.study.device),
        ..Selection::default()
    };
    let cells: Vec<(&Size, f64, Selection)> = study
        .sizes
        .iter()
        .flat_map(|size| study.rates.iter().map(move |lr| (size, *lr)))
        .map(|(size, lr)| (size, lr, study.selection(&base, size, lr)))
        .collect();
    let all: Vec<Selection> = cells.iter().map(|(.., selection)| selection.clone()).collect();
    let root = experiments::results_root(repo, args.study.out.as_deref())?.join("rates").join(&args.name);
    experiments::check_writable(&root)?;
    let trials = Trials::open(repo, &study.experiment, &all, &args.study)?;
    trials.prepare(&all[0])?;
    let first = engine::plan(repo, &all[0].flags(&study.experiment)?, false, args.study.verbosity)?;
    let dir = root.join(short_digest(&format!("{text}{}", first.data_digest)));
    fs::create_dir_all(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let mut rows: Vec<RateRow> = Vec::new();
    for (size, lr, selection) in &cells {
        trials.prepare(selection)?;
        let (plan, finished) = trials.run(&format!("{}, rate {lr:e}", size.name), selection)?;
        rows.extend(finished.iter().map(|cell| row(cell, size, *lr, &plan)));
        let about = about(&args.name, &study, &first, trials.provenance(Vec::new()));
        write_atomic(&dir.join("run.toml"), toml::to_string(&about)?.as_bytes())?;
        write_atomic(&dir.join("rates.csv"), &csv_bytes(RATES_HEADER, &rows)?)?;
    }
    derive(&dir)?;
    eprintln!("{} cells; results in {}", rows.len(), repo.show(&dir));
    Ok(())
}

fn about(name: &str, study: &Study, plan: &Plan, provenance: Vec<Provenance>) -> About {
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

/// The row with the lowest loss.
pub(crate) fn best<'a>(rows: &[&'a RateRow]) -> Option<&'a RateRow> {
    rows.iter().copied().min_by(|a, b| a.loss.total_cmp(&b.loss))
}

/// Writes the page and the chart that follow from the records of a folder.
fn derive(dir: &Path) -> Result<()> {
    let path = dir.join("run.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    let about: About = toml::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
    let rows: Vec<RateRow> = read_csv(&dir.join("rates.csv"))?;
    write_atomic(&dir.join("rates.md"), page(&about, &rows).as_bytes())?;
    charts::rates(dir, &about.title, &rows)
}

/// Derives every study below `root` again; how many there are.
pub(crate) fn redraw(repo: &Repo, root: &Path) -> Result<usize> {
    let dirs = experiments::below(root, "rates.csv");
    for dir in &dirs {
        derive(dir)?;
        eprintln!("{} redrawn from its cells", repo.show(dir));
    }
    Ok(dirs.len())
}

fn page(about: &About, rows: &[RateRow]) -> String {
    let mut keys: Vec<(&str, &str)> = Vec::new();
    for row in rows {
        let key = (row.model.as_str(), row.size.as_str());
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys.sort_by_key(|(model, _)| *model);
    let lines: Vec<(Vec<String>, f64)> = keys
        .iter()
        .filter_map(|key| {
            let line: Vec<&RateRow> =
                rows.iter().filter(|row| (row.model.as_str(), row.size.as_str()) == *key).collect();
            let best = best(&line)?;
            let losses: Vec<String> =
                line.iter().map(|row| format!("{:e}: {:.3}", row.lr, row.loss)).collect();
            let cells = [key.0.to_owned(), key.1.to_owned(), format!("{:e}", best.lr), losses.join(", ")];
            Some((cells.to_vec(), best.lr))
        })
        .collect();
    let lowest = lines.iter().map(|(_, lr)| *lr).fold(f64::INFINITY, f64::min);
    let highest = lines.iter().map(|(_, lr)| *lr).fold(0.0, f64::max);
    let steps = rows.iter().map(|row| row.steps).max().unwrap_or(0);
    let mut text = format!(
        "# One rate for every size: {}\n\nMean training loss of the last of {steps} steps' epochs against `train.lr`, \
         protocol `{}`, training clips of fold {}. The best rates lie within a factor of {:.1}.\n\n- {}\n- data digest \
         `{}`\n- machine: {}\n\n![training loss against the rate](rates.svg)\n\n",
        about.study,
        about.protocol,
        about.fold,
        highest / lowest,
        about.data,
        about.data_digest,
        machines(&about.provenance),
    );
    let table: Vec<Vec<String>> = lines.into_iter().map(|(cells, _)| cells).collect();
    text.push_str(&md_table(&["model", "size", "best rate", "loss at each rate"], &table));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use bench_suite::spec::Spec;

    fn cell(model: &str, size: &str, lr: f64, loss: f64) -> RateRow {
        RateRow {
            model: model.into(),
            size: size.into(),
            lr,
            loss,
            epochs: 2,
            steps: 150,
            params_input: 7,
            train_s: 1.0,
            run: "r".into(),
        }
    }

    #[test]
    fn every_cell_of_every_study_is_a_valid_experiment() {
        let repo = Repo::find().unwrap();
        for name in stems(&repo.path("experiments/rates")).unwrap() {
            let (study, _) = Study::read(&repo, &name).unwrap();
            for size in &study.sizes {
                let overrides = study.selection(&Selection::default(), size, 3e-4).overrides();
                let spec = Spec::load(repo.root(), &study.experiment, &overrides)
                    .unwrap_or_else(|error| panic!("{name} {}: {error}", size.name));
                assert_eq!((spec.lr("gru"), spec.lr("stacked-frames")), (3e-4, 3e-4));
            }
        }
    }

    #[test]
    fn the_page_says_how_far_best_rates_are_apart() {
        let rows = [
            cell("gru", "64", 1e-3, 0.5),
            cell("gru", "64", 3e-3, 0.4),
            cell("tt-gru", "64", 1e-3, 0.2),
            cell("tt-gru", "64", 3e-3, 0.3),
        ];
        let about = About {
            study: "s".into(),
            title: "t".into(),
            data: "four clips".into(),
            data_digest: "d".into(),
            protocol: "clips".into(),
            fold: 0,
            config: String::new(),
            provenance: Vec::new(),
        };
        insta::assert_snapshot!(page(&about, &rows));
    }
}
