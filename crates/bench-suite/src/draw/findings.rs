//! `docs/findings.md`: what the records say of the paper's claims.
//!
//! Its sentences are written by hand in `docs/findings.md.jinja`; every number in them is asked for from the records by
//! model, protocol and recipe, so a sentence cannot keep a number that the records no longer have. A number that is
//! asked for and not there is an error; whether it is there can be asked too.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, ErrorKind, UndefinedBehavior, context};

use crate::paper;
use crate::results::paired::{PairedRow, split};
use crate::results::tables::{TableRow, Tables};
use crate::results::{CurveRow, Page, RUNS, Records, read_csv, write_atomic};
use crate::stats;
use crate::text::{bytes, md_table, p_value, score, thousands};

const TEMPLATE: &str = "docs/findings.md.jinja";
const PAGE: &str = "docs/findings.md";

/// Writes the page of the repository at `root` anew.
///
/// # Errors
/// A template that asks for a row that no record has: the error names it.
pub fn write(root: &Path) -> Result<()> {
    // As with the README's results: a tree of records alone has no pages around them.
    if !root.join(TEMPLATE).is_file() {
        return Ok(());
    }
    let text = page(root)?;
    write_atomic(&root.join(PAGE), text.as_bytes())
}

fn page(root: &Path) -> Result<String> {
    let path = root.join(TEMPLATE);
    let template = fs::read_to_string(&path).with_context(|| format!("{TEMPLATE} cannot be read"))?;
    render(&template, Studies::of(root.join("results"))).context(TEMPLATE)
}

fn render(template: &str, studies: Arc<Studies>) -> Result<String> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().keep_trailing_newline(true).build()?);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let of = studies.clone();
    environment
        .add_function("row", move |study: &str, model: &str, kwargs: Kwargs| of.row(study, model, &kwargs));
    let of = studies.clone();
    environment
        .add_function("pair", move |study: &str, model: &str, kwargs: Kwargs| of.pair(study, model, &kwargs));
    let of = studies.clone();
    environment.add_function("difference", move |study: &str, model: &str, other: &str, kwargs: Kwargs| {
        of.difference(study, (model, other), &kwargs)
    });
    let of = studies.clone();
    environment
        .add_function("comparisons", move |study: &str, kwargs: Kwargs| of.comparisons(study, &kwargs));
    let of = studies.clone();
    environment.add_function(
        "after",
        move |epochs: Vec<usize>, one: Vec<String>, other: Vec<String>, kwargs: Kwargs| {
            of.after(&epochs, [&one, &other], &kwargs)
        },
    );
    // For sentences whose words say what their numbers do.
    environment.add_function("claim", |holds: bool, sentence: &str| {
        if holds { Ok("") } else { Err(missing(&format!("what the page says: {sentence}"))) }
    });
    let of = studies.clone();
    environment.add_function("frames", move |study: &str| of.frames(study));
    let of = studies.clone();
    environment.add_function("csv", move |path: &str| of.csv(path));
    environment.add_filter("score", score);
    environment.add_filter("signed", signed);
    environment.add_filter("fixed", |value: f64, digits: usize| format!("{value:.digits$}"));
    environment.add_filter("thousands", thousands);
    let of = studies.clone();
    environment
        .add_function("has", move |study: &str, model: &str, kwargs: Kwargs| of.has(study, model, &kwargs));
    let of = studies.clone();
    environment.add_function("costs", move |study: &str, models: Vec<String>, kwargs: Kwargs| {
        of.costs(study, &models, &kwargs)
    });
    environment.add_function("table", move |study: &str, kwargs: Kwargs| studies.table(study, &kwargs));
    environment.add_function("paper", |dataset: &str, model: &str| {
        let row = paper::result(dataset, model)
            .ok_or_else(|| missing(&format!("{dataset} {model} in the paper")))?;
        Ok(score(row.mean))
    });
    let mut text = environment.render_str(template, context! {})?;
    // Lines that hold nothing but a tag leave empty ones.
    while text.contains("\n\n\n") {
        text = text.replace("\n\n\n", "\n\n");
    }
    Ok(text)
}

/// The experiments' records, each read and scored when it is first asked for.
#[derive(Debug)]
struct Studies {
    results: PathBuf,
    scored: Mutex<BTreeMap<PathBuf, Scored>>,
}

/// Records, and the tables that follow from them.
type Scored = Arc<(Records, Tables)>;

/// What is asked for: protocol and recipe, of what the page shows or of one run.
#[derive(Debug)]
struct Wanted {
    protocol: String,
    recipe: String,
    run: Option<String>,
}

type Answer<T> = Result<T, minijinja::Error>;

fn missing(what: &str) -> minijinja::Error {
    minijinja::Error::new(ErrorKind::InvalidOperation, format!("no record of {what}"))
}

impl Wanted {
    fn of(kwargs: &Kwargs) -> Answer<Self> {
        let text = |key: &str, default: &str| {
            kwargs.get::<Option<String>>(key).map(|value| value.unwrap_or_else(|| default.to_owned()))
        };
        let (protocol, recipe) = (text("protocol", "clips")?, text("recipe", "scaled")?);
        let wanted = Self { protocol, recipe, run: kwargs.get("run")? };
        kwargs.assert_all_used()?;
        Ok(wanted)
    }

    fn fits(&self, protocol: &str, recipe: &str) -> bool {
        (protocol, recipe) == (&self.protocol, &self.recipe)
    }
}

impl Studies {
    fn of(results: PathBuf) -> Arc<Self> {
        Arc::new(Self { results, scored: Mutex::default() })
    }

    fn tables(&self, study: &str, wanted: &Wanted) -> Answer<Scored> {
        let page = self.results.join(study);
        let dir = wanted.run.as_ref().map_or_else(|| page.clone(), |run| page.join(RUNS).join(run));
        let mut scored = self.scored.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = scored.get(&dir) {
            return Ok(known.clone());
        }
        let read = || {
            let records = if wanted.run.is_some() { Records::read(&dir)? } else { Page::read(&dir)?.records };
            let tables = Tables::derive(&records)?;
            anyhow::Ok(Arc::new((records, tables)))
        };
        let new = read().map_err(|error| missing(&format!("{study}: {error:#}")))?;
        scored.insert(dir, new.clone());
        Ok(new)
    }

    fn find(&self, study: &str, model: &str, wanted: &Wanted) -> Answer<Option<(TableRow, f64)>> {
        let scored = self.tables(study, wanted)?;
        let (records, tables) = &*scored;
        let mut rows = tables.table.iter();
        let row = rows.find(|row| row.model == model && wanted.fits(&row.protocol, &row.recipe));
        Ok(row.map(|row| (row.clone(), hours(&records.curves, row))))
    }

    fn row(&self, study: &str, model: &str, kwargs: &Kwargs) -> Answer<Value> {
        let wanted = Wanted::of(kwargs)?;
        let (row, hours) = self
            .find(study, model, &wanted)?
            .ok_or_else(|| missing(&format!("{study}, {model}, {}, {}", wanted.protocol, wanted.recipe)))?;
        Ok(context! {
            mean => score(row.mean),
            interval => interval(row.ci_low, row.ci_high, score),
            score => format!("{} {}", score(row.mean), interval(row.ci_low, row.ci_high, score)),
            folds => row.folds,
            epochs => row.epochs(),
            settled => row.settled(),
            weights => thousands(row.params_input),
            total => thousands(row.params_total),
            hours => format!("{hours:.2}"),
        })
    }

    fn has(&self, study: &str, model: &str, kwargs: &Kwargs) -> Answer<bool> {
        let wanted = Wanted::of(kwargs)?;
        let is_there = self.results.join(study).join(RUNS).is_dir();
        Ok(is_there && self.find(study, model, &wanted)?.is_some())
    }

    /// Frames of all clips of a study.
    fn frames(&self, study: &str) -> Answer<usize> {
        let page = Wanted { protocol: String::new(), recipe: String::new(), run: None };
        Ok(self.tables(study, &page)?.0.run_file.frames)
    }

    fn pair(&self, study: &str, model: &str, kwargs: &Kwargs) -> Answer<Value> {
        let wanted = Wanted::of(kwargs)?;
        let scored = self.tables(study, &wanted)?;
        let mut rows = scored.1.paired.iter();
        let row = rows
            .find(|row| row.model == model && row.of_twins() && wanted.fits(&row.protocol, &row.recipe))
            .ok_or_else(|| missing(&format!("{study}, {model} and its dense twin, {}", wanted.protocol)))?;
        Ok(pair(row))
    }

    /// Any two models on the folds that both have.
    fn difference(&self, study: &str, models: (&str, &str), kwargs: &Kwargs) -> Answer<Value> {
        Ok(pair(&self.between(study, models, &Wanted::of(kwargs)?)?))
    }

    fn between(&self, study: &str, models: (&str, &str), wanted: &Wanted) -> Answer<PairedRow> {
        let scored = self.tables(study, wanted)?;
        Tables::difference(&scored.0, models, &wanted.protocol, &wanted.recipe)
            .map_err(|error| missing(&format!("{study}: {error:#}")))?
            .ok_or_else(|| missing(&format!("{study}, {} and {}, {}", models.0, models.1, wanted.protocol)))
    }

    /// Two models, each of a study, after so many epochs of their trainings, wherever these ended, on the same folds; of
    /// several epochs the mean of each fold.
    fn after(&self, epochs: &[usize], sides: [&[String]; 2], kwargs: &Kwargs) -> Answer<Value> {
        let wanted = Wanted::of(kwargs)?;
        let mut scores = Vec::with_capacity(sides.len());
        for side in sides {
            let [study, model] = side else { return Err(missing("a side that is no study and model")) };
            let scored = self.tables(study, &wanted)?;
            let records = &scored.0;
            let is_asked = |row: &&CurveRow| {
                epochs.contains(&row.epoch) && row.model == *model && wanted.fits(&row.protocol, &row.recipe)
            };
            let mut by_fold: BTreeMap<_, Vec<f64>> = BTreeMap::new();
            for row in records.curves.iter().filter(is_asked) {
                let fold = (row.fold, row.seed, split(records, row).map(str::to_owned));
                by_fold.entry(fold).or_default().extend(row.test_value);
            }
            // Where one of the epochs was not reached, or not evaluated, there is no mean of all.
            by_fold.retain(|_, values| values.len() == epochs.len());
            let means = by_fold.into_iter().filter_map(|(fold, values)| Some((fold, stats::mean(&values)?)));
            scores.push(means.collect::<BTreeMap<_, f64>>());
        }
        let [one, other] = [&scores[0], &scores[1]];
        if one.is_empty() || !one.keys().eq(other.keys()) {
            return Err(missing(&format!("{sides:?} after {epochs:?} epochs on the same folds")));
        }
        let differences: Vec<f64> = one.values().zip(other.values()).map(|(a, b)| a - b).collect();
        let [center, low, high] =
            stats::of_few(&differences).ok_or_else(|| missing(&format!("{sides:?} on two folds")))?;
        let mean = |side: &BTreeMap<_, _>| {
            stats::mean(&side.values().copied().collect::<Vec<_>>()).map_or_else(String::new, score)
        };
        Ok(context! {
            one => mean(one),
            other => mean(other),
            difference => format!("{} {}", signed(center), interval(Some(low), Some(high), signed)),
            verdict => told(Some(low), Some(high)),
            folds => differences.len(),
        })
    }

    /// Other formats and the train, their p-values adjusted for the number of pairs.
    fn comparisons(&self, study: &str, kwargs: &Kwargs) -> Answer<Vec<Value>> {
        let wanted = Wanted::of(kwargs)?;
        let scored = self.tables(study, &wanted)?;
        let rows = scored.1.paired.iter().filter(|row| wanted.fits(&row.protocol, &row.recipe));
        let value = |row: &PairedRow| {
            let p = row.p?;
            let verdict = match row.mean_difference {
                _ if p >= 0.05 => "indistinguishable from",
                difference if difference > 0.0 => "above",
                _ => "below",
            };
            Some(
                context! { model => &row.model, baseline => &row.baseline, p => p_value(p), verdict, ..pair(row) },
            )
        };
        Ok(rows.filter_map(value).collect())
    }

    /// The rows of a table under `results/`, by the names of its columns; numbers are numbers.
    fn csv(&self, path: &str) -> Answer<Vec<BTreeMap<String, Value>>> {
        let rows: Vec<BTreeMap<String, String>> =
            read_csv(&self.results.join(path)).map_err(|error| missing(&format!("{path}: {error:#}")))?;
        let value = |text: String| text.parse::<f64>().map_or_else(|_| Value::from(text), Value::from);
        Ok(rows.into_iter().map(|row| row.into_iter().map(|(k, v)| (k, value(v))).collect()).collect())
    }

    /// What these models of a study reach and cost, those that are there.
    fn costs(&self, study: &str, models: &[String], kwargs: &Kwargs) -> Answer<Value> {
        let wanted = Wanted::of(kwargs)?;
        let mut rows = Vec::with_capacity(models.len());
        for model in models {
            let Some((row, hours)) = self.find(study, model, &wanted)? else { continue };
            rows.push(vec![
                row.model,
                score(row.mean),
                interval(row.ci_low, row.ci_high, score),
                row.folds.to_string(),
                thousands(row.params_total),
                format!("{hours:.2}"),
                bytes(row.peak_rss_bytes),
            ]);
        }
        let header = ["model", "accuracy", "95 % interval", "folds", "all weights", "hours", "peak memory"];
        Ok(Value::from_safe_string(md_table(&header, &rows)))
    }

    /// The models of a study under a protocol and a recipe, in the order of the tables.
    fn table(&self, study: &str, kwargs: &Kwargs) -> Answer<Value> {
        let wanted = Wanted::of(kwargs)?;
        let scored = self.tables(study, &wanted)?;
        let (records, tables) = &*scored;
        let rows: Vec<Vec<String>> = tables
            .table
            .iter()
            .filter(|row| wanted.fits(&row.protocol, &row.recipe))
            .map(|row| {
                vec![
                    row.model.clone(),
                    score(row.mean),
                    interval(row.ci_low, row.ci_high, score),
                    row.folds.to_string(),
                    row.epochs(),
                    row.settled(),
                    thousands(row.params_input),
                    thousands(row.params_total),
                    format!("{:.2}", hours(&records.curves, row)),
                ]
            })
            .collect();
        let header = [
            "model",
            "accuracy",
            "95 % interval",
            "folds",
            "epochs",
            "settled",
            "input weights",
            "all weights",
            "hours",
        ];
        Ok(Value::from_safe_string(md_table(&header, &rows)))
    }
}

fn pair(row: &PairedRow) -> Value {
    context! {
        difference => format!("{} {}", signed(row.mean_difference), interval(row.ci_low, row.ci_high, signed)),
        verdict => told(row.ci_low, row.ci_high),
        folds => row.folds,
    }
}

/// Wall hours that the cells of a row were trained for.
fn hours(curves: &[CurveRow], row: &TableRow) -> f64 {
    let of_row = |point: &&CurveRow| {
        (&point.model, &point.protocol, &point.recipe) == (&row.model, &row.protocol, &row.recipe)
    };
    curves.iter().filter(of_row).map(|point| point.wall_s).sum::<f64>() / 3600.0
}

fn interval(low: Option<f64>, high: Option<f64>, format: fn(f64) -> String) -> String {
    low.zip(high).map_or_else(|| "–".to_owned(), |(low, high)| format!("[{}, {}]", format(low), format(high)))
}

fn signed(value: f64) -> String {
    // A minus sign as wide as the plus; none of nothing.
    match format!("{value:+.3}").as_str() {
        "+0.000" | "-0.000" => "0.000".to_owned(),
        text => text.replace('-', "−"),
    }
}

fn told(low: Option<f64>, high: Option<f64>) -> &'static str {
    match (low, high) {
        (Some(low), _) if low > 0.0 => "above",
        (_, Some(high)) if high < 0.0 => "below",
        _ => "indistinguishable from",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::fixture;

    #[test]
    fn the_page_is_what_the_records_say() {
        let root = fixture::repository();
        let committed = fs::read_to_string(root.join(PAGE)).unwrap();
        assert_eq!(page(&root).unwrap(), committed, "run cargo xtask figures");
    }

    /// Digits with a point or a per cent sign outside of what is asked for from the records.
    fn numbers_by_hand(template: &str) -> Vec<String> {
        let mut prose = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            prose.push_str(before);
            let end = if after.starts_with('{') { "}}" } else { "%}" };
            rest = after.split_once(end).map_or("", |(_, rest)| rest);
        }
        prose.push_str(rest);
        // Code and addresses are no claims.
        let outside = |text: &str, mark: char| {
            text.split(mark).step_by(2).map(str::to_owned).collect::<Vec<_>>().join(" ")
        };
        let prose = outside(&prose, '`');
        prose
            .split_whitespace()
            .filter(|word| !word.contains("]("))
            .map(|word| word.trim_matches(|c: char| !c.is_ascii_digit() && c != '.'))
            .map(|word| word.trim_end_matches('.'))
            .filter(|word| word.contains('.') && word.bytes().any(|b| b.is_ascii_digit()))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn no_score_in_the_sentences_is_written_by_hand() {
        assert_eq!(
            numbers_by_hand("At {{ row('a').mean }}, .883 and 0.5, not `0.1` or 5 folds."),
            [".883", "0.5"]
        );
        let template = fs::read_to_string(fixture::repository().join(TEMPLATE)).unwrap();
        assert_eq!(numbers_by_hand(&template), Vec::<String>::new());
    }

    #[test]
    fn a_number_that_no_record_has_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        fixture::five_models().keep_alone(&dir.path().join("a")).unwrap();
        let studies = Studies::of(dir.path().to_owned());
        let render = |text: &str| render(text, studies.clone()).map_err(|error| format!("{error:#}"));
        let score = render("{{ row('a', 'tt-gru').mean }} {{ has('a', 'rnn') }}").unwrap();
        assert!(score.starts_with("0.") && score.ends_with(" False"), "{score}");
        assert_eq!(render("{{ has('b', 'gru') }}").unwrap(), "False", "a study without records");
        let own = render("{{ pair('a', 'tt-gru').difference }}").unwrap();
        assert_eq!(own, render("{{ difference('a', 'tt-gru', 'gru').difference }}").unwrap());
        assert!(
            render("{{ difference('a', 'tt-gru', 'rnn').difference }}")
                .unwrap_err()
                .contains("tt-gru and rnn")
        );
        let after = |other: &str, epoch: usize| {
            render(&format!(
                "{{% set d = after([{epoch}], ['a', 'tt-gru'], ['a', '{other}']) %}}{{{{ d.difference }}}} {{{{ d.verdict }}}}"
            ))
        };
        assert_eq!(after("tt-gru", 1).unwrap(), "0.000 [0.000, 0.000] indistinguishable from");
        assert!(after("gru", 1).unwrap().starts_with('+'));
        assert!(after("gru", 999).unwrap_err().contains("after [999] epochs on the same folds"));
        assert!(
            render("{{ after([1, 999], ['a', 'tt-gru'], ['a', 'gru']) }}").is_err(),
            "some epochs of several"
        );
        assert_eq!(render("{{ claim(1 < 2, 'so') }}.").unwrap(), ".");
        assert!(render("{{ claim(2 < 1, 'no lead') }}").unwrap_err().contains("no lead"));
        let folds: &[usize] = &[0, 1];
        let formats =
            fixture::records("f", &[("tt-gru", "clips", folds, 0.45), ("cp-gru", "clips", folds, 0.6)]);
        formats.keep_alone(&dir.path().join("f")).unwrap();
        let compared = |study: &str| {
            render(&format!(
                "{{% for c in comparisons('{study}') %}}{{{{ c.model }}}} {{{{ c.difference }}}} p {{{{ c.p }}}} {{{{ c.verdict }}}};{{% endfor %}}"
            ))
        };
        let pair = render("{{ difference('f', 'cp-gru', 'tt-gru').difference }}").unwrap();
        let said = compared("f").unwrap();
        assert!(said.starts_with(&format!("cp-gru {pair} p ")) && said.ends_with(" above;"), "{said}");
        assert_eq!(compared("a").unwrap(), "", "dense twins are no other formats");
        fs::write(dir.path().join("t.csv"), "model,value\ngru,0.5\n").unwrap();
        assert_eq!(
            render("{% for r in csv('t.csv') %}{{ r.model }} {{ r.value|score }}{% endfor %}").unwrap(),
            "gru 0.500"
        );
        assert!(render("{{ csv('u.csv') }}").unwrap_err().contains("u.csv"));
        let costs = render("{{ costs('a', ['gru', 'cnn-gru', 'tt-gru']) }}").unwrap();
        let models = costs.lines().skip(2).map(|line| line.split('|').nth(1).unwrap().trim());
        assert_eq!(models.collect::<Vec<_>>(), ["gru", "tt-gru"], "what is there, in the order asked for");
        assert!(render("{{ row('a', 'rnn').mean }}").unwrap_err().contains("a, rnn, clips, scaled"));
        assert!(render("{{ row('b', 'gru').mean }}").unwrap_err().contains("no record of b"));
        assert!(render("{{ row('a', 'tt-gru', protocl='x').mean }}").is_err());
        assert!(render("{{ row('a', 'tt-gru').maen }}").is_err());
    }
}
