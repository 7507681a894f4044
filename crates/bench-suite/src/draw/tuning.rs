//! The page of a search.

use std::path::Path;

use anyhow::Result;

use crate::draw::charts;
use crate::results::tuning::{About, Rows, TUNING_HEADER};
use crate::results::{csv_bytes, machines, read_toml, write_atomic};
use crate::text::{md_table, score, seconds};

/// Writes the table, the page and the chart that follow from the records of a folder.
pub fn derive(dir: &Path) -> Result<()> {
    let about: About = read_toml(&dir.join("run.toml"))?;
    let rows = Rows::read(dir)?;
    write_atomic(&dir.join("tuning.csv"), &csv_bytes(TUNING_HEADER, &rows.table(&about.models))?)?;
    write_atomic(&dir.join("tuning.md"), page(&about, &rows).as_bytes())?;
    let curves: Vec<(String, Vec<f64>)> =
        about.models.iter().map(|model| (model.clone(), rows.expected_best(model))).collect();
    charts::tuning(dir, &about.title, &curves)
}

fn page(about: &About, rows: &Rows) -> String {
    let step = |(draws, epochs): &(usize, usize)| {
        let plural = if *draws == 1 { "" } else { "s" };
        format!("{draws} draw{plural} to {epochs} epochs")
    };
    let steps: Vec<String> = about.rungs.iter().map(step).collect();
    let mut text = format!(
        "# Tuned with equal budget: {}\n\nProtocol `{}`. Each training fold chose by an inner split of its own: {}, the \
         best of a step trained afresh in the next; of the best draw the best evaluated epoch. Then the choice was \
         trained on the whole training fold, and scored once on the test fold. All models had the same draws. \
         `difference` is a TT model less its dense twin on the same folds; intervals are 95 %, by bootstrap over test \
         clips. Hours are of training.\n\n- {}\n- {} clips, {} frames; data digest `{}`\n- machine: {}\n\n![expected best score against \
         the number of draws](tuning.svg)\n\n",
        about.search,
        about.protocol,
        steps.join(", then "),
        about.data,
        about.clips,
        about.frames,
        about.data_digest,
        machines(&about.provenance),
    );
    let range = |low: Option<f64>, high: Option<f64>| match (low, high) {
        (Some(low), Some(high)) => format!("{} to {}", score(low), score(high)),
        _ => String::new(),
    };
    let table: Vec<Vec<String>> = rows
        .table(&about.models)
        .iter()
        .map(|row| {
            let difference = row
                .difference
                .map(|d| format!("{d:+.3} ({})", range(row.difference_low, row.difference_high)));
            vec![
                row.model.clone(),
                row.std
                    .map_or_else(|| score(row.mean), |std| format!("{} ± {}", score(row.mean), score(std))),
                range(row.ci_low, row.ci_high),
                difference.unwrap_or_default(),
                score(row.inner_mean),
                row.folds.to_string(),
                seconds(row.search_s),
                seconds(row.final_s),
            ]
        })
        .collect();
    let header = [
        "model",
        "accuracy",
        "95 % interval",
        "difference",
        "inner split",
        "folds",
        "search",
        "final training",
    ];
    text.push_str(&md_table(&header, &table));
    text.push_str("\n## Choices\n\n");
    let choices: Vec<Vec<String>> = rows
        .choices
        .iter()
        .map(|c| {
            let settings = c.settings.replace("train.", "").replace("model.", "");
            vec![c.model.clone(), c.fold.to_string(), score(c.value), c.epochs.to_string(), settings]
        })
        .collect();
    text.push_str(&md_table(&["model", "fold", "inner split", "epochs", "settings"], &choices));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::fixture::search;
    use std::fs;

    #[test]
    fn page_of_two_models() {
        let (about, rows) = search();
        insta::assert_snapshot!(page(&about, &rows));
    }

    #[test]
    fn everything_follows_from_the_records_byte_for_byte() {
        let (about, rows) = search();
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("words/0123");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("run.toml"), toml::to_string(&about).unwrap()).unwrap();
        rows.write(&dir).unwrap();
        assert_eq!(Rows::read(&dir).unwrap(), rows);
        let mut drawn = Vec::new();
        for _ in 0..2 {
            derive(&dir).unwrap();
            drawn.push(["tuning.csv", "tuning.md", "tuning.svg", "tuning.png"].map(|name| {
                let bytes = fs::read(dir.join(name)).unwrap();
                fs::remove_file(dir.join(name)).unwrap();
                bytes
            }));
        }
        assert_eq!(drawn[0], drawn[1]);
    }
}
