//! Where the numbers come from: commands, commit, machine, versions, weights, configuration.

use super::blocks::{Block, Section, ending, lines, plain, words};
use crate::records::{Run, RunFile};

/// A heading, then a section per run.
pub(super) fn runs(file: &RunFile) -> Vec<Section> {
    let mut sections = vec![Section::new(2, "runs", "Runs, and how to repeat them", Vec::new())];
    sections.extend(file.runs.iter().map(|run| one(file, run)));
    sections
}

fn one(file: &RunFile, run: &Run) -> Section {
    let commit = run.commit.as_deref().unwrap_or("none");
    let dirty = if run.dirty { ", with uncommitted changes" } else { "" };
    let versions: Vec<String> = run.versions.iter().map(|(name, v)| format!("{name} {v}")).collect();
    let items = vec![
        words(&format!("collected {}, commit `{commit}`{dirty}", run.date)),
        ending("machine: ", &run.machine_line()),
        ending("versions: ", &versions.join(", ")),
        words(&format!(
            "weights: `data/runs/{}/cells/<cell>/weights.safetensors` on the machine that trained them (not in git)",
            run.digest
        )),
        plain(&format!("cells: {}", cells(run))),
    ];
    let commands = match run.commands.as_slice() {
        [] => format!("cargo xtask reproduce {}", file.experiment),
        commands => commands.join("\n"),
    };
    let code = |language: &str, summary: &str, text: &str| Block::Code {
        language: language.to_owned(),
        summary: summary.to_owned(),
        lines: lines(text),
    };
    let blocks =
        vec![code("sh", "", &commands), Block::List { items }, code("toml", "configuration", &run.config)];
    Section::new(3, &format!("run-{}", run.digest), &format!("Run {}", run.digest), blocks)
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
