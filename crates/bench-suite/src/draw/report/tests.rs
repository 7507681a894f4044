//! The report of a fixture, and names that try to be more than names.

use super::*;
use crate::record::LeftOut;
use crate::results::fixture;
use crate::results::formats::formats;
use crate::results::{FinalModel, Strip};

/// A clip's name that closes tags, runs script, ends cells and turns the text around.
const HOSTILE: &str = "walking/a|b </td><img src=x onerror=alert(1)><script>1</script>\n\u{202e}`c`&amp;.mpg";

fn hostile() -> Records {
    let mut records = fixture::five_models();
    records.run_file.left_out.push(LeftOut { clip: HOSTILE.into(), reason: "no <b>video</b> stream".into() });
    records.run_file.classes[1] = "biking\"><script>alert(2)</script>".into();
    for row in &mut records.predictions {
        row.predicted = row.predicted.replace("biking", &records.run_file.classes[1]);
    }
    records.predictions[19].clip = HOSTILE.into();
    records.predictions[19].probabilities = "0.001;0.999".into();
    records
}

/// The Markdown and the HTML of records, with or without charts.
fn written(records: &Records, with_charts: bool) -> (String, String) {
    let dir = tempfile::tempdir().unwrap();
    let tables = Tables::derive(records).unwrap();
    let rows = formats(dir.path(), records, &tables).unwrap();
    let drawn =
        if with_charts { charts::draw(dir.path(), records, &tables, &rows).unwrap() } else { Vec::new() };
    let listed = results::Listed { name: "a".into(), file: records.run_file.clone(), shown: 21 };
    let page = results::Page { records: records.clone(), runs: vec![listed], hidden: Vec::new() };
    write(dir.path(), &page, &tables, &rows, &drawn).unwrap();
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    (read("report.md"), read("report.html"))
}

#[test]
fn clips_kept_with_errors_are_counted() {
    let mut records = fixture::five_models();
    assert!(!written(&records, false).0.contains("decoder errors"));
    records.run_file.with_errors = 3;
    assert!(written(&records, false).0.contains("3 of the clips used have decoder errors"));
}

#[test]
fn copies_are_counted() {
    let mut records = fixture::five_models();
    assert!(!written(&records, false).0.contains("same frames"));
    records.run_file.copies = vec![vec!["a".into(), "b".into(), "c".into()], vec!["d".into(), "e".into()]];
    assert!(written(&records, false).0.contains("3 of the clips used have the same frames as others"));
}

#[test]
fn report_of_the_fixture() {
    insta::assert_snapshot!(written(&hostile(), true).0);
}

#[test]
fn the_page_needs_nothing_and_obeys_nobody() {
    let (_, html) = written(&hostile(), true);
    for word in
        ["<script", "onerror=alert(1)>", "<b>", "http://", "https://", "<link rel=\"stylesheet", "url("]
    {
        let found = html.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
        assert!(!found.contains(word), "{word}");
    }
    assert!(html.contains("&lt;script&gt;1&lt;&#x2f;script&gt;"), "names are shown");
    assert!(html.contains("no &lt;b&gt;video&lt;&#x2f;b&gt; stream"));
    assert_eq!(html.matches("<svg ").count(), 6, "every chart is inside");
    let order =
        ["id=\"rank\"", "id=\"results\"", "id=\"paper\"", "id=\"sota\"", "id=\"classes\"", "id=\"runs\""];
    let at: Vec<usize> = order.iter().map(|id| html.find(id).unwrap()).collect();
    assert!(at.is_sorted(), "{at:?}");
    assert!(html.contains("cargo xtask reproduce ucf11-sample\n"));
}

#[test]
fn frames_are_shown_only_where_every_run_allows_it() {
    let mut records = hostile();
    records.strips.push(Strip { clip: HOSTILE.into(), jpeg: "anBlZw==".into() });
    let says = |says: &str| format!("name = \"x\"\n[data]\nredistributable = {says}\n");
    for (configs, shown) in [
        (vec!["true"], true),
        (vec!["false"], false),
        (vec!["\"true\""], false),
        (vec!["true", "false"], false),
        (vec![], false),
    ] {
        let run = records.run_file.runs.first().cloned();
        let run = run.unwrap_or_else(|| fixture::five_models().run_file.runs.remove(0));
        records.run_file.runs =
            configs.iter().map(|text| results::Run { config: says(text), ..run.clone() }).collect();
        let (md, html) = written(&records, false);
        assert_eq!(html.contains("data:image/jpeg;base64,anBlZw=="), shown, "{configs:?}");
        assert!(!md.contains("base64"));
    }
}

/// The page says so before any number, and every chart does.
#[test]
fn a_page_of_some_of_the_cells_says_that_it_is_partial() {
    let mut records = fixture::five_models();
    assert!(!written(&records, true).1.contains("artial"));
    records.run_file.runs[0].missing =
        vec!["lstm.groups.scaled.f0.s0".into(), "lstm.groups.scaled.f1.s0".into()];
    let (md, html) = written(&records, true);
    let says =
        "Partial: 2 planned cells are not finished: lstm.groups.scaled.f0.s0, lstm.groups.scaled.f1.s0.";
    let at = md.find(says).unwrap();
    assert!(at < md.find("## Data").unwrap() && html.contains(says), "{md}");
    assert_eq!(html.matches("partial, 2 cells missing").count(), html.matches("<svg ").count());
    records.run_file.runs[0].missing = (0..20).map(|fold| format!("lstm.groups.scaled.f{fold}.s0")).collect();
    assert!(written(&records, false).0.contains("f7.s0 and others, all in run.toml"));
}

#[test]
fn a_model_of_all_clips_has_a_curve_and_no_score() {
    let mut records = fixture::five_models();
    assert!(!written(&records, false).0.contains("Models for use"));
    let of = |epoch: usize| 2.0 / (epoch + 1) as f64;
    records.run_file.runs[0].finals.push(FinalModel {
        seed: 3,
        train_loss: (0..20).map(of).collect(),
        train_value: (0..20).map(|epoch| 1.0 - of(epoch) / 2.0).collect(),
        ..fixture::final_model("tt-gru")
    });
    let (md, html) = written(&records, false);
    let section = &md[md.find("## Models for use").unwrap()..];
    for word in [
        "no clip was left to test them on, so they have no score",
        "| tt-gru, seed 3 | scaled | data/models/tt-gru.safetensors | fedcba9876543210 | 100 | 20 |",
        "| tt-gru, seed 3 | 1 | 2.0000 | 0.000 |",
        "| tt-gru, seed 3 | 20 | 0.1000 | 0.950 |",
    ] {
        assert!(section.contains(word), "{word:?} is not in {section}");
    }
    assert!(html.contains("id=\"final\""));
}
