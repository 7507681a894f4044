//! `experiments/rates/<name>.toml`: models, sizes and rates.

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::cli::selection::Selection;
use crate::repo::Repo;

/// A whole study.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RateStudy {
    pub(crate) experiment: String,
    pub(crate) protocol: String,
    pub(crate) fold: usize,
    pub(crate) epochs: usize,
    pub(crate) models: Vec<String>,
    pub(crate) rates: Vec<f64>,
    #[serde(rename = "size")]
    pub(crate) sizes: Vec<Size>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Size {
    pub(crate) name: String,
    /// `key=value` of the experiment.
    pub(crate) set: Vec<String>,
}

impl RateStudy {
    /// Reads the study of that name, and its text.
    pub(crate) fn read(repo: &Repo, name: &str) -> Result<(Self, String)> {
        let (text, shown) = super::text(repo, "rates", "study of rates", name)?;
        let study: Self = toml::from_str(&text).with_context(|| shown.clone())?;
        if study.models.is_empty() || study.rates.is_empty() || study.sizes.is_empty() {
            bail!("{shown}: nothing to train without models, rates and sizes");
        }
        Ok((study, text))
    }

    /// The cells of a size at a rate.
    pub(crate) fn selection(&self, base: &Selection, size: &Size, lr: f64) -> Selection {
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

#[cfg(test)]
mod tests {
    use super::*;
    use bench_suite::spec::{Spec, stems};

    #[test]
    fn every_cell_of_every_study_is_a_valid_experiment() {
        let repo = Repo::find().unwrap();
        for name in stems(&repo.path("experiments/rates")).unwrap() {
            let (study, _) = RateStudy::read(&repo, &name).unwrap();
            for size in &study.sizes {
                let overrides = study.selection(&Selection::default(), size, 3e-4).overrides();
                let spec = Spec::load(repo.root(), &study.experiment, &overrides)
                    .unwrap_or_else(|error| panic!("{name} {}: {error}", size.name));
                assert_eq!((spec.lr("gru"), spec.lr("stacked-frames")), (3e-4, 3e-4));
            }
        }
    }
}
