//! `cargo xtask predict`: the most probable classes of video files, by a model that was trained here.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bench_suite::record::{WEIGHTS, cell_folder};

use crate::cli::flags::Verbosity;
use crate::cli::runs::Predict;
use crate::machine::packages;
use crate::repo::Repo;
use crate::run::engine::{self, BAD_DATA, BadInput};
use crate::run::runs::{Wanted, choose, model_folder};

/// Finds the model's file and lets the engine predict with it.
pub(crate) fn predict(repo: &Repo, args: &Predict) -> Result<()> {
    if args.live {
        return live(repo, args);
    }
    let (model, clips) = match (&args.model_file, args.words.split_first()) {
        (Some(file), _) => (file.clone(), args.words.as_slice()),
        (None, Some((model, clips))) if !clips.is_empty() => (find(repo, args, Path::new(model))?, clips),
        _ => bail!(
            "a run and its clips are needed: cargo xtask predict RUN CLIP..., or --model-file FILE CLIP..."
        ),
    };
    if !model.exists() {
        bail!(
            "{} is not a file: `cargo xtask reproduce --final` keeps models in data/models/",
            model.display()
        );
    }
    packages::require()?;
    repo.build_all(true)?;
    let mut command = engine::on(repo, "predict", args.device, Verbosity::default())?;
    command.arg("--model").arg(&model).args(["--top", &args.top.to_string()]);
    if args.json {
        command.arg("--json");
    }
    command.arg("--");
    // Files are named as they were given, from the folder where they were given.
    command.args(clips).current_dir(std::env::current_dir().context("the current folder cannot be read")?);
    let status = command.status().context("failed to start bench-suite predict")?;
    match status.code() {
        Some(0) => Ok(()),
        Some(BAD_DATA) => Err(BadInput("some clips cannot be used; they are named above").into()),
        _ => Err(engine::ended("bench-suite predict", status)),
    }
}

/// The model folder of that path, or the weights of the run of that name.
fn find(repo: &Repo, args: &Predict, word: &Path) -> Result<PathBuf> {
    if let Some(folder) = model_folder(word, args.which.is_given())? {
        return Ok(folder);
    }
    let run = word.to_string_lossy();
    let (run_dir, cell) = choose(&repo.path("data/runs"), &Wanted::of(&run, &args.which))?;
    eprintln!("{} of {}", cell.id(), repo.show(&run_dir));
    Ok(cell_folder(&run_dir, &cell.id()).join(WEIGHTS))
}

/// Lets the engine answer after each frame.
fn live(repo: &Repo, args: &Predict) -> Result<()> {
    let [folder] = args.words.as_slice() else {
        bail!("--live takes one model folder and frames on standard input: cargo xtask predict DIR --live")
    };
    repo.build(&["bench-suite"], "the training engine", true)?;
    let mut command = engine::command(repo, "live", Verbosity::default());
    command.arg("--model").arg(std::path::absolute(folder)?).args(["--top", &args.top.to_string()]);
    if args.json {
        command.arg("--json");
    }
    let status = command.status().context("failed to start bench-suite live")?;
    if !status.success() {
        return Err(engine::ended("bench-suite live", status));
    }
    Ok(())
}
