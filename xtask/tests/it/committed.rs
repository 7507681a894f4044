//! Everything that is derived from the committed records equals what `figures` makes of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::fake::{Fake, copy, repo, stderr};

#[test]
fn committed_results_are_what_figures_draws() {
    let results = repo().join("results");
    let Ok(entries) = fs::read_dir(&results) else { return eprintln!("skipped: no results/ in the tree") };
    for entry in entries.flatten().filter(|e| e.path().join("report.md").is_file()) {
        let fake = Fake::new();
        let name = entry.file_name().into_string().unwrap();
        copy(&entry.path(), &fake.path("results").join(&name));
        fs::copy(repo().join("README.md"), fake.path("README.md")).unwrap();
        let before = files(&fake.path("results"));
        fs::remove_dir_all(fake.path("results").join(&name).join("charts")).unwrap();
        let output = fake.xtask(&format!("figures {name}"));
        assert!(output.status.success(), "{}", stderr(&output));
        let after = files(&fake.path("results"));
        for path in before.keys().chain(after.keys()) {
            assert!(
                before.get(path) == after.get(path),
                "{path} is not what its records say: cargo xtask figures"
            );
        }
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
