//! `cargo xtask compress`: the input matrix of a trained dense GRU or LSTM as a Tensor Train, fine-tuned.
//!
//! Cases land under `data/runs/<digest>/compress/`; a folder of the dense run below `results/compression/<experiment>/`
//! gets a row of each.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use bench_suite::device::DeviceName;
use bench_suite::provenance::Provenance;
use bench_suite::record::{CompressionCase, Computed, Plan, PlannedCell, SingularValue};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::cli::Verbosity;
use crate::interrupt::{Interrupt, Interrupted};
use crate::predict::{Wanted, choose};
use crate::records::{
    RUNS, csv_bytes, hold, holding, home, largest, machines, read_csv, read_json, shown_line, write_atomic,
};
use crate::repo::Repo;
use crate::text::{md_table, score, thousands};
use crate::{charts, engine, experiments};

/// Header of `cases.csv`.
const CASES_HEADER: &str = "model,form,rank,fold,seed,protocol,recipe,rel_error,params,acc_before,acc_factorized,\
                            acc_finetuned,acc_scratch,epochs,epochs_before,factorize_s,peak_rss_bytes";
/// Header of `table.csv`.
pub(crate) const COMPRESSION_HEADER: &str = "model,form,protocol,recipe,seed,rank,rel_error,params,acc_before,\
                                             acc_factorized,acc_finetuned,acc_scratch,epochs,folds,factorize_s,\
                                             peak_rss_bytes";

/// Singular values of the unfoldings, in a run's folder and among the results.
const SINGULAR_VALUES: &str = "singular_values.csv";
/// Its header.
const SINGULAR_VALUES_HEADER: &str = "model,matrix,unfolding,index,singular_value,rel_error";

/// What `cargo xtask compress` may be told.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Experiment of a finished run, or the run's folder under data/runs/
    run: String,
    /// What the matrix becomes: a Tensor Train
    #[arg(long, value_name = "FORMAT", value_parser = ["tt"])]
    to: String,
    /// Inner TT ranks; larger ones than possible are clamped
    #[arg(long, value_name = "4,8", value_delimiter = ',', required = true, value_parser = rank)]
    rank: Vec<usize>,
    /// One train for all gates, or one per gate
    #[arg(long, value_name = "A,B", value_delimiter = ',', default_value = "concatenated,separate",
        value_parser = ["concatenated", "separate"])]
    forms: Vec<String>,
    /// Dense models to compress
    #[arg(long, value_name = "A,B", value_delimiter = ',', default_value = "gru,lstm",
        value_parser = ["gru", "lstm", "rnn"])]
    models: Vec<String>,
    /// Epochs of fine-tuning, and of the same model from initial weights; 0 for the factorization alone
    #[arg(long, value_name = "N", default_value_t = 5)]
    epochs: usize,
    /// Device to train on: cpu, cuda, cuda:N, metal, auto
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceName,
    /// Folder for the results, in place of results/
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    verbosity: Verbosity,
}

fn rank(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|rank| *rank > 0).ok_or_else(|| "expected a whole number from 1".to_owned())
}

/// What the cases of a run have in common: `run.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    experiment: String,
    data: String,
    data_digest: String,
    /// Digest of the dense run.
    run: String,
    /// When the last case was finished, UTC.
    finished: String,
    config: String,
    /// What computed the cases: one entry unless they differ.
    provenance: Vec<Provenance>,
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

/// Compresses every finished fold of the dense models of a run, case by case; finished cases are kept.
pub(crate) fn compress(repo: &Repo, args: &Options) -> Result<()> {
    let mut found = Vec::new();
    for model in &args.models {
        let wanted = Wanted { run: &args.run, model, fold: None, seed: None, protocol: None };
        match choose(&repo.path("data/runs"), &wanted) {
            Ok((dir, cell)) => found.push((dir, cell)),
            Err(error) if found.is_empty() && Some(model) == args.models.last() => return Err(error),
            Err(error) => eprintln!("{model} is left out: {error:#}"),
        }
    }
    let (run_dir, _) = found.first().context("no model was asked for")?.clone();
    found.retain(|(dir, _)| *dir == run_dir);
    let plan: Plan = read_json(&run_dir.join("plan.json"))?;
    if plan.metric != "accuracy" {
        bail!("compression is scored by accuracy; {} is scored by {}", plan.experiment, plan.metric);
    }
    let root = experiments::results_root(repo, args.out.as_deref())?;
    let dir = root.join("compression").join(&plan.experiment);
    experiments::check_writable(&dir)?;
    repo.build(&["bench-suite"], "the training engine", args.verbosity.quiet)?;
    let interrupt = Interrupt::install()?;
    eprintln!("{}; {}", repo.show(&run_dir), engine::data_line(&plan));
    for (_, first) in &found {
        let values = unfoldings(repo, args, &interrupt, (&run_dir, first))?;
        for cell in plan.cells.iter().filter(|cell| is_twin(cell, first) && is_done(&run_dir, cell)) {
            for (rank, form) in args.rank.iter().flat_map(|r| args.forms.iter().map(move |f| (r, f))) {
                let (case, computed) = case(repo, args, &interrupt, (&run_dir, cell, form, *rank))?;
                let _held = hold(&dir)?;
                let name =
                    format!("{}-{}", args.device.kind(), &plan.run_digest[..8.min(plan.run_digest.len())]);
                let folder = keep(&dir, &name, case)?;
                keep_values(&folder, &first.model, &values)?;
                keep_about(&folder, &plan, computed)?;
                derive(&dir)?;
            }
        }
    }
    eprintln!("results in {}", repo.show(&dir));
    Ok(())
}

/// The same model, protocol, recipe and seed; any fold.
fn is_twin(cell: &PlannedCell, first: &PlannedCell) -> bool {
    (&cell.model, &cell.protocol, &cell.recipe, cell.seed)
        == (&first.model, &first.protocol, &first.recipe, first.seed)
}

fn is_done(run_dir: &Path, cell: &PlannedCell) -> bool {
    let folder = run_dir.join("cells").join(cell.id());
    folder.join("cell.json").is_file() && folder.join("weights.safetensors").is_file()
}

fn case(
    repo: &Repo,
    args: &Options,
    interrupt: &Interrupt,
    (run_dir, cell, form, rank): (&Path, &PlannedCell, &str, usize),
) -> Result<(CompressionCase, Option<Computed>)> {
    let (id, epochs) = (cell.id(), args.epochs);
    let mut command = engine::on(repo, "compress", args.device, args.verbosity)?;
    command.arg("--run-dir").arg(run_dir).args(["--cell", &id, "--form", form]);
    command.args(["--rank", &rank.to_string(), "--epochs", &epochs.to_string()]);
    finish(command, interrupt, &format!("{id} at rank {rank}"))?;
    let folder = run_dir.join(format!("compress/{id}.{form}.r{rank}.e{epochs}"));
    let computed = folder.join("computed.json");
    let computed = if computed.is_file() { Some(read_json(&computed)?) } else { None };
    Ok((read_json(&folder.join("case.json"))?, computed))
}

/// Singular values of the first fold's matrices of a model.
fn unfoldings(
    repo: &Repo,
    args: &Options,
    interrupt: &Interrupt,
    (run_dir, cell): (&Path, &PlannedCell),
) -> Result<Vec<SingularValue>> {
    let id = cell.id();
    let mut command = engine::command(repo, "singular-values", args.verbosity);
    command.arg("--run-dir").arg(run_dir).args(["--cell", &id]);
    finish(command, interrupt, &format!("the singular values of {id}"))?;
    read_csv(&run_dir.join(format!("compress/{id}.unfoldings")).join(SINGULAR_VALUES))
}

fn finish(mut command: Command, interrupt: &Interrupt, what: &str) -> Result<()> {
    let mut child = command.spawn().context("failed to start bench-suite")?;
    let status = interrupt.wait(&mut child)?;
    interrupt.check()?;
    match status.code() {
        Some(0) => Ok(()),
        Some(engine::STOPPED) => Err(Interrupted.into()),
        _ => bail!("{what} failed ({status})"),
    }
}

/// Adds a case to the `cases.csv` of the run of that name; one that is there with other numbers stays, and the case goes
/// to another folder.
fn keep(dir: &Path, run: &str, case: CompressionCase) -> Result<PathBuf> {
    let cases = |folder: &Path| -> Result<Vec<CompressionCase>> {
        let path = folder.join("cases.csv");
        if path.is_file() { read_csv(&path) } else { Ok(Vec::new()) }
    };
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
fn keep_values(folder: &Path, model: &str, values: &[SingularValue]) -> Result<()> {
    let path = folder.join(SINGULAR_VALUES);
    let mut rows: Vec<SingularValue> = if path.is_file() { read_csv(&path)? } else { Vec::new() };
    if !rows.iter().any(|row| row.model == model) {
        rows.extend_from_slice(values);
        rows.sort_by(|a, b| a.model.cmp(&b.model));
    }
    write_atomic(&path, &csv_bytes(SINGULAR_VALUES_HEADER, &rows)?)
}

/// Writes `run.toml`, or adds to it what computed one case more.
fn keep_about(folder: &Path, plan: &Plan, computed: Option<Computed>) -> Result<()> {
    let path = folder.join("run.toml");
    let mut about = if path.is_file() {
        About::read(&path)?
    } else {
        About {
            experiment: plan.experiment.clone(),
            data: engine::data_line(plan),
            data_digest: plan.data_digest.clone(),
            run: plan.run_digest.clone(),
            finished: String::new(),
            config: plan.config.clone(),
            provenance: Vec::new(),
        }
    };
    if let Some(Computed { finished, by }) = computed {
        about.finished = about.finished.max(finished);
        if !about.provenance.contains(&by) {
            about.provenance.push(by);
        }
    }
    write_atomic(&path, toml::to_string(&about)?.as_bytes())
}

impl About {
    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is damaged", path.display()))
    }
}

/// What tells cases apart.
fn name(case: &CompressionCase) -> (&str, &str, usize, usize, (&str, &str), usize, u64) {
    let CompressionCase { model, form, rank, epochs, protocol, recipe, fold, seed, .. } = case;
    (model, form, *rank, *epochs, (protocol, recipe), *fold, *seed)
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

/// Writes table, page and charts of an experiment from the run with the most cases.
pub(crate) fn derive(dir: &Path) -> Result<()> {
    let runs = dir.join(RUNS);
    let cases = |folder: &Path| read_csv::<CompressionCase>(&folder.join("cases.csv"));
    let size = |folder: &Path| Ok((cases(folder)?.len(), About::read(&folder.join("run.toml"))?.finished));
    let run = largest(&runs, size)?.with_context(|| format!("{} holds no runs", dir.display()))?;
    let folder = runs.join(&run);
    let about = About::read(&folder.join("run.toml"))?;
    let table = table(&cases(&folder)?);
    write_atomic(&dir.join("table.csv"), &csv_bytes(COMPRESSION_HEADER, &table)?)?;
    let others = holding(&runs, "run.toml")?.into_iter().filter(|name| *name != run).collect::<Vec<_>>();
    write_atomic(&dir.join("compression.md"), page(&about, &table, (&run, &others)).as_bytes())?;
    charts::compression(dir, &about.data, &table)?;
    charts::singular_values(dir, &about.data, &read_csv::<SingularValue>(&folder.join(SINGULAR_VALUES))?)
}

/// Derives every folder below `root` again; how many there are.
pub(crate) fn redraw(repo: &Repo, root: &Path) -> Result<usize> {
    let dirs: Vec<PathBuf> = holding(root, RUNS)?.into_iter().map(|name| root.join(name)).collect();
    for dir in &dirs {
        derive(dir)?;
        eprintln!("{} redrawn from its cases", repo.show(dir));
    }
    Ok(dirs.len())
}

fn page(about: &About, table: &[CompressionRow], (run, others): (&str, &[String])) -> String {
    let rows = table.iter().map(|row| {
        let tuned = |value: f64| if row.epochs == 0 { String::new() } else { score(value) };
        vec![
            row.model.clone(),
            row.form.clone(),
            row.protocol.clone(),
            row.recipe.clone(),
            row.seed.to_string(),
            row.rank.to_string(),
            format!("{:.4}", row.rel_error),
            thousands(row.params),
            score(row.acc_before),
            score(row.acc_factorized),
            tuned(row.acc_finetuned),
            tuned(row.acc_scratch),
            row.epochs.to_string(),
            row.folds.to_string(),
            format!("{:.1}", row.factorize_s),
            format!("{:.2}", row.peak_rss_bytes as f64 / 1e9),
        ]
    });
    let header = [
        "model",
        "form",
        "protocol",
        "recipe",
        "seed",
        "rank",
        "relative error",
        "numbers",
        "dense",
        "factorized",
        "fine-tuned",
        "from scratch",
        "epochs",
        "folds",
        "seconds",
        "GB",
    ];
    format!(
        "# Trained dense layers as Tensor Trains: {}\n\nThe input matrix of a trained dense model, factorized by \
         TT-SVD: per gate (`separate`) or all gates in one train (`concatenated`). Relative error in the \
         Frobenius norm. Accuracy on the test fold: of the dense model, with the matrix factorized, after so \
         many epochs of fine-tuning all weights at the TT models' rate, and of a TT model trained as long from \
         initial weights. Seconds and memory are those of factorizing.\n\n- {}\n- data digest `{}`\n- {}\n- machine: \
         {}\n\n![accuracy against rank](compression.svg)\n\n{}\n\nSingular values of the unfoldings of the matrix (all \
         gates, the first fold), of its initial values and of what training changed; `rel_error` in \
         `singular_values.csv` is what the best cut of that unfolding alone would leave.\n\n![singular values \
         against their index](singular_values.svg)\n",
        about.experiment,
        about.data,
        about.data_digest,
        shown_line(run, others),
        machines(&about.provenance),
        md_table(&header, &rows.collect::<Vec<_>>())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_case(fold: usize, rank: usize, value: f64) -> CompressionCase {
        CompressionCase {
            model: "gru".into(),
            form: "separate".into(),
            rank,
            fold,
            seed: 0,
            protocol: "clips".into(),
            recipe: "scaled".into(),
            rel_error: 0.5,
            params: 10,
            acc_before: 0.5,
            acc_factorized: value,
            acc_finetuned: value,
            acc_scratch: value,
            epochs: 1,
            epochs_before: 2,
            factorize_s: 1.0,
            peak_rss_bytes: 1,
        }
    }

    #[test]
    fn a_case_never_takes_the_place_of_another_and_folds_are_averaged() {
        let dir = tempfile::tempdir().unwrap();
        let other_seed = CompressionCase { seed: 1, ..a_case(1, 4, 0.9) };
        let other_protocol = CompressionCase { protocol: "groups".into(), ..a_case(1, 4, 0.8) };
        let cases = [a_case(0, 4, 0.2), a_case(1, 4, 0.4), a_case(0, 8, 0.9), other_seed, other_protocol];
        for case in cases.clone().into_iter().chain(cases) {
            assert!(keep(dir.path(), "cpu-a", case).unwrap().ends_with("runs/cpu-a"));
        }
        assert!(keep(dir.path(), "cpu-a", a_case(0, 4, 0.1)).unwrap().ends_with("runs/cpu-a-2"));
        let table = table(&read_csv(&dir.path().join("runs/cpu-a/cases.csv")).unwrap());
        let found: Vec<_> =
            table.iter().map(|r| (r.protocol.as_str(), r.seed, r.rank, r.folds, r.acc_finetuned)).collect();
        let one = [("clips", 0, 8, 1, 0.9), ("clips", 1, 4, 1, 0.9), ("groups", 0, 4, 1, 0.8)];
        assert_eq!(found[1..], one, "no mean over seeds or protocols");
        assert_eq!((found[0].2, found[0].3), (4, 2));
        assert!((table[0].acc_finetuned - 0.3).abs() < 1e-12);
        charts::compression(dir.path(), "rendered sample", &table).unwrap();
        let values: Vec<SingularValue> = (1..9)
            .map(|index| SingularValue {
                model: "gru".into(),
                matrix: if index < 5 { "trained" } else { "change" }.into(),
                unfolding: 1,
                index: index % 5 + 1,
                singular_value: 1.0 / index as f64,
                rel_error: 0.5,
            })
            .collect();
        let bytes = csv_bytes(SINGULAR_VALUES_HEADER, &values).unwrap();
        write_atomic(&dir.path().join(SINGULAR_VALUES), &bytes).unwrap();
        assert_eq!(read_csv::<SingularValue>(&dir.path().join(SINGULAR_VALUES)).unwrap(), values);
        charts::singular_values(dir.path(), "rendered sample", &values).unwrap();
        for chart in ["compression.svg", "singular_values.svg"] {
            let svg = fs::read_to_string(dir.path().join(chart)).unwrap();
            assert!(svg.contains("rendered sample") && !svg.contains("NaN"), "{chart}");
        }
    }
}
