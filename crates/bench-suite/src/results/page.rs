//! What an experiment's page shows of its runs.
//!
//! The rule: one page has one data, that of the most cells. Of each model, protocol and recipe it shows one run, the
//! one with the most folds; where several have as many, the one of the most seeds, then the one finished last. So no row
//! mixes data, configurations or devices. A row of fewer folds than another run has of other models is not shown beside
//! them. Whatever is not shown is listed.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::results::folders::{RUNS, holding};
use crate::results::records::Records;
use crate::results::rows::{CellKey, OfCell, cell_order};
use crate::results::run_file::{CellMeta, Run, RunFile};
use crate::stats;

/// What a page shows, and what it does not.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The cells shown, as if one run had computed them.
    pub records: Records,
    /// Every run of the folder.
    pub runs: Vec<Listed>,
    /// Rows that the page does not show.
    pub hidden: Vec<Hidden>,
}

/// A run of a page's folder.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// Its folder.
    pub name: String,
    /// Its `run.toml`.
    pub file: RunFile,
    /// How many of its cells the page shows.
    pub shown: usize,
}

/// A run's cells of one model, protocol and recipe that the page does not show.
#[derive(Debug, Clone, PartialEq)]
pub struct Hidden {
    /// Folder of the run.
    pub run: String,
    /// Name of the model.
    pub model: String,
    /// Name of the protocol, which makes the folds.
    pub protocol: String,
    /// Name of the recipe.
    pub recipe: String,
    /// Mean score over folds and seeds.
    pub mean: f64,
    /// Folds scored.
    pub folds: usize,
    /// Epochs trained.
    pub epochs: usize,
    /// Why it is not shown.
    pub why: &'static str,
}

impl std::fmt::Display for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { model, protocol, recipe, mean, folds, epochs, .. } = self;
        write!(f, "{model}/{protocol}/{recipe} {mean:.3}, {folds} folds, {epochs} epochs")
    }
}

/// Model, protocol and recipe.
type Group<'a> = (&'a str, &'a str, &'a str);

fn group_of(key: CellKey<'_>) -> Group<'_> {
    (key.0, key.1, key.2)
}

impl Page {
    /// Whether the folder of an experiment holds runs, or what earlier versions left in their place.
    pub fn is_in(dir: &Path) -> bool {
        let runs = holding(&dir.join(RUNS), "run.toml");
        runs.is_ok_and(|names| !names.is_empty()) || dir.join("folds.csv").is_file()
    }

    /// Reads every run of an experiment's folder and decides what is shown.
    pub fn read(dir: &Path) -> Result<Self> {
        if dir.join("folds.csv").exists() {
            bail!(
                "{} holds records of before every run had a folder of its own: move them away, they are not redrawn",
                dir.display()
            );
        }
        let names = holding(&dir.join(RUNS), "run.toml")?;
        let read = |name: String| Ok((name.clone(), Records::read(&dir.join(RUNS).join(&name))?));
        let runs = names.into_iter().map(read).collect::<Result<Vec<_>>>()?;
        Self::of(runs).with_context(|| format!("{} holds no runs", dir.display()))
    }

    /// The page of some runs; none without any.
    fn of(runs: Vec<(String, Records)>) -> Option<Self> {
        let data = shown_data(&runs)?;
        let (mut shown, mut hidden) = (Vec::new(), Vec::new());
        for (at, (name, records)) in runs.iter().enumerate() {
            let groups: BTreeSet<Group<'_>> = records.folds.iter().map(|row| group_of(row.key())).collect();
            for group in groups {
                let why = if data_of(records) == data {
                    let own = rank(name, records, group);
                    let better = |(name, other): &&(String, Records)| {
                        data_of(other) == data && rank(name, other, group) > own
                    };
                    runs.iter().find(better).map(|(_, other)| {
                        if folds(other, group) > folds(records, group) { "fewer folds" } else { "older" }
                    })
                } else {
                    Some("other data")
                };
                match why {
                    None => shown.push((at, group)),
                    Some(why) => hidden.push(hidden_row(name, records, group, why)),
                }
            }
        }
        // Beside more folds of other models, trained otherwise, a row of a few is no fair comparison.
        let most = |at: usize, group: Group<'_>| {
            let alike = shown.iter().filter(|(run, g)| *run != at && (g.1, g.2) == (group.1, group.2));
            alike.map(|(run, g)| folds(&runs[*run].1, *g)).max()
        };
        let (shown, few): (Vec<_>, Vec<_>) = shown.iter().copied().partition(|(at, group)| {
            most(*at, *group).is_none_or(|most| most <= folds(&runs[*at].1, *group))
        });
        hidden.extend(few.into_iter().map(|(at, group)| {
            hidden_row(&runs[at].0, &runs[at].1, group, "fewer folds than another run has of other models")
        }));
        let records = put_together(&runs, &shown)?;
        hidden.sort_by(|a, b| {
            let key = |row: &Hidden| (row.run.clone(), row.protocol.clone(), row.recipe.clone());
            key(a).cmp(&key(b)).then_with(|| cell_order((&a.model, "", "", 0, 0), (&b.model, "", "", 0, 0)))
        });
        let cells = |at: usize| {
            let of = shown.iter().filter(move |(run, _)| *run == at);
            of.map(|(_, group)| cells_of(&runs[at].1, *group).count()).sum()
        };
        let counts: Vec<usize> = (0..runs.len()).map(cells).collect();
        let listed = runs.into_iter().zip(counts);
        let listed = listed.map(|((name, records), shown)| Listed { name, file: records.run_file, shown });
        Some(Self { records, runs: listed.collect(), hidden })
    }
}

/// What two runs must have in common to stand on one page.
fn data_of(records: &Records) -> (&str, &str, &[String]) {
    let file = &records.run_file;
    (&file.data_digest, &file.metric, &file.classes)
}

/// The data of the most cells; where several have as many, that of the run finished last.
fn shown_data(runs: &[(String, Records)]) -> Option<(&str, &str, &[String])> {
    let rank = |records: &Records| {
        let same = runs.iter().filter(|(_, other)| data_of(other) == data_of(records));
        let cells: BTreeSet<CellKey<'_>> =
            same.clone().flat_map(|(_, other)| other.folds.iter().map(OfCell::key)).collect();
        let last = same.flat_map(|(_, other)| other.run_file.runs.iter().map(Run::finished)).max();
        (cells.len(), last.unwrap_or_default().to_owned(), records.run_file.data_digest.clone())
    };
    runs.iter().map(|(_, records)| records).max_by_key(|records| rank(records)).map(data_of)
}

fn cells_of<'a>(records: &'a Records, group: Group<'a>) -> impl Iterator<Item = &'a CellMeta> {
    let cells = records.run_file.runs.iter().flat_map(|run| &run.cells);
    cells.filter(move |cell| group_of(cell.key()) == group)
}

fn folds(records: &Records, group: Group<'_>) -> usize {
    cells_of(records, group).map(|cell| cell.fold).collect::<BTreeSet<_>>().len()
}

/// What is shown first: most folds, most seeds, finished last.
fn rank(name: &str, records: &Records, group: Group<'_>) -> (usize, usize, String, String) {
    let finished = cells_of(records, group).map(|cell| cell.finished.clone()).max().unwrap_or_default();
    (folds(records, group), cells_of(records, group).count(), finished, name.to_owned())
}

fn hidden_row(name: &str, records: &Records, group: Group<'_>, why: &'static str) -> Hidden {
    let rows = records.folds.iter().filter(|row| group_of(row.key()) == group);
    let values: Vec<f64> = rows.clone().map(|row| row.value).collect();
    let (model, protocol, recipe) = (group.0.to_owned(), group.1.to_owned(), group.2.to_owned());
    Hidden {
        run: name.to_owned(),
        model,
        protocol,
        recipe,
        mean: stats::mean(&values).unwrap_or_default(),
        folds: folds(records, group),
        epochs: rows.map(|row| row.epochs).max().unwrap_or_default(),
        why,
    }
}

/// The shown cells of all runs below the head of the run that was finished last.
fn put_together(runs: &[(String, Records)], shown: &[(usize, Group<'_>)]) -> Option<Records> {
    let shows = |at: usize, key: CellKey<'_>| shown.contains(&(at, group_of(key)));
    // A run of final models alone has no row, and its page no table.
    let heads = if shown.is_empty() {
        (0..runs.len()).collect()
    } else {
        shown.iter().map(|(at, _)| *at).collect::<Vec<_>>()
    };
    let last = heads.into_iter().max_by_key(|at| {
        let (name, records) = &runs[*at];
        (records.run_file.runs.iter().map(|run| run.finished().to_owned()).max(), Reverse(name.clone()))
    })?;
    let mut page = Records {
        run_file: RunFile { runs: Vec::new(), ..runs[last].1.run_file.clone() },
        folds: Vec::new(),
        curves: Vec::new(),
        predictions: Vec::new(),
        params: runs[last].1.params.clone(),
        strips: Vec::new(),
    };
    for (at, (_, records)) in runs.iter().enumerate() {
        page.folds.extend(records.folds.iter().filter(|row| shows(at, row.key())).cloned());
        page.curves.extend(records.curves.iter().filter(|row| shows(at, row.key())).cloned());
        page.predictions.extend(records.predictions.iter().filter(|row| shows(at, row.key())).cloned());
        if data_of(records) != data_of(&runs[last].1) {
            continue;
        }
        page.strips.extend(records.strips.iter().cloned());
        for run in &records.run_file.runs {
            let mut run = run.clone();
            run.cells.retain(|cell| shows(at, cell.key()));
            if run.cells.is_empty() {
                run.missing.clear();
            }
            if !run.cells.is_empty() || !run.finals.is_empty() {
                page.run_file.runs.push(run);
            }
        }
    }
    // What one run planned and another has is not missing.
    let cells = page.run_file.runs.iter().flat_map(|run| &run.cells);
    let done: BTreeSet<String> = cells.map(CellMeta::id).collect();
    for run in &mut page.run_file.runs {
        run.missing.retain(|id| !done.contains(id));
    }
    page.sort();
    Some(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::fixture;

    fn page(runs: Vec<(&str, Records)>) -> Page {
        Page::of(runs.into_iter().map(|(name, records)| (name.to_owned(), records)).collect()).unwrap()
    }

    fn shown(page: &Page) -> Vec<String> {
        let rows = page.records.folds.iter();
        rows.map(|f| format!("{}/{}/{} {}", f.model, f.protocol, f.fold, f.value)).collect()
    }

    fn hidden(page: &Page) -> Vec<(&str, &str, &str)> {
        page.hidden.iter().map(|row| (row.run.as_str(), row.model.as_str(), row.why)).collect()
    }

    #[test]
    fn a_row_comes_from_the_run_with_the_most_folds() {
        let full = fixture::records("a", &[("gru", "clips", &[0, 1, 2], 0.5), ("lstm", "clips", &[0], 0.25)]);
        let mut part =
            fixture::records("b", &[("gru", "clips", &[0, 1], 0.75), ("tt-gru", "groups", &[0], 0.5)]);
        part.run_file.runs[0].cells.iter_mut().for_each(|cell| cell.finished = "2027-01-01".into());
        let page = page(vec![("full", full), ("part", part)]);
        assert_eq!(
            shown(&page),
            [
                "gru/clips/0 0.5",
                "gru/clips/1 0.5",
                "gru/clips/2 0.5",
                "lstm/clips/0 0.25",
                "tt-gru/groups/0 0.5"
            ]
        );
        assert_eq!(hidden(&page), [("part", "gru", "fewer folds")]);
        let cells: Vec<usize> = page.records.run_file.runs.iter().map(|run| run.cells.len()).collect();
        assert_eq!(cells, [4, 1], "every row has exactly one run");
        let keys: Vec<CellKey<'_>> = page.records.folds.iter().map(OfCell::key).collect();
        assert!(page.records.curves.iter().all(|row| keys.contains(&row.key())));
        assert!(page.records.predictions.iter().all(|row| keys.contains(&row.key())));
    }

    #[test]
    fn a_cell_that_another_run_has_is_not_missing() {
        let full = fixture::records("a", &[("gru", "clips", &[0, 1], 0.5)]);
        let mut part = fixture::records("b", &[("lstm", "clips", &[0, 1], 0.75)]);
        let id = |model: &str, fold: usize| format!("{model}.clips.scaled.f{fold}.s0");
        part.run_file.runs[0].missing = vec![id("gru", 0), id("gru", 1), id("tt-gru", 0)];
        let page = page(vec![("full", full), ("part", part)]);
        assert_eq!(page.records.run_file.missing().collect::<Vec<_>>(), [id("tt-gru", 0)]);
    }

    #[test]
    fn a_few_folds_do_not_stand_beside_more_of_another_run() {
        let few = fixture::records("a", &[("lstm", "clips", &[0], 0.25), ("gru", "groups", &[0], 0.5)]);
        let more = fixture::records("b", &[("tt-gru", "clips", &[0, 1], 0.75)]);
        let page = page(vec![("few", few), ("more", more)]);
        assert_eq!(shown(&page), ["tt-gru/clips/0 0.75", "tt-gru/clips/1 0.75", "gru/groups/0 0.5"]);
        assert_eq!(hidden(&page), [("few", "lstm", "fewer folds than another run has of other models")]);
    }

    #[test]
    fn of_as_many_folds_the_newest_are_shown() {
        let old = fixture::records("a", &[("gru", "clips", &[0, 1], 0.5)]);
        let mut new = fixture::records("b", &[("gru", "clips", &[0, 1], 0.75)]);
        new.run_file.runs[0].cells[1].finished = "2026-01-31T00:00:01Z".into();
        for runs in [vec![("x", old.clone()), ("y", new.clone())], vec![("x", new), ("y", old)]] {
            let page = page(runs);
            assert_eq!(shown(&page), ["gru/clips/0 0.75", "gru/clips/1 0.75"]);
            assert_eq!(page.hidden[0].why, "older");
        }
    }

    #[test]
    fn a_page_has_one_data() {
        let much = fixture::records("a", &[("gru", "clips", &[0, 1], 0.5)]);
        let mut other = fixture::records("b", &[("tt-gru", "clips", &[0], 0.75)]);
        other.run_file.data_digest = "other".into();
        other.run_file.runs[0].cells[0].finished = "2027-01-01".into();
        let page = page(vec![("much", much), ("other", other)]);
        assert_eq!(shown(&page), ["gru/clips/0 0.5", "gru/clips/1 0.5"]);
        assert_eq!(hidden(&page), [("other", "tt-gru", "other data")]);
        assert_eq!((page.hidden[0].mean, page.hidden[0].folds), (0.75, 1));
        assert_eq!(page.runs.iter().map(|run| run.shown).collect::<Vec<_>>(), [2, 0]);
    }
}
