//! Where the numbers come from: which run is shown, commands, commit, machine, versions, weights, configuration.

use std::collections::BTreeMap;

use crate::draw::report::blocks::{Block, Section, ending, lines, plain, words};
use crate::draw::report::table;
use crate::provenance::Provenance;
use crate::results::{Listed, Page, Run, RunFile};
use crate::text::score;

/// A heading with what the page shows of which run, then a section per run.
pub(super) fn runs(page: &Page) -> Vec<Section> {
    let base = page.runs.first().and_then(|run| run.file.runs.first()).map(Run::settings);
    let mut sections = vec![Section::new(2, "runs", "Runs, and how to repeat them", shown(page))];
    for Listed { name, file, .. } in &page.runs {
        sections.extend(file.runs.iter().map(|run| one((name, file), run, base.as_ref())));
    }
    sections
}

/// Which run stands where, and the rows of runs that stand nowhere.
fn shown(page: &Page) -> Vec<Block> {
    if page.runs.len() < 2 {
        return Vec::new();
    }
    let text = "Of each model, protocol and recipe this page shows one run, all on the same data: the one with the most \
                folds, the newest of several.";
    let row = |Listed { name, file, shown }: &Listed| {
        let cells: usize = file.runs.iter().map(|run| run.cells.len()).sum();
        let finished = file.runs.iter().map(Run::finished).max().unwrap_or_default();
        let digest = file.data_digest.get(..8).unwrap_or(&file.data_digest);
        vec![name.clone(), digest.to_owned(), finished.to_owned(), cells.to_string(), shown.to_string()]
    };
    let head = ["run", "data", "finished", "cells", "shown"];
    let mut blocks =
        vec![Block::Text { text: words(text) }, table(&head, 3, page.runs.iter().map(row).collect())];
    let hidden: Vec<Vec<String>> = page
        .hidden
        .iter()
        .map(|row| {
            let words = [&row.run, &row.model, &row.protocol, &row.recipe].map(Clone::clone);
            let numbers = [score(row.mean), row.folds.to_string(), row.epochs.to_string()];
            words.into_iter().chain([row.why.to_owned()]).chain(numbers).collect()
        })
        .collect();
    if !hidden.is_empty() {
        let text = "Kept, and not shown above:";
        blocks.push(Block::Text { text: words(text) });
        let head = ["run", "model", "protocol", "recipe", "not shown", "mean", "folds", "epochs"];
        blocks.push(table(&head, 5, hidden));
    }
    blocks
}

fn one((name, file): (&str, &RunFile), run: &Run, base: Option<&BTreeMap<String, String>>) -> Section {
    let mut items = vec![words(&format!("finished {}, on {}", run.finished(), run.device.kind()))];
    if run.provenance.is_empty() {
        items.push(words("what computed it is not known"));
    }
    for (at, provenance) in run.provenance.iter().enumerate() {
        let of = |index: usize| {
            let finals = run.finals.iter().filter(|model| model.provenance == index).count();
            finals + run.cells.iter().filter(|cell| cell.provenance == Some(index)).count()
        };
        let share = if run.provenance.len() > 1 { format!("{} cells: ", of(at)) } else { String::new() };
        items.push(words(&(share.clone() + &commit(provenance))));
        let versions: Vec<String> =
            provenance.versions.iter().map(|(name, v)| format!("{name} {v}")).collect();
        items.push(ending(&format!("{share}versions: "), &versions.join(", ")));
    }
    items.insert(1, ending("machine: ", &run.machine_line()));
    items.push(words(&format!(
        "weights: `data/runs/{}/cells/<cell>/weights.safetensors` on the machine that trained them (not in git)",
        run.digest
    )));
    items.push(plain(&format!("cells: {}", cells(run))));
    let differs = base.map(|base| differing(&run.settings(), base)).unwrap_or_default();
    if !differs.is_empty() {
        items.push(plain(&format!("settings that the first run has not: {}", differs.join(", "))));
    }
    let commands = match run.commands.as_slice() {
        [] => run.command_today(&format!("cargo xtask reproduce {}", file.experiment)),
        commands => commands.iter().map(|line| run.command_today(line)).collect::<Vec<_>>().join("\n"),
    };
    let code = |language: &str, summary: &str, text: &str| Block::Code {
        language: language.to_owned(),
        summary: summary.to_owned(),
        lines: lines(text),
    };
    let blocks =
        vec![code("sh", "", &commands), Block::List { items }, code("toml", "configuration", &run.config)];
    Section::new(3, &format!("run-{name}"), &format!("Run {name}"), blocks)
}

/// The code that trained, or in old records the tree in which the cells were collected.
fn commit(provenance: &Provenance) -> String {
    let commit = provenance.commit.as_deref().unwrap_or("none");
    let dirty = if provenance.dirty { ", with uncommitted changes" } else { "" };
    let program = provenance.program.as_ref();
    let program =
        program.map_or_else(String::new, |digest| format!(", program `{}`", &digest[..8.min(digest.len())]));
    let when = if provenance.of_collecting { "collected" } else { "trained" };
    format!("{when} at commit `{commit}`{dirty}{program}")
}

/// Keys whose values differ, but for the selection of cells.
fn differing(ours: &BTreeMap<String, String>, base: &BTreeMap<String, String>) -> Vec<String> {
    let selects = |key: &str| {
        ["model.names", "protocol.kind", "train.seeds"].contains(&key)
            || key.starts_with("protocol.run_folds.")
    };
    let differs = ours.iter().filter(|(key, value)| !selects(key) && base.get(*key) != Some(value));
    differs.map(|(key, value)| format!("{key} = {value}")).collect()
}

/// `tt-gru/clips/scaled, seed 0: folds 0, 1, 2; …`
fn cells(run: &Run) -> String {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for cell in &run.cells {
        let name = format!("{}/{}/{}, seed {}", cell.model, cell.protocol, cell.recipe, cell.seed);
        match groups.iter_mut().find(|(group, _)| *group == name) {
            Some((_, folds)) => folds.push(cell.fold.to_string()),
            None => groups.push((name, vec![cell.fold.to_string()])),
        }
    }
    let line = |(name, folds): &(String, Vec<String>)| {
        format!("{name}, {} {}", if folds.len() == 1 { "fold" } else { "folds" }, folds.join(", "))
    };
    groups.iter().map(line).collect::<Vec<_>>().join("; ")
}
