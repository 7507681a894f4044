//! The page of a study of rates.

use std::path::Path;

use anyhow::Result;

use crate::draw::charts;
use crate::results::rates::{About, RateRow, best};
use crate::results::{machines, read_csv, read_toml, write_atomic};
use crate::text::md_table;

/// Writes the page and the chart that follow from the records of a folder.
pub fn derive(dir: &Path) -> Result<()> {
    let about: About = read_toml(&dir.join("run.toml"))?;
    let rows: Vec<RateRow> = read_csv(&dir.join("rates.csv"))?;
    write_atomic(&dir.join("rates.md"), page(&about, &rows).as_bytes())?;
    charts::rates(dir, &about.title, &rows)
}

fn page(about: &About, rows: &[RateRow]) -> String {
    let mut keys: Vec<(&str, &str)> = Vec::new();
    for row in rows {
        let key = (row.model.as_str(), row.size.as_str());
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys.sort_by_key(|(model, _)| *model);
    let lines: Vec<(Vec<String>, f64)> = keys
        .iter()
        .filter_map(|key| {
            let line: Vec<&RateRow> =
                rows.iter().filter(|row| (row.model.as_str(), row.size.as_str()) == *key).collect();
            let best = best(&line)?;
            let losses: Vec<String> =
                line.iter().map(|row| format!("{:e}: {:.3}", row.lr, row.loss)).collect();
            let cells = [key.0.to_owned(), key.1.to_owned(), format!("{:e}", best.lr), losses.join(", ")];
            Some((cells.to_vec(), best.lr))
        })
        .collect();
    let lowest = lines.iter().map(|(_, lr)| *lr).fold(f64::INFINITY, f64::min);
    let highest = lines.iter().map(|(_, lr)| *lr).fold(0.0, f64::max);
    let steps = rows.iter().map(|row| row.steps).max().unwrap_or(0);
    let mut text = format!(
        "# One rate for every size: {}\n\nMean training loss of the last of {steps} steps' epochs against `train.lr`, \
         protocol `{}`, training clips of fold {}. The best rates lie within a factor of {:.1}.\n\n- {}\n- data digest \
         `{}`\n- machine: {}\n\n![training loss against the rate](rates.svg)\n\n",
        about.study,
        about.protocol,
        about.fold,
        highest / lowest,
        about.data,
        about.data_digest,
        machines(&about.provenance),
    );
    let table: Vec<Vec<String>> = lines.into_iter().map(|(cells, _)| cells).collect();
    text.push_str(&md_table(&["model", "size", "best rate", "loss at each rate"], &table));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(model: &str, size: &str, lr: f64, loss: f64) -> RateRow {
        RateRow {
            model: model.into(),
            size: size.into(),
            lr,
            loss,
            epochs: 2,
            steps: 150,
            params_input: 7,
            train_s: 1.0,
            run: "r".into(),
        }
    }

    #[test]
    fn the_page_says_how_far_best_rates_are_apart() {
        let rows = [
            cell("gru", "64", 1e-3, 0.5),
            cell("gru", "64", 3e-3, 0.4),
            cell("tt-gru", "64", 1e-3, 0.2),
            cell("tt-gru", "64", 3e-3, 0.3),
        ];
        let about = About {
            study: "s".into(),
            title: "t".into(),
            data: "four clips".into(),
            data_digest: "d".into(),
            protocol: "clips".into(),
            fold: 0,
            config: String::new(),
            provenance: Vec::new(),
        };
        insta::assert_snapshot!(page(&about, &rows));
    }
}
