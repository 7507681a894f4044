//! Everything that is derived from the committed records equals what `figures` makes of them, whatever else lies on the
//! machine: in `data/`, or beside the records, where a run of the README's first command leaves its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use bench_suite::draw::{ablation, compression};
use bench_suite::record::strip_file;
use bench_suite::results::formats::beside;

use crate::fake::{Fake, copy, repo, stderr};

/// What a page is drawn from: all that lies in its folder, and of that what git knows. After a run, only the whole is of
/// one piece; after its results were put back by git, only what git knows.
#[test]
fn committed_results_are_what_figures_draws() {
    let results = repo().join("results");
    let Ok(entries) = fs::read_dir(&results) else { return eprintln!("skipped: no results/ in the tree") };
    for entry in entries.flatten().filter(|e| e.path().join("report.md").is_file()) {
        let name = entry.file_name().into_string().unwrap();
        let mut folders = beside(&results, &name).unwrap();
        folders.push(name.clone());
        let whole = |fake: &Fake| {
            for name in &folders {
                copy(&results.join(name), &fake.path("results").join(name));
            }
        };
        if let Err(stale) = drawn_again(&name, whole) {
            let known = drawn_again(&name, |fake| {
                for name in &folders {
                    tracked(&format!("results/{name}"), fake);
                }
            });
            assert!(known.is_ok(), "{stale:?} are not what their records say: cargo xtask figures");
        }
    }
}

/// Frames of its clips in the way of a page, as an earlier version, a kill or git leave them.
#[test]
fn a_page_does_not_depend_on_what_lies_beside_its_records() {
    let name = "ucf11-sample";
    let page = |litter: bool| {
        let fake = Fake::new();
        tracked(&format!("results/{name}"), &fake);
        if litter {
            fs::create_dir_all(fake.path("data/stores/ucf11-000000000000")).unwrap();
            fs::create_dir_all(fake.path("data/ucf11-sample/walking")).unwrap();
            let pictures = fake.path(&format!("results/{name}/thumbnails"));
            fs::create_dir_all(&pictures).unwrap();
            for run in fs::read_dir(fake.path(&format!("results/{name}/runs"))).unwrap().flatten() {
                let mut strips = String::from("clip,jpeg\n");
                let mut rows = csv::Reader::from_path(run.path().join("predictions.csv")).unwrap();
                for row in rows.records() {
                    let clip = row.unwrap()[5].to_owned();
                    fs::write(pictures.join(strip_file(&clip)), b"jpeg").unwrap();
                    strips.extend([&clip, ",anBlZw==\n"]);
                }
                fs::write(run.path().join("strips-00000000.csv"), strips).unwrap();
            }
        }
        let output = fake.xtask(&format!("figures {name}"));
        assert!(output.status.success(), "{}", stderr(&output));
        (fake.read(&format!("results/{name}/report.html")), fake.read(&format!("results/{name}/report.md")))
    };
    assert!(page(false) == page(true), "the page is another beside what is not of its records");
}

/// `results remove` removes with the last run what was drawn from it, and nothing else.
#[test]
fn what_studies_derive_is_known() {
    let studies: [(&str, &[&str]); 2] =
        [("ablation", &ablation::DERIVED), ("compression", &compression::DERIVED)];
    for (study, derived) in studies {
        for entry in fs::read_dir(repo().join("results").join(study)).unwrap().flatten() {
            for name in fs::read_dir(entry.path()).unwrap().flatten().map(|file| file.file_name()) {
                let name = name.into_string().unwrap();
                assert!(name == "runs" || derived.contains(&name.as_str()), "{study}: {name}");
            }
        }
    }
}

/// Draws the page of an experiment again in a repository of its own; names the files that change.
fn drawn_again(name: &str, fill: impl Fn(&Fake)) -> Result<(), Vec<String>> {
    let fake = Fake::new();
    fill(&fake);
    fs::copy(repo().join("README.md"), fake.path("README.md")).unwrap();
    let before = files(&fake.path("results"));
    fs::remove_dir_all(fake.path("results").join(name).join("charts")).unwrap();
    let output = fake.xtask(&format!("figures {name}"));
    assert!(output.status.success(), "{}", stderr(&output));
    let after = files(&fake.path("results"));
    let changed = |path: &&String| before.get(*path) != after.get(*path);
    let changed: Vec<String> = before.keys().chain(after.keys()).filter(changed).cloned().collect();
    if changed.is_empty() { Ok(()) } else { Err(changed) }
}

/// Copies what git knows below a folder, as it stands; everything where there is no git.
fn tracked(folder: &str, fake: &Fake) {
    let list = Command::new("git").args(["ls-files", "-z", "--", folder]).current_dir(repo()).output();
    let list = list.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    if list.is_empty() {
        return copy(&repo().join(folder), &fake.path(folder));
    }
    for file in list.split('\0').filter(|name| !name.is_empty() && repo().join(name).is_file()) {
        fs::create_dir_all(fake.path(file).parent().unwrap()).unwrap();
        fs::copy(repo().join(file), fake.path(file)).unwrap();
    }
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        if entry.path().is_dir() {
            let inner = files(&entry.path());
            let folder = entry.file_name().into_string().unwrap();
            all.extend(inner.into_iter().map(|(name, bytes)| (format!("{folder}/{name}"), bytes)));
        } else {
            all.insert(entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
        }
    }
    all
}
