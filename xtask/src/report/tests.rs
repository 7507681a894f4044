//! The report of a fixture, and names that try to be more than names.

use super::*;
use crate::fixture;
use bench_suite::record::{LeftOut, thumbnail};

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

/// The Markdown and the HTML of records, with a frame strip for [`HOSTILE`] beside them, with or without charts.
fn written(records: &Records, jpeg: Option<&[u8]>, with_charts: bool) -> (String, String) {
    let dir = tempfile::tempdir().unwrap();
    if let Some(jpeg) = jpeg {
        std::fs::create_dir(dir.path().join("thumbnails")).unwrap();
        std::fs::write(dir.path().join("thumbnails").join(thumbnail(HOSTILE)), jpeg).unwrap();
    }
    let tables = Tables::derive(records).unwrap();
    let drawn = if with_charts { charts::draw(dir.path(), records, &tables).unwrap() } else { Vec::new() };
    let listed = records::Listed { name: "a".into(), file: records.run_file.clone(), shown: 21 };
    let page = records::Page { records: records.clone(), runs: vec![listed], hidden: Vec::new() };
    write(dir.path(), &page, &tables, &drawn).unwrap();
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    (read("report.md"), read("report.html"))
}

#[test]
fn clips_kept_with_errors_are_counted() {
    let mut records = fixture::five_models();
    assert!(!written(&records, None, false).0.contains("decoder errors"));
    records.run_file.with_errors = 3;
    assert!(written(&records, None, false).0.contains("3 of the clips used have decoder errors"));
}

#[test]
fn report_of_the_fixture() {
    insta::assert_snapshot!(written(&hostile(), None, true).0);
}

#[test]
fn the_page_needs_nothing_and_obeys_nobody() {
    let (_, html) = written(&hostile(), None, true);
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
            configs.iter().map(|text| records::Run { config: says(text), ..run.clone() }).collect();
        let (md, html) = written(&records, Some(b"jpeg"), false);
        assert_eq!(html.contains("data:image/jpeg;base64,anBlZw=="), shown, "{configs:?}");
        assert!(!md.contains("base64"));
    }
}
