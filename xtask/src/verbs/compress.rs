//! `cargo xtask compress`: the input matrix of a trained dense GRU or LSTM, or the kernels of a CNN, as Tensor Trains or in
//! another format of small cores, fine-tuned.
//!
//! Cases land under `data/runs/<digest>/compress/`; a folder of the dense run below `results/compression/<experiment>/`
//! gets a row of each.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bench_suite::draw;
use bench_suite::record::{
    CompressionCase, Computed, KernelCase, Plan, PlannedCell, SingularValue, case_name, form_name,
};
use bench_suite::results::cells::is_done;
use bench_suite::results::compression::{
    About, KERNELS, SINGULAR_VALUES, keep, keep_about, keep_kernels, keep_values,
};
use bench_suite::results::folders::check_writable;
use bench_suite::results::{hold, read_csv, read_json};

use crate::cli::runs::Compress;
use crate::machine::devices::resolve;
use crate::repo::Repo;
use crate::run::engine;
use crate::run::interrupt::{Interrupt, Interrupted};
use crate::run::runs::{Wanted, choose};
use crate::text;

/// Longer than a case takes that is done already.
const READ: Duration = Duration::from_secs(2);

/// Models whose kernels are compressed.
const OF_CNNS: [&str; 3] = ["cnn-gru", "cnn-lstm", "frozen-cnn-gru"];

/// Compresses every finished fold of the models of a run, case by case; finished cases are kept.
pub(crate) fn compress(repo: &Repo, args: &Compress) -> Result<()> {
    let device = resolve(repo, args.device);
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
    found.retain(|(dir, cell)| {
        let is_here = *dir == run_dir;
        if !is_here {
            eprintln!("{} is left out: its newest cell is in {}", cell.model, repo.show(dir));
        }
        is_here
    });
    let plan: Plan = read_json(&run_dir.join("plan.json"))?;
    if let Some((_, cell)) = found.iter().find(|(_, cell)| of_cnn(cell))
        && let Some(to) = args.to.iter().find(|to| !["tt", "cp"].contains(&to.as_str()))
    {
        bail!(
            "kernels of {} become tt or cp, not {to}: leave it out of --to, or the model out of --models",
            cell.model
        );
    }
    if plan.metric != "accuracy" {
        bail!("compression is scored by accuracy; {} is scored by {}", plan.experiment, plan.metric);
    }
    let root = repo.results(args.out.as_deref())?;
    let dir = root.join("compression").join(&plan.experiment);
    check_writable(&dir)?;
    repo.build(&["bench-suite"], "the training engine", args.verbosity.quiet)?;
    let interrupt = Interrupt::install()?;
    eprintln!("{}; {}", repo.show(&run_dir), engine::data_line(&plan));
    let wanted: Vec<_> =
        found.iter().map(|(_, first)| (first, cases(args, &plan, &run_dir, first))).collect();
    let total: usize = wanted.iter().map(|(_, cases)| cases.len()).sum();
    // Cases that are done already are read and cost nothing.
    let (mut done, mut computed, mut spent) = (0, 0_u32, 0.0);
    for (first, cases) in &wanted {
        let values =
            if of_cnn(first) { Vec::new() } else { unfoldings(repo, args, &interrupt, (&run_dir, first))? };
        for wanted in cases {
            let left = text::seconds(spent / f64::from(computed.max(1)) * (total - done) as f64);
            let left =
                if computed == 0 { String::new() } else { format!(", {left} left at the pace so far") };
            done += 1;
            eprintln!("case {done} of {total}: {}{left}", wanted.text());
            let started = Instant::now();
            let Case { record, kernels, computed: by } = case(repo, args, &interrupt, &run_dir, wanted)?;
            if started.elapsed() > READ {
                computed += 1;
                spent += started.elapsed().as_secs_f64();
            }
            let _held = hold(&dir)?;
            let name = format!("{}-{}", device.kind(), &plan.run_digest[..8.min(plan.run_digest.len())]);
            let folder = keep(&dir, &name, record)?;
            if !values.is_empty() {
                keep_values(&folder, &first.model, &values)?;
            }
            if !kernels.is_empty() {
                keep_kernels(&folder, &kernels)?;
            }
            keep_about(&folder, about(&plan, by))?;
            draw::compression::derive(&dir)?;
        }
    }
    eprintln!("results in {}", repo.show(&dir));
    Ok(())
}

fn of_cnn(cell: &PlannedCell) -> bool {
    OF_CNNS.contains(&cell.model.as_str())
}

/// What is to become of a cell.
struct WantedCase<'a> {
    cell: &'a PlannedCell,
    to: &'a str,
    form: &'a str,
    rank: usize,
}

impl WantedCase<'_> {
    fn text(&self) -> String {
        format!("{} as {} at rank {}", self.cell.id(), self.to, self.rank)
    }
}

/// Every finished fold of a model in every format, form and rank asked for.
fn cases<'a>(args: &'a Compress, plan: &'a Plan, run_dir: &Path, first: &PlannedCell) -> Vec<WantedCase<'a>> {
    let forms = if of_cnn(first) { vec!["kernels"] } else { args.forms.iter().map(String::as_str).collect() };
    let mut cases = Vec::new();
    for cell in plan.cells.iter().filter(|cell| is_twin(cell, first) && is_done(run_dir, cell)) {
        for to in &args.to {
            for &form in &forms {
                cases.extend(args.rank.iter().map(|&rank| WantedCase { cell, to, form, rank }));
            }
        }
    }
    cases
}

/// The same model, protocol, recipe and seed; any fold.
fn is_twin(cell: &PlannedCell, first: &PlannedCell) -> bool {
    (&cell.model, &cell.protocol, &cell.recipe, cell.seed)
        == (&first.model, &first.protocol, &first.recipe, first.seed)
}

/// What a case left.
struct Case {
    record: CompressionCase,
    kernels: Vec<KernelCase>,
    computed: Option<Computed>,
}

fn case(
    repo: &Repo,
    args: &Compress,
    interrupt: &Interrupt,
    run_dir: &Path,
    wanted: &WantedCase<'_>,
) -> Result<Case> {
    let WantedCase { cell, to, form, rank } = *wanted;
    let (id, epochs) = (cell.id(), args.epochs);
    let mut command = engine::on(repo, "compress", args.device, args.verbosity)?;
    command.arg("--run-dir").arg(run_dir).args(["--cell", &id, "--to", to, "--form", form]);
    command.args(["--rank", &rank.to_string(), "--epochs", &epochs.to_string()]);
    finish(command, interrupt, &wanted.text())?;
    let device = resolve(repo, args.device);
    let name = case_name(&id, &form_name(to, form), (rank, epochs), device);
    let folder = run_dir.join("compress").join(name);
    let computed = folder.join("computed.json");
    let computed = if computed.is_file() { Some(read_json(&computed)?) } else { None };
    let kernels = folder.join(KERNELS);
    let kernels = if kernels.is_file() { read_csv(&kernels)? } else { Vec::new() };
    Ok(Case { record: read_json(&folder.join("case.json"))?, kernels, computed })
}

/// Singular values of the first fold's matrices of a model.
fn unfoldings(
    repo: &Repo,
    args: &Compress,
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

fn about(plan: &Plan, computed: Option<Computed>) -> About {
    let (finished, provenance) =
        computed.map_or_else(Default::default, |Computed { finished, by }| (finished, vec![by]));
    About {
        experiment: plan.experiment.clone(),
        data: engine::data_line(plan),
        data_digest: plan.data_digest.clone(),
        run: plan.run_digest.clone(),
        finished,
        config: plan.config.clone(),
        provenance,
    }
}
