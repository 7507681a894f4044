//! `cargo xtask tune`: every model tuned alike, each training fold by an inner split of its own.
//!
//! Every draw is a run like any other, with its folder under `data/runs/`; rows land in
//! `results/tuning/<name>/<digest>/` as they are there. A fold's test clips are opened when its choice is recorded.

use anyhow::Result;
use bench_suite::draw;
use bench_suite::record::{CurvePoint, Plan};
use bench_suite::results::folders::check_writable;
use bench_suite::results::tuning::{About, ChoiceRow, FinalRow, Rows, TrialRow};
use bench_suite::results::{hold, read_toml, write_toml};

use crate::cli::selection::Selection;
use crate::cli::studies;
use crate::machine::devices;
use crate::repo::Repo;
use crate::run::forecast::Part;
use crate::run::studies::tune::{Rung, Tune};
use crate::run::trials::{Finished, Ran, Trial, Trials};
use crate::run::{engine, forecast};

/// A search under way.
struct Search<'a> {
    tune: &'a Tune,
    draws: Vec<Vec<String>>,
    /// Data and device.
    base: Selection,
    trials: Trials<'a>,
}

/// Runs a search and writes `results/tuning/<name>/<digest>/`.
pub(crate) fn tune(repo: &Repo, args: &studies::Tune) -> Result<()> {
    let whole = Tune::read(repo, &args.name)?;
    let tune = whole.narrowed(&args.models, &args.folds)?;
    let draws = tune.draws();
    let device = devices::resolve(repo, args.study.device);
    let base = Selection {
        data: args.study.data.clone(),
        device,
        protocol: Some(tune.protocol.clone()),
        ..Selection::default()
    };
    if args.study.dry_run {
        return forecast::print(repo, &tune.experiment, &parts(&tune, &base, &draws[0]), &args.study);
    }
    let all: Vec<Selection> =
        draws.iter().map(|draw| inner(&base, &tune.models, &tune.folds, draw, 1)).collect();
    let root = repo.results(args.study.out.as_deref())?.join("tuning").join(&args.name);
    let trials = Trials::open(repo, &tune.experiment, &all, &args.study)?;
    check_writable(&root)?;
    trials.prepare(&all[0])?;
    let search = Search { tune: &tune, draws, base, trials };
    let first = engine::plan(repo, &all[0].flags(&tune.experiment)?, false, args.study.verbosity)?;
    let dir = root.join(whole.digest(&first.run_digest));
    let about = about(&args.name, &whole, &first);
    // Another process may search with other models or folds meanwhile: its rows stay.
    let write = |rows: &Rows| {
        let _held = hold(&dir)?;
        let path = dir.join("run.toml");
        let before = if path.is_file() { read_toml::<About>(&path)?.provenance } else { Vec::new() };
        write_toml(&path, &About { provenance: search.trials.provenance(before), ..about.clone() })?;
        Rows::read(&dir)?.with(rows, &tune.models, &tune.folds).write(&dir)
    };
    let mut rows = Rows::default();
    for rung in 0..tune.rungs.len() {
        search.rung(rung, &mut rows)?;
        write(&rows)?;
    }
    search.choose(&mut rows);
    write(&rows)?;
    search.finals(&mut rows)?;
    write(&rows)?;
    let _held = hold(&dir)?;
    draw::tuning::derive(&dir)?;
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

/// The steps of a search, and its choices at the most epochs that they can be of.
fn parts(tune: &Tune, base: &Selection, draw: &[String]) -> Vec<Part> {
    let step = |(at, rung): (usize, &Rung)| Part {
        what: format!("step {}", at + 1),
        selection: inner(base, &tune.models, &tune.folds, draw, rung.epochs),
        times: rung.draws,
    };
    let mut parts: Vec<Part> = tune.rungs.iter().enumerate().map(step).collect();
    let last = tune.rungs.last().map_or(0, |rung| rung.epochs);
    let chosen = outer(base, &tune.models, &tune.folds, draw, last);
    parts.push(Part { what: "as chosen".into(), selection: chosen, times: 1 });
    parts
}

/// Cells on whole training folds and their test clips. The number of epochs was chosen: nothing else ends the training.
fn outer(base: &Selection, models: &[String], folds: &[usize], draw: &[String], epochs: usize) -> Selection {
    let mut set = draw.to_vec();
    set.extend(["train.model_lr={}".into(), "train.settled=0.0".into()]);
    Selection { models: models.to_vec(), folds: folds.to_vec(), epochs: Some(epochs), set, ..base.clone() }
}

impl Search<'_> {
    /// Trains the draws of a step. Models and folds that share a draw share a run.
    fn rung(&self, rung: usize, rows: &mut Rows) -> Result<()> {
        let epochs = self.tune.rungs[rung].epochs;
        let (mut draws, mut trials) = (Vec::new(), Vec::new());
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
                trials.push(Trial { what, selection });
                draws.push((draw, settings));
            }
        }
        for (Ran { plan, cells }, (draw, settings)) in self.trials.run(&trials)?.iter().zip(draws) {
            rows.trials.extend(cells.iter().map(|cell| trial(cell, rung, draw, settings, plan)));
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
        let trial = |choice: &ChoiceRow| {
            let models = std::slice::from_ref(&choice.model);
            let draw = &self.draws[choice.draw];
            let selection = outer(&self.base, models, &[choice.fold], draw, choice.epochs);
            Trial { what: format!("{}, fold {}, as chosen", choice.model, choice.fold), selection }
        };
        let trials: Vec<Trial> = rows.choices.iter().map(trial).collect();
        for (Ran { plan, cells }, choice) in self.trials.run(&trials)?.into_iter().zip(&rows.choices) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn point(epoch: usize, test_value: Option<f64>) -> CurvePoint {
        CurvePoint { epoch, train_loss: 1.0, train_value: 0.5, test_value, wall_s: 0.5 }
    }

    #[test]
    fn the_first_of_the_best_evaluated_epochs_is_chosen() {
        let curve = [
            point(1, None),
            point(2, Some(0.4)),
            point(3, Some(0.7)),
            point(4, Some(0.7)),
            point(5, Some(0.6)),
        ];
        assert_eq!(best(&curve), Some((3, 0.7)));
        assert_eq!(best(&curve[..1]), None);
    }

    #[test]
    fn a_search_is_forecast_step_by_step() {
        let tune = Tune::read(&Repo::find().unwrap(), "miracl-words").unwrap();
        let parts = parts(&tune, &Selection::default(), &tune.draws()[0]);
        let found = parts.iter().map(|part| (part.what.as_str(), part.times, part.selection.epochs));
        let expected = [("step 1", 12, 5), ("step 2", 4, 15), ("step 3", 1, 30), ("as chosen", 1, 30)];
        assert!(found.eq(expected.map(|(what, times, epochs)| (what, times, Some(epochs)))));
        let inner = |part: &Part| part.selection.set.iter().any(|set| set == "protocol.inner=true");
        assert_eq!(parts.iter().map(inner).collect::<Vec<_>>(), [true, true, true, false]);
    }

    #[test]
    fn what_a_search_looks_at_is_an_inner_split_without_rates_of_a_models_own() {
        let draw = ["train.lr=2e-3".to_owned()];
        let selection = inner(&Selection::default(), &["mean-frame".into()], &[3], &draw, 5);
        let repo = Repo::find().unwrap();
        let spec =
            bench_suite::spec::Spec::load(repo.root(), "miracl-words", &selection.overrides()).unwrap();
        assert!(spec.protocol.inner);
        assert_eq!(
            (spec.lr("mean-frame"), spec.folds("mean-frame"), spec.epochs("mean-frame")),
            (2e-3, vec![3], 5)
        );
    }
}
