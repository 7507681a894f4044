//! `experiments/tune/<name>.toml`: an experiment, the space of its settings, and what may be spent on each model.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use bench_suite::stats::Draws;
use serde::Deserialize;

use crate::repo::Repo;
use crate::text::short_digest;

/// A whole search.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tune {
    pub(crate) experiment: String,
    pub(crate) protocol: String,
    pub(crate) models: Vec<String>,
    pub(crate) folds: Vec<usize>,
    /// Seed of the draws.
    seed: u64,
    #[serde(rename = "rung")]
    pub(crate) rungs: Vec<Rung>,
    #[serde(rename = "setting")]
    settings: Vec<Setting>,
    /// The file's text.
    #[serde(skip)]
    text: String,
}

/// A step of successive halving: the best draws of the step before, trained afresh for longer.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rung {
    /// Draws that take part.
    pub(crate) draws: usize,
    /// Epochs at most.
    pub(crate) epochs: usize,
}

/// One coordinate of the space.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Written")]
struct Setting {
    /// Keys of the experiment that get the drawn value.
    keys: Vec<String>,
    range: Range,
}

/// A coordinate as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    keys: Vec<String>,
    log: Option<[f64; 2]>,
    linear: Option<[f64; 2]>,
    choices: Option<Vec<String>>,
}

impl TryFrom<Written> for Setting {
    type Error = String;

    fn try_from(written: Written) -> std::result::Result<Self, String> {
        let Written { keys, log, linear, choices } = written;
        let range = match (log, linear, choices) {
            (Some(ends), None, None) => Range::Log(ends),
            (None, Some(ends), None) => Range::Linear(ends),
            (None, None, Some(names)) => Range::Choices(names),
            _ => return Err(format!("setting {keys:?} needs one of log, linear and choices")),
        };
        Ok(Self { keys, range })
    }
}

/// What a search itself chooses, or what must be the same for all that it compares.
const NOT_DRAWN: [&str; 5] = ["protocol.", "train.epochs", "train.model_lr", "train.seeds", "train.settled"];

#[derive(Debug, Clone)]
enum Range {
    /// Uniform in the logarithm.
    Log([f64; 2]),
    /// Uniform.
    Linear([f64; 2]),
    /// One of these.
    Choices(Vec<String>),
}

impl Range {
    /// The value at a place in [0, 1), with three digits.
    fn at(&self, place: f64) -> String {
        match self {
            Self::Log([low, high]) => format!("{:.2e}", low * (high / low).powf(place)),
            Self::Linear([low, high]) => format!("{:.3}", low + (high - low) * place),
            Self::Choices(names) => names[(place * names.len() as f64) as usize].clone(),
        }
    }

    fn is_usable(&self) -> bool {
        match self {
            Self::Log([low, high]) => 0.0 < *low && low < high && high.is_finite(),
            Self::Linear([low, high]) => low < high && high.is_finite(),
            Self::Choices(names) => !names.is_empty(),
        }
    }
}

impl Tune {
    /// Reads the search of that name.
    pub(crate) fn read(repo: &Repo, name: &str) -> Result<Self> {
        let (text, shown) = super::text(repo, "tune", "search", name)?;
        Self::parse(text).with_context(|| shown)
    }

    fn parse(text: String) -> Result<Self> {
        let mut tune: Self = toml::from_str(&text)?;
        let falls = tune.rungs.windows(2).all(|w| w[0].draws > w[1].draws && w[0].epochs < w[1].epochs);
        if !falls
            || tune.rungs.iter().any(|rung| rung.draws == 0 || rung.epochs == 0)
            || tune.rungs.is_empty()
        {
            bail!(
                "each rung must have fewer draws and more epochs than the one before, and at least one of both"
            );
        }
        if tune.models.is_empty() || tune.folds.is_empty() {
            bail!("nothing to train without models and folds");
        }
        if let Some(setting) = tune.settings.iter().find(|s| s.keys.is_empty() || !s.range.is_usable()) {
            bail!("setting {:?} needs keys, and a range with a low end below its high end", setting.keys);
        }
        let mut keys = BTreeSet::new();
        for key in tune.settings.iter().flat_map(|setting| &setting.keys) {
            if NOT_DRAWN.iter().any(|start| key.starts_with(start)) {
                bail!("{key} cannot be drawn: a search sets it itself, or compares what is alike in it");
            }
            if !keys.insert(key) {
                bail!("{key} is in two settings");
            }
        }
        tune.text = text;
        Ok(tune)
    }

    /// The same search for some of its models and folds; empty: all.
    pub(crate) fn narrowed(&self, models: &[String], folds: &[usize]) -> Result<Self> {
        if let Some(model) = models.iter().find(|model| !self.models.contains(model)) {
            bail!("the search has no model {model:?}; it has {}", self.models.join(", "));
        }
        if let Some(fold) = folds.iter().find(|fold| !self.folds.contains(fold)) {
            bail!("the search has no fold {fold}; it has {:?}", self.folds);
        }
        let mut tune = self.clone();
        tune.models.retain(|model| models.is_empty() || models.contains(model));
        tune.folds.retain(|fold| folds.is_empty() || folds.contains(fold));
        Ok(tune)
    }

    /// What names the folder of this search's records: the file, and the configuration, data and kind of device of its first
    /// run.
    pub(crate) fn digest(&self, run_digest: &str) -> String {
        short_digest(&format!("{}{run_digest}", self.text))
    }

    /// The settings of every draw as `key=value`: a Latin hypercube, so that each setting's range is covered evenly by
    /// any number of draws. All models and folds get the same ones.
    pub(crate) fn draws(&self) -> Vec<Vec<String>> {
        let count = self.rungs[0].draws;
        let mut draws = vec![Vec::new(); count];
        for setting in &self.settings {
            let mut stream = Draws::new(&format!("tune/{}/{}", self.seed, setting.keys.join(" ")));
            let mut cells: Vec<usize> = (0..count).collect();
            for last in (1..count).rev() {
                cells.swap(last, stream.below(last + 1));
            }
            for (draw, cell) in draws.iter_mut().zip(cells) {
                let within = stream.bits() as f64 / 2f64.powi(64);
                let value = setting.range.at(((cell as f64 + within) / count as f64).min(1.0 - f64::EPSILON));
                draw.extend(setting.keys.iter().map(|key| format!("{key}={value}")));
            }
        }
        draws
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::selection::Selection;
    use bench_suite::spec::{Spec, stems};

    const TEXT: &str = "experiment = \"e\"\nprotocol = \"clips\"\nmodels = [\"gru\"]\nfolds = [0]\nseed = 0\n\
                        rung = [{ draws = 8, epochs = 2 }, { draws = 2, epochs = 4 }]\n\
                        [[setting]]\nkeys = [\"a\", \"b\"]\nlog = [1e-4, 1e-2]\n\
                        [[setting]]\nkeys = [\"c\"]\nchoices = [\"x\", \"y\"]\n";

    #[test]
    fn draws_cover_every_range_evenly_and_are_always_the_same() {
        let tune = Tune::parse(TEXT.into()).unwrap();
        let draws = tune.draws();
        assert_eq!(draws, tune.draws());
        let mut places = Vec::new();
        for draw in &draws {
            let [a, b, c] = &draw[..] else { panic!("{draw:?}") };
            assert_eq!(a.trim_start_matches("a="), b.trim_start_matches("b="));
            let value: f64 = a.trim_start_matches("a=").parse().unwrap();
            places.push(((value.log10() + 4.0) * 4.0).floor() as i64);
            assert!(["c=x", "c=y"].contains(&c.as_str()));
        }
        places.sort_unstable();
        assert_eq!(places, [0, 1, 2, 3, 4, 5, 6, 7], "one draw in each eighth of the logarithm");
        assert_eq!(draws.iter().filter(|draw| draw[2] == "c=x").count(), 4);
    }

    #[test]
    fn rungs_and_ranges_that_make_no_sense_are_refused() {
        for (from, to) in
            [("draws = 2", "draws = 8"), ("epochs = 4", "epochs = 2"), ("1e-4, 1e-2", "1e-2, 1e-4")]
        {
            assert!(Tune::parse(TEXT.replace(from, to)).is_err(), "{to}");
        }
        for (from, to, words) in [
            ("log =", "lot =", "unknown field `lot`"),
            ("log =", "linear = [0.0, 1.0]\nlog =", "one of log, linear and choices"),
            ("\"c\"", "\"a\"", "a is in two settings"),
            ("\"c\"", "\"protocol.folds\"", "protocol.folds cannot be drawn"),
            ("\"c\"", "\"train.model_lr.gru\"", "train.model_lr.gru cannot be drawn"),
        ] {
            let error = format!("{:#}", Tune::parse(TEXT.replace(from, to)).unwrap_err());
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn every_draw_of_every_search_is_a_valid_experiment() {
        let repo = Repo::find().unwrap();
        for name in stems(&repo.path("experiments/tune")).unwrap() {
            let tune = Tune::read(&repo, &name).unwrap();
            for draw in tune.draws() {
                let selection = Selection { models: tune.models.clone(), set: draw, ..Selection::default() };
                Spec::load(repo.root(), &tune.experiment, &selection.overrides())
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
            }
        }
    }
}
