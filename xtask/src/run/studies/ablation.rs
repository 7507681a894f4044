//! `experiments/ablation/<name>.toml`: a base experiment, and the levels of each factor as `--set` values.

use std::path::Path;

use anyhow::{Context, Result, bail};
use bench_suite::device::DeviceName;
use bench_suite::record::Plan;
use serde::Deserialize;

use crate::cli::selection::Selection;
use crate::repo::Repo;
use crate::text::short_digest;

/// Models, folds and epochs of one kind of model.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Size {
    models: Vec<String>,
    folds: Vec<usize>,
    epochs: usize,
}

/// One factor: its default is the base run, its levels are runs of their own.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Factor {
    pub(crate) name: String,
    pub(crate) default: String,
    /// Also on the dense models.
    #[serde(default)]
    dense: bool,
    /// Also on an inner split of the training folds.
    #[serde(default)]
    inner: bool,
    /// What the levels are numbers of, where they are: then they are drawn as a curve too.
    pub(crate) axis: Option<String>,
    levels: Vec<Level>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Level {
    name: String,
    set: Vec<String>,
    /// Models that the level applies to; all where left out.
    #[serde(default)]
    models: Vec<String>,
}

/// A whole ablation.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ablation {
    pub(crate) experiment: String,
    pub(crate) protocol: String,
    recipe: String,
    models: Vec<String>,
    folds: Vec<usize>,
    epochs: usize,
    dense: Option<Size>,
    /// Settings of the base and of every level.
    #[serde(default)]
    set: Vec<String>,
    #[serde(rename = "factor")]
    pub(crate) factors: Vec<Factor>,
    /// The file's text.
    #[serde(skip)]
    text: String,
}

/// One run of the ablation: a level of a factor, or the base with an empty factor.
#[derive(Debug)]
pub(crate) struct Variant {
    pub(crate) factor: String,
    pub(crate) level: String,
    /// Whether it scores on the inner split.
    pub(crate) inner: bool,
    pub(crate) selection: Selection,
}

impl Ablation {
    /// Reads the ablation of that name.
    pub(crate) fn read(repo: &Repo, name: &str) -> Result<Self> {
        let (text, shown) = super::text(repo, "ablation", "ablation", name)?;
        let mut ablation: Self = toml::from_str(&text).with_context(|| shown.clone())?;
        if ablation.factors.iter().any(|factor| factor.name.is_empty()) {
            bail!("{shown}: a factor without a name");
        }
        for factor in ablation.factors.iter().filter(|factor| factor.axis.is_some()) {
            let positive = |text: &str| text.parse::<f64>().is_ok_and(|at| at.is_finite() && at > 0.0);
            if let Some(level) = factor.levels.iter().find(|level| !positive(&level.name)) {
                bail!(
                    "{shown}: factor {:?} has an axis, and level {:?} is no positive number",
                    factor.name,
                    level.name
                );
            }
        }
        ablation.text = text;
        Ok(ablation)
    }

    /// The name of a run's folder: kind of device, and a digest of this file and of the base's configuration and data.
    pub(crate) fn run_name(&self, base: &Plan) -> String {
        let digest = short_digest(&format!("{}{}", self.text, base.run_digest));
        format!("{}-{digest}", base.device.kind())
    }

    /// Every run, base first, cheap models before dense ones within a factor.
    pub(crate) fn variants(&self, data: Option<&Path>, device: DeviceName) -> Vec<Variant> {
        let sizes: Vec<(bool, Size)> = std::iter::once((false, self.size()))
            .chain(self.dense.iter().map(|size| (true, size.clone())))
            .collect();
        let mut variants = Vec::new();
        let mut push =
            |factor: &str, level: &str, inner: bool, size: &Size, set: &[String], only: &[String]| {
                let named = |model: &&String| only.is_empty() || only.contains(model);
                let models: Vec<String> = size.models.iter().filter(named).cloned().collect();
                if models.is_empty() {
                    return;
                }
                let mut set = [&self.set[..], set].concat();
                if inner {
                    set.push("protocol.inner=true".into());
                }
                variants.push(Variant {
                    factor: factor.to_owned(),
                    level: level.to_owned(),
                    inner,
                    selection: Selection {
                        data: data.map(Path::to_owned),
                        device,
                        models,
                        folds: size.folds.clone(),
                        epochs: Some(size.epochs),
                        recipe: Some(self.recipe.clone()),
                        protocol: Some(self.protocol.clone()),
                        set,
                        ..Selection::default()
                    },
                });
            };
        for inner in [false, true] {
            for (dense, size) in &sizes {
                let wanted = |f: &Factor| (!inner || f.inner) && (!dense || f.dense);
                if self.factors.iter().any(wanted) || (!inner && !dense) {
                    push("", "", inner, size, &[], &[]);
                }
            }
        }
        for factor in &self.factors {
            for inner in [false, true] {
                for (dense, size) in &sizes {
                    if (inner && !factor.inner) || (*dense && !factor.dense) {
                        continue;
                    }
                    for level in &factor.levels {
                        push(&factor.name, &level.name, inner, size, &level.set, &level.models);
                    }
                }
            }
        }
        variants
    }

    fn size(&self) -> Size {
        Size { models: self.models.clone(), folds: self.folds.clone(), epochs: self.epochs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bench_suite::spec::{Spec, stems};

    #[test]
    fn every_level_of_every_ablation_is_a_valid_experiment() {
        let repo = Repo::find().unwrap();
        for name in stems(&repo.path("experiments/ablation")).unwrap() {
            let ablation = Ablation::read(&repo, &name).unwrap();
            let variants = ablation.variants(None, DeviceName::Cpu);
            assert!(variants.len() > ablation.factors.len(), "{name}");
            for variant in variants {
                let overrides = variant.selection.overrides();
                Spec::load(repo.root(), &ablation.experiment, &overrides)
                    .unwrap_or_else(|e| panic!("{name}: {} {}: {e}", variant.factor, variant.level));
            }
        }
    }
}
