//! `report.md` and `report.html`: tables and charts in the order of the paper's figures, from the records alone.
//!
//! What they say is put together once, as [`blocks`]; two templates write it.

mod blocks;
mod finals;
mod formats;
mod render;
mod runs;
mod tested;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};

use crate::draw::charts::{self, Drawn};
use crate::paper;
use crate::record::DataKind;
use crate::results::formats::FormatRow;
use crate::results::paired::PairedRow;
use crate::results::tables::{OURS, TableRow, Tables};
use crate::results::{self, Records, RunFile, write_atomic};
use crate::spec::ON_FEATURES;
use crate::stats;
use crate::text::{bytes, score, thousands};
use blocks::{Block, Page, Section, ending, words};
use render::visible;

/// Missing cells that are named before any number.
const NAMED: usize = 8;

/// Writes `report.md` and `report.html` beside the charts that were drawn.
pub(crate) fn write(
    dir: &Path,
    shown: &results::Page,
    tables: &Tables,
    formats: &[FormatRow],
    drawn: &[Drawn],
) -> Result<()> {
    let page = page(dir, shown, tables, formats, drawn)?;
    write_atomic(&dir.join("report.md"), render::markdown(&page)?.as_bytes())?;
    write_atomic(&dir.join("report.html"), render::html(&page)?.as_bytes())
}

fn page(
    dir: &Path,
    shown: &results::Page,
    tables: &Tables,
    formats: &[FormatRow],
    drawn: &[Drawn],
) -> Result<Page> {
    let records = &shown.records;
    let run = &records.run_file;
    let charts = Charts { dir, drawn, note: if run.is_sample() { " (rendered sample)" } else { "" } };
    let mut sections = vec![Section::new(2, "data", "Data", vec![data(run)])];
    if run.is_of_table_1() {
        let mut rank = vec![rank_table(records)];
        rank.extend(charts.block("params-rank")?);
        let title = "Weights against the TT rank (Table 1 and Figure 1)";
        sections.push(Section::new(2, "rank", title, rank));
    }
    let mut results = results(run, &tables.table);
    results.extend(charts.block("accuracy")?);
    results.extend(protocols(&tables.table));
    results.extend(pretrained(&tables.table));
    sections.push(Section::new(2, "results", "Results", results));
    sections.extend(beside_the_paper(run, &tables.table));
    if let Some(mut blocks) = formats::blocks(run, formats, &tables.paired) {
        blocks.splice(1..1, charts.block("formats")?);
        sections.push(Section::new(3, "formats", "Formats of the input matrix", blocks));
    }
    for (name, title) in [
        ("params-accuracy", "Weights against score"),
        ("epoch-seconds", "Seconds per epoch"),
        ("curves", "Curves"),
    ] {
        if let Some(chart) = charts.block(name)? {
            sections.push(Section::new(3, name, title, vec![chart]));
        }
    }
    let twins: Vec<&PairedRow> = tables.paired.iter().filter(|row| row.of_twins()).collect();
    sections.extend(paired(&twins));
    if let Some((title, mut blocks)) = sota(run, tables) {
        blocks.extend(charts.block("sota")?);
        sections.push(Section::new(2, "sota", &title, blocks));
    }
    sections.extend(tested::classes(records)?);
    sections.extend(tested::mistakes(records));
    sections.extend(tested::looks(records));
    sections.extend(finals::finals(run));
    sections.extend(runs::runs(shown));
    sections.push(left_out(run));
    Ok(Page {
        title: run.experiment.clone(),
        warning: warning(run),
        sections,
        dark_charts: charts::dark_style(tables.table.iter().map(|row| row.model.as_str())),
    })
}

/// The charts that were drawn, by name.
struct Charts<'a> {
    dir: &'a Path,
    drawn: &'a [Drawn],
    note: &'a str,
}

impl Charts<'_> {
    fn block(&self, name: &str) -> Result<Option<Block>> {
        let Some(chart) = self.drawn.iter().find(|chart| chart.name == name) else { return Ok(None) };
        let path = self.dir.join("charts").join(format!("{name}.svg"));
        let svg =
            std::fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        Ok(Some(Block::Chart { name: name.to_owned(), title: format!("{}{}", chart.title, self.note), svg }))
    }
}

/// What must be said before any number: the first words, and the rest.
fn warning(run: &RunFile) -> (String, String) {
    let title = paper::dataset(&run.dataset).map_or(run.dataset.as_str(), |d| d.title);
    let (first, rest) = match run.data_kind {
        DataKind::Sample => (
            format!("Rendered sample, not {title}."),
            format!(
                "Every number of ours on this page was measured on clips that this program renders in the layout \
                 of {title}. They say that the pipeline works and how fast it is; they are not comparable with \
                 the paper's values, which stand in columns and panels of their own."
            ),
        ),
        DataKind::Partial => (
            format!("{title} with clips missing."),
            format!(
                "{} not be decoded: not comparable with published values as they stand, and no bar in a chart of the \
                 state of the art.",
                match paper::dataset(&run.dataset).map(|d| (d.clips.saturating_sub(run.clips), d.clips)) {
                    Some((missing, all)) if missing > 0 =>
                        format!("{missing} of its {} clips are not there or could", thousands(all)),
                    _ => "Clips are not there or could".to_owned(),
                }
            ),
        ),
        DataKind::Official => (format!("Measured on the complete {title}."), String::new()),
        DataKind::Folder => ("Measured on clips that are no dataset of the paper.".to_owned(), String::new()),
    };
    let missing: Vec<&str> = run.missing().collect();
    let partial = match missing.len() {
        0 => String::new(),
        n if n <= NAMED => format!("Partial: {n} planned cells are not finished: {}.", missing.join(", ")),
        n => format!(
            "Partial: {n} planned cells are not finished: {} and others, all in run.toml.",
            missing[..NAMED].join(", ")
        ),
    };
    (first, [rest, partial].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" "))
}

fn data(run: &RunFile) -> Block {
    let mut items = vec![
        ending("", &run.data),
        words(&format!(
            "{} clips, {} frames, {} classes, {} left out",
            thousands(run.clips),
            thousands(run.frames),
            run.classes.len(),
            run.left_out.len()
        )),
        words(&format!("data digest `{}`", run.data_digest)),
    ];
    if run.with_errors > 0 {
        items.insert(
            2,
            words(&format!(
                "{} of the clips used have decoder errors (`decode.strict = true` leaves them out)",
                thousands(run.with_errors)
            )),
        );
    }
    if !run.copies.is_empty() {
        let copies: usize = run.copies.iter().map(|same| same.len() - 1).sum();
        items.push(words(&format!(
            "{} of the clips used have the same frames as others (`copies` in `run.toml`)",
            thousands(copies)
        )));
    }
    if let Some(d) = paper::dataset(&run.dataset) {
        items.push(words(&format!(
            "the paper's {}: {} clips, {} classes, {}×{} RGB at {} frames/s, {} to {} frames a clip",
            d.title,
            thousands(d.clips),
            d.classes,
            d.frame.0,
            d.frame.1,
            d.fps,
            d.min_frames,
            thousands(d.max_frames)
        )));
    }
    Block::List { items }
}

fn rank_table(records: &Records) -> Block {
    let ranks: BTreeSet<usize> = records.params.iter().map(|p| p.rank).collect();
    let row = |rank: usize| {
        let count = |layer: &&str| {
            let row = records.params.iter().find(|p| p.rank == rank && p.layer == **layer);
            row.map_or_else(String::new, |p| thousands(p.params))
        };
        std::iter::once(rank.to_string()).chain(paper::RANK_LAYERS.iter().map(count)).collect()
    };
    let head = std::iter::once("rank").chain(paper::RANK_LAYERS);
    Block::Table {
        head: head.map(str::to_owned).collect(),
        left: 1,
        rows: ranks.into_iter().map(row).collect(),
    }
}

fn table(head: &[&str], left: usize, rows: Vec<Vec<String>>) -> Block {
    Block::Table { head: head.iter().map(|name| (*name).to_owned()).collect(), left, rows }
}

fn metric(run: &RunFile) -> &'static str {
    if run.metric == "map" { "MAP" } else { "accuracy" }
}

fn results(run: &RunFile, rows: &[TableRow]) -> Vec<Block> {
    let text = format!(
        "The {} of the final epoch on the test folds: mean ± sample standard deviation over folds, and a 95 % interval \
         by bootstrap ({} draws) over test clips within folds, under protocol `groups` over whole groups, and over \
         seeds where there are several. The test folds choose nothing. Settled are trainings that ended \
         because their loss had, and not at the most epochs allowed. Seconds per epoch are those of epochs that had the \
         cores for themselves: empty where two cells of the run were trained at once or other programs ran beside, and after \
         a single epoch.",
        metric(run),
        thousands(stats::REPLICATES)
    );
    let head = [
        "model",
        "protocol",
        "recipe",
        metric(run),
        "95 % interval",
        "folds",
        "seeds",
        "epochs",
        "settled",
        "weights, input",
        "weights, all",
        "s/epoch",
        "peak memory",
    ];
    let row = |row: &TableRow| {
        vec![
            row.model.clone(),
            row.protocol.clone(),
            row.recipe.clone(),
            plus_minus(Some(row.mean), row.std),
            interval(row.ci_low, row.ci_high),
            row.folds.to_string(),
            row.seeds.to_string(),
            row.epochs(),
            row.settled(),
            thousands(row.params_input),
            thousands(row.params_total),
            row.epoch_s.map_or_else(String::new, |s| format!("{s:.2}")),
            bytes(row.peak_rss_bytes),
        ]
    };
    vec![Block::Text { text: words(&text) }, table(&head, 3, rows.iter().map(row).collect())]
}

/// The paper's numbers beside ours; none for data of one's own.
fn beside_the_paper(run: &RunFile, rows: &[TableRow]) -> Option<Section> {
    let dataset = paper::dataset(&run.dataset)?;
    let (ours, theirs) = (format!("{}, ours", metric(run)), format!("{}, paper", metric(run)));
    let head = [
        "model",
        "protocol",
        "recipe",
        &ours,
        &theirs,
        "input weights, ours",
        "input weights, paper",
        "s/epoch, ours",
        "s/epoch, paper",
    ];
    let row = |row: &TableRow| {
        vec![
            row.model.clone(),
            row.protocol.clone(),
            row.recipe.clone(),
            plus_minus(Some(row.mean), row.std),
            plus_minus(row.paper_mean, row.paper_std),
            thousands(row.params_input),
            row.paper_params_input.map_or_else(String::new, thousands),
            row.epoch_s.map_or_else(String::new, |s| format!("{s:.2}")),
            row.paper_epoch_s.map_or_else(String::new, |s| thousands(s as usize)),
        ]
    };
    let note = format!(
        "The paper's values are for {}{} and stand beside rows of its own protocol only. Its machines: {}.",
        dataset.title,
        if run.is_sample() { ", ours for other data," } else { "" },
        paper::PAPER_MACHINES
    );
    let blocks = vec![table(&head, 3, rows.iter().map(row).collect()), Block::Text { text: words(&note) }];
    Some(Section::new(2, "paper", "The paper beside ours", blocks))
}

fn paired(rows: &[&PairedRow]) -> Option<Section> {
    let text = "Difference of the scores fold by fold; the interval draws the same test clips, groups and seeds for \
                both.";
    let row = |row: &&PairedRow| {
        vec![
            format!("{} − {}", row.model, row.baseline),
            row.protocol.clone(),
            row.recipe.clone(),
            plus_minus(Some(row.mean_difference), row.std),
            interval(row.ci_low, row.ci_high),
            row.folds.to_string(),
            row.epochs(),
            row.rates(),
        ]
    };
    let head = ["pair", "protocol", "recipe", "difference", "95 % interval", "folds", "epochs", "rate"];
    let mut blocks = vec![Block::Text { text: words(text) }, table(&head, 3, rows.iter().map(row).collect())];
    let items: Vec<_> = rows.iter().filter_map(|row| row.caveat()).map(|said| words(&said)).collect();
    if !items.is_empty() {
        blocks.push(Block::List { items });
    }
    let title = "Tensor-Train against dense, on the same folds";
    (!rows.is_empty()).then(|| Section::new(2, "paired", title, blocks))
}

/// The two sentences on protocols.
fn protocols(rows: &[TableRow]) -> Option<Block> {
    let text = "Protocol `clips` is the paper's: folds over shuffled clips, so that clips cut from one source video may \
                stand in the training and in the test fold. Protocol `groups` keeps all clips of a source together, \
                and tells how the model does on sources that it has never seen.";
    let split = rows.iter().any(|row| row.protocol == "clips" || row.protocol == "groups");
    split.then(|| Block::Text { text: words(text) })
}

/// What one model has seen and the others have not.
fn pretrained(rows: &[TableRow]) -> Option<Block> {
    let text = format!(
        "`{ON_FEATURES}` reads features of EfficientNet-Lite0, which was trained on ImageNet, 1.3 million labelled photographs; \
         no other model here has seen them. Neither its weights nor the time of the features are in the table."
    );
    rows.iter().any(|row| row.model == ON_FEATURES).then(|| Block::Text { text: words(&text) })
}

fn sota(run: &RunFile, tables: &Tables) -> Option<(String, Vec<Block>)> {
    let dataset = paper::dataset(&run.dataset)?;
    let mut blocks = Vec::new();
    if run.data_kind != DataKind::Official {
        let text = "Published values only: this run was not on the complete official data.";
        blocks.push(Block::Text { text: words(text) });
    } else if tables.sota.iter().all(|row| row.source != OURS) {
        let text = format!(
            "Published values only: a bar of ours stands for the paper's model here, {}, on all {} folds of the \
             paper's protocol, and these records do not have them.",
            dataset.headline, dataset.folds
        );
        blocks.push(Block::Text { text: words(&text) });
    }
    let rows = tables
        .sota
        .iter()
        .map(|row| vec![row.method.clone(), row.year.to_string(), score(row.value), row.source.clone()]);
    blocks.push(table(&["method", "year", "value", "source"], 1, rows.collect()));
    Some((format!("State of the art on {} (Figure {})", dataset.title, dataset.sota_figure), blocks))
}

fn left_out(run: &RunFile) -> Section {
    let rows: Vec<Vec<String>> =
        run.left_out.iter().map(|clip| vec![clip.clip.clone(), clip.reason.clone()]).collect();
    let block = if rows.is_empty() {
        Block::Text { text: words("None.") }
    } else {
        table(&["clip", "reason"], 2, rows)
    };
    Section::new(2, "left-out", "Clips left out", vec![block])
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

#[cfg(test)]
mod tests;
