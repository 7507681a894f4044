//! `report.md`: tables and charts in the order of the deck's figures, from the records alone.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use bench_suite::deck;
use bench_suite::record::DataKind;
use bench_suite::stats;

use crate::charts::Drawn;
use crate::records::{Records, Run, RunFile};
use crate::tables::{TableRow, Tables};
use crate::text::{bytes, score, thousands};

/// The report's text.
pub(crate) fn report(records: &Records, tables: &Tables, drawn: &[Drawn]) -> String {
    let run = &records.run_file;
    let mut text = format!("# {}\n\n{}\n", escape(&run.experiment), warning(run));
    let chart = |text: &mut String, name: &str| {
        for d in drawn.iter().filter(|d| d.name == name) {
            let note = if run.is_sample() { " (rendered sample)" } else { "" };
            let _ = write!(text, "\n![{}{note}](charts/{name}.svg)\n", d.title);
        }
    };
    data(&mut text, run);
    text.push_str("\n## Weights against the TT rank (the deck's Table 1 and Figure 1)\n");
    rank_table(&mut text, records);
    chart(&mut text, "params-rank");
    text.push_str("\n## Results\n");
    results(&mut text, run, &tables.table);
    for name in ["accuracy", "params-accuracy", "epoch-seconds", "curves"] {
        chart(&mut text, name);
    }
    paired(&mut text, tables);
    protocols(&mut text, &tables.table);
    sota(&mut text, run, tables);
    chart(&mut text, "sota");
    runs(&mut text, run);
    left_out(&mut text, run);
    text
}

/// What must be said before any number.
fn warning(run: &RunFile) -> String {
    let title = deck::dataset(&run.dataset).map_or(run.dataset.as_str(), |d| d.title);
    match run.data_kind {
        DataKind::Sample => format!(
            "**Rendered sample, not {title}.** Every number of ours on this page was measured on clips that \
             this program renders in the layout of {title}. They say that the pipeline works and how fast \
             it is; they are not comparable with the paper's values, which stand in columns and panels of \
             their own."
        ),
        DataKind::Partial => format!(
            "**{title} with clips missing** (`--allow-partial`): not comparable with the paper's values as \
             they stand."
        ),
        DataKind::Official => format!("Measured on the complete {title}."),
        DataKind::Folder => "Measured on clips that are no dataset of the paper.".to_owned(),
    }
}

fn data(text: &mut String, run: &RunFile) {
    let _ = write!(
        text,
        "\n## Data\n\n- {}\n- {} clips, {} frames, {} classes, {} left out\n- data digest `{}`\n",
        escape(&run.data),
        thousands(run.clips),
        thousands(run.frames),
        run.classes.len(),
        run.left_out.len(),
        run.data_digest
    );
    if let Some(d) = deck::dataset(&run.dataset) {
        let _ = writeln!(
            text,
            "- the paper's {}: {} clips, {} classes, {}×{} RGB at {} frames/s, {} to {} frames a clip",
            d.title,
            thousands(d.clips),
            d.classes,
            d.frame.0,
            d.frame.1,
            d.fps,
            d.min_frames,
            thousands(d.max_frames)
        );
    }
}

fn rank_table(text: &mut String, records: &Records) {
    let ranks: BTreeSet<usize> = records.params.iter().map(|p| p.rank).collect();
    table_head(text, &["rank", "fc", "ttl", "vanilla-tt-lstm", "tt-lstm", "vanilla-tt-gru", "tt-gru"], 1);
    for rank in ranks {
        let count = |layer: &str| {
            let row = records.params.iter().find(|p| p.rank == rank && p.layer == layer);
            row.map_or_else(String::new, |p| thousands(p.params))
        };
        let cells: Vec<String> = deck::RANK_LAYERS.iter().map(|l| count(l)).collect();
        let _ = writeln!(text, "| {rank} | {} |", cells.join(" | "));
    }
}

fn results(text: &mut String, run: &RunFile, rows: &[TableRow]) {
    let metric = if run.metric == "map" { "MAP" } else { "accuracy" };
    let _ = write!(
        text,
        "\n{metric} of the final epoch on the test folds: mean ± sample standard deviation over folds, and \
         a 95 % interval by bootstrap over test clips within folds ({} draws). The test folds choose nothing. \
         Seconds per epoch are empty where cells ran side by side.\n",
        thousands(stats::REPLICATES)
    );
    let paper = deck::dataset(&run.dataset).is_some();
    let mut head = vec![
        "model",
        "protocol",
        "recipe",
        metric,
        "95 % interval",
        "folds",
        "seeds",
        "epochs",
        "weights, input",
        "weights, all",
        "s/epoch",
        "peak memory",
    ];
    if paper {
        head.extend(["paper", "paper: weights, input", "paper: s/epoch"]);
    }
    table_head(text, &head, 3);
    for row in rows {
        let mut cells = vec![
            row.model.clone(),
            row.protocol.clone(),
            row.recipe.clone(),
            plus_minus(Some(row.mean), row.std),
            interval(row.ci_low, row.ci_high),
            row.folds.to_string(),
            row.seeds.to_string(),
            row.epochs.to_string(),
            thousands(row.params_input),
            thousands(row.params_total),
            row.epoch_s.map_or_else(String::new, |s| format!("{s:.2}")),
            bytes(row.peak_rss_bytes),
        ];
        if paper {
            cells.push(plus_minus(row.paper_mean, row.paper_std));
            cells.push(row.paper_params_input.map_or_else(String::new, thousands));
            cells.push(row.paper_epoch_s.map_or_else(String::new, |s| thousands(s as usize)));
        }
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    if paper {
        let _ = write!(text, "\nThe paper's machines: {}.\n", deck::PAPER_MACHINES);
    }
}

fn paired(text: &mut String, tables: &Tables) {
    if tables.paired.is_empty() {
        return;
    }
    text.push_str(
        "\n### Tensor-Train against dense, on the same folds\n\nDifference of the scores fold by fold; the \
         interval draws the same test clips for both.\n",
    );
    table_head(text, &["pair", "protocol", "recipe", "difference", "95 % interval", "folds"], 3);
    for row in &tables.paired {
        let _ = writeln!(
            text,
            "| {} − {} | {} | {} | {} | {} | {} |",
            row.model,
            row.baseline,
            row.protocol,
            row.recipe,
            plus_minus(Some(row.mean_difference), row.std),
            interval(row.ci_low, row.ci_high),
            row.folds
        );
    }
}

/// The two sentences on protocols.
fn protocols(text: &mut String, rows: &[TableRow]) {
    let has = |protocol: &str| rows.iter().any(|r| r.protocol == protocol);
    if has("clips") || has("groups") {
        text.push_str(
            "\nProtocol `clips` is the paper's: folds over shuffled clips, so that clips cut from one source \
             video may stand in the training and in the test fold. Protocol `groups` keeps all clips of a \
             source together, and tells how the model does on sources that it has never seen.\n",
        );
    }
}

fn sota(text: &mut String, run: &RunFile, tables: &Tables) {
    let Some(dataset) = deck::dataset(&run.dataset) else { return };
    let _ = write!(
        text,
        "\n## State of the art on {} (the deck's Figure {})\n",
        dataset.title, dataset.sota_figure
    );
    if run.data_kind != DataKind::Official {
        text.push_str("\nPublished values only: this run was not on the complete official data.\n");
    }
    table_head(text, &["method", "year", "value", "source"], 1);
    for row in &tables.sota {
        let _ = writeln!(text, "| {} | {} | {} | {} |", row.method, row.year, score(row.value), row.source);
    }
}

fn runs(text: &mut String, run: &RunFile) {
    text.push_str("\n## Runs\n");
    for run in &run.runs {
        one_run(text, run);
    }
}

fn one_run(text: &mut String, run: &Run) {
    let commit = run.commit.as_deref().unwrap_or("none");
    let dirty = if run.dirty { ", with uncommitted changes" } else { "" };
    let versions: Vec<String> = run.versions.iter().map(|(name, v)| format!("{name} {v}")).collect();
    let cells: Vec<String> = run
        .cells
        .iter()
        .map(|c| format!("{}/{}/{} fold {} seed {}", c.model, c.protocol, c.recipe, c.fold, c.seed))
        .collect();
    let _ = write!(
        text,
        "\n### Run `{digest}`\n\n- collected {date}, commit `{commit}`{dirty}\n- machine: {machine}\n- \
         versions: {versions}\n- weights: `data/runs/{digest}/cells/<cell>/weights.safetensors` on the \
         machine that trained them (not in git)\n- cells: {cells}\n\n<details><summary>configuration\
         </summary>\n\n```toml\n{config}\n```\n\n</details>\n",
        digest = run.digest,
        date = run.date,
        machine = escape(&run.machine.line()),
        versions = versions.join(", "),
        cells = cells.join("; "),
        config = run.config.replace("```", "'''").trim_end(),
    );
}

fn left_out(text: &mut String, run: &RunFile) {
    text.push_str("\n## Clips left out\n");
    if run.left_out.is_empty() {
        text.push_str("\nNone.\n");
        return;
    }
    table_head(text, &["clip", "reason"], 2);
    for clip in &run.left_out {
        let _ = writeln!(text, "| {} | {} |", escape(&clip.clip), escape(&clip.reason));
    }
}

fn table_head(text: &mut String, names: &[&str], left: usize) {
    let rule: Vec<&str> = (0..names.len()).map(|i| if i < left { "---" } else { "---:" }).collect();
    let _ = write!(text, "\n| {} |\n| {} |\n", names.join(" | "), rule.join(" | "));
}

fn plus_minus(mean: Option<f64>, std: Option<f64>) -> String {
    match (mean, std) {
        (Some(mean), Some(std)) => format!("{} ± {}", score(mean), score(std)),
        (Some(mean), None) => score(mean),
        _ => String::new(),
    }
}

fn interval(low: Option<f64>, high: Option<f64>) -> String {
    low.zip(high).map_or_else(String::new, |(l, h)| format!("{} to {}", score(l), score(h)))
}

/// Text of others (names of clips and classes) that Markdown and a terminal show as it is: control
/// characters as escapes, HTML and Markdown's own characters as references.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' | '<' | '>' | '|' | '`' | '*' | '_' | '[' | ']' | '\\' | '!' | '~' | '#' => {
                let _ = write!(safe, "&#{};", c as u32);
            }
            c if c.is_control() || is_bidirectional(c) => {
                let _ = write!(safe, "&#92;u{{{:x}}}", c as u32);
            }
            c => safe.push(c),
        }
    }
    safe
}

/// Marks that turn the direction of the text around them.
fn is_bidirectional(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use bench_suite::record::LeftOut;

    #[test]
    fn report_of_the_fixture() {
        let mut records = fixture::five_models();
        records.run_file.left_out.push(LeftOut {
            clip: "walking/a|b <img src=x>\n\u{202e}`c`.mpg".into(),
            reason: "no video stream".into(),
        });
        let tables = Tables::derive(&records).unwrap();
        let drawn = ["params-rank", "accuracy", "sota"].map(|name| Drawn { name, title: name.to_owned() });
        insta::assert_snapshot!(report(&records, &tables, &drawn));
    }

    #[test]
    fn hostile_names_are_shown_not_obeyed() {
        assert_eq!(escape("<b>|x\u{1b}[31m"), "&#60;b&#62;&#124;x&#92;u{1b}&#91;31m");
        assert_eq!(escape("naïve clip 1.mpg"), "naïve clip 1.mpg");
    }
}
