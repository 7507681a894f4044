//! The records of compressed models, a row per case, and the table that follows from them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::provenance::Provenance;
use crate::record::{CompressionCase, KernelCase, SingularValue};
use crate::record_files::{csv_bytes, read_csv, read_csv_or_none, read_toml, write_atomic, write_toml};
use crate::results::folders::{RUNS, holding, home, largest};
use crate::results::provenance::note;

/// Header of `cases.csv`.
const CASES_HEADER: &str = "model,form,rank,fold,seed,protocol,recipe,rel_error,params,acc_before,acc_factorized,\
                            acc_finetuned,acc_scratch,epochs,epochs_before,factorize_s,peak_rss_bytes";
/// Header of `table.csv`.
pub(crate) const COMPRESSION_HEADER: &str = "model,form,protocol,recipe,seed,rank,rel_error,params,acc_before,\
                                             acc_factorized,acc_finetuned,acc_scratch,epochs,folds,factorize_s,\
                                             peak_rss_bytes";

/// Singular values of the unfoldings, in a run's folder and among the results.
pub const SINGULAR_VALUES: &str = "singular_values.csv";
/// Its header.
const SINGULAR_VALUES_HEADER: &str = "model,matrix,unfolding,index,singular_value,rel_error";

/// Factorized kernels of a case in a run's folder, and of all cases among the results.
pub const KERNELS: &str = "kernels.csv";
/// Its header.
const KERNELS_HEADER: &str = "model,form,rank,fold,seed,protocol,recipe,kernel,numbers,params,rel_error";

/// What the cases of a run have in common: `run.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Name of the experiment.
    pub experiment: String,
    /// One line that says which data this is.
    pub data: String,
    /// SHA-256 over the store's manifest.
    pub data_digest: String,
    /// Digest of the dense run.
    pub run: String,
    /// When the last case was finished, UTC.
    pub finished: String,
    /// The resolved configuration as TOML.
    pub config: String,
    /// What computed the cases: one entry unless they differ.
    pub provenance: Vec<Provenance>,
}

/// A row of `table.csv`: means over the folds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CompressionRow {
    pub(crate) model: String,
    pub(crate) form: String,
    pub(crate) protocol: String,
    pub(crate) recipe: String,
    pub(crate) seed: u64,
    pub(crate) rank: usize,
    pub(crate) rel_error: f64,
    pub(crate) params: usize,
    pub(crate) acc_before: f64,
    pub(crate) acc_factorized: f64,
    pub(crate) acc_finetuned: f64,
    pub(crate) acc_scratch: f64,
    pub(crate) epochs: usize,
    pub(crate) folds: usize,
    pub(crate) factorize_s: f64,
    pub(crate) peak_rss_bytes: u64,
}

impl CompressionRow {
    /// Whether it is of another format than a train: `form` then begins with its name.
    pub(crate) fn other_format(&self) -> bool {
        self.form.contains('-')
    }

    /// Whether it is of the kernels of a CNN.
    pub(crate) fn of_kernels(&self) -> bool {
        self.form.ends_with("-kernels")
    }
}

/// Adds a case to the `cases.csv` of the run of that name; one that is there with other numbers stays, and the case goes
/// to another folder.
pub fn keep(dir: &Path, run: &str, case: CompressionCase) -> Result<PathBuf> {
    let cases = |folder: &Path| read_csv_or_none::<CompressionCase>(&folder.join("cases.csv"));
    let folder = home(&dir.join(RUNS), run, |folder| {
        Ok(cases(folder)?.iter().all(|known| name(known) != name(&case) || *known == case))
    })?;
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let mut all = cases(&folder)?;
    if !all.contains(&case) {
        all.push(case);
        all.sort_by(|a, b| name(a).cmp(&name(b)));
    }
    write_atomic(&folder.join("cases.csv"), &csv_bytes(CASES_HEADER, &all)?)?;
    Ok(folder)
}

/// Adds the singular values of a model to those of the run's others.
pub fn keep_values(folder: &Path, model: &str, values: &[SingularValue]) -> Result<()> {
    let path = folder.join(SINGULAR_VALUES);
    let mut rows: Vec<SingularValue> = read_csv_or_none(&path)?;
    if !rows.iter().any(|row| row.model == model) {
        rows.extend_from_slice(values);
        rows.sort_by(|a, b| a.model.cmp(&b.model));
    }
    write_atomic(&path, &csv_bytes(SINGULAR_VALUES_HEADER, &rows)?)
}

/// Adds the factorized kernels of a case to those of the run's others.
pub fn keep_kernels(folder: &Path, kernels: &[KernelCase]) -> Result<()> {
    let path = folder.join(KERNELS);
    let mut rows: Vec<KernelCase> = read_csv_or_none(&path)?;
    rows.extend(kernels.iter().filter(|new| !rows.contains(new)).cloned().collect::<Vec<_>>());
    // Kernels of a case stay in the order of the network.
    rows.sort_by(|a, b| of_case(a).cmp(&of_case(b)));
    write_atomic(&path, &csv_bytes(KERNELS_HEADER, &rows)?)
}

/// Writes `run.toml`, or adds to it what computed one case more.
pub fn keep_about(folder: &Path, new: About) -> Result<()> {
    let path = folder.join("run.toml");
    let mut about: About =
        if path.is_file() { read_toml(&path)? } else { About { provenance: Vec::new(), ..new.clone() } };
    about.finished = about.finished.max(new.finished);
    for by in &new.provenance {
        note(&mut about.provenance, by);
    }
    write_toml(&path, &about)
}

/// What the page of an experiment shows.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) about: About,
    pub(crate) table: Vec<CompressionRow>,
    pub(crate) values: Vec<SingularValue>,
    pub(crate) kernels: Vec<KernelCase>,
    /// Names of the run and of the others.
    pub(crate) run: String,
    pub(crate) others: Vec<String>,
}

/// The run with the most cases.
pub(crate) fn shown(dir: &Path) -> Result<Shown> {
    let runs = dir.join(RUNS);
    let cases = |folder: &Path| read_csv::<CompressionCase>(&folder.join("cases.csv"));
    let about = |folder: &Path| read_toml::<About>(&folder.join("run.toml"));
    let run = largest(&runs, |folder| Ok((cases(folder)?.len(), about(folder)?.finished)))?;
    let run = run.with_context(|| format!("{} holds no runs", dir.display()))?;
    let folder = runs.join(&run);
    Ok(Shown {
        about: about(&folder)?,
        table: table(&cases(&folder)?),
        values: read_csv_or_none(&folder.join(SINGULAR_VALUES))?,
        kernels: read_csv_or_none(&folder.join(KERNELS))?,
        others: holding(&runs, "run.toml")?.into_iter().filter(|name| *name != run).collect(),
        run,
    })
}

/// What tells cases apart.
fn name(case: &CompressionCase) -> (&str, &str, usize, usize, (&str, &str), usize, u64) {
    let CompressionCase { model, form, rank, epochs, protocol, recipe, fold, seed, .. } = case;
    (model, form, *rank, *epochs, (protocol, recipe), *fold, *seed)
}

/// What tells the cases of kernels apart.
fn of_case(kernel: &KernelCase) -> (&str, &str, usize, (&str, &str), u64, usize) {
    let KernelCase { model, form, rank, protocol, recipe, fold, seed, .. } = kernel;
    (model, form, *rank, (protocol, recipe), *seed, *fold)
}

/// Model, form, where it was trained (protocol, recipe, seed), rank and epochs: what a row of the table is of.
type Group<'a> = (&'a str, &'a str, (&'a str, &'a str, u64), usize, usize);

fn table(cases: &[CompressionCase]) -> Vec<CompressionRow> {
    let mut groups: BTreeMap<Group<'_>, Vec<&CompressionCase>> = BTreeMap::new();
    for case in cases {
        let of = (case.protocol.as_str(), case.recipe.as_str(), case.seed);
        let key = (case.model.as_str(), case.form.as_str(), of, case.rank, case.epochs);
        groups.entry(key).or_default().push(case);
    }
    let row = |((model, form, (protocol, recipe, seed), rank, epochs), cases): (
        Group<'_>,
        Vec<&CompressionCase>,
    )| {
        let mean =
            |of: fn(&CompressionCase) -> f64| cases.iter().map(|c| of(c)).sum::<f64>() / cases.len() as f64;
        CompressionRow {
            model: model.to_owned(),
            form: form.to_owned(),
            protocol: protocol.to_owned(),
            recipe: recipe.to_owned(),
            seed,
            rank,
            rel_error: mean(|c| c.rel_error),
            params: cases[0].params,
            acc_before: mean(|c| c.acc_before),
            acc_factorized: mean(|c| c.acc_factorized),
            acc_finetuned: mean(|c| c.acc_finetuned),
            acc_scratch: mean(|c| c.acc_scratch),
            epochs,
            folds: cases.len(),
            factorize_s: mean(|c| c.factorize_s),
            peak_rss_bytes: cases.iter().map(|c| c.peak_rss_bytes).max().unwrap_or(0),
        }
    };
    groups.into_iter().map(row).collect()
}
