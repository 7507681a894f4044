//! A run that goes on: cells beside those that its folder holds.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::results::folders::{RUNS, home};
use crate::results::records::Records;
use crate::results::rows::{CellKey, CurveRow, OfCell};
use crate::results::run_file::{FinalModel, RunFile};
use crate::results::strips::Strip;

impl Records {
    /// Puts this run's records into the experiment's folder `dir`: beside its other cells where its folder is there,
    /// into a folder of its own where that holds one of its cells with other numbers, since then it was trained twice.
    /// `frames` are of the clips that these records got wrong, asked for where they may be shown.
    pub fn keep(self, dir: &Path, frames: &dyn Fn(&Self) -> Result<Vec<Strip>>) -> Result<PathBuf> {
        let Some(run) = self.run_file.runs.first() else { anyhow::bail!("records of no run") };
        let folder = home(&dir.join(RUNS), &run.name(), |folder| {
            // Without its run.toml, a folder is what a killed run left.
            Ok(!Self::are_in(folder) || self.goes_with(&Self::read(folder)?))
        })?;
        let mut whole = if Self::are_in(&folder) { Self::read(&folder)?.joined(self) } else { self };
        if whole.run_file.may_show_frames() {
            whole.strips = frames(&whole)?;
        }
        whole.write(&folder)?;
        Ok(folder)
    }

    /// Whether both are of one run: the same data and configuration, and no cell with two outcomes.
    fn goes_with(&self, there: &Self) -> bool {
        let (ours, theirs) = (&self.run_file, &there.run_file);
        let run = |file: &RunFile| file.runs.iter().map(|run| run.digest.clone()).collect::<Vec<_>>();
        (&ours.data_digest, &ours.metric, run(ours)) == (&theirs.data_digest, &theirs.metric, run(theirs))
            && self.folds.iter().all(|row| {
                let Some(known) = there.folds.iter().find(|known| known.key() == row.key()) else {
                    return true;
                };
                let curve = |records: &Self| -> Vec<CurveRow> {
                    records.curves.iter().filter(|point| point.key() == row.key()).cloned().collect()
                };
                known == row && curve(self) == curve(there)
            })
    }

    /// The cells of both; a cell that both have stays as it was recorded first.
    fn joined(mut self, new: Self) -> Self {
        let known: Vec<_> = self.folds.clone();
        let is_new = |key: CellKey<'_>| !known.iter().any(|row| row.key() == key);
        self.folds.extend(new.folds.into_iter().filter(|row| is_new(row.key())));
        self.curves.extend(new.curves.into_iter().filter(|row| is_new(row.key())));
        self.predictions.extend(new.predictions.into_iter().filter(|row| is_new(row.key())));
        for (run, more) in self.run_file.runs.iter_mut().zip(new.run_file.runs) {
            for mut cell in more.cells.into_iter().filter(|cell| is_new(cell.key())) {
                let provenance = cell.provenance.and_then(|at| more.provenance.get(at));
                cell.provenance = provenance.map(|provenance| run.place(provenance));
                run.cells.push(cell);
            }
            let finals = more.finals.into_iter().map(|mut model| {
                model.provenance = more.provenance.get(model.provenance).map_or(0, |by| run.place(by));
                model
            });
            let finals: Vec<FinalModel> = finals.collect();
            run.finals
                .retain(|old| !finals.iter().any(|new| (&new.model, new.seed) == (&old.model, old.seed)));
            run.finals.extend(finals);
            let is_done = |id: &String| {
                run.cells.iter().any(|cell| cell.id() == *id)
                    || run.finals.iter().any(|model| model.id() == *id)
            };
            run.missing.extend(more.missing);
            run.missing.retain(|id| !is_done(id));
            run.missing.sort();
            run.missing.dedup();
            run.commands.extend(more.commands);
            run.commands.sort();
            run.commands.dedup();
        }
        self.sort();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::fixture;

    fn keys(folder: &Path) -> Vec<String> {
        let records = Records::read(folder).unwrap();
        records.folds.iter().map(|f| format!("{}/{}/{} {}", f.model, f.protocol, f.fold, f.value)).collect()
    }

    fn name(folder: &Path) -> String {
        folder.file_name().unwrap().to_string_lossy().into_owned()
    }

    #[test]
    fn another_configuration_gets_a_folder_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let one = fixture::records("aaaaaaaa1", &[("tt-gru", "clips", &[0, 1], 0.5)]);
        let two = fixture::records("bbbbbbbb1", &[("tt-gru", "clips", &[0], 0.75)]);
        let one = one.keep_alone(dir.path()).unwrap();
        let two = two.keep_alone(dir.path()).unwrap();
        assert_eq!((name(&one), name(&two)), ("scaled-cpu-aaaaaaaa".into(), "scaled-cpu-bbbbbbbb".into()));
        assert_eq!(keys(&one), ["tt-gru/clips/0 0.5", "tt-gru/clips/1 0.5"]);
        assert_eq!(keys(&two), ["tt-gru/clips/0 0.75"]);
    }

    #[test]
    fn cells_of_one_run_come_together_and_keep_what_computed_them() {
        let dir = tempfile::tempdir().unwrap();
        let first = fixture::records("a", &[("tt-gru", "clips", &[0, 1], 0.5)]);
        let mut second = fixture::records("a", &[("tt-gru", "clips", &[1, 2], 0.5)]);
        second.run_file.runs[0].provenance[0].commit = None;
        let folder = first.clone().keep_alone(dir.path()).unwrap();
        assert_eq!(second.keep_alone(dir.path()).unwrap(), folder);
        assert_eq!(keys(&folder), ["tt-gru/clips/0 0.5", "tt-gru/clips/1 0.5", "tt-gru/clips/2 0.5"]);
        let run = Records::read(&folder).unwrap().run_file.runs.remove(0);
        let of: Vec<Option<usize>> = run.cells.iter().map(|cell| cell.provenance).collect();
        assert_eq!(of, [Some(0), Some(0), Some(1)], "a cell that was there keeps its own");
        assert!(run.provenance[0].commit.is_some() && run.provenance[1].commit.is_none());
    }

    #[test]
    fn a_cell_that_was_trained_again_is_another_run() {
        let dir = tempfile::tempdir().unwrap();
        let first = fixture::records("a", &[("tt-gru", "clips", &[0, 1], 0.5)]);
        let mut again = first.clone();
        again.curves[0].wall_s += 1.0;
        let one = first.clone().keep_alone(dir.path()).unwrap();
        let two = again.clone().keep_alone(dir.path()).unwrap();
        assert_eq!((name(&one), name(&two)), ("scaled-cpu-a".into(), "scaled-cpu-a-2".into()));
        assert_eq!(Records::read(&one).unwrap(), first);
        assert_eq!(again.keep_alone(dir.path()).unwrap(), two, "and is known the next time");
    }

    #[test]
    fn other_data_is_another_run_whatever_its_digest() {
        let dir = tempfile::tempdir().unwrap();
        let first = fixture::records("a", &[("gru", "clips", &[0], 0.5)]);
        let mut other = first.clone();
        other.run_file.data_digest = "other".into();
        assert_ne!(first.keep_alone(dir.path()).unwrap(), other.keep_alone(dir.path()).unwrap());
    }

    #[test]
    fn collecting_the_same_cells_again_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let first = fixture::records("a", &[("tt-gru", "clips", &[0, 1], 0.5)]);
        let folder = first.clone().keep_alone(dir.path()).unwrap();
        let mut later = first.clone();
        later.run_file.runs[0].cells.iter_mut().for_each(|cell| cell.finished = "2027-01-01".into());
        assert_eq!(later.keep_alone(dir.path()).unwrap(), folder);
        assert_eq!(Records::read(&folder).unwrap(), first);
    }

    #[test]
    fn rows_of_a_write_that_was_killed_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let few = fixture::records("a", &[("tt-gru", "clips", &[0], 0.5)]);
        let many = fixture::records("a", &[("tt-gru", "clips", &[0, 1], 0.5)]);
        let folder = few.clone().keep_alone(dir.path()).unwrap();
        let before = std::fs::read(folder.join("run.toml")).unwrap();
        assert_eq!(many.clone().keep_alone(dir.path()).unwrap(), folder);
        std::fs::write(folder.join("run.toml"), before).unwrap();
        assert_eq!(Records::read(&folder).unwrap(), few);
        many.clone().keep_alone(dir.path()).unwrap();
        assert_eq!(Records::read(&folder).unwrap(), many);
    }

    #[test]
    fn records_survive_their_files() {
        let mut records = fixture::records("a", &[("tt-gru", "clips", &[0, 1], 0.5)]);
        records.run_file.left_out.push(crate::record::LeftOut {
            clip: "walk/a \"b\"\n\u{1b}[31m.mpg".into(),
            reason: "no video stream".into(),
        });
        let dir = tempfile::tempdir().unwrap();
        records.write(dir.path()).unwrap();
        assert_eq!(Records::read(dir.path()).unwrap(), records);
    }

    #[test]
    fn a_cell_is_missing_until_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let mut part = fixture::records("a", &[("tt-gru", "clips", &[0], 0.5)]);
        let id = |fold| format!("tt-gru.clips.scaled.f{fold}.s0");
        part.run_file.runs[0].missing = vec![id(1), id(2)];
        part.keep_alone(dir.path()).unwrap();
        let other = fixture::records("a", &[("tt-gru", "clips", &[0, 1], 0.5)]);
        let folder = other.keep_alone(dir.path()).unwrap();
        assert_eq!(Records::read(&folder).unwrap().run_file.missing().collect::<Vec<_>>(), [id(2)]);
        let mut known = fixture::records("a", &[("tt-gru", "clips", &[0, 1], 0.5)]);
        known.run_file.runs[0].missing = vec!["gru.final.scaled.f0.s0".into(), id(2)];
        known.run_file.runs[0].finals.push(fixture::final_model("gru"));
        let folder = known.keep_alone(dir.path()).unwrap();
        assert_eq!(Records::read(&folder).unwrap().run_file.missing().collect::<Vec<_>>(), [id(2)]);
    }

    #[test]
    fn a_final_model_that_was_trained_again_takes_the_place_of_its_record() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = fixture::records("a", &[("tt-gru", "clips", &[0], 0.5)]);
        first.run_file.runs[0].finals.push(fixture::final_model("tt-gru"));
        let mut again = first.clone();
        again.run_file.runs[0].finals[0].sha256 = "other".into();
        again.run_file.runs[0].finals.push(fixture::final_model("gru"));
        first.keep_alone(dir.path()).unwrap();
        let folder = again.keep_alone(dir.path()).unwrap();
        let run = Records::read(&folder).unwrap().run_file.runs.remove(0);
        let kept: Vec<(&str, &str)> =
            run.finals.iter().map(|model| (model.model.as_str(), &model.sha256[..5])).collect();
        assert_eq!(kept, [("gru", "fedcb"), ("tt-gru", "other")]);
    }
}
