//! `cargo xtask predict`: the most probable classes of video files, by a model that was trained here.

use std::cmp::Reverse;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use bench_suite::record::PlannedCell;

use crate::cli::{Predict, Verbosity};
use crate::engine::{self, BAD_DATA};
use crate::final_model::is_final;
use crate::repo::Repo;
use crate::{packages, runs, text};

/// Clips that cannot be used were named by the engine.
#[derive(Debug)]
pub(crate) struct BadClips;

impl std::fmt::Display for BadClips {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("clips that cannot be used are named above")
    }
}

impl std::error::Error for BadClips {}

/// Finds the model's file and lets the engine predict with it.
pub(crate) fn predict(repo: &Repo, args: &Predict) -> Result<()> {
    let (model, clips) = match (&args.model_file, args.words.split_first()) {
        (Some(file), _) => (file.clone(), args.words.as_slice()),
        (None, Some((run, clips))) if !clips.is_empty() => {
            let run = run.to_string_lossy();
            let (run_dir, cell) = choose(&repo.path("data/runs"), &Wanted::of(&run, args))?;
            eprintln!("{} of {}", cell.id(), repo.show(&run_dir));
            (run_dir.join("cells").join(cell.id()).join("weights.safetensors"), clips)
        }
        _ => bail!("no clip was given: cargo xtask predict RUN CLIP..., or --model-file FILE CLIP..."),
    };
    if !model.is_file() {
        bail!("{} is no file: reproduce --final leaves models in data/models/", model.display());
    }
    packages::require()?;
    repo.build(&["video-data"], "decoding, links FFmpeg", true)?;
    repo.build(&["bench-suite"], "the training engine", true)?;
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
        Some(BAD_DATA) => Err(BadClips.into()),
        _ => bail!("bench-suite predict failed ({status})"),
    }
}

/// Which finished cell is wanted; nothing where any will do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// Experiment, or digest of the run.
    pub(crate) run: &'a str,
    pub(crate) model: &'a str,
    pub(crate) fold: Option<usize>,
    pub(crate) seed: Option<u64>,
    /// Any that has a score where none is named.
    pub(crate) protocol: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    fn of(run: &'a str, args: &'a Predict) -> Self {
        let Predict { model, fold, seed, protocol, .. } = args;
        Self { run, model, fold: Some(*fold), seed: *seed, protocol: protocol.as_deref() }
    }
}

/// The cell that finished last among those that are wanted.
pub(crate) fn choose(runs: &Path, wanted: &Wanted<'_>) -> Result<(PathBuf, PlannedCell)> {
    let mut cells: Vec<String> = Vec::new();
    let mut found: Vec<(SystemTime, PathBuf, PlannedCell)> = Vec::new();
    for (dir, plan) in runs::called(runs, wanted.run)? {
        for cell in plan.cells {
            let folder = dir.join("cells").join(cell.id());
            let Ok(finished) = fs::metadata(folder.join("cell.json")).and_then(|meta| meta.modified()) else {
                continue;
            };
            let fits = cell.model == wanted.model
                && wanted.fold.is_none_or(|fold| fold == cell.fold)
                && wanted.seed.is_none_or(|seed| seed == cell.seed)
                && wanted.protocol.map_or(!is_final(&cell), |protocol| protocol == cell.protocol);
            if fits && folder.join("weights.safetensors").is_file() {
                found.push((finished, dir.clone(), cell));
            } else {
                cells.push(cell.id());
            }
        }
    }
    found.sort_by_key(|(finished, dir, cell)| Reverse((*finished, Reverse(cell.seed), dir.clone())));
    if let Some((_, dir, cell)) = found.into_iter().next() {
        return Ok((dir, cell));
    }
    bail!(
        "no finished cell of {:?} has model {}{}{}; there are: {}",
        wanted.run,
        wanted.model,
        wanted.fold.map_or_else(String::new, |fold| format!(", fold {fold}")),
        wanted.seed.map_or_else(String::new, |seed| format!(", seed {seed}")),
        text::listed(cells)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Verb};
    use clap::Parser;

    fn args(line: &str) -> Predict {
        let Verb::Predict(args) = Cli::parse_from(line.split_whitespace()).verb else { panic!("verb") };
        args
    }

    /// A run of an experiment with finished cells of fold 0 and 1 and an unfinished one of fold 2.
    fn run(runs: &Path, digest: &str, experiment: &str, seeds: &[u64]) {
        let cell = |fold, seed| {
            format!(
                r#"{{"model":"tt-gru","protocol":"clips","recipe":"scaled","fold":{fold},"seed":{seed},"epochs":1,
                "train_clips":1,"test_clips":1,"train_frames":1,"params_input":1,"params_total":1,
                "expected_rss_bytes":1,"expected_s":1.0}}"#
            )
        };
        let cells: Vec<String> = seeds.iter().flat_map(|seed| (0..3).map(|fold| cell(fold, *seed))).collect();
        let plan = format!(
            r#"{{"experiment":"{experiment}","data":"","data_kind":"folder","dataset":"","store":"","metric":"",
            "classes":[],"run_digest":"{digest}","data_digest":"","clips":0,"frames":0,"frame_bytes":0,
            "left_out":[],"config":"","cells":[{}]}}"#,
            cells.join(",")
        );
        let dir = runs.join(digest);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("plan.json"), plan).unwrap();
        for seed in seeds {
            for fold in [0, 1] {
                let folder = dir.join(format!("cells/tt-gru.clips.scaled.f{fold}.s{seed}"));
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join("weights.safetensors"), "").unwrap();
                fs::write(folder.join("cell.json"), "").unwrap();
            }
        }
    }

    #[test]
    fn the_latest_finished_cell_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), "aaaa", "folder", &[0, 1]);
        run(dir.path(), "bbbb", "other", &[0]);
        let later = SystemTime::now() + std::time::Duration::from_mins(1);
        let record = dir.path().join("aaaa/cells/tt-gru.clips.scaled.f0.s1/cell.json");
        fs::File::options().write(true).open(record).unwrap().set_modified(later).unwrap();
        let id = |line: &str| {
            let args = args(line);
            choose(dir.path(), &Wanted::of(&args.words[0].to_string_lossy(), &args))
                .map(|(run, cell)| (run, cell.id()))
        };
        let (run, cell) = id("xtask predict folder a.avi").unwrap();
        assert_eq!((run, cell.as_str()), (dir.path().join("aaaa"), "tt-gru.clips.scaled.f0.s1"));
        assert_eq!(id("xtask predict folder --seed 0 a.avi").unwrap().1, "tt-gru.clips.scaled.f0.s0");
        assert_eq!(id("xtask predict bbbb --fold 1 a.avi").unwrap().1, "tt-gru.clips.scaled.f1.s0");
        let error = id("xtask predict folder --fold 2 a.avi").unwrap_err().to_string();
        assert!(error.contains("fold 2; there are: tt-gru.clips.scaled.f0.s0, "), "{error}");
        let error = id("xtask predict ucf11 a.avi").unwrap_err().to_string();
        assert!(error.contains("no run of \"ucf11\"; runs of: folder, other."), "{error}");
        let error = choose(&dir.path().join("none"), &Wanted::of("x", &args("xtask predict x a.avi")))
            .unwrap_err()
            .to_string();
        assert!(error.contains("runs of: none."), "{error}");
    }
}
