//! `cargo xtask tune`: every model tuned alike, each training fold by an inner split of its own.
//!
//! Every draw is a run like any other, with its folder under `data/runs/`; rows land in
//! `results/tuning/<name>/<digest>/` as they are there. A fold's test clips are opened when its choice is recorded.

pub(crate) mod rows;
mod spec;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use bench_suite::provenance::Provenance;
use bench_suite::record::{CurvePoint, Plan};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::records::{csv_bytes, machines, write_atomic};
use crate::repo::Repo;
use crate::selection::Selection;
use crate::text::{md_table, score, seconds};
use crate::trials::{self, Finished, Trials};
use crate::{charts, device, engine, experiments};
use rows::{ChoiceRow, FinalRow, Rows, TUNING_HEADER, TrialRow};
use spec::Tune;

/// What a search's rows have in common: `run.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    search: String,
    protocol: String,
    models: Vec<String>,
    /// Draws and epochs of each step of the halving.
    rungs: Vec<(usize, usize)>,
    title: String,
    data: String,
    data_digest: String,
    clips: usize,
    frames: usize,
    /// Configuration of the first draw.
    config: String,
    /// What computed the cells: one entry unless they differ.
    provenance: Vec<Provenance>,
}

impl About {
    fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("run.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is damaged", path.display()))
    }
}

/// What the command line says.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Name of a TOML in experiments/tune/
    name: String,
    /// Only these models of the search
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    models: Vec<String>,
    /// Only these folds of the search
    #[arg(long, value_name = "0,1", value_delimiter = ',')]
    folds: Vec<usize>,
    #[command(flatten)]
    study: trials::Study,
}

/// A search under way.
struct Search<'a> {
    tune: &'a Tune,
    draws: Vec<Vec<String>>,
    /// Data and device.
    base: Selection,
    trials: Trials<'a>,
}

/// Runs a search and writes `results/tuning/<name>/<digest>/`.
pub(crate) fn tune(repo: &Repo, args: &Options) -> Result<()> {
    let whole = Tune::read(repo, &args.name)?;
    let tune = whole.narrowed(&args.models, &args.folds)?;
    let draws = tune.draws();
    let device = device::resolve(repo, args.study.device);
    let base = Selection {
        data: args.study.data.clone(),
        device,
        protocol: Some(tune.protocol.clone()),
        ..Selection::default()
    };
    let all: Vec<Selection> =
        draws.iter().map(|draw| inner(&base, &tune.models, &tune.folds, draw, 1)).collect();
    let root = experiments::results_root(repo, args.study.out.as_deref())?.join("tuning").join(&args.name);
    experiments::check_writable(&root)?;
    let trials = Trials::open(repo, &tune.experiment, &all, &args.study)?;
    trials.prepare(&all[0])?;
    let search = Search { tune: &tune, draws, base, trials };
    let first = engine::plan(repo, &all[0].flags(&tune.experiment)?, false, args.study.verbosity)?;
    let dir = root.join(whole.digest(&first.data_digest));
    fs::create_dir_all(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let mut about = about(&args.name, &whole, &first);
    if dir.join("run.toml").is_file() {
        about.provenance = About::read(&dir)?.provenance;
    }
    let write = |rows: &Rows, about: &About| {
        let provenance = search.trials.provenance(about.provenance.clone());
        let about = About { provenance, ..about.clone() };
        write_atomic(&dir.join("run.toml"), toml::to_string(&about)?.as_bytes())?;
        rows.write(&dir)
    };
    let mut rows = Rows::read(&dir)?;
    rows.forget(&tune.models, &tune.folds);
    for rung in 0..tune.rungs.len() {
        search.rung(rung, &mut rows)?;
        write(&rows, &about)?;
    }
    search.choose(&mut rows);
    write(&rows, &about)?;
    search.finals(&mut rows)?;
    write(&rows, &about)?;
    derive(&dir)?;
    eprintln!("{} trials, {} choices; results in {}", rows.trials.len(), rows.choices.len(), repo.show(&dir));
    Ok(())
}

/// Cells on the inner split of training folds. No other selection of a search may come before the choices.
fn inner(base: &Selection, models: &[String], folds: &[usize], draw: &[String], epochs: usize) -> Selection {
    let mut set = draw.to_vec();
    // A rate of a model's own would stand in the draw's way.
    set.extend(["train.model_lr={}".into(), "protocol.inner=true".into()]);
    Selection { models: models.to_vec(), folds: folds.to_vec(), epochs: Some(epochs), set, ..base.clone() }
}

impl Search<'_> {
    /// Trains the draws of a step. Models and folds that share a draw share a run.
    fn rung(&self, rung: usize, rows: &mut Rows) -> Result<()> {
        let epochs = self.tune.rungs[rung].epochs;
        for (draw, settings) in self.draws.iter().enumerate() {
            for model in &self.tune.models {
                let folds: Vec<usize> = self
                    .tune
                    .folds
                    .iter()
                    .copied()
                    .filter(|f| self.takes_part(rows, model, *f, rung, draw))
                    .collect();
                if folds.is_empty() {
                    continue;
                }
                let selection = inner(&self.base, std::slice::from_ref(model), &folds, settings, epochs);
                let what = format!("{model}, step {}, draw {}", rung + 1, draw + 1);
                let (plan, cells) = self.trials.run(&what, &selection)?;
                rows.trials.extend(cells.iter().map(|cell| trial(cell, rung, draw, settings, &plan)));
            }
        }
        Ok(())
    }

    /// Whether a draw is among the best of the step before, or there is none before.
    fn takes_part(&self, rows: &Rows, model: &str, fold: usize, rung: usize, draw: usize) -> bool {
        let Some(before) = rung.checked_sub(1) else { return true };
        let kept = rows.ranked(model, fold, before);
        kept.iter().take(self.tune.rungs[rung].draws).any(|trial| trial.draw == draw)
    }

    /// The best draw of the last step and its best epoch, for each model and fold.
    fn choose(&self, rows: &mut Rows) {
        let last = self.tune.rungs.len() - 1;
        for model in &self.tune.models {
            for fold in &self.tune.folds {
                let choice = rows.ranked(model, *fold, last).first().map(|best| ChoiceRow {
                    model: model.clone(),
                    fold: *fold,
                    draw: best.draw,
                    settings: best.settings.clone(),
                    epochs: best.best_epoch,
                    value: best.value,
                });
                rows.choices.extend(choice);
            }
        }
    }

    /// Trains every choice on its whole training fold and scores it on the test fold.
    fn finals(&self, rows: &mut Rows) -> Result<()> {
        let ours =
            |row: &&ChoiceRow| self.tune.models.contains(&row.model) && self.tune.folds.contains(&row.fold);
        for choice in rows.choices.iter().filter(ours) {
            let mut set = self.draws[choice.draw].clone();
            // The number of epochs was chosen: nothing else ends the training.
            set.extend(["train.model_lr={}".into(), "train.settled=0.0".into()]);
            let selection = Selection {
                models: vec![choice.model.clone()],
                folds: vec![choice.fold],
                epochs: Some(choice.epochs),
                set,
                ..self.base.clone()
            };
            let what = format!("{}, fold {}, as chosen", choice.model, choice.fold);
            let (plan, cells) = self.trials.run(&what, &selection)?;
            rows.finals.extend(cells.into_iter().map(|cell| scored(cell, choice, &plan)));
        }
        Ok(())
    }
}

/// The best evaluated epoch of a curve, the first of equals.
fn best(curve: &[CurvePoint]) -> Option<(usize, f64)> {
    let evaluated = curve.iter().filter_map(|point| Some((point.epoch, point.test_value?)));
    evaluated.reduce(|best, next| if next.1 > best.1 { next } else { best })
}

fn trial(cell: &Finished, rung: usize, draw: usize, settings: &[String], plan: &Plan) -> TrialRow {
    let record = &cell.record;
    let (best_epoch, value) = best(&record.curve).unwrap_or((record.epochs, record.value));
    TrialRow {
        model: record.model.clone(),
        fold: record.fold,
        rung,
        draw,
        settings: settings.join(" "),
        epochs: record.epochs,
        value,
        best_epoch,
        train_s: cell.train_s(),
        run: plan.run_digest.clone(),
    }
}

fn scored(cell: Finished, choice: &ChoiceRow, plan: &Plan) -> FinalRow {
    let train_s = cell.train_s();
    let record = cell.record;
    FinalRow {
        model: record.model,
        fold: record.fold,
        seed: record.seed,
        draw: choice.draw,
        settings: choice.settings.clone(),
        epochs: record.epochs,
        value: record.value,
        train_clips: record.train_clips,
        test_clips: record.test_clips,
        params_input: record.params_input,
        train_s,
        run: plan.run_digest.clone(),
        hits: cell.hits,
        groups: cell.groups,
    }
}

fn about(name: &str, tune: &Tune, plan: &Plan) -> About {
    About {
        search: name.to_owned(),
        protocol: tune.protocol.clone(),
        models: tune.models.clone(),
        rungs: tune.rungs.iter().map(|rung| (rung.draws, rung.epochs)).collect(),
        title: plan.data.clone(),
        data: engine::data_line(plan),
        data_digest: plan.data_digest.clone(),
        clips: plan.clips,
        frames: plan.frames,
        config: plan.config.clone(),
        provenance: Vec::new(),
    }
}

/// Writes the table, the page and the chart that follow from the records of a folder.
fn derive(dir: &Path) -> Result<()> {
    let about = About::read(dir)?;
    let rows = Rows::read(dir)?;
    write_atomic(&dir.join("tuning.csv"), &csv_bytes(TUNING_HEADER, &rows.table(&about.models))?)?;
    write_atomic(&dir.join("tuning.md"), page(&about, &rows).as_bytes())?;
    let curves: Vec<(String, Vec<f64>)> =
        about.models.iter().map(|model| (model.clone(), rows.expected_best(model))).collect();
    charts::tuning(dir, &about.title, &curves)
}

/// Derives every search below `root` again; how many there are.
pub(crate) fn redraw(repo: &Repo, root: &Path) -> Result<usize> {
    let dirs = experiments::below(root, "finals.csv");
    for dir in &dirs {
        derive(dir)?;
        eprintln!("{} redrawn from its cells", repo.show(dir));
    }
    Ok(dirs.len())
}

fn page(about: &About, rows: &Rows) -> String {
    let step = |(draws, epochs): &(usize, usize)| {
        let plural = if *draws == 1 { "" } else { "s" };
        format!("{draws} draw{plural} to {epochs} epochs")
    };
    let steps: Vec<String> = about.rungs.iter().map(step).collect();
    let mut text = format!(
        "# Tuned with equal budget: {}\n\nProtocol `{}`. Each training fold chose by an inner split of its own: {}, the \
         best of a step trained afresh in the next; of the best draw the best evaluated epoch. Then the choice was \
         trained on the whole training fold, and scored once on the test fold. All models had the same draws. \
         `difference` is a TT model less its dense twin on the same folds; intervals are 95 %, by bootstrap over test \
         clips. Hours are of training.\n\n- {}\n- {} clips, {} frames; data digest `{}`\n- machine: {}\n\n![expected best score against \
         the number of draws](tuning.svg)\n\n",
        about.search,
        about.protocol,
        steps.join(", then "),
        about.data,
        about.clips,
        about.frames,
        about.data_digest,
        machines(&about.provenance),
    );
    let range = |low: Option<f64>, high: Option<f64>| match (low, high) {
        (Some(low), Some(high)) => format!("{} to {}", score(low), score(high)),
        _ => String::new(),
    };
    let table: Vec<Vec<String>> = rows
        .table(&about.models)
        .iter()
        .map(|row| {
            let difference = row
                .difference
                .map(|d| format!("{d:+.3} ({})", range(row.difference_low, row.difference_high)));
            vec![
                row.model.clone(),
                row.std
                    .map_or_else(|| score(row.mean), |std| format!("{} ± {}", score(row.mean), score(std))),
                range(row.ci_low, row.ci_high),
                difference.unwrap_or_default(),
                score(row.inner_mean),
                row.folds.to_string(),
                seconds(row.search_s),
                seconds(row.final_s),
            ]
        })
        .collect();
    let header = [
        "model",
        "accuracy",
        "95 % interval",
        "difference",
        "inner split",
        "folds",
        "search",
        "final training",
    ];
    text.push_str(&md_table(&header, &table));
    text.push_str("\n## Choices\n\n");
    let choices: Vec<Vec<String>> = rows
        .choices
        .iter()
        .map(|c| {
            let settings = c.settings.replace("train.", "").replace("model.", "");
            vec![c.model.clone(), c.fold.to_string(), score(c.value), c.epochs.to_string(), settings]
        })
        .collect();
    text.push_str(&md_table(&["model", "fold", "inner split", "epochs", "settings"], &choices));
    text
}

#[cfg(test)]
mod tests;
