//! Runs under `data/runs/`: which there are of a name.

use std::cmp::Reverse;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Result, bail};
use bench_suite::record::{FINAL, Plan, PlannedCell, WEIGHTS, cell_folder};
use bench_suite::results::cells::is_final;
use bench_suite::results::read_json;

use crate::cli::runs::Which;
use crate::text;

/// Fewest digits of a digest that name a run: as many as the folder of its records has.
const DIGITS: usize = 8;

/// The model that is taken of a run where none is named.
const DEFAULT_MODEL: &str = "tt-gru";

/// The runs below `runs` that have this name: that of their results, of their experiment, their digest, or their folder.
///
/// # Errors
/// When there is none; the message names the others, and plans that cannot be read.
pub(crate) fn called(runs: &Path, name: &str) -> Result<Vec<(PathBuf, Plan)>> {
    let folder = Path::new(name);
    let digest = if is_run(folder) { folder.file_name().and_then(|digest| digest.to_str()) } else { None };
    let name = digest.unwrap_or(name);
    let (mut found, mut others, mut damaged) = (Vec::new(), Vec::new(), String::new());
    for dir in fs::read_dir(runs).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let path = dir.join("plan.json");
        if !path.is_file() {
            continue;
        }
        let mut plan: Plan = match read_json(&path) {
            Ok(plan) => plan,
            Err(error) => {
                damaged = format!(", and {error:#}");
                continue;
            }
        };
        // Under a name that it had before, it is the run of those results.
        if plan.other_names.iter().any(|other| other == name) {
            name.clone_into(&mut plan.experiment);
        }
        if is_called(&plan, name) {
            found.push((dir, plan));
        } else {
            others.push(plan.experiment);
        }
    }
    if found.is_empty() {
        let root = runs.ancestors().nth(2).unwrap_or(runs);
        let is_experiment = root.join("experiments").join(name).with_extension("toml").is_file();
        let which = if is_experiment { name } else { "EXPERIMENT" };
        bail!(
            "data/runs/ holds no run of {name:?}; runs of: {}{damaged}. cargo xtask reproduce {which} makes one",
            text::listed(others)
        );
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

/// Whether a folder is that of a run.
fn is_run(folder: &Path) -> bool {
    folder.join("plan.json").is_file()
}

fn is_called(plan: &Plan, name: &str) -> bool {
    let experiment = || {
        let config: toml::Table = toml::from_str(&plan.config).ok()?;
        Some(config.get("name")?.as_str()? == name)
    };
    plan.experiment == name
        || (name.len() >= DIGITS && plan.run_digest.starts_with(name))
        || plan.run_digest == name
        || experiment() == Some(true)
}

/// A model folder by its path, as `export` writes it; none for the name or the folder of a run.
///
/// # Errors
/// A path that holds no model, or the one model of a folder where `chooses` says that one of several is asked for.
pub(crate) fn model_folder(word: &Path, chooses: bool) -> Result<Option<PathBuf>> {
    if word.join("config.json").is_file() {
        if chooses {
            bail!(
                "{} holds one model: --model, --fold, --seed, --protocol and --final choose among those of a run",
                word.display()
            );
        }
        return Ok(Some(std::path::absolute(word)?));
    }
    if is_run(word) {
        return Ok(None);
    }
    // No run has a name of several parts.
    if word.components().count() > 1 || word.is_absolute() || word.starts_with(".") {
        let what = if word.is_dir() { "holds no config.json" } else { "is not there" };
        bail!("{} {what}: `cargo xtask export RUN --to DIR` writes a model folder", word.display());
    }
    Ok(None)
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
    /// What the flags of a command say.
    pub(crate) fn of(run: &'a str, which: &'a Which) -> Self {
        let Which { model, fold, seed, protocol } = which;
        let model = model.as_deref().unwrap_or(DEFAULT_MODEL);
        Self { run, model, fold: *fold, seed: *seed, protocol: protocol.as_deref() }
    }
}

/// The cell that finished last among those that are wanted.
pub(crate) fn choose(runs: &Path, wanted: &Wanted<'_>) -> Result<(PathBuf, PlannedCell)> {
    let mut cells: Vec<String> = Vec::new();
    let mut found: Vec<(SystemTime, PathBuf, PlannedCell)> = Vec::new();
    let mut without_weights: Option<PathBuf> = None;
    for (dir, plan) in called(runs, wanted.run)? {
        for cell in plan.cells {
            let folder = cell_folder(&dir, &cell.id());
            let Ok(finished) = fs::metadata(folder.join("cell.json")).and_then(|meta| meta.modified()) else {
                continue;
            };
            let fits = cell.model == wanted.model
                && wanted.fold.is_none_or(|fold| fold == cell.fold)
                && wanted.seed.is_none_or(|seed| seed == cell.seed)
                && wanted.protocol.map_or(!is_final(&cell), |protocol| protocol == cell.protocol);
            if !fits {
                cells.push(cell.id());
            } else if folder.join(WEIGHTS).is_file() {
                found.push((finished, dir.clone(), cell));
            } else {
                without_weights = Some(folder);
            }
        }
    }
    found.sort_by_key(|(finished, dir, cell)| Reverse((*finished, Reverse(cell.seed), dir.clone())));
    if let Some((_, dir, cell)) = found.into_iter().next() {
        return Ok((dir, cell));
    }
    if let Some(folder) = without_weights {
        bail!(
            "{} has no {WEIGHTS}: remove the folder, and the command that made the run trains the cell again",
            folder.display()
        );
    }
    if wanted.protocol == Some(FINAL) {
        let Wanted { run, model, .. } = wanted;
        bail!(
            "no {model} of {run:?} was trained on all clips: the command that made the run trains one, with --final --models {model}"
        );
    }
    bail!(
        "no finished cell of {:?} has model {}{}{}{}; there are: {}",
        wanted.run,
        wanted.model,
        wanted.fold.map_or_else(String::new, |fold| format!(", fold {fold}")),
        wanted.seed.map_or_else(String::new, |seed| format!(", seed {seed}")),
        wanted.protocol.map_or_else(String::new, |protocol| format!(", protocol {protocol}")),
        text::listed(cells)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let id = |run: &str, fold, seed| {
            let wanted = Wanted { run, model: "tt-gru", fold: Some(fold), seed, protocol: None };
            choose(dir.path(), &wanted).map(|(run, cell)| (run, cell.id())).map_err(|error| error.to_string())
        };
        let (run, cell) = id("folder", 0, None).unwrap();
        assert_eq!((run, cell.as_str()), (dir.path().join("aaaa"), "tt-gru.clips.scaled.f0.s1"));
        assert_eq!(id("folder", 0, Some(0)).unwrap().1, "tt-gru.clips.scaled.f0.s0");
        assert_eq!(id("bbbb", 1, None).unwrap().1, "tt-gru.clips.scaled.f1.s0");
        let error = id("folder", 2, None).unwrap_err();
        assert!(error.contains("fold 2; there are: tt-gru.clips.scaled.f0.s0, "), "{error}");
        fs::remove_file(dir.path().join("bbbb/cells/tt-gru.clips.scaled.f1.s0/weights.safetensors")).unwrap();
        let error = id("bbbb", 1, None).unwrap_err();
        assert!(error.contains("f1.s0 has no weights.safetensors: remove the folder"), "{error}");
        let all = Wanted { run: "folder", model: "tt-gru", fold: None, seed: None, protocol: Some(FINAL) };
        let error = choose(dir.path(), &all).unwrap_err().to_string();
        assert!(error.contains("trains one, with --final --models tt-gru"), "{error}");
        let error = id("ucf11", 0, None).unwrap_err();
        assert!(error.contains("no run of \"ucf11\"; runs of: folder, other."), "{error}");
        fs::write(dir.path().join("aaaa/plan.json"), "{").unwrap();
        let error = id("folder", 0, None).unwrap_err();
        assert!(error.contains("runs of: other, and ") && error.contains("plan.json is damaged"), "{error}");
        let none = Wanted { run: "x", model: "tt-gru", fold: None, seed: None, protocol: None };
        let error = choose(&dir.path().join("none"), &none).unwrap_err().to_string();
        assert!(error.contains("runs of: none."), "{error}");
    }

    #[test]
    fn a_run_is_found_by_every_name_that_it_had() {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), "aaaa", "second", &[0]);
        let path = dir.path().join("aaaa/plan.json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("\"cells\"", "\"other_names\":[\"first\"],\"cells\"")).unwrap();
        for name in ["first", "second"] {
            let found = called(dir.path(), name).unwrap();
            assert_eq!(found[0].1.experiment, name, "its results are those of the name");
        }
        assert!(called(dir.path(), "third").is_err());
    }

    #[test]
    fn a_path_without_a_model_is_no_run() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(model_folder(Path::new("folder"), true).unwrap(), None);
        let error = model_folder(&dir.path().join("gone"), false).unwrap_err().to_string();
        assert!(error.contains("gone is not there: `cargo xtask export"), "{error}");
        let error = model_folder(dir.path(), false).unwrap_err().to_string();
        assert!(error.contains("holds no config.json"), "{error}");
        fs::write(dir.path().join("config.json"), "").unwrap();
        assert_eq!(model_folder(dir.path(), false).unwrap().unwrap(), dir.path());
        let error = model_folder(dir.path(), true).unwrap_err().to_string();
        assert!(error.contains("holds one model: --model"), "{error}");
    }

    #[test]
    fn a_run_is_found_by_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), "aaaa", "folder", &[0]);
        run(dir.path(), "bbbb", "other", &[0]);
        let folder = dir.path().join("bbbb");
        assert_eq!(model_folder(&folder, true).unwrap(), None);
        let found = called(dir.path(), folder.to_str().unwrap()).unwrap();
        assert_eq!(found.iter().map(|(_, plan)| plan.experiment.as_str()).collect::<Vec<_>>(), ["other"]);
    }
}
