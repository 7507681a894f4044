//! `table.csv` as aligned columns, for a terminal.

use crate::results::tables::TableRow;
use crate::text::{bytes, columns, score, thousands};

/// A line per model, protocol and recipe.
pub fn text(rows: &[TableRow]) -> String {
    let mut lines = vec![
        [
            "model",
            "protocol",
            "recipe",
            "score",
            "95 % interval",
            "folds",
            "epochs",
            "params input",
            "s/epoch",
            "memory",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for row in rows {
        let spread = row.std.map_or_else(String::new, |s| format!(" ± {}", score(s)));
        let interval = row.ci_low.zip(row.ci_high);
        lines.push(vec![
            row.model.clone(),
            row.protocol.clone(),
            row.recipe.clone(),
            format!("{}{spread}", score(row.mean)),
            interval.map_or_else(String::new, |(l, h)| format!("{}–{}", score(l), score(h))),
            row.folds.to_string(),
            row.epochs(),
            thousands(row.params_input),
            row.epoch_s.map_or_else(String::new, |s| format!("{s:.2}")),
            bytes(row.peak_rss_bytes),
        ]);
    }
    columns(&lines, 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::fixture;
    use crate::results::tables::Tables;

    #[test]
    fn results_snapshot() {
        let tables = Tables::derive(&fixture::five_models()).unwrap();
        insta::assert_snapshot!(text(&tables.table));
    }
}
