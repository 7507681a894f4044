//! `cargo xtask export`: a trained model as a folder that other programs can use, as an ONNX graph, or as a page.

mod page;

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, Result, bail};
use bench_suite::record::FINAL;

use crate::cli::flags::Verbosity;
use crate::cli::runs::Export;
use crate::machine::onnxruntime_web;
use crate::repo::Repo;
use crate::run::engine;
use crate::run::runs::{Wanted, choose, model_folder};

/// Finds the model and lets the engine write it.
pub(crate) fn export(repo: &Repo, args: &Export) -> Result<()> {
    let model = Model::find(repo, args)?;
    if let Some(dir) = &args.page {
        page::check(dir, args.force)?;
        let runtime = onnxruntime_web::folder(repo)?;
        repo.build(&["bench-suite"], "the training engine", true)?;
        model.write(repo, args, &dir.join("model"), Some(&dir.join("model.onnx")))?;
        page::write(&runtime, dir)?;
        let (name, dir) = (&model.name, dir.display());
        eprintln!("the page of {name} is in {dir}; cargo xtask serve {dir}, or any server of static files");
        return Ok(());
    }
    let Some(to) = &args.to else { bail!("--to says where to") };
    repo.build(&["bench-suite"], "the training engine", true)?;
    model.write(repo, args, to, None)?;
    let (name, shown) = (&model.name, to.display());
    if to.is_dir() {
        eprintln!("{name} is in {shown}; cargo xtask predict {shown} CLIP...");
    } else {
        eprintln!("{name} is in {shown}");
    }
    Ok(())
}

/// A model that was found.
struct Model {
    name: String,
    /// What tells the engine of it.
    flags: Vec<OsString>,
}

impl Model {
    fn find(repo: &Repo, args: &Export) -> Result<Self> {
        let Export { run, which, final_model, .. } = args;
        if let Some(folder) = model_folder(Path::new(run), which.is_given() || *final_model)? {
            return Ok(Self { name: run.clone(), flags: vec!["--folder".into(), folder.into()] });
        }
        let mut wanted = Wanted::of(run, which);
        if *final_model {
            wanted.protocol = Some(FINAL);
        }
        let (run_dir, cell) = choose(&repo.path("data/runs"), &wanted)?;
        Ok(Self {
            name: format!("{} of {}", cell.id(), repo.show(&run_dir)),
            flags: vec!["--run-dir".into(), run_dir.into(), "--cell".into(), cell.id().into()],
        })
    }

    fn write(&self, repo: &Repo, args: &Export, to: &Path, step: Option<&Path>) -> Result<()> {
        let mut command = engine::command(repo, "export", Verbosity::default());
        command.args(&self.flags).arg("--to").arg(std::path::absolute(to)?);
        command.args(["--weights", &args.weights]);
        if let Some(form) = &args.form {
            command.args(["--form", form]);
        }
        if let Some(step) = step {
            command.arg("--step").arg(std::path::absolute(step)?);
        }
        command.args(args.force.then_some("--force"));
        let status = command.status().context("failed to start bench-suite export")?;
        if !status.success() {
            bail!("{} was not exported ({status})", self.name);
        }
        Ok(())
    }
}
