//! Charts of an experiment, SVG and PNG, from its records and tables alone.
//!
//! Each file draws one chart. The paper's values always have a panel of their own.

mod ablation;
mod accuracy;
mod axes;
mod canvas;
mod compression;
mod curves;
mod devices;
mod formats;
mod lengths;
mod levels;
mod palette;
mod peers;
mod rank;
mod rates;
mod seconds;
mod singular_values;
mod size;
mod sota;
mod tuning;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::paper;
use crate::results::Records;
use crate::results::formats::FormatRow;
use crate::results::tables::{TableRow, Tables};

pub(crate) use ablation::ablation;
pub use canvas::encode_png;
pub(crate) use compression::compression;
pub use devices::devices;
pub use lengths::lengths;
pub(crate) use levels::levels;
pub(crate) use palette::dark_style;
pub use peers::peers;
pub(crate) use rates::rates;
pub(crate) use singular_values::singular_values;
pub(crate) use tuning::tuning;

/// A chart's file name (without ending), title for the report, and whether it was drawn.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Drawn {
    pub(crate) name: &'static str,
    pub(crate) title: String,
}

/// What every chart needs to know about its data.
#[derive(Debug)]
pub(crate) struct Scene<'a> {
    records: &'a Records,
    tables: &'a Tables,
    formats: &'a [FormatRow],
}

/// Draws every chart of an experiment into `<dir>/charts/`, in the order of the report.
pub(crate) fn draw(
    dir: &Path,
    records: &Records,
    tables: &Tables,
    formats: &[FormatRow],
) -> Result<Vec<Drawn>> {
    let charts = dir.join("charts");
    fs::create_dir_all(&charts).with_context(|| format!("{} cannot be made", charts.display()))?;
    let scene = Scene { records, tables, formats };
    let mut drawn = Vec::new();
    for (name, title, chart) in [
        ("params-rank", "Weights against the TT rank (Figure 1, Table 1)", rank::chart(&scene)),
        ("accuracy", "Score per model", accuracy::chart(&scene)),
        ("params-accuracy", "Weights against score", size::chart(&scene)),
        ("formats", "Score against input weights, by format", formats::chart(&scene)),
        ("epoch-seconds", "Seconds per training epoch", seconds::chart(&scene)),
        ("curves", "Training curves", curves::chart(&scene)),
        ("sota", "State of the art", sota::chart(&scene)),
    ] {
        if let Some(canvas) = chart {
            canvas.write(&charts, name)?;
            drawn.push(Drawn { name, title: title.to_owned() });
        } else {
            remove(&charts, name);
        }
    }
    Ok(drawn)
}

/// Removes a chart that no longer follows from the records beside it.
pub(crate) fn remove(dir: &Path, name: &str) {
    for ending in ["svg", "png"] {
        let _ = fs::remove_file(dir.join(format!("{name}.{ending}")));
    }
}

impl Scene<'_> {
    /// The line below a chart's title: which data this is.
    fn subtitle(&self, more: &str) -> String {
        let run = &self.records.run_file;
        let data = if run.is_sample() {
            format!("rendered sample, not {}", self.paper_title().unwrap_or("the dataset"))
        } else {
            run.data.clone()
        };
        let partial = match run.missing().count() {
            0 => String::new(),
            missing => format!("partial, {missing} cells missing"),
        };
        [data.as_str(), &partial, more].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join(" · ")
    }

    /// The paper's name of the dataset that stands beside; none for data of one's own.
    fn paper_title(&self) -> Option<&'static str> {
        paper::dataset(&self.records.run_file.dataset).map(|d| d.title)
    }

    /// Title of the panel with the paper's values.
    fn paper_panel(&self) -> Option<String> {
        let title = self.paper_title()?;
        let other = if self.records.run_file.is_sample() { " (other data)" } else { "" };
        Some(format!("the paper, on {title}{other}"))
    }

    /// `accuracy` or `mean average precision`.
    fn metric(&self) -> &'static str {
        if self.records.run_file.metric == "map" { "mean average precision" } else { "accuracy" }
    }

    /// Score of a uniform guess; none for MAP.
    fn chance(&self) -> Option<f64> {
        let run = &self.records.run_file;
        (run.metric == "accuracy" && !run.classes.is_empty()).then(|| 1.0 / run.classes.len() as f64)
    }

    /// Rows of the table by protocol and recipe, with the panel's title.
    fn groups(&self) -> Vec<(String, Vec<&TableRow>)> {
        let mut groups: Vec<(String, Vec<&TableRow>)> = Vec::new();
        for row in &self.tables.table {
            let title = group_title(&row.protocol, &row.recipe);
            match groups.iter_mut().find(|(t, _)| *t == title) {
                Some((_, rows)) => rows.push(row),
                None => groups.push((title, vec![row])),
            }
        }
        groups
    }
}

/// `folds over clips, recipe scaled`.
fn group_title(protocol: &str, recipe: &str) -> String {
    let split =
        if protocol == "official" { "official split".to_owned() } else { format!("folds over {protocol}") };
    format!("{split}, recipe {recipe}")
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// How the error bars are to be read.
fn spread(rows: &[&TableRow]) -> String {
    let folds = rows.iter().map(|r| r.folds).max().unwrap_or_default();
    if folds > 1 {
        format!("mean ± std over up to {folds} folds")
    } else {
        "one fold, no error bar".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::fixture;

    #[test]
    fn a_sample_says_so_in_every_chart() {
        let records = fixture::five_models();
        let tables = Tables::derive(&records).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let drawn = draw(dir.path(), &records, &tables, &[]).unwrap();
        assert_eq!(drawn.len(), 6);
        for chart in drawn {
            let svg = fs::read_to_string(dir.path().join(format!("charts/{}.svg", chart.name))).unwrap();
            assert!(svg.contains("rendered sample, not UCF11"), "{}", chart.name);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{}", chart.name);
        }
    }

    #[test]
    fn data_of_ones_own_has_no_panel_of_the_paper_and_no_state_of_the_art() {
        let mut records = fixture::five_models();
        records.run_file.dataset = "folder".into();
        records.run_file.data_kind = crate::record::DataKind::Folder;
        records.run_file.data = "my <clips> & \"more\"".into();
        let tables = Tables::derive(&records).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let names: Vec<&str> =
            draw(dir.path(), &records, &tables, &[]).unwrap().iter().map(|d| d.name).collect();
        assert_eq!(names, ["accuracy", "params-accuracy", "epoch-seconds", "curves"]);
        let svg = fs::read_to_string(dir.path().join("charts/accuracy.svg")).unwrap();
        assert!(!svg.contains("the paper") && svg.contains("my &lt;clips&gt; &amp;"), "escaped");
    }

    #[test]
    fn one_fold_and_no_seconds_still_draw() {
        let mut records = fixture::records("a", &[("tt-gru", "clips", &[0], 0.3)]);
        records.folds[0].epoch_s = None;
        records.params.clear();
        let tables = Tables::derive(&records).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let drawn = draw(dir.path(), &records, &tables, &[]).unwrap();
        assert!(!drawn.is_empty() && drawn.iter().all(|chart| chart.name != "epoch-seconds"));
    }

    /// One budget has points with intervals, several have lines with bands; both say each format once.
    #[test]
    fn formats_have_a_line_each() {
        let folds: &[usize] = &[0, 1, 2];
        let mut records =
            fixture::records("a", &[("tt-gru", "clips", folds, 0.6), ("cp-gru", "clips", folds, 0.7)]);
        for cell in &mut records.run_file.runs[0].cells {
            cell.params_input = 3_300;
        }
        let dir = tempfile::tempdir().unwrap();
        let words = dir.path().join("words");
        let svg = || {
            let tables = Tables::derive(&records).unwrap();
            let rows = crate::results::formats::formats(&words, &records, &tables).unwrap();
            draw(&words, &records, &tables, &rows).unwrap();
            fs::read_to_string(words.join("charts/formats.svg")).unwrap()
        };
        let one = svg();
        let mut small = records.clone();
        for cell in &mut small.run_file.runs[0].cells {
            cell.params_input = 1_200;
        }
        small.keep_alone(&dir.path().join("words-1200")).unwrap();
        let two = svg();
        for text in [&one, &two] {
            assert_eq!((text.matches("\nTT 0.").count(), text.matches("\nCP 0.").count()), (1, 1), "{text}");
            assert!(text.contains("GRU, folds over clips") && !text.contains("NaN"));
        }
        assert_eq!((one.matches("<polygon").count(), two.matches("<polygon").count()), (0, 2));
        assert!(!one.contains("1,000") && two.contains("1,000"), "axes hold all budgets");
    }
}
